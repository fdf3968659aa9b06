# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Key templates in one pass: key names with their changing parts folded away.

Knows: what changing parts look like: UUIDs, dates, numbers, hexadecimal ids of ten digits and more. Refuses to know:
Arrow (``templates`` hands its buffers over), and any application's names.

Four regular expressions over the same keys take ten times as long (measured in bench/README.md).
"""

from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memcpy

cdef enum:
    DIGIT = 1
    LOWER_HEX = 2  # a-f
    UPPER_HEX = 4  # A-F
    LETTER = 8  # any other letter, and "_"
    WORD = 15
    HEX = 7
    SHORTEST_HEX = 10  # shorter words of a-f are more likely words

cdef uint8_t[256] KIND


cdef void _fill_table() noexcept:
    cdef int byte
    for byte in range(256):
        if c'0' <= byte <= c'9':
            KIND[byte] = DIGIT
        elif c'a' <= byte <= c'f':
            KIND[byte] = LOWER_HEX
        elif c'A' <= byte <= c'F':
            KIND[byte] = UPPER_HEX
        elif c'g' <= byte <= c'z' or c'G' <= byte <= c'Z' or byte == c'_':
            KIND[byte] = LETTER
        else:
            KIND[byte] = 0


_fill_table()


cdef bint _digits(const uint8_t *at, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if KIND[at[i]] != DIGIT:
            return False
    return True


cdef bint _hex(const uint8_t *at, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if not KIND[at[i]] & HEX:
            return False
    return True


cdef Py_ssize_t _uuid(const uint8_t *at, Py_ssize_t left) noexcept nogil:
    """36 where a UUID begins, else 0. The hyphens are looked at first: they are rare."""
    if left < 36 or at[8] != c'-' or at[13] != c'-' or at[18] != c'-' or at[23] != c'-':
        return 0
    if _hex(at, 8) and _hex(at + 9, 4) and _hex(at + 14, 4) and _hex(at + 19, 4) and _hex(at + 24, 12):
        return 36
    return 0


cdef Py_ssize_t _date(const uint8_t *at, Py_ssize_t left) noexcept nogil:
    """The length of a date (2026-11-23) with its time of day, if it has one (T04:00:00Z); else 0."""
    if left < 10 or at[4] != c'-' or at[7] != c'-':
        return 0
    if not (at[0] == c'2' and at[1] == c'0' or at[0] == c'1' and at[1] == c'9'):
        return 0
    if not (_digits(at + 2, 2) and at[5] in (c'0', c'1') and _digits(at + 6, 1)):
        return 0
    if not (c'0' <= at[8] <= c'3' and _digits(at + 9, 1)):
        return 0
    cdef Py_ssize_t end = 11
    if left > 11 and at[10] in (c'T', c' '):
        while end < left and (KIND[at[end]] == DIGIT or at[end] == c':' or at[end] == c'.'):
            end += 1
        if end > 11:
            return end + 1 if end < left and at[end] == c'Z' else end
    return 10


cdef Py_ssize_t _put(uint8_t *out, const char *text, Py_ssize_t size) noexcept nogil:
    memcpy(out, text, <size_t>size)
    return size


cdef Py_ssize_t _word(const uint8_t *at, Py_ssize_t size, uint8_t kinds, uint8_t *out) noexcept nogil:
    """Fold one word (letters, digits, "_"). Returns the size of what was put into ``out``."""
    cdef Py_ssize_t i = 0, put = 0
    if kinds == DIGIT:
        return _put(out, "<id>", 4)
    if size >= SHORTEST_HEX and (not kinds & ~(DIGIT | LOWER_HEX) or not kinds & ~(DIGIT | UPPER_HEX)):
        return _put(out, "<id>", 4)
    if not kinds & DIGIT:
        return _put(out, <const char *>at, size)
    while i < size:
        if KIND[at[i]] == DIGIT:
            put += _put(out + put, "<n>", 3)
            while i < size and KIND[at[i]] == DIGIT:
                i += 1
        else:
            out[put] = at[i]
            put += 1
            i += 1
    return put


cdef Py_ssize_t _fold(const uint8_t *at, Py_ssize_t size, uint8_t *out) noexcept nogil:
    """Fold one key into ``out``, which must have room for 4 bytes for each of the key's. Returns the template's size."""
    cdef Py_ssize_t i = 0, put = 0, end, found
    cdef uint8_t kinds
    cdef bint behind_date = False  # a date begins where a word does
    while i < size:
        if not KIND[at[i]]:
            behind_date = False
            out[put] = at[i]
            put += 1
            i += 1
            continue
        found = 0 if behind_date else _date(at + i, size - i)
        behind_date = found > 0
        if found:
            put += _put(out + put, "<date>", 6)
            i += found
            continue
        end = i
        kinds = 0
        found = 0
        while end < size and KIND[at[end]]:
            if KIND[at[end]] & HEX:
                found = _uuid(at + end, size - end)
                if found:
                    break
            kinds |= KIND[at[end]]
            end += 1
        if end > i:
            put += _word(at + i, end - i, kinds, out + put)
        if found:
            put += _put(out + put, "<uuid>", 6)
            end += found
        i = end
    return put


def fold(const int32_t[::1] offsets, const uint8_t[::1] data):
    """Templates of ``len(offsets) - 1`` keys, key i being ``data[offsets[i]:offsets[i + 1]]``.

    Returns (offsets, data) of the templates as bytearrays: int32 in the machine's order, and bytes.
    """
    cdef Py_ssize_t count = offsets.shape[0] - 1
    return _fold_all(offsets, data, count, None)


def fold_first(const int32_t[::1] lists, const int32_t[::1] offsets, const uint8_t[::1] data):
    """The same for the first key of each of ``len(lists) - 1`` lists of keys; an empty list has the empty template."""
    return _fold_all(offsets, data, lists.shape[0] - 1, lists)


cdef tuple _fold_all(const int32_t[::1] offsets, const uint8_t[::1] data, Py_ssize_t count, const int32_t[::1] lists):
    cdef bint firsts = lists is not None
    cdef Py_ssize_t i, key, room = 0, put = 0
    for i in range(count):
        key = lists[i] if firsts else i
        if not firsts or lists[i + 1] > lists[i]:
            room += offsets[key + 1] - offsets[key]
    out_offsets = bytearray(4 * (count + 1))
    # A digit becomes at most "<id>" or "<n>": four bytes for one.
    out_data = bytearray(4 * room + 1)
    cdef int32_t *to = <int32_t *><char *>out_offsets
    cdef uint8_t *out = <uint8_t *><char *>out_data
    cdef const uint8_t *base = &data[0] if data.shape[0] else NULL
    with nogil:
        to[0] = 0
        for i in range(count):
            key = lists[i] if firsts else i
            if not firsts or lists[i + 1] > lists[i]:
                put += _fold(base + offsets[key], offsets[key + 1] - offsets[key], out + put)
            to[i + 1] = <int32_t>put
    del out_data[put:]
    return out_offsets, out_data
