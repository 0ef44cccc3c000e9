"""Counts of applications by segment, for reports."""

from __future__ import annotations

from datetime import datetime

from faregate.credit.contracts.record import SegmentCounts
from faregate.credit.domain.fairness import Segmentation
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries(__package__)


async def segment_counts(
    conn: Connection, segments: Segmentation, *, since: datetime | None
) -> list[SegmentCounts]:
    """Return how many applications of each segment stand where, those submitted from an instant on."""
    given = {"by": segments.by, "edges": list(segments.edges), "since": since}
    cursor = await conn.execute(_Q["segment_counts"], given)
    return [SegmentCounts(**row) for row in await cursor.fetchall()]
