"""Moving live traffic to another Redis: the route record, the steps of a switch, replication, who does what.

Knows: what commits, what can still be undone, and what must be finished. Refuses to know: sockets of clients
(``net.moving``), and how an operator asks (``console``).
"""
