"""Where on Kafka a place of the log is: the offset in each partition. Who needs that does not belong here."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from confluent_kafka import Consumer, TopicPartition

from faregate.infra.kafka.client import KafkaAddress, KafkaUnavailable, RecordsGone, kafka_errors
from faregate.infra.kafka.records import headers_of, seq_of

Place = tuple[str, int]
"""A partition of a topic."""
_TIMEOUT_S = 15.0


def offsets_of(
    address: KafkaAddress, seqs: Mapping[Place, int], *, must_be_kept: bool = False
) -> Mapping[Place, int]:
    """Return the first offset of each partition whose event stands at its place in the log, or after it. Blocks.

    The places grow along each partition, so they are searched for by halving, in all of them at once. With
    `must_be_kept` RecordsGone is raised where records of that place may have been deleted. Raises KafkaUnavailable.
    """
    reader = Consumer(
        address.config(
            group_id=f"faregate.look.{uuid4().hex}",
            enable_auto_commit=False,
            isolation_level="read_committed",
            enable_partition_eof=True,
            fetch_wait_max_ms=10,
        )
    )
    try:
        with kafka_errors():
            bounds = {
                place: reader.get_watermark_offsets(TopicPartition(*place), timeout=_TIMEOUT_S)
                for place in seqs
            }
            if must_be_kept:
                lossy = {place: low for place, (low, high) in bounds.items() if 0 < low < high}
                _require_kept(_next_of(reader, lossy), seqs)
            while open_ := {place: b for place, b in bounds.items() if b[0] < b[1]}:
                middles = {place: (low + high) // 2 for place, (low, high) in open_.items()}
                for place, found in _next_of(reader, middles).items():
                    low, high = bounds[place]
                    is_left = found is None or found[1] >= seqs[place]
                    bounds[place] = (
                        (low, middles[place]) if is_left or found is None else (found[0] + 1, high)
                    )
            return {place: low for place, (low, _) in bounds.items()}
    finally:
        reader.close()


def _require_kept(firsts: Mapping[Place, tuple[int, int] | None], seqs: Mapping[Place, int]) -> None:
    """Raise RecordsGone if a partition that has lost records begins with a later place of the log."""
    begins = {
        place: found[1] for place, found in firsts.items() if found is not None and found[1] > seqs[place]
    }
    if begins:
        place, first = max(begins.items(), key=lambda item: item[1])
        raise RecordsGone(
            f"Kafka has deleted records of {place[0]}/{place[1]} before event {first:,}: replay from there, or let "
            f"the group read the log instead"
        )


def _next_of(reader: Consumer, offsets: Mapping[Place, int]) -> dict[Place, tuple[int, int] | None]:
    """Return offset and place in the log of the first event of each partition from an offset on; None at the end."""
    reader.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
    found: dict[Place, tuple[int, int] | None] = {}
    while found.keys() != offsets.keys():
        message = reader.poll(_TIMEOUT_S)
        if message is None:
            raise KafkaUnavailable("topics could not be read in time", retry_after_s=1.0)
        place = (message.topic() or "", message.partition() or 0)
        if place in found:
            continue
        if message.error() is not None:
            found[place] = None
        elif (
            seq := seq_of(headers_of(message.headers()))
        ) is not None:  # else somebody else's: look at the next
            found[place] = (message.offset() or 0, seq)
    return found
