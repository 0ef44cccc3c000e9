"""Of generated schemas: what is written after one that may be followed is valid after the one that follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from faregate.events.compatibility import backward_gaps, forward_gaps

LEAVES: list[tuple[Any, list[Any]]] = [
    ({"type": "null"}, [None]),
    ({"type": "boolean"}, [True, False]),
    ({"type": "integer"}, [-1, 0, 1, 7]),
    ({"type": "integer", "minimum": 1}, [1, 7]),
    ({"type": "number"}, [-0.5, 0, 1, 1.5]),
    ({"type": "string"}, ["", "a", "b", "long"]),
    ({"type": "string", "minLength": 1}, ["a", "long"]),
    ({"enum": ["a", "b"]}, ["a", "b"]),
    ({"enum": ["a", "b", None]}, ["a", "b", None]),
    ({"const": "a"}, ["a"]),
]
NAMES = ("a", "b", "c")
DEPTH_MAX = 3
NODE = {"$ref": "#/$defs/Node"}

leaves = st.sampled_from([schema for schema, _ in LEAVES])


def objects(fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda properties, required, closed: {
            "type": "object",
            "properties": properties,
            "required": sorted(required & properties.keys()),
            **({"additionalProperties": False} if closed else {}),
        },
        st.dictionaries(st.sampled_from(NAMES), fields, max_size=3),
        st.sets(st.sampled_from(NAMES)),
        st.booleans(),
    )


def mappings(fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return fields.map(lambda schema: {"type": "object", "additionalProperties": schema})


def arrays(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    plain = st.builds(lambda item, least: {"type": "array", "items": item, **least}, items, st.sampled_from(
        [{}, {"minItems": 1}, {"maxItems": 2}, {"uniqueItems": True}]
    ))  # fmt: skip
    tuples = st.lists(items, min_size=1, max_size=2).map(
        lambda places: {
            "type": "array",
            "prefixItems": places,
            "minItems": len(places),
            "maxItems": len(places),
        }
    )
    return plain | tuples


def unions(members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(members, min_size=1, max_size=2).map(lambda found: {"anyOf": found})


schemas = st.recursive(
    leaves | st.just({"anyOf": [NODE, {"type": "null"}]}),
    lambda inner: objects(inner) | mappings(inner) | arrays(inner) | unions(inner),
    max_leaves=6,
)


@st.composite
def roots(draw: st.DrawFn) -> Any:
    node = {"v": draw(leaves), "next": {"anyOf": [NODE, {"type": "null"}]}}
    required = draw(st.sampled_from([[], ["v"], ["next"]]))
    return {
        **draw(objects(schemas)),
        "$defs": {"Node": {"type": "object", "properties": node, "required": required}},
    }


def changed(draw: st.DrawFn, schema: Any) -> Any:
    """Return the schema with some of its parts replaced, most of them kept."""
    if draw(st.integers(0, 11)) == 0:
        return draw(leaves)
    found = dict(schema)
    for name in ("items", "additionalProperties"):
        if found.get(name):
            found[name] = changed(draw, found[name])
    for name in ("anyOf", "prefixItems"):
        if name in found:
            found[name] = [changed(draw, member) for member in found[name]]
    return with_other_fields(draw, found) if "properties" in found else found


def with_other_fields(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the model with fields changed, dropped, added, and now and then required or made optional."""
    fields = {n: changed(draw, s) for n, s in schema["properties"].items() if draw(st.integers(0, 9))}
    if draw(st.booleans()):
        fields["d"] = draw(leaves)
    toggled = {name for name in fields if draw(st.integers(0, 11)) == 0}
    return {
        **schema,
        "properties": fields,
        "required": sorted(set(schema["required"]) & fields.keys() ^ toggled),
    }


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    old = draw(roots())
    node = with_other_fields(draw, old["$defs"]["Node"])
    return old, {**with_other_fields(draw, old), "$defs": {"Node": node}}


def written(draw: st.DrawFn, schema: Any, root: Any, depth: int = 0) -> Any:
    """Return data as a writer of the schema would write it: what it declares, and nothing else."""
    if "$ref" in schema:
        return written(draw, root["$defs"]["Node"], root, depth + 1)
    if "anyOf" in schema:
        members = [s for s in schema["anyOf"] if "$ref" not in s or depth < DEPTH_MAX]
        return written(draw, draw(st.sampled_from(members)), root, depth)
    if schema.get("type") == "array":
        return written_items(draw, schema, root, depth)
    if schema.get("type") == "object":
        return written_fields(draw, schema, root, depth)
    return draw(st.sampled_from(next(values for leaf, values in LEAVES if leaf == schema)))


def written_items(draw: st.DrawFn, schema: Any, root: Any, depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [written(draw, place, root, depth) for place in schema["prefixItems"]]
    count = draw(st.integers(schema.get("minItems", 0), 2))
    if schema.get("uniqueItems"):
        count = min(count, 1)
    return [written(draw, schema["items"], root, depth) for _ in range(count)]


def written_fields(draw: st.DrawFn, schema: Any, root: Any, depth: int) -> dict[str, Any]:
    declared = schema.get("properties")
    if declared is None:
        names = draw(st.sets(st.sampled_from((*NAMES, "d", "other")), max_size=2))
        declared, required = dict.fromkeys(names, schema["additionalProperties"]), set(names)
    else:
        required = set(schema["required"])
    return {
        name: written(draw, field, root, depth)
        for name, field in declared.items()
        if name in required or draw(st.booleans())
    }


def accepts(schema: Any, data: Any) -> bool:
    return Draft202012Validator(schema).is_valid(data)


Gaps = Callable[..., list[Any]]


@pytest.mark.requirement("C10")
@pytest.mark.parametrize("direction", [backward_gaps, forward_gaps])
@settings(max_examples=120, deadline=None)
@given(pair=pairs(), draws=st.data())
def test_what_is_written_after_a_schema_is_valid_after_one_that_may_follow(
    direction: Gaps, pair: tuple[Any, Any], draws: st.DataObject
) -> None:
    released, current = pair
    writer, reader = (released, current) if direction is backward_gaps else (current, released)
    data = draws.draw(st.composite(lambda draw: written(draw, writer, writer))())
    assert accepts(writer, data)
    if not direction(released=released, current=current):
        assert accepts(reader, data)


@settings(max_examples=60, deadline=None)
@given(schema=roots())
def test_a_schema_may_always_follow_itself(schema: Any) -> None:
    assert backward_gaps(released=schema, current=schema) == []
    assert forward_gaps(released=schema, current={**schema, "title": "Other words"}) == []
