# cython: language_level=3
"""Table of contents of the frame scanner; the story is in resp.pyx."""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from protocol.keyspecs cimport Arg

cdef enum:
    MAX_ARGS = 65536        # arguments looked at per command; more are counted, not kept
    INLINE_MAX = 65536      # Redis' PROTO_INLINE_MAX_SIZE
    NAME_KEEP = 64
    HASH_MAX = 65536        # longer arguments that arrive in pieces are not hashed

cdef enum ScanResult:
    SCAN_MORE = 0           # the frame goes on after the last byte given
    SCAN_DONE = 1           # one whole frame
    SCAN_EMPTY = 2          # bytes that are no command: empty line, "*0", "*-1"
    SCAN_INLINE = 3         # one whole inline line, not yet split
    SCAN_BAD = -1           # Redis will answer with a protocol error
    SCAN_TOO_BIG = -2       # larger than the limit given

# ---- commands -----------------------------------------------------------------------------------------------------

cdef struct Scan:           # what scan_command found
    Py_ssize_t used         # bytes of the frame
    Py_ssize_t argc         # arguments that the client announced
    Py_ssize_t kept         # arguments in argv

cdef ScanResult scan_command(const char *p, Py_ssize_t n, Arg *argv, int64_t max_frame, Scan *out) noexcept nogil

cdef struct Piece:          # one argument of a command that arrives in pieces
    Py_ssize_t offset       # in PartialCommand.scratch
    Py_ssize_t length
    Py_ssize_t kept
    uint64_t hash

cdef class PartialCommand:
    cdef:
        int state
        Py_ssize_t argc, narg, kept_args
        Py_ssize_t remaining            # payload bytes of the current argument still to come, CRLF included
        Py_ssize_t keep_bytes           # kept of each argument
        Py_ssize_t scratch_limit        # kept of all arguments together
        int64_t total                   # bytes of the frame so far
        int64_t max_frame
        bint cut                        # some argument was not kept whole
        char line[64]
        int line_length
        char *scratch
        Py_ssize_t scratch_length, scratch_capacity
        Piece *pieces
        Py_ssize_t pieces_capacity

    cdef ScanResult feed(self, const char *p, Py_ssize_t n, Py_ssize_t *used) noexcept nogil
    cdef bint _blank(self) noexcept nogil
    cdef ScanResult _line_done(self, int64_t at) noexcept nogil
    cdef void _begin(self, Py_ssize_t length) noexcept nogil
    cdef Py_ssize_t _wanted(self, Piece *piece) noexcept nogil
    cdef void _keep(self, const char *p, Py_ssize_t n) noexcept nogil
    cdef void fill(self, Arg *argv) noexcept nogil

# ---- replies ------------------------------------------------------------------------------------------------------

cdef struct ReplyScan:      # where a reply stream stands; all zero: between two frames
    int64_t need            # elements still to come in this frame
    int64_t skip            # payload bytes still to pass over, CRLF included
    int64_t bytes           # of this frame so far
    int line_length         # of an unfinished line; 0: none
    uint8_t kind            # first byte of the frame's own header (attributes passed over); 0: not seen yet
    bint null               # the frame is a null in RESP2's spelling
    bint started
    char line[32]
    char last               # last byte seen of an unfinished line

cdef ScanResult scan_reply(ReplyScan *s, const char *p, Py_ssize_t n, Py_ssize_t *used) noexcept nogil

cdef uint64_t fnv1a(const char *p, Py_ssize_t n, uint64_t seed) noexcept nogil
