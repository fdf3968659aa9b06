"""Pictures of charts: a Vega-Lite specification becomes SVG that stands in a page, without script or requests.

Knows: vl-convert, and what its SVG needs to be readable in a page: values under the pointer (``<title>``), one
alternative text, no fixed size. Refuses to know: what any chart shows (``charts``).
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

import vl_convert

from proxy.report.charts.specs import Spec

_SVG = "http://www.w3.org/2000/svg"
_LONG_FRACTION = re.compile(r"(\.\d\d)\d+")
_SCREEN_READER = ("role", "aria-label", "aria-roledescription", "aria-hidden")


def draw(spec: Spec, alternative: str) -> str:
    """One ``<svg>`` element. ``alternative``: what a reader is told who does not see it. ValueError: no Vega-Lite."""
    ElementTree.register_namespace("", _SVG)
    drawn = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    svg = ElementTree.fromstring(drawn)
    for element in svg.iter():
        _plain(element)
    for size in ("width", "height", "version", "class"):
        svg.attrib.pop(size, None)
    svg.set("role", "img")
    svg.set("aria-label", alternative)
    return ElementTree.tostring(svg, encoding="unicode")


def _plain(element: ElementTree.Element) -> None:
    """A mark's description becomes its title, which browsers show under the pointer; all marks are one image."""
    says = element.get("aria-label")
    if says and element.tag == f"{{{_SVG}}}path":
        ElementTree.SubElement(element, f"{{{_SVG}}}title").text = says
    for attribute in _SCREEN_READER:
        element.attrib.pop(attribute, None)
    for attribute in ("d", "transform"):
        if attribute in element.attrib:
            element.set(attribute, _LONG_FRACTION.sub(r"\1", element.attrib[attribute]))
