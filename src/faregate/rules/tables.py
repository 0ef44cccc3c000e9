"""What is wrong with the rows of a decision table: some never decide, some inputs have none, some contradict.

Every field of a table is cut into pieces on which no cell changes, between the literals that its cells compare
with. The engine itself says on one value of each piece whether a cell matches, so that the analysis cannot
disagree with it about null, types or rounding. A row is then a box over pieces, and coverage is exact geometry
of boxes, as in Calvanese et al., "Semantics and Analysis of DMN Decision Tables" (BPM 2016). Fields are taken as
independent of each other: what is called unreachable is so, a gap may be an input that never comes.

A cell that computes something is not analysed, and the findings say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import zen

from faregate.rules.expressions import Literal, conjuncts, literals_of, only_compares, paths_read
from faregate.rules.findings import Finding, Kind, Severity
from faregate.rules.scope import UNKNOWN, Schema, find

BOXES_MAX: Final = 2_000
"""More pieces of a remainder than this are not followed: the table is then said to be too large to analyse."""

OVERLAPS: Final = ("allowed", "refused")
"""What a table may declare under `overlaps`; without it, a FIRST table is warned of them, a COLLECT table not."""

Box = tuple[int, ...]
"""The pieces of each field that a row takes, one bit a piece."""
_OTHER_TEXT: Final = "any other text"


class _TooManyBoxesError(Exception):
    """The remainder of a space has more parts than are followed."""


@dataclass(frozen=True, slots=True)
class _Condition:
    """What a cell says of one field: `unary` cells speak of `$`, the others of the field by its path."""

    variable: str
    cell: str
    unary: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """A row over the pieces of all fields. An uncertain one may take less than its box: a cell computes."""

    id: str
    box: Box
    is_certain: bool
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Table:
    """A table in the form that is analysed: the pieces of its fields, and its rows in order."""

    node: str
    is_first: bool
    overlaps: str | None
    pieces: Mapping[str, Sequence[Any]]
    rows: Sequence[_Row]
    space: Box


def table_findings(node: Mapping[str, Any], scope: Schema) -> list[Finding]:
    """Return what is wrong with the rows of a table node whose cells all compile, and what was not analysed."""
    found: list[Finding] = []
    table = _read(node, scope, notes := [])
    try:
        for analysis in (_unreachable, _gaps, _overlaps):
            found.extend(analysis(table))  # what was found before the error stays
    except _TooManyBoxesError:
        message = (
            f"rows are not analysed further: their conditions make more than {BOXES_MAX} different areas"
        )
        notes.append(_note(table.node, message))
    return [*found, *notes]


def _read(node: Mapping[str, Any], scope: Schema, notes: list[Finding]) -> _Table:
    content, node_id = node["content"], str(node["id"])
    read = [list(_conditions(rule, content["inputs"])) for rule in content["rules"]]
    said = [condition for conditions in read for condition in conditions if condition is not None]
    pieces = _pieces_of_fields(said, scope)
    space = tuple((1 << len(values)) - 1 for values in pieces.values())
    rows = []
    for rule, conditions in zip(content["rules"], read, strict=True):
        known = [c for c in conditions if c is not None and c.variable in pieces]
        is_certain = len(known) == len(conditions)
        if not is_certain:
            notes.append(_not_analysed(node_id, rule, conditions, pieces))
        outputs = tuple(str(rule.get(str(column.get("id"))) or "").strip() for column in content["outputs"])
        rows.append(_Row(str(rule["_id"]), _box(known, pieces, space), is_certain, outputs))
    is_first = content["hitPolicy"] == "first"
    return _Table(node_id, is_first, content.get("overlaps"), pieces, rows, space)


def _conditions(rule: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> Iterator[_Condition | None]:
    """Return the conditions of a row, None for each that is no comparison of one field with literals."""
    for column in columns:
        if not (cell := str(rule.get(str(column.get("id"))) or "").strip()):
            continue
        if name := str(column.get("field") or ""):
            yield _Condition(_plain(name), cell, unary=True) if only_compares(cell, variable=["$"]) else None
            continue
        for part in conjuncts(cell) or [cell]:
            paths = paths_read(part)
            path = next(iter(paths)) if len(paths) == 1 else ()
            is_simple = bool(path) and only_compares(part, variable=path)
            yield _Condition(".".join(path), part, unary=False) if is_simple else None


def _plain(name: str) -> str:
    return "".join(name.split())


def _pieces_of_fields(conditions: Sequence[_Condition], scope: Schema) -> dict[str, Sequence[Any]]:
    """Return one value of each piece of each field whose values are known."""
    literals: dict[str, set[Literal]] = {}
    for condition in conditions:
        literals.setdefault(condition.variable, set()).update(literals_of(condition.cell))
    cut = {name: _pieces(_schema_of(name, scope), literals[name]) for name in sorted(literals)}
    return {name: values for name, values in cut.items() if values is not None}


def _schema_of(variable: str, scope: Schema) -> Schema:
    if variable.startswith("len(") and variable.endswith(")"):
        return {"type": "integer", "minimum": 0}
    return find(variable.split("."), scope) or UNKNOWN


def _pieces(schema: Schema, literals: set[Literal]) -> list[Any] | None:
    """Return one value of each piece, None if the schema does not say which values there are."""
    values: list[Any] = []
    if "enum" in schema or "const" in schema:
        values = list(schema["enum"] if "enum" in schema else [schema["const"]])
        if any(isinstance(value, list | dict) for value in values):
            return None
    else:
        types = schema.get("type", [])
        types = [types] if isinstance(types, str) else list(types)
        if not types or set(types) & {"object", "array"}:
            return None
        values += [False, True] if "boolean" in types else []
        values += [None] if "null" in types else []
        texts = sorted(literal for literal in literals if isinstance(literal, str))
        values += [*texts, _other_than(texts)] if "string" in types else []
        if set(types) & {"integer", "number"}:
            values += _number_pieces(schema, literals, whole="number" not in types)
    return [*values, None] if schema.get("x-optional") and None not in values else values


def _other_than(texts: Sequence[str]) -> str:
    return _OTHER_TEXT if _OTHER_TEXT not in texts else max(texts, key=len) + "'"


def _number_pieces(schema: Schema, literals: set[Literal], *, whole: bool) -> list[int | float]:
    """Return the literals, a number between each two neighbours, and one beyond each end: those in bounds."""
    bounds = [schema.get(name) for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")]
    edges = {Decimal(str(bound)) for bound in bounds if bound is not None}
    edges |= {literal for literal in literals if isinstance(literal, Decimal)}
    points = sorted(edges) or [Decimal(0)]
    candidates = [points[0] - 1, *points, points[-1] + 1]
    if whole:
        near = {n for point in points for n in (point.to_integral_value() + d for d in (-1, 0, 1))}
        candidates = sorted({*near, *(point for point in candidates if point == point.to_integral_value())})
    else:
        candidates += [(low + high) / 2 for low, high in pairwise(points)]
    numbers = (_number(candidate) for candidate in sorted(set(candidates)) if _in_bounds(candidate, bounds))
    return list(dict.fromkeys(numbers))


def _in_bounds(value: Decimal, bounds: Sequence[Any]) -> bool:
    low, high, above, below = (None if bound is None else Decimal(str(bound)) for bound in bounds)
    return (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _box(conditions: Sequence[_Condition], pieces: Mapping[str, Sequence[Any]], space: Box) -> Box:
    box = dict(zip(pieces, space, strict=True))
    for condition in conditions:
        matched = (_matches(condition, value) for value in pieces[condition.variable])
        box[condition.variable] &= sum(1 << i for i, holds in enumerate(matched) if holds)
    return tuple(box.values())


def _matches(condition: _Condition, value: object) -> bool:
    """Ask the engine; a cell that fails on a value does not match it there either."""
    try:
        if condition.unary:
            return zen.evaluate_unary_expression(condition.cell, {"$": value}) is True
        context: Any = value
        for name in reversed(condition.variable.split(".")):
            context = {name: context}
        return zen.evaluate_expression(condition.cell, context) is True
    except Exception:  # noqa: BLE001 - the engine has no error of its own for a number that it cannot hold
        return False


def _unreachable(table: _Table) -> Iterator[Finding]:
    for number, row in enumerate(table.rows):
        if not all(row.box):
            never = [name for name, bits in zip(table.pieces, row.box, strict=True) if not bits]
            message = f"never matches: no value of {', '.join(never)} satisfies it"
            yield Finding(message=message, kind=Kind.UNREACHABLE_ROW, node=table.node, row=row.id)
        elif not _reached(table, number):
            takers = [r.id for r in _before(table, number) if _common(r.box, row.box) is not None]
            message = f"is never reached: what it matches is taken by {', '.join(takers)}"
            yield Finding(message=message, kind=Kind.UNREACHABLE_ROW, node=table.node, row=row.id)


def _before(table: _Table, number: int) -> list[_Row]:
    """Return the rows that certainly take what they match away from a row: none where all hits are collected."""
    return [row for row in table.rows[:number] if row.is_certain] if table.is_first else []


def _reached(table: _Table, number: int) -> list[Box]:
    """Return what a row matches and no row before it takes."""
    row = table.rows[number]
    return _without([row.box], _before(table, number)) if all(row.box) else []


def _gaps(table: _Table) -> Iterator[Finding]:
    """A table that collects has a result for no match, the empty list; one that takes the first has none."""
    if not table.is_first:
        return
    if not (left := _without([table.space], [row for row in table.rows if row.is_certain])):
        return
    uncertain = [row for row in table.rows if not row.is_certain]
    if certain := _without(left, uncertain):
        message = f"no row matches {_example(certain[0], table)}; add a row without conditions at the end"
        yield Finding(message=message, kind=Kind.GAP, node=table.node)
        return
    rows = ", ".join(row.id for row in uncertain)
    yield _note(table.node, f"whether a row matches every input is not analysed: {rows} compute something")


def _overlaps(table: _Table) -> Iterator[Finding]:
    """Name each row with the rows before it that match a common input.

    The catch-all at the end of a FIRST table is meant to do so, and whoever declares overlaps meant them too.
    """
    if table.overlaps == "allowed":
        return
    reached = [_reached(table, number) for number in range(len(table.rows))]
    for number, row in enumerate(table.rows):
        if not (row.is_certain and reached[number]) or (table.is_first and row.box == table.space):
            continue
        shared = [
            (earlier, part)
            for earlier, parts in zip(table.rows[:number], reached, strict=False)
            if earlier.is_certain and (part := _first_common(parts, row.box)) is not None
        ]
        if table.overlaps is None:
            shared = [(e, part) for e, part in shared if (e.outputs != row.outputs) is table.is_first]
        if shared:
            yield _overlap(table, row, [earlier.id for earlier, _ in shared], _example(shared[0][1], table))


def _overlap(table: _Table, row: _Row, earlier: Sequence[str], example: str) -> Finding:
    others = ", ".join(earlier)
    if table.overlaps == "refused":
        severity, message = Severity.ERROR, f"matches what {others} match too, for one {example}"
    elif table.is_first:
        severity, message = Severity.WARNING, f"gives way to {others} where both match, for one {example}"
    else:
        severity, message = Severity.WARNING, f"repeats the result of {others}, for one {example}"
    return Finding(message=message, kind=Kind.OVERLAP, severity=severity, node=table.node, row=row.id)


def _first_common(boxes: Sequence[Box], other: Box) -> Box | None:
    return next((both for box in boxes if (both := _common(box, other)) is not None), None)


def _common(one: Box, other: Box) -> Box | None:
    both = tuple(a & b for a, b in zip(one, other, strict=True))
    return both if all(both) else None


def _without(boxes: Sequence[Box], rows: Sequence[_Row]) -> list[Box]:
    """Return what of the boxes no row takes, as boxes that do not overlap."""
    left = list(boxes)
    for row in rows:
        left = [part for box in left for part in _difference(box, row.box)]
        if len(left) > BOXES_MAX:
            raise _TooManyBoxesError
    return left


def _difference(box: Box, taken: Box) -> Iterator[Box]:
    if _common(box, taken) is None:
        yield box
        return
    rest = list(box)
    for i, bits in enumerate(taken):
        if outside := rest[i] & ~bits:
            yield (*rest[:i], outside, *rest[i + 1 :])
        rest[i] &= bits


def _example(box: Box, table: _Table) -> str:
    """Name an input inside a box by the fields that it depends on."""
    values = []
    for (name, pieces), bits, whole in zip(table.pieces.items(), box, table.space, strict=True):
        if bits != whole:
            values.append(f"{name} = {_shown(pieces[(bits & -bits).bit_length() - 1])}")
    return ", ".join(values) or "any input"


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _not_analysed(
    node: str,
    rule: Mapping[str, Any],
    conditions: Sequence[_Condition | None],
    pieces: Mapping[str, Sequence[Any]],
) -> Finding:
    unknown = sorted({c.variable for c in conditions if c is not None and c.variable not in pieces})
    why = f"the values of {', '.join(unknown)} are not known" if unknown else "a cell computes something"
    return _note(node, f"is not analysed in full: {why}", row=str(rule["_id"]))


def _note(node: str, message: str, *, row: str | None = None) -> Finding:
    return Finding(message=message, kind=Kind.NOT_ANALYSED, severity=Severity.NOTE, node=node, row=row)
