"""What is fuzzed: whatever clients that share backend connections say and in whatever pieces, **none hears another's**.

Knows: how bytes become orders to ``shared_world``, where it is checked. Refuses to know: what a client must hear.
Run by ``python -m tests.fuzz``, which prepares what this needs; the modules come from build/fuzz, not from the tree.
"""

from __future__ import annotations

import logging
import sys

from tests.fuzz.shared_world import ALL, SLOTS, World
from tests.wire import encode

#: What a client may say at once: commands parted by "|"; "@" is its mark, "#" a value of 4,000 bytes.
PHRASES = (
    "GET @", "SET @ 1", "DEL @", "INCR @", "GETDEL @", "LRANGE @ 0 -1", "HGETALL @", "ZSCORE @ a", "MGET @ @",
    "GET @|SET @ 1|GET @|GET @|DEL @|GET @", "GETRANGE @ 300", "GETRANGE @ 9000", "SET @ #", "SET @ ##################",
    "MULTI", "EXEC", "DISCARD", "MULTI x", "EXEC x", "MULTI|SET @ 1|BRPOP @ 0|EXEC", "MULTI|SELECT 2|GET @|EXEC",
    "MULTI|NOPE|EXEC", "MULTI|SET @ 1|DISCARD", "WATCH @", "WATCH @dirty", "UNWATCH", "BRPOP @ 0", "BLPOP @ @ 1",
    "XREAD BLOCK 0 STREAMS @ 0", "XREAD STREAMS @ 0", "SELECT 0", "SELECT 1", "SELECT 99", "HELLO", "HELLO 3",
    "HELLO 2", "HELLO 4", "HELLO 3 AUTH u p SETNAME n", "AUTH p", "AUTH u p", "AUTH u wrong", "SUBSCRIBE @",
    "SUBSCRIBE @ @2", "PSUBSCRIBE @", "SSUBSCRIBE @", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "PING", "PING @",
    "CLIENT REPLY ON", "CLIENT REPLY OFF", "CLIENT REPLY SKIP", "CLIENT REPLY @", "CLIENT SETNAME @", "CLIENT GETNAME",
    "CLIENT ID", "CLIENT INFO", "CLIENT TRACKING ON", "CLIENT TRACKING OFF", "CLIENT NO-EVICT ON", "RESET", "RESET x",
    "QUIT", "NOPE @", "WAIT 0 0", "MONITOR", "EVAL @ 0", "CLIENT KILL @", "CLIENT CACHING YES", "READONLY", "SYNC",
    "GETRANGE @ 60000", "RPOP @", "LPOP @|GET @g", "RPOP @|BRPOP @ 0|BLPOP @l 0", "BRPOP @ 0|SET @ 1",
    "MULTI|RPOP @|EXEC",
)  # fmt: skip
#: Not arrays: an inline command, empty ones, and what is no command.
RAW = (b"GET @\r\n", b"MULTI\r\n", b"\r\n", b"*0\r\n", b"*-1\r\n", b"PING @\n", b'GET "\r\n', b"*x\r\n",
       b"*3\r\n$3\r\nSET\r\n")  # fmt: skip
#: What a backend may say that is no Redis, or a broken one.
HOSTILE = (b"+OK\r\n", b"-ERR no\r\n", b"$-1\r\n", b"*1\r\n", b">2\r\n+a\r\n:1\r\n", b"nonsense\r\n", b"*-1\r\n",
           b"-EXECABORT no\r\n", b"-LOADING no\r\n", b"$5\r\nab", b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
           b"%1\r\n+a\r\n+b\r\n", b"$99999999999\r\n", b"+QUEUED\r\n", b"_\r\n", b":7\r\n")  # fmt: skip
BIG = b"v" * 4_000


def phrase(text: str, mark: bytes) -> bytes:
    """A phrase as a client sends it."""
    commands = (each.encode().replace(b"@", mark).replace(b"#", BIG).split() for each in text.split("|"))
    return b"".join(encode(*words) for words in commands)


def perform(world: World, data: bytes) -> None:
    """Two bytes are an order: what and who, then its parameter. The loop turns only when it is told to."""
    at = 0
    while at + 1 < len(data):
        order, how = data[at], data[at + 1]
        at += 2
        slot, more = (order >> 4 & 3) % SLOTS, order >> 6
        what = order & 15
        if what == 3:
            raw = data[at : at + (how & 31)]
            at += len(raw)
            world.asker(slot).unsent += RAW[how % len(RAW)].replace(b"@", world.asker(slot).mark()) if how & 64 else raw
        elif what < 3:
            asker = world.asker(slot)
            asker.unsent += phrase(PHRASES[how % len(PHRASES)], asker.mark())
            asker.send((ALL, ALL, 0, len(asker.unsent) - 1)[more])
        else:
            _ORDERS[what](world, slot, how, more)


def _send(world: World, slot: int, how: int, more: int) -> None:
    world.asker(slot).send(how or ALL)


def _turn(world: World, slot: int, how: int, more: int) -> None:
    if how & 1:
        world.pass_on(serving=bool(how & 2))
    elif how & 2:
        world.settle()
    else:
        world.loop.turn()


def _backend(world: World, slot: int, how: int, more: int) -> None:
    """One backend connection goes on by one step."""
    served = world.one_served(how)
    if served is not None:
        (served.read, served.serve, served.transport.writable, lambda: served.say(ALL))[more]()


def _reply(world: World, slot: int, how: int, more: int) -> None:
    served = world.one_served(slot)
    if served is not None:
        served.read()
        served.say(how + 1)


def _push(world: World, slot: int, how: int, more: int) -> None:
    served = world.one_served(how)
    if served is not None:
        served.push()


def _leave(world: World, slot: int, how: int, more: int) -> None:
    asker = world.asker(slot)
    (asker.half_close, asker.break_off, asker.read_again, lambda: setattr(asker, "reads", False))[how & 3]()


def _kill(world: World, slot: int, how: int, more: int) -> None:
    served = world.one_served(how)
    if served is not None:
        world.kill(served, at_once=bool(more & 1))


def _times(world: World, slot: int, how: int, more: int) -> None:
    if how & 1:
        world.sweep()
    elif world.loop.timers:
        world.faults = True
        world.loop.ring()


def _down(world: World, slot: int, how: int, more: int) -> None:
    world.faults = True
    world.down = not world.down


def _hostile(world: World, slot: int, how: int, more: int) -> None:
    served = world.one_served(slot)
    if served is not None and more == 3:
        world.say_anything(served, HOSTILE[how % len(HOSTILE)])


_ORDERS = {
    4: _send, 5: _turn, 6: _turn, 7: _backend, 8: _reply, 9: _reply, 10: _push, 11: _leave, 12: _kill, 13: _times,
    14: _down, 15: _hostile,
}  # fmt: skip


def test_one_input(data: bytes) -> None:
    """``data``: one byte for how the world is set up, then orders."""
    if not data:
        return
    unraisable: list[object] = []
    sys.unraisablehook = unraisable.append
    world = World(data[0])
    try:
        perform(world, data[1:])
        world.finish()
    finally:
        world.close()
    assert not unraisable, unraisable


if __name__ == "__main__":
    import atheris  # type: ignore[import-untyped]

    logging.disable()
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
