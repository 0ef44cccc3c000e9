"""Expressions as text: which fields they read, their literals, and whether only literals are compared.

The engine compiles and evaluates; it does not say what an expression reads, so that is told from its tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Final

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<template>`[^`]*`)
      | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_$\#][A-Za-z0-9_$]*)
      | (?P<sign>\.\.|[=!<>]=|\?\?|.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_INTERPOLATED: Final = re.compile(r"\$\{([^}]*)\}")
_WORDS: Final = frozenset({"and", "or", "not", "in", "true", "false", "null", "as"})
_COMPARING: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", ",", "(", ")", "[", "]", "..", "-"})
_COMPARING_WORDS: Final = frozenset({"and", "or", "not", "in", "true", "false", "null"})

_OF_TIME: Final = frozenset({"d", "date", "time"})
"""Functions that take "now", or nothing, for the present."""

Literal = Decimal | str


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of an expression; `kind` is text, template, number, name or sign."""

    kind: str
    value: str


def tokens_of(expression: str) -> list[Token]:
    """Return the tokens in order; white space is none."""
    found = (match for match in _TOKEN.finditer(expression.strip()) if match.lastgroup)
    return [Token(str(match.lastgroup), match.group(str(match.lastgroup))) for match in found]


def paths_read(expression: str) -> set[tuple[str, ...]]:
    """Return the dotted paths that an expression reads from its context, such as `("facts", "fraud_level")`.

    What stands for elements (`#`, names given with `as`) and for the node itself (`$`) is left out.
    """
    tokens = tokens_of(expression)
    given = {b.value for a, b in _pairs(tokens) if a.value == "as" and b.kind == "name"}
    given |= {a.value for a, b in _pairs(tokens) if a.kind == "name" and b.value == "="}
    found = {path for path in _paths(tokens) if path[0] not in given and path[0] not in ("$", "#")}
    templates = (token.value for token in tokens if token.kind == "template")
    inner = (paths_read(part) for text in templates for part in _INTERPOLATED.findall(text))
    return {path[1:] if path[0] == "$root" else path for path in found.union(*inner) if path != ("$root",)}


def depends_on_more(expression: str) -> str | None:
    """Return what else than its inputs an expression depends on: chance, or the clock; None if nothing."""
    tokens = tokens_of(expression)
    for name, brace, given in zip(tokens, tokens[1:], [*tokens[2:], Token("sign", ")")], strict=False):
        if name.kind != "name" or brace.value != "(":
            continue
        if name.value == "rand":
            return "chance"
        if name.value in _OF_TIME and (given.value == ")" or given.value[1:-1].strip().startswith("now")):
            return "the clock"
    templates = (token.value for token in tokens if token.kind == "template")
    parts = (part for text in templates for part in _INTERPOLATED.findall(text))
    return next((found for part in parts if (found := depends_on_more(part))), None)


def literals_of(expression: str) -> set[Literal]:
    """Return the numbers and texts that an expression compares with."""
    tokens = tokens_of(expression)
    texts: set[Literal] = {token.value[1:-1] for token in tokens if token.kind == "text"}
    numbers = {Decimal(token.value) for token in tokens if token.kind == "number"}
    return texts | numbers | {-number for number in numbers if "-" in expression}


def only_compares(expression: str, *, variable: Sequence[str]) -> bool:
    """Tell whether one variable is compared with literals and nothing else is computed.

    Such an expression cannot change between two neighbouring literals.
    """
    tokens = tokens_of(expression)
    names = [token.value for token in tokens if token.kind == "name" and token.value not in _WORDS]
    signs = {token.value for token in tokens if token.kind == "sign"}
    words = {token.value for token in tokens if token.kind == "name"} & _WORDS
    if any(token.kind == "template" or (token.kind == "text" and "\\" in token.value) for token in tokens):
        return False
    if not all(_is_sign_of_number(tokens, i) for i, token in enumerate(tokens) if token.value == "-"):
        return False
    steps = {"."} if len(variable) > 1 else set()
    is_variable = len(names) % len(variable) == 0 and _is_repeated(names, variable)
    return is_variable and signs <= _COMPARING | steps and words <= _COMPARING_WORDS


def conjuncts(expression: str) -> list[str] | None:
    """Return the parts that all must hold, or None if the expression is no plain conjunction."""
    parts, depth, start = [""], 0, True
    for match in _TOKEN.finditer(expression.strip()):
        token = match.group(0)
        sign = token.strip()
        depth += (sign in ("(", "[", "{")) - (sign in (")", "]", "}"))
        if depth == 0 and sign in ("or", "?", "??", ";"):
            return None
        if depth == 0 and sign == "and":
            parts.append("")
            start = True
            continue
        parts[-1] += token.lstrip() if start else token
        start = False
    return parts


def _paths(tokens: Sequence[Token]) -> Iterator[tuple[str, ...]]:
    braces: list[str] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.value in ("(", "[", "{"):
            braces.append(token.value)
        elif token.value in (")", "]", "}") and braces:
            braces.pop()
        if token.kind != "name" or token.value in _WORDS or _follows_dot(tokens, i):
            i += 1
            continue
        path, end = _path_from(tokens, i)
        following = tokens[end].value if end < len(tokens) else ""
        if following == "(":
            path = path[:-1]  # the last name is a function or a method
        if path and not _is_object_key(tokens, i, following, braces):
            yield tuple(path)
        i = end


def _path_from(tokens: Sequence[Token], start: int) -> tuple[list[str], int]:
    path, i = [tokens[start].value], start + 1
    while i < len(tokens):
        here = [token.value for token in tokens[i : i + 3]]
        if here[:1] == ["."] and i + 1 < len(tokens) and tokens[i + 1].kind == "name":
            path.append(here[1])
            i += 2
        elif len(here) == 3 and here[0] == "[" and tokens[i + 1].kind == "text" and here[2] == "]":
            path.append(here[1][1:-1])
            i += 3
        else:
            break
    return path, i


def _follows_dot(tokens: Sequence[Token], i: int) -> bool:
    return i > 0 and tokens[i - 1].value == "."


def _is_object_key(tokens: Sequence[Token], i: int, following: str, braces: Sequence[str]) -> bool:
    before = tokens[i - 1].value if i else ""
    return following == ":" and braces[-1:] == ["{"] and before in ("{", ",")


def _pairs(tokens: Sequence[Token]) -> Iterator[tuple[Token, Token]]:
    return pairwise(tokens)


def _is_sign_of_number(tokens: Sequence[Token], i: int) -> bool:
    """Tell whether a minus belongs to the number after it, instead of standing between two values."""
    before = tokens[i - 1] if i else Token("sign", "(")
    is_after_value = before.value in (")", "]") or (before.kind != "sign" and before.value not in _WORDS)
    return not is_after_value and i + 1 < len(tokens) and tokens[i + 1].kind == "number"


def _is_repeated(names: Sequence[str], variable: Sequence[str]) -> bool:
    size = len(variable)
    return all(list(names[i : i + size]) == list(variable) for i in range(0, len(names), size))
