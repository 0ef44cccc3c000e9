"""What each node of a graph can read: the input schema, and what nodes before it add.

A scope is a JSON Schema of the object that the node gets; the empty schema stands for what is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

Schema = Mapping[str, Any]

UNKNOWN: Final[Schema] = {}


def scopes_of(graph: Mapping[str, Any]) -> dict[str, Schema]:
    """Return what each node can read, by its id. In a graph with a cycle nothing is known of the nodes in it."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    before: dict[str, list[str]] = {node_id: [] for node_id in nodes}
    for edge in graph.get("edges", []):
        if edge.get("targetId") in before and edge.get("sourceId") in nodes:
            before[edge["targetId"]].append(edge["sourceId"])
    has_switch = any(node["type"] == "switchNode" for node in graph["nodes"])
    scopes: dict[str, Schema] = {}
    while ready := [i for i in nodes if i not in scopes and scopes.keys() >= set(before[i])]:
        for node_id in ready:
            emitted = [_emitted(nodes[i], scopes[i]) for i in before[node_id]]
            scopes[node_id] = _merged(emitted, all_ran=not has_switch)
    return {node_id: scopes.get(node_id, UNKNOWN) for node_id in nodes}


def find(path: Sequence[str], scope: Schema) -> Schema | None:
    """Return the schema of what stands at a path, None if the scope certainly has nothing there."""
    found, is_optional = scope, False
    for name in path:
        if found == UNKNOWN:
            return UNKNOWN
        properties = found.get("properties", {})
        if name not in properties:
            return None
        is_optional = is_optional or name not in found.get("required", ())
        found = properties[name] if isinstance(properties[name], Mapping) else UNKNOWN
    return {**found, "x-optional": True} if is_optional and found else found


def _emitted(node: Mapping[str, Any], scope: Schema) -> Schema:
    """Return the object that a node hands on."""
    content = node["content"]
    match node["type"]:
        case "inputNode":
            schema = content.get("schema")
            return schema if isinstance(schema, Mapping) else UNKNOWN
        case "switchNode" | "outputNode":
            return scope
        case "decisionTableNode":
            own = _table_result(content)
        case "expressionNode":
            keys = [str(expression.get("key")) for expression in content.get("expressions", [])]
            own = _merged([_at(key, UNKNOWN) for key in keys])
        case _:
            return UNKNOWN
    if content.get("outputPath"):
        own = _at(str(content["outputPath"]), own)
    return _merged([scope, own]) if content.get("passThrough") else own


def _table_result(content: Mapping[str, Any]) -> Schema:
    if content.get("hitPolicy") != "first":
        return {"type": "array"} if content.get("outputPath") else UNKNOWN
    outputs = [output for output in content.get("outputs", []) if output.get("field")]
    return _merged([_at(str(o["field"]), _column_schema(content, str(o.get("id")))) for o in outputs])


def _column_schema(content: Mapping[str, Any], column: str) -> Schema:
    """Return the values that an output column takes if every one is written out, null where no rule matches."""
    values: list[Any] = [None]
    for rule in content.get("rules", []):
        try:
            values.append(orjson.loads(str(rule.get(column) or "null").replace("'", '"')))
        except orjson.JSONDecodeError:
            return UNKNOWN
    if not all(value is None or isinstance(value, str | bool) for value in values):
        return UNKNOWN
    always = _has_catch_all(content) and None not in values[1:]
    return {"enum": list(dict.fromkeys(values[1:] if always else values))}


def _has_catch_all(content: Mapping[str, Any]) -> bool:
    columns = [str(column.get("id")) for column in content.get("inputs", [])]
    return any(not any(rule.get(column) for column in columns) for rule in content.get("rules", []))


def _at(path: str, schema: Schema) -> Schema:
    for name in reversed(path.split(".")):
        schema = {"type": "object", "properties": {name: schema}, "required": [name]}
    return schema


def _merged(schemas: Sequence[Schema], *, all_ran: bool = True) -> Schema:
    """Return the schema of objects put together; whatever is not known of one is not known of all.

    Behind a switch not all ran: only what each of them has is certainly there.
    """
    if not schemas or any(schema == UNKNOWN for schema in schemas):
        return UNKNOWN
    merged: dict[str, Any] = {}
    required = [set(schema.get("required", ())) for schema in schemas]
    for schema in schemas:
        for name, value in schema.get("properties", {}).items():
            both = _is_open_object(merged.get(name)) and _is_open_object(value)
            merged[name] = _merged([merged[name], value]) if both else value
    certain = set.union(*required) if all_ran else set.intersection(*required)
    return {"type": "object", "properties": merged, "required": sorted(certain)}


def _is_open_object(schema: object) -> bool:
    return isinstance(schema, Mapping) and isinstance(schema.get("properties"), Mapping)
