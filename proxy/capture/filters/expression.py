"""Reads a filter expression: ``cmd:BRPOP and (latency>10ms or not key:queue:*)``.

Knows: the grammar, and errors that name the column and what was expected. Refuses to know: what fields mean
(``fields``).

    or    = and ("or" and)*          condition = field operator value | "(" or ")"
    and   = not ("and" not)*         operator  = : = != < <= > >=
    not   = "not" not | condition    value     = characters but white space, quotes and parentheses | quoted
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, reduce
from operator import and_, or_
from typing import Any

import pyparsing as pp

from proxy.capture.filters.answer import Answer
from proxy.capture.filters.fields import Field, fields
from proxy.capture.filters.filtered import IS_GAP, Filter
from proxy.capture.filters.values import KEYS_IN_DOUBT

MOST_CHARACTERS = 2000
_OPERATOR, _VALUE = "one of : = != < <= > >=", "a value"
_CLOSE, _END = '"and", "or" or ")"', '"and", "or" or the end'


class FilterError(ValueError):
    """An expression that means nothing: one line. ``column`` counts from 1."""

    def __init__(self, column: int, problem: str) -> None:
        super().__init__(f"column {column}: {problem}")
        self.column = column


def parse(text: str) -> Filter:
    """The filter that ``text`` describes. Gaps pass it, unless it asks for ``gap``. Raises FilterError."""
    if len(text) > MOST_CHARACTERS:
        raise FilterError(MOST_CHARACTERS + 1, f"more than {MOST_CHARACTERS:,} characters")
    try:
        (found,) = _grammar().parse_string(text)
    except pp.ParseBaseException as error:
        raise FilterError(error.loc + 1, f"expected {_expected(error)}") from None
    except RecursionError:
        raise FilterError(1, "too many parentheses or nots within each other") from None
    answer = found.answer
    keeps = answer.certain if "gap" in found.fields else answer.certain | IS_GAP
    # The cheap part first: where no row is like that, the rest isn't looked at.
    doubts = None if answer.doubt is None else KEYS_IN_DOUBT & answer.doubt
    return Filter(" ".join(text.split("\n")).strip(), keeps, doubts)


@dataclass(frozen=True)
class _Condition:
    """A part of an expression, and the fields that it asks for."""

    answer: Answer
    fields: frozenset[str]

    def __and__(self, other: _Condition) -> _Condition:
        return _Condition(self.answer & other.answer, self.fields | other.fields)

    def __or__(self, other: _Condition) -> _Condition:
        return _Condition(self.answer | other.answer, self.fields | other.fields)

    def __invert__(self) -> _Condition:
        return _Condition(~self.answer, self.fields)


@dataclass(frozen=True)
class _Word:
    """A piece of the text and where it begins, from 0."""

    text: str
    at: int
    quoted: bool = False


@cache
def _grammar() -> pp.ParserElement:
    also, either, negation = (pp.CaselessKeyword(word).suppress() for word in ("and", "or", "not"))
    name = ~(also | either | negation) + pp.Regex(r"[A-Za-z_]+")
    name.add_parse_action(lambda text, at, found: _Word(found[0], text.index(found[0], at)))
    operator = pp.Regex(r"!=|<=|>=|[:=<>]").add_parse_action(_word).set_name(_OPERATOR)
    quoted = pp.Regex(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'").add_parse_action(
        lambda _, at, found: _Word(found[0][1:-1], at, quoted=True)
    )
    value = (quoted | pp.Regex(r"""[^\s()"']+""").add_parse_action(_word)).set_name(_VALUE)

    expression, inverse = pp.Forward(), pp.Forward()
    test = (name.add_condition(_is_field) - operator - value).add_parse_action(lambda found: _condition(*found))
    closing = pp.Literal(")").suppress().set_name(_CLOSE)
    condition = pp.Literal("(").suppress() - expression - closing | test
    inverse <<= (negation - inverse).add_parse_action(lambda found: ~found[0]) | condition
    both = (inverse + (also - inverse)[...]).add_parse_action(lambda found: reduce(and_, found))
    expression <<= (both + (either - both)[...]).add_parse_action(lambda found: reduce(or_, found))
    return expression + pp.StringEnd().set_name(_END)


def _expected(error: pp.ParseBaseException) -> str:
    """What should stand where the parser stopped."""
    said = error.msg.removeprefix("Expected ")
    if said == _VALUE and (quote := error.pstr[error.loc : error.loc + 1]) in ("'", '"'):
        return f"a second {quote} behind this one"
    return said if said in (_OPERATOR, _VALUE, _CLOSE, _END) else 'a condition like cmd:GET, or "not", or "("'


def _word(_: str, at: int, found: Any) -> _Word:
    return _Word(found[0], at)


def _is_field(found: Any) -> bool:
    name = found[0]
    if name.text.lower() in fields():
        return True
    raise FilterError(name.at + 1, f'no field "{name.text}"{_meant(name.text.lower(), list(fields()))}')


def _condition(name: _Word, operator: _Word, value: _Word) -> _Condition:
    known = name.text.lower()
    field = fields()[known]
    if operator.text not in field.operators:
        raise FilterError(operator.at + 1, f'"{known}" has no order; compare it with : or !=')
    answer = _answer(known, field, ":" if operator.text in ("=", "!=") else operator.text, value)
    return _Condition(~answer if operator.text == "!=" else answer, frozenset({known}))


def _answer(name: str, field: Field, operator: str, value: _Word) -> Answer:
    if operator == ":" and not value.quoted and (word := field.words.get(value.text.lower())):
        return word if isinstance(word, Answer) else Answer.sure(word)
    problem = f"{name}: "
    if operator != ":" and value.text.lower() in field.words:
        problem += f'"{value.text}" has no order; compare it with : or !='
    elif field.read is None:
        problem += f'"{value.text}" is none of {", ".join(field.words)}'
    else:
        try:
            return field.read(operator, value.text)
        except ValueError as error:
            problem += f'"{value.text}" {error}'
    raise FilterError(value.at + 1, problem + _meant(value.text.lower(), list(field.words)))


def _meant(written: str, known: Sequence[str]) -> str:
    """The known word that may have been meant, if one is like it."""
    close = get_close_matches(written, known, n=1)
    return f'; did you mean "{close[0]}"?' if close and close[0] != written else ""
