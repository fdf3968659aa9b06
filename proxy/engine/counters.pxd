# Table of contents of the engine's counters; the story is in counters.pyx.
cimport cython
from libc.stdint cimport int16_t, int64_t, uint8_t, uint32_t

from protocol.keyspecs cimport CommandTable

cdef enum:
    BUCKETS = 109           # stats.BUCKETS
    ERROR_WORDS = 64
    ERROR_WORD = 32

cdef struct Counts:
    int64_t count, errors, request_bytes, reply_bytes, cross_slot, unknown_keys, service_ns, wait_ns
    int64_t[BUCKETS] service
    int64_t[BUCKETS] wait

cdef struct ErrorCount:
    char[ERROR_WORD] word
    int length
    int64_t count

@cython.final
cdef class Counters:
    cdef:
        CommandTable table
        Counts **commands           # by Spec.id; the last one: commands that are not in the table
        Py_ssize_t size
        ErrorCount[ERROR_WORDS] errors
        int error_words
        int64_t other_errors
        public int64_t pushes, rows, gap_rows, lost_replies, open_pops
        public int64_t undelivered, given_back, given_back_elements
        readonly dict not_given_back, plain_pipes, rehearsal, rehearsal_refused, crossbackends

    cdef Counts *_of(self, int id) noexcept nogil
    cdef void exchange(self, int id, uint32_t flags, int16_t slot, uint8_t unknown, int64_t latency_ns,
                       int64_t request_bytes, int64_t reply_bytes) noexcept nogil
    cdef void error(self, int id, const char *word, int length) noexcept nogil
