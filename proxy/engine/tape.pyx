# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The bytes of one connection's commands in flight, so that they can be sent a second time.

Knows: where each command begins and ends in what was sent to the backend. Refuses to know: what a command means, and
whether it may be sent again (``routing.ride``).

There is one only with --ride-through. It holds at most ``limit`` bytes; a command that does not fit is noted as lost,
so that its place is still right.
"""
from collections import deque

from cpython.bytes cimport PyBytes_FromStringAndSize

from protocol.resp cimport (
    SCAN_BAD, SCAN_EMPTY, SCAN_MORE, SCAN_TOO_BIG, PartialCommand, Scan, ScanResult, scan_command,
)
from proxy.engine.recorder cimport Recorder

cdef enum:
    OVERHEAD = 64               # of a bytes object and its place in the deque


cdef class Tape:
    """``limit``: bytes, with ``OVERHEAD`` for each command."""

    def __init__(self, Recorder recorder not None, Py_ssize_t limit):
        self.recorder = recorder
        self.limit = limit
        self.pieces = deque()
        self.halves = []

    @property
    def whole(self):
        """The commands in flight, oldest first; None for one that was not kept."""
        return list(self.pieces)

    @property
    def half(self):
        """The part of a command that has been sent on; None: it was not kept."""
        return None if self.halves is None else b"".join(self.halves)

    def drop(self, places):
        """Forget the commands at these places."""
        gone = set(places)
        kept = [each for at, each in enumerate(self.pieces) if at not in gone]
        self.pieces = deque(kept)
        self.kept = sum(len(each) + OVERHEAD for each in kept if each is not None)

    def feed(self, bytes data):
        """For tests: add."""
        self.add(data, len(data))

    def keep(self, Py_ssize_t count):
        """For tests: trim."""
        self.trim(count)

    cdef int add(self, const char *p, Py_ssize_t n) except -1:
        """These bytes were sent on."""
        cdef Py_ssize_t at = 0, used = 0
        cdef Scan scan
        cdef ScanResult result
        while at < n and not self.lost:
            if self.partial is None:
                result = scan_command(p + at, n - at, self.recorder.argv, 0, &scan)
                used = scan.used
                if result == SCAN_MORE:
                    self.partial = PartialCommand(False, 0)
            if self.partial is not None:
                result = self.partial.feed(p + at, n - at, &used)
                if result == SCAN_MORE:
                    self._half(p + at, n - at)
                    return 0
            if result == SCAN_BAD or result == SCAN_TOO_BIG:
                self.lost = True
            elif result == SCAN_EMPTY:
                self._begin_anew()
            else:
                self._whole(p + at, used)
            at += used
        return 0

    cdef int trim(self, Py_ssize_t count) except -1:
        """So many commands are in flight: older ones were answered."""
        cdef bytes piece
        while len(self.pieces) > count:
            piece = self.pieces.popleft()
            if piece is not None:
                self.kept -= len(piece) + OVERHEAD
        return 0

    cdef int _whole(self, const char *p, Py_ssize_t n) except -1:
        cdef bytes piece = None
        if self.halves is not None and self.kept + self.half_bytes + n + OVERHEAD <= self.limit:
            piece = PyBytes_FromStringAndSize(p, n)
            if self.half_bytes:
                piece = b"".join(self.halves) + piece
            self.kept += len(piece) + OVERHEAD
        self.pieces.append(piece)
        if self.partial is not None:
            self._begin_anew()
        return 0

    cdef int _half(self, const char *p, Py_ssize_t n) except -1:
        self.half_bytes += n
        if self.kept + self.half_bytes > self.limit:
            self.halves = None
        elif self.halves is not None:
            self.halves.append(PyBytes_FromStringAndSize(p, n))
        return 0

    def _begin_anew(self):
        self.partial = None
        self.halves = []
        self.half_bytes = 0
