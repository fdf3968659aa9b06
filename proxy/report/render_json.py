"""A report as one JSON document, and occurrences as JSON lines. Knows: field names, which scripts rely on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from proxy.report.document import Report
from proxy.report.printable import exact

#: A report's fields, but for its targets: these are written with their verdict in words.
_FIELDS = [field.name for field in dataclasses.fields(Report) if field.name != "targets"]


def render_json(report: Report) -> str:
    """The whole report, indented. Every field of ``Report`` stands under its own name."""
    document = {
        "verdict": report.words,
        "exit_code": report.verdict.exit_code,
        "targets": [
            {
                "target": target.target,
                "title": target.title,
                "verdict": target.words,
                "changes": target.changes,
                "reason": target.reason,
                "counts": target.counts,
                "findings": plain(target.findings),
            }
            for target in report.targets
        ],
        **{
            field.name: plain(getattr(report, field.name))
            for field in dataclasses.fields(report)
            if field.name != "targets"
        },
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def render_jsonl(occurrences: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One line per occurrence."""
    for occurrence in occurrences:
        yield json.dumps(plain(occurrence), ensure_ascii=False, separators=(",", ":")) + "\n"


def plain(value: Any) -> Any:
    """Values as JSON has them: bytes as text, dataclasses as objects."""
    if isinstance(value, bytes):
        return exact(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {exact(key) if isinstance(key, bytes) else key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
