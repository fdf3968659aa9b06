# Table of contents of the client's end; the story is in client.pyx.
from proxy.net.endpoint cimport Endpoint

cdef class Client(Endpoint):
    cdef object on_made
    cdef object on_lost

    cdef _edited(self)
