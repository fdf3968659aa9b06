"""The HTML report: what is in it, in which order, and that nothing out of the traffic becomes markup."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from proxy.capture.format import SLOT_UNKNOWN, Flag, ReplyKind
from proxy.report import render_html as page_module
from proxy.report.cells import Section, TextTable, columns
from proxy.report.charts import figures
from proxy.report.charts.over_time import QUEUES, queue_depth
from proxy.report.document import Report, Selection
from proxy.report.drawing import draw
from proxy.report.render_html import render_html
from proxy.report.rules.advice import Advice, Example, Level
from proxy.report.run import run
from proxy.report.sections import sections
from tests.report.world import Rows, command, transaction

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img/src=x/onerror=alert(1)>',
    "</title></style></svg><h1>",
    "{{7*7}}{%raw%}",
    "url(https://evil.example/x)",
    "&lt;b&gt;",
    "\u202e\uffff\x00\x1b[31m",
    "x" * 300,
)
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """A page as the parser sees it. AssertionError: an element that is not closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags, self.ids, self.attributes = text, Counter[str](), list[str](), list[tuple[str, str]]()
        self.words = list[str]()
        self._open = list[str]()
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def prose(self) -> str:
        return " ".join("".join(self.words).split())


def rows() -> Iterator[dict[str, object]]:
    for i in range(40):
        yield command("GET a", ts=START + i * SECOND, latency_ns=100_000 * (i + 1))
    yield command("BRPOP queue:a queue:b", flags=Flag.BLOCKING)
    yield command("LPUSH a", ts=START + SECOND, reply=ReplyKind.ERROR, error="WRONGTYPE")
    yield command("FT.SEARCH", slot=SLOT_UNKNOWN, unknown=1)
    yield command("KEYS")
    yield from transaction("SET a", "SET b")
    for key in HOSTILE:
        for _ in range(50):
            yield {**command("MGET a"), "keys": [key, "b"], "nkeys": 2, "slot": -2, "client_name": key}
        yield {**command("X"), "command": key, "keys": [key], "nkeys": 1, "error": key.split()[0]}


@cache
def report() -> Report:
    return run(Rows(list(rows()), losses=["segment <b>1</b>: torn"]), ["redis-cluster"])


@cache
def page() -> Page:
    return Page(render_html(report(), [(key, [(START, 1), (START + SECOND, 3)]) for key in HOSTILE[:3]]))


def test_the_verdict_comes_first_then_findings_then_sections_then_charts() -> None:
    wanted = ["verdict", "findings-1", *(section.id for section in sections(report())), "charts"]
    wanted += [f"chart-{name}" for name in ("throughput", "latency", "heat", "queues", "slots", "shards", "keys")]
    places = [page().ids.index(each) for each in wanted]
    assert places == sorted(places)
    assert page().prose.index("Compatible after") < page().prose.index("Findings for redis-cluster")


def test_everything_that_the_other_formats_show_is_in_it() -> None:
    prose = page().prose
    for section in sections(report()):
        assert section.title in prose
        for table in section.tables:
            assert table.title in prose
            for row in table.rows:
                assert [cell for cell in row if " ".join(cell.split()) not in prose] == []
    for group in report().targets[0].findings:
        assert group.rule in prose
    assert "segment <b>1</b>: torn" in prose


def test_nothing_from_the_traffic_becomes_markup() -> None:
    allowed = {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "nav", "footer", "section", "article"),
        *("h1", "h2", "h3", "p", "a", "ul", "li", "dl", "dt", "dd", "div", "span", "code", "b", "i"),
        *("table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
        *("svg", "g", "path", "line", "text"),
    }
    assert set(page().tags) <= allowed
    assert page().tags["h1"] == 1
    assert page().tags["svg"] == sum(len(figure.specs) for figure in figures(report(), [])) + 1
    assert [name for name, _ in page().attributes if name.startswith("on")] == []
    for key in HOSTILE[:6]:
        assert key in page().prose  # whole, as text
    assert not re.search("[\u202e\uffff\x00\x1b]", page().text)


def test_the_page_asks_nothing_of_anyone_and_runs_nothing() -> None:
    assert {name for name, _ in page().attributes} & {"src", "srcset", "action", "background", "data"} == set()
    links = [value for name, value in page().attributes if name.endswith("href")]
    assert links
    assert [link for link in links if not link.startswith("#") or link[1:] not in page().ids] == []
    style = str(files("proxy.report").joinpath("page/style.css").read_text())
    assert "url(" not in style
    assert "@import" not in style
    drawn = [value for name, value in page().attributes if name not in ("aria-label", "content")]
    assert [value for value in drawn if "url(" in value] == []
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert ("content", policy) in page().attributes


def test_only_our_own_drawings_are_put_in_unescaped() -> None:
    templates = [each.read_text() for each in files("proxy.report").joinpath("page").iterdir() if "jinja" in each.name]
    assert len(templates) == 5
    assert [found for text in templates for found in re.findall(r"\S+ \| safe", text)] == ["picture | safe"]


def test_names_of_places_in_the_page_are_unique() -> None:
    assert [each for each, n in Counter(page().ids).items() if n > 1] == []


def test_each_table_has_a_caption_and_each_picture_an_alternative() -> None:
    assert page().tags["table"] == page().tags["caption"] > 5
    assert page().text.count('<svg xmlns="http://www.w3.org/2000/svg" viewBox=') == page().tags["svg"]
    assert page().text.count('role="img" aria-label="') == page().tags["svg"]
    headings = re.findall(r"<h([1-6])", page().text)
    assert all(int(below) <= int(above) + 1 for above, below in pairwise(headings))


def test_pictures_show_the_reports_numbers_under_the_pointer() -> None:
    seen = report()
    drawn = {figure.id: [draw(spec, "x") for spec in figure.specs] for figure in figures(seen, [])}
    titles = {
        name: [title.text for title in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]
        for name, pictures in drawn.items()
        for svg in pictures[:1]
    }
    assert len(titles["throughput"]) == len(seen.timeline.intervals)
    assert "2023-11-14 22:13:21.0 UTC: 20 commands/s, 420 B/s, 1 errors" in titles["throughput"]
    assert len(titles["latency"]) == sum(1 for each in seen.timeline.intervals if each.timed)
    assert len(titles["heat"]) == len(seen.latency_heat.by_time)
    assert len(titles["slots"]) == len(seen.slot_load.ranges)
    assert len(titles["shards"]) == 6
    assert len(titles["keys"]) == len(seen.hot_keys)
    assert len(drawn["heat"]) == 3


def test_a_picture_has_the_colours_of_the_page() -> None:
    colours = set(
        re.findall(r'(?:fill|stroke)="([^"]+)"', "".join(re.findall("<svg.*?</svg>", page().text, re.DOTALL)))
    )
    named = {colour for colour in colours if colour.startswith("var(--")}
    assert colours - named <= {"none", "transparent"}
    style = str(files("proxy.report").joinpath("page/style.css").read_text())
    assert {name for name in named if f"{name[4:-1]}:" not in style} == set()


def test_queues_are_lines_that_break_where_a_depth_is_not_known() -> None:
    depths = [(START + i * SECOND, depth) for i, depth in enumerate((2, 3, None, 7, 1))]
    figure = queue_depth([("queue:a", depths), *((f"queue:{i}", [(START, 1)]) for i in range(QUEUES))])
    assert figure is not None
    assert figure.says == "Deepest: queue:a with 7 jobs at 2023-11-14 22:13:23 UTC. 1 more are not shown."
    drawn = draw(figure.specs[0], "x")
    assert re.findall(r"<title>[^<]*(queue:a \d+)</title>", drawn) == [f"queue:a {depth}" for depth in (2, 3, 7, 1)]
    (line,) = re.findall(r'<path d="([^"]+)" stroke="var\(--c1\)" stroke-width="2"', drawn)
    assert line.count("M") == 2
    assert queue_depth([("queue:a", [(START, None)])]) is None
    assert queue_depth([]) is None


def test_an_empty_capture_is_a_page_without_charts() -> None:
    empty = Page(render_html(run(Rows([]))))
    assert "Can't tell" in empty.prose
    assert empty.tags["svg"] == 0


def test_advice_says_what_was_seen_why_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    advice = Advice(
        "big-set", Level.HIGH, "a whole set is read", "<i>k</i>", "9 calls", "Others wait.", "Use SSCAN.", 9, START,
        START, (Example("r", 0, 4, 7),),
    )  # fmt: skip
    table = TextTable("Costs <b>", columns("key", "calls*"), (("<u>", "9"),), "a note")
    section = Section("costs", "Costs", ("A paragraph.",), (advice,), (table,))
    monkeypatch.setattr(page_module, "sections", lambda _: [section])
    prose = Page(render_html(run(Rows([command("PING")])))).prose
    for text in ("high", "A whole set is read", "<i>k</i> : 9 calls", "Others wait.", "Use SSCAN.", "conn/seq 4/7"):
        assert text.replace(" :", ":") in prose
    for text in ("A paragraph.", "Costs <b>", "<u>", "a note"):
        assert text in prose


def test_a_report_of_a_part_says_so_before_the_verdict() -> None:
    part = replace(
        run(Rows([command("GET a")])), selection=Selection("key:<b>", exchanges=2, gaps=0, doubtful=0, torn=0)
    )
    prose = Page(render_html(part)).prose
    said = prose.index("Only exchanges where key:<b>: 2 others left out, not judged.")
    assert said < prose.index("Compatible")


def test_several_targets_are_judged_side_by_side() -> None:
    (target,) = report().targets
    both = replace(report(), targets=(target, replace(target, target="other", findings=())))
    several = Page(render_html(both))
    assert several.tags["article"] >= 2
    assert several.prose.count("Compatible after") == 2
    assert "findings-2" not in several.ids


# -- colours -------------------------------------------------------------------------


def schemes() -> list[dict[str, str]]:
    style = str(files("proxy.report").joinpath("page/style.css").read_text())
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    )
    return [light, {**light, **dark}]


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", schemes(), ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: dict[str, str]) -> None:
    pairs = [("ink", "page"), ("muted", "page"), ("accent", "page")]
    for tone in ("good", "bad", "warn", "info"):
        pairs += [(tone, "page"), (tone, f"{tone}-page"), ("ink", f"{tone}-page")]
    assert {
        pair: contrast(scheme[pair[0]], scheme[pair[1]])
        for pair in pairs
        if contrast(scheme[pair[0]], scheme[pair[1]]) < 4.5
    } == {}


@pytest.mark.parametrize("scheme", schemes(), ids=["light", "dark"])
def test_bars_and_lines_stand_out_from_the_page(scheme: dict[str, str]) -> None:
    assert [i for i in range(1, 9) if contrast(scheme[f"c{i}"], scheme["page"]) < 3] == []


@pytest.mark.parametrize("scheme", schemes(), ids=["light", "dark"])
def test_a_stronger_step_of_colour_stands_out_more(scheme: dict[str, str]) -> None:
    steps = [contrast(scheme[f"h{i}"], scheme["page"]) for i in range(1, 9)]
    assert steps == sorted(steps)
