"""The analysis of a table's rows says of every input what the engine does with it, and no more than it knows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
import zen
from hypothesis import given, settings
from hypothesis import strategies as st

from faregate.credit.store.artefacts import load_ruleset_document
from faregate.rules.checks import RulesetRefused, check_document
from faregate.rules.expressions import conjuncts, only_compares, paths_read
from faregate.rules.findings import Finding, Kind, Severity
from faregate.rules.scope import find, scopes_of
from faregate.rules.tables import table_findings
from tests.unit.test_ruleset_checks import chain, document, node

AGES, LEVELS, FLAGS = range(7), ("low", "medium", "high"), (True, False, None)
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["age", "level", "flag"],
    "properties": {
        "age": {"type": "integer", "minimum": 0, "maximum": 6},
        "level": {"enum": list(LEVELS)},
        "flag": {"type": ["boolean", "null"]},
        "share": {"type": "number"},
        "name": {"type": "string"},
    },
}
COLUMNS = [
    {"id": "a", "name": "age", "field": "age"},
    {"id": "l", "name": "level", "field": "level"},
    {"id": "f", "name": "flag", "field": "flag"},
    {"id": "s", "name": "share", "field": "share"},
    {"id": "n", "name": "name", "field": "name"},
    {"id": "x", "name": "expression"},
]


def table(rows: Sequence[Mapping[str, str]], *, hit_policy: str = "first", **content: Any) -> dict[str, Any]:
    named = [{"_id": f"r{number}", "o": f"'{number}'", **row} for number, row in enumerate(rows)]
    outputs = [{"id": "o", "name": "result", "field": "result"}]
    columns = [column for column in COLUMNS if any(column["id"] in row for row in rows)] or COLUMNS[:1]
    return node(
        "table",
        "decisionTableNode",
        hitPolicy=hit_policy,
        inputs=columns,
        outputs=outputs,
        rules=named,
        **content,
    )


def findings(*rows: Mapping[str, str], **content: Any) -> list[Finding]:
    return table_findings(table(rows, **content), SCHEMA)


def said(found: Sequence[Finding]) -> list[tuple[str, str | None]]:
    return [(finding.kind.value, finding.row) for finding in found]


CASES: list[tuple[str, list[dict[str, str]], list[tuple[str, str | None]]]] = [
    ("a row takes all of a later one", [{"a": "< 5"}, {"a": "< 3"}, {}], [("unreachable_row", "r1")]),
    (
        "two rows together take all of a third",
        [{"a": "<= 3"}, {"a": "> 3"}, {"a": "[2..5]"}],
        [("unreachable_row", "r2")],
    ),
    ("integers between two bounds", [{"a": "<= 3"}, {"a": ">= 4"}], []),
    ("numbers between two bounds", [{"s": "<= 3"}, {"s": ">= 4"}], [("gap", None)]),
    ("an optional number may be null", [{"s": "< 3"}, {"s": ">= 3"}], [("gap", None)]),
    ("null is named", [{"s": "< 3"}, {"s": ">= 3"}, {"s": "null"}], []),
    ("a value that the enumeration lacks", [{"l": "'higher'"}, {}], [("unreachable_row", "r0")]),
    ("all values of an enumeration", [{"l": "'low', 'high'"}, {"l": "'medium'"}], []),
    ("all but one value", [{"l": "not in ['low']"}], [("gap", None)]),
    ("a flag that may be null", [{"f": "true"}, {"f": "false"}], [("gap", None)]),
    ("a contradiction", [{"a": "> 3 and < 2"}, {}], [("unreachable_row", "r0")]),
    ("an ordering of texts, which the engine has not", [{"n": "> 'a'"}, {}], [("unreachable_row", "r0")]),
    ("texts are endless", [{"n": "'a', 'b'"}, {"n": "null"}], [("gap", None)]),
    ("any other text", [{"n": "'a'"}, {"n": "!= 'a'"}], []),
    (
        "two rows after a default",
        [{}, {"a": "1"}, {"a": "2"}],
        [("unreachable_row", r) for r in ("r1", "r2")],
    ),
    ("an expression of one field", [{"x": "age >= 3"}, {"x": "age < 3"}], []),
    (
        "an expression and a column of one field",
        [{"a": "< 5", "x": "age >= 5"}, {}],
        [("unreachable_row", "r0")],
    ),
    ("a conjunction over fields", [{"x": "age >= 3 and flag == true"}, {"x": "age < 3"}], [("gap", None)]),
    ("a computed cell", [{"x": "age * 2 > 5"}, {}], [("not_analysed", "r0")]),
    (
        "a computed cell takes nothing for sure",
        [{"x": "age * 2 > 5"}, {"a": "3"}, {}],
        [("not_analysed", "r0")],
    ),
    (
        "a computed cell may close the gap",
        [{"a": "< 5"}, {"x": "age * 2 > 8"}],
        [("not_analysed", None), ("not_analysed", "r1")],
    ),
    (
        "a gap beside a computed cell",
        [{"a": "< 3"}, {"a": "> 4", "x": "age * 2 > 8"}],
        [("gap", None), ("not_analysed", "r1")],
    ),
    ("what gives way", [{"a": "< 3"}, {"l": "'low'"}, {}], [("overlap", "r1")]),
    ("the same result twice in a row", [{"a": "< 3", "o": "1"}, {"l": "'low'", "o": "1"}, {}], []),
]


@pytest.mark.requirement("C17")
@pytest.mark.parametrize(("rows", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_rows_of_a_first_table(
    rows: list[dict[str, str]], expected: list[tuple[str, str | None]]
) -> None:
    assert said(findings(*rows)) == expected


@pytest.mark.requirement("C17")
def test_a_number_that_the_engine_cannot_hold_matches_nothing() -> None:
    found = findings({"s": "> 1" + 40 * "0"})
    assert "never matches" in found[0].message


def test_a_gap_is_shown_with_an_input_that_no_row_matches() -> None:
    [gap] = findings({"a": "< 3", "l": "'low'"}, {"a": ">= 3"}, {"l": "'medium'"}, overlaps="allowed")
    assert gap.severity is Severity.ERROR
    assert "age = 0, level = 'high'" in gap.message


def test_where_all_hits_are_collected_nothing_is_shadowed_and_nothing_is_a_gap() -> None:
    assert findings({"a": "< 5"}, {"a": "< 3"}, hit_policy="collect") == []


def test_a_collected_result_that_comes_twice_is_a_warning() -> None:
    [found] = findings({"a": "< 5", "o": "1"}, {"a": "< 3", "o": "1"}, hit_policy="collect")
    assert (found.kind, found.severity) == (Kind.OVERLAP, Severity.WARNING)


@pytest.mark.parametrize("hit_policy", ["first", "collect"])
def test_overlaps_are_what_the_table_declares(hit_policy: str) -> None:
    rows = [{"a": "< 5"}, {"a": "> 3", "f": "true"}, *([{}] if hit_policy == "first" else [])]
    refused = findings(*rows, hit_policy=hit_policy, overlaps="refused")
    assert [(f.kind, f.severity, f.row) for f in refused] == [(Kind.OVERLAP, Severity.ERROR, "r1")]
    assert "age = 4" in refused[0].message
    assert findings(*rows, hit_policy=hit_policy, overlaps="allowed") == []


def test_a_table_whose_rows_make_too_many_areas_is_analysed_as_far_as_it_goes_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("faregate.rules.tables.BOXES_MAX", 1)
    found = findings({"a": "> 9"}, {"a": "2", "l": "'low'"}, {"a": "4", "f": "true"}, {})
    assert said(found) == [("unreachable_row", "r0"), ("not_analysed", None)]


_AGE = st.sampled_from(
    ["", "< 3", ">= 3", "2", "[1..4]", "(1..4]", "> 2 and < 5", "1, 6", "not in [0..2]", "> 6"]
)
_LEVEL = st.sampled_from(["", "'low'", "'low', 'high'", "!= 'low'", "not in ['medium']", "'none'"])
_FLAG = st.sampled_from(["", "true", "false", "null", "!= null", "$ != null and $ == true", "> 1"])
_FREE = st.sampled_from(["", "", "age > 2", "age > 2 and flag == true", "flag == null or flag == false"])
_ROWS = st.lists(
    st.fixed_dictionaries({"a": _AGE, "l": _LEVEL, "f": _FLAG, "x": _FREE}), min_size=1, max_size=5
)
_INPUTS = [
    dict(zip(("age", "level", "flag"), v, strict=True)) for v in itertools.product(AGES, LEVELS, FLAGS)
]


def hits(rows: Sequence[Mapping[str, str]], *, hit_policy: str) -> list[list[str]]:
    """Return the results of the rows that the engine itself takes, for every input that there is."""
    schema = orjson.dumps(SCHEMA).decode()
    nodes = [
        node("input", "inputNode", schema=schema),
        table(rows, hit_policy=hit_policy, outputPath="found"),
        node("output", "outputNode"),
    ]
    decision = zen.ZenEngine().create_decision(orjson.dumps({"nodes": nodes, "edges": chain(nodes)}).decode())
    answers = [decision.evaluate(context)["result"].get("found") for context in _INPUTS]
    lists = [answer if isinstance(answer, list) else [answer] if answer else [] for answer in answers]
    return [[hit["result"] for hit in found] for found in lists]


@pytest.mark.requirement("C17")
@settings(max_examples=100, deadline=None)
@given(rows=_ROWS)
def test_the_analysis_of_a_first_table_agrees_with_the_engine_on_every_input(
    rows: list[dict[str, str]],
) -> None:
    taken, matched = hits(rows, hit_policy="first"), hits(rows, hit_policy="collect")
    reached = {number for found in taken for number in found}
    found = findings(*rows)
    unreachable = {f.row for f in found if f.kind is Kind.UNREACHABLE_ROW}
    assert unreachable == {f"r{n}" for n in range(len(rows)) if str(n) not in reached}
    assert any(f.kind is Kind.GAP for f in found) == any(not hit for hit in taken)
    gives_way = {f"r{n}" for hit in matched for n in hit[1:]} - unreachable
    defaults = {f"r{n}" for n in range(len(rows)) if all(str(n) in hit for hit in matched)}
    assert {f.row for f in found if f.kind is Kind.OVERLAP} == gives_way - defaults


_COMPUTED = st.sampled_from(["", "age * 2 > 5", "age + 1 < 3 and level == 'low'"])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"a": _AGE, "l": _LEVEL, "f": _FLAG, "x": _COMPUTED}), min_size=1, max_size=4
    )
)
def test_beside_computed_cells_the_analysis_says_less_but_nothing_wrong(rows: list[dict[str, str]]) -> None:
    taken, found = hits(rows, hit_policy="first"), findings(*rows)
    reached = {f"r{number}" for hit in taken for number in hit}
    assert not reached & {f.row for f in found if f.kind is Kind.UNREACHABLE_ROW}
    has_gap = any(not hit for hit in taken)
    assert has_gap or not any(f.kind is Kind.GAP for f in found)
    assert not has_gap or any(f.kind in (Kind.GAP, Kind.NOT_ANALYSED) for f in found)


def test_values_of_fields_that_earlier_nodes_give_are_known() -> None:
    graph = load_ruleset_document("card-eligibility-1")["graph"]
    scope = scopes_of(graph)["outcome"]
    assert find(["band", "name"], scope) == {"enum": ["low", "borderline", "high"]}
    assert find(["band", "colour"], scope) is None
    assert find(["outcome"], scope) is None


@pytest.mark.requirement("C17")
def test_the_released_ruleset_has_no_row_without_effect_and_names_what_it_cannot_analyse() -> None:
    found = check_document(load_ruleset_document("card-eligibility-1"))
    assert {f.kind for f in found} == {Kind.OVERLAP, Kind.NOT_ANALYSED}
    assert [f.row for f in found if f.kind is Kind.NOT_ANALYSED] == ["income_overstated"]


@pytest.mark.requirement("C17")
def test_a_field_that_nobody_gives_is_refused_wherever_it_is_read() -> None:
    changed = document()
    rows = changed["graph"]["nodes"][1]["content"]["rules"]
    rows[0].update(i="< limits.age", p="height + 1")
    rows[1].update(j="age >= 18 and map(weights as w, w.kg) != []")
    changed["graph"]["nodes"][2]["content"]["expressions"][0]["value"] = "`${code} ${colour}`"
    with pytest.raises(RulesetRefused) as refused:
        check_document(changed)
    places = [
        (p["node"], p["row"], p["column"], p["message"].split()[-1]) for p in refused.value.facts["problems"]
    ]
    assert places == [
        ("table", "young", "age", "limits.age"),
        ("table", "young", "more", "height"),
        ("table", "rest", "any", "weights"),
        ("answer", None, "code", "colour"),
    ]


def test_what_a_node_without_pass_through_drops_cannot_be_read_behind_it() -> None:
    changed = document()
    late = node("late", "expressionNode", expressions=[{"id": "l", "key": "code", "value": "age"}])
    nodes = changed["graph"]["nodes"]
    nodes.insert(3, late)
    changed["graph"]["edges"] = chain(nodes)
    with pytest.raises(RulesetRefused, match=r"late: column code: neither .* has age"):
        check_document(changed)


PATHS: list[tuple[str, set[tuple[str, ...]]]] = [
    ("a.b > 1 and c", {("a", "b"), ("c",)}),
    ("len(xs) > max([y, 2])", {("xs",), ("y",)}),
    ("map(xs, #.a + b)", {("xs",), ("b",)}),
    ("map(xs as x, x.a + b)", {("xs",), ("b",)}),
    ("{ a: b, c: d.e }", {("b",), ("d", "e")}),
    ("a ? b : c", {("a",), ("b",), ("c",)}),
    ("a['b'].c", {("a", "b", "c")}),
    ("xs[0].a", {("xs",)}),
    ("$root.a.b", {("a", "b")}),
    ("$ > 1", set()),
    ("$.own + a", {("a",)}),
    ("'text with.path' == a", {("a",)}),
    ("d(day).add(1, 'd')", {("day",)}),
    ("total = a + 1; total * 2", {("a",)}),
    ("true or not null", set()),
]


@pytest.mark.parametrize(("expression", "paths"), PATHS)
def test_the_fields_that_an_expression_reads(expression: str, paths: set[tuple[str, ...]]) -> None:
    zen.compile_expression(expression)
    assert paths_read(expression) == paths


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("a > 1", ["a > 1"]),
        ("a > 1 and (b or c) and d", ["a > 1", "(b or c)", "d"]),
        ("a or b and c", None),
        ("a ? b : c", None),
        ("'x and y' == a", ["'x and y' == a"]),
    ],
)
def test_a_conjunction_falls_into_its_parts(expression: str, parts: list[str] | None) -> None:
    found = conjuncts(expression)
    assert (None if found is None else [part.strip() for part in found]) == parts


@pytest.mark.parametrize(
    "expression", ["$ + 1 > 2", "$ - 1", "$ > other", "len($) > 1", "`a` == $", "$ % 2 == 0"]
)
def test_what_computes_does_not_only_compare(expression: str) -> None:
    assert not only_compares(expression, variable=["$"])
