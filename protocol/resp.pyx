# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Where one RESP frame ends and the next begins: commands (RESP and inline) and replies (RESP2, RESP3).

Knows: the grammar, as Redis itself reads it, and how to go on after a cut at any byte. Refuses to know: what a
command means, whose reply a frame is, where the bytes go. Nothing is decoded or copied but the start of arguments
of a command that arrives in pieces.

Two ways lead through a command. ``scan_command`` looks at a command that lies whole in the buffer and points into
it. What is cut off at the end of a read goes to a ``PartialCommand``, which keeps a bounded copy of the start of
each argument while the bytes themselves have long been forwarded. Everything that Redis would refuse is SCAN_BAD:
the caller stops looking and goes on forwarding, and Redis says what is wrong.

Numbers are digit-checked and bounded before any arithmetic. Source of the odd rules: redis 7.0 networking.c,
processInlineBuffer and processMultibulkBuffer.
"""
# Over 300 lines: commands whole, commands in pieces and replies share the number and line rules, which are inlined.
from libc.stdint cimport int64_t, uint64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcpy, memset
from cpython.bytes cimport PyBytes_FromStringAndSize

from protocol.keyspecs cimport Arg
from protocol.inline import split_inline

cdef enum:
    HEADER_MAX = 32             # a length line longer than this is no length
    EARLY_ARGS = 4              # names, subcommands, script bodies: kept longer than other arguments
    EARLY_KEEP = 262144
    WHOLE_KEEP = 4096           # arguments up to this length are kept whole
    CUT_KEEP = 512              # of longer ones, this much
    SCRATCH_LIMIT = 4194304

cdef enum State:
    ST_START = 0
    ST_HEADER = 1
    ST_BULK_HEADER = 2
    ST_BULK = 3
    ST_INLINE = 4

cdef int64_t NUMBER_MAX = 1 << 60


cdef uint64_t fnv1a(const char *p, Py_ssize_t n, uint64_t seed) noexcept nogil:
    """FNV-1a, 64 bits; ``seed`` 0 begins a new hash."""
    cdef uint64_t h = seed if seed else <uint64_t>0xcbf29ce484222325
    cdef Py_ssize_t i
    for i in range(n):
        h = (h ^ <uint8_t>p[i]) * <uint64_t>0x100000001b3
    return h


cdef inline bint _number(const char *p, Py_ssize_t n, int64_t *out) noexcept nogil:
    """Redis' string2ll for up to 18 digits: no plus sign, no leading zero, no space."""
    cdef bint negative = False
    cdef int64_t value = 0
    cdef Py_ssize_t i = 0
    cdef int digit
    if n > 0 and p[0] == b'-':
        negative = True
        i = 1
    if n - i < 1 or n - i > 18:
        return False
    if p[i] == b'0' and (n - i > 1 or negative):
        return False
    while i < n:
        digit = p[i] - 48
        if digit < 0 or digit > 9:
            return False
        value = value * 10 + digit
        i += 1
    out[0] = -value if negative else value
    return True


cdef inline Py_ssize_t _line(const char *p, Py_ssize_t n) noexcept nogil:
    """Bytes before the CR of a header line at p; -1: not there yet; -2: no header line.

    Redis looks for CR and passes over whatever byte follows it; so do we.
    """
    cdef const char *cr = <const char *>memchr(p, 13, n if n < HEADER_MAX else HEADER_MAX)
    if cr == NULL:
        return -2 if n >= HEADER_MAX else -1
    if cr - p + 2 > n:
        return -1
    return cr - p


cdef inline Py_ssize_t _short(const char *p, Py_ssize_t n, int64_t *out) noexcept nogil:
    """Bytes of a number of one to four digits at p, with its CR and one byte more within n; 0: ask _line and _number.

    Nearly every length is one of these, and the two take twice as long.
    """
    cdef unsigned int digit
    cdef Py_ssize_t i = 1
    if n < 6:
        return 0
    digit = <unsigned int>(<uint8_t>p[0] - 48)
    if digit > 9:
        return 0
    out[0] = digit
    if p[1] == 13:
        return 1
    if digit == 0:
        return 0
    while i < 4:
        digit = <unsigned int>(<uint8_t>p[i] - 48)
        if digit > 9:
            return 0
        out[0] = out[0] * 10 + digit
        i += 1
        if p[i] == 13:
            return i
    return 0


cdef ScanResult scan_command(const char *p, Py_ssize_t n, Arg *argv, int64_t max_frame, Scan *out) noexcept nogil:
    """One command at p, if it lies whole within n bytes. n > 0; argv holds MAX_ARGS; max_frame 0: no limit."""
    cdef Py_ssize_t length, at, kept = 0
    cdef int64_t argc, size
    cdef int64_t i
    out.argc = 0
    out.kept = 0
    if p[0] != b'*':
        return _scan_inline(p, n, out)
    length = _short(p + 1, n - 1, &argc)
    if length == 0:
        length = _line(p + 1, n - 1)
        if length < 0:
            return SCAN_MORE if length == -1 else SCAN_BAD
        if not _number(p + 1, length, &argc) or argc > 2147483647:
            return SCAN_BAD
    at = length + 3
    if argc <= 0:
        out.used = at
        return SCAN_EMPTY
    for i in range(argc):
        if at >= n:
            return SCAN_MORE
        if p[at] != b'$':
            return SCAN_BAD
        length = _short(p + at + 1, n - at - 1, &size)
        if length == 0:
            length = _line(p + at + 1, n - at - 1)
            if length < 0:
                return SCAN_MORE if length == -1 else SCAN_BAD
            if not _number(p + at + 1, length, &size) or size < 0:
                return SCAN_BAD
        at += length + 3
        if max_frame and at + size > max_frame:
            return SCAN_TOO_BIG
        if size > n - at - 2:
            return SCAN_MORE
        if kept < MAX_ARGS:
            argv[kept].ptr = p + at
            argv[kept].length = size
            argv[kept].kept = size
            kept += 1
        at += size + 2
    out.argc = argc
    out.kept = kept
    out.used = at
    return SCAN_DONE


cdef ScanResult _scan_inline(const char *p, Py_ssize_t n, Scan *out) noexcept nogil:
    cdef Py_ssize_t limit = n if n <= INLINE_MAX else INLINE_MAX
    cdef const char *newline = <const char *>memchr(p, 10, limit)
    if newline == NULL:
        return SCAN_BAD if n > INLINE_MAX else SCAN_MORE
    out.used = newline - p + 1
    if memchr(p, 0, out.used) != NULL:      # Redis' strchr stops at a NUL and waits: we can't tell for what
        return SCAN_BAD
    if out.used == 1 or (out.used == 2 and p[0] == 13):
        return SCAN_EMPTY
    return SCAN_INLINE


cdef class PartialCommand:
    """A command that arrives in pieces: its shape, and the start of each argument. Bounded by scratch_limit."""

    def __cinit__(self, bint whole=False, int64_t max_frame=0):
        """whole: keep arguments whole (for capture of arguments) as far as scratch_limit reaches."""
        self.state = ST_START
        self.max_frame = max_frame
        self.keep_bytes = SCRATCH_LIMIT if whole else CUT_KEEP
        self.scratch_limit = SCRATCH_LIMIT

    def __dealloc__(self):
        free(self.scratch)
        free(self.pieces)

    cdef ScanResult feed(self, const char *p, Py_ssize_t n, Py_ssize_t *used) noexcept nogil:
        """Read on. used: bytes of p that belong to this command. SCAN_DONE, SCAN_INLINE, SCAN_EMPTY end it."""
        cdef Py_ssize_t i = 0, take, payload
        cdef ScanResult result = SCAN_MORE
        while i < n:
            if self.state == ST_BULK:
                take = self.remaining if self.remaining < n - i else n - i
                payload = self.remaining - 2 if self.remaining > 2 else 0
                if payload:
                    self._keep(p + i, take if take < payload else payload)
                i += take
                self.remaining -= take
                if self.remaining == 0:
                    self.narg += 1
                    self.state = ST_BULK_HEADER
                    if self.narg == self.argc:
                        result = SCAN_DONE
                        break
            elif self.state == ST_START:
                self.state = ST_HEADER if p[i] == b'*' else ST_INLINE
            elif self.state == ST_INLINE:
                self._keep(p + i, 1)
                i += 1
                if p[i - 1] == 0 or self.scratch_length > INLINE_MAX:
                    result = SCAN_BAD
                    break
                if p[i - 1] == 10:
                    result = SCAN_EMPTY if self._blank() else SCAN_INLINE
                    break
            else:
                if self.line_length and self.line[self.line_length - 1] == 13:
                    i += 1
                    result = self._line_done(self.total + i)
                    if result != SCAN_MORE:
                        break
                else:
                    self.line[self.line_length] = p[i]
                    self.line_length += 1
                    i += 1
                    if (self.state == ST_BULK_HEADER and self.line[0] != b'$') or \
                            (self.line_length > HEADER_MAX and self.line[self.line_length - 1] != 13):
                        result = SCAN_BAD
                        break
        self.total += i
        used[0] = i
        return result

    cdef bint _blank(self) noexcept nogil:
        return self.scratch_length == 1 or (self.scratch_length == 2 and self.scratch[0] == 13)

    cdef ScanResult _line_done(self, int64_t at) noexcept nogil:
        """A header line is whole, at bytes of the frame: the number of arguments, or the length of the next one."""
        cdef int64_t value
        cdef char mark = b'*' if self.state == ST_HEADER else b'$'
        cdef Py_ssize_t length = self.line_length - 2
        self.line_length = 0
        if self.line[0] != mark or not _number(self.line + 1, length, &value):
            return SCAN_BAD
        if self.state == ST_HEADER:
            if value > 2147483647:
                return SCAN_BAD
            if value <= 0:
                return SCAN_EMPTY
            self.argc = value
            self.state = ST_BULK_HEADER
            return SCAN_MORE
        if value < 0:
            return SCAN_BAD
        if self.max_frame and at + value > self.max_frame:
            return SCAN_TOO_BIG
        self._begin(value)
        self.remaining = value + 2
        self.state = ST_BULK
        return SCAN_MORE

    cdef void _begin(self, Py_ssize_t length) noexcept nogil:
        """Make room for the next argument's entry; without memory or beyond MAX_ARGS it is counted, not kept."""
        cdef Py_ssize_t capacity
        cdef Piece *grown
        if self.kept_args != self.narg or self.narg >= MAX_ARGS:
            self.cut = True
            return
        if self.kept_args == self.pieces_capacity:
            capacity = self.pieces_capacity * 2 if self.pieces_capacity else 8
            grown = <Piece *>realloc(self.pieces, capacity * sizeof(Piece))
            if grown == NULL:
                self.cut = True
                return
            self.pieces = grown
            self.pieces_capacity = capacity
        self.pieces[self.kept_args].offset = self.scratch_length
        self.pieces[self.kept_args].length = length
        self.pieces[self.kept_args].kept = 0
        self.pieces[self.kept_args].hash = 0
        self.kept_args += 1

    cdef Py_ssize_t _wanted(self, Piece *piece) noexcept nogil:
        """How many bytes of this argument to keep."""
        if piece.length <= WHOLE_KEEP or self.keep_bytes == SCRATCH_LIMIT:
            return piece.length
        if self.narg < EARLY_ARGS and piece.length <= EARLY_KEEP:
            return piece.length
        return self.keep_bytes

    cdef void _keep(self, const char *p, Py_ssize_t n) noexcept nogil:
        cdef Piece *piece = NULL
        cdef Py_ssize_t take = n, capacity
        cdef char *grown
        if self.state == ST_BULK:
            if self.kept_args != self.narg + 1:
                return
            piece = &self.pieces[self.kept_args - 1]
            if CUT_KEEP < piece.length <= HASH_MAX:
                piece.hash = fnv1a(p, n, piece.hash)
            take = self._wanted(piece) - piece.kept
            if take > n:
                take = n
            if self.scratch_length + take > self.scratch_limit:
                take = self.scratch_limit - self.scratch_length
        if take < n:
            self.cut = True
        if take <= 0:
            return
        if self.scratch_length + take > self.scratch_capacity:
            capacity = self.scratch_capacity * 2 if self.scratch_capacity else 256
            while capacity < self.scratch_length + take:
                capacity *= 2
            grown = <char *>realloc(self.scratch, capacity)
            if grown == NULL:
                self.cut = True
                return
            self.scratch = grown
            self.scratch_capacity = capacity
        memcpy(self.scratch + self.scratch_length, p, take)
        self.scratch_length += take
        if piece != NULL:
            piece.kept += take

    cdef void fill(self, Arg *argv) noexcept nogil:
        """Point argv (room for MAX_ARGS) at what was kept; valid while this object lives and isn't fed."""
        cdef Py_ssize_t i
        for i in range(self.kept_args):
            argv[i].ptr = self.scratch + self.pieces[i].offset
            argv[i].length = self.pieces[i].length
            argv[i].kept = self.pieces[i].kept


# ---- replies ------------------------------------------------------------------------------------------------------

cdef inline ScanResult _reply_header(ReplyScan *s, const char *line, Py_ssize_t n) noexcept nogil:
    """Take in one element's header line (n bytes, without CRLF, at least 1): what is still to come of the frame."""
    cdef int64_t value
    cdef bint own
    cdef char mark = line[0]
    if n < 1:
        return SCAN_BAD
    if mark == b'|':                        # an attribute: its pairs come before the element it belongs to
        if not _number(line + 1, n - 1, &value) or value < 0 or value > NUMBER_MAX // 4:
            return SCAN_BAD
        s.need += 2 * value
        return SCAN_MORE if s.need < NUMBER_MAX else SCAN_BAD
    own = s.kind == 0 and s.need == 1       # the frame's own header, not an element's or an attribute's
    if own:
        s.kind = <uint8_t>mark
    s.need -= 1
    if mark == b'$' or mark == b'=' or mark == b'!':
        if not _number(line + 1, n - 1, &value):
            return SCAN_BAD
        if value >= 0:
            s.skip = value + 2
        elif value != -1:
            return SCAN_BAD
        elif own:
            s.null = True
    elif mark == b'*' or mark == b'~' or mark == b'>' or mark == b'%':
        if not _number(line + 1, n - 1, &value):
            return SCAN_BAD
        if value > NUMBER_MAX // 4:
            return SCAN_BAD
        if value > 0:
            s.need += 2 * value if mark == b'%' else value
            if s.need >= NUMBER_MAX:
                return SCAN_BAD
        elif value != 0:
            if value != -1:
                return SCAN_BAD
            if own:
                s.null = True
    elif not (mark == b'+' or mark == b'-' or mark == b':' or mark == b'_' or mark == b',' or mark == b'#'
              or mark == b'('):
        return SCAN_BAD
    return SCAN_MORE


cdef inline Py_ssize_t _reply_line(const char *p, Py_ssize_t n) noexcept nogil:
    """Bytes before the CRLF at p; -1: not within n bytes."""
    cdef const char *at = p
    cdef const char *end = p + n
    while True:
        at = <const char *>memchr(at, 13, end - at)
        if at == NULL or at + 1 >= end:
            return -1
        if at[1] == 10:
            return at - p
        at += 1


cdef ScanResult scan_reply(ReplyScan *s, const char *p, Py_ssize_t n, Py_ssize_t *used) noexcept nogil:
    """Read on in a reply stream until one frame ends (SCAN_DONE) or the bytes do (SCAN_MORE).

    After SCAN_DONE, kind, null and bytes describe that frame; the caller clears the scan with ``memset`` before the
    next. SCAN_BAD: this is no RESP.
    """
    cdef Py_ssize_t at = 0, length, take
    cdef ScanResult result
    if not s.started:
        s.started = True
        s.need = 1
    while True:
        if s.skip:
            take = n - at
            if s.skip > take:
                s.skip -= take
                at = n
                break
            at += s.skip
            s.skip = 0
        if s.need == 0:
            s.bytes += at
            used[0] = at
            return SCAN_DONE
        if at >= n:
            break
        if s.line_length:
            take = _finish_line(s, p + at, n - at)
            if take < 0:
                at = n
                break
            at += take
            length = s.line_length - 1
            s.line_length = 0
            result = _reply_header(s, s.line, length if length < 32 else 32)
        else:
            length = _reply_line(p + at, n - at)
            if length < 0:
                _begin_line(s, p + at, n - at)
                at = n
                break
            result = _reply_header(s, p + at, length)
            at += length + 2
        if result == SCAN_BAD:
            return SCAN_BAD
    s.bytes += at
    used[0] = at
    return SCAN_MORE


cdef void _begin_line(ReplyScan *s, const char *p, Py_ssize_t n) noexcept nogil:
    """Keep the start of a line that the read cuts off. line_length counts one more than the bytes seen."""
    memcpy(s.line, p, n if n < 32 else 32)
    s.line_length = <int>(n if n < 1000 else 1000) + 1
    s.last = p[n - 1]


cdef Py_ssize_t _finish_line(ReplyScan *s, const char *p, Py_ssize_t n) noexcept nogil:
    """Read on in a cut line: bytes up to and with its LF, or -1. Then line_length - 1 is its length without CRLF."""
    cdef Py_ssize_t i, have = s.line_length - 1
    cdef Py_ssize_t total
    for i in range(n):
        if p[i] == 10 and (p[i - 1] if i else s.last) == 13:
            total = have + i - 1
            s.line_length = <int>(total if total < 1000 else 1000) + 1
            return i + 1
        if have + i < 32:
            s.line[have + i] = p[i]
    s.last = p[n - 1]
    have += n
    s.line_length = <int>(have if have < 1000 else 1000) + 1
    return -1


# ---- for tests, fuzzers and tools -----------------------------------------------------------------------------------

cdef class CommandReader:
    """The commands in a client's bytes, however they are cut. For tests and tools, not for the data path."""

    cdef PartialCommand partial
    cdef Arg *argv
    cdef int64_t max_frame
    cdef readonly bint bad
    cdef readonly bint too_big

    def __cinit__(self, int64_t max_frame=0):
        self.max_frame = max_frame
        self.argv = <Arg *>malloc(MAX_ARGS * sizeof(Arg))
        if self.argv == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.argv)

    def feed(self, bytes data):
        """The commands that ``data`` completes: list of (arguments, bytes of the frame in this feed, inline).

        An argument is None where it was not kept whole. After a protocol error ``bad`` is set and nothing follows.
        """
        cdef const char *p = data
        cdef Py_ssize_t n = len(data), at = 0, used = 0
        cdef Scan scan
        cdef ScanResult result
        out = []
        while at < n and not self.bad:
            if self.partial is None:
                result = scan_command(p + at, n - at, self.argv, self.max_frame, &scan)
                used = scan.used
                if result == SCAN_MORE:
                    self.partial = PartialCommand(True, self.max_frame)
            if self.partial is not None:
                result = self.partial.feed(p + at, n - at, &used)
                if result == SCAN_DONE:
                    self.partial.fill(self.argv)
                    scan.kept = self.partial.kept_args
            if result == SCAN_MORE:
                break
            if result == SCAN_BAD or result == SCAN_TOO_BIG:
                self.bad = True
                self.too_big = result == SCAN_TOO_BIG
                break
            if result == SCAN_DONE:
                out.append(([_argument(&self.argv[i]) for i in range(scan.kept)], used, False))
            elif result == SCAN_INLINE:
                self._inline(p + at, used, out)
            self.partial = None
            at += used
        return out

    cdef _inline(self, const char *p, Py_ssize_t used, list out):
        if self.partial is not None:
            line = PyBytes_FromStringAndSize(self.partial.scratch, self.partial.scratch_length)
        else:
            line = PyBytes_FromStringAndSize(p, used)
        arguments = split_inline(line[:len(line) - 1])
        if arguments is None:
            self.bad = True
        elif arguments:
            out.append((arguments, used, True))


cdef object _argument(Arg *arg):
    return PyBytes_FromStringAndSize(arg.ptr, arg.kept) if arg.kept == arg.length else None


cdef class ReplyReader:
    """The frames in a backend's bytes, however they are cut. For tests and tools, not for the data path."""

    cdef ReplyScan scan
    cdef readonly bint bad

    def __cinit__(self):
        memset(&self.scan, 0, sizeof(ReplyScan))

    def feed(self, bytes data):
        """The frames that ``data`` completes: list of (first byte, null, bytes of the frame)."""
        cdef const char *p = data
        cdef Py_ssize_t n = len(data), at = 0, used
        cdef ScanResult result
        out = []
        while at < n and not self.bad:
            result = scan_reply(&self.scan, p + at, n - at, &used)
            if result == SCAN_BAD:
                self.bad = True
            elif result == SCAN_MORE:
                break
            else:
                out.append((chr(self.scan.kind), bool(self.scan.null), self.scan.bytes))
                memset(&self.scan, 0, sizeof(ReplyScan))
                at += used
        return out
