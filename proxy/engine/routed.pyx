# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A session whose keys live on several backends: it looks at each command before it goes on (``--classes``).

Knows: on which backend a command's keys are, when the client must go over to another one, and what it reads where a
command can't be sent to any one backend. Refuses to know: sockets and how a backend is connected to (``net.routing``),
and which key belongs where (the table that it is given).

The client stands at one backend at a time (``here``). A command whose keys are there goes on as it came; where all of a
read does, not a byte is copied. A command for another backend stops the session (``want``): the rest of the read is
kept and the client is not read, until nothing is in flight any more. Then it goes over (``go_on``), and so replies are
in order without any care. What is refused is answered in its turn: **the backend gets PING in its place, EXEC becomes
DISCARD**, as in a rehearsal, and a good reply to that becomes the error.

A transaction is at one backend, that of its first command with keys. MULTI has been sent by then, to where the client
stood: while nothing but MULTI is queued, the client goes over and takes it along (DISCARD here, MULTI there).

A class may be held (``Gates``). A command with a key of it stops the session too (``want`` is HELD), until somebody
calls ``look_again``. A command whose keys can't be told may have any key: it belongs to every class. For each class the
number of the last command that went on is kept, so that ``busy`` can tell whether one of them is in flight, whatever the
client sends behind it.
"""
# Over 300 lines: one way of a command to its backend; C methods of one class can't be spread over files.
from libc.stdint cimport int16_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from protocol cimport keyspecs as ks
from protocol.inline import split_inline
from protocol.keyspecs cimport Arg, Spec
from protocol.resp cimport (
    MAX_ARGS, SCAN_DONE, SCAN_EMPTY, SCAN_INLINE, SCAN_MORE,
    PartialCommand, ReplyScan, Scan, ScanResult, scan_command, scan_reply,
)
from proxy.engine.guarded cimport GuardedSession
from proxy.engine.inflight cimport MODE_NONE, MODE_STAND_IN, MODE_SWALLOW, Entry
from proxy.engine.recorder cimport F_INLINE, F_REPLIED_BY_PROXY, R_ARRAY, R_ERROR, R_INTEGER, SLOT_NONE, Recorder, Reply
from proxy.engine.session cimport EDITED, FORWARD, Session

from proxy.engine.access import Access, encode

cdef extern from *:
    int lowest "__builtin_ctzll"(unsigned long long bits) nogil     # the number of the lowest bit; bits are not 0

cdef enum:
    BULK_MAX = 536870914        # Redis' proto-max-bulk-len, and CRLF
    HELD_MAX = 16777216         # bytes held back of a command whose keys can't be told yet
    NOT_YET = -1                # no command of this class has gone on

cpdef enum:                     # beside the backend that the client must go over to
    HERE = -1                   # it stands where it should
    HELD = -2                   # its next command waits for the release of a class

#: Instead of a bit for each class: keys that can't be told, of any class.
cdef uint64_t ANY_CLASS = <uint64_t>-1

cdef bytes PING = b"*1\r\n$4\r\nPING\r\n"
cdef bytes DISCARD = b"*1\r\n$7\r\nDISCARD\r\n"
cdef bytes MULTI = b"*1\r\n$5\r\nMULTI\r\n"
cdef bytes TOO_LARGE = b"-ERR Protocol error: the keys of so large a command can't be told\r\n"
cdef str EXECABORT = "EXECABORT Transaction discarded because of previous errors."

#: What is counted (``counters.crossbackend``): refused, by why; and commands that went to the first backend because
#: nothing tells their keys.
OUTCOMES = ("keys", "transaction", "watch", "stuck", "unreachable", "uncountable", "keys-unknown", "split")
#: What --split-keys sends in parts: a number of keys, or a value for each.
SPLIT = frozenset(("DEL", "UNLINK", "EXISTS", "TOUCH", "MGET"))
#: They name no key and may change any, and no trait says so.
SWEEPING = frozenset(("DEBUG", "REPLICAOF", "SLAVEOF", "FAILOVER"))


cdef class Gates:
    """Which classes are held, for all sessions of a worker. ``held``: a bit for each, by its number in the table."""


cdef class Parts:
    """One command that is sent in parts, one after the other. ``left``: (backend, arguments, places of its keys);
    ``classes``: a bit for each that it has keys of."""

    def __init__(self, table, list args, Py_ssize_t size, uint64_t classes):
        cdef dict found = {}
        for place, key in enumerate(args[1:]):
            found.setdefault(table.backend_of(key), []).append((place, key))
        self.left = [(backend, [args[0], *(key for _, key in keys)], tuple(place for place, _ in keys))
                     for backend, keys in found.items()]
        self.many = args[0].upper() == b"MGET"
        self.values = [b""] * (len(args) - 1)
        self.size = size
        self.classes = classes

    cdef list next(self):
        """The arguments of the next part."""
        self.begun = True
        _, args, self.at = self.left.pop(0)
        return args

    cdef bytes heard(self, bytes raw):
        """The reply to a part. Returns that of the whole command once it is known, else b""."""
        if self.many and raw.startswith(b"*"):
            self._take(raw)
            self.reply = b"*%d\r\n%b" % (len(self.values), b"".join(self.values))
        elif not self.many and raw.startswith(b":"):
            self.total += int(raw[1:])
            self.reply = b":%d\r\n" % self.total
        else:                           # an error: what is left is not sent
            self.reply = raw
            self.left = []
        return b"" if self.left else self.reply

    cdef int _take(self, bytes raw) except -1:
        cdef const char *p = PyBytes_AS_STRING(raw)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(raw), at = raw.index(b"\n") + 1, used
        cdef ReplyScan scan
        for place in self.at:
            memset(&scan, 0, sizeof(ReplyScan))
            if scan_reply(&scan, p + at, n - at, &used) != SCAN_DONE:
                raise ValueError(raw)
            self.values[place] = raw[at:at + used]
            at += used
        return 0


cdef class RoutedSession(GuardedSession):
    """``table``: ``routing.table.Table``. Of each of its backends, ``accesses``: the credentials, or nothing if there are
    none in any URL; ``marks``: the capture's number. ``gates``: what is held; None: nothing ever is."""

    def __init__(self, Recorder recorder, bytes addr, accesses, table, marks, bint splits=False, Gates gates=None):
        cdef int i
        GuardedSession.__init__(self, recorder, addr, accesses[0] if accesses else Access(answers=False))
        self.plain = not accesses
        self.table = table
        self.accesses = tuple(accesses)
        self.marks = tuple(marks)
        self.places = table.places
        self.want = self.watched = -1
        self.errors = {}
        self.pieces = []
        self.splits = splits
        self.gates = Gates() if gates is None else gates
        self.count = len(self.places)
        self.last = <int64_t *>malloc((self.count + 1) * sizeof(int64_t))
        if self.last == NULL:
            raise MemoryError
        for i in range(self.count + 1):
            self.last[i] = NOT_YET

    def __dealloc__(self):
        free(self.last)

    # ---- what others may ask ------------------------------------------------------------------------------------------

    @property
    def quiet(self):
        """As a Session's; what waits to be looked at is half sent."""
        return self.rest is None and self.queue.count == 0 and self.partial is None and not self.held \
            and not self.in_multi

    @property
    def half_sent(self):
        return self.rest is not None or self.partial is not None or bool(self.held)

    @property
    def stuck(self):
        """Why it can't leave the backend where it stands, in words; None: it can. Asked when nothing is in flight."""
        if self.parts is not None and not self.parts.left:
            return None                 # it need not
        for is_so, why in (
            (self.up_pipe or self.down_pipe, "its bytes are no longer looked at"),
            (self.monitor, "it sent MONITOR"),
            (self.channels + self.patterns + self.shards, "it is subscribed"),
            (self.tracking_on is not None, "CLIENT TRACKING is on"),
            (self.unanswered, "with CLIENT REPLY OFF or SKIP nothing tells whether what was sent has been run"),
        ):
            if is_so:
                return why
        return self.lost_track

    # ---- held ---------------------------------------------------------------------------------------------------------

    @property
    def waits(self):
        """Whether its next command waits for the release of a class."""
        return self.want == HELD

    def busy(self, uint64_t classes):
        """Whether a command with keys of these classes, a bit each, has been sent on, be it in part, and not answered."""
        cdef int64_t oldest = self.seq
        cdef Py_ssize_t i
        cdef Entry *entry
        if self.parts is not None and self.parts.begun and self.parts.classes & classes:
            return True
        if self.queue.count == 0 and self.partial is None:
            return False
        for i in range(self.queue.count):
            entry = &self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)]
            if entry.mode != MODE_SWALLOW:
                oldest = entry.seq
                break
        return self._last_of(classes) >= oldest

    def half_of(self, uint64_t classes):
        """Whether a part of a command with keys of these classes has been sent on, and the rest has not."""
        return self.partial is not None and self._last_of(classes) >= self.seq

    def queues(self, uint64_t classes):
        """Whether its open transaction has commands with keys of these classes, and its EXEC has not been sent."""
        return bool(self.in_multi and self.queued_classes & classes)

    def has_used(self, uint64_t classes):
        """Whether it has ever sent on a command with keys of these classes."""
        return self._last_of(classes) != NOT_YET

    def look_again(self, int64_t now_ns):
        """A class was released: what waits is looked at. See to_backend, to_client."""
        self._look_again(now_ns)

    cdef int64_t _last_of(self, uint64_t classes) noexcept:
        """The number of the last command with keys of these classes that went on."""
        cdef int64_t last = self.last[self.count]
        cdef int i
        for i in range(self.count):
            if classes >> i & 1 and self.last[i] > last:
                last = self.last[i]
        return last

    cdef void _mark(self, uint64_t classes) noexcept:
        """The command at hand goes on: it gets the number that is its turn."""
        cdef int64_t number = self.seq + self.ahead
        if classes == ANY_CLASS:
            self.last[self.count] = number
            return
        while classes:
            self.last[lowest(classes)] = number
            classes &= classes - 1

    cdef bint _is_held(self, int place) except -1:
        """Whether the command at hand must wait. One of an open transaction goes on if a command of the same class
        does already wait for its EXEC."""
        cdef uint64_t held = self.gates.held & self.classes
        if held == 0 or place == END or not self.authenticated:
            return False
        if place == APART:              # it is refused, and sent nowhere, or it is sent in parts
            return self.splits and self.kind == "keys" and not self.in_multi
        return held & ~self.queued_classes != 0 if self.in_multi else True

    # ---- going over ---------------------------------------------------------------------------------------------------

    def leave(self):
        """What must be sent, and answered, before it leaves: DISCARD, in a transaction. b"": nothing."""
        if not self.in_multi:
            return b""
        self._swallow()
        return DISCARD

    def go_on(self, int place, commands, int64_t now_ns):
        """It stands at another backend, whose connection must be told ``commands`` first. See to_backend, to_client."""
        cdef list before = [encode(each) for each in commands]
        if self.in_multi:
            before.append(MULTI)
        for _ in before:
            self._swallow()
        self.here = place
        if not self.plain:
            self.access = self.accesses[place]
        if self.parts is not None and not self.parts.begun and self.parts.classes & self.gates.held:
            self.parts = None           # it is held, before anything of it was sent
        if self.parts is not None and self.parts.left:
            self._send_part(now_ns)
        else:
            if self.parts is not None:
                self.rest = self.rest[self.parts.size:]
                self.parts = None
            self._look_again(now_ns)
        self.to_backend = before + self.to_backend

    def stay(self, str kind, str cause, int64_t now_ns):
        """It can't go over: the command that waits is refused. See to_backend, to_client."""
        self.parts = None
        self.verdict = (kind, cause)
        self._look_again(now_ns)
        self.verdict = None

    cdef int _look_again(self, int64_t now_ns) except -1:
        cdef bytes data = self.rest
        self.rest = None
        self.want = HERE
        self.to_backend = []
        self.to_client = []
        if data is not None and self._looked(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), False, now_ns) == FORWARD:
            self.to_backend = [data]
        return 0

    cdef int _swallow(self) except -1:
        """Expect a reply that the client must not see."""
        cdef Entry *entry = self.queue.push()
        if entry == NULL:
            raise MemoryError
        entry.mode = MODE_SWALLOW
        entry.slot = SLOT_NONE
        self.splices += 1
        return 0

    # ---- from the client ----------------------------------------------------------------------------------------------

    cdef int on_client_bytes(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """As a Session's; where ``want`` is set afterwards, the rest waits."""
        cdef bytes data
        if self.rest is None:
            return self._looked(p, n, True, now_ns)
        data = self.rest + PyBytes_FromStringAndSize(p, n)
        self.rest = None
        if self.want == HERE:
            if self._looked(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), False, now_ns) == FORWARD:
                self.to_backend = [data]
                self.to_client = []
            return EDITED
        self.rest = data
        self.to_backend = []
        self.to_client = []
        return EDITED

    cdef int _looked(self, const char *p, Py_ssize_t n, bint fresh, int64_t now_ns) except -1:
        """``_look``, with rows that name the backend where the client stands."""
        cdef int16_t mark = self.recorder.backend
        self.recorder.backend = self.marks[self.here]
        try:
            return self._look(p, n, fresh, now_ns)
        finally:
            self.recorder.backend = mark

    cdef int _look(self, const char *p, Py_ssize_t n, bint fresh, int64_t now_ns) except -1:
        """Look at each command. FORWARD: all of it goes on as it is."""
        cdef Py_ssize_t at = 0, then
        self.seg = 0
        self.ahead = 0
        self.out_backend = []
        self.out_client = []
        if self.up_pipe and self.gates.held and not self.close_after:
            self.rest = PyBytes_FromStringAndSize(p, n)     # nothing tells what it sends
            self.want = HELD
            n = 0
        while at < n and not self.up_pipe and not self.close_after:
            then = self._streamed(p, n, at, now_ns) if self.streaming is not None else self._one(p, n, at, now_ns)
            if then < 0:
                self._flush(p, at, now_ns)
                self.rest = PyBytes_FromStringAndSize(p + at, n - at)
                break
            at = then
        else:
            if fresh and n and self.seg == 0 and not self.out_backend and not self.out_client:
                return self._own(p, n, now_ns)
            self._flush(p, n, now_ns)
        self.to_backend = self.out_backend
        self.to_client = self.out_client
        return EDITED

    cdef int _own(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        if self.plain:
            return Session.on_client_bytes(self, p, n, now_ns)
        return GuardedSession.on_client_bytes(self, p, n, now_ns)

    cdef int _flush(self, const char *p, Py_ssize_t upto, int64_t now_ns) except -1:
        """What has been looked at goes on."""
        if self.seg < upto:
            if self._own(p + self.seg, upto - self.seg, now_ns) != EDITED:
                self.out_backend.append(PyBytes_FromStringAndSize(p + self.seg, upto - self.seg))
            else:
                self.out_backend.extend(self.to_backend)
                self.out_client.extend(self.to_client)
        self.seg = upto
        self.ahead = 0
        return 0

    cdef Py_ssize_t _one(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -3:
        """One command. Where the next begins, or WAIT."""
        cdef Scan scan
        cdef ScanResult result = scan_command(p + at, n - at, self.recorder.argv, self.recorder.max_frame, &scan)
        cdef list words = None
        if result == SCAN_MORE:
            return self._unfinished(p, n, at, now_ns)
        if result == SCAN_INLINE:
            words = split_inline(PyBytes_FromStringAndSize(p + at, scan.used - 1))
            if words is None:
                return n                # the backend says what is wrong with it
            if not words:
                return at + scan.used
            self._load(words)           # recorder.argv points into ``words``, which lives until the end of this
            scan.argc = len(words)
            scan.kept = min(scan.argc, MAX_ARGS)
        elif result == SCAN_EMPTY:
            return at + scan.used
        elif result != SCAN_DONE:
            return n
        return self._command_at(p, at, &scan, words, now_ns)

    cdef Py_ssize_t _command_at(self, const char *p, Py_ssize_t at, Scan *scan, list words, int64_t now_ns) except -3:
        cdef const Spec *spec = self.recorder.table.lookup(self.recorder.argv, scan.kept)
        cdef Py_ssize_t after = at + scan.used
        cdef int place = self._decide(spec, self._place(spec, scan.argc, scan.kept), scan.argc)
        if self.gates.held and self._is_held(place):
            self.want = HELD
            return WAIT
        if place == ANYWHERE or place == self.here:
            self._goes_on(spec, scan.argc)
            if spec != NULL and (ks.KIND_HELLO <= spec.kind <= ks.KIND_SHUTDOWN or spec.replies != ks.REPLIES_ONE):
                self._flush(p, after, now_ns)   # so that what it changes is known to the next
            return after
        self._flush(p, at, now_ns)
        if self.up_pipe or self.close_after:
            return at
        if place >= 0 and self.verdict is None:
            self.want = place
            return WAIT
        if words is None:
            scan_command(p + at, scan.used, self.recorder.argv, 0, scan)
        else:
            self._load(words)
        if place == APART and self.splits and self.kind == "keys" and not self.in_multi \
                and scan.argc == scan.kept and self.recorder.table.names[spec.id] in SPLIT:
            if self.verdict is None:
                self.parts = Parts(self.table, self._arguments_of(scan.argc), scan.used, self.classes)
                self.want = self.parts.left[0][0]
                return WAIT
            place = 0
        if place >= 0:
            self.kind, self.cause = self.verdict
            self.verdict = None
        self._stand_in(place, scan.argc, scan.kept, scan.used, 0 if words is None else F_INLINE, now_ns)
        self.seg = after
        return after

    cdef list _arguments_of(self, Py_ssize_t argc):
        cdef Py_ssize_t i
        return [PyBytes_FromStringAndSize(self.recorder.argv[i].ptr, self.recorder.argv[i].length) for i in range(argc)]

    cdef int _goes_on(self, const Spec *spec, Py_ssize_t argc) except -1:
        """A command is sent: what that means for the transaction, and for WATCH."""
        cdef int kind = ks.KIND_PLAIN if spec == NULL else spec.kind
        cdef uint64_t classes = self.classes
        if self.in_multi and kind == ks.KIND_EXEC:
            classes |= self.queued_classes
        if classes:
            self._mark(classes)
        self.ahead += 1
        if self.guessed:
            self.recorder.counters.crossbackend(
                "keys-unknown", "unknown" if spec == NULL else self.recorder.table.names[spec.id])
        if kind == ks.KIND_MULTI and not self.in_multi:
            self.queued = 0
            self.queued_classes = 0
            self.spoiled = False
        elif kind == ks.KIND_WATCH and not self.in_multi:
            self.watched = self.here
        elif kind == ks.KIND_UNWATCH and not self.in_multi:
            self.watched = -1
        elif kind == ks.KIND_RESET or (self.in_multi and (kind == ks.KIND_EXEC or kind == ks.KIND_DISCARD)):
            self.watched = -1 if argc == 1 else self.watched
        elif self.in_multi:
            self.queued += 1
            self.queued_classes |= classes
        return 0

    # ---- where a command goes -----------------------------------------------------------------------------------------

    cdef int _place(self, const Spec *spec, Py_ssize_t argc, Py_ssize_t kept) except -10:
        """Where the keys of the command in recorder.argv are, and of which ``classes`` they are. UNSURE where arguments
        are missing that decide."""
        cdef Recorder recorder = self.recorder
        cdef Py_ssize_t nkeys = 0
        cdef int why
        self.guessed = spec == NULL
        self.classes = ANY_CLASS
        if spec == NULL:
            return 0                    # where everything is that is in no class
        if spec.flags & (ks.TRAIT_PUBSUB | ks.TRAIT_NODE_LOCAL) or spec.kind == ks.KIND_MONITOR \
                or spec.kind == ks.KIND_SYNC or spec.kind == ks.KIND_SWAPDB:
            if not self._sweeps(spec):
                self.classes = 0
            return 0
        why = ks.find_keys(spec, recorder.argv, argc, kept, recorder.key_index, MAX_ARGS, &nkeys)
        if why == ks.WHY_NO_KEY_SPEC or (why == ks.WHY_NOTHING and nkeys == 0 and spec.flags & ks.TRAIT_SCRIPT):
            self.guessed = True
            return 0
        if why == ks.WHY_BAD_ARGUMENTS or (nkeys == 0 and not self._sweeps(spec)):
            self.classes = 0
        if why == ks.WHY_BAD_ARGUMENTS:
            return ANYWHERE             # Redis refuses it, whichever it is
        return self._place_of_keys(why, min(nkeys, MAX_ARGS), kept) if nkeys or why != ks.WHY_NOTHING else ANYWHERE

    cdef bint _sweeps(self, const Spec *spec) except -1:
        """Whether a command without keys may change any."""
        if spec.flags & ks.TRAIT_WRITE or spec.kind == ks.KIND_SYNC:
            return True
        return spec.flags & ks.TRAIT_ADMIN and self.recorder.table.names[spec.id] in SWEEPING

    cdef int _place_of_keys(self, int why, Py_ssize_t nkeys, Py_ssize_t kept) except -10:
        """As _place, of the arguments in recorder.key_index."""
        cdef Recorder recorder = self.recorder
        cdef Py_ssize_t i
        cdef int place = ANYWHERE, other = ANYWHERE, one, number
        cdef Arg *arg
        self.classes = 0
        for i in range(nkeys):
            if recorder.key_index[i] >= kept:
                why = ks.WHY_TOO_MANY_ARGUMENTS
                continue
            arg = &recorder.argv[recorder.key_index[i]]
            if arg.kept != arg.length:
                why = ks.WHY_ARGUMENT_CUT
                continue
            number = self.table.number_of(PyBytes_FromStringAndSize(arg.ptr, arg.length))
            self.classes |= <uint64_t>1 << number
            one = self.places[number]
            if place >= 0 and one != place and other < 0:
                other = one
            elif place < 0:
                place = one
        if other >= 0:
            return self._apart("keys", "keys of this command", place, other)
        if why != ks.WHY_NOTHING:
            self.kind, self.cause = "uncountable", "the keys of this command can't all be told"
            return UNSURE
        return place

    cdef int _apart(self, str kind, str what, int one, int other) except -10:
        names = self.table.backends
        self.kind, self.cause = kind, f"{what} live on backends {names[one]} and {names[other]}"
        return APART

    cdef int _decide(self, const Spec *spec, int place, Py_ssize_t argc) except -10:
        """Where it goes, with transactions and WATCH looked at. Changes nothing but ``cause``."""
        cdef int kind = ks.KIND_PLAIN if spec == NULL else spec.kind
        if not self.authenticated:
            return ANYWHERE             # shunt answers it
        if place == UNSURE:
            place = APART
        if self.in_multi:
            return self._decide_in_multi(kind, place, argc)
        if self.watched >= 0 and self.watch_txn == 0 and self.queue.count == 0:
            self.watched = -1           # WATCH was refused, or RESET was sent
        if kind == ks.KIND_MULTI or kind == ks.KIND_UNWATCH or kind == ks.KIND_RESET:
            return self.watched
        if kind == ks.KIND_WATCH and self.watched >= 0 and place >= 0 and place != self.watched:
            return self._apart("watch", "watched keys", self.watched, place)
        return place

    cdef int _decide_in_multi(self, int kind, int place, Py_ssize_t argc) except -10:
        if kind == ks.KIND_EXEC:
            return END if self.spoiled and argc == 1 else ANYWHERE
        if kind == ks.KIND_DISCARD or kind == ks.KIND_RESET or kind == ks.KIND_QUIT or kind == ks.KIND_MULTI \
                or kind == ks.KIND_WATCH:
            return ANYWHERE
        if place < 0 or place == self.here or not (self.queued or self.spoiled or self.watched >= 0):
            return place
        return self._apart("transaction", "keys of this transaction", self.here, place)

    # ---- commands in pieces -------------------------------------------------------------------------------------------

    cdef Py_ssize_t _unfinished(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -3:
        """A command that goes on in the next read: given on as it comes once its keys are known, held back till then."""
        cdef PartialCommand start
        cdef const Spec *spec
        cdef Py_ssize_t used
        cdef int place
        if p[at] == b'*':
            start = PartialCommand(False, self.recorder.max_frame)
            if start.feed(p + at, n - at, &used) != SCAN_MORE:
                return n                # the session finds the same
            start.fill(self.recorder.argv)
            spec = self.recorder.table.lookup(self.recorder.argv, start.narg) if start.narg else NULL
            if not self.authenticated or start.remaining > BULK_MAX:
                self.streaming = start  # it is refused, be it by shunt or by Redis
                return n
            if spec != NULL and spec.specs and not ks.KIND_HELLO <= spec.kind <= ks.KIND_SHUTDOWN:
                place = self._decide(spec, self._place(spec, start.argc, start.narg), start.argc)
                if self.gates.held and place != APART and self._is_held(place):
                    self.want = HELD    # and is not read any further, however much of it is to come
                    return WAIT
                if place == self.here:
                    self._goes_on(spec, start.argc)
                    self.streaming = start
                    return n
        if n - at <= HELD_MAX:
            return WAIT
        self._flush(p, at, now_ns)
        self.up_pipe = self.close_after = True
        self.to_client = []
        self._answer(TOO_LARGE, now_ns)
        self.out_client.extend(self.to_client)
        self.seg = n
        return n

    cdef Py_ssize_t _streamed(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -3:
        """More of a command of which a part has been given on."""
        cdef Py_ssize_t used = 0
        cdef ScanResult result = self.streaming.feed(p + at, n - at, &used)
        if result == SCAN_MORE:
            return n
        self.streaming = None
        if result != SCAN_DONE:
            return n
        self._flush(p, at + used, now_ns)   # it may have been AUTH
        return at + used

    # ---- what is refused ----------------------------------------------------------------------------------------------

    cdef int _stand_in(self, int place, Py_ssize_t argc, Py_ssize_t kept, Py_ssize_t size, uint32_t flags,
                       int64_t now_ns) except -1:
        """Have the command in recorder.argv noted, and something else sent in its place."""
        cdef Entry *entry = self.queue.push()
        cdef bint silent = self.reply_off or self.skip_now
        error = EXECABORT if place == END else f"CROSSBACKEND {self.cause}"
        self.out_backend.append(DISCARD if place == END else PING)
        if entry == NULL:
            self._become_pipe("too-many-in-flight", now_ns)
            return 0
        entry.at_ns = now_ns
        entry.request_bytes = size
        entry.seq = self.seq
        self.seq += 1
        self.recorder.note(self.queue, entry, argc, kept, None)
        entry.blob_length = <int>(self.queue.arena_base + self.queue.arena_length - entry.blob)
        entry.flags |= flags | F_REPLIED_BY_PROXY
        entry.aux = -1                  # a database that it names is not gone to
        if place == END:
            self.in_multi = self.uncountable = False
            self.watched = -1
        else:
            self.spoiled = self.in_multi
            self.recorder.counters.crossbackend(self.kind, self._name_of(entry))
        self._next_skip()
        if silent:
            entry.mode = MODE_NONE
            self._settle_silent(now_ns)
            return 0
        entry.mode = MODE_STAND_IN
        self.splices += 1
        self.errors[entry.seq] = b"-%b\r\n" % error.encode()
        return 0

    cdef int _send_part(self, int64_t now_ns) except -1:
        """Have a part of a command noted, as a command of its own, and sent."""
        cdef int16_t mark = self.recorder.backend
        cdef list args = self.parts.next()
        cdef Entry *entry = self.queue.push()
        data = encode(args)
        if entry == NULL:
            raise MemoryError
        self._load(args)
        entry.at_ns = now_ns
        entry.request_bytes = len(data)
        entry.seq = self.seq
        self.seq += 1
        self.recorder.backend = self.marks[self.here]
        self.recorder.note(self.queue, entry, len(args), len(args), None)
        self.recorder.backend = mark
        entry.blob_length = <int>(self.queue.arena_base + self.queue.arena_length - entry.blob)
        entry.mode = MODE_STAND_IN
        self.splices += 1
        self.recorder.counters.crossbackend("split", self._name_of(entry))
        self.want = self.parts.left[0][0] if self.parts.left else self.here
        self.to_backend = [data]
        self.to_client = []
        return 0

    cdef void _stash(self, const char *p, Py_ssize_t n) noexcept:
        if self.swallowing and self.parts is not None and self.queue.head().mode == MODE_STAND_IN:
            self._keep_piece(p, n)
        else:
            GuardedSession._stash(self, p, n)

    cdef int _keep_piece(self, const char *p, Py_ssize_t n) except -1:
        self.pieces.append(PyBytes_FromStringAndSize(p, n))
        return 0

    cdef int _part_heard(self, Entry *head, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """The reply to a part is whole."""
        cdef Reply reply
        cdef bytes raw = b"".join(self.pieces) + PyBytes_FromStringAndSize(p, n)
        self.pieces = []
        self.swallowing = False
        self.splices -= 1
        whole = self.parts.heard(raw)
        if whole:
            self.to_client.append(whole)
            self.want = self.here
        memset(&reply, 0, sizeof(Reply))
        reply.kind = R_ARRAY if raw.startswith(b"*") else R_INTEGER if raw.startswith(b":") else R_ERROR
        reply.bytes = reply.head_length = len(raw)
        reply.head = PyBytes_AS_STRING(raw)
        self._reply(head, &reply, now_ns)
        return 0

    cdef str _name_of(self, Entry *entry):
        return "unknown" if entry.spec == NULL else self.recorder.table.names[entry.spec.id]

    cdef int _swallowed(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        cdef Entry *head = self.queue.head()
        cdef Reply reply
        cdef bytes raw
        if head.mode != MODE_STAND_IN:
            return GuardedSession._swallowed(self, p, n, now_ns)
        if self.parts is not None:
            return self._part_heard(head, p, n, now_ns)
        raw = PyBytes_FromStringAndSize(self.stash, self.stash_length) + PyBytes_FromStringAndSize(p, n)
        self.stash_length = 0
        self.swallowing = False
        self.splices -= 1
        error = self.errors.pop(head.seq)
        if raw.startswith(b"-"):        # it wants a password, loads its data, is busy: it says so itself
            head.flags &= ~<uint32_t>F_REPLIED_BY_PROXY
            raw = raw.replace(b"DISCARD", b"EXEC").replace(b"'discard'", b"'exec'").replace(
                b"'ping'", b"'%b'" % self._name_of(head).lower().encode())
        else:
            raw = error
        self.to_client.append(raw)
        memset(&reply, 0, sizeof(Reply))
        reply.kind = R_ERROR
        reply.bytes = len(raw)
        reply.head = PyBytes_AS_STRING(raw)
        reply.head_length = len(raw)
        self._reply(head, &reply, now_ns)
        return 0

    cdef void _apply_silent(self, Entry *entry) noexcept:
        if not entry.flags & F_REPLIED_BY_PROXY or entry.spec.kind == ks.KIND_EXEC:
            GuardedSession._apply_silent(self, entry)
