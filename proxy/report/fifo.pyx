# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Queues replayed from what was seen of them: how deep each was when, and how long each element waited.

Knows: lists that are filled at the left and emptied at the right, one event after another in order of time. Refuses to
know: commands, keys, and where events come from (``studies.sidekiq``).

A queue's depth is *not known* until it was seen empty: until then depths count from the first event (relative), and
events wait. Seen empty, the depth at the first event follows, and what waited is replayed. An event that leaves the depth
open (elements removed by value, rows missing from the capture) begins that again: what lies between is unknown, never
guessed.

An observation "empty" counts only if nothing else happened to the queue within ``guard_ns`` of it: replies of
different connections may overtake each other by that much.
"""
# Over 300 lines: one machine of a few states, and each of its methods reads or changes them.
from libc.math cimport log2
from libc.stdint cimport int8_t, int32_t, int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

cpdef enum:
    PUSH = 1                    # amount elements at the left; -1: it is not known how many
    REQUEUE = 2                 # amount elements at the right: next to be popped
    POP = 3                     # one element at the right
    POP_LEFT = 4                # one element at the left
    EMPTY = 5                   # the queue was seen empty
    CLEARED = 6                 # all elements were removed
    DISTURBED = 7               # elements came or went, it is not known how many

cpdef enum:
    STEPS = 32                  # of a wait's histogram per doubling: 1.1 % at most
    BUCKETS = 2048              # STEPS * 64 doublings
    POINTS_MOST = 2000

cdef enum:
    NOTHING = 0                 # of a point: no event in it
    RELATIVE = 1                # counts from the queue's first event
    KNOWN = 2
    UNKNOWN = 3

cdef int64_t NO_TIME = -1


cdef struct Item:
    int64_t at                  # when it was pushed; NO_TIME: before the capture
    int32_t count
    int8_t kind


cdef struct Ring:
    Item *items
    Py_ssize_t first, count, capacity


cdef struct Point:
    int64_t pushed, popped, high, last
    int8_t state


cdef struct Queue:
    Ring ring                   # while known: what is in the queue; else the events that wait for a depth
    bint known
    bint dropped                # too much waited: nothing is paired until the queue is seen empty
    bint late                   # not the first time that its depth is not known
    int64_t depth
    int64_t lowest, top         # of depths that are relative
    int64_t highest             # of depths that are known; -1: none was
    Py_ssize_t origin           # point from which depths are relative
    int64_t last_at             # of the last push or pop
    int64_t empty_at            # observation that waits for its guard; NO_TIME: none
    int64_t owed, owed_at       # pops that came before the push of what they took
    int64_t pushed, popped, requeued, removed, unseen_in, unseen_out, unknown_pushes, paired, wait_max
    Point *points
    int64_t *waits


cdef bint _grow(Ring *ring) noexcept nogil:
    cdef Py_ssize_t capacity = ring.capacity * 2 if ring.capacity else 64, i
    cdef Item *items = <Item *>realloc(ring.items, capacity * sizeof(Item))
    if items == NULL:
        return False
    for i in range(ring.first):                     # what had wrapped around follows the rest
        items[ring.capacity + i] = items[i]
    ring.items = items
    ring.capacity = capacity
    return True


cdef Item *_at(Ring *ring, Py_ssize_t index) noexcept nogil:
    return &ring.items[(ring.first + index) & (ring.capacity - 1)]


cdef class Fifo:
    """The queues of one capture, numbered from 0.

    queues: how many. start_ns, step_ns, points: the time line of depths. keep: most items held of all queues together.
    """

    cdef:
        Queue *queues
        Py_ssize_t size, points, kept, keep
        int64_t start_ns, step_ns, guard_ns

    def __cinit__(self, Py_ssize_t queues, int64_t start_ns, int64_t step_ns, Py_ssize_t points,
                  int64_t guard_ns=20_000_000, Py_ssize_t keep=2_000_000):
        cdef Py_ssize_t i
        if not 0 < points <= POINTS_MOST or step_ns <= 0:
            raise ValueError("a time line has 1 to 2,000 points, at least a nanosecond apart")
        self.size = queues
        self.points = points
        self.start_ns = start_ns
        self.step_ns = step_ns
        self.guard_ns = guard_ns
        self.keep = keep
        self.queues = <Queue *>calloc(queues + 1, sizeof(Queue))
        if self.queues == NULL:
            raise MemoryError
        for i in range(queues):
            self.queues[i].points = <Point *>calloc(points, sizeof(Point))
            self.queues[i].waits = <int64_t *>calloc(BUCKETS, sizeof(int64_t))
            self.queues[i].empty_at = NO_TIME
            self.queues[i].last_at = NO_TIME
            self.queues[i].highest = -1
            if self.queues[i].points == NULL or self.queues[i].waits == NULL:
                raise MemoryError

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.queues == NULL:
            return
        for i in range(self.size):
            free(self.queues[i].points)
            free(self.queues[i].waits)
            free(self.queues[i].ring.items)
        free(self.queues)

    def feed(self, const int64_t[::1] times, const int32_t[::1] queues, const int8_t[::1] kinds,
             const int32_t[::1] amounts):
        """Events in order of time. Queue -1: all of them."""
        cdef Py_ssize_t i, j, count = times.shape[0]
        if queues.shape[0] != count or kinds.shape[0] != count or amounts.shape[0] != count:
            raise ValueError("columns of different lengths")
        for i in range(count):
            if not -1 <= queues[i] < self.size:
                raise IndexError(f"no queue {queues[i]}")
        with nogil:
            for i in range(count):
                if queues[i] >= 0:
                    self._event(&self.queues[queues[i]], times[i], kinds[i], amounts[i])
                else:
                    for j in range(self.size):
                        self._event(&self.queues[j], times[i], kinds[i], amounts[i])

    def finish(self):
        """There are no more events."""
        cdef Py_ssize_t i
        for i in range(self.size):
            if self.queues[i].empty_at != NO_TIME:
                self._empty(&self.queues[i])
            self._settle_owed(&self.queues[i], NO_TIME)

    # ---- results ------------------------------------------------------------------------------------------------------

    def totals(self, Py_ssize_t queue):
        """One queue's numbers by name. ``depth``: at the end, None if not known; ``relative``: the same counted from its
        first event; ``at_least``: what it must hold at the end then. ``highest``: of all known depths, or of the
        relative ones where none ever was."""
        cdef Queue *q = self._queue(queue)
        return {
            "pushed": q.pushed, "popped": q.popped, "requeued": q.requeued, "removed": q.removed,
            "unseen_in": q.unseen_in, "unseen_out": q.unseen_out, "unknown_pushes": q.unknown_pushes,
            "paired": q.paired, "wait_max_ns": q.wait_max, "depth": q.depth if q.known else None,
            "highest": q.highest if q.highest >= 0 else None if q.late else q.top,
            "relative": None if q.known or q.late else q.depth,
            "at_least": None if q.known or q.late else q.depth - q.lowest,
        }

    def waits(self, Py_ssize_t queue):
        """(bucket, count) of the elements' waits; a bucket's middle is 2 ** ((bucket + 0.5) / STEPS) ns."""
        cdef Queue *q = self._queue(queue)
        cdef Py_ssize_t i
        return [(i, q.waits[i]) for i in range(BUCKETS) if q.waits[i]]

    def line(self, Py_ssize_t queue):
        """One tuple for each point: pushed, popped, highest and last depth (None: not known), whether it is relative."""
        cdef Queue *q = self._queue(queue)
        cdef Py_ssize_t i
        cdef Point *point
        cdef int8_t state = NOTHING
        cdef int64_t last = 0
        found = []
        for i in range(self.points):
            point = &q.points[i]
            if point.state != NOTHING:
                state = point.state
                last = point.last
            high = point.high if point.state != NOTHING else last
            if state == UNKNOWN or state == NOTHING or (state == RELATIVE and q.late):
                found.append((point.pushed, point.popped, None, None, False))
            else:
                found.append((point.pushed, point.popped, high, last, state == RELATIVE))
        return found

    cdef Queue *_queue(self, Py_ssize_t queue) except NULL:
        if not 0 <= queue < self.size:
            raise IndexError(f"no queue {queue}")
        return &self.queues[queue]

    # ---- events -------------------------------------------------------------------------------------------------------

    cdef void _event(self, Queue *q, int64_t at, int8_t kind, int32_t amount) noexcept nogil:
        if q.empty_at != NO_TIME:
            if at - q.empty_at > self.guard_ns:
                self._empty(q)
            elif kind != EMPTY:
                q.empty_at = NO_TIME
        if q.owed and (kind == EMPTY or at - q.owed_at > self.guard_ns):
            self._settle_owed(q, at)
        if kind == EMPTY:
            if q.last_at == NO_TIME or at - q.last_at > self.guard_ns:
                q.empty_at = at
            return
        q.last_at = at
        if kind == CLEARED:
            self._cleared(q, at)
        elif kind == DISTURBED or amount < 0:
            q.unknown_pushes += kind != DISTURBED
            self._disturbed(q, at)
        else:
            self._counted(q, at, kind, amount)
            if q.known:
                self._paired(q, at, kind, amount)
            elif not q.dropped:
                self._keep(q, at, kind, amount, False)

    cdef void _counted(self, Queue *q, int64_t at, int8_t kind, int32_t amount) noexcept nogil:
        """Totals, depth and the time line."""
        cdef Point *point = self._point(q, at)
        if kind == PUSH or kind == REQUEUE:
            q.depth += amount
            point.pushed += amount
            if kind == PUSH:
                q.pushed += amount
            else:
                q.requeued += amount
        else:
            q.depth -= amount
            q.popped += amount
            point.popped += amount
            q.lowest = min(q.lowest, q.depth)
        self._shown(q, point)

    cdef Point *_point(self, Queue *q, int64_t at) noexcept nogil:
        cdef int64_t index = (at - self.start_ns) // self.step_ns
        return &q.points[0 if index < 0 else min(index, self.points - 1)]

    cdef void _shown(self, Queue *q, Point *point) noexcept nogil:
        cdef int8_t state = KNOWN if q.known else RELATIVE
        if point.state != state or q.depth > point.high:
            point.high = q.depth
        point.state = state
        point.last = q.depth
        if q.known:
            q.highest = max(q.highest, q.depth)
        else:
            q.top = max(q.top, q.depth)

    cdef void _empty(self, Queue *q) noexcept nogil:
        """The queue was empty at ``empty_at``: the depth is known from there, and often back to its first event."""
        cdef int64_t at = q.empty_at, at_first = -q.depth
        q.empty_at = NO_TIME
        if q.known:
            if q.depth > 0:
                q.unseen_out += q.depth
            self._emptied(q, at)
            return
        if at_first >= 0:
            self._shift(q, at_first)
            q.highest = max(q.highest, q.top + at_first)
            q.known = True
            if not q.dropped:
                self._replay(q, at_first)
        else:
            q.unseen_out += q.depth if q.depth > 0 else 0
            self._forget(q)
            q.known = True
        self._emptied(q, at)

    cdef void _emptied(self, Queue *q, int64_t at) noexcept nogil:
        self._drop_items(q)
        q.depth = 0
        self._shown(q, self._point(q, at))

    cdef void _cleared(self, Queue *q, int64_t at) noexcept nogil:
        if q.known:
            q.removed += max(q.depth, 0)
        else:
            self._forget(q)
            q.known = True
        self._emptied(q, at)

    cdef void _disturbed(self, Queue *q, int64_t at) noexcept nogil:
        if not q.known:
            self._forget(q)
        q.known = False
        q.late = True
        q.dropped = False
        self._drop_items(q)
        q.depth = 0
        q.lowest = 0
        q.top = 0
        self._point(q, at).state = UNKNOWN
        q.origin = min((max(at - self.start_ns, 0) // self.step_ns) + 1, self.points)

    cdef void _shift(self, Queue *q, int64_t by) noexcept nogil:
        """The depths since ``origin`` were relative; they are not any more."""
        cdef Py_ssize_t i
        for i in range(q.origin, self.points):
            if q.points[i].state == RELATIVE:
                q.points[i].state = KNOWN
                q.points[i].high += by
                q.points[i].last += by

    cdef void _forget(self, Queue *q) noexcept nogil:
        """The depths since ``origin`` will never be known."""
        cdef Py_ssize_t i
        for i in range(q.origin, self.points):
            if q.points[i].state == RELATIVE:
                q.points[i].state = UNKNOWN

    cdef void _settle_owed(self, Queue *q, int64_t at) noexcept nogil:
        """What was popped without having been pushed was pushed unseen."""
        q.unseen_in += q.owed
        if q.known:
            q.depth += q.owed
            if at != NO_TIME and q.owed:
                self._shown(q, self._point(q, q.owed_at))
        q.owed = 0

    # ---- pairs --------------------------------------------------------------------------------------------------------

    cdef void _replay(self, Queue *q, int64_t at_first) noexcept nogil:
        """The events that waited, now that it is known how many elements there were before them."""
        cdef Ring events = q.ring
        cdef Py_ssize_t i
        cdef Item item
        memset(&q.ring, 0, sizeof(Ring))
        self.kept -= events.count
        if at_first:
            self._keep(q, NO_TIME, PUSH, <int32_t>min(at_first, 2147483647), False)
        for i in range(events.count):
            item = _at(&events, i)[0]
            self._paired(q, item.at, item.kind, item.count)
        free(events.items)

    cdef void _paired(self, Queue *q, int64_t at, int8_t kind, int32_t amount) noexcept nogil:
        cdef int32_t i
        if kind == PUSH or kind == REQUEUE:
            while q.owed and amount:                # a pop's reply that came before the push's
                q.owed -= 1
                amount -= 1
                self._waited(q, 0)
            if amount:
                self._keep(q, at, kind, amount, kind == REQUEUE)
            return
        for i in range(amount):
            if not q.ring.count:
                if not q.dropped:
                    q.owed += 1
                    q.owed_at = at
                continue
            self._take(q, at, kind == POP)

    cdef void _take(self, Queue *q, int64_t at, bint right) noexcept nogil:
        """One element leaves: at the right the oldest, which the ring begins with."""
        cdef Item *item = _at(&q.ring, 0 if right else q.ring.count - 1)
        if item.at != NO_TIME:
            self._waited(q, at - item.at)
        item.count -= 1
        if item.count == 0:
            if right:
                q.ring.first = (q.ring.first + 1) & (q.ring.capacity - 1)
            q.ring.count -= 1
            self.kept -= 1

    cdef void _waited(self, Queue *q, int64_t wait_ns) noexcept nogil:
        wait_ns = max(wait_ns, 0)
        q.paired += 1
        q.wait_max = max(q.wait_max, wait_ns)
        q.waits[<int>(log2(<double>wait_ns) * STEPS) if wait_ns > 0 else 0] += 1

    cdef void _keep(self, Queue *q, int64_t at, int8_t kind, int32_t amount, bint front) noexcept nogil:
        """Hold an element (or an event). Where there is no room the queue's pairs are given up until it is empty."""
        cdef Ring *ring = &q.ring
        cdef Item *item
        if q.dropped:
            return
        if self.kept >= self.keep or (ring.count == ring.capacity and not _grow(ring)):
            self._drop_items(q)
            q.dropped = True
            return
        if front:
            ring.first = (ring.first - 1) & (ring.capacity - 1)
            item = &ring.items[ring.first]
        else:
            item = _at(ring, ring.count)
        ring.count += 1
        self.kept += 1
        item.at = at
        item.kind = kind
        item.count = amount

    cdef void _drop_items(self, Queue *q) noexcept nogil:
        self.kept -= q.ring.count
        q.ring.count = 0
        q.owed = 0
        q.dropped = False
