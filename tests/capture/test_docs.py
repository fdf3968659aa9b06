"""docs/capture-format.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from proxy.capture.compact import compact
from proxy.capture.format import FORMAT_VERSION, KEY_CUT_BYTES, SCHEMA, SCRIPT_SCHEMA, Flag, ReplyKind, UnknownWhy
from proxy.capture.frames import HEAD, HEAD_BYTES, MAGIC, FrameKind
from tests.capture import rows

PAGE = (Path(__file__).parents[2] / "docs" / "capture-format.md").read_text()


def table(first: str) -> list[list[str]]:
    """The cells of the rows of the table whose head begins with ``first``."""
    lines = PAGE[PAGE.index(f"\n| {first} |") :].strip().splitlines()
    found = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return found


def name_of(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list<{name_of(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name}: {name_of(field.type)}" for field in kind) + ">"
    return str(kind)


def test_the_columns_are_the_schema_s() -> None:
    assert [tuple(row[:2]) for row in table("column")] == [(field.name, name_of(field.type)) for field in SCHEMA]
    assert not any(field.nullable for field in SCHEMA)


def test_the_flags_are_the_format_s() -> None:
    documented = [(1 << int(bit), name) for bit, name, _ in table("bit")]
    assert documented == [(int(flag), str(flag.name).lower()) for flag in Flag]


@pytest.mark.parametrize(("column", "kinds"), [("reply", list(ReplyKind)), ("unknown", list(UnknownWhy)[1:])])
def test_reply_kinds_and_reasons_are_the_format_s(column: str, kinds: list[ReplyKind | UnknownWhy]) -> None:
    paragraph = re.search(rf"^`{column}`: (.*?)\n\n", PAGE, re.M | re.S)
    assert paragraph is not None
    found = re.findall(r"(\d+) ([a-z_]+)", paragraph[1])
    assert found == [(str(int(kind)), kind.name.lower()) for kind in kinds]


def test_the_head_s_fields_follow_one_another_and_fill_it() -> None:
    end = 0
    for offset, size, _ in table("offset"):
        assert int(offset) == end
        end += int(size)
    assert end == HEAD_BYTES == HEAD.size
    assert f"A head of {HEAD_BYTES} bytes" in PAGE
    assert MAGIC.hex(" ").upper() in PAGE
    assert f"format version {FORMAT_VERSION}" in PAGE
    assert f"cut at {KEY_CUT_BYTES} bytes" in PAGE


def test_the_frame_kinds_are_the_code_s() -> None:
    assert [(int(kind), name) for kind, name, _ in table("kind")] == [(k.value, k.name.lower()) for k in FrameKind]
    assert all(f"`{field.name}`" in PAGE for field in SCRIPT_SCHEMA)


def test_the_code_that_reads_a_segment_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.S)
    assert code is not None
    rows.write_capture(tmp_path, [rows.batch([{}, {}]), rows.batch([{}])], run="20261123T030141Z-4242")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code[1], names)
    assert isinstance(names["table"], pa.Table)
    assert names["table"].num_rows == 3


def test_the_query_of_a_compacted_capture_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = re.search(r"```sql\n(.*?)```", PAGE, re.S)
    assert query is not None
    rows.write_capture(tmp_path / "captures", [rows.batch([{}, {}, dict(gap="x"), dict(command="GET")])])
    list(compact([tmp_path / "captures"]))
    monkeypatch.chdir(tmp_path)
    assert duckdb.connect().sql(query[1]).fetchall() == [("PING", 2, 0.1), ("GET", 1, 0.1)]
