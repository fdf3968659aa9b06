# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Exchanges as columns in memory, until a batch of them is handed over.

Knows: the row of ``capture.format.SCHEMA`` as raw buffers; appending touches no Python object. Refuses to know:
where a row comes from and where a batch goes. A row that finds no room is counted in ``dropped``, never half
written.
"""
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset
from cpython.bytes cimport PyBytes_FromStringAndSize

import pyarrow as pa

from proxy.capture.format import SCHEMA
from proxy.engine.inflight cimport CutKey

cdef enum:
    FIRST_ROWS = 1024
    MAX_ROWS = 131072           # one read event brings at most 52,429 replies ("+\r\n" takes 5 bytes with its type)
    KEEP_BYTES = 33554432
    MAX_BYTES = 134217728       # of keys and arguments in one batch


cdef extern from "<malloc.h>" nogil:
    int mallopt(int parameter, int value)
    int M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def keep_memory(int size=KEEP_BYTES):
    """Have the C library keep up to ``size`` freed bytes instead of giving them back to the kernel at once.

    Each batch takes and frees a megabyte or two. Given back and fetched again, page by page, that was a third of what
    recording cost (160 of 340 ns a row). Arrow's own allocator gives back too, and cost another 90 ns in the capture's
    thread, so Arrow uses the C library's. For the whole process: the app calls it once.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt(M_MMAP_THRESHOLD, size)
    mallopt(M_TRIM_THRESHOLD, size)


cdef bint _grow(void **p, Py_ssize_t capacity, Py_ssize_t item) noexcept nogil:
    cdef void *grown = realloc(p[0], capacity * item)
    if grown == NULL:
        return False
    p[0] = grown
    return True


cdef inline bint _room(Text *text, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """Make sure that ``rows`` more strings of together n bytes fit: two comparisons, nearly always."""
    if text.rows + rows <= text.rows_capacity and text.length + n <= text.capacity:
        return True
    return _more_room(text, rows, n)


cdef bint _more_room(Text *text, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t capacity
    if text.rows + rows > text.rows_capacity:
        capacity = text.rows_capacity * 2 if text.rows_capacity else FIRST_ROWS
        while capacity < text.rows + rows:
            capacity *= 2
        if not _grow(<void **>&text.offsets, capacity + 1, sizeof(int32_t)):
            return False
        if text.rows_capacity == 0:
            text.offsets[0] = 0
        text.rows_capacity = capacity
    if text.length + n > text.capacity:
        capacity = text.capacity * 2 if text.capacity else 4096
        while capacity < text.length + n:
            capacity *= 2
        if not _grow(<void **>&text.data, capacity, 1):
            return False
        text.capacity = capacity
    return True


cdef inline void _put(Text *text, const char *p, Py_ssize_t n) noexcept nogil:
    """Append one string; there is room."""
    if n:
        memcpy(text.data + text.length, p, n)
        text.length += n
    text.rows += 1
    text.offsets[text.rows] = <int32_t>text.length


cdef inline void _put_items(Text *text, const char *p, Py_ssize_t items) noexcept nogil:
    """Append ``items`` strings from a blob of u32 length and bytes; there is room."""
    cdef uint32_t n
    cdef Py_ssize_t i
    for i in range(items):
        memcpy(&n, p, 4)
        _put(text, p + 4, n)
        p += 4 + n


cdef class Columns:
    """The columns of one worker."""

    def __dealloc__(self):
        cdef Text *text
        cdef Text *texts[9]
        texts[:] = [&self.client_addr, &self.client_name, &self.command, &self.error, &self.served_key,
                                &self.script, &self.gap, &self.key_items, &self.arg_items]
        for text in texts:
            free(text.offsets)
            free(text.data)
        cdef void *fixed[26]
        fixed[:] = [self.ts, self.conn, self.seq, self.db, self.nkeys, self.slot, self.unknown, self.txn,
                                 self.latency_ns, self.held_ns, self.request_bytes, self.reply_bytes, self.reply,
                                 self.backend, self.epoch, self.flags, self.reply_checksum, self.gap_rows,
                                 self.key_offsets, self.cut_offsets, self.arg_offsets, self.cut_index,
                                 self.cut_length, self.cut_hash, self.nargs, self.reply_items]
        for p in fixed:
            free(p)

    cdef bint _grow_rows(self) noexcept nogil:
        cdef Py_ssize_t n = self.capacity * 2 if self.capacity else FIRST_ROWS
        if n > MAX_ROWS:
            return False
        if not (_grow(<void **>&self.ts, n, 8) and _grow(<void **>&self.conn, n, 8)
                and _grow(<void **>&self.seq, n, 8) and _grow(<void **>&self.db, n, 4)
                and _grow(<void **>&self.nkeys, n, 4) and _grow(<void **>&self.slot, n, 2)
                and _grow(<void **>&self.unknown, n, 1) and _grow(<void **>&self.txn, n, 8)
                and _grow(<void **>&self.latency_ns, n, 8) and _grow(<void **>&self.held_ns, n, 8)
                and _grow(<void **>&self.request_bytes, n, 8) and _grow(<void **>&self.reply_bytes, n, 8)
                and _grow(<void **>&self.reply, n, 1) and _grow(<void **>&self.backend, n, 2)
                and _grow(<void **>&self.epoch, n, 8) and _grow(<void **>&self.flags, n, 4)
                and _grow(<void **>&self.reply_checksum, n, 8) and _grow(<void **>&self.gap_rows, n, 8)
                and _grow(<void **>&self.nargs, n, 4) and _grow(<void **>&self.reply_items, n, 4)
                and _grow(<void **>&self.key_offsets, n + 1, 4) and _grow(<void **>&self.cut_offsets, n + 1, 4)
                and _grow(<void **>&self.arg_offsets, n + 1, 4)):
            return False
        if self.capacity == 0:
            self.key_offsets[0] = self.cut_offsets[0] = self.arg_offsets[0] = 0
        self.capacity = n
        return True

    cdef bint _room(self, const Row *row, Py_ssize_t keys, Py_ssize_t args) noexcept nogil:
        cdef Py_ssize_t n
        if self.rows == self.capacity and not self._grow_rows():
            return False
        if self.bytes > MAX_BYTES:
            return False
        if self.cut_rows + row.cuts_kept > self.cut_capacity:
            n = 2 * (self.cut_rows + row.cuts_kept)
            if not (_grow(<void **>&self.cut_index, n, 4) and _grow(<void **>&self.cut_length, n, 8)
                    and _grow(<void **>&self.cut_hash, n, 8)):
                return False
            self.cut_capacity = n
        return (_room(&self.client_addr, 1, row.client_addr_length)
                and _room(&self.client_name, 1, row.client_name_length)
                and _room(&self.command, 1, row.command_length) and _room(&self.error, 1, row.error_length)
                and _room(&self.served_key, 1, row.served_key_length) and _room(&self.script, 1, row.script_length)
                and _room(&self.gap, 1, row.gap_length) and _room(&self.key_items, row.keys_kept, keys)
                and _room(&self.arg_items, row.args_kept, args))

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
        self.db[i] = row.db
        self.nkeys[i] = row.nkeys
        self.slot[i] = row.slot
        self.unknown[i] = row.unknown
        self.txn[i] = row.txn
        self.latency_ns[i] = row.latency_ns
        self.held_ns[i] = row.held_ns
        self.request_bytes[i] = row.request_bytes
        self.reply_bytes[i] = row.reply_bytes
        self.reply[i] = row.reply
        self.backend[i] = row.backend
        self.epoch[i] = row.epoch
        self.flags[i] = row.flags
        self.reply_checksum[i] = 0
        self.gap_rows[i] = row.gap_rows
        self.nargs[i] = row.nargs
        self.reply_items[i] = row.reply_items
        _put(&self.client_addr, row.client_addr, row.client_addr_length)
        _put(&self.client_name, row.client_name, row.client_name_length)
        _put(&self.command, row.command, row.command_length)
        _put(&self.error, row.error, row.error_length)
        _put(&self.served_key, row.served_key, row.served_key_length)
        _put(&self.script, row.script, row.script_length)
        _put(&self.gap, row.gap, row.gap_length)
        _put_items(&self.key_items, row.keys, row.keys_kept)
        _put_items(&self.arg_items, row.args, row.args_kept)
        if row.cuts_kept:
            self._put_cuts(row)
        i += 1
        self.key_offsets[i] = <int32_t>self.key_items.rows
        self.cut_offsets[i] = <int32_t>self.cut_rows
        self.arg_offsets[i] = <int32_t>self.arg_items.rows
        self.rows = i
        self.bytes += keys + args + 192
        return True

    cdef void _put_cuts(self, const Row *row) noexcept nogil:
        cdef CutKey cut
        cdef Py_ssize_t i
        for i in range(row.cuts_kept):
            memcpy(&cut, row.cuts + i * sizeof(CutKey), sizeof(CutKey))
            self.cut_index[self.cut_rows] = cut.index
            self.cut_length[self.cut_rows] = cut.length
            self.cut_hash[self.cut_rows] = cut.hash
            self.cut_rows += 1

    def take(self):
        """All rows as one ``pa.RecordBatch`` of ``SCHEMA``, or None when there are none; the columns are empty then.

        The buffers are copied (0.03 us a row), so that the batch is the receiver's own.
        """
        if self.rows == 0:
            return None
        cdef Py_ssize_t n = self.rows
        batch = pa.RecordBatch.from_arrays([
            _fixed(pa.int64(), self.ts, n, 8), _fixed(pa.int64(), self.conn, n, 8),
            _fixed(pa.int64(), self.seq, n, 8), _text(&self.client_addr), _text(&self.client_name),
            _fixed(pa.int32(), self.db, n, 4), _text(&self.command),
            _list("keys", self.key_offsets, n, _text(&self.key_items)),
            _list("keys_cut", self.cut_offsets, n, self._cuts()),
            _fixed(pa.int32(), self.nkeys, n, 4), _fixed(pa.int16(), self.slot, n, 2),
            _fixed(pa.uint8(), self.unknown, n, 1), _fixed(pa.int64(), self.txn, n, 8),
            _fixed(pa.int64(), self.latency_ns, n, 8), _fixed(pa.int64(), self.held_ns, n, 8),
            _fixed(pa.int64(), self.request_bytes, n, 8), _fixed(pa.int64(), self.reply_bytes, n, 8),
            _fixed(pa.uint8(), self.reply, n, 1), _text(&self.error), _text(&self.served_key),
            _fixed(pa.int16(), self.backend, n, 2), _fixed(pa.int64(), self.epoch, n, 8),
            _fixed(pa.uint32(), self.flags, n, 4), _text(&self.script),
            _list("args", self.arg_offsets, n, _text(&self.arg_items)),
            _fixed(pa.uint64(), self.reply_checksum, n, 8), _text(&self.gap),
            _fixed(pa.int64(), self.gap_rows, n, 8), _fixed(pa.int32(), self.nargs, n, 4),
            _fixed(pa.int32(), self.reply_items, n, 4),
        ], schema=SCHEMA)
        self._clear()
        return batch

    cdef _cuts(self):
        cdef Py_ssize_t n = self.cut_rows
        return pa.StructArray.from_arrays(
            [_fixed(pa.int32(), self.cut_index, n, 4), _fixed(pa.int64(), self.cut_length, n, 8),
             _fixed(pa.uint64(), self.cut_hash, n, 8)],
            fields=list(SCHEMA.field("keys_cut").type.value_type))

    cdef _clear(self):
        cdef Text *text
        cdef Text *texts[9]
        texts[:] = [&self.client_addr, &self.client_name, &self.command, &self.error, &self.served_key,
                                &self.script, &self.gap, &self.key_items, &self.arg_items]
        for text in texts:
            text.rows = 0
            text.length = 0
            if text.capacity > 16777216:        # one batch of giants must not stay for ever
                free(text.data)
                text.data = NULL
                text.capacity = 0
        self.rows = 0
        self.bytes = 0
        self.cut_rows = 0
        self.dropped = 0


cdef _fixed(kind, const void *p, Py_ssize_t n, Py_ssize_t width):
    return pa.Array.from_buffers(kind, n, [None, pa.py_buffer(PyBytes_FromStringAndSize(<const char *>p, n * width))])


cdef _text(Text *text):
    if text.rows == 0:
        return pa.array([], pa.binary())
    offsets = PyBytes_FromStringAndSize(<const char *>text.offsets, (text.rows + 1) * 4)
    data = PyBytes_FromStringAndSize(text.data, text.length)
    return pa.Array.from_buffers(pa.binary(), text.rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


cdef _list(name, const int32_t *offsets, Py_ssize_t n, items):
    buffer = pa.py_buffer(PyBytes_FromStringAndSize(<const char *>offsets, (n + 1) * 4))
    return pa.Array.from_buffers(SCHEMA.field(name).type, n, [None, buffer], children=[items])
