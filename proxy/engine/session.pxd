# Table of contents of the session; the story is in session.pyx.
from libc.stdint cimport int32_t, int64_t, uint32_t

from protocol.keyspecs cimport Arg
from protocol.resp cimport PartialCommand, ReplyScan, Scan, ScanResult
from proxy.engine.inflight cimport Entry, Inflight
from proxy.engine.recorder cimport Caller, Recorder, Reply
from proxy.engine.tap cimport Tap
from proxy.engine.tape cimport Tape

cdef enum:
    FORWARD = 0                 # the bytes go on as they are
    EDITED = 1                  # what goes on stands in to_backend and to_client

cdef class Session:
    cdef:
        Recorder recorder
        Inflight queue
        Caller caller
        readonly bytes addr, name   # the client's address, as the capture shows it, and its name; b"": none
        int64_t seq
        # the client's side
        PartialCommand partial
        bint up_pipe            # commands are no longer looked at
        bint in_multi           # as the commands say, before the replies
        bint uncountable        # the open transaction holds a command after which EXEC's replies can't be counted
        bint reply_off, skip_now, skip_next
        # the backend's side
        ReplyScan scan
        char *stash             # first bytes of a reply that spans reads
        Py_ssize_t stash_length, stash_capacity
        bint down_pipe          # replies are no longer looked at
        bint multi              # as the replies say
        bint resp3, monitor
        int64_t txns, txn, watch_txn
        int32_t txn_slot, next_db
        uint32_t txn_flags
        bytes txn_name
        int64_t channels, patterns, shards
        set subscribed          # (SUBSCRIBE command, name) of what it hears; None: nothing yet
        str lost_track          # why its state is not known well enough to be made again; None: it is
        list tracking_on        # the CLIENT TRACKING command in force
        dict tracking_asked     # seq -> a CLIENT TRACKING command in flight
        bint unproven           # a command that gets no reply was sent behind the last one that got one
        int64_t settled_bytes   # of the frames so far of a command with several
        int32_t home_db         # where a new connection is, and after RESET
        # replies by shunt itself, and what waits here because it may be about credentials (guarded)
        bytes held
        dict locals             # seq -> reply by shunt to a command in flight
        int splices             # commands in flight that shunt answers, or whose reply it swallows
        bint swallowing
        readonly list to_backend, to_client
        readonly str failure    # why the connection can't go on; None: it can
        readonly bint close_after
        readonly int64_t backend_id
        readonly bint draining          # to be closed at the next command boundary
        public bint client_gone         # the client has closed its side, or its connection broke
        Tap tap                         # copies what a mirror wants; None: nobody does
        readonly list salvage           # giving_back.Pop of each pop answered since nobody reads; None: somebody may
        readonly list given             # the reply's first line to each command that gives back
        int64_t begun_seq               # of the command whose reply was under way when the client was lost; -1: none
        int txn_pops                    # pops queued in the open transaction
        # riding through an outage; tape None: replies go on unread
        readonly Tape tape              # what is in flight, as it was sent on
        bytes parked                    # replies that the client is not given yet; None: none are kept from it
        bint letting_go                 # of what was parked
        bint leaving                    # it has sent what ends the connection
        bint own_login                  # it has sent credentials of its own to Redis

    cdef int on_client_bytes(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1
    cdef int _unusual(self, ScanResult result, const char *p, Py_ssize_t used, int64_t now_ns) except -1
    cdef int _inline(self, bytes line, Py_ssize_t total, int64_t now_ns) except -1
    cdef int _refuse_frame(self, const char *p, Py_ssize_t at, int64_t now_ns) except -1
    cdef void _command(self, Py_ssize_t argc, Py_ssize_t kept, Py_ssize_t size, uint32_t flags, int64_t now_ns) noexcept
    cdef void _command_of(self, Py_ssize_t argc, Py_ssize_t kept, Py_ssize_t size, uint32_t flags, int64_t now_ns, PartialCommand partial) noexcept
    cdef void _special(self, Entry *entry, Py_ssize_t argc, Py_ssize_t kept) noexcept
    cdef void _client_reply(self, Entry *entry, Py_ssize_t kept) noexcept
    cdef void _silence(self, Entry *entry) noexcept
    cdef void _next_skip(self) noexcept
    cdef void _settle_silent(self, int64_t now_ns) noexcept
    cdef void _apply_silent(self, Entry *entry) noexcept
    cdef int on_backend_bytes(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1
    cdef void _stash(self, const char *p, Py_ssize_t n) noexcept
    cdef void _frame(self, const char *p, Py_ssize_t n, int64_t now_ns) noexcept
    cdef bint _is_push(self, Entry *head, Reply *reply) noexcept
    cdef int _subscribed(self, int kind, Reply *reply) except -1
    cdef int _ask_tracking(self, Entry *entry, Py_ssize_t kept) except -1
    cdef int _tracks(self, int64_t seq) except -1
    cdef void _channel_reply(self, Entry *head, Reply *reply, bint whole, int64_t now_ns) noexcept
    cdef void _reply(self, Entry *head, Reply *reply, int64_t now_ns) noexcept
    cdef void _after_reply(self, int64_t now_ns) noexcept
    cdef int lose_client(self, bint begun) except -1
    cdef bint reply_begun(self) noexcept
    cdef void _for_nobody(self, Entry *entry, Reply *reply) noexcept
    cdef int _salvage(self, Entry *entry, Reply *reply) except -1
    cdef bint _grow_stash(self, Py_ssize_t n) noexcept
    cdef void _settle(self, Entry *entry, Reply *reply, int64_t now_ns) noexcept
    cdef void _apply(self, Entry *entry, Reply *reply) noexcept
    cdef void _never_in_multi(self) noexcept
    cdef void _next_db(self, Entry *entry) noexcept
    cdef void _open_transaction(self) noexcept
    cdef void _in_transaction(self, Entry *entry, Reply *reply) noexcept
    cdef void _queue_slot(self, Entry *entry) noexcept
    cdef void _end_transaction(self, bint ran) noexcept
    cdef void _reset(self) noexcept
    cdef bytes _note(self, Entry *entry)
    cdef void _rename(self, bytes name) noexcept
    cdef void _reach_pipe(self, Entry *head, int64_t now_ns) noexcept
    cdef void _become_pipe(self, str reason, int64_t now_ns) noexcept
    cdef int _load(self, list args) except -1
    cdef int _answer(self, bytes reply, int64_t now_ns) except -1
    cdef int _answer_noted(self, object reply, list args, Py_ssize_t size, uint32_t flags, int64_t now_ns) except -1
    cdef int _run_locals(self, list out, int64_t now_ns) except -1
    cdef bytes _local_reply(self, object request)
    cdef bint _parks(self, Entry *head, const char *p, Py_ssize_t n) noexcept
    cdef bint _transaction_parks(self, const char *p, Py_ssize_t n) noexcept
    cdef Py_ssize_t due(self) noexcept
    cdef int _edit_replies(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1
    cdef int _swallowed(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1
