# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Exchanges as columns in memory, until a batch of them is handed over.

Knows: the row of ``capture.format.SCHEMA`` as raw buffers, and how Arrow takes them over; appending touches no Python
object. Refuses to know: where a row comes from and where a batch goes. A row that finds no room is counted in
``dropped``, never half written.

A batch's memory is not copied: it becomes Arrow's through the C data interface, and new memory takes the next rows. What
is nearly always 0 or empty is not written until it is not (``Sparse``, ``Text``); a column without anything is one that
all batches share (``ZEROS``).
"""
# Over 300 lines: a row's columns are named where they grow, are filled and are given away; apart they would drift.
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

import pyarrow as pa

from proxy.capture.format import SCHEMA
from proxy.engine.inflight cimport CutKey

cdef enum:
    FIRST_ROWS = 1024
    MAX_ROWS = 131072           # one read event brings at most 52,429 replies ("+\r\n" takes 5 bytes with its type)
    KEEP_BYTES = 33554432
    MAX_BYTES = 134217728       # of keys and arguments in one batch
    FIRST_BYTES = 4096
    GIANT_BYTES = 16777216      # the next batch does not begin with so much room for a column's bytes
    DENSE = 12                  # columns of numbers that differ from row to row
    SPARSE = 7
    TEXTS = 7
    LISTS = 3

cdef int[DENSE] DENSE_WIDTH = [8, 8, 8, 4, 2, 8, 8, 8, 1, 4, 4, 4]
cdef int[SPARSE] SPARSE_WIDTH = [4, 1, 8, 8, 2, 8, 8]
cdef int64_t[MAX_ROWS + 1] ZEROS        # never written to: its pages are the kernel's one page of zeros

if len(SCHEMA) != COLUMNS:
    raise ImportError("capture.format and engine.columns disagree about the number of columns")


cdef extern from "<malloc.h>" nogil:
    int mallopt(int parameter, int value)
    int M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def keep_memory(int size=KEEP_BYTES):
    """Have the C library keep up to ``size`` freed bytes instead of giving them back to the kernel at once.

    Each batch takes and frees some megabytes. Given back and fetched again, page by page, that was a third of what
    recording cost (160 of 340 ns a row). Arrow's own allocator gives back too, and cost another 90 ns in the capture's
    thread, so Arrow uses the C library's. For the whole process: the app calls it once.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt(M_MMAP_THRESHOLD, size)
    mallopt(M_TRIM_THRESHOLD, size)


# ---- room -------------------------------------------------------------------------------------------------------------

cdef bint _grow(void **p, Py_ssize_t capacity, Py_ssize_t item) noexcept nogil:
    cdef void *grown = realloc(p[0], capacity * item)
    if grown == NULL:
        return False
    p[0] = grown
    return True


cdef inline bint _text_room(Text *text, Py_ssize_t n) noexcept nogil:
    """Make sure that n more bytes fit: a comparison, nearly always."""
    return text.length + n <= text.capacity and text.data != NULL or _more_bytes(&text.data, &text.capacity, text.length + n)


cdef inline bint _items_room(Items *items, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """Make sure that ``rows`` more strings of together n bytes fit."""
    if items.rows + rows > items.rows_capacity or items.offsets == NULL:
        if not _more_items(items, items.rows + rows):
            return False
    return items.length + n <= items.capacity and items.data != NULL or _more_bytes(&items.data, &items.capacity, items.length + n)


cdef bint _more_bytes(char **data, Py_ssize_t *capacity, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t more = capacity[0] if capacity[0] else FIRST_BYTES
    while more < n:
        more *= 2
    if not _grow(<void **>data, more, 1):
        return False
    capacity[0] = more
    return True


cdef bint _more_items(Items *items, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t more = items.rows_capacity if items.rows_capacity else FIRST_ROWS
    while more < n:
        more *= 2
    if not _grow(<void **>&items.offsets, more + 1, sizeof(int32_t)):
        return False
    items.rows_capacity = more
    items.offsets[0] = 0
    return True


cdef Py_ssize_t _next_capacity(Py_ssize_t used, Py_ssize_t capacity, Py_ssize_t least) noexcept nogil:
    """Room for a batch after one that used so much of its capacity: as much and an eighth, or half the room."""
    cdef Py_ssize_t wanted = (used + used // 8 + least - 1) // least * least
    if used > capacity // 4:
        return wanted
    return capacity // 2 if capacity // 2 > least else least


# ---- one value --------------------------------------------------------------------------------------------------------

cdef inline char *_at(Sparse *column, Py_ssize_t i, int width) noexcept nogil:
    """Where row i's number goes; the rows before it, which were not written, are 0."""
    if column.filled < i:
        memset(column.data + column.filled * width, 0, (i - column.filled) * width)
    column.filled = i + 1
    return column.data + i * width


cdef inline void _end(int32_t *offsets, Py_ssize_t *filled, Py_ssize_t i, Py_ssize_t before, Py_ssize_t end) noexcept nogil:
    """Row i ends at ``end``; the rows before it that were not written are empty."""
    cdef Py_ssize_t k
    for k in range(filled[0], i):
        offsets[k + 1] = <int32_t>before
    offsets[i + 1] = <int32_t>end
    filled[0] = i + 1


cdef inline void _put(Text *text, Py_ssize_t i, const char *p, Py_ssize_t n) noexcept nogil:
    """Row i's string; there is room. An empty one need not be put."""
    memcpy(text.data + text.length, p, n)
    _end(text.offsets, &text.filled, i, text.length, text.length + n)
    text.length += n


cdef inline void _put_items(Items *items, const char *p, Py_ssize_t count) noexcept nogil:
    """Append ``count`` strings from a blob of u32 length and bytes; there is room."""
    cdef uint32_t n
    cdef Py_ssize_t i
    for i in range(count):
        memcpy(&n, p, 4)
        memcpy(items.data + items.length, p + 4, n)
        items.length += n
        items.rows += 1
        items.offsets[items.rows] = <int32_t>items.length
        p += 4 + n


cdef class Columns:
    """The columns of one worker."""

    def __dealloc__(self):
        cdef void **table[POINTERS]
        cdef int i
        for i in range(self._table(table)):
            free(table[i][0])

    cdef int _table(self, void ***of) noexcept nogil:
        """Where the pointers to all of a batch's memory stand: dense, sparse, texts' and lists' ends; then bytes. How many."""
        cdef void **dense[DENSE]
        cdef Sparse *sparse[SPARSE]
        cdef Text *texts[TEXTS]
        cdef int i, n = 0
        dense[:] = [<void **>&self.ts, <void **>&self.conn, <void **>&self.seq, <void **>&self.nkeys, <void **>&self.slot,
                    <void **>&self.latency_ns, <void **>&self.request_bytes, <void **>&self.reply_bytes,
                    <void **>&self.reply, <void **>&self.flags, <void **>&self.nargs, <void **>&self.reply_items]
        sparse[:] = [&self.db, &self.unknown, &self.txn, &self.held_ns, &self.backend, &self.epoch, &self.gap_rows]
        texts[:] = [&self.client_addr, &self.client_name, &self.command, &self.error, &self.served_key, &self.script,
                    &self.gap]
        for i in range(DENSE):
            of[i] = dense[i]
        for i in range(SPARSE):
            of[DENSE + i] = <void **>&sparse[i].data
        n = DENSE + SPARSE
        for i in range(TEXTS):
            of[n + i] = <void **>&texts[i].offsets
            of[n + TEXTS + LISTS + i] = <void **>&texts[i].data
        n += TEXTS
        of[n] = <void **>&self.keys.offsets
        of[n + 1] = <void **>&self.cuts.offsets
        of[n + 2] = <void **>&self.args.offsets
        n += LISTS + TEXTS
        of[n] = <void **>&self.key_items.offsets
        of[n + 1] = <void **>&self.key_items.data
        of[n + 2] = <void **>&self.arg_items.offsets
        of[n + 3] = <void **>&self.arg_items.data
        of[n + 4] = <void **>&self.cut_index
        of[n + 5] = <void **>&self.cut_length
        of[n + 6] = <void **>&self.cut_hash
        return n + 7

    cdef bint _grow_rows(self) noexcept nogil:
        """Room for as many rows as planned, or for twice as many."""
        cdef void **table[POINTERS]
        cdef Py_ssize_t n = self.capacity * 2 if self.capacity else self.planned
        cdef int i
        if n < FIRST_ROWS:
            n = FIRST_ROWS
        if n > MAX_ROWS:
            n = MAX_ROWS
        if self.rows >= n:
            return False
        self._table(table)
        for i in range(DENSE):
            if not _grow(table[i], n, DENSE_WIDTH[i]):
                return False
        for i in range(SPARSE):
            if not _grow(table[DENSE + i], n, SPARSE_WIDTH[i]):
                return False
        for i in range(DENSE + SPARSE, DENSE + SPARSE + TEXTS + LISTS):
            if not _grow(table[i], n + 1, sizeof(int32_t)):
                return False
            (<int32_t *>table[i][0])[0] = 0
        self.capacity = n
        return True

    cdef bint _room(self, const Row *row, Py_ssize_t keys, Py_ssize_t args) noexcept nogil:
        cdef Py_ssize_t n
        if self.rows == self.capacity and not self._grow_rows():
            return False
        if self.bytes > MAX_BYTES:
            return False
        if self.cuts.items + row.cuts_kept > self.cut_capacity:
            n = 2 * (self.cuts.items + row.cuts_kept)
            if not (_grow(<void **>&self.cut_index, n, 4) and _grow(<void **>&self.cut_length, n, 8)
                    and _grow(<void **>&self.cut_hash, n, 8)):
                return False
            self.cut_capacity = n
        return (_text_room(&self.client_addr, row.client_addr_length)
                and _text_room(&self.client_name, row.client_name_length)
                and _text_room(&self.command, row.command_length) and _text_room(&self.error, row.error_length)
                and _text_room(&self.served_key, row.served_key_length)
                and _text_room(&self.script, row.script_length) and _text_room(&self.gap, row.gap_length)
                and _items_room(&self.key_items, row.keys_kept, keys)
                and _items_room(&self.arg_items, row.args_kept, args))

    cdef bint append(self, const Row *row) noexcept nogil:
        """Append one row; False: no room (counted)."""
        cdef Py_ssize_t keys = row.keys_length - 4 * row.keys_kept
        cdef Py_ssize_t args = row.args_length - 4 * row.args_kept
        cdef Py_ssize_t i = self.rows
        if not self._room(row, keys, args):
            self.dropped += 1
            return False
        self.ts[i] = row.ts
        self.conn[i] = row.conn
        self.seq[i] = row.seq
        self.nkeys[i] = row.nkeys
        self.slot[i] = row.slot
        self.latency_ns[i] = row.latency_ns
        self.request_bytes[i] = row.request_bytes
        self.reply_bytes[i] = row.reply_bytes
        self.reply[i] = row.reply
        self.flags[i] = row.flags
        self.nargs[i] = row.nargs
        self.reply_items[i] = row.reply_items
        if row.db:
            (<int32_t *>_at(&self.db, i, 4))[0] = row.db
        if row.unknown:
            (<uint8_t *>_at(&self.unknown, i, 1))[0] = row.unknown
        if row.txn:
            (<int64_t *>_at(&self.txn, i, 8))[0] = row.txn
        if row.held_ns:
            (<int64_t *>_at(&self.held_ns, i, 8))[0] = row.held_ns
        if row.backend:
            (<int16_t *>_at(&self.backend, i, 2))[0] = row.backend
        if row.epoch:
            (<int64_t *>_at(&self.epoch, i, 8))[0] = row.epoch
        if row.gap_rows:
            (<int64_t *>_at(&self.gap_rows, i, 8))[0] = row.gap_rows
        if row.client_addr_length:
            _put(&self.client_addr, i, row.client_addr, row.client_addr_length)
        if row.client_name_length:
            _put(&self.client_name, i, row.client_name, row.client_name_length)
        if row.command_length:
            _put(&self.command, i, row.command, row.command_length)
        if row.error_length:
            _put(&self.error, i, row.error, row.error_length)
        if row.served_key_length:
            _put(&self.served_key, i, row.served_key, row.served_key_length)
        if row.script_length:
            _put(&self.script, i, row.script, row.script_length)
        if row.gap_length:
            _put(&self.gap, i, row.gap, row.gap_length)
        if row.keys_kept:
            _put_items(&self.key_items, row.keys, row.keys_kept)
            _end(self.keys.offsets, &self.keys.filled, i, self.keys.items, self.key_items.rows)
            self.keys.items = self.key_items.rows
        if row.args_kept:
            _put_items(&self.arg_items, row.args, row.args_kept)
            _end(self.args.offsets, &self.args.filled, i, self.args.items, self.arg_items.rows)
            self.args.items = self.arg_items.rows
        if row.cuts_kept:
            self._put_cuts(row)
        self.rows = i + 1
        self.bytes += keys + args + 192
        return True

    cdef void _put_cuts(self, const Row *row) noexcept nogil:
        cdef CutKey cut
        cdef Py_ssize_t i, at = self.cuts.items
        for i in range(row.cuts_kept):
            memcpy(&cut, row.cuts + i * sizeof(CutKey), sizeof(CutKey))
            self.cut_index[at + i] = cut.index
            self.cut_length[at + i] = cut.length
            self.cut_hash[at + i] = cut.hash
        _end(self.cuts.offsets, &self.cuts.filled, self.rows, at, at + row.cuts_kept)
        self.cuts.items = at + row.cuts_kept

    # ---- a batch ------------------------------------------------------------------------------------------------------

    def take(self):
        """All rows as one ``pa.RecordBatch`` of ``SCHEMA``, or None when there are none; the columns are empty then.

        Nothing is copied, however many rows there are. MemoryError leaves the rows where they are.
        """
        cdef Given *given
        if self.rows == 0:
            return None
        given = <Given *>calloc(1, sizeof(Given))
        if given == NULL:
            raise MemoryError
        self._give(given)
        self._clear()
        # What pyarrow's documentation names for the C data interface; given.arrays[0] is released by it in any case.
        return pa.RecordBatch._import_from_c(<uintptr_t>&given.arrays[0], SCHEMA)

    cdef void _give(self, Given *given) noexcept nogil:
        """Describe all columns, in the order of SCHEMA, as one Arrow struct; their memory is ``given``'s now."""
        cdef void **table[POINTERS]
        cdef Py_ssize_t n = self.rows
        cdef int i
        cdef ArrowArray *batch = _array(given, n)
        batch.n_buffers = 1
        batch.children = given.children
        batch.release = _release
        batch.private_data = given
        _fixed(given, self.ts, n)
        _fixed(given, self.conn, n)
        _fixed(given, self.seq, n)
        _text(given, &self.client_addr, n)
        _text(given, &self.client_name, n)
        _sparse(given, &self.db, n, 4)
        _text(given, &self.command, n)
        self._give_lists(given, n)
        _fixed(given, self.nkeys, n)
        _fixed(given, self.slot, n)
        _sparse(given, &self.unknown, n, 1)
        _sparse(given, &self.txn, n, 8)
        _fixed(given, self.latency_ns, n)
        _sparse(given, &self.held_ns, n, 8)
        _fixed(given, self.request_bytes, n)
        _fixed(given, self.reply_bytes, n)
        _fixed(given, self.reply, n)
        _text(given, &self.error, n)
        _text(given, &self.served_key, n)
        _sparse(given, &self.backend, n, 2)
        _sparse(given, &self.epoch, n, 8)
        _fixed(given, self.flags, n)
        _text(given, &self.script, n)
        _list(given, &self.args, n, _items(given, &self.arg_items))
        _fixed(given, ZEROS, n)                         # reply_checksum
        _text(given, &self.gap, n)
        _sparse(given, &self.gap_rows, n, 8)
        _fixed(given, self.nargs, n)
        _fixed(given, self.reply_items, n)
        batch.n_children = given.columns
        given.pieces = self._table(table)
        for i in range(given.pieces):
            given.memory[i] = table[i][0]
            table[i][0] = NULL

    cdef void _give_lists(self, Given *given, Py_ssize_t n) noexcept nogil:
        """``keys`` and ``keys_cut``, the latter a list of structs."""
        cdef ArrowArray *cuts
        cdef int i, first
        _list(given, &self.keys, n, _items(given, &self.key_items))
        cuts = _array(given, self.cuts.items)
        cuts.n_buffers = 1
        cuts.n_children = 3
        first = given.used
        _numbers(given, self.cut_index, self.cuts.items)
        _numbers(given, self.cut_length, self.cuts.items)
        _numbers(given, self.cut_hash, self.cuts.items)
        cuts.children = &given.children[ARRAYS - 3]
        for i in range(3):
            cuts.children[i] = &given.arrays[first + i]
        _list(given, &self.cuts, n, cuts)

    cdef void _clear(self) noexcept nogil:
        """Empty, without memory; how much the next batch begins with goes by what this one took."""
        cdef Text *text
        cdef Text *texts[TEXTS]
        cdef Sparse *sparse
        cdef Sparse *sparses[SPARSE]
        cdef Items *items
        cdef Items *both[2]
        texts[:] = [&self.client_addr, &self.client_name, &self.command, &self.error, &self.served_key, &self.script,
                    &self.gap]
        sparses[:] = [&self.db, &self.unknown, &self.txn, &self.held_ns, &self.backend, &self.epoch, &self.gap_rows]
        both[:] = [&self.key_items, &self.arg_items]
        for text in texts:
            text.capacity = 0 if text.length > GIANT_BYTES else _next_capacity(text.length, text.capacity, FIRST_BYTES)
            text.filled = text.length = 0
        for sparse in sparses:
            sparse.filled = 0
        for items in both:
            items.capacity = 0 if items.length > GIANT_BYTES else _next_capacity(items.length, items.capacity, FIRST_BYTES)
            items.rows_capacity = _next_capacity(items.rows, items.rows_capacity, FIRST_ROWS)
            items.rows = items.length = 0
        self.keys.filled = self.keys.items = 0
        self.cuts.filled = self.cuts.items = 0
        self.args.filled = self.args.items = 0
        self.cut_capacity = 0
        self.planned = _next_capacity(self.rows, self.capacity, FIRST_ROWS)
        self.capacity = 0
        self.rows = 0
        self.bytes = 0
        self.dropped = 0


# ---- Arrow's C data interface ---------------------------------------------------------------------------------------------

cdef ArrowArray *_array(Given *given, Py_ssize_t n) noexcept nogil:
    """One more array of n values, without validity (nothing is null); its buffers are the next three."""
    cdef ArrowArray *array = &given.arrays[given.used]
    array.length = n
    array.buffers = &given.buffers[3 * given.used]
    array.release = _released
    given.used += 1
    return array


cdef void _column(Given *given, ArrowArray *array) noexcept nogil:
    given.children[given.columns] = array
    given.columns += 1


cdef ArrowArray *_numbers(Given *given, const void *values, Py_ssize_t n) noexcept nogil:
    cdef ArrowArray *array = _array(given, n)
    array.n_buffers = 2
    array.buffers[1] = values if n else <const void *>ZEROS
    return array


cdef void _fixed(Given *given, const void *values, Py_ssize_t n) noexcept nogil:
    _column(given, _numbers(given, values, n))


cdef void _sparse(Given *given, Sparse *column, Py_ssize_t n, int width) noexcept nogil:
    if column.filled == 0:
        _fixed(given, ZEROS, n)
        return
    memset(column.data + column.filled * width, 0, (n - column.filled) * width)
    _fixed(given, column.data, n)


cdef ArrowArray *_strings(Given *given, const int32_t *offsets, const char *data, Py_ssize_t n) noexcept nogil:
    cdef ArrowArray *array = _array(given, n)
    array.n_buffers = 3
    array.buffers[1] = offsets
    array.buffers[2] = data if data != NULL else <const char *>ZEROS
    return array


cdef void _fill_up(int32_t *offsets, Py_ssize_t filled, Py_ssize_t n, Py_ssize_t end) noexcept nogil:
    """The rows from ``filled`` on are empty."""
    cdef Py_ssize_t k
    for k in range(filled, n):
        offsets[k + 1] = <int32_t>end


cdef void _text(Given *given, Text *text, Py_ssize_t n) noexcept nogil:
    if text.filled == 0:
        _column(given, _strings(given, <const int32_t *>ZEROS, NULL, n))
        return
    _fill_up(text.offsets, text.filled, n, text.length)
    _column(given, _strings(given, text.offsets, text.data, n))


cdef ArrowArray *_items(Given *given, Items *items) noexcept nogil:
    if items.rows == 0:
        return _strings(given, <const int32_t *>ZEROS, NULL, 0)
    return _strings(given, items.offsets, items.data, items.rows)


cdef void _list(Given *given, Lists *lists, Py_ssize_t n, ArrowArray *items) noexcept nogil:
    """A column of lists. The pointer to its one child stands where its third buffer would."""
    cdef ArrowArray *array = _array(given, n)
    array.n_buffers = 2
    array.n_children = 1
    array.buffers[1] = <const void *>ZEROS
    if lists.filled:
        _fill_up(lists.offsets, lists.filled, n, lists.items)
        array.buffers[1] = lists.offsets
    array.buffers[2] = items
    array.children = <ArrowArray **>&array.buffers[2]
    _column(given, array)


cdef void _released(ArrowArray *array) noexcept nogil:
    array.release = NULL


cdef void _release(ArrowArray *batch) noexcept nogil:
    """Arrow is done with a batch, in whatever thread. ``batch`` may be a copy: the memory is found by private_data."""
    cdef Given *given = <Given *>batch.private_data
    cdef int i
    batch.release = NULL
    for i in range(given.pieces):
        free(given.memory[i])
    free(given)
