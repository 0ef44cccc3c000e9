"""Facts as an Arrow table, a row each in the order of their arrival: what the offline engine reads.

| column | |
|---|---|
| `seq` | the place in the order of arrival |
| `is_reversal` | whether the row takes the event of this source and id back |
| `source`, `id`, `tie` | which event; `tie` orders those of one millisecond |
| `at_ms`, `observed_ms` | when it happened, and when it was known |
| an entity, a number, a text | a column each, null where the source has none |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from faregate.features.facts import Fact, Reversal, ReversalById, tie_of
from faregate.features.feature_set import FeatureSet


def schema_of(declared: FeatureSet) -> pa.Schema:
    """Return the columns of a table of such facts."""
    entities = {entity: pa.string() for source in declared.sources for entity in source.entities}
    numbers = {name: pa.int64() for source in declared.sources for name in source.numbers}
    texts = {name: pa.string() for source in declared.sources for name in source.texts}
    return pa.schema(
        {
            "seq": pa.int64(),
            "is_reversal": pa.bool_(),
            "source": pa.string(),
            "id": pa.string(),
            "tie": pa.int64(),
            "at_ms": pa.int64(),
            "observed_ms": pa.int64(),
            **entities,
            **numbers,
            **texts,
        }
    )


def event_table(facts: Sequence[Fact], declared: FeatureSet) -> pa.Table:
    """Return the facts as a table."""
    return pa.Table.from_pylist(
        [_row(seq, fact) for seq, fact in enumerate(facts)], schema=schema_of(declared)
    )


def _row(seq: int, fact: Fact) -> dict[str, Any]:
    if isinstance(fact, ReversalById):
        return {
            "seq": seq,
            "is_reversal": True,
            "source": fact.source,
            "id": fact.id,
            "observed_ms": fact.observed_ms,
        }
    event = fact.event if isinstance(fact, Reversal) else fact
    return {
        "seq": seq,
        "is_reversal": isinstance(fact, Reversal),
        "source": event.source,
        "id": event.id,
        "tie": tie_of(event.id),
        "at_ms": event.at_ms,
        "observed_ms": fact.observed_ms,
        **{str(entity): name for entity, name in event.entities.items()},
        **event.values,
    }
