# Table of contents of the exchange columns; the story is in columns.pyx.
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef struct Text:           # a column of byte strings
    int32_t *offsets        # where each ends, behind a 0; the first ``filled`` of them are written
    char *data
    Py_ssize_t filled, length, capacity

cdef struct Items:          # the items of a column of lists of byte strings
    int32_t *offsets        # rows + 1
    char *data
    Py_ssize_t rows, rows_capacity, length, capacity

cdef struct Lists:          # a column of lists: where each ends among its items, as in Text
    int32_t *offsets
    Py_ssize_t filled, items

cdef struct Sparse:         # a column of numbers that are nearly always 0; the first ``filled`` of them are written
    char *data
    Py_ssize_t filled

cdef struct Row:            # one exchange, or a gap; pointers are borrowed until append returns
    int64_t ts, conn, seq, txn, latency_ns, held_ns, request_bytes, reply_bytes, epoch, gap_rows
    int32_t db, nkeys, nargs, reply_items
    int16_t slot, backend
    uint8_t unknown, reply
    uint32_t flags
    const char *client_addr
    const char *client_name
    const char *command
    const char *error
    const char *served_key
    const char *script
    const char *gap
    int32_t client_addr_length, client_name_length, command_length, error_length, served_key_length
    int32_t script_length, gap_length
    const char *keys        # u32 length and bytes, keys_kept times, keys_length bytes in all
    int32_t keys_kept, keys_length
    const char *cuts        # CutKey, cuts_kept times
    int32_t cuts_kept
    const char *args        # u32 length and bytes, args_kept times, args_length bytes in all
    int32_t args_kept, args_length

cdef struct ArrowArray:     # of Arrow's C data interface
    int64_t length, null_count, offset, n_buffers, n_children
    const void **buffers
    ArrowArray **children
    ArrowArray *dictionary
    void (*release)(ArrowArray *) noexcept nogil
    void *private_data

cdef enum:
    COLUMNS = 30            # of SCHEMA
    ARRAYS = 38             # and the batch, and what is in its lists: keys, arguments; cut keys with their three numbers
    POINTERS = 64

cdef struct Given:          # a batch that is Arrow's now: what must be freed when it is done with it
    ArrowArray[ARRAYS] arrays
    ArrowArray *children[ARRAYS]
    const void *buffers[114]
    int used, columns
    void *memory[POINTERS]
    int pieces

cdef class Columns:
    cdef:
        readonly Py_ssize_t rows, bytes
        readonly int64_t dropped            # rows that found no room since the last take
        Py_ssize_t capacity, planned, cut_capacity
        int64_t *ts
        int64_t *conn
        int64_t *seq
        int32_t *nkeys
        int16_t *slot
        int64_t *latency_ns
        int64_t *request_bytes
        int64_t *reply_bytes
        uint8_t *reply
        uint32_t *flags
        int32_t *nargs
        int32_t *reply_items
        Sparse db, unknown, txn, held_ns, backend, epoch, gap_rows
        Text client_addr, client_name, command, error, served_key, script, gap
        Lists keys, cuts, args
        Items key_items, arg_items
        int32_t *cut_index
        int64_t *cut_length
        uint64_t *cut_hash

    cdef bint _grow_rows(self) noexcept nogil
    cdef bint _room(self, const Row *row, Py_ssize_t keys, Py_ssize_t args) noexcept nogil
    cdef bint append(self, const Row *row) noexcept nogil
    cdef void _put_cuts(self, const Row *row) noexcept nogil
    cdef int _table(self, void ***of) noexcept nogil
    cdef void _clear(self) noexcept nogil
    cdef void _give(self, Given *given) noexcept nogil
    cdef void _give_lists(self, Given *given, Py_ssize_t n) noexcept nogil
