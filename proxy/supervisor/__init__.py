"""The parent of several workers: it holds the listening sockets, replaces workers, and speaks for all of them.

It is there with ``--workers`` above 1 only, and never sees a client's byte. ``docs/workers.md`` says what it promises.
"""
