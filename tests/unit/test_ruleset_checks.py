"""Publishing refuses what the engine would pass in silence; evaluating names what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faregate.credit.store.artefacts import load_ruleset_document
from faregate.rules.checks import RulesetRefused, check_document, examine
from faregate.rules.expressions import depends_on_more
from faregate.rules.findings import Kind, Severity
from faregate.rules.ruleset import (
    CompiledRuleset,
    RulesetFailed,
    RulesetInputRefused,
    RulesetUnreadable,
    canonical,
    compile_ruleset,
)

CODES = ("TOO_YOUNG", "OLD_ENOUGH", "NO_AGE")
Change = Callable[[dict[str, Any]], Any]


def node(node_id: str, node_type: str, **content: Any) -> dict[str, Any]:
    return {"id": node_id, "type": node_type, "name": node_id, "content": content}


def table(**content: Any) -> dict[str, Any]:
    return node(
        "table",
        "decisionTableNode",
        hitPolicy="first",
        passThrough=True,
        inputs=[{"id": "i", "name": "age", "field": "age"}, {"id": "j", "name": "any"}],
        outputs=[{"id": "o", "name": "code", "field": "code"}, {"id": "p", "name": "more", "field": "more"}],
        rules=[
            {"_id": "young", "_description": "too young", "i": "< 18", "o": '"TOO_YOUNG"'},
            {"_id": "rest", "i": "", "j": "age >= 18", "o": "'OLD_ENOUGH'", "p": "age * 2"},
            {"_id": "unknown", "o": "'NO_AGE'"},
        ],
        **content,
    )


def chain(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pairs = pairwise(nodes)
    return [
        {"id": f"{a['id']}-{b['id']}", "type": "edge", "sourceId": a["id"], "targetId": b["id"]}
        for a, b in pairs
    ]


def document() -> dict[str, Any]:
    number = {"type": "object", "required": ["age"], "properties": {"age": {"type": ["number", "null"]}}}
    code = {
        "type": "object",
        "required": ["code"],
        "properties": {"code": {"enum": ["TOO_YOUNG", "OLD_ENOUGH"]}},
    }
    nodes = [
        node("input", "inputNode", schema=number),
        table(),
        node("answer", "expressionNode", expressions=[{"id": "c", "key": "code", "value": "code"}]),
        node("output", "outputNode", schema=code),
    ]
    return {
        "format": 1,
        "name": "age-check",
        "version": 1,
        "code_set": {
            "version": "1",
            "codes": {code: {"wording": code} for code in CODES} | {"OLD_ENOUGH": {}},
        },
        "code_fields": {"code": None},
        "graph": {"nodes": nodes, "edges": chain(nodes)},
    }


def content(changed: dict[str, Any], node_number: int) -> dict[str, Any]:
    found: dict[str, Any] = changed["graph"]["nodes"][node_number]["content"]
    return found


def rule(changed: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = content(changed, 1)["rules"][number]
    return found


def compiled(changed: dict[str, Any]) -> CompiledRuleset:
    return compile_ruleset(canonical(changed))


@pytest.mark.requirement("C17")
def test_a_sound_document_and_the_released_ruleset_pass() -> None:
    check_document(document())
    check_document(load_ruleset_document("card-eligibility-1"))


BROKEN: list[tuple[str, Change]] = [
    ("rule young: column age: the cell '< ' is broken", lambda d: rule(d, 0).update(i="< ")),
    ("rule rest: column any: the cell 'age >=' is broken", lambda d: rule(d, 1).update(j="age >=")),
    ("rule rest: column more: the cell 'age *' is broken", lambda d: rule(d, 1).update(p="age *")),
    ("rule young: column age: the cell 18 must be text", lambda d: rule(d, 0).update(i=18)),
    ("rule young: there is no column k", lambda d: rule(d, 0).update(k="1")),
    ("needs an _id of its own", lambda d: rule(d, 0).update(_id="rest")),
    ("needs an _id of its own", lambda d: rule(d, 0).pop("_id")),
    ("column code: must be one quoted code", lambda d: rule(d, 0).update(o="concat('TOO', 'YOUNG')")),
    ("column code: must be one quoted code", lambda d: rule(d, 0).pop("o")),
    ("the code UNHEARD_OF is not in the code set", lambda d: rule(d, 0).update(o="'UNHEARD_OF'")),
    ("the code UNHEARD_OF is not in the code set", lambda d: rule(d, 1).update(p="'UNHEARD_OF'")),
    ("OLD_ENOUGH is not mapped: it needs wording", lambda d: d["code_fields"].update(code="wording")),
    (
        "column height: neither the input schema nor a node before it has height",
        lambda d: content(d, 1)["inputs"][0].update(field="height"),
    ),
    ("column age.years: neither", lambda d: content(d, 1)["inputs"][0].update(field="age.years")),
    ("column age +: the cell 'age +' is broken", lambda d: content(d, 1)["inputs"][0].update(field="age +")),
    ("hitPolicy must be", lambda d: content(d, 1).update(hitPolicy="any")),
    ("none empty", lambda d: content(d, 1).update(rules=[])),
    (
        "answer: column code: the cell 'code +' is broken",
        lambda d: content(d, 2)["expressions"][0].update(value="code +"),
    ),
    ("a key and a value", lambda d: content(d, 2)["expressions"][0].update(value="")),
    ("expressions must be", lambda d: content(d, 2).update(expressions=[])),
    ("input: a JSON Schema of an object", lambda d: content(d, 0).pop("schema")),
    ("input: a JSON Schema of an object", lambda d: content(d, 0)["schema"].pop("required")),
    ("output: a JSON Schema of an object", lambda d: content(d, 3).pop("schema")),
    ("the JSON Schema is broken", lambda d: content(d, 3)["schema"].update(type="object", required="code")),
    ("a functionNode is not allowed", lambda d: d["graph"]["nodes"][2].update(type="functionNode")),
    ("a decisionNode is not allowed", lambda d: d["graph"]["nodes"][2].update(type="decisionNode")),
    ("exactly one input node", lambda d: d["graph"]["nodes"][0].update(id="entry")),
    ("must be an output node", lambda d: d["graph"]["nodes"].pop()),
    ("two nodes have the id table", lambda d: d["graph"]["nodes"][2].update(id="table")),
    ("graph must hold a list of nodes", lambda d: d.update(graph=[])),
    ("graph must hold a list of nodes", lambda d: d["graph"]["nodes"].append({"id": "x"})),
    ("format 2 is unknown", lambda d: d.update(format=2)),
    ("name must be", lambda d: d.update(name="Age check")),
    ("version must be", lambda d: d.update(version=True)),
    ("code_set must hold", lambda d: d.update(code_set="reason-codes-1")),
    ("code_fields must be", lambda d: d.update(code_fields=None)),
    ("the document lacks code_set, graph", lambda d: (d.pop("graph"), d.pop("code_set"))),
    (
        "the engine refuses the graph",
        lambda d: d["graph"]["edges"].append(
            {"id": "loop", "type": "edge", "sourceId": "answer", "targetId": "table"}
        ),
    ),
]


@pytest.mark.requirement("C17")
@pytest.mark.parametrize(("problem", "change"), BROKEN, ids=[problem for problem, _ in BROKEN])
def test_a_broken_document_is_refused_with_the_place_of_the_problem(problem: str, change: Change) -> None:
    changed = document()
    change(changed)
    with pytest.raises(RulesetRefused) as refused:
        check_document(changed)
    assert problem in refused.value.detail


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each value of a document."""
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, found in inner:
        yield from places(found, (*place, key))


@settings(max_examples=200, deadline=None)
@given(place=st.sampled_from([p for p in places(document()) if p]), value=_JSON)
def test_whatever_stands_in_a_document_the_examination_says_something_and_does_not_break(
    place: tuple[Any, ...], value: Any
) -> None:
    changed: Any = document()
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    if not any(finding.severity is Severity.ERROR for finding in examine(changed)):
        compiled(changed)


def test_every_problem_is_named_at_once() -> None:
    changed = document()
    rule(changed, 0).update(i="< ", o="'UNHEARD_OF'")
    with pytest.raises(RulesetRefused) as refused:
        check_document(changed)
    assert len(refused.value.facts["problems"]) == 3


def test_each_cell_of_the_released_ruleset_is_looked_at() -> None:
    changed, cells = load_ruleset_document("card-eligibility-1"), 0
    for found in changed["graph"]["nodes"]:
        for line in found["content"].get("rules", []):
            for key in line.keys() - {"_id", "_description"}:
                cells += 1
                line[key] = f"] broken {cells} ["
    with pytest.raises(RulesetRefused) as refused:
        check_document(changed)
    said = refused.value.detail
    assert all(f"] broken {number} [" in said for number in range(1, cells + 1))
    assert cells > 60


@pytest.mark.requirement("C17")
@pytest.mark.parametrize(
    "cell", ["rand(100) > 1", "d() > d('2020-01-01')", "date('now') > 1", 'time("now") > 1']
)
def test_a_cell_that_depends_on_chance_or_the_clock_is_refused(cell: str) -> None:
    changed = document()
    rule(changed, 0)[next(iter(key for key in rule(changed, 0) if not key.startswith("_")))] = cell
    assert Kind.NOT_REPEATABLE in {finding.kind for finding in examine(changed)}


@pytest.mark.parametrize("cell", ["d('2020-01-01') > 1", "len(facts) > 1"])
def test_a_cell_that_names_its_time_is_not(cell: str) -> None:
    assert depends_on_more(cell) is None


@pytest.mark.parametrize("number", [2**53 + 1, 10**23, 1e308, -1e300])
def test_a_number_that_the_engine_cannot_hold_is_refused(number: float) -> None:
    changed = document()
    changed["description"] = {"somewhere": [number]}
    assert any(
        "too large" in finding.message or "canonical" in finding.message for finding in examine(changed)
    )


def test_a_switch_is_checked_too() -> None:
    changed = document()
    switch = node("switch", "switchNode", statements=[{"id": "s", "condition": "age >"}])
    changed["graph"]["nodes"].append(switch)
    with pytest.raises(RulesetRefused, match="'age >' is broken"):
        check_document(changed)


@pytest.mark.parametrize(("age", "code", "hit"), [(17, "TOO_YOUNG", "young"), (18, "OLD_ENOUGH", "rest")])
def test_an_evaluation_gives_the_result_and_the_rules_that_matched(age: int, code: str, hit: str) -> None:
    evaluation = compiled(document()).evaluate({"age": age})
    assert evaluation.result == {"code": code}
    assert evaluation.trace == (
        {"node": "table", "rules": [hit]},
        {"node": "answer", "values": {"code": code}},
    )


@pytest.mark.requirement("C32")
def test_evaluating_twice_gives_the_same_trace_to_the_byte() -> None:
    ruleset = compiled(document())
    assert len({json.dumps(ruleset.evaluate({"age": 30}).trace) for _ in range(20)}) == 1


@pytest.mark.parametrize("context", [{}, {"age": "old"}, {"age": [1]}])
def test_a_context_that_does_not_fit_the_input_schema_is_refused_by_name(context: dict[str, Any]) -> None:
    with pytest.raises(RulesetInputRefused, match="age-check-1 refused its input"):
        compiled(document()).evaluate(context)


def test_an_answer_that_does_not_fit_the_output_schema_is_a_named_failure() -> None:
    with pytest.raises(RulesetFailed, match="age-check-1 failed") as failed:
        compiled(document()).evaluate({"age": None})
    assert "backtrace" not in failed.value.detail


def test_content_that_is_no_ruleset_is_a_named_error() -> None:
    for broken in ("", "[]", '{"graph": {"nodes": []}}'):
        with pytest.raises(RulesetUnreadable):
            compile_ruleset(broken)
