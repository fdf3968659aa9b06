# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A session that rehearses a target: it looks at each command before it goes on, and has some refused (``--rehearse``).

Knows: what stands in for a command that does not go on, and what the client reads then. Refuses to know: which commands
a target refuses (``rehearsal``, ``targets``), and sockets.

The rehearsal stands in front of a session of either mode. What is not refused it gives on to that session as it came.
For a command that is refused **the backend gets PING in its place, for EXEC it gets DISCARD**, and a good reply to
that becomes the target's error. So the order of replies, CLIENT REPLY and RESP3 need no care; a backend that asks for
a password, loads its data or is busy says so itself; and a transaction that is refused leaves nothing behind. Inside
MULTI a command that a target refuses only when it runs is queued as a PING, and its error put into EXEC's reply.

A command that is cut off at the end of a read is held back while it may be refused, at most HELD_MAX bytes of it; once
it is sure to be refused the rest is thrown away as it comes. A larger one that is not sure goes on, and is counted.
"""
# Over 300 lines: one way of a command through the rehearsal; C methods of one class can't be spread over files.
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memchr, memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from protocol cimport keyspecs as ks
from protocol.inline import split_inline
from protocol.keyspecs cimport Arg, Spec
from protocol.resp cimport (
    MAX_ARGS, SCAN_DONE, SCAN_EMPTY, SCAN_INLINE, SCAN_MORE, SCAN_TOO_BIG,
    PartialCommand, ReplyScan, Scan, ScanResult, scan_command, scan_reply,
)
from proxy.engine.guarded cimport GuardedSession
from proxy.engine.inflight cimport MODE_CHANNELS, MODE_NONE, MODE_STAND_IN, Entry
from proxy.engine.pooled cimport PooledSession
from proxy.engine.recorder cimport (
    F_INLINE, F_REHEARSED, F_REPLIED_BY_PROXY, R_ARRAY, R_ERROR, R_NULL, R_SIMPLE, Recorder, Reply,
)
from proxy.engine.session cimport EDITED, FORWARD, Session

from proxy.engine.access import Access
from proxy.engine.guarded import session as plain_session
from proxy.engine.rehearsal import Asked, Decision, TransactionCheck, Way, decide
from proxy.engine.session import TOO_BIG

cdef enum:
    HELD_MAX = 1048576          # bytes held back of a command that may be refused
    NAME_MAX = 512              # bytes in which the name of any command has come
    START = 64                  # bytes kept of EXEC's reply, for its row
    MAY_BOUND = 2               # rehearsal.BOUNDARY
    OWN = 2                     # beside FORWARD and EDITED: what the session made of it alone
    HOLD = -1                   # what is left waits for more
    STOP = -2                   # what is left waits for the session

cdef bytes QUEUED = b"+QUEUED\r\n"
cdef bytes UNREADABLE = b"-ERR Protocol error\r\n"

#: What the backend gets in the command's place.
INSTEAD = {
    Way.ANSWER: b"*1\r\n$4\r\nPING\r\n",
    Way.LATER: b"*1\r\n$4\r\nPING\r\n",
    Way.END: b"*1\r\n$7\r\nDISCARD\r\n",
    Way.RUN: b"*1\r\n$4\r\nEXEC\r\n",
}
#: What is counted of commands that don't simply go on, or go on unjudged.
OUTCOMES = ("refused", "keys-unknown", "too-large", "subscribed")
#: In front of a session without credentials: nothing of them is edited.
NO_ACCESS = Access(answers=False)


def session(Recorder recorder, bytes addr, access, rehearsing):
    """The session of a client in session mode, rehearsing if it is one of those chosen. Both may be None."""
    if rehearsing is None or not rehearsing.chooses(recorder.conns + 1):
        return plain_session(recorder, addr, access)
    return RehearsedSession(recorder, addr, access or NO_ACCESS, rehearsing)


def pooled_session(Recorder recorder, bytes addr, access, tables, int64_t first_id, rehearsing):
    """The same for a client that shares backend connections."""
    if rehearsing is None or not rehearsing.chooses(recorder.conns + 1):
        return PooledSession(recorder, addr, access, tables, first_id)
    return RehearsedPooledSession(recorder, addr, access, tables, first_id, rehearsing)


cdef class HoledReply:
    """EXEC's reply on its way to the client, with some of its elements exchanged. ``holes``: place -> what stands there."""

    cdef dict holes
    cdef ReplyScan scan
    cdef Py_ssize_t place
    cdef bint inside
    cdef readonly bytes start

    def __init__(self, dict holes):
        self.holes = holes
        self.start = b""

    cdef bytes feed(self, const char *p, Py_ssize_t n):
        """What the client gets for these bytes."""
        cdef Py_ssize_t at = 0, seg = 0, begin, used
        cdef const char *newline
        cdef ScanResult result
        cdef list out = []
        if len(self.start) < START:
            self.start += PyBytes_FromStringAndSize(p, min(n, START - len(self.start)))
        while at < n:
            if not self.inside:         # the array's own header, or all of an error
                newline = <const char *>memchr(p + at, 10, n - at)
                self.inside = newline != NULL
                at = n if newline == NULL else newline - p + 1
                continue
            begin = at
            result = scan_reply(&self.scan, p + at, n - at, &used)
            at = at + used if result == SCAN_DONE else n
            if self.place in self.holes:
                out.append(PyBytes_FromStringAndSize(p + seg, begin - seg))
                seg = at
                if result == SCAN_DONE:
                    out.append(self.holes[self.place])
            if result == SCAN_DONE:
                self.place += 1
                memset(&self.scan, 0, sizeof(ReplyScan))
        out.append(PyBytes_FromStringAndSize(p + seg, n - seg))
        return b"".join(out)


cdef class Rehearser:
    """What one connection's rehearsal knows. ``rehearsing``: ``rehearsal.Rehearsing``."""

    cdef object rules, txn, dropped_txn
    cdef object dropping            # the Decision on a command whose rest is thrown away; None: none is
    cdef bytes suspects
    cdef bint at_queue              # the target looks at a transaction's keys when they are queued
    cdef PartialCommand streaming   # the command under way, of which a part was given on or thrown away
    cdef Py_ssize_t unjudged        # of the end of session.held
    cdef Py_ssize_t seg             # where the bytes begin that go on as they are
    cdef bint passing               # it is the session's own turn
    cdef list to_backend, to_client
    cdef int due
    cdef dict decisions             # seq -> Decision on a command in flight
    # the open transaction, as the replies tell it
    cdef Py_ssize_t heard, queued, refused_at
    cdef dict later                 # place in EXEC's reply -> error
    cdef HoledReply holed

    def __init__(self, rehearsing):
        self.rules = rehearsing.rules
        self.suspects = rehearsing.suspects
        self.at_queue = rehearsing.rules.transaction is TransactionCheck.AT_QUEUE
        self.decisions = {}
        self.opened()

    # ---- from the client ----------------------------------------------------------------------------------------------

    cdef int take(self, Session session, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """As the session's on_client_bytes."""
        cdef PooledSession pooled = session if isinstance(session, PooledSession) else None
        cdef bytes data = None
        cdef int done = EDITED
        if session.close_after or self._stopped(session):
            self.unjudged = 0 if session.close_after else self.unjudged + n
            return self._own_turn(session, p, n, now_ns)
        self.to_backend = []
        self.to_client = []
        self.due = 0
        if self.unjudged:
            data = self._take_back(session, p, n, now_ns)
            if not self._waits(session):
                done = self._judge(session, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), False, now_ns)
            else:
                self._keep(session, data)
        else:
            done = self._judge(session, p, n, True, now_ns)
        if done != EDITED:
            return FORWARD if done == FORWARD else EDITED
        session.to_backend = self.to_backend
        session.to_client = self.to_client
        if pooled is not None:
            pooled.due = self.due
        return EDITED

    cdef bytes _take_back(self, Session session, const char *p, Py_ssize_t n, int64_t now_ns):
        """What was kept of the reads before, and this one; the session gets what is already judged of it."""
        cdef Py_ssize_t judged = PyBytes_GET_SIZE(session.held) - self.unjudged
        cdef bytes data = session.held[judged:]
        if n:
            data += PyBytes_FromStringAndSize(p, n)
        session.held = session.held[:judged] or None
        self.unjudged = 0
        if judged:
            self._give(session, NULL, 0, now_ns)
        return data

    cdef int _keep(self, Session session, bytes data) except -1:
        """What can't be judged yet waits at the end of the session's own."""
        session.held = data if session.held is None else session.held + data
        self.unjudged = len(data)
        return 0

    cdef bint _stopped(self, Session session) except -1:
        return isinstance(session, PooledSession) and (<PooledSession>session).stopped

    cdef bint _waits(self, Session session) except -1:
        """Whether the session has not taken in all that it was given, or must be looked at before it is given more."""
        return session.held is not None or self._stopped(session) or (
            isinstance(session, PooledSession) and (<PooledSession>session).reset)

    cdef int _own_turn(self, Session session, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        self.passing = True
        try:
            return session.on_client_bytes(p, n, now_ns)
        finally:
            self.passing = False

    cdef int _give(self, Session session, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """Have the session take in judged bytes; what it makes of them is collected."""
        if self._own_turn(session, p, n, now_ns) != EDITED:
            self.to_backend.append(PyBytes_FromStringAndSize(p, n))
        else:
            self.to_backend.extend(session.to_backend)
            self.to_client.extend(session.to_client)
        if isinstance(session, PooledSession):
            self.due += (<PooledSession>session).due
        return 0

    cdef int _flush(self, Session session, const char *p, Py_ssize_t upto, int64_t now_ns) except -1:
        if self.seg < upto:
            self._give(session, p + self.seg, upto - self.seg, now_ns)
        self.seg = upto
        return 0

    cdef int _judge(self, Session session, const char *p, Py_ssize_t n, bint fresh, int64_t now_ns) except -1:
        """Look at each command. FORWARD: all of it goes on as it is; OWN: see the session's own to_backend, to_client."""
        cdef Py_ssize_t at = 0, then
        self.seg = 0
        if self.txn is not None and not session.in_multi and session.held is None:
            self.txn = None             # MULTI was refused
        while at < n and not session.up_pipe and not session.close_after:
            if self.streaming is not None:
                at = self._stream(session, p, n, at, now_ns)
                continue
            then = self._one(session, p, n, at, now_ns)
            if then < 0:
                self._flush(session, p, at, now_ns)
                self._keep(session, PyBytes_FromStringAndSize(p + at, n - at))
                return EDITED
            at = then
        if fresh and self.seg == 0 and not self.to_backend and not self.to_client:
            return FORWARD if self._own_turn(session, p, n, now_ns) == FORWARD else OWN
        self._flush(session, p, n, now_ns)
        return EDITED

    cdef Py_ssize_t _one(self, Session session, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -3:
        """One command. Where the next begins, HOLD or STOP."""
        cdef Scan scan
        cdef ScanResult result = scan_command(p + at, n - at, session.recorder.argv, session.recorder.max_frame, &scan)
        cdef list words = None
        if result == SCAN_MORE:
            return self._unfinished(session, p, n, at, now_ns)
        if result == SCAN_INLINE:
            words = split_inline(PyBytes_FromStringAndSize(p + at, scan.used - 1))
            if words is None:
                return n                # the backend says what is wrong with it
            if not words:
                return at + scan.used
            session._load(words)        # recorder.argv points into ``words``, which lives until the end of this
            scan.argc = len(words)
            scan.kept = min(scan.argc, MAX_ARGS)
        elif result == SCAN_EMPTY:
            return at + scan.used
        elif result != SCAN_DONE:
            return n
        return self._command(session, p, at, &scan, words, now_ns)

    cdef Py_ssize_t _command(self, Session session, const char *p, Py_ssize_t at, Scan *scan, list words,
                             int64_t now_ns) except -3:
        cdef const Spec *spec = session.recorder.table.lookup(session.recorder.argv, scan.kept)
        cdef Py_ssize_t after = at + scan.used
        cdef int why = ks.WHY_NOT_IN_TABLE
        if spec != NULL and self.txn is None and not self._may(spec):
            if spec.replies == ks.REPLIES_RAW:
                self._flush(session, p, after, now_ns)      # what comes next are no commands any more
            return after
        asked = self._asked(session, spec, scan.argc, scan.kept, True, &why)
        txn, decision = decide(self.rules, self.txn, asked)
        if decision is None:
            self.txn = txn
            if why != ks.WHY_NOTHING and asked.fits:
                session.recorder.counters.rehearsed("keys-unknown", asked.name)
            return after
        self._flush(session, p, at, now_ns)
        if self._waits(session):
            return STOP                 # asked again, when the session has taken in what comes before
        if session.up_pipe or session.close_after or not self._refusable(session, asked):
            return after
        if words is None:
            scan_command(p + at, scan.used, session.recorder.argv, 0, scan)
        else:
            session._load(words)
        self.txn = txn
        self._stand_in(session, decision, scan.argc, scan.kept, scan.used, 0 if words is None else F_INLINE, None, now_ns)
        self.seg = after
        return after

    cdef int _may(self, const Spec *spec) except -1:
        return (<const uint8_t *>PyBytes_AS_STRING(self.suspects))[spec.id]

    cdef bint _refusable(self, Session session, asked) except -1:
        """Whether the client may be answered by shunt, now that the session knows all that came before."""
        if not session.trusted:
            self.txn = None             # the password comes first
            return False
        if _listens(session):
            session.recorder.counters.rehearsed("subscribed", asked.name)
            return False
        return True

    cdef object _asked(self, Session session, const Spec *spec, Py_ssize_t argc, Py_ssize_t kept, bint whole, int *why):
        """The command in recorder.argv, as ``rehearsal`` looks at it; why some of its keys can't be told."""
        cdef Recorder recorder = session.recorder
        cdef Py_ssize_t nkeys = 0, i
        cdef Arg *arg
        cdef bint fits
        cdef list keys = [], args = []
        if spec == NULL:
            return Asked("")
        why[0] = ks.WHY_NOTHING
        fits = argc == spec.arity if spec.arity > 0 else argc >= -spec.arity
        if fits:
            why[0] = ks.find_keys(spec, recorder.argv, argc, kept, recorder.key_index, MAX_ARGS, &nkeys)
        for i in range(min(nkeys, MAX_ARGS)):
            if recorder.key_index[i] >= kept:
                continue
            arg = &recorder.argv[recorder.key_index[i]]
            if arg.kept == arg.length:
                keys.append(PyBytes_FromStringAndSize(arg.ptr, arg.length))
            else:
                why[0] = ks.WHY_ARGUMENT_CUT
        if why[0] == ks.WHY_BAD_ARGUMENTS:
            why[0] = ks.WHY_NOTHING     # the source refuses it, in words that no cluster comes before
        if whole and (spec.kind == ks.KIND_SELECT or spec.kind == ks.KIND_COPY or spec.kind == ks.KIND_SORT):
            args = [PyBytes_FromStringAndSize(recorder.argv[i].ptr, recorder.argv[i].kept) for i in range(kept)]
        return Asked(recorder.table.names[spec.id], keys, args, fits, whole)

    # ---- commands in pieces ---------------------------------------------------------------------------------------------

    cdef Py_ssize_t _unfinished(self, Session session, const char *p, Py_ssize_t n, Py_ssize_t at,
                                int64_t now_ns) except -3:
        """A command that goes on in the next read: held back, thrown away from here on, or given on as it comes."""
        cdef PartialCommand start
        cdef Recorder recorder = session.recorder
        cdef Py_ssize_t used
        cdef const Spec *spec = NULL
        cdef int why = 0
        if p[at] != b'*':
            return HOLD
        self._flush(session, p, at, now_ns)
        if self._waits(session):
            return STOP
        start = PartialCommand(recorder.mode == 2 or session.tap is not None, recorder.max_frame)
        if session.up_pipe or session.close_after or start.feed(p + at, n - at, &used) != SCAN_MORE:
            return n                    # the session finds the same
        start.fill(recorder.argv)
        if start.narg:
            spec = recorder.table.lookup(recorder.argv, start.narg)
        if (start.narg == 0 or (spec != NULL and spec.container and start.narg < start.argc)) and n - at <= NAME_MAX:
            return HOLD
        self.streaming = start
        if spec == NULL or not session.trusted or not (
                self._may(spec) or (self.at_queue and self.txn is not None and spec.specs)):
            return n
        asked = self._asked(session, spec, start.argc, start.narg, False, &why)
        txn, decision = (None, None) if self._may(spec) == MAY_BOUND else decide(self.rules, self.txn, asked)
        if decision is not None and self._refusable(session, asked):
            self.dropping = decision
            self.dropped_txn = txn
            self.seg = n
        elif n - at <= HELD_MAX:
            self.streaming = None
            return HOLD
        return n

    cdef Py_ssize_t _stream(self, Session session, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -3:
        """More of a command of which a part was given on, or thrown away."""
        cdef PartialCommand partial = self.streaming
        cdef Recorder recorder = session.recorder
        cdef const Spec *spec
        cdef Py_ssize_t used = 0
        cdef int why = 0
        cdef ScanResult result = partial.feed(p + at, n - at, &used)
        decision = self.dropping
        if result == SCAN_MORE:
            self.seg = n if decision is not None else self.seg
            return n
        self.streaming = self.dropping = None
        if result == SCAN_DONE:
            partial.fill(recorder.argv)
            if decision is not None:
                self.txn = self.dropped_txn
                self._stand_in(session, decision, partial.argc, partial.kept_args, partial.total, 0, partial, now_ns)
                self.seg = at + used
                return at + used
            spec = recorder.table.lookup(recorder.argv, partial.kept_args)
            asked = self._asked(session, spec, partial.argc, partial.kept_args, True, &why)
            self.txn, decision = decide(self.rules, self.txn, asked)
            if spec != NULL and (decision is not None or (self._may(spec) and partial.total > HELD_MAX)):
                recorder.counters.rehearsed("too-large", asked.name)
        elif decision is not None:
            self.seg = n
            session.up_pipe = session.close_after = True
            session.to_client = []
            session._answer(TOO_BIG if result == SCAN_TOO_BIG else UNREADABLE, now_ns)
            self.to_client.extend(session.to_client)
            return n
        return at + used if result == SCAN_DONE else n

    # ---- what stands in -------------------------------------------------------------------------------------------------

    cdef int _stand_in(self, Session session, decision, Py_ssize_t argc, Py_ssize_t kept, Py_ssize_t size, uint32_t flags,
                       PartialCommand partial, int64_t now_ns) except -1:
        """Have the command in recorder.argv noted, and something else sent in its place."""
        cdef Entry *entry = session.queue.push()
        cdef bint silent = session.reply_off or session.skip_now
        if decision.way is Way.RUN and session.uncountable:
            decision = Decision(Way.END, decision.error)    # what would come with its reply can't be told apart
        if decision.way is not Way.ANSWER and decision.way is not Way.LATER:
            session.in_multi = session.uncountable = False
        self.to_backend.append(INSTEAD[decision.way])
        self.due += 1
        if entry == NULL:
            session._become_pipe("too-many-in-flight", now_ns)
            return 0
        entry.at_ns = now_ns
        entry.request_bytes = size
        entry.seq = session.seq
        session.seq += 1
        session.recorder.note(session.queue, entry, argc, kept, partial)
        entry.blob_length = <int>(session.queue.arena_base + session.queue.arena_length - entry.blob)
        entry.flags |= flags
        if decision.way is not Way.RUN:
            entry.flags |= F_REHEARSED | F_REPLIED_BY_PROXY
        entry.aux = -1                  # a database that it names is not gone to
        session._next_skip()
        if silent:
            entry.mode = MODE_NONE
            if decision.way is not Way.RUN:
                self._count(session, entry)
            session._settle_silent(now_ns)
            return 0
        entry.mode = MODE_STAND_IN
        session.splices += 1
        self.decisions[entry.seq] = decision
        return 0

    cdef int _count(self, Session session, Entry *entry) except -1:
        session.recorder.counters.rehearsed("refused", session.recorder.table.names[entry.spec.id])
        return 0

    # ---- from the backend -----------------------------------------------------------------------------------------------

    def opened(self):
        """MULTI has been taken: a new transaction."""
        self.heard = self.queued = 0
        self.refused_at = -1
        self.later = {}

    cdef int hear(self, Entry *entry, Reply *reply) except -1:
        """The reply to a command of the open transaction."""
        if reply.kind == R_SIMPLE:
            self.queued += 1
        elif reply.kind == R_ERROR and self.refused_at < 0 and not entry.flags & F_REHEARSED and (
                entry.spec == NULL or (entry.spec.kind != ks.KIND_MULTI and entry.spec.kind != ks.KIND_WATCH)):
            self.refused_at = self.heard
        self.heard += 1
        return 0

    cdef bint begins(self, Session session, const char *p, Py_ssize_t n) except -1:
        """A part of the reply to a stand-in that goes on in the next read. True: it was dealt with."""
        cdef Entry *head = session.queue.head()
        if not session.swallowing or head == NULL or head.mode != MODE_STAND_IN \
                or self.decisions[head.seq].way is not Way.RUN:
            return False
        if self.holed is None:
            self.holed = HoledReply(self.later)
        session.to_client.append(self.holed.feed(p, n))
        return True

    cdef int ends(self, Session session, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """The reply to a stand-in is whole; p, n: the last part of it."""
        cdef Entry *head = session.queue.head()
        cdef Reply reply
        cdef bytes raw
        memset(&reply, 0, sizeof(Reply))
        session.splices -= 1
        if self.begins(session, p, n):
            raw = self.holed.start
            self.holed = None
            reply.kind = R_NULL if session.scan.null or session.scan.kind == b'_' else \
                R_ERROR if session.scan.kind == b'-' else R_ARRAY
            reply.bytes = session.scan.bytes
            self.decisions.pop(head.seq)
        else:
            raw = PyBytes_FromStringAndSize(session.stash, session.stash_length) + PyBytes_FromStringAndSize(p, n)
            session.stash_length = 0
            raw = self._instead(session, head, raw)
            session.to_client.append(raw)
            reply.kind = R_ERROR if raw.startswith(b"-") else R_SIMPLE
            reply.bytes = len(raw)
        session.swallowing = False
        reply.head = PyBytes_AS_STRING(raw)
        reply.head_length = len(raw)
        session._reply(head, &reply, now_ns)
        return 0

    cdef bytes _instead(self, Session session, Entry *head, bytes raw):
        """What the client reads where the backend answered ``raw`` to the stand-in."""
        decision = self.decisions.pop(head.seq)
        if raw.startswith(b"-"):
            head.flags &= ~<uint32_t>(F_REHEARSED | F_REPLIED_BY_PROXY)
            return _in_its_name(raw, decision, session.recorder.table.names[head.spec.id])
        self._count(session, head)
        if decision.way is Way.LATER and raw == QUEUED:
            self.later[self.queued] = decision.reply()
            return raw
        if decision.way is Way.ANSWER and session.multi:
            session._queue_slot(head)   # the report tells from it why EXEC is refused
        return decision.reply(self.refused_at)


cdef bytes _in_its_name(bytes raw, decision, str name):
    """The source's own error, as it would have worded it for the command that was not sent."""
    if decision.way is Way.END:
        return raw.replace(b"DISCARD", b"EXEC").replace(b"'discard'", b"'exec'")
    return raw.replace(b"'ping'", b"'%b'" % name.lower().replace(" ", "|").encode())


cdef bint _listens(Session session) noexcept:
    """Whether messages or lines may come where a reply does: a RESP2 subscription or MONITOR, be it under way."""
    cdef Py_ssize_t i
    cdef Entry *entry
    if session.monitor or (not session.resp3 and session.channels + session.patterns + session.shards > 0):
        return True
    for i in range(session.queue.count):
        entry = &session.queue.ring[(session.queue.first + i) & (session.queue.capacity - 1)]
        if entry.spec != NULL and (entry.spec.kind == ks.KIND_MONITOR or (
                entry.mode == MODE_CHANNELS and entry.spec.kind <= ks.KIND_SSUBSCRIBE and not session.resp3)):
            return True
    return False


cdef class RehearsedSession(GuardedSession):
    """A rehearsing client with a backend connection of its own."""

    cdef Rehearser rehearser

    def __init__(self, Recorder recorder, bytes addr, access, rehearsing):
        GuardedSession.__init__(self, recorder, addr, access)
        self.rehearser = Rehearser(rehearsing)

    cdef int on_client_bytes(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        if self.rehearser.passing:
            return GuardedSession.on_client_bytes(self, p, n, now_ns)
        return self.rehearser.take(self, p, n, now_ns)

    cdef void _stash(self, const char *p, Py_ssize_t n) noexcept:
        if not self.rehearser.begins(self, p, n):
            GuardedSession._stash(self, p, n)

    cdef int _swallowed(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        if self.queue.head().mode != MODE_STAND_IN:
            return GuardedSession._swallowed(self, p, n, now_ns)
        return self.rehearser.ends(self, p, n, now_ns)

    cdef void _apply_silent(self, Entry *entry) noexcept:
        if not entry.flags & F_REHEARSED or entry.spec.kind == ks.KIND_EXEC:
            GuardedSession._apply_silent(self, entry)

    cdef void _open_transaction(self) noexcept:
        self.rehearser.opened()
        GuardedSession._open_transaction(self)

    cdef void _in_transaction(self, Entry *entry, Reply *reply) noexcept:
        self.rehearser.hear(entry, reply)
        GuardedSession._in_transaction(self, entry, reply)


cdef class RehearsedPooledSession(PooledSession):
    """A rehearsing client that shares backend connections."""

    cdef Rehearser rehearser

    def __init__(self, Recorder recorder, bytes addr, access, tables, int64_t first_id, rehearsing):
        PooledSession.__init__(self, recorder, addr, access, tables, first_id)
        self.rehearser = Rehearser(rehearsing)

    cdef int on_client_bytes(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        if self.rehearser.passing:
            return PooledSession.on_client_bytes(self, p, n, now_ns)
        return self.rehearser.take(self, p, n, now_ns)

    cdef void _stash(self, const char *p, Py_ssize_t n) noexcept:
        if not self.rehearser.begins(self, p, n):
            PooledSession._stash(self, p, n)

    cdef int _swallowed(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        if self.queue.head().mode != MODE_STAND_IN:
            return PooledSession._swallowed(self, p, n, now_ns)
        return self.rehearser.ends(self, p, n, now_ns)

    cdef void _apply_silent(self, Entry *entry) noexcept:
        if not entry.flags & F_REHEARSED or entry.spec.kind == ks.KIND_EXEC:
            PooledSession._apply_silent(self, entry)

    cdef void _open_transaction(self) noexcept:
        self.rehearser.opened()
        PooledSession._open_transaction(self)

    cdef void _in_transaction(self, Entry *entry, Reply *reply) noexcept:
        self.rehearser.hear(entry, reply)
        PooledSession._in_transaction(self, entry, reply)
