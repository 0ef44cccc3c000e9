"""When one schema of an event may follow another: named changes, and agreement with what JSON Schema says of data."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from faregate.events.compatibility import backward_gaps, forward_gaps
from faregate.events.compatibility.reading import unread
from faregate.events.identity import text_of

STRING, INTEGER, NUMBER, NULL = ({"type": kind} for kind in ("string", "integer", "number", "null"))
OPEN = {"type": "object", "additionalProperties": True}


def model(required: str = "", /, **fields: Any) -> dict[str, Any]:
    """An object as a model describes it. Names of required fields are separated by spaces."""
    return {"type": "object", "properties": fields, "required": required.split()}


def one_of(*values: Any) -> dict[str, Any]:
    return {"enum": list(values)}


def any_of(*schemas: Any) -> dict[str, Any]:
    return {"anyOf": list(schemas)}


def list_of(items: Any, **rules: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **rules}


def text(**rules: Any) -> dict[str, Any]:
    return {"type": "string", **rules}


def number(**rules: Any) -> dict[str, Any]:
    return {"type": "number", **rules}


def referring(name: str, definition: Any) -> dict[str, Any]:
    return {**model("x", x={"$ref": f"#/$defs/{name}"}), "$defs": {name: definition}}


LETTERS = {"type": "object", "patternProperties": {"^a": STRING}}
CARD, CASH = ({**model("kind", kind={"const": kind}, n=INTEGER)} for kind in ("card", "cash"))
CASH_WITH_TEXT = model("kind", kind={"const": "cash"}, n=STRING)
TREE = {"$ref": "#/$defs/Tree"}


def tree(**fields: Any) -> dict[str, Any]:
    return {**TREE, "$defs": {"Tree": model("", below=list_of(TREE), **fields)}}


MAY_FOLLOW = [
    ("nothing changes", model("x", x=STRING), model("x", x=STRING)),
    ("an optional field is added", model("x", x=STRING), model("x", x=STRING, y=INTEGER)),
    ("an optional field is dropped", model("x", x=STRING, y=INTEGER), model("x", x=STRING)),
    ("words change", model(x={**STRING, "title": "X"}), model(x={**STRING, "description": "An x."})),
    ("values and names are sorted anew", model("x y", x=one_of(1, 2)), model("y x", x=one_of(2, 1))),
    ("a constant is written as a list of one", model(x={"const": 1}), model(x=one_of(1))),
    ("a lower bound of integers is written as excluded", model(x={**INTEGER, "minimum": 1}),
     model(x={**INTEGER, "exclusiveMinimum": 0})),
    ("a union is written as a list of types", model(x=any_of(STRING, NULL)), model(x={"type": ["null", "string"]})),
    ("true and false are listed", model(x={"type": "boolean"}), model(x=one_of(True, False))),
    ("a definition is renamed", referring("A", model("n", n=STRING)), referring("B", model("n", n=STRING))),
    ("a definition is written out", referring("A", model(n=STRING)), model("x", x=model(n=STRING))),
    ("a nested model gains an optional field", model(x=model("n", n=STRING)), model(x=model("n", n=STRING, m=NULL))),
    ("a recursive model gains an optional field", tree(), tree(n=INTEGER)),
    ("an alternative told apart by a tag gains an optional field", model(x={"oneOf": [CARD, CASH]}),
     model(x={"oneOf": [CARD, {**CASH, "properties": {**CASH["properties"], "m": NULL}}]})),
    ("anything stays anything", model(x={}), model(x=True)),
    ("what is not understood stays beside what changes", model(x={"not": STRING}), model(x={"not": STRING}, y=NULL)),
]  # fmt: skip

BACKWARD, FORWARD, BOTH = "backward", "forward", "both"

MAY_NOT_FOLLOW = [
    # what changes, the released schema, the new one, whom it breaks, where
    ("a required field is added", model(), model("x", x=STRING), BACKWARD, "#/required"),
    ("a field becomes required", model(x=STRING), model("x", x=STRING), BACKWARD, "#/required"),
    ("a required field is dropped", model("x", x=STRING), model(), FORWARD, "#/required"),
    ("a field becomes optional", model("x", x=STRING), model(x=STRING), FORWARD, "#/required"),
    ("a type is narrowed", model(x=NUMBER), model(x=INTEGER), BACKWARD, "#/properties/x/type"),
    ("a type is widened", model(x=INTEGER), model(x=NUMBER), FORWARD, "#/properties/x/type"),
    ("a type is replaced", model(x=INTEGER), model(x=STRING), BOTH, "#/properties/x/type"),
    ("null is no longer read", model(x=any_of(STRING, NULL)), model(x=STRING), BACKWARD, "#/properties/x"),
    ("null may be written", model(x=STRING), model(x=any_of(STRING, NULL)), FORWARD, "#/properties/x"),
    ("a type is given up", model(x=STRING), model(x={}), FORWARD, "#/properties/x"),
    ("a value is dropped", model(x=one_of(1, 2)), model(x=one_of(1)), BACKWARD, "#/properties/x/enum"),
    ("a value is added", model(x=one_of(1)), model(x=one_of(1, 2)), FORWARD, "#/properties/x/enum"),
    ("text is closed", model(x=STRING), model(x=one_of("a")), BACKWARD, "#/properties/x/enum"),
    ("a constant changes", model(x={"const": 1}), model(x={"const": 2}), BOTH, "#/properties/x/enum"),
    ("a minimum is raised", model(x=number(minimum=0)), model(x=number(minimum=1)), BACKWARD, "#/properties/x/minimum"),
    ("a minimum is lifted", model(x=number(minimum=0)), model(x=NUMBER), FORWARD, "#/properties/x/minimum"),
    ("a minimum is excluded", model(x=number(minimum=0)), model(x=number(exclusiveMinimum=0)), BACKWARD,
     "#/properties/x/minimum"),
    ("a maximum is lowered", model(x=number(maximum=2)), model(x=number(maximum=1)), BACKWARD,
     "#/properties/x/maximum"),
    ("steps are coarser", model(x={**INTEGER, "multipleOf": 5}), model(x={**INTEGER, "multipleOf": 10}), BACKWARD,
     "#/properties/x/multipleOf"),
    ("text is longer", model(x=STRING), model(x=text(minLength=1)), BACKWARD, "#/properties/x/minLength"),
    ("text is shorter", model(x=STRING), model(x=text(maxLength=9)), BACKWARD, "#/properties/x/maxLength"),
    ("text may be longer", model(x=text(maxLength=9)), model(x=STRING), FORWARD, "#/properties/x/maxLength"),
    ("a pattern is added", model(x=STRING), model(x=text(pattern="^a")), BACKWARD, "#/properties/x/pattern"),
    ("a pattern changes", model(x=text(pattern="^a")), model(x=text(pattern="^b")), BOTH, "#/properties/x/pattern"),
    ("a format is added", model(x=STRING), model(x=text(format="uuid")), BACKWARD, "#/properties/x/format"),
    ("a format changes", model(x=text(format="date")), model(x=text(format="date-time")), BOTH,
     "#/properties/x/format"),
    ("items are narrowed", model(x=list_of(NUMBER)), model(x=list_of(INTEGER)), BACKWARD, "#/properties/x/items/type"),
    ("items must be there", model(x=list_of(NULL)), model(x=list_of(NULL, minItems=1)), BACKWARD,
     "#/properties/x/minItems"),
    ("items must differ", model(x=list_of(NULL)), model(x=list_of(NULL, uniqueItems=True)), BACKWARD,
     "#/properties/x/uniqueItems"),
    ("a place of a tuple changes", model(x={"type": "array", "prefixItems": [STRING, NUMBER], "maxItems": 2}),
     model(x={"type": "array", "prefixItems": [STRING, INTEGER], "maxItems": 2}), BACKWARD,
     "#/properties/x/prefixItems/1/type"),
    ("a nested field becomes required", model(x=model(n=STRING)), model(x=model("n", n=STRING)), BACKWARD,
     "#/properties/x/required"),
    ("other fields are refused", model(x=STRING), {**model(), "additionalProperties": False}, BACKWARD,
     "#/properties/x"),
    ("a reader that refused other fields gets one", {**model(), "additionalProperties": False}, model(x=STRING),
     FORWARD, "#/properties/x"),
    ("a mapping of anything gets a type", model(x={"type": "object"}),
     model(x={**OPEN, "additionalProperties": INTEGER}), BACKWARD, "#/properties/x/additionalProperties"),
    ("a name of a pattern is narrowed", model(x=LETTERS), model(x={**LETTERS, "properties": {"ab": text(minLength=1)}}),
     BACKWARD, "#/properties/x/properties/ab/minLength"),
    ("values of a mapping are narrowed", model(x=OPEN), model(x={**OPEN, "additionalProperties": INTEGER}), BACKWARD,
     "#/properties/x/additionalProperties"),
    ("an open mapping gets a field of a type", model(x=OPEN), model(x={**OPEN, "properties": {"n/m": STRING}}),
     BACKWARD, "#/properties/x/properties/n~1m"),
    ("names of a mapping are narrowed", model(x=OPEN), model(x={**OPEN, "propertyNames": one_of("a")}), BACKWARD,
     "#/properties/x/propertyNames/enum"),
    ("the model behind a name changes", referring("A", model(n=NUMBER)), referring("A", model(n=INTEGER)), BACKWARD,
     "#/properties/x/properties/n/type"),
    ("a recursive model is narrowed", tree(n=NUMBER), tree(n=INTEGER), BACKWARD, "#/properties"),
    ("an alternative is dropped", model(x=any_of(CARD, STRING)), model(x=CARD), BACKWARD, "#/properties/x/type"),
    ("an alternative changes", model(x={"oneOf": [CARD, CASH]}), model(x={"oneOf": [CARD, CASH_WITH_TEXT]}), BOTH,
     "#/properties/x"),
    ("a default changes", model(x={**INTEGER, "default": 1}), model(x={**INTEGER, "default": 2}), BACKWARD,
     "#/properties/x/default"),
]  # fmt: skip

INCOMPARABLE = [
    ("`not` is not understood", {"not": STRING}),
    ("`dependentRequired` is not understood", {**model(), "dependentRequired": {"a": ["b"]}}),
    ("`contains` is not understood", {"type": "array", "contains": STRING}),
    ("`allOf` of several schemas", {"allOf": [STRING, text(minLength=1)]}),
    ("`type` beside `anyOf`", {"type": "string", **any_of(STRING)}),
    ("alternatives of `oneOf` may overlap", {"oneOf": [STRING, text(minLength=1)]}),
    ("alternatives of `oneOf` may overlap", {"oneOf": [one_of("a"), one_of("b", "a")]}),
    ("alternatives of `oneOf` may overlap", {"oneOf": [CARD, model("kind", kind=STRING)]}),
    ("alternatives of `oneOf` may overlap", {"oneOf": [CARD, model("kind", kind=one_of("cash", "card"))]}),
    ("`$ref` to elsewhere.json", {"$ref": "elsewhere.json"}),
    ("the type any", {"type": "any"}),
    ("`enum` or `const` with an object", {"enum": [{"a": 1}]}),
    ("`exclusiveMinimum` that is no number", {"type": "number", "exclusiveMinimum": True}),
    ("the patterns differ", {"type": "object", "patternProperties": {"^a": STRING}}),
]


@pytest.mark.requirement("C10")
@pytest.mark.parametrize(("old", "new"), [row[1:] for row in MAY_FOLLOW], ids=[row[0] for row in MAY_FOLLOW])
def test_a_schema_may_follow_when(old: Any, new: Any) -> None:
    assert backward_gaps(released=old, current=new) == []
    assert forward_gaps(released=old, current=new) == []


@pytest.mark.requirement("C10")
@pytest.mark.parametrize(
    ("old", "new", "whom", "where"),
    [row[1:] for row in MAY_NOT_FOLLOW],
    ids=[row[0] for row in MAY_NOT_FOLLOW],
)
def test_a_schema_may_not_follow_when(old: Any, new: Any, whom: str, where: str) -> None:
    backward = backward_gaps(released=old, current=new)
    forward = forward_gaps(released=old, current=new)
    assert bool(backward) == (whom in (BACKWARD, BOTH)), backward
    assert bool(forward) == (whom in (FORWARD, BOTH)), forward
    for gap in [*backward, *forward]:
        assert gap.path.startswith(where), gap
        assert "\n" not in str(gap)


@pytest.mark.parametrize(("reason", "schema"), INCOMPARABLE, ids=[str(row) for row in INCOMPARABLE])
def test_what_is_not_understood_is_refused_by_name(reason: str, schema: Any) -> None:
    other = model(x=any_of({**OPEN, "maxProperties": 1}, number(minimum=0)))
    gaps = backward_gaps(released=other, current=model(x=schema))
    assert f"cannot be compared: {reason}" in {gap.what for gap in gaps}, gaps
    assert forward_gaps(released=model(x=schema), current=other) == gaps
    assert backward_gaps(released=model(x=schema), current=model(x=schema, y=NULL)) == []


def test_a_reference_that_leads_only_to_itself_is_refused() -> None:
    loop = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    (gap,) = backward_gaps(released=loop, current=model())
    assert str(gap) == "#: cannot be compared: `$ref` leads back to itself"


def test_every_gap_says_in_one_line_what_is_demanded_and_what_is_promised() -> None:
    old = model("a", a=one_of("x", "y"), b=text(maxLength=9), c=list_of(STRING), d=any_of(STRING, NULL))
    new = model("a e", a=one_of("x"), b=text(maxLength=5), c=list_of(INTEGER), d=STRING, e=STRING)
    assert [str(gap) for gap in backward_gaps(released=old, current=new)] == [
        "#/required: the reader demands `e`, the writer may leave it out",
        '#/properties/a/enum: the reader does not take "y", which the writer may write',
        "#/properties/b/maxLength: the reader demands 5, the writer promises 9",
        "#/properties/c/items/type: the reader takes integer, the writer may write string",
        "#/properties/d: the reader does not take null, which the writer may write",
    ]


def test_a_place_that_no_list_reaches_is_not_compared() -> None:
    short = {"type": "array", "prefixItems": [STRING], "items": NUMBER, "maxItems": 1}
    longer = {"type": "array", "prefixItems": [STRING, INTEGER], "items": NULL}
    assert unread(written=short, read=longer, is_with_defaults=True) == []


def test_a_field_that_a_pattern_of_the_reader_takes_is_none_of_the_others() -> None:
    written = {**LETTERS, "properties": {"ab": STRING}}
    assert (
        unread(written=written, read={**LETTERS, "additionalProperties": False}, is_with_defaults=True) == []
    )


def test_a_model_that_failed_as_one_alternative_fails_again_where_it_is_the_only_one() -> None:
    old, new = model("n", n=NUMBER), model("n", n=INTEGER)
    reference = {"$ref": "#/$defs/A"}
    written = {**model("x y", x=reference, y=reference), "$defs": {"A": old}}
    read = {**model("x y", x=any_of(reference, model()), y=reference), "$defs": {"A": new}}
    (gap,) = unread(written=written, read=read, is_with_defaults=True)
    assert gap.path == "#/properties/y/properties/n/type"


SCHEMAS: list[Any] = [
    {}, False, NULL, {"type": "boolean"}, STRING, INTEGER, NUMBER,
    {"type": ["string", "null"]}, {"type": ["integer", "number"]},
    any_of(INTEGER, STRING), any_of(text(maxLength=1), NULL),
    {"oneOf": [INTEGER, STRING]}, {"oneOf": [one_of("a"), one_of("b", 1)]}, {"allOf": [STRING]},
    one_of("a"), one_of("a", "b"), one_of("a", None), one_of(1, "a"), one_of(True), one_of(False, True),
    one_of(1, 2, 3),
    {"const": 1}, {"const": 1.0}, {"const": "ab"}, {**INTEGER, **one_of(1, "a")},
    {**STRING, **one_of("a", "ab"), "minLength": 2},
    {"minimum": 1}, {"minLength": 2},
    text(minLength=1), text(minLength=2), text(maxLength=1), text(maxLength=2), text(minLength=1, maxLength=2),
    text(pattern="^a"), text(format="uuid"), text(format="date"),
    number(minimum=0), number(minimum=1), number(exclusiveMinimum=0), number(exclusiveMinimum=1), number(maximum=2),
    number(exclusiveMaximum=2), number(minimum=0, maximum=1), {**INTEGER, "minimum": 1},
    {**INTEGER, "exclusiveMinimum": 0},
    {**INTEGER, "minimum": 0.5}, {**INTEGER, "maximum": 2}, {**INTEGER, "multipleOf": 2}, {**INTEGER, "multipleOf": 4},
    number(multipleOf=0.5),
]  # fmt: skip

VALUES: list[Any] = [
    None, True, False, "", "a", "b", "ab", "abc", "bb", "6f1c6c3e-0b0f-4c58-9a43-8f3f9a1c2b4d", "2026-11-26", [], {},
    -8, -7, -1, 0, 1, 2, 3, 4, 5, 6, 8, -0.5, 0.25, 0.5, 0.75, 1.0, 1.5, 1.75, 2.5, 9.5,
]  # fmt: skip


def valid_values(schema: Any) -> set[int]:
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    return {place for place, value in enumerate(VALUES) if validator.is_valid(value)}


def is_only_unproven(written: Any, read: Any) -> bool:
    """What is sound to refuse although no data shows it: patterns, formats and fractions are not computed."""
    return any(word in text_of([written, read]) for word in ("format", "pattern", "0.5"))


@pytest.mark.requirement("C10")
def test_of_all_pairs_of_plain_schemas_the_verdict_is_that_of_the_validator() -> None:
    valid = [valid_values(schema) for schema in SCHEMAS]
    for written, offered in zip(SCHEMAS, valid, strict=True):
        for read, taken in zip(SCHEMAS, valid, strict=True):
            gaps = unread(written=written, read=read, is_with_defaults=True)
            lost = [VALUES[place] for place in sorted(offered - taken)]
            assert gaps or not lost, (written, read, lost)
            assert lost or not gaps or is_only_unproven(written, read), (written, read, gaps)
