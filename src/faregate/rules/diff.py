"""What differs between two versions of a ruleset: nodes, rows, cells, expressions, schemas, edges and codes.

Rows are told apart by their `_id`, so that a row that only moved is not taken for a new one. Whether a difference
is wanted does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_MISSING: Final = object()
_OWN_FORM: Final = {"inputs", "outputs", "rules", "expressions", "statements", "schema"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing added, removed, changed or moved. `place` leads to it; values are None where there is none."""

    change: str
    place: tuple[str, ...]
    before: Any = None
    after: Any = None

    @property
    def text(self) -> str:
        """The difference as one line."""
        values = {
            "added": f" {_short(self.after)}",
            "removed": f" {_short(self.before)}",
            "changed": f" {_short(self.before)} → {_short(self.after)}",
            "moved": f" from place {self.before} to {self.after}",
        }[self.change]
        return f"{self.change:8}{' / '.join(self.place)}:{values}"

    def document(self) -> dict[str, Any]:
        """Return the difference as JSON values."""
        return {
            "change": self.change,
            "place": list(self.place),
            "before": self.before,
            "after": self.after,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesetDiff:
    """All differences from one version to another, in the order of the document."""

    before: str
    after: str
    differences: tuple[Difference, ...] = field(default=())

    def document(self) -> dict[str, Any]:
        """Return the diff as JSON values."""
        return {
            "before": self.before,
            "after": self.after,
            "differences": [difference.document() for difference in self.differences],
        }


def diff_documents(before: Mapping[str, Any], after: Mapping[str, Any]) -> RulesetDiff:
    """Return what differs between two documents that may be published."""
    found = [
        *_values(("document",), _rest(before), _rest(after)),
        *_values(("code_fields",), before["code_fields"], after["code_fields"]),
        *_code_sets(before["code_set"], after["code_set"]),
        *_graphs(before["graph"], after["graph"]),
    ]
    return RulesetDiff(before=_label(before), after=_label(after), differences=tuple(found))


def _label(document: Mapping[str, Any]) -> str:
    return f"{document['name']}-{document['version']}"


def _rest(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document's own words; name and version are those that are compared."""
    apart = {"name", "version", "code_fields", "code_set", "graph"}
    return {key: value for key, value in document.items() if key not in apart}


def _code_sets(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    plain = [{k: v for k, v in code_set.items() if k != "codes"} for code_set in (before, after)]
    yield from _values(("code_set",), plain[0], plain[1])
    yield from _values(("code_set", "codes"), before["codes"], after["codes"])


def _graphs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    old, new = ({node["id"]: node for node in graph["nodes"]} for graph in (before, after))
    for node_id in [*old, *(i for i in new if i not in old)]:
        if node_id not in new:
            yield Difference(change="removed", place=(node_id,), before=old[node_id]["type"])
        elif node_id not in old:
            yield Difference(change="added", place=(node_id,), after=new[node_id]["type"])
        else:
            yield from _nodes(old[node_id], new[node_id])
    arrows = [
        {f"{e.get('sourceId')} → {e.get('targetId')}": e.get("sourceHandle") for e in graph.get("edges", [])}
        for graph in (before, after)
    ]
    yield from _values(("edges",), arrows[0], arrows[1])


def _nodes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    place, old, new = (str(before["id"]),), before["content"], after["content"]
    yield from _values(place, _own_words(before), _own_words(after))
    yield from _values(place, _plain(old), _plain(new))
    yield from _leaves((*place, "schema"), old.get("schema", _MISSING), new.get("schema", _MISSING))
    for part in ("inputs", "outputs"):
        yield from _rows((*place, part), _by("id", old.get(part)), _by("id", new.get(part)))
    yield from _rows((*place, "rows"), _table_rows(old), _table_rows(new))
    for part, key in (("expressions", "key"), ("statements", "id")):
        yield from _rows((*place, part), _by(key, old.get(part)), _by(key, new.get(part)))


def _own_words(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: node[key] for key in ("type", "name") if key in node}


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in _OWN_FORM}


def _by(key: str, items: Sequence[Mapping[str, Any]] | None) -> dict[str, dict[str, Any]]:
    return {
        str(item.get(key)): {k: v for k, v in item.items() if k not in (key, "id")} for item in items or ()
    }


def _table_rows(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each row's cells by the names of their columns; an empty cell is none."""
    columns = [*content.get("inputs", ()), *content.get("outputs", ())]
    shown = [str(column.get("field") or column.get("name")) for column in columns]
    names = {
        column.get("id"): name if shown.count(name) == 1 else f"{name} ({column.get('id')})"
        for column, name in zip(columns, shown, strict=True)
    }
    return {
        row["_id"]: {
            names.get(k, str(k).lstrip("_")): v for k, v in row.items() if k != "_id" and v not in (None, "")
        }
        for row in content.get("rules", ())
    }


def _rows(
    place: tuple[str, ...], before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> Iterator[Difference]:
    """Compare things that have an order and a name of their own."""
    for name in [*before, *(n for n in after if n not in before)]:
        there = (*place, name)
        if name in before and name in after:
            yield from _values(there, before[name], after[name])
        elif name in before:
            yield Difference(change="removed", place=there, before=dict(before[name]))
        else:
            yield Difference(change="added", place=there, after=dict(after[name]))
    stayed = [[name for name in side if name in before and name in after] for side in (before, after)]
    for name in _moved(stayed[0], stayed[1]):
        places = [side.index(name) + 1 for side in stayed]
        yield Difference(change="moved", place=(*place, name), before=places[0], after=places[1])


def _moved(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return the fewest names that must move to turn one order into the other, in the new order."""
    at = {name: i for i, name in enumerate(before)}
    best: list[list[str]] = []  # the longest rising run that ends at each name so far
    for name in after:
        shorter = (run for run in best if at[run[-1]] < at[name])
        best.append([*_longest(shorter), name])
    kept = set(_longest(best))
    return [name for name in after if name not in kept]


def _longest(runs: Iterable[list[str]]) -> list[str]:
    return max(runs, key=len, default=[])


def _values(
    place: tuple[str, ...], before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Difference]:
    for key in [*before, *(k for k in after if k not in before)]:
        yield from _value((*place, str(key)), before.get(key, _MISSING), after.get(key, _MISSING))


def _leaves(place: tuple[str, ...], before: Any, after: Any) -> Iterator[Difference]:
    """Compare nested objects down to the values that differ."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(k for k in after if k not in before)]:
            yield from _leaves((*place, str(key)), before.get(key, _MISSING), after.get(key, _MISSING))
    else:
        yield from _value(place, before, after)


def _value(place: tuple[str, ...], before: Any, after: Any) -> Iterator[Difference]:
    if before is _MISSING and after is not _MISSING:
        yield Difference(change="added", place=place, after=after)
    elif after is _MISSING and before is not _MISSING:
        yield Difference(change="removed", place=place, before=before)
    elif before != after:
        yield Difference(change="changed", place=place, before=before, after=after)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else str(value)
