"""Computes the features of every event in a table, each as of that event: what was not known yet is not seen.

    values = backfill(event_table(facts, declared), declared)

An entity whose events arrived in their order, none of them reversed, is computed by window functions over its rows: so
almost everything is. The rows of any other are joined with every event that each of them may have seen. Only names that
declarations were checked for, and integers, are written into SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

import duckdb
import pyarrow as pa

from faregate.features.declarations import OF_ITSELF, Aggregate, Entity, Feature
from faregate.features.feature_set import FeatureSet

SECOND: Final = 2**32
"""A place in the order of events is its second, shifted to fit 64 bits with a sign, and its place within the second."""

_ACCEPTED = """
create temp table accepted as
with timely as (
    select *, at_ms // 1000 as second
    from facts join lateness using (source)
    where not is_reversal and observed_ms - at_ms between -ahead_ms and late_ms
),
reversal as (
    select source, id, min(seq) as reversed_seq from facts where is_reversal group by source, id
)
select timely.*, reversed_seq, (second - 2147483648) * 4294967296 + at_ms % 1000 * 4194304 + tie as place
from timely left join reversal using (source, id)
where seq < coalesce(reversed_seq, 9223372036854775807)
qualify row_number() over (partition by source, id order by seq) = 1
"""

_ROWS = """
create or replace temp table looked_at as
select *, {entity} as entity, source = '{asked}' as asks, source = '{of}' as counts
from accepted where source in ('{asked}', '{of}') and {entity} is not null
"""

# An event that arrived after somebody who would have seen it, or that was taken back, makes its entity irregular.
_IRREGULAR = """
create or replace temp table irregular as
with turn as (
    select entity, seq, place as turn, true as asks, null::bigint as reversed_seq from looked_at where asks
    union all
    select entity, seq, (second - {grain} + 1 + {delay} - 2147483648) * {second}, false, reversed_seq
    from looked_at where counts
),
judged as (
    select entity, reversed_seq is not null
        or seq > min(seq) filter (where asks) over (
            partition by entity order by turn range between current row and unbounded following
        ) as is_irregular, asks
    from turn
)
select distinct entity from judged where is_irregular and not asks
"""

_WINDOWED = "select seq, {columns} from looked_at where entity not in (from irregular) qualify asks"

_JOINED = """
select asking.seq, {columns}
from (select * from looked_at where asks and entity in (from irregular)) asking
left join looked_at seen on seen.counts and seen.entity = asking.entity and seen.seq <= asking.seq
    and coalesce(seen.reversed_seq, 9223372036854775807) > asking.seq
group by asking.seq, asking.second, asking.place
"""


def backfill(facts: pa.Table, declared: FeatureSet, *, threads: int = 2) -> pa.Table:
    """Return `seq`, `id` and a column a feature for each event that asked and had an effect, by `seq`."""
    with duckdb.connect(config={"threads": threads}) as database:
        database.register("facts", facts)
        database.register("lateness", _lateness(declared))
        database.execute(_ACCEPTED)
        tables: dict[str, str] = {}
        for number, group in enumerate(_groups(declared)):
            _compute(database, f"part{number}", group, declared)
            tables |= {feature.name: f"part{number}" for feature in group}
        return database.sql(_result(declared, tables)).to_arrow_table()


def _lateness(declared: FeatureSet) -> pa.Table:
    return pa.table(
        {
            "source": [source.name for source in declared.sources],
            "late_ms": [source.lateness_s * 1_000 for source in declared.sources],
            "ahead_ms": [source.ahead_s * 1_000 for source in declared.sources],
        }
    )


def _groups(declared: FeatureSet) -> Sequence[Sequence[Feature]]:
    """Return the features over windows, those together that look at the same events of the same entity."""

    def shared(feature: Feature) -> tuple[str, str]:
        return str(feature.by), str(feature.of)

    windowed = [
        feature
        for feature in declared.features
        if feature.aggregate not in OF_ITSELF and feature.aggregate is not Aggregate.RATIO
    ]
    return [list(group) for _, group in groupby(sorted(windowed, key=shared), key=shared)]


def _compute(
    database: duckdb.DuckDBPyConnection, name: str, group: Sequence[Feature], declared: FeatureSet
) -> None:
    """Make a table of the values of these features."""
    entity, of = Entity(group[0].by or ""), group[0].of
    database.execute(_ROWS.format(entity=entity, asked=declared.asked_by.name, of=of))
    grain, delay = max(f.grain_s for f in group), min(f.delay_s for f in group)
    # What counts up to the event itself is seen from its own place on, whatever the grain.
    grain = grain if delay else 1
    database.execute(_IRREGULAR.format(second=SECOND, grain=grain, delay=delay))
    windowed = _WINDOWED.format(columns=", ".join(f"{_over(f)} as {_quoted(f.name)}" for f in group))
    joined = _JOINED.format(columns=", ".join(f"{_among(f)} as {_quoted(f.name)}" for f in group))
    database.execute(f"create temp table {name} as {windowed} union all {joined}")


def _over(feature: Feature) -> str:
    """Return the value as window functions over the rows of the entity."""
    begins, ends = _bounds(feature, "")
    frame = (
        f"over (partition by entity order by place range between place - ({begins}) preceding"
        f" and place - ({ends}) preceding)"
    )
    return _aggregate(feature, row="", condition="counts", frame=frame)


def _among(feature: Feature) -> str:
    """Return the value as aggregates over all events that a row may have seen."""
    begins, ends = _bounds(feature, "asking.")
    condition = f"seen.place between {begins} and {ends}"
    return _aggregate(feature, row="seen.", condition=condition, frame="", asking="any_value(asking.second)")


def _bounds(feature: Feature, row: str) -> tuple[str, str]:
    """Return the first and the last place inside the window, seen from a row."""
    grain = feature.grain_s
    reach = (feature.delay_s + feature.window_s) // grain
    begins = f"(({row}second // {grain} - {reach - 1}) * {grain} - 2147483648) * {SECOND}"
    if not feature.delay_s:
        return begins, f"{row}place" if feature.counts_itself else f"{row}place - 1"
    until = feature.delay_s // grain - 1
    return begins, f"(({row}second // {grain} - {until}) * {grain} - 2147483648) * {SECOND} - 1"


def _aggregate(feature: Feature, *, row: str, condition: str, frame: str, asking: str = "second") -> str:
    field = f"{row}{_quoted(feature.field)}"

    def of(function: str) -> str:
        return f"{function} filter (where {condition}) {frame}"

    match feature.aggregate:
        case Aggregate.COUNT:
            return f"nullif({of('count(*)')}, 0)"
        case Aggregate.SUM:
            return f"cast({of(f'sum({field})')} as bigint)"
        case Aggregate.MEAN:
            return f"cast({of(f'sum({field})')} as double) / {of('count(*)')}"
        case Aggregate.DISTINCT:
            return f"nullif(least({of(f'count(distinct {field})')}, {feature.cap}), 0)"
        case Aggregate.LAST:
            return of(f"arg_max({field}, {row}place)")
        case Aggregate.TIME_SINCE:
            return f"{asking} - {of(f'max({row}second)')}"
        case Aggregate.TIME_SINCE_FIRST:
            return f"{asking} - {of(f'min({row}second)')}"
    return of(f"{feature.aggregate}({field})")


def _result(declared: FeatureSet, tables: Mapping[str, str]) -> str:
    """Return the query that puts everything together, defaults included. A feature may be named like a field."""
    plain = [
        f"{_plain(feature, tables.get(feature.name, ''))} as {_quoted(feature.name)}"
        for feature in declared.features
        if feature.aggregate is not Aggregate.RATIO
    ]
    joins = " ".join(f"left join {table} using (seq)" for table in dict.fromkeys(tables.values()))
    values = [_value(feature) for feature in declared.features]
    return (
        f"with plain as (select {', '.join(['seq', 'id', *plain])} from accepted {joins}"  # noqa: S608 - names were checked
        f" where source = '{declared.asked_by.name}')"
        f" select {', '.join(['seq', 'id', *values])} from plain order by seq"
    )


def _plain(feature: Feature, table: str) -> str:
    match feature.aggregate:
        case Aggregate.OWN:
            return f"accepted.{_quoted(feature.field)}"
        case Aggregate.IS_WEEKEND:
            # The first of January 1970 was a Thursday.
            return "cast((second // 86400 + 3) % 7 >= 5 as bigint)"
        case Aggregate.IS_NIGHT:
            return "cast(second % 86400 // 3600 <= 6 as bigint)"
    default = "null" if feature.default is None else repr(feature.default)
    kind = "double" if feature.aggregate is Aggregate.MEAN else "bigint"
    return f"cast(coalesce({table}.{_quoted(feature.name)}, {default}) as {kind})"


def _value(feature: Feature) -> str:
    name = _quoted(feature.name)
    if feature.aggregate is not Aggregate.RATIO:
        return name
    default = "null" if feature.default is None else repr(float(feature.default))
    quotient = f"cast({_quoted(feature.numerator)} as double) / nullif({_quoted(feature.denominator)}, 0)"
    return f"cast(coalesce({quotient}, {default}) as double) as {name}"


def _quoted(name: str | None) -> str:
    """Return the name as SQL takes it, whatever word it is; it has lower case, digits and underscores only."""
    return f'"{name}"'
