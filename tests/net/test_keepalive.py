"""A client whose machine is gone says nothing any more: only TCP's keepalive can tell, and it must be on."""

from __future__ import annotations

from tests.servers import RedisServer, shunt

#: The timer column of /proc/net/tcp for a connection on which keepalive is on, and nothing is waiting to be sent.
KEEPALIVE = "02"


def timers(local_port: int | None, remote_port: int | None) -> list[str]:
    """The timers of this machine's established connections between these ports (None: any)."""
    found = []
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table.read().splitlines()[1:]:
            _, local, remote, state, _, timer, *_ = line.split()
            ports = int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16)
            if state == "01" and ports[0] == (local_port or ports[0]) and ports[1] == (remote_port or ports[1]):
                found.append(timer.partition(":")[0])
    return found


def test_both_ends_of_a_connection_are_kept_alive(redis: RedisServer) -> None:
    with shunt(redis.url) as through, through.talk() as talk:
        assert talk.call("PING") == b"+PONG\r\n"
        to_client = timers(through.address[1], talk.sock.getsockname()[1])
        assert to_client == [KEEPALIVE]
        assert set(timers(None, redis.address[1])) == {KEEPALIVE}
