# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""One client's conversation with Redis, without its sockets: bytes in, at most one verdict per read out.

Knows: which command each reply belongs to, and the connection's state as far as replies depend on it (MULTI, pub/sub,
MONITOR, CLIENT REPLY, protocol version, database, name). Refuses to know: sockets, clocks, files.

Two state machines, one for each direction, joined by the in-flight queue:

* Commands are seen before their replies. What changes *whether* a command is answered (CLIENT REPLY, SUBSCRIBE,
  SHUTDOWN, SYNC) is decided here, when the command passes.
* Replies come in order, and only they tell what really happened: MULTI, EXEC, SELECT, HELLO, SETNAME, RESET,
  SUBSCRIBE and MONITOR change the session when their good reply passes.

Where replies can't be counted, the connection becomes a *plain pipe*: bytes go on, nothing is looked at any more,
a gap row and a counter say so, and nobody is closed for it.

The bytes themselves are forwarded as they came. Two things are put in between, each in its turn: an error for a command
above --max-frame, and what ``guarded`` answers where credentials stand in a URL. A ``tap`` copies what a mirror wants.
"""
# Over 300 lines: one client's state, and every method reads or changes it; C methods of one class can't be spread over
# files. What needs no state is in replyhead, what needs credentials in guarded.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from protocol cimport keyspecs as ks
from protocol.inline import split_inline
from protocol.keyspecs cimport Arg
from protocol.resp cimport (
    MAX_ARGS, SCAN_BAD, SCAN_DONE, SCAN_EMPTY, SCAN_INLINE, SCAN_MORE, SCAN_TOO_BIG,
    PartialCommand, ReplyScan, Scan, ScanResult, scan_command, scan_reply,
)
from proxy.engine.inflight cimport (
    MODE_AT_MOST_ONE, MODE_CHANNELS, MODE_LOCAL, MODE_NONE, MODE_ONE, MODE_PIPE, MODE_STAND_IN, MODE_SWALLOW, Entry,
    Inflight,
)
from proxy.engine.recorder cimport (
    F_ASYNC_REPLY, F_BLOCKING, F_FOREIGN_DB, F_GIVEN_BACK, F_INLINE, F_POP, F_QUEUED, F_REPLIED_BY_PROXY, F_TXN_CROSS,
    F_TXN_REFUSED, F_TXN_REFUSED_DB, F_TXN_UNKNOWN, F_UNDELIVERED, R_ARRAY, R_BIGNUM, R_BOOLEAN, R_BULK, R_DOUBLE, R_ERROR,
    F_WRITE, POP_KEY, POP_LEFT, POP_RIGHT, R_INTEGER, R_LOST, R_MAP, R_NONE, R_NULL, R_PUSH, R_SET, R_SIMPLE,
    R_VERBATIM, SLOT_CROSS, SLOT_NONE, SLOT_UNKNOWN, WAY_LOSES, Caller, Recorder, Reply,
)
from proxy.engine.replyhead cimport confirms, first_item, integer_after, items, last_integer, refusal, second_item
from proxy.engine.tap cimport Tap, TapQueue
from proxy.engine.tape cimport Tape

from proxy.engine import access as access_module, giving_back

cdef enum:
    STASH = 1024                # bytes kept of a reply that spans reads
    REPLY_MOST = 16777216       # the same when it may have to be given back: giving_back.REPLY_MOST

cdef const char *QUEUED = b"+QUEUED\r\n"

#: Why a connection became a plain pipe: the gap's reason and the metric's label.
PIPE_REASONS = (
    "protocol-error", "unexpected-reply", "unreadable-reply", "uncountable-transaction", "replication-stream",
    "too-many-in-flight", "unreadable-channel-count",
)

TOO_BIG = b"-ERR Protocol error: command larger than this proxy's --max-frame\r\n"


def _plain(word):
    """An option of CLIENT TRACKING in capitals; anything else (a prefix of keys) as it is."""
    return word.upper() if word.upper() in TRACKING_WORDS else word


TRACKING_WORDS = frozenset((b"CLIENT", b"TRACKING", b"ON", b"OFF", b"REDIRECT", b"BCAST", b"OPTIN", b"OPTOUT", b"NOLOOP"))


cdef uint8_t[256] KIND          # capture.format.ReplyKind by a frame's first byte; every other byte is a push's


cdef void _fill_kinds() noexcept:
    memset(KIND, R_PUSH, sizeof(KIND))
    for mark, kind in ((b"+", R_SIMPLE), (b"-", R_ERROR), (b"!", R_ERROR), (b":", R_INTEGER), (b"$", R_BULK),
                       (b"*", R_ARRAY), (b"%", R_MAP), (b"_", R_NULL), (b"~", R_SET), (b",", R_DOUBLE),
                       (b"#", R_BOOLEAN), (b"(", R_BIGNUM), (b"=", R_VERBATIM)):
        KIND[<uint8_t>mark[0]] = kind


_fill_kinds()


cdef class Session:
    """One client connection. ``addr`` as the capture shows it. AUTH is between client and Redis: no byte is edited."""

    def __cinit__(self, Recorder recorder, bytes addr, *args):
        self.recorder = recorder
        self.queue = Inflight()
        self.addr = addr
        self.name = b""
        self.caller.conn = recorder.next_conn()
        self.caller.addr = PyBytes_AS_STRING(addr)
        self.caller.addr_length = <int32_t>PyBytes_GET_SIZE(addr)
        self.caller.name = PyBytes_AS_STRING(self.name)
        self.backend_id = -1
        self.next_db = -1
        self.begun_seq = -1

    def __dealloc__(self):
        free(self.stash)

    # ---- what others may ask ----------------------------------------------------------------------------------------

    @property
    def conn(self):
        return self.caller.conn

    @property
    def db(self):
        """The database that its next command runs in."""
        return self.caller.db

    @property
    def watching(self):
        """Whether the client watches keys and has not yet sent EXEC, DISCARD or UNWATCH."""
        return self.watch_txn != 0

    @property
    def in_flight(self):
        """Commands that wait for their reply."""
        return self.queue.count

    @property
    def quiet(self):
        """Whether the connection stands at a command boundary: nothing in flight, nothing half sent, no MULTI."""
        return self.queue.count == 0 and self.partial is None and not self.held and not self.in_multi

    @property
    def half_sent(self):
        """Whether a part of a command has arrived."""
        return self.partial is not None or bool(self.held)

    @property
    def half_forwarded(self):
        """Whether a part of a command has been sent on, and the rest has not."""
        return self.partial is not None

    @property
    def in_transaction(self):
        return bool(self.in_multi or self.multi)

    @property
    def blocked(self):
        """Whether the oldest command in flight is one that may wait in Redis."""
        cdef Entry *head = self.queue.head()
        return head != NULL and head.flags & F_BLOCKING and not self.multi

    @property
    def listening(self):
        """Whether the connection is subscribed, monitors, or became a plain pipe: it has no command boundary."""
        return bool(self.channels + self.patterns + self.shards or self.monitor or self.up_pipe or self.down_pipe)

    @property
    def piped(self):
        """Whether the connection became a plain byte pipe."""
        return bool(self.up_pipe or self.down_pipe)

    @property
    def trusted(self):
        """Whether the client may speak to Redis, as far as that is shunt's business."""
        return True

    @property
    def open_pops(self):
        """Commands in flight that may take an element out of Redis."""
        cdef Py_ssize_t i
        cdef int pops = 0
        for i in range(self.queue.count):
            if self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)].flags & (F_POP | F_BLOCKING):
                pops += 1
        return pops

    def prelude(self):
        """Bytes that a new backend connection must be sent first; their replies will be swallowed. b"": none."""
        return b""

    @property
    def prelude_pending(self):
        """Whether replies to the prelude are still awaited."""
        return self.splices > 0

    # ---- moving to another backend connection -------------------------------------------------------------------------

    @property
    def rooted(self):
        """Why its state can't be made on another connection, in words; None: ``settings`` makes it."""
        for is_so, why in (
            (self.piped, "its bytes are no longer looked at"),
            (self.monitor, "it sent MONITOR"),
            (self.in_transaction, "it stands in a transaction"),
            (self.queue.count, "it has commands in flight"),
            (self.partial is not None, "a command is half sent"),
            (self.scan.started, "it has got a part of a message"),
            (self.tracking_on is not None and b"REDIRECT" in self.tracking_on, "its CLIENT TRACKING names a connection"),
        ):
            if is_so:
                return why
        return self.lost_track

    @property
    def logged_in_itself(self):
        """Whether it has sent Redis credentials of its own, which are not kept."""
        return bool(self.own_login)

    @property
    def unanswered(self):
        """Whether it sent something that gets no reply (CLIENT REPLY), and nothing proves that it has been run."""
        return bool(self.reply_off or self.skip_now or self.skip_next or self.unproven)

    def settings(self, int64_t home):
        """The commands that bring a new, authenticated connection into this client's state, as lists of arguments.

        ``home``: the database that the new backend's URL names. WATCH is left out (``watching``).
        """
        commands = []
        if self.resp3:
            commands.append([b"HELLO", b"3"])
        if self.name:
            commands.append([b"CLIENT", b"SETNAME", self.name])
        db = home if self.caller.db == self.home_db else self.caller.db
        if db:
            commands.append([b"SELECT", b"%d" % db])
        if self.tracking_on is not None:
            commands.append(self.tracking_on)
        names = {}
        for command, name in sorted(self.subscribed or ()):
            names.setdefault(command, []).append(name)
        commands.extend([command, *each] for command, each in names.items())
        return commands

    @property
    def resp3_on(self):
        """Whether it is spoken to in RESP3."""
        return bool(self.resp3)

    @property
    def tracks_keys(self):
        """Whether CLIENT TRACKING is on."""
        return self.tracking_on is not None

    def moved(self, int64_t backend_id, int64_t home):
        """Its commands go to another connection from now on, which has been told ``settings``."""
        if self.caller.db == self.home_db:
            self.caller.db = <int32_t>home
        self.home_db = <int32_t>home
        self.backend_id = backend_id
        self.stash_length = 0
        memset(&self.scan, 0, sizeof(ReplyScan))

    def drain(self):
        """Have the connection closed at its next command boundary."""
        self.draining = True

    def tapped(self, TapQueue queue):
        """Have what it does copied into ``queue`` from now on, whatever is under way; None: no longer."""
        cdef Tap tap
        cdef Py_ssize_t i
        if self.tap is not None:
            self.tap.end(&self.caller)
            self.tap = None
        if queue is None or self.down_pipe:
            return
        tap = Tap(queue)
        for i in range(self.queue.count):
            tap.adopt(&self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)])
        tap.missed = self.stash_length > 0
        tap.holed = self.multi or self.in_multi
        self.tap = tap

    def client_bytes(self, bytes data, int64_t now_ns):
        """For tests and replays: on_client_bytes; True when the bytes go on as they are."""
        return self.on_client_bytes(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), now_ns) == FORWARD

    def backend_bytes(self, bytes data, int64_t now_ns):
        """For tests and replays: on_backend_bytes; True when the bytes go on as they are."""
        return self.on_backend_bytes(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), now_ns) == FORWARD

    # ---- from the client ----------------------------------------------------------------------------------------------

    cdef int on_client_bytes(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """Take in what the client sent. FORWARD: all of it goes on as it is; EDITED: see to_backend, to_client."""
        cdef Py_ssize_t at = 0, used
        cdef Scan scan
        cdef ScanResult result
        if self.close_after:
            self.to_backend = []
            self.to_client = []
            return EDITED               # the client was told that it will be closed
        while at < n and not self.up_pipe:
            if self.partial is None:
                result = scan_command(p + at, n - at, self.recorder.argv, self.recorder.max_frame, &scan)
                if result == SCAN_DONE:
                    self._command(scan.argc, scan.kept, scan.used, 0, now_ns)
                    at += scan.used
                    continue
                used = scan.used
                if result == SCAN_MORE:
                    self.partial = PartialCommand(self.recorder.mode == 2 or self.tap is not None,
                                                  self.recorder.max_frame)
            if self.partial is not None:
                result = self.partial.feed(p + at, n - at, &used)
                if result == SCAN_MORE:
                    break
            if result == SCAN_TOO_BIG:
                return self._refuse_frame(p, at, now_ns)
            self._unusual(result, p + at, used, now_ns)
            at += used
        return FORWARD

    cdef int _unusual(self, ScanResult result, const char *p, Py_ssize_t used, int64_t now_ns) except -1:
        """A command that came in pieces, an inline command, bytes that are no command, or a protocol error."""
        cdef PartialCommand partial = self.partial
        cdef Py_ssize_t total = used if partial is None else partial.total
        self.partial = None
        if result == SCAN_DONE:
            partial.fill(self.recorder.argv)
            self._command_of(partial.argc, partial.kept_args, total, 0, now_ns, partial)
        elif result == SCAN_EMPTY:
            self._next_skip()           # Redis resets its client here too
        elif result == SCAN_INLINE:
            if partial is None:
                line = PyBytes_FromStringAndSize(p, used)
            else:
                line = PyBytes_FromStringAndSize(partial.scratch, partial.scratch_length)
            self._inline(line, total, now_ns)
        else:
            self.up_pipe = True         # Redis says what is wrong, and closes
            if self.queue.count == 0:
                self._become_pipe("protocol-error", now_ns)
        return 0

    cdef int _inline(self, bytes line, Py_ssize_t total, int64_t now_ns) except -1:
        cdef Py_ssize_t i, kept
        cdef bytes word
        words = split_inline(line[:len(line) - 1])
        if words is None:
            self.up_pipe = True
            if self.queue.count == 0:
                self._become_pipe("protocol-error", now_ns)
            return 0
        if not words:
            self._next_skip()
            return 0
        kept = min(len(words), MAX_ARGS)
        for i in range(kept):
            word = words[i]             # lives in ``words`` until the command was noted
            self.recorder.argv[i].ptr = PyBytes_AS_STRING(word)
            self.recorder.argv[i].length = PyBytes_GET_SIZE(word)
            self.recorder.argv[i].kept = PyBytes_GET_SIZE(word)
        self._command(len(words), kept, total, F_INLINE, now_ns)
        return 0

    cdef int _refuse_frame(self, const char *p, Py_ssize_t at, int64_t now_ns) except -1:
        """A command above --max-frame: what came before it goes on, it doesn't; the client reads why, and is closed."""
        self.partial = None
        self.up_pipe = True
        self.to_backend = [PyBytes_FromStringAndSize(p, at)] if at else []
        self.to_client = []
        self.close_after = True
        self._answer(TOO_BIG, now_ns)
        return EDITED

    cdef void _command(self, Py_ssize_t argc, Py_ssize_t kept, Py_ssize_t size, uint32_t flags,
                       int64_t now_ns) noexcept:
        self._command_of(argc, kept, size, flags, now_ns, None)

    cdef void _command_of(self, Py_ssize_t argc, Py_ssize_t kept, Py_ssize_t size, uint32_t flags, int64_t now_ns,
                          PartialCommand partial) noexcept:
        """One command, its arguments in recorder.argv: into the queue, and how it will be answered."""
        cdef Entry *entry = self.queue.push()
        if entry == NULL:
            self._become_pipe("too-many-in-flight", now_ns)
            return
        entry.at_ns = now_ns
        entry.request_bytes = size
        entry.seq = self.seq
        self.seq += 1
        self.recorder.note(self.queue, entry, argc, kept, partial)
        entry.flags |= flags
        entry.blob_length = <int32_t>(self.queue.arena_base + self.queue.arena_length - entry.blob)
        if self.tap is not None:
            self.tap.asked(entry, self.recorder.argv, argc, kept)
        if entry.spec != NULL and (entry.spec.kind != ks.KIND_PLAIN or entry.spec.replies != ks.REPLIES_ONE):
            self._special(entry, argc, kept)
        if self.reply_off or self.skip_now or self.skip_next:
            self._silence(entry)
        if entry.mode == MODE_NONE or entry.mode == MODE_PIPE:
            self._settle_silent(now_ns)

    cdef void _special(self, Entry *entry, Py_ssize_t argc, Py_ssize_t kept) noexcept:
        """Commands that change how they or later ones are answered."""
        cdef int kind = entry.spec.kind
        cdef int due = ks.replies_due(entry.spec, self.recorder.argv, argc, kept)
        if kind == ks.KIND_QUIT or kind == ks.KIND_SHUTDOWN:
            self.leaving = True
        elif kind == ks.KIND_AUTH or (kind == ks.KIND_HELLO
                                      and ks.has_secret(entry.spec, self.recorder.argv, argc, kept)):
            self.own_login = True
        if kind == ks.KIND_MULTI:
            self.in_multi = True
        elif kind == ks.KIND_EXEC or ((kind == ks.KIND_DISCARD or kind == ks.KIND_RESET) and argc == 1):
            if kind == ks.KIND_RESET:   # ends CLIENT REPLY OFF before it is answered; SKIP still takes its answer
                self.reply_off = False
            if kind == ks.KIND_EXEC and self.in_multi and self.uncountable:
                entry.mode = MODE_PIPE
                self.up_pipe = True
            self.in_multi = False
            self.uncountable = False
        elif self.in_multi and kind != ks.KIND_QUIT:
            if due == ks.REPLIES_PER_CHANNEL or due == ks.REPLIES_STREAM or kind == ks.KIND_CLIENT_REPLY:
                self.uncountable = True
            elif kind == ks.KIND_CLIENT_TRACKING:
                self.lost_track = "it may have changed CLIENT TRACKING in a transaction"
        elif kind == ks.KIND_CLIENT_REPLY:
            self._client_reply(entry, kept)
        elif kind == ks.KIND_CLIENT_TRACKING:
            self._ask_tracking(entry, kept)
        elif due == ks.REPLIES_PER_CHANNEL:
            entry.mode = MODE_CHANNELS
            entry.flags |= F_ASYNC_REPLY
            entry.aux = <int32_t>(argc - 1) if argc > 1 else -1
        elif due == ks.REPLIES_AT_MOST_ONE:
            entry.mode = MODE_AT_MOST_ONE
        elif due == ks.REPLIES_NONE:
            entry.mode = MODE_NONE
        elif due == ks.REPLIES_RAW:
            entry.mode = MODE_PIPE
            self.up_pipe = True

    cdef void _client_reply(self, Entry *entry, Py_ssize_t kept) noexcept:
        """CLIENT REPLY ON | OFF | SKIP, as Redis' clientReplyCommand and resetClient do it."""
        if kept != 3:
            return
        if ks.is_word(&self.recorder.argv[2], b"ON", 2):
            self.reply_off = self.skip_now = self.skip_next = False
        elif ks.is_word(&self.recorder.argv[2], b"OFF", 3):
            self.reply_off = True
            entry.mode = MODE_NONE
        elif ks.is_word(&self.recorder.argv[2], b"SKIP", 4):
            entry.mode = MODE_NONE
            if not self.reply_off:
                self.skip_next = True

    cdef void _silence(self, Entry *entry) noexcept:
        """CLIENT REPLY OFF or SKIP is in force: no reply is due, but for (un)subscriptions, which Redis confirms."""
        if (self.reply_off or self.skip_now) and entry.mode != MODE_CHANNELS and entry.mode != MODE_PIPE:
            entry.mode = MODE_NONE
        self._next_skip()

    cdef void _next_skip(self) noexcept:
        self.skip_now = self.skip_next
        self.skip_next = False

    cdef void _settle_silent(self, int64_t now_ns) noexcept:
        """Settle the commands at the head of the queue that get no reply."""
        cdef Entry *head = self.queue.head()
        cdef Reply reply
        while head != NULL and head.mode == MODE_NONE:
            memset(&reply, 0, sizeof(Reply))
            reply.kind = R_NONE
            self.unproven = True
            self._apply_silent(head)
            self._settle(head, &reply, now_ns)
            head = self.queue.head()
        if head != NULL and head.mode == MODE_PIPE:
            self._reach_pipe(head, now_ns)

    cdef void _apply_silent(self, Entry *entry) noexcept:
        """What a command that gets no reply changes; it is taken to have succeeded."""
        if entry.spec == NULL:
            return
        if entry.spec.kind == ks.KIND_SELECT and entry.aux >= 0:
            self.next_db = entry.aux
        elif entry.spec.kind == ks.KIND_MULTI:
            self._open_transaction()
        elif entry.spec.kind == ks.KIND_EXEC or entry.spec.kind == ks.KIND_DISCARD:
            self._end_transaction(False)
        elif entry.spec.kind == ks.KIND_CLIENT_SETNAME:
            self._rename(self._note(entry))
        elif entry.spec.kind == ks.KIND_MONITOR:
            self.monitor = True
        elif entry.spec.kind == ks.KIND_RESET and entry.nargs == 1:
            self._reset()

    # ---- from the backend ---------------------------------------------------------------------------------------------

    cdef int on_backend_bytes(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """Take in what the backend sent. FORWARD: all of it goes to the client; EDITED: see to_client."""
        cdef Py_ssize_t at = 0, begin, used
        cdef ScanResult result
        if self.splices or self.swallowing or self.tape is not None:
            return self._edit_replies(p, n, now_ns)
        while at < n and not self.down_pipe:
            begin = at
            result = scan_reply(&self.scan, p + at, n - at, &used)
            if result == SCAN_DONE:
                at += used
                self._frame(p + begin, used, now_ns)
                memset(&self.scan, 0, sizeof(ReplyScan))
            elif result == SCAN_MORE:
                self._stash(p + begin, n - begin)
                break
            else:
                self._become_pipe("unreadable-reply", now_ns)
        return FORWARD

    cdef void _stash(self, const char *p, Py_ssize_t n) noexcept:
        """Keep the first bytes of a reply that goes on in the next read."""
        if self.tap is not None:
            self.tap.more(self.queue, p, n)
        if self.stash == NULL:
            self.stash = <char *>malloc(STASH)
            if self.stash == NULL:
                return
            self.stash_capacity = STASH
        if n > self.stash_capacity - self.stash_length and (self.salvage is None or not self._grow_stash(n)):
            n = self.stash_capacity - self.stash_length
        memcpy(self.stash + self.stash_length, p, n)
        self.stash_length += n

    cdef bint _grow_stash(self, Py_ssize_t n) noexcept:
        """Room for n more bytes of a reply that may have to be given back; False: it is too long for that."""
        cdef Py_ssize_t capacity = self.stash_capacity
        cdef char *grown
        while capacity < self.stash_length + n:
            capacity *= 2
        if self.stash_length + n > REPLY_MOST:
            return False
        grown = <char *>realloc(self.stash, capacity)
        if grown == NULL:
            return False
        self.stash = grown
        self.stash_capacity = capacity
        return True

    cdef void _frame(self, const char *p, Py_ssize_t n, int64_t now_ns) noexcept:
        """One whole frame, whose last n bytes are at p: whose is it?"""
        cdef Entry *head = self.queue.head()
        cdef Reply reply
        cdef bint whole = True
        reply.bytes = self.scan.bytes
        reply.kind = R_NULL if self.scan.null else KIND[self.scan.kind]
        if self.stash_length:
            self._stash(p, n)
            reply.head = self.stash
            reply.head_length = self.stash_length
            self.stash_length = 0
            whole = reply.bytes <= STASH
        else:
            reply.head = p
            reply.head_length = n
        if reply.kind == R_PUSH or self.monitor or self.channels + self.patterns + self.shards > 0:
            if self._is_push(head, &reply):
                self.recorder.counters.pushes += 1
                if self.tap is not None:
                    self.tap.forget()
                return
        if head == NULL:
            self._become_pipe("unexpected-reply", now_ns)
        elif head.mode == MODE_CHANNELS and reply.kind != R_ERROR:
            self._channel_reply(head, &reply, whole, now_ns)
        else:
            self._reply(head, &reply, now_ns)

    cdef bint _is_push(self, Entry *head, Reply *reply) noexcept:
        """Whether a frame is out of band: a push, a message of a RESP2 subscription, a MONITOR line."""
        cdef const char *word
        cdef Py_ssize_t length = 0
        if reply.kind == R_SIMPLE:
            return self.monitor and reply.head_length > 1 and 48 <= reply.head[1] <= 57
        if reply.kind != R_PUSH and reply.kind != R_ARRAY:
            return False
        word = first_item(reply, &length)
        if reply.kind == R_PUSH:
            return not (head != NULL and head.mode == MODE_CHANNELS and word != NULL and confirms(head, word, length))
        return not self.resp3 and word != NULL and length >= 7 and memcmp(word + length - 7, b"message", 7) == 0

    cdef int _subscribed(self, int kind, Reply *reply) except -1:
        """Remember, or forget, the name that this confirmation is about."""
        cdef Py_ssize_t length = 0
        cdef const char *name = second_item(reply, &length)
        cdef bint leaves = kind >= ks.KIND_UNSUBSCRIBE
        cdef bytes command = (b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE")[
            kind - (ks.KIND_UNSUBSCRIBE if leaves else ks.KIND_SUBSCRIBE)]
        if name == NULL:
            if not leaves:              # UNSUBSCRIBE of nothing has no name
                self.lost_track = "it hears a channel whose name was too long to be read"
            return 0
        if self.subscribed is None:
            self.subscribed = set()
        entry = (command, PyBytes_FromStringAndSize(name, length))
        if leaves:
            self.subscribed.discard(entry)
        else:
            self.subscribed.add(entry)
        return 0

    cdef int _ask_tracking(self, Entry *entry, Py_ssize_t kept) except -1:
        """CLIENT TRACKING passes: it is in force when its good reply passes."""
        cdef Py_ssize_t i
        if self.tracking_asked is None:
            self.tracking_asked = {}
        self.tracking_asked[entry.seq] = [
            _plain(PyBytes_FromStringAndSize(self.recorder.argv[i].ptr, self.recorder.argv[i].kept)) for i in range(kept)]
        return 0

    cdef int _tracks(self, int64_t seq) except -1:
        asked = None if self.tracking_asked is None else self.tracking_asked.pop(seq, None)
        if asked is not None and len(asked) > 2:
            self.tracking_on = asked if asked[2] == b"ON" else None
        return 0

    cdef void _channel_reply(self, Entry *head, Reply *reply, bint whole, int64_t now_ns) noexcept:
        """One of the confirmations of a SUBSCRIBE or UNSUBSCRIBE."""
        cdef int kind = head.spec.kind
        cdef int64_t total = last_integer(reply) if whole else -1
        cdef int64_t *of = &self.channels
        self._subscribed(kind, reply)
        if total < 0:
            self._become_pipe("unreadable-channel-count", now_ns)
            return
        if kind == ks.KIND_PSUBSCRIBE or kind == ks.KIND_PUNSUBSCRIBE:
            of = &self.patterns
        if head.aux < 0:                # UNSUBSCRIBE of all: one for each, one if there is none
            head.aux = <int32_t>(self.shards if kind == ks.KIND_SUNSUBSCRIBE else of[0])
            if head.aux == 0:
                head.aux = 1
        if kind == ks.KIND_SSUBSCRIBE or kind == ks.KIND_SUNSUBSCRIBE:
            self.shards = total
        elif total > self.channels + self.patterns:
            of[0] += 1
        elif total < self.channels + self.patterns:
            of[0] -= 1
        head.aux -= 1
        self.settled_bytes += reply.bytes
        if head.aux > 0:
            return
        reply.bytes = self.settled_bytes
        self.settled_bytes = 0
        self._settle(head, reply, now_ns)
        self._after_reply(now_ns)

    cdef void _reply(self, Entry *head, Reply *reply, int64_t now_ns) noexcept:
        """The reply to the oldest command in flight."""
        self.unproven = False
        if self.settled_bytes:          # an error in the middle of several confirmations
            reply.bytes += self.settled_bytes
            self.settled_bytes = 0
        if self.multi:
            self._in_transaction(head, reply)
        elif head.spec != NULL and head.spec.kind != ks.KIND_PLAIN:
            self._apply(head, reply)
        self._settle(head, reply, now_ns)
        if self.queue.count or self.up_pipe:
            self._after_reply(now_ns)

    cdef void _after_reply(self, int64_t now_ns) noexcept:
        """A reply has passed: commands that get none, and the end of counting, may come next."""
        cdef Entry *head = self.queue.head()
        if head != NULL and (head.mode == MODE_NONE or head.mode == MODE_PIPE):
            self._settle_silent(now_ns)
        if self.up_pipe and self.queue.count == 0 and not self.down_pipe and not self.close_after:
            self._become_pipe("protocol-error", now_ns)

    cdef void _settle(self, Entry *entry, Reply *reply, int64_t now_ns) noexcept:
        if self.client_gone and entry.flags & (F_POP | F_GIVEN_BACK):
            self._for_nobody(entry, reply)
        if self.tap is not None:
            self.tap.answered(&self.caller, entry, reply, now_ns)
        self.recorder.settle(&self.caller, self.queue, entry, reply, now_ns)
        if not self.multi:
            self.caller.txn = 0
            if self.next_db >= 0:
                self.caller.db = self.next_db
                self.next_db = -1
        self.queue.pop()

    # ---- state, as the replies tell it ---------------------------------------------------------------------------------

    cdef void _apply(self, Entry *entry, Reply *reply) noexcept:
        """Outside a transaction: what a good reply to this command means for the session."""
        cdef int kind = entry.spec.kind
        if reply.kind == R_ERROR:
            if kind == ks.KIND_MULTI:
                self._never_in_multi()
            return
        if kind == ks.KIND_SELECT:
            self._next_db(entry)
        elif kind == ks.KIND_MULTI:
            self._open_transaction()
        elif kind == ks.KIND_WATCH:
            if self.watch_txn == 0:
                self.txns += 1
                self.watch_txn = self.txns
            self.caller.txn = self.watch_txn
        elif kind == ks.KIND_UNWATCH:
            self.watch_txn = 0
        elif kind == ks.KIND_HELLO:
            self.resp3 = reply.kind == R_MAP
            self.backend_id = integer_after(reply, b"$2\r\nid\r\n:", 9)
            if entry.aux:
                self._rename(self._note(entry))
        elif kind == ks.KIND_CLIENT_SETNAME:
            self._rename(self._note(entry))
        elif kind == ks.KIND_CLIENT_ID:
            self.backend_id = integer_after(reply, b":", 1)
        elif kind == ks.KIND_CLIENT_TRACKING:
            self._tracks(entry.seq)
        elif kind == ks.KIND_MONITOR:
            self.monitor = True
        elif kind == ks.KIND_RESET:
            self._reset()

    cdef void _never_in_multi(self) noexcept:
        """MULTI was refused: what came after it was no transaction, unless another MULTI is under way."""
        cdef Py_ssize_t i
        cdef Entry *later
        for i in range(1, self.queue.count):
            later = &self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)]
            if later.spec != NULL and later.spec.kind == ks.KIND_MULTI:
                return
        self.in_multi = False
        self.uncountable = False

    cdef void _next_db(self, Entry *entry) noexcept:
        # The SELECT's own row still tells the database it ran in; the number takes effect once that is written.
        if entry.aux >= 0:
            self.next_db = entry.aux

    cdef void _open_transaction(self) noexcept:
        self.multi = True
        if self.watch_txn == 0:
            self.txns += 1
            self.watch_txn = self.txns
        self.txn = self.watch_txn
        self.caller.txn = self.txn
        self.txn_slot = SLOT_NONE
        self.txn_flags = 0
        self.txn_pops = 0

    cdef void _in_transaction(self, Entry *entry, Reply *reply) noexcept:
        """Inside MULTI: a queued command, or one of those that Redis runs at once."""
        cdef int kind = entry.spec.kind if entry.spec != NULL else ks.KIND_PLAIN
        if reply.kind == R_SIMPLE and reply.head_length == 9 and memcmp(reply.head, QUEUED, 9) == 0:
            entry.flags |= F_QUEUED
            self._queue_slot(entry)
            if kind == ks.KIND_SELECT and entry.aux >= 0:
                self.next_db = entry.aux
            elif kind == ks.KIND_CLIENT_SETNAME:
                self.txn_name = self._note(entry)
        elif kind == ks.KIND_EXEC or kind == ks.KIND_DISCARD:
            if kind == ks.KIND_EXEC:
                entry.flags |= self.txn_flags | (F_TXN_CROSS if self.txn_slot == SLOT_CROSS else 0)
            if kind == ks.KIND_EXEC or reply.kind != R_ERROR:
                if kind == ks.KIND_EXEC and self.client_gone and self.txn_pops:
                    self._for_nobody(entry, reply)
                self._end_transaction(kind == ks.KIND_EXEC and reply.kind != R_ERROR and reply.kind != R_NULL)
        elif kind == ks.KIND_RESET and reply.kind != R_ERROR:
            self._reset()

    cdef void _queue_slot(self, Entry *entry) noexcept:
        """What one more queued command means for its EXEC in a cluster, and for a client that goes before that."""
        if entry.flags & F_POP:
            self.txn_pops += 1
        if entry.slot >= 0:
            if self.txn_slot == SLOT_NONE:
                self.txn_slot = entry.slot
            elif self.txn_slot != entry.slot:
                self.txn_slot = SLOT_CROSS
        elif entry.slot == SLOT_CROSS:
            self.txn_flags |= F_TXN_REFUSED
        elif entry.slot == SLOT_UNKNOWN:
            self.txn_flags |= F_TXN_UNKNOWN
        if entry.flags & F_FOREIGN_DB:
            self.txn_flags |= F_TXN_REFUSED_DB

    cdef void _end_transaction(self, bint ran) noexcept:
        self.multi = False              # caller.txn stays until EXEC's own row is written
        self.watch_txn = 0
        if ran and self.txn_name is not None:
            self._rename(self.txn_name)
        self.txn_name = None
        if not ran:
            self.next_db = -1

    cdef void _reset(self) noexcept:
        self._end_transaction(False)
        self.resp3 = self.monitor = False
        self.channels = self.patterns = self.shards = 0
        self.subscribed = self.tracking_on = None
        self.lost_track = None
        self.next_db = self.home_db
        self._rename(b"")

    cdef bytes _note(self, Entry *entry):
        """The client name that came with this command."""
        cdef const char *end = self.queue.blob(entry) + entry.blob_length
        return PyBytes_FromStringAndSize(end - entry.note_length, entry.note_length)

    cdef void _rename(self, bytes name) noexcept:
        self.name = name
        self.caller.name = PyBytes_AS_STRING(name)
        self.caller.name_length = <int32_t>PyBytes_GET_SIZE(name)

    # ---- plain pipe, end ----------------------------------------------------------------------------------------------

    cdef void _reach_pipe(self, Entry *head, int64_t now_ns) noexcept:
        """A command after which replies can't be counted has come to the head of the queue."""
        cdef Reply reply
        cdef bint raw = head.spec.replies == ks.REPLIES_RAW
        if raw:
            memset(&reply, 0, sizeof(Reply))
            reply.kind = R_NONE
            self._settle(head, &reply, now_ns)
        self._become_pipe("replication-stream" if raw else "uncountable-transaction", now_ns)

    cdef void _become_pipe(self, str reason, int64_t now_ns) noexcept:
        """Stop looking, go on forwarding. Commands in flight are written down as missing."""
        cdef bytes why = reason.encode()
        if self.down_pipe:
            return
        self.up_pipe = self.down_pipe = True
        self.partial = None
        self.recorder.counters.plain_pipe(reason)
        self.recorder.gap(&self.caller, PyBytes_AS_STRING(why), <int>PyBytes_GET_SIZE(why), self.queue.count, now_ns)
        if self.tap is not None:
            self.tap.queue.drop("plain-pipe")
            self.tapped(None)
        while self.queue.count:
            self.queue.pop()

    def finish(self, int64_t now_ns):
        """The connection has ended: what is still in flight is lost, or was not due a reply."""
        cdef Entry *head = self.queue.head()
        cdef Reply reply
        memset(&reply, 0, sizeof(Reply))
        while head != NULL:
            reply.kind = R_LOST
            if head.mode == MODE_NONE or head.mode == MODE_AT_MOST_ONE or head.mode == MODE_PIPE:
                reply.kind = R_NONE
            if head.mode == MODE_SWALLOW:
                self.queue.pop()
            else:
                self._settle(head, &reply, now_ns)
            head = self.queue.head()
        if self.tap is not None:
            self.tap.end(&self.caller)      # and kept, for what ``gave_back`` may bring
        self.splices = 0
        self.up_pipe = self.down_pipe = True

    # ---- a client that has gone ---------------------------------------------------------------------------------------

    cdef int lose_client(self, bint begun) except -1:
        """Nobody reads any more: from now on the replies of pops are kept whole, for ``salvage``.

        ``begun``: some bytes of the oldest command's reply had been sent to the client.
        """
        cdef Entry *head = self.queue.head()
        self.client_gone = True
        if self.salvage is None:
            self.salvage = []
            self.given = []
            if begun and head != NULL:
                self.begun_seq = head.seq
        return 0

    cdef bint reply_begun(self) noexcept:
        """Whether a part of the oldest command's reply has passed."""
        return self.scan.bytes > 0 and self.scan.kind != b'>' and not self.swallowing

    def client_lost(self):
        """For tests and replays: lose_client."""
        self.lose_client(self.reply_begun())

    @property
    def pops_left(self):
        """Pops in flight whose reply may bring what can be given back, and which may be waited for.

        None behind a fetch that waits in Redis if there is another write behind it too: Redis would drop that with its
        client's connection, and whoever ends the fetch would have it run. None behind what waits for no list.
        """
        cdef Py_ssize_t i
        cdef int pops = 0, way
        cdef Entry *entry
        cdef bint multi = self.multi, waits = False
        if self.down_pipe or self.failure is not None:
            return 0
        for i in range(self.queue.count):
            entry = &self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)]
            if entry.spec != NULL and entry.spec.kind == ks.KIND_MULTI:
                multi = True
            elif entry.spec != NULL and (entry.spec.kind == ks.KIND_EXEC or entry.spec.kind == ks.KIND_DISCARD):
                multi = False
            way = self.recorder.pop_way(entry)
            if way == 0 or way == WAY_LOSES or multi or entry.mode != MODE_ONE:
                if waits and entry.flags & F_WRITE:
                    return 0
                if entry.flags & F_BLOCKING and not multi:
                    return pops
                continue
            waits = waits or entry.flags & F_BLOCKING
            pops += entry.seq != self.begun_seq
        return pops

    cdef void _for_nobody(self, Entry *entry, Reply *reply) noexcept:
        """A reply that no client reads any more: a pop's, EXEC's with pops, or that to what gives back."""
        if entry.flags & F_GIVEN_BACK:
            self.given.append(b"" if reply.kind == R_LOST else PyBytes_FromStringAndSize(
                reply.head, min(reply.head_length, 256)).split(b"\r", 1)[0])
            return
        if entry.flags & F_QUEUED or reply.kind <= R_ERROR or reply.kind == R_NULL or items(reply) == 0:
            return                      # nothing was taken
        if entry.flags & F_POP:
            if not self.recorder.pop_way(entry):
                return                  # it is kept elsewhere
            entry.flags |= F_UNDELIVERED
            self.recorder.counters.undelivered += 1
        else:
            self.recorder.counters.undelivered += self.txn_pops
        if self.salvage is not None:
            self._salvage(entry, reply)

    cdef int _salvage(self, Entry *entry, Reply *reply) except -1:
        cdef const char *key
        cdef object own = None
        if entry.aux == POP_KEY:
            own = self._note(entry)
        elif entry.keys_kept == 1 and not entry.cuts:
            key = self.queue.blob(entry) + entry.name_length
            own = PyBytes_FromStringAndSize(key + 4, entry.keys_length - 4)
        self.salvage.append(giving_back.Pop(
            self.recorder.table.names[entry.spec.id], self.caller.db, own,
            True if entry.aux == POP_LEFT else False if entry.aux == POP_RIGHT else None,
            PyBytes_FromStringAndSize(reply.head, reply.head_length) if reply.head_length == reply.bytes else None,
            entry.seq == self.begun_seq))
        return 0

    @property
    def takes_more(self):
        """Whether shunt can send a command of its own behind those in flight, and know its reply."""
        cdef Py_ssize_t i
        cdef Entry *entry
        if self.in_multi or self.multi or self.half_sent or self.reply_off or self.skip_now or self.skip_next \
                or self.listening or self.close_after or self.failure is not None:
            return False
        for i in range(self.queue.count):
            entry = &self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)]
            if entry.mode != MODE_ONE or entry.spec == NULL or entry.spec.kind != ks.KIND_PLAIN \
                    or entry.flags & F_BLOCKING:
                return False
        return True

    def give_back(self, tuple command, int64_t now_ns):
        """Take note of a command that gives back; its bytes, to be sent behind what is in flight. See ``given``."""
        cdef list args = list(command)
        data = access_module.encode(args)
        self._load(args)
        self._command(len(args), min(len(args), MAX_ARGS), len(data), F_GIVEN_BACK, now_ns)
        return data

    def gave_back(self, tuple command, int db, bytes reply, int64_t sent_ns, int64_t now_ns):
        """Write down a command that gave back over another connection, after ``finish``. ``reply`` b"": none came."""
        cdef list args = list(command)
        cdef Entry *entry
        cdef Reply settled
        self._load(args)
        entry = self.queue.push()
        if entry == NULL:
            return
        entry.at_ns = sent_ns
        entry.request_bytes = len(access_module.encode(args))
        entry.seq = self.seq
        self.seq += 1
        self.recorder.note(self.queue, entry, len(args), min(len(args), MAX_ARGS), None)
        entry.flags |= F_GIVEN_BACK
        if self.tap is not None:
            self.tap.asked(entry, self.recorder.argv, len(args), len(args))
        self.caller.db = db
        memset(&settled, 0, sizeof(Reply))
        settled.kind = KIND[<uint8_t>reply[0]] if reply else R_LOST
        settled.bytes = settled.head_length = len(reply)
        settled.head = PyBytes_AS_STRING(reply)
        self._settle(entry, &settled, now_ns)

    def drop_unsent(self, Py_ssize_t n, int64_t now_ns):
        """The newest n commands were never sent, and will not be."""
        cdef Reply reply
        cdef Entry *entry
        memset(&reply, 0, sizeof(Reply))
        reply.kind = R_LOST
        while n > 0 and self.queue.count:
            entry = &self.queue.ring[(self.queue.first + self.queue.count - 1) & (self.queue.capacity - 1)]
            self.recorder.settle(&self.caller, self.queue, entry, &reply, now_ns)
            self.queue.count -= 1
            n -= 1
    # ---- riding through an outage ---------------------------------------------------------------------------------------

    def keep_sent(self, Py_ssize_t limit):
        """Keep what is in flight, at most so many bytes, and hold back what shows that a command didn't run."""
        self.tape = Tape(self.recorder, limit)

    @property
    def ending(self):
        """Whether it is about to end in any case."""
        return bool(self.leaving or self.draining or self.client_gone or self.close_after or self.failure is not None)

    @property
    def bound(self):
        """Why it can't do without the backend connection that it has, in words; None: it can."""
        for is_so, why in (
            (self.piped, "its bytes are no longer looked at"),
            (self.monitor, "it sent MONITOR"),
            (self.unanswered, "it uses CLIENT REPLY"),
            (self.own_login, "it logged in with credentials of its own, which are not kept"),
            (self.tracking_on is not None and b"REDIRECT" in self.tracking_on, "its CLIENT TRACKING names a connection"),
            (self.ending, "it is ending"),
            (self.tape is None and (self.queue.count or self.partial is not None), "it has commands in flight"),
            (self.scan.started or self.swallowing or self.settled_bytes, "it has got a part of a reply"),
        ):
            if is_so:
                return why
        return self.lost_track

    @property
    def sent(self):
        """The commands that Redis owes a reply, oldest first: name, traits, whether it may wait. None: a reply can't be
        told from what else comes (subscriptions, CLIENT REPLY)."""
        cdef Py_ssize_t i
        cdef Entry *entry
        cdef list found = []
        if not self.resp3 and self.channels + self.patterns + self.shards > 0 and self.queue.count:
            return None
        for i in range(self.queue.count):
            entry = &self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)]
            if entry.mode == MODE_LOCAL:
                continue
            if entry.mode != MODE_ONE:
                return None
            found.append((self.recorder.table.names[entry.spec.id] if entry.spec != NULL else "",
                          entry.spec.flags if entry.spec != NULL else 0, bool(entry.flags & F_BLOCKING)))
        return found

    @property
    def oldest(self):
        """The number of the oldest command in flight; -1: none is."""
        cdef Entry *head = self.queue.head()
        return head.seq if head != NULL else -1

    cdef Py_ssize_t due(self) noexcept:
        """Commands that Redis owes a reply."""
        return self.queue.count - (len(self.locals) if self.locals is not None else 0)

    cdef bint _parks(self, Entry *head, const char *p, Py_ssize_t n) noexcept:
        """Whether the reply that begins here must not go to the client before it is known what becomes of it."""
        if self.client_gone or self.scan.started or self.letting_go or self.multi or self.monitor or head.mode != MODE_ONE or self.swallowing:
            return False
        if p[0] == b'-':
            return refusal(p, n)
        return (p[0] == b'+' and head.spec != NULL and head.spec.kind == ks.KIND_MULTI
                and self._transaction_parks(p, n))

    cdef bint _transaction_parks(self, const char *p, Py_ssize_t n) noexcept:
        """MULTI is answered, and its EXEC has been sent: not before it is known that it wasn't refused."""
        cdef Py_ssize_t i, at = 0, used = 0, end = 0
        cdef Entry *entry
        cdef ReplyScan scan
        for i in range(1, self.queue.count):
            entry = &self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)]
            if entry.mode != MODE_ONE:
                return False
            if entry.spec != NULL and entry.spec.kind == ks.KIND_EXEC:
                end = i
                break
        if end == 0:
            return False
        while at < n:
            if p[at] != b'>':
                if end == 0:
                    return p[at] == b'-' and refusal(p + at, n - at)
                end -= 1
            memset(&scan, 0, sizeof(ReplyScan))
            if scan_reply(&scan, p + at, n - at, &used) != SCAN_DONE:
                return True
            at += used
        return True

    @property
    def is_parked(self):
        """Whether replies are kept from the client."""
        return self.parked is not None

    @property
    def parked_heads(self):
        """The first bytes of each whole reply that is kept from the client."""
        return [head for head, _ in self._frames() if head is not None]

    def _frames(self):
        """What is parked: of each frame its first bytes (None: a push) and its end."""
        cdef bytes data = self.parked if self.parked is not None else b""
        cdef const char *p = PyBytes_AS_STRING(data)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data), at = 0, used = 0
        cdef ReplyScan scan
        found = []
        while at < n:
            memset(&scan, 0, sizeof(ReplyScan))
            if scan_reply(&scan, p + at, n - at, &used) != SCAN_DONE:
                break
            head = None if p[at] == b'>' else PyBytes_FromStringAndSize(p + at, min(used, 64))
            at += used
            found.append((head, at))
        return found

    def let_go(self, Py_ssize_t count, int64_t now_ns):
        """The bytes of so many parked replies, which are settled now; pushes between the others go along. The others are
        forgotten: their commands are still in flight."""
        cdef bytes data = self.parked
        cdef bytes these
        if data is None:
            return b""
        frames = self._frames()
        end, rest = 0, []
        for number, (head, ends) in enumerate(frames):
            if count == 0:
                if head is None:
                    rest.append(data[frames[number - 1][1] if number else 0:ends])
                continue
            count -= head is not None
            end = ends
        if not self.due_after(frames, end):
            end = len(data)
        self.parked = None
        self.letting_go = True
        these = data[:end]
        out = [these] if self._edit_replies(these, len(these), now_ns) != EDITED else self.to_client
        self.letting_go = False
        if self.tape is not None:
            self.tape.trim(self.due())
        return b"".join([*out, *rest])

    def forget_parked(self):
        """Their commands are sent again."""
        self.parked = None

    def due_after(self, frames, Py_ssize_t end):
        """How many commands are still in flight when the frames up to ``end`` are settled."""
        return self.due() - sum(1 for head, ends in frames if head is not None and ends <= end)

    def answer_nil(self, places, int64_t now_ns):
        """Answer the commands at these places (of those in ``sent``) with a nil, each in its turn. The bytes that the
        client is due now."""
        cdef Py_ssize_t i, place = -1
        cdef Entry *entry
        nil = b"_\r\n" if self.resp3 else b"*-1\r\n"
        chosen = set(places)
        for i in range(self.queue.count):
            entry = &self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)]
            if entry.mode == MODE_LOCAL:
                continue
            place += 1
            if place in chosen:
                entry.mode = MODE_LOCAL
                entry.flags |= F_REPLIED_BY_PROXY
                if self.locals is None:
                    self.locals = {}
                self.locals[entry.seq] = nil
                self.splices += 1
        if self.tape is not None:
            self.tape.drop(chosen)
        self.to_client = []
        self._run_locals(self.to_client, now_ns)
        return b"".join(self.to_client)

    def answer(self, list args, bytes reply, Py_ssize_t size, int64_t now_ns):
        """Answer a command in Redis' place, while nothing is in flight: the bytes that the client is due."""
        self.to_client = []
        self._load(args)
        self._answer_noted(reply, args, size, 0, now_ns)
        return b"".join(self.to_client)

    # ---- replies by shunt itself ----------------------------------------------------------------------------------------

    cdef int _answer(self, bytes reply, int64_t now_ns) except -1:
        """Answer, in its turn, bytes that are no command."""
        self._load([b"PROTOCOL-ERROR"])
        return self._answer_noted(reply, [b"PROTOCOL-ERROR"], 0, 0, now_ns)

    cdef int _answer_noted(self, object reply, list args, Py_ssize_t size, uint32_t flags, int64_t now_ns) except -1:
        """Answer the command in recorder.argv by shunt: now if nothing is in flight, else in its turn.

        ``reply``: bytes, or what ``_local_reply`` makes them of when their turn has come.
        """
        cdef Entry *entry = self.queue.push()
        if entry == NULL:
            self.failure = "too many commands in flight"
            return 0
        entry.at_ns = now_ns
        entry.request_bytes = size
        entry.seq = self.seq
        self.seq += 1
        self.recorder.note(self.queue, entry, len(args), min(len(args), MAX_ARGS), None)
        if size == 0:
            entry.nargs = 0             # no command: see _answer
        entry.flags |= flags | F_REPLIED_BY_PROXY
        entry.mode = MODE_LOCAL
        if self.reply_off or self.skip_now:
            reply = b"" if isinstance(reply, bytes) else (reply,)      # in force, but unanswered
        self._next_skip()
        if self.locals is None:
            self.locals = {}
        self.locals[entry.seq] = reply
        self.splices += 1
        if self.scan.bytes == 0:        # else a push is half way through, and it is its turn behind that
            self._run_locals(self.to_client, now_ns)
        return 0

    cdef int _load(self, list args) except -1:
        """Point recorder.argv at these arguments."""
        cdef Py_ssize_t i
        cdef bytes arg
        for i in range(min(len(args), MAX_ARGS)):
            arg = args[i]
            self.recorder.argv[i].ptr = PyBytes_AS_STRING(arg)
            self.recorder.argv[i].length = PyBytes_GET_SIZE(arg)
            self.recorder.argv[i].kept = PyBytes_GET_SIZE(arg)
        return 0

    cdef int _run_locals(self, list out, int64_t now_ns) except -1:
        """Deliver shunt's own replies whose turn has come."""
        cdef Entry *head = self.queue.head()
        cdef Reply settled
        cdef bytes reply
        while head != NULL and head.mode == MODE_LOCAL:
            answer = self.locals.pop(head.seq)
            if isinstance(answer, tuple):
                self._local_reply(answer[0])
                reply = b""
            else:
                reply = answer if isinstance(answer, bytes) else self._local_reply(answer)
            out.append(reply)
            self.splices -= 1
            settled.kind = KIND[<uint8_t>reply[0]] if reply else R_NONE
            settled.bytes = len(reply)
            settled.head = PyBytes_AS_STRING(reply)
            settled.head_length = len(reply)
            self._settle(head, &settled, now_ns)
            self._after_reply(now_ns)   # what gets no reply may stand between two of ours
            head = self.queue.head()
        return 0

    cdef bytes _local_reply(self, object request):
        """The reply to a command whose answer depends on what came before it."""
        raise NotImplementedError(request)

    cdef int _edit_replies(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """As on_backend_bytes, with shunt's own replies put in and replies to its own commands taken out."""
        cdef Py_ssize_t at = 0, seg = 0, begin, used
        cdef ScanResult result
        cdef Entry *head
        self.to_client = []
        if self.parked is not None:
            self.parked += PyBytes_FromStringAndSize(p, n)
            return EDITED
        while at < n and not self.down_pipe:
            head = self.queue.head()
            if self.tape is not None and head != NULL and self._parks(head, p + at, n - at):
                if seg < at:
                    self.to_client.append(PyBytes_FromStringAndSize(p + seg, at - seg))
                self.parked = PyBytes_FromStringAndSize(p + at, n - at)
                return EDITED
            if head != NULL and (head.mode == MODE_SWALLOW or head.mode == MODE_STAND_IN) and not self.scan.started \
                    and p[at] != b'>':
                if seg < at:
                    self.to_client.append(PyBytes_FromStringAndSize(p + seg, at - seg))
                seg = at
                self.swallowing = True
            begin = at
            result = scan_reply(&self.scan, p + at, n - at, &used)
            if result == SCAN_BAD:
                if self.swallowing:
                    self.failure = "it answers in no RESP"
                self._become_pipe("unreadable-reply", now_ns)
                break
            if result == SCAN_MORE:
                self._stash(p + begin, n - begin)
                at = n
                if self.swallowing:
                    seg = n
                break
            at += used
            if self.swallowing:
                seg = at
                self._swallowed(p + begin, used, now_ns)
            else:
                self._frame(p + begin, used, now_ns)
            memset(&self.scan, 0, sizeof(ReplyScan))
            head = self.queue.head()
            if head != NULL and head.mode == MODE_LOCAL:
                if seg < at:
                    self.to_client.append(PyBytes_FromStringAndSize(p + seg, at - seg))
                seg = at
                self._run_locals(self.to_client, now_ns)
        if self.tape is not None and seg == 0 and not self.swallowing and not self.to_client:
            return FORWARD
        if seg < n and not self.swallowing:
            self.to_client.append(PyBytes_FromStringAndSize(p + seg, n - seg))
        return EDITED

    cdef int _swallowed(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """The reply to a command of shunt's own has passed. An error there means: the backend can't be used."""
        cdef bytes head
        if self.stash_length:
            self._stash(p, n)
            head = PyBytes_FromStringAndSize(self.stash, self.stash_length)
            self.stash_length = 0
        else:
            head = PyBytes_FromStringAndSize(p, n if n < STASH else STASH)
        self.swallowing = False
        self.splices -= 1
        self.queue.pop()
        self._after_reply(now_ns)       # behind it may be what gets no reply
        if head.startswith(b"-"):
            self.failure = head[1:].split(b"\r", 1)[0].decode("utf-8", "replace")
        return 0
