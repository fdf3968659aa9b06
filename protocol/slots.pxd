cdef int hash_slot(const char *key, Py_ssize_t n) noexcept nogil
