"""Looks after groups that read Kafka: lets them read again from a place of the log."""

from __future__ import annotations

import asyncio

import structlog

from faregate.infra.database import Database
from faregate.infra.eventlog.admin import ConsumerGroupUnknown, forget_handled, require_group, require_place
from faregate.infra.kafka.client import KafkaAddress
from faregate.infra.kafka.offsets import offsets_of
from faregate.infra.kafka.topics import Topics
from faregate.infra.queries import load_queries

_log = structlog.get_logger(__name__)
_QUERIES = load_queries(__package__)


async def replay_from_kafka(
    database: Database,
    *,
    address: KafkaAddress,
    topics: Topics,
    group: str,
    from_seq: int,
    effects_again: bool = False,
) -> None:
    """Make a group read again from an event on; see `infra.eventlog.replay`, whose words on the inbox hold.

    Members notice within seconds. Raises ConsumerGroupUnknown, ReplayPlaceUnknown, RecordsGone, KafkaUnavailable.
    """
    async with database.transaction() as conn:
        await require_group(conn, group=group)
        await require_place(conn, from_seq=from_seq)
        # Positions first: that waits for a batch that is about to commit, and its inbox rows are seen below.
        rows = await (await conn.execute(_QUERIES["bus_places"], {"group": group})).fetchall()
        if not rows:
            raise ConsumerGroupUnknown(f"there is no consumer group {group!r}", group=group)
        places = [(row["topic"], row["partition"]) for row in rows if row["topic"] != topics.retries]
        wanted = dict.fromkeys(places, from_seq)
        offsets = await asyncio.to_thread(offsets_of, address, wanted, must_be_kept=True)
        given = {
            "group": group,
            "from_seq": from_seq,
            "topics": [topic for topic, _ in places],
            "partitions": [number for _, number in places],
            "positions": [offsets[place] for place in places],
        }
        await conn.execute(_QUERIES["bus_set_back"], given)
        if effects_again:
            await forget_handled(conn, group=group, from_seq=from_seq)
    _log.info("kafka.replay", group=group, from_seq=from_seq, effects_again=effects_again)
