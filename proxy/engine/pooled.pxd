# Table of contents of a session that shares backend connections; the story is in pooled.pyx.
from libc.stdint cimport int64_t, uint8_t

from protocol.keyspecs cimport Spec
from protocol.resp cimport Scan, ScanResult
from proxy.engine.inflight cimport Entry
from proxy.engine.recorder cimport Reply
from proxy.engine.session cimport Session

cdef enum:                      # pooling.Way
    WAY_SHARED = 0
    WAY_BLOCKS = 1
    WAY_PRIVATE = 2
    WAY_PINNED = 3
    WAY_LOCAL = 4
    WAY_REFUSED = 5

cdef class PooledSession(Session):
    cdef:
        bytes ways, in_piece            # pooling.ways, pooling.may_be_in_piece
        object access
        readonly object person          # pooling.Person
        bint authenticated              # as far as it is shunt's to say
        readonly bint private           # a backend connection of its own carries what it sends
        readonly bint wants_private     # ``held`` begins with a command that needs one
        readonly bint blocks            # that command only waits: refused, it leaves nothing undone behind it
        bint stopped                    # ``held`` waits until nothing is in flight
        bint pinned
        int64_t tracking                # behind the last command that may have switched it on; 0: it is off
        bint uncounted                  # replies may be off, or not: nothing of shunt's own fits in between any more
        bint unheard                    # the last command got no reply: nothing tells whether Redis has run it
        bint wrote_shared, wrote_private
        readonly bint reset             # RESET has passed: the private connection is not as it was
        int due                         # replies due to what on_client_bytes sends on
        Py_ssize_t seg                  # where the bytes begin that go on as they are
        Py_ssize_t piece_end            # of a whole transaction that goes over a shared connection
        object creds                    # (user, password) or (password,) that the client logged in with; None
        dict changes                    # seq -> what a good reply to that command changes

    cdef bint neutral(self) noexcept
    cdef int leased(self, Py_ssize_t prelude) except -1
    cdef int released(self) except -1
    cdef Py_ssize_t _run(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) noexcept
    cdef Py_ssize_t _one(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -2
    cdef Py_ssize_t _unfinished(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -2
    cdef Py_ssize_t _broken(self, ScanResult result, const char *p, Py_ssize_t n, Py_ssize_t at, Scan *scan,
                            int64_t now_ns) except -2
    cdef Py_ssize_t _dispatch(self, const char *p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t size, Py_ssize_t argc,
                              Py_ssize_t kept, bint line, int64_t now_ns) except -2
    cdef int _way(self, const Spec *spec, Py_ssize_t argc, Py_ssize_t kept) noexcept
    cdef int _emit(self, const char *p, Py_ssize_t upto) except -1
    cdef Py_ssize_t _stop(self, const char *p, Py_ssize_t n, Py_ssize_t at) except -2
    cdef Py_ssize_t _piece(self, const char *p, Py_ssize_t n, Py_ssize_t at)
    cdef Py_ssize_t _turn_away(self, bytes reply, int64_t now_ns) except -2
    cdef object _credentials(self, bytes name, list args, Py_ssize_t size, int flags, int64_t now_ns)
    cdef int _while_stopped(self, const char *p, Py_ssize_t n) except -1
    cdef bint _may_listen(self) noexcept
    cdef bint _may_monitor(self) noexcept
    cdef int _note_tracking(self, list args) except -1
    cdef Py_ssize_t _local(self, list args, const char *p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t size, int flags,
                           int64_t now_ns) except -2
    cdef int _change(self, int64_t seq, bint good) except -1
