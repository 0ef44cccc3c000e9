"""A schema taken apart: the kinds of values that it allows, each with the rules for that kind.

Unions, lists of types, references and missing types all become a flat list of alternatives. What is not understood is
refused by name, since to guess would be to let a break pass. How two are compared does not belong here (`reading`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from jsonschema import Draft202012Validator

from faregate.events.identity import Schema

_DEFS = "#/$defs/"
_RULES: Mapping[str, frozenset[str]] = {
    "null": frozenset(),
    "boolean": frozenset(),
    "integer": frozenset(
        {"exclusiveMaximum", "exclusiveMinimum", "format", "maximum", "minimum", "multipleOf"}
    ),
    "number": frozenset(
        {"exclusiveMaximum", "exclusiveMinimum", "format", "maximum", "minimum", "multipleOf"}
    ),
    "string": frozenset({"format", "maxLength", "minLength", "pattern"}),
    "array": frozenset({"items", "maxItems", "minItems", "prefixItems", "uniqueItems"}),
    "object": frozenset(
        {
            "additionalProperties", "maxProperties", "minProperties", "patternProperties", "properties",
            "propertyNames", "required",
        }
    ),
}  # fmt: skip
"""The rules that concern each kind of value. A rule says nothing about values of another kind."""

_ALWAYS = frozenset({"const", "enum"})
_UNIONS = ("$ref", "allOf", "anyOf", "oneOf")
_ASIDE = frozenset({"$defs", "default"})
_UNDERSTOOD = frozenset({"type", *_ALWAYS, *_UNIONS, *_ASIDE}).union(*_RULES.values())
_UNTYPED = ("null", "boolean", "number", "string", "array", "object")


class Incomparable(Exception):
    """A schema says something whose effect on data is not known here."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Values of one kind under its rules. `values` are all of them where they can be counted."""

    kind: str
    rules: Mapping[str, Any]
    values: tuple[Any, ...] | None

    def takes(self, value: Any, *, known_format: str | None = None) -> bool:
        """Return whether a single value is allowed. A format is not examined: text has the known one, or none."""
        if isinstance(value, str) and self.rules.get("format", known_format) != known_format:
            return False
        return _is_valid({"type": self.kind, **self.rules}, value)


def alternatives(schema: Schema, *, root: Schema, seen: frozenset[int] = frozenset()) -> list[Alternative]:
    """Return what a schema without words allows. `root` holds its definitions. Raises Incomparable.

    Values of `oneOf` are told apart, or it is refused: where two alternatives overlap, what fits both fits neither.
    """
    if isinstance(schema, bool):
        schema = {"type": [] if not schema else list(_UNTYPED)}
    unknown = sorted(schema.keys() - _UNDERSTOOD)
    if unknown:
        raise Incomparable(f"`{'`, `'.join(unknown)}` is not understood")
    union = next((keyword for keyword in _UNIONS if keyword in schema), None)
    if union is None:
        return list(_of_kinds(schema))
    beside = sorted(schema.keys() - _ASIDE - {union})
    if beside:
        raise Incomparable(f"`{'`, `'.join(beside)}` beside `{union}`")
    if id(schema) in seen:
        raise Incomparable(f"`{union}` leads back to itself")
    parts = [
        alternatives(member, root=root, seen=seen | {id(schema)}) for member in _members(union, schema, root)
    ]
    if union == "oneOf" and not _are_apart(parts, root=root):
        raise Incomparable("alternatives of `oneOf` may overlap")
    return [found for part in parts for found in part]


def _members(union: str, schema: Mapping[str, Any], root: Schema) -> Sequence[Schema]:
    """Return the schemas of which any may hold."""
    if union == "$ref":
        return [_definition(schema["$ref"], root)]
    members: Sequence[Schema] = schema[union]
    if union == "allOf" and len(members) != 1:
        raise Incomparable("`allOf` of several schemas")
    return members


def _definition(reference: str, root: Schema) -> Schema:
    definitions = {} if isinstance(root, bool) else root.get("$defs", {})
    name = reference.removeprefix(_DEFS).replace("~1", "/").replace("~0", "~")
    if not reference.startswith(_DEFS) or name not in definitions:
        raise Incomparable(f"`$ref` to {reference}")
    found: Schema = definitions[name]
    return found


def _of_kinds(schema: Mapping[str, Any]) -> Iterator[Alternative]:
    named = schema.get("type", _UNTYPED)
    kinds = [named] if isinstance(named, str) else list(named)
    for kind in kinds:
        if kind not in _RULES:
            raise Incomparable(f"the type {kind}")
        rules = {name: value for name, value in schema.items() if name in _RULES[kind] | _ALWAYS}
        yield Alternative(kind, rules, _values(kind, rules))


def _values(kind: str, rules: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return all values of a kind where they are listed, or few by nature."""
    listed = [rules["const"]] if "const" in rules else rules.get("enum")
    if listed is None:
        return {"null": (None,), "boolean": (False, True)}.get(kind)
    found = tuple(value for value in listed if _is_valid({"type": kind, **rules}, value))
    if any(isinstance(value, list | dict) for value in found):
        raise Incomparable(f"`enum` or `const` with an {kind}")
    return found


def _are_apart(parts: Sequence[Sequence[Alternative]], *, root: Schema) -> bool:
    pairs = ((one, other) for some, more in combinations(parts, 2) for one in some for other in more)
    return all(_differ(one, other, root=root) for one, other in pairs)


def _differ(one: Alternative, other: Alternative, *, root: Schema) -> bool:
    """Return whether it is certain that no value fits both."""
    if one.kind != other.kind and {one.kind, other.kind} != {"integer", "number"}:
        return True
    if one.values is not None and other.values is not None:
        return not _share(one.values, other.values)
    if one.kind != "object":
        return False
    tags = set(one.rules.get("required", ())) & set(other.rules.get("required", ()))
    return any(_differ_by_tag(one, other, tag, root=root) for tag in tags)


def _differ_by_tag(one: Alternative, other: Alternative, tag: str, *, root: Schema) -> bool:
    """Return whether a field that both require holds other values in each."""
    found = [_tag_values(side.rules.get("properties", {}).get(tag, True), root) for side in (one, other)]
    return found[0] is not None and found[1] is not None and not _share(found[0], found[1])


def _tag_values(schema: Schema, root: Schema) -> list[Any] | None:
    if isinstance(schema, bool) or not _ALWAYS & schema.keys():
        return None  # looked at no deeper, or a recursive schema would never end
    return [value for found in alternatives(schema, root=root) for value in found.values or ()]


def _share(some: Sequence[Any], more: Sequence[Any]) -> bool:
    return any(_is_valid({"enum": list(more)}, value) for value in some)


def _is_valid(rules: Mapping[str, Any], value: Any) -> bool:
    return Draft202012Validator(rules).is_valid(value)
