"""The witness of outages: it sees the database go and come, whoever kills it, and takes slowness for no outage."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import psycopg

from faregate.infra.embedded import processes
from faregate.infra.witness import Outage, PostgresWitness
from tests.servers import own_servers


def test_it_sees_an_outage_from_the_last_answer_to_the_first(tmp_path: Path) -> None:
    with own_servers(tmp_path / "home", migrated=False) as servers:
        with PostgresWitness(servers.database_url) as witness:
            before = perf_counter()
            servers.postgres.kill9()
            assert processes.wait_for(lambda: witness.is_down, timeout_s=10)
            [lasting] = witness.outages
            servers.postgres.start()
            assert processes.wait_for(lambda: not witness.is_down, timeout_s=30)
            after = perf_counter()
        [outage] = witness.outages
    assert outage.begin == lasting.begin < after
    assert before < outage.end <= after
    assert outage.end > lasting.end


def test_a_slow_database_is_not_down(tmp_path: Path) -> None:
    with own_servers(tmp_path / "home", migrated=False) as servers:
        with PostgresWitness(servers.database_url) as witness, psycopg.connect(servers.database_url) as busy:
            busy.execute("select pg_sleep(0.2)")
        assert witness.outages == []


def test_spans_that_touch_an_outage_overlap_it() -> None:
    outage = Outage(2.0, 3.0)
    spans = [(0.0, 1.9), (0.0, 2.0), (2.5, 2.6), (3.0, 4.0), (3.1, 4.0)]
    assert [outage.overlaps(*span) for span in spans] == [False, True, True, True, False]
