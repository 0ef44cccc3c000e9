"""Whether everything that is written after one schema can be read after another.

Sound, not complete: no gap means that all data is read; a gap may be reported where only a proof is missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faregate.events.compatibility.alternatives import Alternative, Incomparable, alternatives
from faregate.events.identity import Schema, constraints, text_of

_AT_LEAST = ("minLength", "minItems", "minProperties")
_AT_MOST = ("maxLength", "maxItems", "maxProperties")
_THE_SAME = ("pattern", "format")
_NAME: Schema = {"type": "string"}

Rules = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gap:
    """A place inside the schemas where a reader demands more than a writer promises."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def unread(*, written: Schema, read: Schema, is_with_defaults: bool) -> list[Gap]:
    """Return every gap between what is written and what is read; with defaults, also where these differ."""
    reading = _Reading(constraints(written), constraints(read), is_with_defaults=is_with_defaults)
    return list(dict.fromkeys(reading.of_all()))


class _Reading:
    """One comparison. In each method the first schema is the writer's, the second the reader's."""

    def __init__(self, written: Schema, read: Schema, *, is_with_defaults: bool) -> None:
        self._written = written
        self._read = read
        self._is_with_defaults = is_with_defaults
        self._same_definitions = _definitions(written) == _definitions(read)
        self._under_way: set[tuple[int, int]] = set()

    def of_all(self) -> Iterator[Gap]:
        yield from self._of(self._written, self._read, "#")

    def _of(self, written: Schema, read: Schema, path: str) -> Iterator[Gap]:
        """Yield the gaps at a place. One that is met again inside itself is taken for good: its gaps show outside."""
        pair = (id(written), id(read))
        if pair in self._under_way or self._are_same(written, read):
            return
        self._under_way.add(pair)
        try:
            yield from self._of_alternatives(written, read, path)
        except Incomparable as reason:
            yield Gap(path, f"cannot be compared: {reason}")
        finally:
            self._under_way.discard(pair)

    def _are_same(self, written: Schema, read: Schema) -> bool:
        text = text_of(written)
        return text == text_of(read) and (self._same_definitions or '"$ref"' not in text)

    def _of_alternatives(self, written: Schema, read: Schema, path: str) -> Iterator[Gap]:
        taken = alternatives(read, root=self._read)
        for one in alternatives(written, root=self._written):
            if one.values is not None:
                yield from _of_values(one, taken, path)
            else:
                yield from self._of_alternative(one, taken, path)

    def _of_alternative(self, one: Alternative, taken: Sequence[Alternative], path: str) -> Iterator[Gap]:
        fitting = [other for other in taken if other.kind in _read_as(one.kind)]
        if not fitting:
            kinds = " or ".join(dict.fromkeys(other.kind for other in taken)) or "nothing at all"
            yield Gap(f"{path}/type", f"the reader takes {kinds}, the writer may write {one.kind}")
            return
        found = [list(self._of_rules(one, other, path)) for other in fitting]
        if len(found) == 1:
            yield from found[0]
        elif all(found):
            yield Gap(path, f"no alternative of the reader takes every {one.kind} of the writer")

    def _of_rules(self, one: Alternative, other: Alternative, path: str) -> Iterator[Gap]:
        if other.values is not None:
            values = ", ".join(map(text_of, other.values))
            yield Gap(f"{path}/enum", f"the reader takes only {values}, the writer may write any {one.kind}")
            return
        for rule, demanded, promised in _unmet(one.rules, other.rules, is_whole=one.kind == "integer"):
            yield Gap(
                f"{path}/{rule}", f"the reader demands {text_of(demanded)}, the writer {_promise(promised)}"
            )
        if one.kind == "array":
            yield from self._of_arrays(one.rules, other.rules, path)
        if one.kind == "object":
            yield from self._of_objects(one.rules, other.rules, path)

    def _of_arrays(self, written: Rules, read: Rules, path: str) -> Iterator[Gap]:
        head = max(len(written.get("prefixItems", ())), len(read.get("prefixItems", ())))
        length_max = written.get("maxItems", math.inf)
        for place in range(head):
            if place < length_max:
                yield from self._of(_item(written, place), _item(read, place), f"{path}/prefixItems/{place}")
        if head < length_max:
            yield from self._of(_item(written, head), _item(read, head), f"{path}/items")

    def _of_objects(self, written: Rules, read: Rules, path: str) -> Iterator[Gap]:
        for name in sorted(set(read.get("required", ())) - set(written.get("required", ()))):
            yield Gap(f"{path}/required", f"the reader demands `{name}`, the writer may leave it out")
        if written.get("patternProperties", {}).keys() != read.get("patternProperties", {}).keys():
            yield Gap(f"{path}/patternProperties", "cannot be compared: the patterns differ")
            return
        yield from self._of_fields(written, read, path)
        yield from self._of_other_fields(written, read, path)
        if "propertyNames" in read:
            names = written.get("propertyNames", _NAME)
            yield from self._of(names, read["propertyNames"], f"{path}/propertyNames")
        if self._is_with_defaults:
            yield from _of_defaults(written, read, path)

    def _of_fields(self, written: Rules, read: Rules, path: str) -> Iterator[Gap]:
        """Yield the gaps of the fields that the writer declares."""
        known: Mapping[str, Schema] = read.get("properties", {})
        for name, schema in written.get("properties", {}).items():
            place = f"{path}/properties/{_escaped(name)}"
            others: Schema = read.get("additionalProperties", True)
            if name in known:
                yield from self._of(schema, known[name], place)
            elif not _matches(read, name):
                yield from self._of(schema, others, place)

    def _of_other_fields(self, written: Rules, read: Rules, path: str) -> Iterator[Gap]:
        """Yield the gaps of fields under names that the writer does not declare, if it writes any."""
        only_read = read.get("properties", {}).keys() - written.get("properties", {}).keys()
        for pattern, schema in written.get("patternProperties", {}).items():
            place = f"{path}/patternProperties/{_escaped(pattern)}"
            yield from self._of(schema, read["patternProperties"][pattern], place)
            for name in sorted(name for name in only_read if re.search(pattern, name)):
                yield from self._of(schema, read["properties"][name], f"{path}/properties/{_escaped(name)}")
        others = _others_written(written)
        if others is False:
            return
        for name in sorted(name for name in only_read if not _matches(written, name)):
            yield from self._of(others, read["properties"][name], f"{path}/properties/{_escaped(name)}")
        yield from self._of(others, read.get("additionalProperties", True), f"{path}/additionalProperties")


def _of_values(one: Alternative, taken: Sequence[Alternative], path: str) -> Iterator[Gap]:
    """Yield a gap for values that the writer lists and no alternative of the reader takes."""
    known = one.rules.get("format")
    lost = [
        value
        for value in one.values or ()
        if not any(other.takes(value, known_format=known) for other in taken)
    ]
    if lost:
        values = ", ".join(map(text_of, lost))
        yield Gap(
            path if one.kind == "null" else f"{path}/enum",
            f"the reader does not take {values}, which the writer may write",
        )


def _of_defaults(written: Rules, read: Rules, path: str) -> Iterator[Gap]:
    """Yield a gap for each field that may be missing and would then be read as something else than was meant."""
    for name, schema in written.get("properties", {}).items():
        known = read.get("properties", {}).get(name)
        if known is None or name in written.get("required", ()):
            continue
        meant, taken = _default(schema), _default(known)
        if meant != taken:
            place = f"{path}/properties/{_escaped(name)}/default"
            yield Gap(place, f"where it is missing the reader takes {taken}, the writer meant {meant}")


def _unmet(written: Rules, read: Rules, *, is_whole: bool) -> Iterator[tuple[str, Any, Any]]:
    """Yield each rule of the reader that the writer's do not imply, with what is demanded and what is promised."""
    for rule in _AT_LEAST:
        if read.get(rule, 0) > written.get(rule, 0):
            yield rule, read[rule], written.get(rule)
    for rule in _AT_MOST:
        if read.get(rule, math.inf) < written.get(rule, math.inf):
            yield rule, read[rule], written.get(rule)
    for rule in _THE_SAME:
        if rule in read and read[rule] != written.get(rule):
            yield rule, read[rule], written.get(rule)
    for end, sign in (("Minimum", 1), ("Maximum", -1)):
        if _bound(read, end, sign, is_whole) > _bound(written, end, sign, is_whole):
            yield end.lower(), _said(read, end), _said(written, end)
    if "multipleOf" in read and not _is_multiple(written, read["multipleOf"], is_whole=is_whole):
        yield "multipleOf", read["multipleOf"], written.get("multipleOf")
    if read.get("uniqueItems", False) and not written.get("uniqueItems", False):
        yield "uniqueItems", True, None


def _bound(rules: Rules, end: str, sign: int, is_whole: bool) -> tuple[float, bool]:
    """Return a bound as (number, whether it is excluded itself), so that the greater of two is the tighter."""
    found: list[tuple[float, bool]] = [(-math.inf, False)]
    for rule, is_excluded in ((end.lower(), False), (f"exclusive{end}", True)):
        value = rules.get(rule)
        if isinstance(value, bool):
            raise Incomparable(f"`{rule}` that is no number")
        if value is not None and is_whole:
            found.append((math.floor(sign * value) + 1 if is_excluded else math.ceil(sign * value), False))
        elif value is not None:
            found.append((sign * value, is_excluded))
    return max(found)


def _said(rules: Rules, end: str) -> Any:
    """Return a bound as it stands in the schema."""
    inclusive, exclusive = rules.get(end.lower()), rules.get(f"exclusive{end}")
    return inclusive if exclusive is None else f"{'>' if end == 'Minimum' else '<'} {exclusive}"


def _is_multiple(written: Rules, of: Any, *, is_whole: bool) -> bool:
    promised = written.get("multipleOf", 1 if is_whole else None)
    if isinstance(promised, int) and isinstance(of, int):
        return promised % of == 0
    return promised is not None and promised == of  # of fractions only the same one is certain


def _read_as(kind: str) -> tuple[str, ...]:
    return ("integer", "number") if kind == "integer" else (kind,)


def _item(rules: Rules, place: int) -> Schema:
    first: Sequence[Schema] = rules.get("prefixItems", ())
    rest: Schema = rules.get("items", True)
    return first[place] if place < len(first) else rest


def _others_written(rules: Rules) -> Schema:
    """Return what a writer writes under names that it does not declare: nothing, unless it says so or names none."""
    is_closed = "properties" in rules or "patternProperties" in rules
    others: Schema = rules.get("additionalProperties", not is_closed)
    return others


def _matches(rules: Rules, name: str) -> bool:
    return any(re.search(pattern, name) for pattern in rules.get("patternProperties", {}))


def _default(schema: Schema) -> str:
    is_given = not isinstance(schema, bool) and "default" in schema
    return text_of(schema["default"]) if is_given and not isinstance(schema, bool) else "nothing"


def _promise(promised: Any) -> str:
    return "promises nothing of the kind" if promised is None else f"promises {text_of(promised)}"


def _definitions(schema: Schema) -> str:
    return "" if isinstance(schema, bool) else text_of(schema.get("$defs", {}))


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
