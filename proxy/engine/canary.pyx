# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A session of a client that was chosen by SPLIT: its reads go to the target until it does anything else.

Knows: which of its commands the target may answer, when it leaves for good, and what of it can be asked of the backend
again when the target breaks off. Refuses to know: who is chosen and how long a split may last (``splitting``), and
connections (``net.canary``).

Place 0 is the backend, 1 the target; going over is ``routed``'s. The first command that is not known to be a read makes
it leave: it stands at the backend then, and its bytes are no longer looked at here. So what it reads after its first
write is what it wrote. Nothing of a split is ever refused: where ``routed`` would, this goes to the backend.
"""
from libc.stdint cimport int64_t, uint32_t
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from protocol cimport keyspecs as ks
from protocol.keyspecs cimport Spec
from protocol.resp cimport (
    MAX_ARGS, SCAN_DONE, SCAN_EMPTY, SCAN_INLINE, SCAN_MORE, SCAN_TOO_BIG, PartialCommand, Scan, ScanResult, scan_command,
)
from proxy.engine.inflight cimport Entry
from proxy.engine.recorder cimport R_ERROR, Recorder, Reply
from proxy.engine.routed cimport ANYWHERE, APART, UNSURE, WAIT, RoutedSession
from proxy.engine.session cimport Session
from proxy.engine.tap cimport Tap

from proxy.engine import canary_commands
from proxy.engine.canary_commands import LEFT

cdef enum:
    KEPT_MOST = 65536           # bytes of an unfinished command that wait for its end
    SENT_MOST = 65536           # bytes in flight at the target that could be asked of the backend again
    READ = 0                    # canary_commands.Way
    STAYS = 1
    HOME = 2
    BLOCKS = 5

cdef str BLOCKING = LEFT[canary_commands.Way.BLOCKS]


cdef class Canary:
    """What the sessions of one split share. ``ways``: canary_commands.Way of each command by its id; ``name``: a regular
    expression (bytes) for the clients' names, None: any. ``on_refusal(command, line)`` is called when the target answers
    a read with an error: the split is over then. It must be quick and not fail."""

    cdef:
        bytes ways
        object on_refusal
        public object name
        public bint on              # the split goes on
        readonly int64_t chosen, joined, reads
        readonly dict left          # canary_commands.REASONS -> clients

    def __init__(self, bytes ways, name, on_refusal):
        self.ways = ways
        self.name = name
        self.on_refusal = on_refusal
        self.on = True
        self.left = {}

    cdef int leaves(self, str why) except -1:
        if self.on:
            self.left[why] = self.left.get(why, 0) + 1
        return 0

    cdef int refuse(self, str command, bytes line) except -1:
        if self.on:
            self.on = False
            self.on_refusal(command, line)
        return 0


cdef class CanarySession(RoutedSession):
    """``accesses``, ``marks`` as for a RoutedSession: of the backend, and of the target."""

    cdef:
        readonly Canary canary
        readonly bint gone          # it has left, for good
        bint member                 # its name was looked at, and fits
        bytes asked                 # of the target since nothing was in flight; None: too much to be kept
        bint heard                  # one of the replies to that has come

    def __init__(self, Recorder recorder, bytes addr, accesses, table, marks, Canary canary):
        RoutedSession.__init__(self, recorder, addr, accesses, table, marks)
        self.canary = canary
        canary.chosen += 1

    # ---- what others may ask ------------------------------------------------------------------------------------------

    @property
    def over(self):
        """Whether the backend answers all that comes from now on."""
        return self._over()

    cdef bint _over(self) noexcept:
        return self.gone or not self.canary.on

    def joins(self):
        """Whether its reads go to the target; asked when it is about to go there, and nothing is in flight. The name
        that it has then decides, once."""
        if self._over():
            return False
        if not self.member and self.canary.name is not None and self.canary.name.fullmatch(self.name) is None:
            self._leave(canary_commands.NAME)
            return False
        if not self.member:
            self.member = True
            self.canary.joined += 1
        return True

    def leave_split(self, str why):
        """From now on the backend answers all that it sends. ``why``: one of REASONS."""
        self._leave(why)

    def admit(self, access):
        self.access = access
        self.accesses = (access, *self.accesses[1:])

    @property
    def asked_ns(self):
        """When the oldest command was sent to the target of which not a byte of the reply has come; -1: there is none."""
        cdef Entry *head = self.queue.head()
        return head.at_ns if self.here and head != NULL and not self.scan.started else -1

    # ---- the way back -------------------------------------------------------------------------------------------------

    def recall(self):
        """The split is over: it is to go back to the backend as soon as nothing is in flight."""
        if self.here and self.want < 0:
            self.want = 0

    def settled(self):
        """Its connection is one to the backend, whatever it was before."""
        self.gone = True
        self.here = 0
        if self.want > 0:
            self.want = 0

    def stay(self, str kind, str cause, int64_t now_ns):
        """It stands at the backend and is not to leave it: what waits goes there. See to_backend, to_client."""
        self._look_again(now_ns)

    def reclaim(self, int64_t now_ns):
        """The connection to the target has ended. True: it is to go back, and what was in flight is asked of the backend.
        False: a part of that has been answered, or was too much to be kept, so its client must end."""
        if not self.here:
            return False
        if self.queue.count or self.partial is not None:
            if self.heard or self.asked is None or self.scan.started or self.splices or self.partial is not None \
                    or self.up_pipe or self.down_pipe:
                return False
            self.drop_unsent(self.queue.count, now_ns)
            self.rest = self.asked if self.rest is None else self.asked + self.rest
            self._leave(canary_commands.LOST)
        self.asked = b""
        self.want = 0
        return True

    # ---- from the client ----------------------------------------------------------------------------------------------

    cdef int _looked(self, const char *p, Py_ssize_t n, bint fresh, int64_t now_ns) except -1:
        if self.here == 0 and self.streaming is None and self._over():
            return self._own(p, n, now_ns)
        return RoutedSession._looked(self, p, n, fresh, now_ns)

    cdef int _own(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        if self.here:
            if self.queue.count == 0 and self.partial is None:
                self.asked = b""
                self.heard = False
            if self.asked is not None:
                self.asked = self.asked + PyBytes_FromStringAndSize(p, n) if len(self.asked) + n <= SENT_MOST else None
        return RoutedSession._own(self, p, n, now_ns)

    cdef Py_ssize_t _one(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -3:
        cdef Scan scan
        cdef ScanResult result
        if not self._over():
            result = scan_command(p + at, n - at, self.recorder.argv, self.recorder.max_frame, &scan)
            if result == SCAN_INLINE or (result == SCAN_MORE and p[at] != b'*'):
                self._leave(canary_commands.INLINE)
            elif result != SCAN_DONE and result != SCAN_MORE and result != SCAN_EMPTY and result != SCAN_TOO_BIG:
                self._leave(canary_commands.NOT_RESP)
        if self._over():
            return self._homeward(n)
        return RoutedSession._one(self, p, n, at, now_ns)

    cdef Py_ssize_t _homeward(self, Py_ssize_t n) except -3:
        """All that is left goes to the backend, unseen. Where the next command begins, or WAIT."""
        if self.here == 0:
            return n
        self.want = 0
        return WAIT

    cdef Py_ssize_t _unfinished(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -3:
        cdef Py_ssize_t then = RoutedSession._unfinished(self, p, n, at, now_ns)
        if then == n and self.streaming is None:
            self._leave(canary_commands.NOT_RESP)
        elif then == WAIT and n - at > KEPT_MOST:
            self._leave(canary_commands.TOO_LARGE)
        elif then == n or not self._over():
            return then
        return self._homeward(n)

    cdef int _goes_on(self, const Spec *spec, Py_ssize_t argc) except -1:
        if self.here and spec != NULL and PyBytes_AS_STRING(self.canary.ways)[spec.id] == READ:
            self.canary.reads += 1
        return 0

    cdef void _command_of(self, Py_ssize_t argc, Py_ssize_t kept, Py_ssize_t size, uint32_t flags, int64_t now_ns,
                          PartialCommand partial) noexcept:
        cdef Tap tap = self.tap
        if self.here == 0 or tap is None:
            RoutedSession._command_of(self, argc, kept, size, flags, now_ns, partial)
            return
        self.tap = None                 # what the target answers is nothing for the mirror
        RoutedSession._command_of(self, argc, kept, size, flags, now_ns, partial)
        self.tap = tap

    # ---- where a command goes -----------------------------------------------------------------------------------------

    cdef int _leave(self, str why) except -10:
        """It leaves. Returns its place."""
        if not self.gone:
            self.gone = True
            self.canary.leaves(why)
        return 0

    cdef int _place(self, const Spec *spec, Py_ssize_t argc, Py_ssize_t kept) except -10:
        cdef int way
        self.guessed = False
        if self._over():
            return 0
        if not self.authenticated:
            return ANYWHERE             # shunt answers it
        if spec == NULL:
            return self._leave(canary_commands.UNKNOWN)
        way = PyBytes_AS_STRING(self.canary.ways)[spec.id]
        if way == READ:
            return self._place_of_read(spec, argc, kept)
        if way == STAYS or (spec.kind == ks.KIND_AUTH and self.access.answers):
            return ANYWHERE
        if spec.kind == ks.KIND_HELLO and not self.access.answers \
                and ks.has_secret(spec, self.recorder.argv, argc, kept):
            return self._leave(LEFT[canary_commands.Way.CONNECTION])
        return 0 if way == HOME else self._leave(LEFT[way])

    cdef int _place_of_read(self, const Spec *spec, Py_ssize_t argc, Py_ssize_t kept) except -10:
        """1 only where it is known which arguments are keys, and that nothing else is read, and that it does not wait."""
        cdef Recorder recorder = self.recorder
        cdef Py_ssize_t nkeys = 0
        cdef int why
        cdef bint whole = kept == argc or kept == MAX_ARGS
        if argc < (spec.arity if spec.arity > 0 else -spec.arity) or (spec.arity > 0 and argc > spec.arity):
            return 0                    # its client's mistake, which must not look like the target's
        if not whole and (spec.kind == ks.KIND_XREAD or spec.kind == ks.KIND_SORT):
            return UNSURE
        if ks.may_block(spec, recorder.argv, argc, kept):
            return self._leave(BLOCKING)
        if ks.has_pattern(spec, recorder.argv, argc, kept):
            return 0
        why = ks.find_keys(spec, recorder.argv, argc, kept, recorder.key_index, MAX_ARGS, &nkeys)
        if nkeys == 0 and not whole and why != ks.WHY_NOTHING:
            return UNSURE
        if nkeys == 0 or (why != ks.WHY_NOTHING and why != ks.WHY_TOO_MANY_ARGUMENTS):
            return 0
        return 1

    cdef int _decide(self, const Spec *spec, int place, Py_ssize_t argc) except -10:
        return APART if place == UNSURE else place

    # ---- from the backend ---------------------------------------------------------------------------------------------

    cdef void _reply(self, Entry *head, Reply *reply, int64_t now_ns) noexcept:
        if self.here:
            self.heard = True
            if reply.kind == R_ERROR:
                self._refused(head, reply)
        RoutedSession._reply(self, head, reply, now_ns)

    cdef int _refused(self, Entry *head, Reply *reply) except -1:
        line = PyBytes_FromStringAndSize(reply.head, min(reply.head_length, 256)).split(b"\r", 1)[0][1:]
        return self.canary.refuse(self._name_of(head), line)
