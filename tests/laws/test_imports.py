"""Imports go downward only, and pure rooms stay pure.

cli -> app, supervisor -> {config_in_use, wiring, switchboard}
-> {net, console, capture, report, mirror, cutover, config}
-> {engine, routing, nouns} -> protocol
"""

from __future__ import annotations

import sys

import pytest

from tests.laws.source import Module, modules

#: A room may import itself and rooms of lower tiers. The longest matching name counts.
TIERS = {
    "protocol": 0,
    "proxy.engine": 1,
    "proxy.routing": 1,
    "proxy.net": 2,
    "proxy.console": 2,
    "proxy.capture": 2,
    "proxy.report": 2,
    "proxy.mirror": 2,
    "proxy.replay": 2,
    "proxy.cutover": 2,
    "proxy.config": 2,
    "proxy.config_checks": 2,
    "proxy.config_in_use": 3,
    "proxy.wiring": 3,
    "proxy.switchboard": 3,
    "proxy.app": 4,
    "proxy.mirror_shown": 3,
    "proxy.split_shown": 3,
    "proxy.splitting": 4,
    "proxy.split_checks": 4,
    "proxy.mirroring": 4,
    "proxy.control": 4,
    "proxy.hands": 4,
    "proxy.outage": 4,
    "proxy.supervisor": 4,
    "proxy.cli": 5,
}
#: Modules that every room above the protocol may read: nouns of the lower tier, wherever their files are.
NOUNS = {
    "proxy.address",
    "proxy.units",
    "proxy.version",
    "proxy.capture.facts",
    "proxy.capture.use",
    "proxy.capture.glob",
    "proxy.capture.format",
    "proxy.capture.mirrored",
    "proxy.capture.predicate",
    "proxy.capture.segments",
    "proxy.capture.reader",
    "proxy.capture.render",
    "proxy.report.targets",
    "proxy.report.targets.rehearse",
    "proxy.console.verb",
    "proxy.net.tls",
    "proxy.net.control_connections",
}
ONE_ROOM = {
    "proxy.config_checks": "proxy.config",
    "proxy.switchboard": "proxy.wiring",
    "proxy.control": "proxy.app",
    "proxy.hands": "proxy.app",
    "proxy.mirroring": "proxy.app",
    "proxy.splitting": "proxy.app",
    "proxy.split_checks": "proxy.app",
    "proxy.outage": "proxy.app",
}

PURE = (
    "protocol",
    "proxy.engine",
    "proxy.routing",
    "proxy.capture.filters.answer",
    "proxy.capture.filters.expression",
    "proxy.capture.filters.fields",
    "proxy.capture.filters.values",
    "proxy.capture.glob",
    "proxy.capture.predicate",
    "proxy.report.rules",
    "proxy.report.selection",
    "proxy.mirror.compare",
    "proxy.mirror.effects",
    "proxy.mirror.transcript",
    "proxy.cutover.switch",
    "proxy.cutover.acl_rules",
    "proxy.cutover.checks",
    "proxy.cutover.command_lines",
    "proxy.cutover.finding",
    "proxy.cutover.server_facts",
    "proxy.replay.choice",
    "proxy.replay.order",
    "proxy.replay.planner",
    "proxy.replay.schedule",
    "proxy.replay.tally",
    "proxy.replay.unit",
    "proxy.replay.waiting",
)
IMPURE = {"asyncio", "socket", "time", "logging", "random", "os", "posix", "uvloop", "libc.time"}


def room(module: str) -> str:
    found = [name for name in TIERS if module == name or module.startswith(name + ".")]
    return ONE_ROOM.get(max(found, key=len), max(found, key=len)) if found else ""


def within(module: str, names: tuple[str, ...] | set[str]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in names)


def ours(module: str) -> bool:
    return within(module, ("protocol", "proxy"))


def upward(module: Module) -> list[str]:
    """What ``module`` imports of rooms beside or above its own."""
    if module.name in NOUNS and not room(module.name):
        return sorted(
            name for name in module.imports if ours(name) and not within(name, NOUNS) and TIERS[room(name)] > 0
        )
    own = room(module.name)
    return sorted(
        name
        for name in module.imports
        if ours(name)
        and name not in ("proxy", "protocol")
        and room(name) != own
        and not (name in NOUNS and TIERS[own] > 0)
        and TIERS[room(name)] >= TIERS[own]
    )


def test_every_module_has_its_room() -> None:
    homeless = [m.name for m in modules() if not room(m.name) and m.name not in NOUNS and m.name != "proxy"]
    assert homeless == []


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.path.name if m.path.suffix != ".py" else m.name)
def test_imports_go_downward_only(module: Module) -> None:
    assert module.name == "proxy" or upward(module) == []


@pytest.mark.parametrize(
    "module", [m for m in modules() if within(m.name, PURE)], ids=lambda m: f"{m.name}{m.path.suffix}"
)
def test_a_pure_room_knows_no_clock_no_socket_and_no_chance(module: Module) -> None:
    assert sorted(name for name in module.imports if within(name, IMPURE)) == []


@pytest.mark.parametrize("module", [m for m in modules() if m.name.startswith("protocol")], ids=lambda m: m.name)
def test_the_protocol_imports_the_standard_library_only(module: Module) -> None:
    allowed = {*sys.stdlib_module_names, "protocol", "cython", "libc", "cpython"}
    assert sorted(name for name in module.imports if name.split(".")[0] not in allowed) == []


def test_the_law_sees_what_it_forbids() -> None:
    from tests.laws.source import ROOT

    def written(name: str, text: str) -> Module:
        suffix = ".pyx" if "cimport" in text else ".py"
        return Module(name, ROOT / f"x{suffix}", text)

    assert upward(written("proxy.engine.x", "from proxy.console import http")) == ["proxy.console.http"]
    assert upward(written("proxy.report.x", "import proxy.capture.writer")) == ["proxy.capture.writer"]
    assert upward(written("proxy.report.x", "from proxy.capture.reader import Capture")) == []
    assert upward(written("proxy.address", "from proxy.config import RunConfig")) == ["proxy.config"]
    assert upward(written("protocol.x", "from proxy.engine.inflight cimport Entry")) == ["proxy.engine.inflight"]
    assert upward(written("proxy.cli.x", "def f():\n    from proxy.app import serve")) == []
    assert "libc.time" in written("proxy.engine.x", "from libc.time cimport time").imports
