"""Rules about Lua scripts and functions. Knows: declared keys, and facts of a body. Refuses to know: Lua itself."""

from __future__ import annotations

import re
from enum import IntFlag

from proxy.capture.format import SLOT_CROSS, Flag
from proxy.capture.predicate import Equal, Has, OneOf
from proxy.report.rules.rule import CROSSSLOT, NOT_REFUSED, REACHED, Row, Rule, Severity, When, in_transaction


class ScriptFact(IntFlag):
    """What can be told of a script's body without running it."""

    NO_KEYS = 1 << 0  # it cannot reach a key
    NO_CLUSTER = 1 << 1  # its first line carries the flag no-cluster


# Names of Redis' Lua that touch no key, and commands that have none and mean the same on every node.
_HARMLESS = re.compile(
    rb"""redis\.(?:sha1hex|status_reply|error_reply|log|setresp|LOG_[A-Z]+|replicate_commands)\b
    |redis\.p?call\s*\(\s*(?P<quote>['"])(?:TIME|PING|ECHO|PUBLISH)(?P=quote)\s*[,)]""",
    re.IGNORECASE | re.VERBOSE,
)
_REACHES = re.compile(rb"redis|server|_G|load|getfenv|setfenv|require|debug")
_NO_CLUSTER = re.compile(rb"^#![^\n]*\bflags=[^\s]*\bno-cluster\b")


def script_facts(body: bytes) -> ScriptFact:
    """The facts of one script body. What is not certain is no fact."""
    facts = ScriptFact(0)
    if not _REACHES.search(_HARMLESS.sub(b"", body)):
        facts |= ScriptFact.NO_KEYS
    if _NO_CLUSTER.match(body):
        facts |= ScriptFact.NO_CLUSTER
    return facts


_SCRIPT = REACHED & Has("flags", Flag.SCRIPT)


class ScriptCrossSlot(Rule):
    """
    The declared keys of EVAL, EVALSHA or FCALL (KEYS, counted by numkeys) lie in several slots.

    **Error:** `CROSSSLOT Keys in request don't hash to the same slot`; inside MULTI when queued.

    **Instead:** give the script's keys one hash tag, or split the script.
    """

    id = "script-cross-slot"
    severity = Severity.ERROR
    title = "a script's declared keys lie in several hash slots"
    predicate = _SCRIPT & Equal("slot", SLOT_CROSS)
    text = CROSSSLOT


class ScriptNoCluster(Rule):
    """
    The script's first line forbids it on a cluster: `#!lua flags=no-cluster`.

    **Error:** `ERR Can not run script on cluster, 'no-cluster' flag is set.` Inside MULTI the error stands in EXEC's
    reply.

    **Instead:** rewrite the script so that all its keys are declared and share a slot, then drop the flag.
    """

    id = "script-no-cluster"
    severity = Severity.ERROR
    title = "a script forbids itself on a cluster"
    predicate = _SCRIPT & Has("script_facts", ScriptFact.NO_CLUSTER)
    text = "ERR Can not run script on cluster, 'no-cluster' flag is set."

    def when(self, row: Row) -> When:
        return When.EXEC if in_transaction(row) else When.COMMAND


class ScriptNoKeys(Rule):
    """
    A script or function is called with no declared key, and its body (where the capture has it) calls Redis: it may
    build key names from its arguments. Which keys it touches cannot be told from the wire, so this is never green.

    **Error:** unknown. On a cluster it runs on whichever node it is sent to; a key that this node does not serve ends
    it with `Script attempted to access a non local key in a cluster node`. A key that happens to be local works,
    until the slots move.

    **Instead:** pass every key the script touches in KEYS. Scripts that declare keys can touch undeclared ones too:
    a report says nothing of those, so read them.
    """

    id = "script-no-keys"
    severity = Severity.UNKNOWN
    title = "a script declares no keys and may touch some"
    predicate = (
        NOT_REFUSED
        & ~OneOf("error", [b"NOSCRIPT"])
        & Has("flags", Flag.SCRIPT)
        & Equal("nkeys", 0)
        & Equal("unknown", 0)
        & ~Has("script_facts", ScriptFact.NO_KEYS)
    )
    text = "unknown: the script declares no keys, and those it touches cannot be told from the wire"


class ScriptLoad(Rule):
    """
    SCRIPT LOAD and FUNCTION LOAD reach one node; the other nodes do not know the script.

    **Error:** none here; later `NOSCRIPT No matching script. Please use EVAL.` where EVALSHA is sent to another node.
    A client that answers NOSCRIPT by loading again, without a limit, on the wrong node, never ends: Sidekiq's poller
    does that.

    **Instead:** load on every node (cluster clients have a way to do it), or send EVAL.
    """

    id = "script-load"
    severity = Severity.LATENT
    title = "a script is loaded on one node only"
    predicate = NOT_REFUSED & OneOf("command", [b"SCRIPT LOAD", b"FUNCTION LOAD"])
    text = "NOSCRIPT No matching script. Please use EVAL. (on the other nodes)"
