"""A reading: every command that a script's body sends, with its line and what its keys are made of.

Knows: commands' key positions (``protocol.keyspecs``) and when a body can't be read for certain. Refuses to know:
what a rule makes of it. What is not certain is not said: a body is ``unread`` with the reason, a call's keys are
``unknown`` with theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tree_sitter import Node

from protocol.commands import Finder
from protocol.keyspecs import Keys, find, lookup_name
from proxy.capture.format import UNKNOWN_TEXT, UnknownWhy
from proxy.report.lua.scopes import OPAQUE_GLOBALS, Program, Walk
from proxy.report.lua.syntax import Shebang, Unreadable, line, parse, parts, shebang, text
from proxy.report.lua.values import Evaluator, KeyUse, Origin, Role, Value

#: Stands for an argument that reading doesn't know: no word of any command.
_PLACEHOLDER = b"?"
_MOST_CALLS = 2000


@dataclass(frozen=True, slots=True)
class Call:
    """One ``redis.call`` or ``pcall``. ``command``: upper case, None if computed. ``keys``: one or more uses for each
    key. ``unknown``: why the keys can't be told; empty: they can."""

    line: int
    command: bytes | None
    keys: tuple[KeyUse, ...] = ()
    unknown: str = ""

    @property
    def undeclared(self) -> tuple[KeyUse, ...]:
        """Its keys outside KEYS."""
        return tuple(use for use in self.keys if use.origin is not Origin.DECLARED)


@dataclass(frozen=True, slots=True)
class ScriptReading:
    """What reading a body tells. ``opaque``: why there may be calls that were not found; empty: these are all.
    ``unread``: why nothing could be read. ``functions``: names that a library registers."""

    shebang: Shebang | None = None
    calls: tuple[Call, ...] = ()
    functions: tuple[bytes, ...] = ()
    opaque: str = ""
    unread: str = ""


def read_script(body: bytes) -> ScriptReading:
    """The reading of one body. Never raises, whatever the body is."""
    first = shebang(body)
    if first is not None and first.engine != b"lua":
        return ScriptReading(first, unread="its engine is not Lua")
    try:
        return _Reader(parse(body)).reading(first)
    except Unreadable as why:
        return ScriptReading(first, unread=str(why))
    except RecursionError:
        return ScriptReading(first, unread="it is nested too deeply")


class _Reader:
    def __init__(self, root: Node) -> None:
        self._program: Program = Walk(root).program
        self._evaluator = Evaluator(self._program)
        self._opaque = ""

    def reading(self, first: Shebang | None) -> ScriptReading:
        calls: list[Call] = []
        functions: list[bytes] = []
        for node in self._program.calls:
            called, arguments = self._called(node)
            if called.role is Role.CALL:
                calls.append(self._call(node, arguments))
            elif called.role is Role.REGISTER:
                functions.append(self._registered(arguments))
        self._look_for_other_ways()
        if len(calls) > _MOST_CALLS:
            raise Unreadable(f"it has {len(calls):,} calls; only {_MOST_CALLS:,} are looked at")
        return ScriptReading(first, tuple(calls), tuple(filter(None, functions)), self._opaque)

    def _called(self, node: Node) -> tuple[Value, list[Node]]:
        """What is called, and with what; through ``pcall(redis.call, …)`` too."""
        name = node.child_by_field_name("name")
        arguments = parts(node.child_by_field_name("arguments"))
        if name is None:
            return Value(Role.OTHER), arguments
        if arguments and self._evaluator.builtin(name) == b"pcall":
            inner = self._evaluator.value(arguments[0])
            if inner.role is Role.CALL:
                return inner, arguments[1:]
        return self._evaluator.value(name), arguments

    def _registered(self, arguments: list[Node]) -> bytes:
        if len(arguments) == 1 and arguments[0].type == "table_constructor":
            named = [
                each.child_by_field_name("value")
                for each in parts(arguments[0])
                if (name := each.child_by_field_name("name")) is not None and text(name) == b"function_name"
            ]
            arguments = [node for node in named if node is not None]
        return (_literal(self._evaluator.value(arguments[0])) or b"") if arguments else b""

    # -- calls ---------------------------------------------------------------------------------------------------

    def _call(self, node: Node, arguments: list[Node]) -> Call:
        values = [self._evaluator.value(each) for each in arguments]
        words = [_PLACEHOLDER if (known := _literal(value)) is None else known for value in values]
        if not values or _literal(values[0]) is None:
            return Call(line(node), None, unknown="the command's name is computed")
        spec = lookup_name(words) or lookup_name(words[:1])
        if spec is None:
            return Call(line(node), words[0].upper(), unknown=UNKNOWN_TEXT[UnknownWhy.NOT_IN_TABLE])
        name = spec.name.encode()
        if not spec.key_specs:
            return Call(line(node), name)
        if spec.finder not in (Finder.SPECS, Finder.FIRST) and any(_literal(value) is None for value in values[2:]):
            keys = _uses(values[1:2]) if spec.finder in (Finder.SORT, Finder.GEORADIUS) else ()
            return Call(line(node), name, keys, "an argument that may name a key is computed")
        found = _find(words, values, spec.arity)
        if isinstance(found, str):
            return Call(line(node), name, unknown=found)
        return Call(line(node), name, _uses(found))

    # -- what could be hidden ------------------------------------------------------------------------------------

    def _look_for_other_ways(self) -> None:
        if self._program.tampered:
            self._opaque = "it assigns to a global of Redis'"
        for node in self._program.mentions:
            if node.type == "identifier" and node.id not in self._program.bound and text(node) in OPAQUE_GLOBALS:
                self._opaque = f"line {line(node)} uses {text(node).decode('latin-1')}"
            elif not self._understood(node):
                self._opaque = f"line {line(node)} hands redis or redis.call on"

    def _understood(self, node: Node) -> bool:
        """Whether a mention of ``redis`` or ``redis.call`` stands in a place that was looked at."""
        role = self._evaluator.value(node).role
        parent = node.parent
        if role not in (Role.REDIS, Role.CALL) or parent is None:
            return role is not Role.OTHER or not self._holds_redis(node)
        if parent.type in ("dot_index_expression", "bracket_index_expression"):
            known = (Role.CALL, Role.HARMLESS, Role.REGISTER)
            return node == parent.child_by_field_name("table") and self._evaluator.value(parent).role in known
        if parent.type == "function_call":
            return node == parent.child_by_field_name("name")
        if parent.type == "arguments" and role is Role.CALL:
            called = parent.parent
            name = None if called is None else called.child_by_field_name("name")
            return name is not None and self._evaluator.builtin(name) == b"pcall" and parts(parent)[0] == node
        return parent.type == "expression_list" and self._is_alias(node, parent, role)

    def _holds_redis(self, node: Node) -> bool:
        """Whether a name that is sometimes ``redis.call`` and sometimes not is used."""
        binding = self._program.bound.get(node.id)
        if binding is None:
            return False
        values = [self._evaluator.value(source) for _, source in binding.sources if source is not None]
        return any(value.role in (Role.REDIS, Role.CALL) for value in values)

    def _is_alias(self, node: Node, listed: Node, role: Role) -> bool:
        """``local call = redis.call``, and the name is never anything else."""
        assignment = listed.parent
        if assignment is None or assignment.type != "assignment_statement":
            return False
        names, at = parts(parts(assignment)[0]), parts(listed).index(node)
        return at < len(names) and names[at].type == "identifier" and self._evaluator.value(names[at]).role is role


def _literal(value: Value) -> bytes | None:
    """The one text that a value is, if it is one."""
    if value.role is not Role.TEXT or len(value.uses) != 1:
        return None
    [use] = value.uses
    return use.text if use.origin is Origin.LITERAL else None


def _uses(values: Sequence[Value]) -> tuple[KeyUse, ...]:
    found: dict[KeyUse, None] = {}
    for value in values:
        uses = value.uses or frozenset({KeyUse(Origin.COMPUTED, b"nil")})
        found.update(dict.fromkeys(sorted(uses)))
    return tuple(found)


def _find(words: list[bytes], values: list[Value], arity: int) -> list[Value] | str:
    """The values that are keys, or why that can't be told. ``unpack(…)`` at the end stands for as many as fit."""
    if values[-1].role is not Role.SPREAD:
        return _found(words, values)
    if len(values) > 2 and values[-2].role is Role.KEY_COUNT:  # #KEYS, unpack(KEYS)
        return _found([*words[:-2], b"1", words[-1]], values)
    least = max(abs(arity) - len(values), 0)
    answer: list[Value] | str = ""
    for more in (least, least + 1):
        answer = _found([*words, *[_PLACEHOLDER] * more], [*values, *[values[-1]] * more])
        if not isinstance(answer, str) or arity > 0:
            break
    return answer


def _found(words: list[bytes], values: list[Value]) -> list[Value] | str:
    found = find(words)
    if isinstance(found, Keys):
        return [values[at] for at in found.indexes]
    return UNKNOWN_TEXT[UnknownWhy(found.why)]
