# Table of contents of the client's end; the story is in client.pyx.
from proxy.net.endpoint cimport Endpoint

cdef class Client(Endpoint):
    cdef object on_made
    cdef bytes kept                 # what it sent that a hold must not let pass
    cdef object on_lost

    cdef _edited(self)
    cdef int overtaken(self, Py_ssize_t n) except -1
