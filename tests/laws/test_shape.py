"""What every module and page keeps to: size, opening words, names, and pages that are in step with the code."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.laws.source import ROOT, Module, modules

MOST_LINES = 300
#: A module that is longer says why, in a comment that begins so.
REASON = "# Over 300 lines: "
NAMES_THAT_SAY_NOTHING = {"util", "utils", "helper", "helpers", "common", "manager", "misc", "base"}

README = (ROOT / "README.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def ids(module: Module) -> str:
    return str(module.path.relative_to(ROOT))


@pytest.mark.parametrize("module", modules(), ids=ids)
def test_a_module_of_more_than_300_lines_says_why(module: Module) -> None:
    lines = module.text.splitlines()
    said = any(line.strip().startswith(REASON) for line in lines)
    assert len(lines) <= MOST_LINES or said, f"split it, or say why not in a comment: {REASON}…"


@pytest.mark.parametrize("module", [m for m in modules() if m.path.suffix != ".pxd"], ids=ids)
def test_a_module_opens_by_saying_what_it_knows(module: Module) -> None:
    code = [line for line in module.text.splitlines() if line.strip() and not line.startswith("#")]
    assert not code or code[0].startswith(('"""', 'r"""'))


@pytest.mark.parametrize("module", modules(), ids=ids)
def test_a_module_is_named_for_what_it_is(module: Module) -> None:
    assert NAMES_THAT_SAY_NOTHING.isdisjoint(module.name.split("."))


@pytest.mark.parametrize("module", modules(), ids=ids)
def test_nothing_is_left_to_be_done_later_in_a_comment(module: Module) -> None:
    assert re.search(r"\b(TODO|FIXME|XXX|HACK)\b", module.text) is None


def test_every_compiled_module_is_built() -> None:
    listed = {ext["name"]: ext["sources"] for ext in PYPROJECT["tool"]["setuptools"]["ext-modules"]}
    there = {m.name: [str(m.path.relative_to(ROOT))] for m in modules() if m.path.suffix == ".pyx"}
    assert listed == there


def test_every_dependency_is_pinned() -> None:
    pinned = set(re.findall(r"^([\w.-]+)(?:\[\w+\])?==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    wanted = {re.split(r"[^\w-]", dependency)[0] for dependency in PYPROJECT["project"]["dependencies"]}
    assert wanted - pinned == set()


def test_the_page_of_options_is_made_from_the_configuration() -> None:
    from proxy.cli.options import page

    assert (ROOT / "docs/options.md").read_text() == page(), "run: make docs"


def test_readme_names_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets


def test_readme_links_to_pages_that_exist() -> None:
    links = re.findall(r"\]\(([\w./-]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_readmes_configuration_is_one_that_works(tmp_path_factory: pytest.TempPathFactory) -> None:
    from proxy.config import load

    [example] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    file = tmp_path_factory.mktemp("readme") / "shunt.toml"
    file.write_text(example)
    assert load({"config": str(file)}).capture_args == "keys"


def test_the_image_is_made_by_the_makefiles_steps() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", dockerfile.split("FROM")[1])) - {"make"} <= targets | {"build"}
    assert "make image-env" in dockerfile
    for word in ("USER shunt", "HEALTHCHECK", "/healthz", "STOPSIGNAL SIGTERM", "EXPOSE 6380 9380"):
        assert word in dockerfile


def test_every_test_that_the_data_paths_page_names_exists() -> None:
    page = (ROOT / "docs" / "data-path.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    there = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        there |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    assert named
    assert named - there == set()
