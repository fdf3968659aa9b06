"""Where a value comes from: out of KEYS, a literal, made of a declared key, or computed.

Knows: how Lua's expressions carry these on, and what ``redis.call`` is called where it has other names. Refuses to
know: statements and their order (``scopes``), and commands (``reading``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum

from tree_sitter import Node

from proxy.report.lua.parameters import give_parameters
from proxy.report.lua.scopes import Binding, Gives, Program
from proxy.report.lua.syntax import parts, string_value, text

_TEXT_BYTES = 60
#: A name may be so many different literals; beyond, it is computed.
_MOST_USES = 8
_MOST_LITERAL_BYTES = 4096
_UNPACKS = (b"unpack or table.unpack", b"table.unpack or unpack")
#: Of the table ``redis``: what touches no key.
HARMLESS = frozenset(
    b"sha1hex status_reply error_reply log setresp replicate_commands set_repl acl_check_cmd breakpoint debug "
    b"LOG_DEBUG LOG_VERBOSE LOG_NOTICE LOG_WARNING REPL_ALL REPL_AOF REPL_SLAVE REPL_REPLICA REPL_NONE "
    b"REDIS_VERSION REDIS_VERSION_NUM SERVER_NAME SERVER_VERSION SERVER_VERSION_NUM".split()
)


class Origin(StrEnum):
    """Where a key's name comes from."""

    DECLARED = "declared"  # KEYS[i]
    LITERAL = "literal"  # written in the script
    DERIVED = "made of a declared key"  # KEYS[1] .. ":x": in its slot only if the key has a hash tag
    COMPUTED = "computed"  # from ARGV, replies, or what reading can't follow


@dataclass(frozen=True, slots=True, order=True)
class KeyUse:
    """One way that a key's name comes about. ``text``: the literal, or the expression as written, at most 60 bytes."""

    origin: Origin
    text: bytes


class Role(Enum):
    """What kind of value it is, as far as this matters here."""

    TEXT = 0
    TABLE = 1  # its uses are its elements'
    SPREAD = 2  # several values: unpack(…), …
    KEY_COUNT = 3  # #KEYS
    REDIS = 4  # the table redis
    CALL = 5  # redis.call or redis.pcall
    REGISTER = 6
    HARMLESS = 7
    OTHER = 8


@dataclass(frozen=True, slots=True)
class Value:
    """A value: its kind, and what it or its elements may be."""

    role: Role
    uses: frozenset[KeyUse] = frozenset()


NOTHING = Value(Role.TEXT)


def computed(node: Node, role: Role = Role.TEXT) -> Value:
    return Value(role, frozenset({KeyUse(Origin.COMPUTED, _source(node))}))


def _source(node: Node) -> bytes:
    whole = b" ".join(text(node).split())
    return whole if len(whole) <= _TEXT_BYTES else whole[: _TEXT_BYTES - 3] + b"..."


def join(values: Iterable[Value]) -> Value:
    """A value that is any of these."""
    there = [value for value in values if value != NOTHING]
    if not there:
        return NOTHING
    roles = {value.role for value in there}
    uses = frozenset().union(*(value.uses for value in there))
    if len(uses) > _MOST_USES:
        uses = frozenset({KeyUse(Origin.COMPUTED, b"one of many values")})
    return Value(roles.pop() if len(roles) == 1 else Role.OTHER, uses)


class Evaluator:
    """The values of a program's expressions. RecursionError: it is nested too deeply."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._names: dict[Binding, Value | None] = {}  # None: under way
        self._nodes: dict[int, Value] = {}
        give_parameters(program)

    def value(self, node: Node) -> Value:
        """What the expression may be."""
        known = self._nodes.get(node.id)
        if known is None:
            evaluate = _EXPRESSIONS.get(node.type)
            known = computed(node, Role.OTHER) if evaluate is None else evaluate(self, node)
            self._nodes[node.id] = known
        return known

    def builtin(self, node: Node) -> bytes:
        """The global function that a name stands for, as written (``table.concat``), through locals; empty: none."""
        if node.type == "dot_index_expression":
            table = node.child_by_field_name("table")
            return text(node) if table is not None and table.id not in self._program.bound else b""
        binding = self._program.bound.get(node.id)
        if binding is None:
            return text(node) if node.type == "identifier" else b""
        sources = [source for _, source in binding.sources if source is not None]
        if len(sources) != 1 or len(binding.sources) != 1:
            return b""
        if text(sources[0]) in _UNPACKS:
            return b"unpack"
        return self.builtin(sources[0]) if sources[0].type in ("identifier", "dot_index_expression") else b""

    # -- names ---------------------------------------------------------------------------------------------------

    def _identifier(self, node: Node) -> Value:
        binding = self._program.bound.get(node.id)
        if binding is not None:
            return self._named(binding, node)
        name = text(node)
        if name == b"KEYS" and not self._program.tampered:
            return Value(Role.TABLE, frozenset({KeyUse(Origin.DECLARED, b"KEYS")}))
        if name in (b"KEYS", b"ARGV"):
            return computed(node, Role.TABLE)
        return computed(node, Role.REDIS if name in (b"redis", b"server") else Role.OTHER)

    def _named(self, binding: Binding, node: Node) -> Value:
        if binding not in self._names:
            self._names[binding] = None
            self._names[binding] = join(self._given(how, source, node) for how, source in binding.sources)
        known = self._names[binding]
        return computed(node) if known is None else known  # None: it is made of itself

    def _given(self, how: Gives, source: Node | None, node: Node) -> Value:
        if how is Gives.KEYS:
            return Value(Role.TABLE, frozenset({KeyUse(Origin.DECLARED, b"KEYS")}))
        if how is Gives.ARGV:
            return computed(node, Role.TABLE)
        if how is Gives.COMPUTED or source is None:
            return computed(node)
        value = self.value(source)
        if how is Gives.INSERT:
            return Value(Role.TABLE, value.uses)
        if how is Gives.ELEMENT:
            return self._element_of_iterator(source)
        return Value(Role.TEXT, value.uses) if value.role is Role.SPREAD else value

    def _element_of_iterator(self, source: Node) -> Value:
        """``ipairs(t)``, ``pairs(t)``: an element of t."""
        name = source.child_by_field_name("name")
        given = parts(source.child_by_field_name("arguments"))
        if name is not None and self.builtin(name) in (b"ipairs", b"pairs") and given:
            table = self.value(given[0])
            if table.role is Role.TABLE:
                return Value(Role.TEXT, table.uses)
        return computed(source)

    # -- expressions ---------------------------------------------------------------------------------------------

    def _string(self, node: Node) -> Value:
        return Value(Role.TEXT, frozenset({KeyUse(Origin.LITERAL, string_value(node))}))

    def _number(self, node: Node) -> Value:
        digits = text(node)
        if digits.isdigit() and len(digits) < 15:
            return Value(Role.TEXT, frozenset({KeyUse(Origin.LITERAL, b"%d" % int(digits))}))
        return computed(node)

    def _nothing(self, node: Node) -> Value:
        return NOTHING

    def _parentheses(self, node: Node) -> Value:
        inner = self.value(parts(node)[0])
        return Value(Role.TEXT, inner.uses) if inner.role is Role.SPREAD else inner

    def _unary(self, node: Node) -> Value:
        operand = node.child_by_field_name("operand")
        if operand is not None and node.children[0].type == "#":
            table = self.value(operand)
            if table.role is Role.TABLE and {use.origin for use in table.uses} == {Origin.DECLARED}:
                return Value(Role.KEY_COUNT)
        return computed(node)

    def _binary(self, node: Node) -> Value:
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        if left is None or right is None:
            return computed(node)
        operator = node.children[1].type
        if operator == "or":
            return join((self.value(left), self.value(right)))
        if operator == "and":
            return self.value(right)
        return self._joined(node, [self.value(left), self.value(right)]) if operator == ".." else computed(node)

    def _joined(self, node: Node, pieces: list[Value]) -> Value:
        """Texts one after another."""
        origins = {use.origin for piece in pieces for use in piece.uses}
        if origins & {Origin.DECLARED, Origin.DERIVED}:
            return Value(Role.TEXT, frozenset({KeyUse(Origin.DERIVED, _source(node))}))
        left, right = pieces[0].uses, pieces[-1].uses
        if len(pieces) != 2 or origins != {Origin.LITERAL} or not 1 <= len(left) * len(right) <= _MOST_USES:
            return computed(node)
        texts = {a.text + b.text for a in left for b in right}
        if max(map(len, texts)) > _MOST_LITERAL_BYTES:  # a name joined to itself doubles at each step
            return computed(node)
        return Value(Role.TEXT, frozenset(KeyUse(Origin.LITERAL, each) for each in texts))

    def _index(self, node: Node) -> Value:
        table, key = node.child_by_field_name("table"), node.child_by_field_name("field")
        if table is None or key is None:
            return computed(node)
        base = self.value(table)
        if base.role is Role.REDIS:
            return self._member(node, key)
        if base.role is not Role.TABLE or {use.origin for use in base.uses} <= {Origin.COMPUTED}:
            return computed(node)
        return Value(Role.TEXT, base.uses)

    def _member(self, node: Node, key: Node) -> Value:
        """``redis.name`` or ``redis["name"]``."""
        name = text(key)
        if node.type == "bracket_index_expression":
            name = string_value(key) if key.type == "string" else b""
        if name in (b"call", b"pcall"):
            return computed(node, Role.CALL)
        if name == b"register_function":
            return computed(node, Role.REGISTER)
        return computed(node, Role.HARMLESS if name in HARMLESS else Role.OTHER)

    def _table(self, node: Node) -> Value:
        values = [each.child_by_field_name("value") for each in parts(node)]
        elements = join(self.value(each) for each in values if each is not None)
        return Value(Role.TABLE, elements.uses)

    def _call(self, node: Node) -> Value:
        name = node.child_by_field_name("name")
        given = parts(node.child_by_field_name("arguments"))
        called = b"" if name is None else self.builtin(name)
        if called in (b"unpack", b"table.unpack") and given:
            table = self.value(given[0])
            if table.role is Role.TABLE and table.uses:
                return Value(Role.SPREAD, table.uses)
            return computed(node, Role.SPREAD)
        if called == b"tostring" and len(given) == 1:
            inner = self.value(given[0])
            return inner if inner.role is Role.TEXT and inner.uses else computed(node)
        if called in (b"string.format", b"table.concat"):
            return self._joined(node, [self.value(each) for each in given] * 2)
        return computed(node)

    def _vararg(self, node: Node) -> Value:
        return computed(node, Role.SPREAD)


_EXPRESSIONS = {
    "identifier": Evaluator._identifier,
    "string": Evaluator._string,
    "number": Evaluator._number,
    "nil": Evaluator._nothing,
    "true": Evaluator._nothing,
    "false": Evaluator._nothing,
    "parenthesized_expression": Evaluator._parentheses,
    "unary_expression": Evaluator._unary,
    "binary_expression": Evaluator._binary,
    "dot_index_expression": Evaluator._index,
    "bracket_index_expression": Evaluator._index,
    "table_constructor": Evaluator._table,
    "function_call": Evaluator._call,
    "vararg_expression": Evaluator._vararg,
}
