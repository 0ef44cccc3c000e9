"""What a ruleset must pass before it may be published: all that the engine itself would pass in silence.

The engine answers `{}` for a broken cell and checks nothing without a schema, so every cell and expression is
compiled here, and schemas are required. Rows of tables are analysed in `tables`. Whether the rules are wise does
not belong here.

Refused: what is broken, fields and codes that nobody declared, rows that never decide, a FIRST table without a row
for some input, and overlaps in a table that declares `"overlaps": "refused"`. Warned of: rows of a FIRST table that
give way to others, unless it declares `"overlaps": "allowed"`, and rows of a COLLECT table that repeat a result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import zen
from jsonschema import Draft202012Validator, SchemaError

from faregate.kernel.errors import InvalidError
from faregate.rules.expressions import depends_on_more, paths_read
from faregate.rules.findings import Finding, Kind, Severity
from faregate.rules.ruleset import INPUT_NODE_ID, NAME, VERSION_MAX, canonical, engine_graph, engine_message
from faregate.rules.scope import UNKNOWN, Schema, find, scopes_of
from faregate.rules.tables import OVERLAPS, table_findings

NUMBER_MAX: Final = 2**53
_KEYS: Final = {"format", "name", "version", "code_set", "code_fields", "graph"}
_CODE_LITERAL: Final = re.compile(r"""["']([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)["']""")
_WHOLE_LITERAL: Final = re.compile(r"""["']([^"'\\]*)["']""")


class RulesetRefused(InvalidError):
    """The document is not fit to be published.

    `problems` names each reason with its node, row and column; correct them all and publish it again.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the checks are in a document, and what can be read there."""

    node: str
    scope: Schema
    node_names: frozenset[str]
    codes: Mapping[str, Mapping[str, Any]]
    code_fields: Mapping[str, str | None]
    row: str | None = None
    column: str | None = None

    def finding(self, kind: Kind, message: str) -> Finding:
        """Return an error at this place."""
        return Finding(message=message, kind=kind, node=self.node, row=self.row, column=self.column)

    def at(self, *, row: str | None = None, column: str | None = None) -> _Place:
        """Return a place inside this node."""
        return replace(self, row=row, column=column)


def examine(document: Mapping[str, Any]) -> list[Finding]:
    """Return all that can be said against a document, errors first; only errors stand against publishing it."""
    found = list(_shape_findings(document))
    if not found:
        try:
            found = [*_graph_findings(document), *_engine_findings(document["graph"])]
        except RecursionError:
            found = [Finding(message="the document is nested too deeply", kind=Kind.DOCUMENT)]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def check_document(document: Mapping[str, Any]) -> list[Finding]:
    """Return the warnings and notes if the document may be published; raise `RulesetRefused` with all errors."""
    return refuse_errors(examine(document))


def refuse_errors(found: Sequence[Finding]) -> list[Finding]:
    """Return findings without errors; raise `RulesetRefused` with all errors."""
    if errors := [finding for finding in found if finding.severity is Severity.ERROR]:
        said = "; ".join(error.text for error in errors)
        documents = [error.document() for error in errors]
        raise RulesetRefused(f"the ruleset is refused: {said}", problems=documents)
    return list(found)


def _shape_findings(document: object) -> Iterator[Finding]:
    problems = _shape_problems(document) if isinstance(document, Mapping) else ["a ruleset is a JSON object"]
    yield from (Finding(message=problem, kind=Kind.DOCUMENT) for problem in problems)


def _shape_problems(document: Mapping[str, Any]) -> Iterator[str]:
    if missing := sorted(_KEYS - document.keys()):
        yield f"the document lacks {', '.join(missing)}"
        return
    if document["format"] != 1:
        yield f"format {document['format']!r} is unknown"
    if not isinstance(document["name"], str) or not NAME.fullmatch(document["name"]):
        yield "name must be lower-case words joined by hyphens"
    if type(document["version"]) is not int or not 1 <= document["version"] <= VERSION_MAX:
        yield "version must be a positive integer of at most nine digits"
    if not _is_code_set(document["code_set"]):
        yield "code_set must hold a version and an object of codes"
    if not _is_code_fields(document["code_fields"]):
        yield "code_fields must be an object whose values are names or null"
    if (problem := _uncanonical(document)) is not None:
        yield problem
    yield from _node_list_problems(document["graph"])


def _is_code_set(code_set: object) -> bool:
    if not isinstance(code_set, Mapping) or not isinstance(code_set.get("version"), str):
        return False
    codes = code_set.get("codes")
    return isinstance(codes, Mapping) and all(isinstance(code, Mapping) for code in codes.values())


def _is_code_fields(fields: object) -> bool:
    return isinstance(fields, Mapping) and all(v is None or isinstance(v, str) for v in fields.values())


def _uncanonical(document: Mapping[str, Any]) -> str | None:
    """Return what keeps a document from having a hash: numbers that not every JSON reader keeps, endless nesting."""
    try:
        canonical(document)
    except (ValueError, TypeError, RecursionError) as error:
        return f"the document has no canonical form: {error}"
    if (number := next(_too_large(document), None)) is not None:
        return f"the number {number} is too large: the engine reckons up to {NUMBER_MAX}"
    return None


def _too_large(value: object) -> Iterator[float]:
    """Yield the numbers that the engine cannot hold exactly."""
    if isinstance(value, Mapping):
        yield from (found for one in value.values() for found in _too_large(one))
    elif isinstance(value, list):
        yield from (found for one in value for found in _too_large(one))
    elif isinstance(value, int | float) and abs(value) > NUMBER_MAX:
        yield value


def _node_list_problems(graph: object) -> Iterator[str]:
    nodes = graph.get("nodes") if isinstance(graph, Mapping) else None
    if not isinstance(nodes, list) or not all(_is_node(node) for node in nodes):
        yield "graph must hold a list of nodes, each with id, type and content"
        return
    edges = graph.get("edges", []) if isinstance(graph, Mapping) else []
    if not isinstance(edges, list) or not all(_is_edge(edge) for edge in edges):
        yield "the edges of the graph must be a list of objects with sourceId and targetId"
    ids = [node["id"] for node in nodes]
    yield from (f"two nodes have the id {i}" for i in sorted({i for i in ids if ids.count(i) > 1}))
    inputs = [node["id"] for node in nodes if node["type"] == "inputNode"]
    if inputs != [INPUT_NODE_ID]:
        yield f"there must be exactly one input node, with the id {INPUT_NODE_ID!r}"
    if not any(node["type"] == "outputNode" for node in nodes):
        yield "there must be an output node"


def _is_edge(edge: object) -> bool:
    return isinstance(edge, Mapping) and all(isinstance(edge.get(k), str) for k in ("sourceId", "targetId"))


def _is_node(node: object) -> bool:
    return (
        isinstance(node, Mapping)
        and isinstance(node.get("id"), str)
        and isinstance(node.get("type"), str)
        and isinstance(node.get("content"), Mapping)
    )


def _graph_findings(document: Mapping[str, Any]) -> Iterator[Finding]:
    nodes = document["graph"]["nodes"]
    sound = [node for node in nodes if not _malformed(node) and _has_sound_schema(node)]
    scopes = scopes_of({**document["graph"], "nodes": sound})
    for node in nodes:
        place = _Place(
            node=node["id"],
            scope=scopes.get(node["id"], UNKNOWN),
            node_names=frozenset(str(other.get("name")) for other in nodes),
            codes=document["code_set"]["codes"],
            code_fields=document["code_fields"],
        )
        if malformed := _malformed(node):
            yield place.finding(Kind.GRAPH, malformed)
        else:
            yield from _node_findings(node, place)


_FORMATS: Final = Draft202012Validator.FORMAT_CHECKER
_TEXT: Final = {"type": ["string", "null"]}
_COLUMNS: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["id"],
        "properties": {"id": {"type": "string"}, "name": _TEXT, "field": _TEXT},
    },
}
_CONTENT: Final = Draft202012Validator(
    {
        "properties": {
            "inputs": _COLUMNS,
            "outputs": _COLUMNS,
            "expressions": {"items": {"properties": {"id": _TEXT, "key": _TEXT, "value": _TEXT}}},
            "statements": {"items": {"properties": {"id": _TEXT, "condition": _TEXT}}},
            "inputField": _TEXT,
            "outputPath": _TEXT,
            "passThrough": {"type": ["boolean", "null"]},
        }
    }
)


def _malformed(node: Mapping[str, Any]) -> str | None:
    """Return what keeps a node from being read, None if its parts are of the right kind."""
    content = node["content"]
    match node["type"]:
        case "decisionTableNode":
            if not all(_is_list_of_objects(content.get(key)) for key in ("inputs", "outputs", "rules")):
                return "inputs, outputs and rules must be lists of objects, none empty"
        case "expressionNode":
            if not _is_list_of_objects(content.get("expressions")):
                return "expressions must be a list of objects, not empty"
        case "switchNode":
            if not _is_list_of_objects(content.get("statements")):
                return "statements must be a list of objects, not empty"
        case "inputNode" | "outputNode":
            return None
        case other:
            return f"a {other} is not allowed"
    for error in _CONTENT.iter_errors(content):
        return f"{'/'.join(str(part) for part in error.path)}: {error.message}"
    return None


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _node_findings(node: Mapping[str, Any], place: _Place) -> Iterator[Finding]:
    content = node["content"]
    if content.get("inputField"):
        place = replace(place, scope=UNKNOWN)  # it reads the elements of that, of which nothing is known
    match node["type"]:
        case "decisionTableNode":
            found = list(_table_findings(content, place))
            yield from found
            if not any(finding.kind in (Kind.BROKEN_CELL, Kind.GRAPH) for finding in found):
                yield from table_findings(node, place.scope)
        case "expressionNode":
            yield from _expression_findings(content, place)
        case "switchNode":
            for statement in content["statements"]:
                there = place.at(column=str(statement.get("id")))
                yield from _cell_findings(statement.get("condition"), unary=False, place=there)
        case _:
            yield from _schema_findings(content, place)


def _has_sound_schema(node: Mapping[str, Any]) -> bool:
    try:
        Draft202012Validator.check_schema(node["content"].get("schema") or {})
    except SchemaError:
        return False
    return True


def _schema_findings(content: Mapping[str, Any], place: _Place) -> Iterator[Finding]:
    schema = content.get("schema")
    if not isinstance(schema, Mapping) or schema.get("type") != "object" or not schema.get("required"):
        yield place.finding(Kind.SCHEMA, "a JSON Schema of an object with required properties is missing")
        return
    try:
        Draft202012Validator.check_schema(schema, format_checker=_FORMATS)
    except SchemaError as error:
        yield place.finding(Kind.SCHEMA, f"the JSON Schema is broken: {error.message}")
    yield from _unknown_codes(str(schema), place)


def _table_findings(content: Mapping[str, Any], place: _Place) -> Iterator[Finding]:
    if content.get("hitPolicy") not in ("first", "collect"):
        yield place.finding(Kind.GRAPH, "hitPolicy must be 'first' or 'collect'")
    if content.get("overlaps", "allowed") not in OVERLAPS:
        yield place.finding(Kind.GRAPH, "overlaps must be 'allowed' or 'refused', where it is given")
    for column in content["inputs"]:
        if path := str(column.get("field") or ""):
            yield from _cell_findings(path, unary=False, place=place.at(column=path))
    ids = [rule.get("_id") for rule in content["rules"]]
    if not all(isinstance(i, str) and i for i in ids) or len(set(ids)) != len(ids):
        yield place.finding(Kind.GRAPH, "every rule needs an _id of its own")
    for rule in content["rules"]:
        yield from _rule_findings(rule, content, place=place)


def _rule_findings(
    rule: Mapping[str, Any], content: Mapping[str, Any], *, place: _Place
) -> Iterator[Finding]:
    row, inputs, outputs = str(rule.get("_id")), content["inputs"], content["outputs"]
    known = {"_id", "_description", *(str(column.get("id")) for column in (*inputs, *outputs))}
    for key in sorted(rule.keys() - known):
        yield place.at(row=row).finding(Kind.GRAPH, f"there is no column {key}")
    for column in inputs:
        cell, unary = rule.get(str(column.get("id"))), bool(column.get("field"))
        there = place.at(row=row, column=str(column.get("field") or column.get("name")))
        yield from _cell_findings(cell, unary=unary, place=there)
    for column in outputs:
        cell, there = rule.get(str(column.get("id"))), place.at(row=row, column=str(column.get("field")))
        yield from _cell_findings(cell, unary=False, place=there)
        if str(column.get("field")) in place.code_fields:
            yield from _code_findings(cell, place=there)


def _cell_findings(cell: object, *, unary: bool, place: _Place) -> Iterator[Finding]:
    if cell is None or cell == "":
        return  # an empty condition matches everything, an empty result sets nothing
    if not isinstance(cell, str):
        yield place.finding(Kind.BROKEN_CELL, f"the cell {cell!r} must be text")
        return
    if (problem := _uncompiled(cell, unary=unary)) is not None:
        yield place.finding(Kind.BROKEN_CELL, f"the cell {cell!r} is broken: {problem}")
    else:
        if (cause := depends_on_more(cell)) is not None:
            message = f"the cell {cell!r} depends on {cause}: nobody could decide the same again"
            yield place.finding(Kind.NOT_REPEATABLE, message)
        yield from _unknown_fields(cell, place)
    yield from _unknown_codes(cell, place)


def _unknown_fields(cell: str, place: _Place) -> Iterator[Finding]:
    for path in sorted(paths_read(cell)):
        if path[0] == "$nodes":
            is_known = len(path) < 2 or path[1] in place.node_names
        else:
            is_known = find(path, place.scope) is not None
        if not is_known:
            name = ".".join(path)
            yield place.finding(
                Kind.UNKNOWN_FIELD, f"neither the input schema nor a node before it has {name}"
            )


def _code_findings(cell: object, *, place: _Place) -> Iterator[Finding]:
    literal = _WHOLE_LITERAL.fullmatch(cell.strip()) if isinstance(cell, str) else None
    if literal is None:
        yield place.finding(Kind.UNKNOWN_CODE, f"must be one quoted code, not {cell!r}")
        return
    code, needed = literal.group(1), place.code_fields[str(place.column)]
    if code not in place.codes:
        yield place.finding(Kind.UNKNOWN_CODE, f"the code {code} is not in the code set")
    elif needed is not None and not place.codes[code].get(needed):
        yield place.finding(Kind.UNMAPPED_CODE, f"the code {code} is not mapped: it needs {needed}")


def _expression_findings(content: Mapping[str, Any], place: _Place) -> Iterator[Finding]:
    for expression in content["expressions"]:
        key, value = expression.get("key"), expression.get("value")
        if not key or not value:
            yield place.finding(Kind.GRAPH, "an expression needs a key and a value")
            continue
        yield from _cell_findings(value, unary=False, place=place.at(column=str(key)))


def _unknown_codes(text: str, place: _Place) -> Iterator[Finding]:
    """Find quoted codes wherever they stand: a code that nobody declared cannot be explained to anybody."""
    for code in sorted(set(_CODE_LITERAL.findall(text)) - place.codes.keys()):
        yield place.finding(Kind.UNKNOWN_CODE, f"the code {code} is not in the code set")


def _uncompiled(expression: str, *, unary: bool) -> str | None:
    """Return what the engine's compiler says against an expression, None if it compiles."""
    try:
        (zen.compile_unary_expression if unary else zen.compile_expression)(expression)
    except RuntimeError as error:
        return engine_message(error)
    return None


def _engine_findings(graph: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        zen.ZenEngine().create_decision(engine_graph(graph)).validate()
    except RuntimeError as error:
        message = f"the engine refuses the graph: {engine_message(error)}"
        yield Finding(message=message, kind=Kind.GRAPH)
    except (TypeError, ValueError) as error:
        yield Finding(message=f"the engine cannot read the graph: {error}", kind=Kind.GRAPH)
