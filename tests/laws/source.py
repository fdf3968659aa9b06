"""The project's source as data: modules, what each imports, its lines. For the laws."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protocol", "proxy")

_COMPILED_IMPORT = re.compile(
    r"^\s*(?:from\s+([\w.]+)\s+(?:c?import)\s+([\w, ()*]+)|(?:c?import)\s+([\w., ]+))", re.MULTILINE
)


@dataclass(frozen=True)
class Module:
    name: str  # proxy.engine.session
    path: Path
    text: str

    @property
    def imports(self) -> frozenset[str]:
        """Dotted names of the modules that it imports or cimports, anywhere in it."""
        return frozenset(_plain(self.text) if self.path.suffix == ".py" else _compiled(self.text))


@cache
def modules() -> tuple[Module, ...]:
    """All modules of the program; a .pyx and its .pxd are two of the same name."""
    found = [
        Module(_name(path), path, path.read_text())
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*"))
        if path.suffix in (".py", ".pyx", ".pxd")
    ]
    assert found
    return tuple(found)


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _plain(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from _with_submodules(str(node.module), [alias.name for alias in node.names])


def _compiled(text: str) -> Iterator[str]:
    for match in _COMPILED_IMPORT.finditer(text):
        if match[1]:
            yield from _with_submodules(match[1], re.findall(r"\w+", match[2]))
        else:
            yield from (part.split(" as ")[0].strip() for part in match[3].split(","))


def _with_submodules(package: str, names: list[str]) -> Iterator[str]:
    """``from proxy.capture import format`` imports proxy.capture.format, ``from proxy.address import Address`` not."""
    below = [name for name in names if _exists(f"{package}.{name}")]
    yield from (f"{package}.{name}" for name in below)
    if len(below) < len(names):
        yield package


@cache
def _exists(module: str) -> bool:
    base = ROOT / Path(*module.split("."))
    return base.is_dir() or any(base.with_suffix(suffix).is_file() for suffix in (".py", ".pyx", ".pxd"))
