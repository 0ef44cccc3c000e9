"""Rulesets of the hot path for tests: documents, and what the engine itself makes of their graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import zen

from faregate.rules.compiled import HotRuleset, compile_hot
from faregate.rules.ruleset import canonical

FIELDS = ("amount_minor", "country", "channel", "device_id", "features.count", "features.mean", "lists.block")

Rule = Mapping[str, str]


def rule(name: str, **cells: str) -> Rule:
    """A rule with cells by column: a field with `__` for the dot, or `any` for a whole expression."""
    told = {"code": f'"{name.upper()}_CODE"', "action": '"review"', **cells}
    return {"_id": name, **{key.replace("__", "."): cell for key, cell in told.items()}}


def table(name: str, rules: Sequence[Rule]) -> dict[str, Any]:
    """A table of all fields that collects."""
    inputs = [{"id": field, "name": field, "field": field} for field in FIELDS]
    outputs = [{"id": field, "name": field, "field": field} for field in ("code", "action", "knock_out")]
    return {
        "id": name,
        "type": "decisionTableNode",
        "name": name,
        "content": {
            "hitPolicy": "collect",
            "inputs": [*inputs, {"id": "any", "name": "any"}],
            "outputs": outputs,
            "rules": list(rules),
            "passThrough": False,
            "inputField": None,
            "outputPath": f"hits.{name}",
            "executionMode": "single",
        },
    }


def document(*tables: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """A document of tables that stand side by side; the input may be anything."""
    ends = [
        {"id": "input", "type": "inputNode", "name": "Facts", "content": {}},
        {"id": "hits", "type": "outputNode", "name": "Hits", "content": {}},
    ]
    edges = [
        {"id": f"{node['id']}-{end}", "type": "edge", "sourceId": source, "targetId": target}
        for node in tables
        for end, source, target in (("in", "input", node["id"]), ("out", node["id"], "hits"))
    ]
    graph = {"nodes": [*ends, *tables], "edges": edges}
    codes = {"version": "hot-codes-1", "codes": {}}
    base = {"format": 1, "name": "hot-rules", "version": 1, "code_set": codes, "code_fields": {"code": None}}
    return {**base, "graph": graph, **changed}


def hot(*tables: Mapping[str, Any], **changed: Any) -> HotRuleset:
    """A document compiled."""
    return compile_hot(canonical(document(*tables, **changed)))


def engine_fired(found: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """The rules that fire by the engine's own evaluation of the whole graph, in the order of the tables."""
    answer = (
        zen.ZenEngine().create_decision(json.dumps(found["graph"])).evaluate(dict(facts), {"trace": True})
    )
    tables = [node["id"] for node in found["graph"]["nodes"] if node["type"] == "decisionTableNode"]
    return [hit["rule"]["_id"] for name in tables for hit in answer["trace"][name]["traceData"]]
