"""Conditions of decision tables as Python code: comparisons of one field with literals are translated, exactly.

A condition holds, does not hold, or cannot be told: its field is missing or of a type that the engine cannot compare.
So each becomes two expressions, `holds` and `possible` (it holds, or cannot be told). What computes anything is left
to the engine's own compiled expression, over only the fields that it reads. Code is made of names and numbers of
fields and constants; no text of a document gets into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import zen

from faregate.rules.expressions import Token, conjuncts, paths_read, tokens_of

NUMBER_MAX: Final = 2**53
"""The engine reckons exactly up to here; a fact beyond it is no number."""

_LITERAL_MAX: Final = 10**14
"""Literals beyond this are compared by the engine: there its rounding of fractions reaches whole numbers."""

_NUMBERS: Final = frozenset({int, float})
_CONTAINERS: Final = frozenset({list, dict, tuple})
_WORDS: Final[Mapping[str, bool | None]] = {"true": True, "false": False, "null": None}

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Test:
    """A condition as two Python expressions; `is_asked` if the engine answers it, which takes longer."""

    holds: str
    possible: str
    is_asked: bool = False


@dataclass(frozen=True, slots=True)
class _Number:
    """The floats that the engine takes for a literal, which it rounds facts to the digits of."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Range:
    """An interval between two numbers, with or without its ends."""

    low: _Number
    high: _Number
    has_low: bool
    has_high: bool


_Literal = _Number | str | bool | None


@dataclass(kw_only=True)
class Translation:
    """The code under construction: which fields it reads, and the values that it refers to by name."""

    constants: dict[str, Any] = field(
        default_factory=lambda: {"NUMBERS": _NUMBERS, "CONTAINERS": _CONTAINERS, "EMPTY": {}}
    )
    variables: dict[Path, str] = field(default_factory=dict)
    numeric: set[str] = field(default_factory=set)

    def constant(self, value: object) -> str:
        """Return the name of a value."""
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def variable(self, path: Path) -> str:
        """Return the name of the local variable that holds a field."""
        return self.variables.setdefault(path, f"v{len(self.variables)}")

    def number(self, variable: str) -> str:
        """Return the name of the local variable that says whether a field holds a number."""
        self.numeric.add(variable)
        return f"n{variable}"

    def tests(self, cell: str, *, path: Path | None) -> list[Test]:
        """Return the conditions of a cell that all must hold: of a field, or (path None) of whatever it names."""
        parts = conjuncts(cell)
        if parts is None or (len(parts) > 1 and path and any(map(_is_list, parts))):
            parts = [cell]
        return [self._test(part.strip(), path) for part in parts]

    def loads(self) -> Iterator[str]:
        """Yield the statements that read every field from `facts`; what is not there is None."""
        groups: dict[Path, str] = {(): "facts"}
        for path, variable in self.variables.items():
            for depth in range(1, len(path)):
                if path[:depth] not in groups:
                    groups[path[:depth]] = group = f"g{len(groups)}"
                    yield f"{group} = {groups[path[: depth - 1]]}.get({path[depth - 1]!r}, EMPTY)"
                    yield f"if {group}.__class__ is not dict: {group} = EMPTY"
            yield f"{variable} = {groups[path[:-1]]}.get({path[-1]!r})"
            if variable in self.numeric:
                bounds = f"-{NUMBER_MAX} <= {variable} <= {NUMBER_MAX}"
                yield f"n{variable} = {variable}.__class__ in NUMBERS and {bounds}"

    def _test(self, part: str, path: Path | None) -> Test:
        """Return one condition: translated where it compares one field with literals, asked otherwise."""
        tokens = tokens_of(part)
        if path is None:
            read = paths_read(part)
            about = next(iter(read)) if len(read) == 1 else ()
            rest = _after(tokens, about)
        else:
            about, rest = path, tokens[1:] if tokens[:1] == [Token("name", "$")] else tokens
        if about and rest is not None:
            found = self._native(rest, self.variable(about), is_unary=path is not None)
            if found is not None:
                return found
        return self._asked(part, path)

    def _native(self, tokens: Sequence[Token], variable: str, *, is_unary: bool) -> Test | None:
        """Return the translation of what stands after a field, None for what is left to the engine."""
        match [token.value for token in tokens if token.kind != "text"][:2]:
            case [] if not tokens:
                return None if is_unary else _is_true(variable)
            case ["==" | "!=" | "<" | "<=" | ">" | ">=" as sign, *_]:
                return self._compared(sign, _literal(tokens[1:]), variable)
            case ["not", "in"] if tokens[1].value == "in":
                return self._member(tokens[2:], variable, is_in=False)
            case ["in", *_]:
                return self._member(tokens[1:], variable, is_in=True)
        return self._one_of(_alternatives(tokens), variable) if is_unary else None

    def _compared(self, sign: str, literal: Sequence[_Literal], variable: str) -> Test | None:
        match sign, literal:
            case "==", [one]:
                return self._one_of([one], variable)
            case "!=", [one]:
                holds = f"not ({self._equal(one, variable)})"
                return Test(holds, holds)
            case _, [_Number() as number]:
                edge = number.low if sign in ("<", ">=") else number.high
                return self._of_number(f"{variable} {sign} {self.constant(edge)}", variable)
        return None

    def _of_number(self, comparison: str, variable: str) -> Test:
        number = self.number(variable)
        return Test(f"({number} and {comparison})", f"(not {number} or {comparison})")

    def _member(self, tokens: Sequence[Token], variable: str, *, is_in: bool) -> Test | None:
        match _alternatives(tokens):
            case [_Range() as interval]:
                comparison = self._within(interval, variable)
                return self._of_number(comparison if is_in else f"not ({comparison})", variable)
        values = _alternatives(tokens[1:-1]) if _is_bracketed(tokens) else None
        if not values or not all(isinstance(value, _Number | str) for value in values):
            return None
        equal = self._any_equal(values, variable)
        is_container = f"{variable}.__class__ in CONTAINERS"
        if is_in:
            return Test(equal, f"({variable} is None or {is_container} or {equal})")
        return Test(f"(not {is_container} and not {equal})", f"({is_container} or not {equal})")

    def _one_of(self, values: Sequence[_Literal | _Range] | None, variable: str) -> Test | None:
        """Return the test of a list such as `'a', 'b'` or `4511, [3000..3999]`."""
        if not values:
            return None
        if not any(isinstance(value, _Range) for value in values):
            equal = self._any_equal(values, variable)
            return Test(equal, equal if None in values else f"({variable} is None or {equal})")
        if not all(isinstance(value, _Range | _Number) for value in values):
            return None
        parts = (
            self._within(v, variable) if isinstance(v, _Range) else self._same(v, variable)
            for v in values
            if isinstance(v, _Range | _Number)
        )
        return self._of_number(f"({' or '.join(parts)})", variable)

    def _any_equal(self, values: Sequence[Any], variable: str) -> str:
        """Return the code that tells whether a field is one of some literals."""
        texts = [value for value in values if isinstance(value, str)]
        parts = [self._equal(value, variable) for value in values if not isinstance(value, str)]
        if len(texts) == 1:
            parts.append(self._equal(texts[0], variable))
        elif texts:
            parts.append(f"({variable}.__class__ is str and {variable} in {self.constant(frozenset(texts))})")
        return f"({' or '.join(parts)})"

    def _equal(self, literal: _Literal, variable: str) -> str:
        if isinstance(literal, _Number):
            return f"({self.number(variable)} and {self._same(literal, variable)})"
        sign = "==" if isinstance(literal, str) else "is"
        return f"{variable} {sign} {self.constant(literal)}"

    def _same(self, number: _Number, variable: str) -> str:
        return f"{self.constant(number.low)} <= {variable} <= {self.constant(number.high)}"

    def _within(self, interval: _Range, variable: str) -> str:
        low = interval.low.low if interval.has_low else interval.low.high
        high = interval.high.high if interval.has_high else interval.high.low
        signs = ("<=" if interval.has_low else "<", "<=" if interval.has_high else "<")
        return f"{self.constant(low)} {signs[0]} {variable} {signs[1]} {self.constant(high)}"

    def _asked(self, part: str, path: Path | None) -> Test:
        """Return a test that the engine answers, over only the fields that it reads."""
        read = {one: self.variable(one) for one in sorted(paths_read(part))}
        context = [f"'$': {self.variable(path)}"] if path else []
        context += [f"{name!r}: {value}" for name, value in _nested(read).items()]
        given = {**read, **({path: self.variable(path)} if path else {})}
        is_missing = " or ".join(f"{variable} is None" for variable in given.values()) or "False"
        engine = zen.compile_unary_expression(part) if path else zen.compile_expression(part)
        names_null = any(token.value in ("null", "??") for token in tokens_of(part))
        ask = self.constant(_asking(engine.evaluate, names_null=names_null))
        answer = f"a{ask}"
        call = f"({answer} := {ask}({{{', '.join(context)}}}, {is_missing}))"
        return Test(f"{answer} is True", f"{call} is not False", is_asked=True)


def _asking(
    evaluate: Callable[[Any], Any], *, names_null: bool
) -> Callable[[Mapping[str, Any], bool], bool | None]:
    """Return what asks the engine: True, False, or None where it cannot tell."""

    def ask(context: Mapping[str, Any], is_missing: bool) -> bool | None:
        try:
            answer = evaluate(context) is True
        except Exception:  # noqa: BLE001 - the engine has no class of its own for values that it cannot compare
            return None
        return None if not answer and is_missing and not names_null else answer

    return ask


def _is_true(variable: str) -> Test:
    return Test(f"{variable} is True", f"({variable} is None or {variable} is True)")


def _nested(read: Mapping[Path, str]) -> dict[str, str]:
    """Return the code of the dictionaries that hold fields at their paths."""
    groups: dict[str, dict[Path, str]] = {}
    for path, variable in read.items():
        groups.setdefault(path[0], {})[path[1:]] = variable
    return {
        name: inner.get((), "") or f"{{{', '.join(f'{k!r}: {v}' for k, v in _nested(inner).items())}}}"
        for name, inner in groups.items()
    }


def _after(tokens: Sequence[Token], path: Path) -> Sequence[Token] | None:
    """Return what stands after a dotted path, None if the tokens do not open with it."""
    opening = tokens_of(".".join(path))
    return tokens[len(opening) :] if path and list(tokens[: len(opening)]) == opening else None


def _is_list(part: str) -> bool:
    """Tell whether a part holds a comma outside of brackets: then it is a list of alternatives."""
    depth = 0
    for token in tokens_of(part):
        depth += (token.value in ("[", "(", "{")) - (token.value in ("]", ")", "}"))
        if depth == 0 and token.value == ",":
            return True
    return False


def _is_bracketed(tokens: Sequence[Token]) -> bool:
    return len(tokens) > 2 and tokens[0].value == "[" and tokens[-1].value == "]"


def _alternatives(tokens: Sequence[Token]) -> list[_Literal | _Range] | None:
    """Return the literals and ranges between commas, None if there is anything else."""
    found: list[_Literal | _Range] = []
    for part in _split(tokens):
        read = _literal(part) or _range(part)
        if not read:
            return None
        found.extend(read)
    return found


def _split(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    start = 0
    for i, token in enumerate(tokens):
        if token == Token("sign", ","):
            yield tokens[start:i]
            start = i + 1
    yield tokens[start:]


def _literal(tokens: Sequence[Token]) -> list[_Literal]:
    """Return the one literal that tokens are, or nothing."""
    match tokens:
        case [Token(kind="text", value=value)] if "\\" not in value:
            return [value[1:-1]]
        case [Token(kind="name", value=value)] if value in _WORDS:
            return [_WORDS[value]]
        case [Token(kind="number", value=value)]:
            return _number(value)
        case [Token(kind="sign", value="-"), Token(kind="number", value=value)]:
            return _number(f"-{value}")
    return []


def _range(tokens: Sequence[Token]) -> list[_Range]:
    """Return the one interval that tokens are, or nothing."""
    values = [token.value for token in tokens]
    if ".." not in values or values[0] not in ("[", "(") or values[-1] not in ("]", ")"):
        return []
    middle = values.index("..")
    match _literal(tokens[1:middle]), _literal(tokens[middle + 1 : -1]):
        case [_Number() as low], [_Number() as high]:
            return [_Range(low, high, has_low=values[0] == "[", has_high=values[-1] == "]")]
    return []


def _number(text: str) -> list[_Literal]:
    found = _floats_of(text)
    return [] if found is None else [found]


@lru_cache(maxsize=4_096)
def _floats_of(text: str) -> _Number | None:
    """Return which floats the engine takes for a literal: it keeps fifteen digits or so of a fact."""
    value = float(text)
    if abs(value) > _LITERAL_MAX:
        return None
    reach = max(abs(value) * 1e-13, 1e-26)
    is_above = zen.compile_unary_expression(f"> {text}")
    is_below = zen.compile_unary_expression(f"< {text}")
    high = _last(lambda x: not is_above.evaluate({"$": x}), value - reach, value + reach)
    low = -_last(lambda x: not is_below.evaluate({"$": -x}), -value - reach, -value + reach)
    return _Number(low, high)


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the last float for which something holds that holds up to some point between two floats."""
    while (middle := low + (high - low) / 2) not in (low, high) and math.nextafter(low, high) != high:
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
