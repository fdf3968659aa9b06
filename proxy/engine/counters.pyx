# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Totals per command, counted as the replies come in: the numbers of ``engine.stats``.

Knows: how to add an exchange to its command's totals in a few nanoseconds. Refuses to know: how they are shown.
A command's totals (1.8 KB) exist from its first exchange on; all commands outside the table share one entry.
"""
from libc.stdint cimport int16_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

cimport cython

from protocol.keyspecs cimport CommandTable

from proxy.engine.stats import BUCKETS as STATS_BUCKETS, CommandStats, EngineStats

cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil

cdef enum:
    FLAG_BLOCKING = 1           # capture.format.Flag
    FLAG_QUEUED = 2

if STATS_BUCKETS != BUCKETS:
    raise ImportError("engine.stats and engine.counters disagree about the number of latency buckets")


cdef inline int bucket(int64_t ns) noexcept nogil:
    """Index into stats.BUCKET_BOUNDS_NS: bounds are 1 us * 2**k * (1, 1.25, 1.5, 1.75), exclusive."""
    cdef uint64_t quarter_us
    cdef int high, index
    if ns < 1000:
        return 0
    quarter_us = <uint64_t>ns // 250
    high = 63 - __builtin_clzll(quarter_us)
    index = (high - 2) * 4 + <int>((quarter_us >> (high - 2)) & 3) + 1
    return index if index < BUCKETS else BUCKETS - 1


def bucket_index(int64_t ns):
    """The bucket that a latency falls into (for tests)."""
    return bucket(ns)


@cython.final
cdef class Counters:

    def __cinit__(self, CommandTable table):
        self.table = table
        self.size = len(table.names) + 1
        self.commands = <Counts **>calloc(self.size, sizeof(Counts *))
        if self.commands == NULL:
            raise MemoryError
        self.plain_pipes = {}
        self.not_given_back = {}
        self.rehearsal = {}
        self.rehearsal_refused = {}
        self.crossbackends = {}

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.commands != NULL:
            for i in range(self.size):
                free(self.commands[i])
            free(self.commands)

    cdef Counts *_of(self, int id) noexcept nogil:
        cdef Py_ssize_t i = id if id >= 0 else self.size - 1
        if self.commands[i] == NULL:
            self.commands[i] = <Counts *>calloc(1, sizeof(Counts))
        return self.commands[i]

    cdef void exchange(self, int id, uint32_t flags, int16_t slot, uint8_t unknown, int64_t latency_ns,
                       int64_t request_bytes, int64_t reply_bytes) noexcept nogil:
        """Count one command. id: Spec.id, -1: not in the table; latency_ns -1: no reply, so no time."""
        cdef Counts *counts = self._of(id)
        if counts == NULL:
            return
        counts.count += 1
        counts.request_bytes += request_bytes
        counts.reply_bytes += reply_bytes
        counts.cross_slot += slot == -2
        counts.unknown_keys += unknown != 0
        if latency_ns < 0:
            return
        if flags & FLAG_BLOCKING and not flags & FLAG_QUEUED:
            counts.wait_ns += latency_ns
            counts.wait[bucket(latency_ns)] += 1
        else:
            counts.service_ns += latency_ns
            counts.service[bucket(latency_ns)] += 1

    cdef void error(self, int id, const char *word, int length) noexcept nogil:
        """Count one error reply by its first word; words beyond ERROR_WORDS different ones are "other"."""
        cdef Counts *counts = self._of(id)
        cdef int i
        if counts != NULL:
            counts.errors += 1
        if length > ERROR_WORD:
            length = ERROR_WORD
        for i in range(self.error_words):
            if self.errors[i].length == length and memcmp(self.errors[i].word, word, length) == 0:
                self.errors[i].count += 1
                return
        if self.error_words == ERROR_WORDS:
            self.other_errors += 1
            return
        memcpy(self.errors[self.error_words].word, word, length)
        self.errors[self.error_words].length = length
        self.errors[self.error_words].count = 1
        self.error_words += 1

    def plain_pipe(self, str reason):
        """Count a connection that became a plain byte pipe."""
        self.plain_pipes[reason] = self.plain_pipes.get(reason, 0) + 1

    def not_given(self, str why):
        """Count a pop whose reply reached nobody, and that was not given back."""
        self.not_given_back[why] = self.not_given_back.get(why, 0) + 1

    def rehearsed(self, str outcome, str command):
        """Count a command that was looked at by --rehearse and did not simply go on."""
        self.rehearsal[outcome] = self.rehearsal.get(outcome, 0) + 1
        if outcome == "refused":
            self.rehearsal_refused[command] = self.rehearsal_refused.get(command, 0) + 1

    def crossbackend(self, str outcome, str command):
        """Count a command that no one backend could be asked, or whose keys nothing tells (``routed.OUTCOMES``)."""
        self.crossbackends[outcome, command] = self.crossbackends.get((outcome, command), 0) + 1

    def stats(self):
        """A snapshot: ``EngineStats``."""
        commands = [_stats(self._name(i), self.commands[i]) for i in range(self.size) if self.commands[i] != NULL]
        errors = {self.errors[i].word[:self.errors[i].length].decode("ascii", "replace"): self.errors[i].count
                  for i in range(self.error_words)}
        if self.other_errors:
            errors["other"] = errors.get("other", 0) + self.other_errors
        return EngineStats(commands=commands, errors=errors, pushes=self.pushes, plain_pipes=dict(self.plain_pipes),
                           rehearsal=dict(self.rehearsal), rehearsal_refused=dict(self.rehearsal_refused),
                           crossbackend=dict(self.crossbackends),
                           rows=self.rows, gap_rows=self.gap_rows, lost_replies=self.lost_replies,
                           open_pops=self.open_pops, undelivered=self.undelivered,
                           given_back=self.given_back, given_back_elements=self.given_back_elements,
                           not_given_back=dict(self.not_given_back))

    def _name(self, Py_ssize_t i):
        return self.table.names[i] if i < self.size - 1 else "unknown"


cdef _stats(str name, Counts *counts):
    return CommandStats(
        command=name, count=counts.count, errors=counts.errors, request_bytes=counts.request_bytes,
        reply_bytes=counts.reply_bytes, cross_slot=counts.cross_slot, unknown_keys=counts.unknown_keys,
        service_ns=counts.service_ns, service_buckets=[counts.service[i] for i in range(BUCKETS)],
        wait_ns=counts.wait_ns, wait_buckets=[counts.wait[i] for i in range(BUCKETS)])
