"""What a script's functions are called with.

Knows: calls by a local name, and functions that a library registers. Refuses to know: what the arguments are
(``values``). A function that is not only called by its name may be given anything.
"""

from __future__ import annotations

from tree_sitter import Node

from proxy.report.lua.scopes import Binding, Gives, Program
from proxy.report.lua.syntax import parts, text

_Holders = dict[Binding, list[Node]]


def give_parameters(program: Program) -> None:
    """Give each function's parameters the arguments of its calls."""
    by_holder: _Holders = {}
    for function in program.functions:
        holder = program.holders.get(function.id)
        if holder is not None:
            by_holder.setdefault(holder, []).append(function)
    for call in program.calls:
        _pass_arguments(program, call, by_holder)
    for function in program.functions:
        holder = program.holders.get(function.id)
        if holder is None or holder.escapes:
            for param in program.params[function.id]:
                if not param.sources or holder is not None:
                    param.give(Gives.COMPUTED)


def _pass_arguments(program: Program, call: Node, by_holder: _Holders) -> None:
    name = call.child_by_field_name("name")
    given = parts(call.child_by_field_name("arguments"))
    if name is None:
        return
    if text(name).endswith(b"register_function"):
        _register(program, given, by_holder)
    callee = program.bound.get(name.id)
    for function in by_holder.get(callee, []) if callee is not None else []:
        for at, param in enumerate(program.params[function.id]):
            if at < len(given):
                param.give(Gives.VALUE, given[at])
            elif given and given[-1].type in ("function_call", "vararg_expression"):
                param.give(Gives.SPREAD, given[-1])


def _register(program: Program, given: list[Node], by_holder: _Holders) -> None:
    """``redis.register_function(name, f)`` or ``{callback = f, …}``: f is called with its keys and arguments."""
    if len(given) == 1 and given[0].type == "table_constructor":
        callback = next((each.child_by_field_name("value") for each in parts(given[0]) if _is_callback(each)), None)
    else:
        callback = given[1] if len(given) == 2 else None
    if callback is None:
        return
    holder = program.bound.get(callback.id)
    for function in by_holder.get(holder, []) if holder is not None else [callback]:
        for how, param in zip((Gives.KEYS, Gives.ARGV), program.params.get(function.id, ()), strict=False):
            param.give(how)


def _is_callback(field: Node) -> bool:
    name = field.child_by_field_name("name")
    return name is not None and text(name) == b"callback"
