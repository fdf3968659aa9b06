"""What shunt counts, as Prometheus metrics.

Knows: the names, units and labels of the metrics, and what it asks the running worker for (``Source``). Refuses to
know: HTTP (``console.http``), and how anything is counted.

Latencies are exposed at every doubling from 8 µs up: the engine's own buckets are four times finer, and Prometheus
would keep each of them for each command.
"""

# Over 300 lines: half of it is the names and the words of the metrics.
from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Protocol

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest

from proxy.engine.stats import BUCKET_BOUNDS_NS, STEPS, CommandStats, EngineStats

#: Commands per piece of histograms, and samples per piece of counters: a piece takes about a millisecond to render.
PIECE_COMMANDS = 2
PIECE_SAMPLES = 75
#: Finest exposed latency bound.
FIRST_BOUND_NS = 8_000


class CaptureNumbers(Protocol):
    """The totals of the capture's writer that are shown; ``capture.writer.CaptureStats`` has them."""

    @property
    def rows(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def segments(self) -> int: ...
    @property
    def deleted_segments(self) -> int: ...
    @property
    def gaps(self) -> int: ...
    @property
    def gap_rows(self) -> int: ...
    @property
    def failing(self) -> str | None: ...


class PoolNumbers(Protocol):
    """Where clients share backend connections: how many there are now, and totals; ``net.pool.PoolStats`` has them."""

    @property
    def shared(self) -> int: ...
    @property
    def private(self) -> int: ...
    @property
    def idle(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def leases(self) -> int: ...
    @property
    def waits(self) -> int: ...
    @property
    def wait_s(self) -> float: ...
    @property
    def wait_timeouts(self) -> int: ...
    @property
    def clients_overflowed(self) -> int: ...


class Source(Protocol):
    """What a running worker tells its consoles. Every call is cheap and made on the worker's event loop."""

    def engine(self) -> EngineStats: ...
    def capture(self) -> CaptureNumbers | None: ...
    def findings(self) -> dict[str, int]: ...
    def clients(self) -> int: ...
    def backends(self) -> int: ...
    def pool(self) -> PoolNumbers | None: ...
    def backend_up(self) -> bool: ...
    def draining(self) -> bool: ...
    def held_classes(self) -> dict[str, int]:
        """In how many workers each class is held, or about to be; nothing: there are no classes."""

    def counters(self) -> dict[str, int]: ...


class Workforce(Protocol):
    """The workers behind a ``Source`` that speaks for several of them."""

    async def refresh(self) -> None:
        """Asks every worker for its numbers, so that what is shown next is of now. Returns in bounded time."""

    def running(self) -> int: ...
    def serving(self) -> int: ...
    def missing(self) -> list[str]: ...
    def restarts(self) -> dict[str, int]: ...
    def processes(self) -> dict[str, int]: ...


@dataclass(frozen=True, slots=True)
class _PerCommand:
    """A counter with a ``command`` label, out of one number of CommandStats."""

    name: str
    help: str
    value: Callable[[CommandStats], int]


_PER_COMMAND = (
    _PerCommand("commands", "Commands whose reply came, or that have none.", lambda c: c.count),
    _PerCommand("command_errors", "Commands answered with an error.", lambda c: c.errors),
    _PerCommand("command_request_bytes", "Bytes of commands.", lambda c: c.request_bytes),
    _PerCommand("command_reply_bytes", "Bytes of replies.", lambda c: c.reply_bytes),
    _PerCommand("command_cross_slot", "Commands whose keys lie in several hash slots.", lambda c: c.cross_slot),
    _PerCommand("command_unknown_keys", "Commands whose keys could not be told.", lambda c: c.unknown_keys),
)

_ENGINE: tuple[tuple[str, str, Callable[[EngineStats], int]], ...] = (
    ("pushes", "RESP3 pushes, published messages and MONITOR lines sent to clients.", lambda e: e.pushes),
    ("exchanges_recorded", "Exchanges handed to the capture, the findings and the report.", lambda e: e.rows),
    ("exchanges_unrecorded", "Exchanges that could not be recorded.", lambda e: e.gap_rows),
    ("lost_replies", "Commands whose connection ended before their reply.", lambda e: e.lost_replies),
    ("open_pops", "Lost replies of pops and blocking fetches: what they took may be gone.", lambda e: e.open_pops),
    (
        "undelivered_pops",
        "Pops that took something, and whose client had gone when the reply came.",
        lambda e: e.undelivered,
    ),
    ("pops_given_back", "Undelivered pops that shunt pushed back to the end they came from.", lambda e: e.given_back),
    ("elements_given_back", "List elements pushed back for them.", lambda e: e.given_back_elements),
)

_POOL: tuple[tuple[str, str, Callable[[PoolNumbers], float]], ...] = (
    ("pool_leases", "Times that a client took a private backend connection.", lambda p: p.leases),
    ("pool_waits", "Times that a client had to wait for one, or a shared one had to be opened.", lambda p: p.waits),
    ("pool_wait_seconds", "Time spent in those waits.", lambda p: p.wait_s),
    ("pool_wait_timeouts", "Waits that ended with an error after --pool-wait.", lambda p: p.wait_timeouts),
    (
        "pool_clients_overflowed",
        "Clients closed because they left more than --client-buffer unread.",
        lambda p: p.clients_overflowed,
    ),
)

_CAPTURE: tuple[tuple[str, str, Callable[[CaptureNumbers], int]], ...] = (
    ("capture_rows", "Rows written to the capture.", lambda c: c.rows),
    ("capture_written_bytes", "Bytes written to the capture.", lambda c: c.bytes),
    ("capture_segments", "Segments begun.", lambda c: c.segments),
    ("capture_deleted_segments", "Segments deleted for size, age or free space.", lambda c: c.deleted_segments),
    ("capture_gaps", "Times at which rows were lost.", lambda c: c.gaps),
    ("capture_gap_rows", "Rows lost because the disk was slow or full.", lambda c: c.gap_rows),
)


def pieces(source: Source, version: str) -> Iterator[Metric]:
    """All metrics in pieces of about a millisecond each; a large family comes as several pieces in a row.

    The worker is asked for its numbers once, at the first piece, so that all of them are of one moment.
    """
    engine = source.engine()
    yield from list(_single(source, engine, version))
    commands = sorted(engine.commands, key=lambda c: c.command)
    for counter in _PER_COMMAND:
        for first in range(0, len(commands), PIECE_SAMPLES):
            samples = {_label(c.command): counter.value(c) for c in commands[first : first + PIECE_SAMPLES]}
            yield _counter(counter.name, counter.help, "command", samples)
    yield from _histograms(
        "command_duration_seconds",
        "From a command's last byte to its reply's last byte; blocking commands apart.",
        ((c.command, c.service_buckets, c.service_ns) for c in commands),
    )
    yield from _histograms(
        "command_wait_seconds",
        "The same for blocking commands, which wait in Redis for as long as they say.",
        ((c.command, c.wait_buckets, c.wait_ns) for c in commands),
    )


def workforce_pieces(workforce: Workforce) -> Iterator[Metric]:
    """The metrics that there are with several workers only."""
    yield _gauge("workers", "Workers that serve clients.", workforce.serving())
    yield _counter(
        "worker_restarts",
        "Workers that were replaced: because they died, or one by one because a reload was asked for.",
        "reason",
        workforce.restarts(),
    )


def process_pieces(processes: dict[str, int] | None) -> list[Metric]:
    """``process_*`` of this process, or of several by the name that each has in ``processes``, beside its id.

    Reads /proc; where there are thousands of open files to count, that takes milliseconds.
    """
    if processes is None:
        return list(ProcessCollector(registry=None).collect())
    families: dict[str, Metric] = {}
    for worker, pid in processes.items():
        for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
            family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            for sample in metric.samples:
                family.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
    return list(families.values())


class Renderer:
    """Pieces to Prometheus's text format: a family's head is written once, before its first piece."""

    def __init__(self) -> None:
        self._family = ""

    def render(self, piece: Metric) -> bytes:
        text = generate_latest(_One(piece))
        if piece.name == self._family:
            return text.split(b"\n", 2)[2]  # without # HELP and # TYPE
        self._family = piece.name
        return text


class Collector:
    """The metrics for a ``prometheus_client`` registry, each family whole."""

    def __init__(self, source: Source, version: str) -> None:
        self._source = source
        self._version = version

    def collect(self) -> Iterator[Metric]:
        whole: Metric | None = None
        for piece in pieces(self._source, self._version):
            if whole is not None and whole.name == piece.name:
                whole.samples.extend(piece.samples)
                continue
            if whole is not None:
                yield whole
            whole = piece
        if whole is not None:
            yield whole


class _One:
    """A registry of one metric, for ``generate_latest``."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


def _single(source: Source, engine: EngineStats, version: str) -> Iterator[Metric]:
    build = GaugeMetricFamily("shunt_build_info", "Always 1.", labels=["version", "python"])
    build.add_metric([version, platform.python_version()], 1)
    yield build
    yield _gauge("clients", "Clients connected.", source.clients())
    yield _gauge("backend_connections", "Connections to the backend.", source.backends())
    yield _gauge("backend_up", "1 while the backend answers.", int(source.backend_up()))
    yield _gauge("draining", "1 while shunt ends its clients' connections.", int(source.draining()))
    yield from _held(source.held_classes())
    for name, help_text, value in _ENGINE:
        yield _counter(name, help_text, "", {"": value(engine)})
    yield _counter(
        "pops_not_given_back",
        "Undelivered pops of clients that broke off, and that were not pushed back, by reason.",
        "why",
        _labelled(engine.not_given_back),
    )
    yield _counter("error_replies", "Error replies by their first word.", "error", _labelled(engine.errors))
    yield _counter(
        "plain_pipes",
        "Connections that became plain byte pipes, no longer recorded, by reason.",
        "reason",
        _labelled(engine.plain_pipes),
    )
    yield _counter(
        "rehearsal",
        "Commands refused as --rehearse's target would refuse them, and those let through unjudged, by outcome.",
        "outcome",
        _labelled(engine.rehearsal),
    )
    yield _counter(
        "rehearsal_refused",
        "Commands refused in rehearsal, by command.",
        "command",
        _labelled(engine.rehearsal_refused),
    )
    crossbackend = CounterMetricFamily(
        "shunt_crossbackend", "Commands that no one backend could be asked (--classes), and those whose keys nothing "
        "tells, by outcome and command.", labels=["outcome", "command"],
    )  # fmt: skip
    for (outcome, command), count in sorted(engine.crossbackend.items()):
        crossbackend.add_metric([outcome, command], count)
    yield crossbackend
    yield _counter("findings", "Findings so far, by rule.", "rule", _labelled(source.findings()))
    for name, count in sorted(source.counters().items()):
        yield _counter(name, "Total since start: " + name.replace("_", " ") + ".", "", {"": count})
    pool = source.pool()
    if pool is not None:
        uses = GaugeMetricFamily(
            "shunt_pool_connections", "Backend connections that are shared, private to a client, or idle.",
            labels=["use"],
        )  # fmt: skip
        for use, number in (("shared", pool.shared), ("private", pool.private), ("idle", pool.idle)):
            uses.add_metric([use], number)
        yield uses
        yield _gauge("pool_waiting", "Clients that wait for a backend connection.", pool.waiting)
        for name, help_text, total_of in _POOL:
            yield _counter(name, help_text, "", {"": total_of(pool)})
    capture = source.capture()
    if capture is not None:
        yield _gauge("capture_failing", "1 while the capture can't be written.", int(capture.failing is not None))
        for name, help_text, total in _CAPTURE:
            yield _counter(name, help_text, "", {"": total(capture)})


def _held(classes: dict[str, int]) -> Iterator[Metric]:
    if classes:
        held = GaugeMetricFamily(
            "shunt_class_held", "Workers in which commands with keys of this class are held (shunt hold --class).",
            labels=["class"],
        )  # fmt: skip
        for name, workers in classes.items():
            held.add_metric([name], workers)
        yield held


def _gauge(name: str, help_text: str, value: int) -> Metric:
    return GaugeMetricFamily(f"shunt_{name}", help_text, value=value)


def _counter(name: str, help_text: str, label: str, samples: Mapping[str, float]) -> Metric:
    """A counter; ``samples`` has the one key "" for a counter without a label."""
    family = CounterMetricFamily(f"shunt_{name}", help_text, labels=[label] if label else [])
    for text, value in samples.items():
        family.add_metric([text] if label else [], value)
    return family


#: Index of each exposed bound in the engine's buckets, and the bound in seconds as Prometheus writes it.
_EXPOSED = [
    (index, repr(bound_ns / 1e9))
    for index, bound_ns in enumerate(BUCKET_BOUNDS_NS)
    if index % STEPS == 0 and bound_ns >= FIRST_BOUND_NS
]


def _histograms(name: str, help_text: str, rows: Iterable[tuple[str, list[int], int]]) -> Iterator[Metric]:
    """``rows``: command, counts by the engine's buckets, sum in nanoseconds. Commands without a count are left out."""
    filled = ((command, list(accumulate(buckets)), sum_ns) for command, buckets, sum_ns in rows)
    used = (row for row in filled if row[1][-1])
    while chunk := list(islice(used, PIECE_COMMANDS)):
        family = HistogramMetricFamily(f"shunt_{name}", help_text, labels=["command"])
        for command, below, sum_ns in chunk:
            buckets = [(bound, below[index]) for index, bound in _EXPOSED]
            family.add_metric([_label(command)], [*buckets, ("+Inf", below[-1])], sum_ns / 1e9)
        yield family


def _labelled(counts: dict[str, int]) -> dict[str, int]:
    return {_label(text): count for text, count in sorted(counts.items())}


def _label(text: str) -> str:
    """A label must be UTF-8; what came over the wire need not be."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
