"""The pure parts of the event log: envelope, shares of a member, outages told from faults, trace links."""

from __future__ import annotations

import json
from uuid import UUID

import psycopg
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from faregate.infra.cache import CacheUnavailable
from faregate.infra.database import DatabaseUnavailable
from faregate.infra.eventlog import cloudevent
from faregate.infra.eventlog.outage import Backoff, is_outage
from faregate.infra.eventlog.shares import Share, end_of, reads, updated
from faregate.infra.eventlog.tracing import link_to
from faregate.kernel.event import Event
from tests.eventlog import NOON

TRACE = "0af7651916cd43dd8448eb211c80319c"
EVENT = Event(
    id=UUID(int=7),
    type="credit.application.submitted",
    aggregate_type="credit.application",
    aggregate_id="app_1",
    time=NOON,
    data={"n": 1},
    traceparent=f"00-{TRACE}-b7ad6b7169203331-01",
    seq=42,
)


def share(partition: int, position: int, **more: int) -> Share:
    return Share(partition=partition, fence=1, position=position, saved=position, **more)


@pytest.mark.requirement("C10")
def test_the_envelope_is_a_cloud_event() -> None:
    assert json.loads(json.dumps(cloudevent(EVENT))) == {
        "specversion": "1.0",
        "id": "00000000-0000-0000-0000-000000000007",
        "source": "/faregate/credit",
        "type": "credit.application.submitted",
        "subject": "app_1",
        "time": "2026-11-21T12:00:00Z",
        "datacontenttype": "application/json",
        "partitionkey": "app_1",
        "aggregatetype": "credit.application",
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
        "sequence": "00000000000000000042",
        "data": {"n": 1},
    }


def test_the_envelope_names_the_schema_of_the_data_where_it_is_known() -> None:
    named = cloudevent(EVENT, dataschema="credit.application.submitted/0123456789ab")
    assert named == {**cloudevent(EVENT), "dataschema": "credit.application.submitted/0123456789ab"}


def test_partitions_at_one_position_are_read_together_and_those_behind_up_to_the_next() -> None:
    found = reads([share(1, 50), share(2, 50), share(3, 20)], now=0, batch_max=10, window=1000)
    assert [([s.partition for s in r.shares], r.after, r.upto) for r in found] == [
        ([3], 20, 50),
        ([1, 2], 50, 1050),
    ]


def test_a_careful_partition_is_read_alone_one_event_at_a_time_once_it_has_rested() -> None:
    held = [share(1, 50), share(2, 50, careful_until=60, retry_at=5)]
    resting = reads(held, now=4, batch_max=10, window=1000)
    rested = reads(held, now=5, batch_max=10, window=1000)
    assert [[s.partition for s in r.shares] for r in resting] == [[1]]
    assert [([s.partition for s in r.shares], r.limit) for r in rested] == [([1], 10), ([2], 1)]


@pytest.mark.parametrize(
    ("seqs", "head", "end"),
    [
        ([51, 52], 90, 52),  # as many as asked for: there may be more before the end
        ([51], 90, 90),  # fewer: all up to the head was seen
        ([], 900, 150),  # the window ends before the head
        ([], 40, 50),  # a log restored to an earlier state moves nobody back
    ],
)
def test_a_read_ends_where_it_has_looked(seqs: list[int], head: int, end: int) -> None:
    (read,) = reads([share(1, 50)], now=0, batch_max=2, window=100)
    assert end_of(read, head=head, seqs=seqs) == end


def test_a_share_that_changed_hands_forgets_what_it_knew() -> None:
    held = {1: share(1, 50), 2: share(2, 50)}
    rows = [{"partition": 1, "fence": 1, "position": 10}, {"partition": 2, "fence": 3, "position": 10}]
    assert {p: s.position for p, s in updated(held, rows).items()} == {1: 50, 2: 10}


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.CannotConnectNow(), True),
        (DatabaseUnavailable("no free connection"), True),
        (CacheUnavailable("Valkey does not answer"), True),
        (psycopg.errors.DeadlockDetected(), False),
        (psycopg.errors.QueryCanceled(), False),
        (psycopg.errors.IdleInTransactionSessionTimeout(), True),
        (psycopg.errors.UniqueViolation(), False),
        (RuntimeError("a fault"), False),
    ],
)
def test_an_outage_is_told_from_a_fault_of_the_work(error: Exception, outage: bool) -> None:
    assert is_outage(error) is outage


def test_pauses_double_up_to_their_bound_and_start_again_after_success() -> None:
    backoff = Backoff(first_s=1, max_s=5)
    assert [backoff.next_s() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next_s() == 1


def test_a_handlers_span_is_linked_once_to_each_trace_that_it_serves() -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("handle") as span:
        link_to(span, [EVENT, EVENT])
    assert isinstance(span, ReadableSpan)
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE]
