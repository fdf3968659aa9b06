"""Scripts and functions for the target, so that EVALSHA and FCALL find there what they found at the source.

Knows: SCRIPT LOAD of what clients have sent through shunt, FUNCTION DUMP and RESTORE of what the source has. Refuses to
know: scripts that were loaded before shunt stood there: no Redis tells their bodies.

Nothing of this is a reason to stop: a client that reads NOSCRIPT sends EVAL, as after any restart of Redis. What the
target refused is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from proxy.cutover.replication import Server

#: Scripts that are sent in one go.
AT_ONCE = 100


async def load(source: Server, target: Server, bodies: Sequence[bytes], *, with_functions: bool) -> str:
    """Load them. Returns one line that says what came of it. ``with_functions``: replication does not bring them."""
    said = [await _scripts(target, bodies)]
    if with_functions:
        said.append(await _functions(source, target))
    return "; ".join(said)


async def _scripts(target: Server, bodies: Sequence[bytes]) -> str:
    control: Any = target.control()  # without types in redis-py
    loaded = refused = 0
    try:
        for start in range(0, len(bodies), AT_ONCE):
            pipeline = control.pipeline(transaction=False)
            for body in bodies[start : start + AT_ONCE]:
                pipeline.execute_command("SCRIPT", "LOAD", body)
            for answer in await pipeline.execute(raise_on_error=False):
                refused += isinstance(answer, Exception)
                loaded += not isinstance(answer, Exception)
    except (RedisError, OSError) as error:
        return f"scripts: {error}"
    finally:
        await control.aclose()
    return f"{loaded} scripts loaded" + (f", {refused} refused" if refused else "")


async def _functions(source: Server, target: Server) -> str:
    old: Any = source.control()
    new: Any = target.control()
    try:
        dump = await old.execute_command("FUNCTION", "DUMP")
        await new.execute_command("FUNCTION", "RESTORE", dump, "APPEND")
    except ResponseError as error:
        if "unknown command" in str(error):
            return "no functions: one of the two has none"
        return f"functions: {error}"
    except (RedisError, OSError) as error:
        return f"functions: {error}"
    finally:
        await old.aclose()
        await new.aclose()
    return "functions copied"
