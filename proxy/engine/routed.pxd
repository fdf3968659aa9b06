# Table of contents of a session whose keys live on several backends; the story is in routed.pyx.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from protocol.keyspecs cimport Spec
from protocol.resp cimport PartialCommand, Scan
from proxy.engine.guarded cimport GuardedSession
from proxy.engine.inflight cimport Entry

cdef enum:
    # beside the index of a backend: where a command may go
    ANYWHERE = -1               # where the client stands
    APART = -2                  # nowhere: ``cause`` says why
    END = -3                    # EXEC of a transaction in which a command was refused
    UNSURE = -4                 # not all of its keys have come
    # beside where the next command begins
    WAIT = -1                   # what is left waits: for the rest of a command, until the client has gone over, or held

cdef class Gates:
    cdef public uint64_t held

cdef class Parts:               # one command that is sent in parts
    cdef list left, values
    cdef uint64_t classes
    cdef bint begun                 # the first part has been sent
    cdef tuple at                   # the places of the keys of the part that is under way
    cdef Py_ssize_t size            # of the whole command
    cdef int64_t total
    cdef bint many                  # its reply has a value for each key
    cdef bytes reply                # so far

    cdef list next(self)
    cdef bytes heard(self, bytes raw)
    cdef int _take(self, bytes raw) except -1

cdef class RoutedSession(GuardedSession):
    cdef:
        object table
        tuple accesses, marks, places   # places: number of a class -> backend
        bint plain                  # nothing of credentials stands in the URLs
        readonly int here           # the backend where it stands
        readonly int want           # the one that it must go over to; HERE, HELD
        bytes rest                  # read, and not yet looked at
        PartialCommand streaming    # a command that goes on as it comes
        Py_ssize_t seg              # where the bytes begin that go on as they are
        list out_backend, out_client
        int watched                 # where it watches keys; -1: nowhere
        Py_ssize_t queued           # commands behind MULTI
        bint spoiled                # one of them was refused
        bint guessed                # nothing tells the keys of the command at hand
        str cause, kind             # why the command at hand is refused: in words, and one of OUTCOMES
        tuple verdict               # (kind, cause) for the command that waits
        bint splits                 # --split-keys
        Parts parts                 # of the command that waits
        list pieces                 # of the reply to a part, as they come
        dict errors                 # seq -> what the reply to a stand-in becomes
        Gates gates
        uint64_t classes            # those of the keys of the command at hand, a bit each
        uint64_t queued_classes     # those of the open transaction's commands
        int64_t ahead               # commands that were looked at and have no number yet: they will have seq, seq + 1, …
        int64_t *last               # of each class, and of keys that can't be told, the number of the last command
        int count                   # of the classes

    cdef int64_t _last_of(self, uint64_t classes) noexcept
    cdef void _mark(self, uint64_t classes) noexcept
    cdef bint _is_held(self, int place) except -1
    cdef int _look_again(self, int64_t now_ns) except -1
    cdef int _swallow(self) except -1
    cdef int _looked(self, const char *p, Py_ssize_t n, bint fresh, int64_t now_ns) except -1
    cdef int _look(self, const char *p, Py_ssize_t n, bint fresh, int64_t now_ns) except -1
    cdef int _own(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1
    cdef int _flush(self, const char *p, Py_ssize_t upto, int64_t now_ns) except -1
    cdef Py_ssize_t _one(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -3
    cdef Py_ssize_t _command_at(self, const char *p, Py_ssize_t at, Scan *scan, list words, int64_t now_ns) except -3
    cdef list _arguments_of(self, Py_ssize_t argc)
    cdef int _goes_on(self, const Spec *spec, Py_ssize_t argc) except -1
    cdef int _place(self, const Spec *spec, Py_ssize_t argc, Py_ssize_t kept) except -10
    cdef bint _sweeps(self, const Spec *spec) except -1
    cdef int _place_of_keys(self, int why, Py_ssize_t nkeys, Py_ssize_t kept) except -10
    cdef int _apart(self, str kind, str what, int one, int other) except -10
    cdef int _decide(self, const Spec *spec, int place, Py_ssize_t argc) except -10
    cdef int _decide_in_multi(self, int kind, int place, Py_ssize_t argc) except -10
    cdef Py_ssize_t _unfinished(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -3
    cdef Py_ssize_t _streamed(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -3
    cdef int _stand_in(self, int place, Py_ssize_t argc, Py_ssize_t kept, Py_ssize_t size, uint32_t flags,
                       int64_t now_ns) except -1
    cdef int _send_part(self, int64_t now_ns) except -1
    cdef int _keep_piece(self, const char *p, Py_ssize_t n) except -1
    cdef int _part_heard(self, Entry *head, const char *p, Py_ssize_t n, int64_t now_ns) except -1
    cdef str _name_of(self, Entry *entry)
