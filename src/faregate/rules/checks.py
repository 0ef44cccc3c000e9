"""What a ruleset must pass before it may be published: all that the engine itself would pass in silence.

The engine answers `{}` for a broken cell and checks nothing without a schema, so every cell and expression is
compiled here, and schemas are required. Whether the rules are wise does not belong here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import zen
from jsonschema import Draft202012Validator, SchemaError

from faregate.kernel.errors import InvalidError
from faregate.rules.ruleset import INPUT_NODE_ID, engine_graph, engine_message

_KEYS: Final = {"format", "name", "version", "code_set", "code_fields", "graph"}
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{2,62}")
_PATH: Final = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")
_CODE_LITERAL: Final = re.compile(r"""["']([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)["']""")
_WHOLE_LITERAL: Final = re.compile(r"""["']([^"'\\]*)["']""")


class RulesetRefused(InvalidError):
    """The document is not fit to be published; `problems` names each reason with its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(f"the ruleset is refused: {'; '.join(problems)}", problems=list(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graph:
    """The parts of a document that the checks look at together."""

    nodes: Sequence[Mapping[str, Any]]
    codes: Mapping[str, Mapping[str, Any]]
    code_fields: Mapping[str, str | None]
    inputs: Mapping[str, Any]
    produced: frozenset[str] = field(default=frozenset())


def check_document(document: Mapping[str, Any]) -> None:
    """Return if the document may be published. Raises `RulesetRefused` with everything that is wrong."""
    problems = list(_shape_problems(document))
    if not problems:
        problems = list(_graph_problems(document))
    if not problems:
        problems = list(_engine_problems(document["graph"]))
    if problems:
        raise RulesetRefused(problems)


def _shape_problems(document: Mapping[str, Any]) -> Iterator[str]:
    if missing := sorted(_KEYS - document.keys()):
        yield f"the document lacks {', '.join(missing)}"
        return
    if document["format"] != 1:
        yield f"format {document['format']!r} is unknown"
    if not isinstance(document["name"], str) or not _NAME.fullmatch(document["name"]):
        yield "name must be lower-case words joined by hyphens"
    if type(document["version"]) is not int or document["version"] < 1:
        yield "version must be a positive integer"
    if not _is_code_set(document["code_set"]):
        yield "code_set must hold a version and an object of codes"
    if not isinstance(document["code_fields"], Mapping):
        yield "code_fields must be an object"
    yield from _node_list_problems(document["graph"])


def _is_code_set(code_set: object) -> bool:
    if not isinstance(code_set, Mapping) or not isinstance(code_set.get("version"), str):
        return False
    codes = code_set.get("codes")
    return isinstance(codes, Mapping) and all(isinstance(code, Mapping) for code in codes.values())


def _node_list_problems(graph: object) -> Iterator[str]:
    nodes = graph.get("nodes") if isinstance(graph, Mapping) else None
    if not isinstance(nodes, list) or not all(_is_node(node) for node in nodes):
        yield "graph must hold a list of nodes, each with id, type and content"
        return
    ids = [node["id"] for node in nodes]
    yield from (f"two nodes have the id {i}" for i in sorted({i for i in ids if ids.count(i) > 1}))
    inputs = [node["id"] for node in nodes if node["type"] == "inputNode"]
    if inputs != [INPUT_NODE_ID]:
        yield f"there must be exactly one input node, with the id {INPUT_NODE_ID!r}"
    if not any(node["type"] == "outputNode" for node in nodes):
        yield "there must be an output node"


def _is_node(node: object) -> bool:
    return (
        isinstance(node, Mapping)
        and isinstance(node.get("id"), str)
        and isinstance(node.get("type"), str)
        and isinstance(node.get("content"), Mapping)
    )


def _graph_problems(document: Mapping[str, Any]) -> Iterator[str]:
    graph = _graph(document)
    for node in graph.nodes:
        checker = {
            "inputNode": _schema_problems,
            "outputNode": _schema_problems,
            "decisionTableNode": _table_problems,
            "expressionNode": _expression_problems,
            "switchNode": _switch_problems,
        }.get(node["type"])
        if checker is None:
            yield f"{node['id']}: a {node['type']} is not allowed"
        else:
            yield from (f"{node['id']}: {problem}" for problem in checker(node["content"], graph))


def _graph(document: Mapping[str, Any]) -> _Graph:
    nodes = document["graph"]["nodes"]
    entry = next(node for node in nodes if node["type"] == "inputNode")["content"].get("schema")
    return _Graph(
        nodes=nodes,
        codes=document["code_set"]["codes"],
        code_fields=document["code_fields"],
        inputs=entry if isinstance(entry, Mapping) else {},
        produced=frozenset(name for node in nodes for name in _produced(node["content"])),
    )


def _produced(content: Mapping[str, Any]) -> Iterator[str]:
    if content.get("outputPath"):
        yield str(content["outputPath"]).split(".")[0]
    for output in content.get("outputs", []):
        yield str(output.get("field", "")).split(".")[0]
    for expression in content.get("expressions", []):
        yield str(expression.get("key", "")).split(".")[0]


def _schema_problems(content: Mapping[str, Any], graph: _Graph) -> Iterator[str]:
    schema = content.get("schema")
    if not isinstance(schema, Mapping) or schema.get("type") != "object" or not schema.get("required"):
        yield "a JSON Schema of an object with required properties is missing"
        return
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        yield f"the JSON Schema is broken: {error.message}"
    yield from _unknown_codes(str(schema), graph)


def _table_problems(content: Mapping[str, Any], graph: _Graph) -> Iterator[str]:
    inputs, outputs, rules = (content.get(key) for key in ("inputs", "outputs", "rules"))
    if not (_is_list_of_objects(inputs) and _is_list_of_objects(outputs) and _is_list_of_objects(rules)):
        yield "inputs, outputs and rules must be lists of objects, none empty"
        return
    if content.get("hitPolicy") not in ("first", "collect"):
        yield "hitPolicy must be 'first' or 'collect'"
    for column in inputs or []:
        yield from _column_problems(column, graph)
    ids = [rule.get("_id") for rule in rules or []]
    if not all(isinstance(i, str) and i for i in ids) or len(set(ids)) != len(ids):
        yield "every rule needs an _id of its own"
    for rule in rules or []:
        for problem in _rule_problems(rule, inputs=inputs or [], outputs=outputs or [], graph=graph):
            yield f"rule {rule.get('_id')}: {problem}"


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _column_problems(column: Mapping[str, Any], graph: _Graph) -> Iterator[str]:
    if not (path := column.get("field")):
        return
    if (problem := _uncompiled(path, unary=False)) is not None:
        yield f"column {path}: {problem}"
    elif _PATH.fullmatch(path) and not _is_readable(path, graph):
        yield f"column {path}: neither the input schema nor a node before it has that"


def _is_readable(path: str, graph: _Graph) -> bool:
    head, *_ = path.split(".")
    return head in graph.produced or _in_schema(path.split("."), graph.inputs)


def _in_schema(path: Sequence[str], schema: Mapping[str, Any]) -> bool:
    for name in path:
        properties = schema.get("properties", {})
        if name not in properties:
            return False
        schema = properties[name]
    return True


def _rule_problems(
    rule: Mapping[str, Any],
    *,
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
    graph: _Graph,
) -> Iterator[str]:
    known = {"_id", "_description", *(c.get("id") for c in inputs), *(c.get("id") for c in outputs)}
    yield from (f"there is no column {key}" for key in sorted(rule.keys() - known))
    for column in inputs:
        cell, unary = rule.get(str(column.get("id"))), bool(column.get("field"))
        yield from _cell_problems(cell, unary=unary, graph=graph)
    for column in outputs:
        cell = rule.get(str(column.get("id")))
        yield from _cell_problems(cell, unary=False, graph=graph)
        if column.get("field") in graph.code_fields:
            yield from _code_problems(cell, column=str(column["field"]), graph=graph)


def _cell_problems(cell: object, *, unary: bool, graph: _Graph) -> Iterator[str]:
    if cell is None or cell == "":
        return  # an empty condition matches everything, an empty result sets nothing
    if not isinstance(cell, str):
        yield f"the cell {cell!r} must be text"
        return
    if (problem := _uncompiled(cell, unary=unary)) is not None:
        yield f"the cell {cell!r} is broken: {problem}"
    yield from _unknown_codes(cell, graph)


def _code_problems(cell: object, *, column: str, graph: _Graph) -> Iterator[str]:
    literal = _WHOLE_LITERAL.fullmatch(cell.strip()) if isinstance(cell, str) else None
    if literal is None:
        yield f"{column} must be one quoted code, not {cell!r}"
        return
    code, needed = literal.group(1), graph.code_fields[column]
    if code not in graph.codes:
        yield f"the code {code} is not in the code set"
    elif needed is not None and not graph.codes[code].get(needed):
        yield f"the code {code} is not mapped: {column} needs {needed}"


def _expression_problems(content: Mapping[str, Any], graph: _Graph) -> Iterator[str]:
    expressions = content.get("expressions")
    if not isinstance(expressions, list) or not _is_list_of_objects(expressions):
        yield "expressions must be a list of objects, not empty"
        return
    for expression in expressions:
        key, value = expression.get("key"), expression.get("value")
        if not key or not value:
            yield "an expression needs a key and a value"
            continue
        yield from (f"{key}: {problem}" for problem in _cell_problems(value, unary=False, graph=graph))


def _switch_problems(content: Mapping[str, Any], graph: _Graph) -> Iterator[str]:
    statements = content.get("statements")
    if not isinstance(statements, list) or not _is_list_of_objects(statements):
        yield "statements must be a list of objects, not empty"
        return
    for statement in statements:
        yield from _cell_problems(statement.get("condition"), unary=False, graph=graph)


def _unknown_codes(text: str, graph: _Graph) -> Iterator[str]:
    """Find quoted codes wherever they stand: a code that nobody declared cannot be explained to anybody."""
    for code in sorted(set(_CODE_LITERAL.findall(text)) - graph.codes.keys()):
        yield f"the code {code} is not in the code set"


def _uncompiled(expression: str, *, unary: bool) -> str | None:
    """Return what the engine's compiler says against an expression, None if it compiles."""
    try:
        (zen.compile_unary_expression if unary else zen.compile_expression)(expression)
    except RuntimeError as error:
        return engine_message(error)
    return None


def _engine_problems(graph: Mapping[str, Any]) -> Iterator[str]:
    try:
        zen.ZenEngine().create_decision(engine_graph(graph)).validate()
    except RuntimeError as error:
        yield f"the engine refuses the graph: {engine_message(error)}"
    except (TypeError, ValueError) as error:
        yield f"the engine cannot read the graph: {error}"
