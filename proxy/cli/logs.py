"""How log lines look: for people (text) or for programs (json), one line each, on stderr.

Knows: formats and levels. Refuses to print: an exception's message, which may quote what a client sent. Of an
exception a line shows its type and where it was raised; of an OSError its reason too, which is the system's own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime


def setup(log_format: str, log_level: str, worker: int | None = None) -> None:
    """Sends all logging to stderr. ``log_format``: text or json; ``log_level``: debug, info, warning, error;
    ``worker``: the number that each line tells, where there are several."""
    handler = _Stderr()
    handler.setFormatter(JsonFormatter(worker) if log_format == "json" else TextFormatter(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level.upper())


class TextFormatter(logging.Formatter):
    """``2026-11-23T03:01:41.123Z info proxy.app: listening on 127.0.0.1:6380``; ``info worker 2 proxy.app:``"""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._who = "" if worker is None else f"worker {worker} "

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname.lower()} {self._who}{record.name}: {_message(record)}"
        raised = raised_at(record)
        return f"{line} ({raised})" if raised else line


class JsonFormatter(logging.Formatter):
    """One object a line: ts, level, logger, message; with several workers, worker; of an exception, raised."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str | int] = {
            "ts": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if self._worker is not None:
            line["worker"] = self._worker
        raised = raised_at(record)
        if raised:
            line["raised"] = raised
        return json.dumps(line, ensure_ascii=False)


def raised_at(record: logging.LogRecord) -> str:
    """An exception's type and its innermost three places: ``KeyError at app.py:12, engine.py:40``; or empty."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return ""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = ", ".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in frames)
    reason = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__}{reason}" + (f" at {places}" if places else "")


class _Stderr(logging.Handler):
    """Looks stderr up for each line: the live line puts its own in place of it while it is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # a log line must never end what it is about
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Says nothing: there is nowhere left to say it."""


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _message(record: logging.LogRecord) -> str:
    return " ".join(record.getMessage().split())
