# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Hash slots as Redis Cluster and Valkey compute them, and as Redis Enterprise's standard hashing policy does.

Knows: the hash tag rule (the bytes between the first ``{`` and the first ``}`` after it, if there are any; else the
whole key) and CRC16/XMODEM (polynomial 0x1021, start 0, no reflection) modulo 16384. Redis Enterprise's standard
policy is the same but for the tag: it lies between the last ``{`` that has a ``}`` behind it and the last ``}``, and
may be empty. Refuses to know: which node serves a slot.
"""

from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t
from libc.string cimport memchr, memcpy

cdef extern from "string.h" nogil:
    void *memrchr(const void *, int, size_t)

# CRC[k][byte]: the checksum of that byte with k zero bytes behind it. Four tables take four bytes in one step instead of
# four that wait for each other: a 16-byte key costs a third of the time.
cdef uint16_t[4][256] CRC


cdef void _fill_table() noexcept:
    cdef int byte, bit, k
    cdef unsigned int crc
    for byte in range(256):
        crc = <unsigned int>byte << 8
        for bit in range(8):
            crc = ((crc << 1) ^ 0x1021) if crc & 0x8000 else crc << 1
        CRC[0][byte] = <uint16_t>(crc & 0xFFFF)
    for k in range(1, 4):
        for byte in range(256):
            crc = CRC[k - 1][byte]
            CRC[k][byte] = <uint16_t>(((crc << 8) & 0xFF00) ^ CRC[0][crc >> 8])


_fill_table()


cdef inline void _tag(const char **key, Py_ssize_t *n) noexcept nogil:
    """Narrow the key to its hash tag, in place."""
    if n[0] == 0:
        return
    cdef const char *end = key[0] + n[0]
    cdef const char *left = <const char *>memchr(key[0], c'{', <size_t>n[0])
    if left == NULL:
        return
    left += 1
    if left == end:
        return
    cdef const char *right = <const char *>memchr(left, c'}', <size_t>(end - left))
    if right == NULL or right == left:
        return
    key[0] = left
    n[0] = right - left


cdef bint _enterprise_tag(const char **key, Py_ssize_t *n) noexcept nogil:
    """Narrow the key to the tag of Redis Enterprise's standard policy, in place. False: it has none."""
    cdef const char *right = <const char *>memrchr(key[0], c'}', <size_t>n[0]) if n[0] else NULL
    cdef const char *left
    if right == NULL:
        return False
    left = <const char *>memrchr(key[0], c'{', <size_t>(right - key[0])) if right != key[0] else NULL
    if left == NULL:
        return False
    key[0] = left + 1
    n[0] = right - left - 1
    return True


cdef int hash_slot(const char *key, Py_ssize_t n) noexcept nogil:
    """The hash slot of the ``n`` bytes at ``key``; ``n`` may be 0."""
    _tag(&key, &n)
    return _crc_slot(key, n)


cdef inline int _crc_slot(const char *key, Py_ssize_t n) noexcept nogil:
    """The slot of these bytes, taken as they are."""
    cdef unsigned int crc = 0
    cdef const uint8_t *p
    p = <const uint8_t *>key
    while n >= 4:
        crc = CRC[3][(crc >> 8) ^ p[0]] ^ CRC[2][(crc & 0xFF) ^ p[1]] ^ CRC[1][p[2]] ^ CRC[0][p[3]]
        p += 4
        n -= 4
    while n:
        crc = ((crc << 8) & 0xFF00) ^ CRC[0][(crc >> 8) ^ p[0]]
        p += 1
        n -= 1
    return <int>(crc & 16383)


def slot(bytes key not None):
    """The hash slot (0 to 16383) of ``key``."""
    return hash_slot(key, len(key))


def hash_tag(bytes key not None):
    """The part of ``key`` that decides its slot: its hash tag, or all of it."""
    cdef const char *start = key
    cdef Py_ssize_t n = len(key)
    _tag(&start, &n)
    return start[:n]


def enterprise_slot(bytes key not None):
    """The hash slot of ``key`` under Redis Enterprise's standard hashing policy."""
    return slot_of(enterprise_tag(key))


cdef int slot_of(bytes tag):
    return _crc_slot(tag, len(tag))


def enterprise_tag(bytes key not None):
    """The part of ``key`` that decides its slot under Redis Enterprise's standard hashing policy; may be empty."""
    cdef const char *start = key
    cdef Py_ssize_t n = len(key)
    _enterprise_tag(&start, &n)
    return start[:n]


cdef int _row_slot(
    const int32_t *ends, Py_ssize_t first, Py_ssize_t last, const char *data, int16_t known, Py_ssize_t cut
) noexcept nogil:
    """The slot of one command's keys under Redis Enterprise's policy: ``known`` where no key's tag differs."""
    cdef Py_ssize_t i, n, m
    cdef const char *key
    cdef const char *tag
    cdef bint odd = False
    cdef int one, whole = -1
    for i in range(first, last):
        key = data + ends[i]
        n = ends[i + 1] - ends[i]
        if n >= cut:
            return known
        if n == 0 or memchr(key, c'}', <size_t>n) == NULL:
            continue
        tag = key
        m = n
        _tag(&key, &n)
        if _enterprise_tag(&tag, &m) and (tag != key or m != n):
            odd = True
    if not odd:
        return known
    for i in range(first, last):
        key = data + ends[i]
        n = ends[i + 1] - ends[i]
        _enterprise_tag(&key, &n)
        one = _crc_slot(key, n)
        if whole >= 0 and one != whole:
            return -2
        whole = one
    return whole


def enterprise_slots(
    const int32_t[::1] lists, const int32_t[::1] ends, const uint8_t[::1] data, const int16_t[::1] slots,
    const int32_t[::1] nkeys, Py_ssize_t cut,
):
    """The slots of many commands under Redis Enterprise's policy, as bytes of int16; -2: several slots.

    ``lists``: where each command's keys begin in ``ends``, one more than commands; ``ends``: where each key begins in
    ``data``. Commands whose keys are not all there (``nkeys`` says how many), or whose keys are ``cut`` bytes and
    longer, or whose slot is not known (-3) keep what ``slots`` says.
    """
    cdef Py_ssize_t rows = slots.shape[0], i
    out = bytearray(rows * 2)
    cdef int16_t[::1] made = memoryview(out).cast("h") if rows else None
    cdef const char *bytes_ = <const char *>&data[0] if data.shape[0] else NULL
    if rows == 0:
        return out
    memcpy(&made[0], &slots[0], <size_t>rows * 2)
    if bytes_ == NULL or memchr(bytes_, c'{', <size_t>data.shape[0]) == NULL:
        return out
    with nogil:
        for i in range(rows):
            if lists[i + 1] > lists[i] and lists[i + 1] - lists[i] == nkeys[i] and slots[i] != -3:
                made[i] = <int16_t>_row_slot(&ends[0], lists[i], lists[i + 1], bytes_, slots[i], cut)
    return out
