# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Hash slots as Redis Cluster and Valkey compute them.

Knows: the hash tag rule (the bytes between the first ``{`` and the first ``}`` after it, if there are any; else the
whole key) and CRC16/XMODEM (polynomial 0x1021, start 0, no reflection) modulo 16384. Refuses to know: which node
serves a slot, and the other slot functions that some targets use.
"""

from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memchr

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


cdef int hash_slot(const char *key, Py_ssize_t n) noexcept nogil:
    """The hash slot of the ``n`` bytes at ``key``; ``n`` may be 0."""
    cdef unsigned int crc = 0
    cdef const uint8_t *p
    _tag(&key, &n)
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
