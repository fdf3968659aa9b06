# Table of contents of the exchange columns; the story is in columns.pyx.
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef struct Text:           # a column of byte strings, or the items of a column of lists
    int32_t *offsets        # rows + 1
    char *data
    Py_ssize_t rows, rows_capacity, length, capacity

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

cdef class Columns:
    cdef:
        readonly Py_ssize_t rows, bytes
        readonly int64_t dropped            # rows that found no room since the last take
        Py_ssize_t capacity, cut_rows, cut_capacity
        int64_t *ts
        int64_t *conn
        int64_t *seq
        int32_t *db
        int32_t *nkeys
        int16_t *slot
        uint8_t *unknown
        int64_t *txn
        int64_t *latency_ns
        int64_t *held_ns
        int64_t *request_bytes
        int64_t *reply_bytes
        uint8_t *reply
        int16_t *backend
        int64_t *epoch
        uint32_t *flags
        uint64_t *reply_checksum
        int64_t *gap_rows
        int32_t *nargs
        int32_t *reply_items
        int32_t *key_offsets
        int32_t *cut_offsets
        int32_t *arg_offsets
        int32_t *cut_index
        int64_t *cut_length
        uint64_t *cut_hash
        Text client_addr, client_name, command, error, served_key, script, gap, key_items, arg_items

    cdef bint _grow_rows(self) noexcept nogil
    cdef bint _room(self, const Row *row, Py_ssize_t keys, Py_ssize_t args) noexcept nogil
    cdef void _put_cuts(self, const Row *row) noexcept nogil
    cdef _cuts(self)
    cdef _clear(self)
    cdef bint append(self, const Row *row) noexcept nogil
