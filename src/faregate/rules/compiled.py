"""A ruleset on the hot path: a table of rules turned into one Python function, each rule traced.

It answers as the engine's own evaluation of the same graph does, rule by rule, and names the rules that could not be
told as well. A document fits if its graph is an input, tables that collect with an `outputPath` each, and an output;
the tables' result columns are `code`, `action` and, where a rule is one, `knock_out`. It may name `conversions`, facts
that are reckoned from others (`conversion`). Deciding whether a document may be published is in `checks`; facts are not
held against the input schema here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from faregate.kernel.errors import InvalidError
from faregate.rules.conditions import Path, Test, Translation
from faregate.rules.conversion import Conversion, read_conversions
from faregate.rules.expressions import Token, paths_read, tokens_of
from faregate.rules.ruleset import content_sha256


class HotRulesetUnfit(InvalidError):
    """The document cannot be run on the hot path: it says which node or rule is in the way."""


class Action(StrEnum):
    """What a rule that fires asks for. A flag is written down and decides nothing."""

    ALLOW = "allow"
    DECLINE = "decline"
    REVIEW = "review"
    FLAG = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """A rule that fired. A knock-out declines whatever else fires, an allowing rule included."""

    rule: str
    code: str
    action: Action
    is_knock_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HotEvaluation:
    """Which rules fired, in the order of the tables, and which could not be told for want of a usable input."""

    fired: tuple[Fired, ...]
    unknown: tuple[str, ...]

    @property
    def deciding(self) -> Fired | None:
        """The rule that decides: a knock-out, else one that allows, else a decline, else a review; the first of them.

        None if nothing fired but flags: the rules let it pass to the model.
        """
        return min((one for one in self.fired if one.action is not Action.FLAG), key=_rank, default=None)

    @property
    def action(self) -> Action | None:
        """What the rules decide, None if nothing."""
        return None if (one := self.deciding) is None else one.action


_PRECEDENCE: Final = (Action.ALLOW, Action.DECLINE, Action.REVIEW)


def _rank(fired: Fired) -> int:
    return -1 if fired.is_knock_out else _PRECEDENCE.index(fired.action)


_Evaluate = Callable[[Mapping[str, Any]], tuple[list[Fired], list[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HotRuleset:
    """A version ready for the hot path; keep it, compiling takes time. Make it with `compile_hot`."""

    name: str
    version: int
    sha256: str
    rules: tuple[Fired, ...]
    codes: Mapping[str, Mapping[str, Any]]
    conversions: tuple[Conversion, ...]
    _evaluate: _Evaluate

    @property
    def label(self) -> str:
        """The version as decisions record it, such as `fraud-payments-1`."""
        return f"{self.name}-{self.version}"

    def evaluate(self, facts: Mapping[str, Any]) -> HotEvaluation:
        """Return which rules fire on facts of JSON values; whatever they are, nothing is raised."""
        fired, unknown = self._evaluate(self.completed(facts))
        return HotEvaluation(fired=tuple(fired), unknown=tuple(unknown))

    def completed(self, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return facts with those that the ruleset converts, whatever was given for them."""
        if not self.conversions:
            return facts
        return {**facts, **{conversion.fact: conversion.value(facts) for conversion in self.conversions}}


def compile_hot(content: str) -> HotRuleset:
    """Return the ruleset of canonical content. Raises `HotRulesetUnfit`."""
    try:
        document = orjson.loads(content)
        tables = _tables(document["graph"])
        rules = [(rule, table) for table in tables for rule in table["content"]["rules"]]
        fired = tuple(_fired(rule, table["content"]) for rule, table in rules)
        return HotRuleset(
            name=document["name"],
            version=document["version"],
            sha256=content_sha256(content),
            rules=fired,
            codes=document["code_set"]["codes"],
            conversions=read_conversions(document.get("conversions", [])),
            _evaluate=_function(rules, fired),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
        raise HotRulesetUnfit(f"no hot ruleset can be made of this: {error}") from error


def _tables(graph: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the tables in the order in which their rules are told."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    tables = [node for node in graph["nodes"] if node["type"] == "decisionTableNode"]
    ends = {
        kind: [i for i, node in nodes.items() if node["type"] == kind] for kind in ("inputNode", "outputNode")
    }
    if len(nodes) != len(tables) + 2 or not tables or not all(len(found) == 1 for found in ends.values()):
        raise HotRulesetUnfit("a hot ruleset is one input node, decision tables and one output node")
    wanted = sorted(
        edge
        for table in tables
        for edge in ((ends["inputNode"][0], table["id"]), (table["id"], ends["outputNode"][0]))
    )
    if sorted((edge["sourceId"], edge["targetId"]) for edge in graph["edges"]) != wanted:
        raise HotRulesetUnfit("every table of a hot ruleset stands between the input and the output node")
    places = [table["content"].get("outputPath") for table in tables]
    if not all(places) or len(set(places)) != len(places):
        raise HotRulesetUnfit("every table of a hot ruleset has an outputPath of its own")
    for table in tables:
        _require_fit(table)
    return tables


def _require_fit(table: Mapping[str, Any]) -> None:
    content, where = table["content"], table["id"]
    if content["hitPolicy"] != "collect" or content.get("inputField") or content.get("passThrough"):
        raise HotRulesetUnfit(
            f"{where}: a hot table collects, reads the whole input and passes nothing through"
        )
    fields = {column["field"] for column in content["outputs"]}
    if not {"code", "action"} <= fields <= {"code", "action", "knock_out"}:
        raise HotRulesetUnfit(f"{where}: the results of a hot table are code, action and knock_out")
    for column in content["inputs"]:
        if column.get("field") and _path(column["field"]) is None:
            raise HotRulesetUnfit(f"{where}: the input {column['field']!r} is no plain field")


def _path(field: str) -> Path | None:
    """Return the path of a field that is one, None for an expression."""
    read = paths_read(field)
    path = next(iter(read)) if len(read) == 1 else ()
    return path if path and tokens_of(".".join(path)) == tokens_of(field) else None


def _fired(rule: Mapping[str, Any], content: Mapping[str, Any]) -> Fired:
    said = {column["field"]: _said(rule, column) for column in content["outputs"]}
    where, knock_out = rule["_id"], said.get("knock_out")
    if not isinstance(said["code"], str) or said["action"] not in list(Action):
        raise HotRulesetUnfit(f"rule {where} needs a quoted code, and an action: {', '.join(Action)}")
    action = Action(said["action"])
    if not isinstance(knock_out, bool | None) or (knock_out and action is not Action.DECLINE):
        raise HotRulesetUnfit(f"rule {where}: knock_out is true or empty, and only for what declines")
    return Fired(rule=where, code=said["code"], action=action, is_knock_out=knock_out or False)


def _said(rule: Mapping[str, Any], column: Mapping[str, Any]) -> str | bool | None:
    """Return the literal in a result column, None if it is empty. Raises HotRulesetUnfit for what computes."""
    match tokens_of(rule.get(column["id"]) or ""):
        case []:
            return None
        case [Token(kind="text", value=value)] if "\\" not in value:
            return value[1:-1]
        case [Token(kind="name", value="true" | "false" as value)]:
            return value == "true"
    raise HotRulesetUnfit(f"rule {rule['_id']}: {column['field']} must be written out")


def _function(
    rules: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], fired: Sequence[Fired]
) -> _Evaluate:
    """Return the function of all rules. Its text is made of our own words, field names as literals, and numbers."""
    translation = Translation()
    body = [
        line
        for (rule, table), result in zip(rules, fired, strict=True)
        for line in _statements(_tests(rule, table["content"], translation), result, translation)
    ]
    lines = ["fired = []", "unknown = []", *translation.loads(), *body, "return fired, unknown"]
    source = "\n    ".join(["def evaluate(facts):", *lines])
    namespace = dict(translation.constants)
    exec(compile(source, "<hot ruleset>", "exec"), namespace)  # noqa: S102 - the text holds nothing of the document's but quoted field names
    evaluate: _Evaluate = namespace["evaluate"]
    return evaluate


def _tests(rule: Mapping[str, Any], content: Mapping[str, Any], translation: Translation) -> list[Test]:
    """Return all conditions of a rule, the quick ones first."""
    tests = [
        test
        for column in content["inputs"]
        if (cell := (rule.get(column["id"]) or "").strip())
        for test in translation.tests(cell, path=_path(column["field"]) if column.get("field") else None)
    ]
    return sorted(tests, key=lambda test: test.is_asked)


def _statements(tests: Sequence[Test], result: Fired, translation: Translation) -> Iterator[str]:
    rule = translation.constant(result)
    if not tests:
        yield f"fired.append({rule})"
        return
    yield f"if {' and '.join(test.possible for test in tests)}:"
    if all(test.holds == test.possible for test in tests):
        yield f"    fired.append({rule})"
        return
    yield f"    if {' and '.join(test.holds for test in tests)}: fired.append({rule})"
    yield f"    else: unknown.append({translation.constant(result.rule)})"
