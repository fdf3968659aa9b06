# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What is noted of a command when it arrives (``note``) and when its reply has (``settle``).

Knows: command table, keys and slot, privacy (what of a command may be kept), columns and counters. Refuses to know:
connections and their states (``session``), and who reads the batches. No Python object is made per command; a
script's body is the one exception, and is hashed once per EVAL.

Nothing here may fail its caller: where there is no room, the row says so by a flag, or is counted as dropped.
"""
# Over 300 lines: both halves of one exchange's notes, written and read back in the same order of bytes.
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy, memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

import hashlib

from protocol cimport keyspecs as ks
from protocol.keyspecs cimport Arg, CommandTable, Spec
from protocol.resp cimport MAX_ARGS, PartialCommand, fnv1a
from protocol.slots cimport hash_slot
from proxy.engine.columns cimport Columns, Row
from proxy.engine.counters cimport Counters
from proxy.engine.inflight cimport CutKey, Entry, Inflight
from proxy.engine.replyhead cimport items

from proxy.capture.format import ArgsMode, Flag, ReplyKind
from proxy.engine import giving_back

cdef enum:
    MODE_NO_KEYS = 0            # capture.format.ArgsMode
    MODE_KEYS = 1
    MODE_FULL = 2
    KEY_CUT = 512               # capture.format.KEY_CUT_BYTES
    NAME_MAX = 63
    NOTE_MAX = 256
    KEY_NOTE_MAX = 65535        # bytes of a key that is noted beside the row
    ARGS_MAX = 1048576          # bytes of arguments kept of one command
    JITTER_NS = 1000000         # the wall clock is believed to go back when it goes back by more than this
    SCRIPTS_MAX = 16777216      # bytes of script bodies handed on, each counted with SCRIPT_ENTRY
    SCRIPT_ENTRY = 256          # what it costs to remember that one was

for _flag, _number in (("BLOCKING", F_BLOCKING), ("QUEUED", F_QUEUED), ("SCRIPT", F_SCRIPT), ("INLINE", F_INLINE),
                       ("REPLIED_BY_PROXY", F_REPLIED_BY_PROXY), ("WRITE", F_WRITE), ("POP", F_POP),
                       ("SERVED", F_SERVED), ("KEYS_CUT", F_KEYS_CUT), ("ARGS", F_ARGS), ("ARGS_CUT", F_ARGS_CUT),
                       ("REDACTED", F_REDACTED), ("TXN_CROSS", F_TXN_CROSS), ("TXN_REFUSED", F_TXN_REFUSED),
                       ("TXN_UNKNOWN", F_TXN_UNKNOWN), ("ASYNC_REPLY", F_ASYNC_REPLY),
                       ("TXN_REFUSED_DB", F_TXN_REFUSED_DB), ("FOREIGN_DB", F_FOREIGN_DB),
                       ("SORT_PATTERN", F_SORT_PATTERN), ("REHEARSED", F_REHEARSED),
                       ("UNDELIVERED", F_UNDELIVERED), ("GIVEN_BACK", F_GIVEN_BACK)):
    if Flag[_flag] != _number:
        raise ImportError(f"capture.format and engine.recorder disagree about Flag.{_flag}")
if ReplyKind.PUSH != R_PUSH or ArgsMode.FULL != MODE_FULL:
    raise ImportError("capture.format and engine.recorder disagree about reply kinds or argument modes")
for _way, _number in (("NAMED", WAY_NAMED), ("OWN_KEY", WAY_OWN_KEY), ("OWN_END", WAY_OWN_END), ("LOSES", WAY_LOSES)):
    if giving_back.Way[_way] != _number:
        raise ImportError(f"engine.giving_back and engine.recorder disagree about Way.{_way}")


cdef class Recorder:
    """The recording side of one worker.

    mode: ``ArgsMode``. on_full(): called when a batch is due by size. on_script(sha, body): called once per script.
    recording False: commands are counted, no rows are made.
    """

    def __cinit__(self, CommandTable table, int mode, object on_full, object on_script,
                  Py_ssize_t hand_over_rows=65536, Py_ssize_t hand_over_bytes=16777216):
        self.table = table
        self.columns = Columns()
        self.counters = Counters(table)
        self.mode = mode
        self.recording = True
        self.on_full = on_full
        self.on_script = on_script
        self.hand_over_rows = hand_over_rows
        self.hand_over_bytes = hand_over_bytes
        self.scripts = {}
        self.pop_ways = bytes(giving_back.way(name) for name in table.names)
        self.argv = <Arg *>malloc(MAX_ARGS * sizeof(Arg))
        self.key_index = <int *>malloc(MAX_ARGS * sizeof(int))
        if self.argv == NULL or self.key_index == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.argv)
        free(self.key_index)

    def script(self, bytes sha):
        """The body of a script that clients have sent; None: they have not, or there was no room to keep it."""
        return self.scripts.get(sha)

    def next_conn(self):
        """A new connection's number, from 1."""
        self.conns += 1
        return self.conns

    def take(self):
        """The rows since the last call as one batch, or None; a gap row in the next one tells of those without room."""
        cdef Caller nobody
        cdef int64_t dropped = self.columns.dropped, last_ns = 0
        if dropped:
            last_ns = self.columns.ts[self.columns.rows - 1] - self.wall_offset_ns
        batch = self.columns.take()
        if dropped:
            memset(&nobody, 0, sizeof(Caller))
            self.gap(&nobody, b"engine-full", 11, dropped, last_ns)
        return batch

    cdef void check_full(self) noexcept:
        """Hand over the batch when it is large enough; called once per read event, after the client was served."""
        if self.columns.rows >= self.hand_over_rows or self.columns.bytes >= self.hand_over_bytes:
            self.on_full()

    # ---- a command arrives ----------------------------------------------------------------------------------------

    cdef void note(self, Inflight queue, Entry *entry, Py_ssize_t argc, Py_ssize_t kept,
                   PartialCommand partial) noexcept:
        """Fill in ``entry`` for the command in ``self.argv``; what the capture wants of it goes to the arena.

        Who has looked that command up already has it in ``self.found`` meanwhile.
        """
        cdef const Spec *spec = self.found
        if spec == NULL:
            spec = self.table.lookup(self.argv, kept)
        entry.ts = entry.at_ns + self.wall_offset_ns
        if 0 < self.last_ts - entry.ts < JITTER_NS:
            entry.ts = self.last_ts         # the clocks were compared again in between: that is no step back
        self.last_ts = entry.ts
        entry.epoch = self.epoch
        entry.backend = self.backend
        cdef Py_ssize_t nkeys = 0, have
        cdef uint32_t traits
        cdef bint keyed
        entry.spec = spec
        entry.nargs = <int32_t>argc
        if spec == NULL:
            entry.flags = F_WRITE
            entry.unknown = ks.WHY_NOT_IN_TABLE
            entry.slot = SLOT_UNKNOWN
            self._note_name_of_unknown(queue, entry, kept)
            if self.recording and self.mode == MODE_FULL:
                self._note_args(queue, entry, argc, kept)
            return
        traits = spec.flags
        entry.flags = (F_WRITE if traits & ks.TRAIT_WRITE else 0) | (F_POP if traits & ks.TRAIT_POP else 0) \
            | (F_SCRIPT if traits & ks.TRAIT_SCRIPT else 0)
        if traits & (ks.TRAIT_BLOCKING | ks.TRAIT_MAYBE_BLOCKING) and ks.may_block(spec, self.argv, argc, kept):
            entry.flags |= F_BLOCKING
        entry.unknown = <uint8_t>ks.find_keys(spec, self.argv, argc, kept, self.key_index, MAX_ARGS, &nkeys)
        have = nkeys if nkeys < MAX_ARGS else MAX_ARGS
        if entry.unknown:
            have = self._within(have, kept)
        entry.slot = self._slot(have, &entry.unknown)
        keyed = not traits & ks.TRAIT_SHARD_CHANNEL
        if keyed:
            entry.nkeys = <int32_t>nkeys
        if traits & (ks.TRAIT_SECRET | ks.TRAIT_MAYBE_SECRET) and ks.has_secret(spec, self.argv, argc, kept):
            entry.flags |= F_REDACTED
        if spec.kind >= ks.KIND_SWAPDB or spec.kind == ks.KIND_SELECT:
            self._note_database(entry, argc, kept)
        if not self.recording:
            if spec.kind == ks.KIND_CLIENT_SETNAME or spec.kind == ks.KIND_HELLO:
                self._note_name(queue, entry, kept)
            elif traits & ks.TRAIT_POP:
                self._note_pop(queue, entry, have, kept)
            elif spec.kind == ks.KIND_EVAL or spec.kind == ks.KIND_SCRIPT_LOAD:
                self._keep_body(entry, kept)
            return
        if self.mode != MODE_NO_KEYS:
            if keyed and nkeys:
                self._note_keys(queue, entry, nkeys, have, partial)
            if spec.kind == ks.KIND_EVAL or spec.kind == ks.KIND_EVALSHA or spec.kind == ks.KIND_SCRIPT_LOAD \
                    or (spec.kind == ks.KIND_FUNCTION_LOAD and kept == argc):
                self._note_script(queue, entry, kept)
            if self.mode == MODE_FULL and not entry.flags & F_REDACTED:
                self._note_args(queue, entry, argc, kept)
        elif spec.kind == ks.KIND_EVAL or spec.kind == ks.KIND_SCRIPT_LOAD:
            self._keep_body(entry, kept)
        if spec.kind == ks.KIND_CLIENT_SETNAME or spec.kind == ks.KIND_HELLO:
            self._note_name(queue, entry, kept)
        elif traits & ks.TRAIT_POP:
            self._note_pop(queue, entry, have, kept)

    cdef void _note_pop(self, Inflight queue, Entry *entry, Py_ssize_t nkeys, Py_ssize_t kept) noexcept:
        """What its reply won't tell, should it have to be given back: LMPOP's end; RPOP's key where the row has none."""
        cdef int way = self.pop_way(entry)
        cdef Arg *arg
        cdef char *to
        if nkeys == 0 or entry.unknown:
            return
        if way == WAY_OWN_END and self.key_index[nkeys - 1] + 1 < kept:
            arg = &self.argv[self.key_index[nkeys - 1] + 1]
            entry.aux = POP_LEFT if ks.is_word(arg, b"LEFT", 4) else POP_RIGHT if ks.is_word(arg, b"RIGHT", 5) else 0
        elif way == WAY_OWN_KEY and (entry.keys_kept == 0 or entry.cuts):
            arg = &self.argv[self.key_index[0]]
            if arg.kept != arg.length or arg.length > KEY_NOTE_MAX:
                return
            to = queue.reserve(arg.length)
            if to != NULL:
                memcpy(to, arg.ptr, arg.length)
                entry.note_length = <uint16_t>arg.length
                entry.aux = POP_KEY

    cdef int pop_way(self, Entry *entry) noexcept:
        """giving_back.Way of this command."""
        return 0 if entry.spec == NULL else (<const uint8_t *>PyBytes_AS_STRING(self.pop_ways))[entry.spec.id]

    cdef int16_t _slot(self, Py_ssize_t nkeys, uint8_t *unknown) noexcept nogil:
        """The one slot of the keys in key_index, SLOT_NONE, SLOT_CROSS, or SLOT_UNKNOWN with its reason."""
        cdef Py_ssize_t i
        cdef int slot = SLOT_NONE, one
        cdef Arg *arg
        for i in range(nkeys):
            arg = &self.argv[self.key_index[i]]
            if arg.kept != arg.length and not _tag_within(arg):
                unknown[0] = ks.WHY_ARGUMENT_CUT
                continue
            one = hash_slot(arg.ptr, arg.kept)
            if slot == SLOT_NONE:
                slot = one
            elif slot != one:
                return SLOT_CROSS           # certain, whatever the other keys are
        if unknown[0]:
            return SLOT_UNKNOWN
        return <int16_t>slot

    cdef void _note_database(self, Entry *entry, Py_ssize_t argc, Py_ssize_t kept) noexcept:
        """Flags of commands that name a database, and of SORT by patterns."""
        cdef int kind = entry.spec.kind
        cdef long db
        if kind == ks.KIND_SORT:
            if ks.has_pattern(entry.spec, self.argv, argc, kept):
                entry.flags |= F_SORT_PATTERN
        elif kind == ks.KIND_SWAPDB or kind == ks.KIND_MOVE:
            entry.flags |= F_FOREIGN_DB
        elif kind == ks.KIND_SELECT or kind == ks.KIND_COPY:
            db = ks.database_named(entry.spec, self.argv, argc, kept)
            entry.aux = <int32_t>(db if db < 2147483647 else 2147483647)
            if db > 0:
                entry.flags |= F_FOREIGN_DB

    cdef void _note_name_of_unknown(self, Inflight queue, Entry *entry, Py_ssize_t kept) noexcept:
        """Keep the name of a command that is not in the table: upper case, at most 63 bytes."""
        cdef Py_ssize_t i, n
        cdef char *to
        if kept == 0 or not self.recording:
            return
        n = self.argv[0].kept if self.argv[0].kept < NAME_MAX else NAME_MAX
        to = queue.reserve(n)
        if to == NULL:
            return
        for i in range(n):
            to[i] = self.argv[0].ptr[i] - 32 if 97 <= self.argv[0].ptr[i] <= 122 else self.argv[0].ptr[i]
        entry.name_length = <uint8_t>n

    cdef Py_ssize_t _within(self, Py_ssize_t nkeys, Py_ssize_t kept) noexcept nogil:
        """Keep, at the start of key_index, the keys whose arguments were kept; how many they are."""
        cdef Py_ssize_t i, have = 0
        for i in range(nkeys):
            if self.key_index[i] < kept:
                self.key_index[have] = self.key_index[i]
                have += 1
        return have

    cdef void _note_keys(self, Inflight queue, Entry *entry, Py_ssize_t nkeys, Py_ssize_t have,
                         PartialCommand partial) noexcept:
        """The first ``have`` of the keys, each cut at KEY_CUT, then length and hash of those that were cut."""
        cdef Py_ssize_t i, n, total = 0
        cdef uint32_t length
        cdef Arg *arg
        cdef char *to
        for i in range(have):
            n = self.argv[self.key_index[i]].kept
            total += 4 + (n if n < KEY_CUT else KEY_CUT)
        to = queue.reserve(total)
        if to == NULL:
            entry.flags |= F_KEYS_CUT
            return
        for i in range(have):
            arg = &self.argv[self.key_index[i]]
            length = <uint32_t>(arg.kept if arg.kept < KEY_CUT else KEY_CUT)
            memcpy(to, &length, 4)
            memcpy(to + 4, arg.ptr, length)
            to += 4 + length
            entry.cuts += arg.length > KEY_CUT
        entry.keys_kept = <int32_t>have
        entry.keys_length = <int32_t>total
        if have < nkeys:
            entry.flags |= F_KEYS_CUT
        if entry.cuts:
            self._note_cuts(queue, entry, have, partial)

    cdef void _note_cuts(self, Inflight queue, Entry *entry, Py_ssize_t have, PartialCommand partial) noexcept:
        cdef CutKey cut
        cdef Py_ssize_t i
        cdef Arg *arg
        cdef char *to = queue.reserve(entry.cuts * sizeof(CutKey))
        if to == NULL:
            entry.cuts = 0
            entry.flags |= F_KEYS_CUT
            return
        for i in range(have):
            arg = &self.argv[self.key_index[i]]
            if arg.length <= KEY_CUT:
                continue
            memset(&cut, 0, sizeof(CutKey))
            cut.index = <int32_t>i
            cut.length = arg.length
            if arg.kept == arg.length:
                cut.hash = fnv1a(arg.ptr, arg.length, 0)
            elif partial is not None:
                cut.hash = partial.pieces[self.key_index[i]].hash
            memcpy(to, &cut, sizeof(CutKey))
            to += sizeof(CutKey)

    cdef void _note_script(self, Inflight queue, Entry *entry, Py_ssize_t kept) noexcept:
        """The script's or library's SHA-1, and its body the first time."""
        cdef Py_ssize_t at = 2 if entry.spec.kind == ks.KIND_SCRIPT_LOAD else 1
        cdef Py_ssize_t i
        cdef char *to
        cdef bytes sha
        if entry.spec.kind == ks.KIND_FUNCTION_LOAD:
            at = kept - 1 if kept > 2 else kept     # FUNCTION LOAD [REPLACE] body
        if at >= kept or self.argv[at].kept != self.argv[at].length:
            return
        if entry.spec.kind == ks.KIND_EVALSHA:
            if self.argv[at].length != 40:
                return
            to = queue.reserve(40)
            if to != NULL:
                for i in range(40):
                    to[i] = self.argv[at].ptr[i] + 32 if 65 <= self.argv[at].ptr[i] <= 90 else self.argv[at].ptr[i]
                entry.script_length = 40
            return
        sha = self._script(PyBytes_FromStringAndSize(self.argv[at].ptr, self.argv[at].length))
        to = queue.reserve(40)
        if to != NULL:
            memcpy(to, <const char *>sha, 40)
            entry.script_length = 40

    cdef void _keep_body(self, Entry *entry, Py_ssize_t kept) noexcept:
        """A script that is not recorded; a mirror, and a Redis that traffic is switched to, may need it."""
        cdef Py_ssize_t at = 2 if entry.spec.kind == ks.KIND_SCRIPT_LOAD else 1
        if at < kept and self.argv[at].kept == self.argv[at].length:
            self._script(PyBytes_FromStringAndSize(self.argv[at].ptr, self.argv[at].length), False)

    def script_bodies(self):
        """The scripts and libraries that clients have sent, at most SCRIPTS_MAX bytes of them."""
        return list(self.scripts.values())

    cdef bytes _script(self, bytes body, bint recorded=True):
        cdef bytes sha = hashlib.sha1(body, usedforsecurity=False).hexdigest().encode()
        if sha not in self.scripts and self.script_bytes + len(body) <= SCRIPTS_MAX:
            self.scripts[sha] = body
            self.script_bytes += len(body) + SCRIPT_ENTRY
            if recorded:
                self.on_script(sha, body)
        return sha

    cdef void _note_args(self, Inflight queue, Entry *entry, Py_ssize_t argc, Py_ssize_t kept) noexcept:
        """All arguments, exactly; those that are not whole or too many are left out and flagged."""
        cdef Py_ssize_t i, total = 0, whole = 0
        cdef uint32_t length
        cdef char *to
        for i in range(kept):
            if self.argv[i].kept != self.argv[i].length or total + self.argv[i].length > ARGS_MAX:
                break
            total += 4 + self.argv[i].length
            whole += 1
        to = queue.reserve(total)
        if to == NULL:
            entry.flags |= F_ARGS_CUT
            return
        for i in range(whole):
            length = <uint32_t>self.argv[i].length
            memcpy(to, &length, 4)
            memcpy(to + 4, self.argv[i].ptr, length)
            to += 4 + length
        entry.args_kept = <int32_t>whole
        entry.args_length = <int32_t>total
        entry.flags |= F_ARGS
        if whole < argc:
            entry.flags |= F_ARGS_CUT

    cdef void _note_name(self, Inflight queue, Entry *entry, Py_ssize_t kept) noexcept:
        """The name that CLIENT SETNAME or HELLO … SETNAME gives, for when its reply is good."""
        cdef Py_ssize_t at = 2
        cdef Arg *arg
        cdef char *to
        if entry.spec.kind == ks.KIND_HELLO:
            while at < kept and not ks.is_word(&self.argv[at], b"SETNAME", 7):
                at += 3 if ks.is_word(&self.argv[at], b"AUTH", 4) else 1
            at += 1
        if at >= kept:
            return
        arg = &self.argv[at]
        entry.note_length = <uint16_t>(arg.kept if arg.kept < NOTE_MAX else NOTE_MAX)
        to = queue.reserve(entry.note_length)
        if to == NULL:
            entry.note_length = 0
            return
        memcpy(to, arg.ptr, entry.note_length)
        entry.aux = 1                       # a name was given, be it empty

    # ---- its reply arrives ----------------------------------------------------------------------------------------

    cdef void settle(self, Caller *caller, Inflight queue, Entry *entry, Reply *reply, int64_t now_ns) noexcept:
        """Count the exchange and append its row. Reply kinds R_NONE and R_LOST have no latency."""
        cdef Row row
        cdef const char *blob
        cdef const Spec *spec = entry.spec
        cdef int id = spec.id if spec != NULL else -1
        row.latency_ns = now_ns - entry.at_ns if reply.kind > R_LOST else -1
        row.error_length = 0
        if reply.kind == R_ERROR:
            row.error = _after_mark(reply)
            row.error_length = <int32_t>_word(row.error, reply.head + reply.head_length - row.error)
            self.counters.error(id, row.error, row.error_length)
        elif reply.kind == R_LOST:
            self.counters.lost_replies += 1
            if entry.flags & (F_POP | F_BLOCKING):
                self.counters.open_pops += 1
        self.counters.exchange(id, entry.flags, entry.slot, entry.unknown, row.latency_ns, entry.request_bytes,
                               reply.bytes)
        if not self.recording:
            return
        blob = queue.blob(entry)
        row.ts = entry.ts
        row.conn = caller.conn
        row.seq = entry.seq
        row.client_addr = caller.addr
        row.client_addr_length = caller.addr_length
        row.client_name = caller.name
        row.client_name_length = caller.name_length
        row.db = caller.db
        row.command = <const char *>&spec.name[0] if spec != NULL else blob
        row.command_length = spec.name_length if spec != NULL else entry.name_length
        row.keys = blob + entry.name_length
        row.keys_kept = entry.keys_kept
        row.keys_length = entry.keys_length
        row.cuts = row.keys + entry.keys_length
        row.cuts_kept = entry.cuts
        row.script = row.cuts + entry.cuts * sizeof(CutKey)
        row.script_length = entry.script_length
        row.args = row.script + entry.script_length
        row.args_kept = entry.args_kept
        row.args_length = entry.args_length
        row.nkeys = entry.nkeys
        row.nargs = entry.nargs
        row.reply_items = items(reply)
        row.slot = entry.slot
        row.unknown = entry.unknown
        row.txn = caller.txn
        row.request_bytes = entry.request_bytes
        row.reply_bytes = reply.bytes
        row.reply = reply.kind
        row.backend = entry.backend
        row.epoch = entry.epoch
        row.flags = entry.flags
        row.held_ns = row.gap_rows = 0      # by name, not with memset: see inflight.clear_entry
        row.served_key_length = row.gap_length = 0
        if entry.flags & F_POP and self.mode != MODE_NO_KEYS and not entry.flags & F_QUEUED:
            _served(&row, spec, reply)
        if not row.flags & F_SERVED:            # nothing was taken that could be lost
            row.flags &= ~<uint32_t>F_UNDELIVERED
        if self.columns.append(&row):
            self.counters.rows += 1

    cdef void gap(self, Caller *caller, const char *why, int length, int64_t rows, int64_t now_ns) noexcept:
        """Write down that ``rows`` exchanges (0: not known how many) of this connection are missing, and why."""
        cdef Row row
        self.counters.gap_rows += rows
        if not self.recording:
            return
        memset(&row, 0, sizeof(Row))
        row.ts = now_ns + self.wall_offset_ns
        row.conn = caller.conn
        row.seq = -1
        row.client_addr = caller.addr
        row.client_addr_length = caller.addr_length
        row.client_name = caller.name
        row.client_name_length = caller.name_length
        row.db = caller.db
        row.slot = SLOT_NONE
        row.latency_ns = -1
        row.backend = self.backend
        row.epoch = self.epoch
        row.reply_items = -1
        row.gap = why
        row.gap_length = length
        row.gap_rows = rows
        self.columns.append(&row)


cdef bint _tag_within(Arg *arg) noexcept nogil:
    """Whether the part that was kept of a key holds its whole hash tag, so that the slot is certain."""
    cdef const char *opened = <const char *>memchr(arg.ptr, 123, arg.kept)
    cdef const char *closed
    if opened == NULL:
        return False
    closed = <const char *>memchr(opened + 1, 125, arg.ptr + arg.kept - opened - 1)
    return closed != NULL and closed != opened + 1


cdef const char *_after_mark(Reply *reply) noexcept nogil:
    """Where an error's text begins: behind "-", or behind a blob error's length line."""
    cdef const char *newline
    if reply.head[0] == b'!':
        newline = <const char *>memchr(reply.head, 10, reply.head_length)
        if newline != NULL:
            return newline + 1
    return reply.head + 1


cdef Py_ssize_t _word(const char *p, Py_ssize_t n) noexcept nogil:
    """Bytes up to the first space or line end, at most 32."""
    cdef Py_ssize_t i
    for i in range(n if n < 32 else 32):
        if p[i] == 32 or p[i] == 13:
            return i
    return n if n < 32 else 32


cdef void _served(Row *row, const Spec *spec, Reply *reply) noexcept nogil:
    """The key that a pop took from: the first element of the reply, or the command's own key."""
    cdef const char *p = reply.head
    cdef Py_ssize_t i = 0, n = reply.head_length, length = 0
    cdef uint32_t key_length
    if reply.kind == R_NULL or reply.kind <= R_ERROR or reply.kind == R_SIMPLE or spec.kind == ks.KIND_XREAD:
        return
    if not spec.flags & ks.TRAIT_SERVED_FIRST:
        if row.keys_kept and not ((reply.kind == R_ARRAY or reply.kind == R_SET) and n >= 2 and p[1] == b'0'):
            memcpy(&key_length, row.keys, 4)
            row.served_key = row.keys + 4
            row.served_key_length = <int32_t>key_length
            row.flags |= F_SERVED
        return
    while i < n and p[i] != 10:             # past the array's header
        i += 1
    i += 1
    if i >= n or p[i] != b'$':
        return
    i += 1
    while i < n and 48 <= p[i] <= 57 and length < 1048576:
        length = length * 10 + (p[i] - 48)
        i += 1
    i += 2
    if i + (length if length < KEY_CUT else KEY_CUT) > n:
        return
    row.served_key = p + i
    row.served_key_length = <int32_t>(length if length < KEY_CUT else KEY_CUT)
    row.flags |= F_SERVED
