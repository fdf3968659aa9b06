"""Names and what they are given: one walk over a script's tree.

Knows: Lua's lexical scopes, assignments, loops, parameters. Refuses to know: what the values are (``values``).
The picture does not follow the flow: a name may be any of the things that it is given anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tree_sitter import Node

from proxy.report.lua.syntax import parts, text

#: Globals through which a script could reach Redis in ways that reading it doesn't show.
OPAQUE_GLOBALS = frozenset(
    b"_G _ENV load loadstring loadfile dofile getfenv setfenv require debug module newproxy".split()
)
#: Globals that Redis gives a script; one that assigns to them is not what it looks like.
GIVEN = frozenset({b"KEYS", b"ARGV", b"redis", b"server"})
_FUNCTIONS = ("function_declaration", "function_definition")


class Gives(Enum):
    """How a source gives a name its value."""

    VALUE = 0  # the node's value
    ELEMENT = 1  # an element of the table that the node iterates over
    SPREAD = 2  # one of the values of the node, which has several
    INSERT = 3  # the node's value becomes an element of the named table
    COMPUTED = 4
    KEYS = 5  # the keys of a function's call
    ARGV = 6


@dataclass(eq=False, slots=True)
class Binding:
    """One local name. ``escapes``: it is used as a value, not only called or indexed."""

    name: bytes
    sources: list[tuple[Gives, Node | None]] = field(default_factory=list)
    escapes: bool = False

    def give(self, how: Gives, node: Node | None = None) -> None:
        self.sources.append((how, node))


@dataclass(slots=True)
class Program:
    """What the walk found. Dictionaries are by ``Node.id``."""

    bound: dict[int, Binding] = field(default_factory=dict)  # identifier -> what it names; missing: a global
    params: dict[int, list[Binding]] = field(default_factory=dict)  # function -> its parameters
    holders: dict[int, Binding] = field(default_factory=dict)  # function -> the name that holds it
    functions: list[Node] = field(default_factory=list)
    calls: list[Node] = field(default_factory=list)
    mentions: list[Node] = field(default_factory=list)  # identifiers and index expressions that are read
    tampered: bool = False  # a global of Redis' is assigned to


class Walk:
    """Walks a tree once. RecursionError: it is nested too deeply."""

    def __init__(self, root: Node) -> None:
        self.program = Program()
        self._scopes: list[dict[bytes, Binding]] = [{}]
        self._block(parts(root))

    def _visit(self, node: Node) -> None:
        visit = _VISITS.get(node.type)
        if visit is not None:
            visit(self, node)
        else:
            self._all(parts(node))

    def _all(self, nodes: list[Node]) -> None:
        for node in nodes:
            self._visit(node)

    def _block(self, nodes: list[Node]) -> None:
        self._scopes.append({})
        self._all(nodes)
        self._scopes.pop()

    def _nested(self, node: Node) -> None:
        """do, while, if and its parts, else: each has a scope of its own."""
        self._block(parts(node))

    # -- names ---------------------------------------------------------------------------------------------------

    def _declare(self, node: Node) -> Binding:
        made = self._scopes[-1][text(node)] = Binding(text(node))
        self.program.bound[node.id] = made
        return made

    def _find(self, node: Node) -> Binding | None:
        name = text(node)
        found = next((scope[name] for scope in reversed(self._scopes) if name in scope), None)
        if found is not None:
            self.program.bound[node.id] = found
        return found

    def _identifier(self, node: Node) -> None:
        found = self._find(node)
        if found is not None:
            found.escapes = True
        self.program.mentions.append(node)

    def _index(self, node: Node) -> None:
        table, key = node.child_by_field_name("table"), node.child_by_field_name("field")
        if table is not None:
            self._callee(table)
        if key is not None and node.type == "bracket_index_expression":
            self._visit(key)
        self.program.mentions.append(node)

    def _callee(self, node: Node) -> None:
        """An expression that is called or indexed: a name in this place does not escape."""
        if node.type == "identifier":
            self._find(node)
            self.program.mentions.append(node)
        else:
            self._visit(node)

    # -- statements ----------------------------------------------------------------------------------------------

    def _local(self, node: Node) -> None:
        inner = parts(node)[0]
        names = parts(inner if inner.type == "variable_list" else parts(inner)[0])
        values = [] if inner.type == "variable_list" else parts(parts(inner)[1])
        self._all(values)
        for at, name in enumerate(n for n in names if n.type == "identifier"):
            self._give(self._declare(name), values, at)

    def _assignment(self, node: Node) -> None:
        targets, values = (parts(each) for each in parts(node))
        self._all(values)
        for at, target in enumerate(targets):
            if target.type == "identifier":
                self._give(self._target(target), values, at)
            else:
                self._insert_into(target, values[at] if at < len(values) else None)

    def _target(self, node: Node) -> Binding:
        if text(node) in GIVEN and self._find(node) is None:
            self.program.tampered = True
        found = self._find(node)
        if found is None:
            found = self.program.bound[node.id] = self._scopes[0].setdefault(text(node), Binding(text(node)))
        return found

    def _insert_into(self, target: Node, value: Node | None) -> None:
        """``t[k] = value``, ``t.k = value``: also ``t`` itself may be an index expression."""
        base: Node | None = target
        while base is not None and base.type in ("bracket_index_expression", "dot_index_expression"):
            key = base.child_by_field_name("field")
            if key is not None and base.type == "bracket_index_expression":
                self._visit(key)
            base = base.child_by_field_name("table")
        self._grow(base, value)

    def _grow(self, base: Node | None, value: Node | None) -> None:
        if base is None or base.type != "identifier":
            if base is not None:
                self._visit(base)
            return
        found = self._find(base)
        if found is None:
            self.program.tampered = self.program.tampered or text(base) in GIVEN
        else:
            found.give(Gives.COMPUTED if value is None else Gives.INSERT, value)

    def _give(self, binding: Binding, values: list[Node], at: int) -> None:
        if at < len(values) - 1 or (at == len(values) - 1 and not _has_several(values[at])):
            binding.give(Gives.VALUE, values[at])
            if values[at].type in _FUNCTIONS:
                self.program.holders[values[at].id] = binding
        elif values and _has_several(values[-1]):
            binding.give(Gives.VALUE if at == len(values) - 1 else Gives.SPREAD, values[-1])

    def _function(self, node: Node) -> None:
        name = node.child_by_field_name("name")
        if name is not None and name.type == "identifier":
            local = node.children[0].type == "local"
            binding = self._declare(name) if local else self._target(name)
            binding.give(Gives.VALUE, node)
            self.program.holders[node.id] = binding
        elif name is not None:
            self._insert_into(name, None)
        self._scopes.append({})
        names = [each for each in parts(node.child_by_field_name("parameters")) if each.type == "identifier"]
        self.program.params[node.id] = [self._declare(each) for each in names]
        self.program.functions.append(node)
        self._all(parts(node.child_by_field_name("body")))
        self._scopes.pop()

    def _for(self, node: Node) -> None:
        clause = node.child_by_field_name("clause")
        assert clause is not None
        self._scopes.append({})
        if clause.type == "for_generic_clause":
            names, iterated = parts(clause)
            self._visit(iterated)
            for at, name in enumerate(parts(names)):
                if at == 0:
                    self._declare(name).give(Gives.COMPUTED)
                else:
                    self._declare(name).give(Gives.ELEMENT, parts(iterated)[0])
        else:
            name, *bounds = parts(clause)
            self._all(bounds)
            self._declare(name).give(Gives.COMPUTED)
        self._all(parts(node.child_by_field_name("body")))
        self._scopes.pop()

    def _repeat(self, node: Node) -> None:
        self._scopes.append({})  # the condition sees the block's names
        for child in parts(node):
            self._all(parts(child)) if child.type == "block" else self._visit(child)
        self._scopes.pop()

    def _call(self, node: Node) -> None:
        name, arguments = node.child_by_field_name("name"), node.child_by_field_name("arguments")
        self.program.calls.append(node)
        if name is not None:
            self._callee(name)
        given = parts(arguments)
        registers = name is not None and text(name).endswith(b"register_function")
        inserts = name is not None and self._is_insert(name) and len(given) > 1
        for argument in given:
            self._callee(argument) if registers or (inserts and argument == given[0]) else self._visit(argument)
        if inserts:
            self._grow(given[0], given[-1])

    def _is_insert(self, name: Node) -> bool:
        """``table.insert``, or a local that is given it somewhere."""
        binding = self.program.bound.get(name.id)
        sources = [] if binding is None else [text(source) for _, source in binding.sources if source is not None]
        return text(name) == b"table.insert" or b"table.insert" in sources

    def _skip(self, node: Node) -> None:
        """Labels are no names of values."""

    def _field(self, node: Node) -> None:
        """A table constructor's field: ``name = value`` names nothing in scope."""
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is not None and name.type != "identifier":
            self._visit(name)
        if value is not None:
            self._visit(value)


_VISITS = {
    "identifier": Walk._identifier,
    "dot_index_expression": Walk._index,
    "bracket_index_expression": Walk._index,
    "method_index_expression": Walk._index,
    "variable_declaration": Walk._local,
    "assignment_statement": Walk._assignment,
    "function_declaration": Walk._function,
    "function_definition": Walk._function,
    "for_statement": Walk._for,
    "repeat_statement": Walk._repeat,
    "function_call": Walk._call,
    "field": Walk._field,
    "block": Walk._nested,
    "do_statement": Walk._nested,
    "else_statement": Walk._nested,
    "label_statement": Walk._skip,
    "goto_statement": Walk._skip,
}


def _has_several(node: Node) -> bool:
    """Whether an expression may have several values."""
    return node.type in ("function_call", "vararg_expression")
