"""An open-loop client: sends each command at its appointed time, whether or not earlier ones have been answered.

A closed loop (redis-benchmark) sends the next command when the last one is answered, so a pause of the proxy keeps
commands from being sent and hides most of what it costs ("coordinated omission"). Here a command's latency counts from
the time it was due, not from the time it was sent, so whoever waits behind a pause is counted too.

Knows: one GET, its fixed reply, time. Refuses to know: who answers.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field

from load import VALUE_BYTES
from peers.launch import HOST, BenchError

COMMAND = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n"
REPLY_BYTES = len(f"${VALUE_BYTES}\r\n") + VALUE_BYTES + 2
SPIN_S = 0.0001  # the last bit before a due time is waited for awake: timers come up to 60 µs late
TAIL_S = 5.0


@dataclass
class Line:
    """One connection: when its unanswered commands were due (ns), and how much of the next reply has come."""

    socket: socket.socket
    due_ns: deque[int] = field(default_factory=deque)
    partial: int = 0

    def read(self, latencies_us: list[float]) -> None:
        """Take what has come; each whole reply ends the oldest command."""
        data = self.socket.recv(65536)
        now = time.perf_counter_ns()
        if not data or (not self.partial and data[:1] != b"$"):
            raise BenchError(f"the open-loop client was answered {data[:40]!r} instead of a value")
        whole, self.partial = divmod(self.partial + len(data), REPLY_BYTES)
        latencies_us.extend((now - self.due_ns.popleft()) / 1e3 for _ in range(whole))


class OpenLoop:
    """`connections` lines to one port, used in turn. Open once, run often."""

    def __init__(self, port: int, connections: int = 10) -> None:
        self.lines: dict[int, Line] = {}
        for _ in range(connections):
            client = socket.create_connection((HOST, port), timeout=TAIL_S)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.lines[client.fileno()] = Line(client)

    def __enter__(self) -> OpenLoop:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self.lines.values():
            line.socket.close()

    def _wait(self, until_ns: int, latencies_us: list[float]) -> None:
        """Read replies until `until_ns`."""
        descriptors = list(self.lines)
        while (left_s := (until_ns - time.perf_counter_ns()) / 1e9) > 0:
            ready, _, _ = select.select(descriptors, [], [], max(left_s - SPIN_S, 0.0))
            for descriptor in ready:
                self.lines[descriptor].read(latencies_us)

    def run(self, rate: float, seconds: float) -> list[float]:
        """Latencies in microseconds of `rate` × `seconds` commands, sorted. BenchError if some stay unanswered."""
        latencies_us: list[float] = []
        count, start_ns = int(rate * seconds), time.perf_counter_ns() + 2_000_000
        order = list(self.lines.values())
        for number in range(count):
            due_ns = start_ns + int(number * 1e9 / rate)
            self._wait(due_ns, latencies_us)
            line = order[number % len(order)]
            line.due_ns.append(due_ns)
            line.socket.sendall(COMMAND)
        deadline_ns = time.perf_counter_ns() + int(TAIL_S * 1e9)
        while len(latencies_us) < count and time.perf_counter_ns() < deadline_ns:
            self._wait(time.perf_counter_ns() + 1_000_000, latencies_us)
        if len(latencies_us) < count:
            raise BenchError(f"{count - len(latencies_us)} of {count} commands weren't answered within {TAIL_S:.0f} s")
        return sorted(latencies_us)


def quantile(ordered: list[float], share: float) -> float:
    """The value below which `share` of the sorted values lie."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
