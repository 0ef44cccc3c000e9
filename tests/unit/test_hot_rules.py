"""The hot path says what the engine says: the same rules fire, whatever the facts; and it names what cannot be told."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import zen
from hypothesis import example, given, settings
from hypothesis import strategies as st

from faregate.rules.compiled import Action, HotRulesetUnfit, compile_hot
from faregate.rules.expressions import conjuncts
from faregate.rules.ruleset import canonical
from tests.hot_rules import FIELDS, document, engine_fired, hot, rule, table

NUMBERS = ("5", "-5", "0", "0.3", "12.75", "1000000", "99.99", "1e3")
TEXTS = ("'US'", "'IR'", '"KP"', "'online'", "''")
signs = st.sampled_from(("<", "<=", ">", ">=", "==", "!="))
numbers, texts = st.sampled_from(NUMBERS), st.sampled_from(TEXTS)
literals = numbers | texts | st.sampled_from(("true", "false", "null"))
intervals = st.builds(
    lambda a, b, low, high: f"{low}{a}..{b}{high}",
    numbers,
    numbers,
    st.sampled_from("[("),
    st.sampled_from("])"),
)
lists = st.lists(numbers | texts, min_size=1, max_size=3).map(", ".join)
compared = st.builds(lambda sign, literal: f"{sign} {literal}", signs, literals)
member = st.builds(
    lambda word, among: f"{word} {among}",
    st.sampled_from(("in", "not in")),
    lists.map(lambda found: f"[{found}]") | intervals,
)
alternatives = st.lists(literals | intervals, min_size=1, max_size=3).map(", ".join)
computed = st.sampled_from(
    (
        "> amount_minor",
        "> 2 * features.mean",
        "len($) > 2",
        "startsWith($, 'd')",
        "> 5 or < 2",
        "$ ?? 0 > 3",
        "> 5, 1",
        "$ > 1 ? true : false",
        "in ['a', 5]",
    )
)
unary = compared | member | alternatives | computed
both = st.lists(compared | member, min_size=2, max_size=3).map(" and ".join)
named = st.builds(
    lambda field, cell: f"{field} {cell}", st.sampled_from(FIELDS), compared | member
) | st.sampled_from(
    (
        "lists.block",
        "not lists.block",
        "amount_minor > 3 * features.mean",
        "features.count",
        "len(country) == 2",
    )
)
whole = st.lists(named, min_size=1, max_size=3).map(" and ".join) | st.builds("{} or {}".format, named, named)
COLUMNS = [field.replace(".", "__") for field in FIELDS]
cells = st.fixed_dictionaries({}, optional={**dict.fromkeys(COLUMNS, unary | both), "any": whole})
tables = st.lists(cells, min_size=1, max_size=8).map(
    lambda rows: table("all", [rule(f"r{i}", **row) for i, row in enumerate(rows)])
)

edges = [float(text) for text in NUMBERS]
near = st.sampled_from(edges).flatmap(
    lambda edge: st.sampled_from(
        (edge, math.nextafter(edge, math.inf), math.nextafter(edge, -math.inf), edge + 1, edge - 1, int(edge))
    )
)
anything = (
    near
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e12, 1e12)
    | st.sampled_from((None, True, False, "US", "IR", "online", "", "5", [], ["US"], {}, {"a": 1}))
)
groups = st.none() | st.just("no object")
facts = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("amount_minor", "country", "channel", "device_id"), anything),
        "features": st.fixed_dictionaries({}, optional={"count": anything, "mean": anything}) | groups,
        "lists": st.fixed_dictionaries({}, optional={"block": anything}) | groups,
    },
)


def value_at(given_facts: Any, path: str) -> Any:
    for name in path.split("."):
        given_facts = given_facts.get(name) if isinstance(given_facts, dict) else None
    return given_facts


def told(part: str, given_facts: dict[str, Any], field: str | None) -> bool | None:
    """Ask the engine about one condition: None if it cannot tell, or says no to what is not there."""
    try:
        if field is None:
            answer = zen.evaluate_expression(part, given_facts) is True
        else:
            value = value_at(given_facts, field)
            answer = zen.evaluate_unary_expression(part, {**given_facts, "$": value}) is True
    except Exception:
        return None
    read = [name for name in FIELDS if name in part] + ([field] if field else [])
    is_missing = any(value_at(given_facts, name) is None for name in read)
    return None if not answer and is_missing and "null" not in part and "??" not in part else answer


def naive_unknown(found: dict[str, Any], given_facts: dict[str, Any]) -> list[str]:
    """The rules of which no condition fails, and at least one cannot be told."""
    unknown = []
    for row in found["graph"]["nodes"][2]["content"]["rules"]:
        parts = [
            (part, None if column == "any" else column)
            for column in (*FIELDS, "any")
            for part in (conjuncts(row.get(column, "")) or [row[column]])
            if part
        ]
        answers = {told(part, given_facts, field) for part, field in parts}
        if False not in answers and None in answers:
            unknown.append(row["_id"])
    return unknown


@pytest.mark.requirement("F7")
@settings(max_examples=200, deadline=None)
@given(found=tables, given_facts=st.lists(facts, min_size=1, max_size=4))
@example(
    found=table("all", [rule("r0", features__mean="> 0.3")]), given_facts=[{"features": {"mean": 0.1 + 0.2}}]
)
@example(
    found=table(
        "all",
        [
            rule(f"r{i}", features__mean=f"{low}0.3..0.3{high}")
            for i, (low, high) in enumerate(("[]", "[)", "(]", "()"))
        ]
        + [rule("low", features__mean="[0.3..5)"), rule("high", features__mean="(0..0.3]")],
    ),
    given_facts=[
        {"features": {"mean": value}} for value in (0.3, 0.1 + 0.2, 0.29999999999999993, 0.3000000000000001)
    ],
)
@example(found=table("all", [rule("r0", amount_minor="1")]), given_facts=[{"amount_minor": True}])
@example(found=table("all", [rule("r0", country="not in ['IR']")]), given_facts=[{}, {"country": ["IR"]}])
def test_the_same_rules_fire_as_by_the_engine_itself(found: Any, given_facts: Any) -> None:
    whole_document = document(found)
    ruleset = compile_hot(canonical(whole_document))
    for each in given_facts:
        evaluation = ruleset.evaluate(each)
        assert [one.rule for one in evaluation.fired] == engine_fired(whole_document, each)
        assert list(evaluation.unknown) == naive_unknown(whole_document, each)


@settings(max_examples=30, deadline=None)
@given(found=tables, given_facts=facts)
def test_an_evaluation_is_repeatable_and_leaves_the_facts_alone(found: Any, given_facts: Any) -> None:
    ruleset, before = hot(found), json.dumps(given_facts)
    assert ruleset.evaluate(given_facts) == ruleset.evaluate(given_facts)
    assert json.dumps(given_facts) == before


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, 10**40, object(), {1}, b"x"])
def test_what_the_engine_cannot_hold_is_unknown_and_nothing_is_raised(value: object) -> None:
    ruleset = hot(
        table("all", [rule("over", amount_minor="> 5"), rule("computed", any="amount_minor > 2 * 3")])
    )
    assert ruleset.evaluate({"amount_minor": value}).unknown == ("over", "computed")


def test_rules_of_several_tables_fire_in_their_order() -> None:
    first = table("first", [rule("a", amount_minor="> 1"), rule("b", country="'US'")])
    second = table("second", [rule("c"), rule("d", amount_minor="> 9")])
    given_facts = {"amount_minor": 5, "country": "US"}
    evaluation = hot(first, second).evaluate(given_facts)
    assert [one.rule for one in evaluation.fired] == ["a", "b", "c"]
    assert engine_fired(document(first, second), given_facts) == ["a", "b", "c"]


def test_a_rule_whose_other_condition_fails_is_not_unknown() -> None:
    ruleset = hot(table("all", [rule("both", features__count="> 5", country="'US'")]))
    assert ruleset.evaluate({"country": "FR"}).unknown == ()
    assert ruleset.evaluate({"country": "US"}).unknown == ("both",)
    assert ruleset.evaluate({}).unknown == ("both",)


@pytest.mark.requirement("F7")
@pytest.mark.parametrize(
    ("fires", "action"),
    [
        ("knock allow decline review flag", "decline"),
        ("allow decline review flag", "allow"),
        ("decline review flag", "decline"),
        ("review flag", "review"),
        ("flag", None),
        ("", None),
    ],
)
def test_a_knock_out_goes_before_an_allowance_and_that_before_the_rest(
    fires: str, action: str | None
) -> None:
    actions = {"flag": "flag", "review": "review", "decline": "decline", "allow": "allow", "knock": "decline"}
    rows = [
        rule(name, any=f"amount_minor in [{1 if name in fires.split() else 2}]", action=f"'{told_action}'")
        | ({"knock_out": "true"} if name == "knock" else {})
        for name, told_action in actions.items()
    ]
    assert hot(table("all", rows)).evaluate({"amount_minor": 1}).action == action


def test_of_two_rules_alike_the_first_decides() -> None:
    rows = [rule("one", action="'decline'"), rule("two", action="'decline'")]
    deciding = hot(table("all", rows)).evaluate({}).deciding
    assert deciding is not None
    assert (deciding.rule, deciding.code, deciding.action) == ("one", "ONE_CODE", Action.DECLINE)


def changed_table(**content: Any) -> dict[str, Any]:
    found = table("all", [rule("a")])
    return {**found, "content": {**found["content"], **content}}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (changed_table(hitPolicy="first"), "collects"),
        (changed_table(passThrough=True), "passes nothing through"),
        (changed_table(inputField="items"), "reads the whole input"),
        (changed_table(outputPath=None), "outputPath of its own"),
        (changed_table(inputs=[{"id": "x", "field": "amount_minor * 2"}]), "no plain field"),
        (changed_table(outputs=[{"id": "code", "field": "code"}]), "code, action and knock_out"),
        (table("all", [rule("a", action="'perhaps'")]), "rule a needs a quoted code, and an action"),
        (table("all", [rule("a", action="country")]), "rule a: action must be written out"),
        (table("all", [rule("a", knock_out="true")]), "only for what declines"),
        (table("all", [rule("a", amount_minor="> > 5")]), "no hot ruleset can be made of this"),
        (
            {**table("all", [rule("a")]), "type": "switchNode"},
            "one input node, decision tables and one output",
        ),
    ],
)
def test_a_document_that_does_not_fit_is_refused_by_name(found: dict[str, Any], said: str) -> None:
    with pytest.raises(HotRulesetUnfit, match=said):
        hot(found)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"graph": {"nodes": []}}', '{"graph": 5}'])
def test_what_is_no_document_is_refused_by_name(content: str) -> None:
    with pytest.raises(HotRulesetUnfit):
        compile_hot(content)


def test_a_table_beside_the_way_from_input_to_output_is_refused() -> None:
    found = document(table("first", [rule("a")]), table("second", [rule("b")]))
    found["graph"]["edges"][0]["sourceId"] = "second"
    with pytest.raises(HotRulesetUnfit, match="between the input and the output"):
        compile_hot(canonical(found))


@given(name=st.sampled_from(("a'b", 'x"]', "__import__", "k0", "facts")))
def test_a_field_of_any_name_is_read_as_a_field(name: str) -> None:
    quoted = name.replace("'", "").replace('"', "").replace("]", "")
    found = table("all", [rule("odd", any=f"{quoted} > 1 and amount_minor == 1")])
    assert [one.rule for one in hot(found).evaluate({quoted: 2, "amount_minor": 1}).fired] == ["odd"]
