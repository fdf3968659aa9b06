"""A target as ``--rehearse`` plays it: its facts turned into what the engine refuses.

Knows: which facts become which refusal, and which targets can't be rehearsed. Refuses to know: how a refusal is made
(``engine.rehearsal``). Where a fact says that a command is refused and nobody has seen the text, the error says so.
"""

from __future__ import annotations

from protocol.slots import enterprise_slot, slot
from proxy.engine.rehearsal import USUAL_DATABASES, Refusals, TransactionCheck
from proxy.report.targets import find
from proxy.report.targets.load import TargetError
from proxy.report.targets.target import Kind, SlotFunction, Target

#: redis.io's FAQ on CROSSSLOT within MULTI.
_WITHIN_MULTI = (
    "CROSSSLOT Keys in request don't hash to the same slot (context='within MULTI', command='{command}', "
    "original-slot='{first_slot}', wrong-slot='{slot}', first-key='{first_key}', violating-key='{key}')"
)
_SLOTS = {SlotFunction.REDIS: slot, SlotFunction.NONE: slot, SlotFunction.ENTERPRISE: enterprise_slot}
#: What a cluster's node finds out when the command runs; any other refusal comes when the command is queued.
_WHEN_RUN = "in cluster mode"


def rehearsable(name: str) -> Target:
    """The target of this name. Raises TargetError, with one line, if there is none or it can't be rehearsed."""
    target = find(name)
    if target.kind is Kind.PROXY or target.slots.function not in _SLOTS:
        raise TargetError(
            f"{target.id} can't be rehearsed: it is a proxy with transactions and slots of its own making"
        )
    return target


def refusals(target: Target) -> Refusals:
    """What the engine refuses in this target's place."""
    errors = {name: _text(target, name, text) for name, text in target.databases.errors.items()}
    lacking = {name: _text(target, name, fact.error) for name, fact in target.refusals.items() if target.lacks(name)}
    lacking |= {name: errors.pop(name) for name in ("SWAPDB", "MOVE") if name in errors}
    when_run = {name: text for name, text in lacking.items() if _WHEN_RUN in text}
    check = TransactionCheck.AT_QUEUE if target.transactions.fails == "queue" else TransactionCheck.AT_EXEC
    return Refusals(
        slot=_SLOTS[target.slots.function],
        cross_slot=_text(target, "a command over several slots", target.cross_slot.error) if target.sharded else "",
        may_cross=target.cross_slot.allowed,
        transaction=check if target.sharded else TransactionCheck.NEVER,
        in_transaction=_WITHIN_MULTI,
        databases=target.databases.number or USUAL_DATABASES,
        select=errors.get("SELECT", ""),
        copy=errors.get("COPY", ""),
        sort_by=target.sort.error.format(option="BY") if target.sort.patterns == "error" else "",
        sort_get=target.sort.error.format(option="GET") if target.sort.patterns == "error" else "",
        at_once={name: text for name, text in lacking.items() if name not in when_run},
        when_run=when_run,
    )


def _text(target: Target, what: str, error: str) -> str:
    """The error's text; where only a description of it is known (in parentheses), one that says so."""
    if error and not error.startswith("("):
        return error.replace("{command}", what)
    return f"ERR {what}: refused by {target.id} (rehearsed by shunt; the exact text is not verified)"
