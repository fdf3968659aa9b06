"""The desk: where every call of a verb comes in, whoever brings it, and from where changes go into the audit log.

Knows: the table, and that a change is written down with who asked, however it ended. Refuses to know: RESP, HTTP, and
what a verb does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from proxy.console.audit import Audit, Caller
from proxy.console.verb import Answer, Call, Table, Verb, VerbError

_log = logging.getLogger(__name__)


class Desk:
    """``call`` for all consoles of one shunt."""

    def __init__(self, table: Table, audit: Audit) -> None:
        self.table = table
        self._audit = audit
        self._changing: set[asyncio.Task[Answer]] = set()

    async def call(
        self, words: Sequence[str], caller: Caller, progress: Callable[[str], None] = lambda line: None
    ) -> Answer:
        """The answer to a line of words, when the thing is done. Raises VerbError.

        A change goes on, and is written down, when who asked for it does not wait for its end.
        """
        verb, arguments = self.table.find(words)
        call = Call(arguments, progress, str(caller))
        if not verb.changes:
            return await self._run(verb, call)
        change = asyncio.create_task(self._change(verb, call, caller))
        self._changing.add(change)
        change.add_done_callback(self._changing.discard)
        return await asyncio.shield(change)

    async def settled(self, within_s: float) -> None:
        """Waits until no change is under way; at the end of the time, those that are under way are cancelled."""
        if self._changing:
            _, late = await asyncio.wait(self._changing, timeout=within_s)
            for change in late:
                change.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _change(self, verb: Verb, call: Call, caller: Caller) -> Answer:
        began = time.monotonic()
        outcome, said = "failed", "it was cancelled"
        try:
            answer = await self._run(verb, call)
            outcome, said = "done", "; ".join(answer.lines())
            return answer
        except VerbError as error:
            said = str(error)
            raise
        finally:
            await self._audit.write(caller, verb.name, call.arguments, outcome, said, (time.monotonic() - began) * 1e3)

    async def _run(self, verb: Verb, call: Call) -> Answer:
        try:
            return await verb.run(call)
        except VerbError:
            raise
        except Exception as error:
            _log.exception("%s failed", verb.name)
            raise VerbError(f"{verb.name} failed: {type(error).__name__}; the log says where") from None
