"""Rules about Lua scripts and functions. Knows: declared keys, and facts of a body. Refuses to know: Lua itself
(``report.lua`` reads it), and how facts come of a reading (``report.scripts``): the proxy, which judges live without
bodies, loads no parser."""

from __future__ import annotations

from enum import IntFlag

from proxy.capture.format import SLOT_CROSS, Flag
from proxy.capture.predicate import Above, Equal, Has, OneOf
from proxy.report.rules.rule import NOT_REFUSED, REACHED, Row, Rule, Severity, ShardedRule, When, in_transaction
from proxy.report.targets import Target


class ScriptFact(IntFlag):
    """What can be told of a script's body without running it. What is not certain is no fact."""

    NO_KEYS = 1 << 0  # it cannot reach a key
    NO_CLUSTER = 1 << 1  # its first line carries the flag no-cluster
    UNDECLARED = 1 << 2  # a command of it names a key that does not come out of KEYS
    SHEBANG = 1 << 3  # its first line is #!lua
    CROSS_SLOT = 1 << 4  # its first line carries the flag allow-cross-slot-keys
    HIDDEN = 1 << 5  # it may touch keys that reading the body does not show


_DECLARE = "pass every key that the script touches in KEYS"
_SCRIPT = REACHED & Has("flags", Flag.SCRIPT)


class ScriptCrossSlot(ShardedRule):
    """
    The declared keys of EVAL, EVALSHA or FCALL (KEYS, counted by numkeys) lie in several slots.

    **Error:** `CROSSSLOT Keys in request don't hash to the same slot`; inside MULTI when queued.

    **Instead:** give the script's keys one hash tag, or split the script.
    """

    id = "script-cross-slot"
    severity = Severity.ERROR
    title = "a script's declared keys lie in several hash slots"
    predicate = _SCRIPT & Equal("slot", SLOT_CROSS)
    remedy = "one hash tag for the script's keys, or several scripts"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        lacked = [name.encode() for name in target.refusals if target.lacks(name)]
        self.predicate = self.predicate & ~OneOf("command", lacked)
        self.text = target.cross_slot.error
        if target.cross_slot.others == "first-key":
            self.severity = Severity.SILENT  # and yet it blocks: data would be missed

    def error(self, row: Row) -> str:
        return (self.target.transactions.queue_error or self.text) if in_transaction(row) else self.text


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
    remedy = "declare the script's keys in one slot, then drop the flag"

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.scripts.no_cluster_flag

    def when(self, row: Row) -> When:
        return When.EXEC if in_transaction(row) else When.COMMAND


class ScriptNoKeys(Rule):
    """
    A script or function is called with no declared key, and its body (where the capture has it) calls Redis: it may
    build key names from its arguments. Which keys it touches cannot be told from the wire, so this is never green.

    **Error:** unknown. On a cluster it runs on whichever node it is sent to; a key that this node does not serve ends
    it with `Script attempted to access a non local key in a cluster node`. A key that happens to be local works,
    until the slots move.

    **Instead:** pass every key the script touches in KEYS. Where the body was captured, the table of scripts names
    the lines; `shunt monitor-sample` shows the keys that scripts really touch.
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
    remedy = _DECLARE

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.scripts.undeclared != "fine"


_READ = NOT_REFUSED & ~OneOf("error", [b"NOSCRIPT"]) & Has("flags", Flag.SCRIPT)
_STRICT = Has("script_facts", ScriptFact.SHEBANG) & ~Has("script_facts", ScriptFact.CROSS_SLOT)


class ScriptUndeclaredKeys(Rule):
    """
    The script's body names keys that do not come out of KEYS: written in the script, made of a declared key
    (`KEYS[1] .. ':x'`), or computed. The table of scripts names the lines.

    **Error:** none while the node that runs the script serves these keys too. Otherwise the script ends with `ERR
    Script attempted to access a non local key in a cluster node`, in the middle: what it wrote before stays written.
    A line in a branch that is not taken harms nobody, and a key made of a declared key that has a hash tag stays in
    its slot: reading a script does not tell these apart.

    Dragonfly and ElastiCache Serverless refuse such keys wherever they are; on Redis Enterprise the script runs without
    an error and misses the data of the other shards: both block.

    **Instead:** pass every key in KEYS, under one hash tag.
    """

    id = "script-undeclared-keys"
    severity = Severity.LATENT
    title = "a script touches keys that it does not declare"
    predicate = _READ & Has("script_facts", ScriptFact.UNDECLARED)
    remedy = _DECLARE

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        facts = target.scripts
        self.text = facts.undeclared_error
        if facts.undeclared == "latent":
            self.predicate = self.predicate & ~_STRICT
            self.text = f"{facts.undeclared_error} (once these keys are on another node)"
        elif facts.undeclared == "error":
            self.severity, self.blocks = Severity.ERROR, True
        elif facts.undeclared == "wrong-data":
            self.severity, self.blocks = Severity.SILENT, True
        else:
            self.severity = Severity.UNKNOWN

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.scripts.undeclared != "fine"


class ScriptUndeclaredSlots(Rule):
    """
    The same in a script whose first line is `#!lua`, without the flag `allow-cross-slot-keys`: all its keys, declared
    or not, have to be in one slot. Which slot the undeclared keys are in cannot be told from the script.

    **Error:** unknown. For a key of another slot `ERR Script attempted to access keys that do not hash to the same
    slot`, also on a cluster of one node; for a key of another node `ERR Script attempted to access a non local key in
    a cluster node`.

    **Instead:** as for `script-undeclared-keys`.
    """

    id = "script-undeclared-slots"
    severity = Severity.UNKNOWN
    title = "a #!lua script touches keys that it does not declare"
    predicate = _READ & Has("script_facts", ScriptFact.UNDECLARED) & _STRICT
    text = (
        "unknown: if these keys are in another slot, ERR Script attempted to access keys that do not hash to the same "
        "slot (or: a non local key in a cluster node)"
    )
    remedy = _DECLARE

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.scripts.undeclared == "latent"


class ScriptHiddenKeys(Rule):
    """
    The script declares keys, and its body cannot be read for certain: a command's name is computed, `redis.call` is
    handed on, the body is no Lua that shunt's parser knows, or it is too large. The table of scripts has the reason.

    **Error:** unknown.

    **Instead:** read the script, or see with `shunt monitor-sample` which keys it touches.
    """

    id = "script-hidden-keys"
    severity = Severity.UNKNOWN
    title = "a script may touch keys that reading it does not show"
    predicate = _READ & Above("nkeys", 0) & Has("script_facts", ScriptFact.HIDDEN)
    text = "unknown: the script's body does not show every key that it touches"
    remedy = "read the script, or sample MONITOR"

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.scripts.undeclared != "fine"


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
    remedy = "load on every node, or send EVAL"

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.scripts.load == "node" and not target.lacks("SCRIPT LOAD")
