"""Bad input on real servers: one line that says what to do, and nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.cli import app
from faregate.infra.failures import line_of
from faregate.infra.settings import Settings

INT_MAX = str(2**63 - 1)
WHY = ["--reason", "why"]
BY_ANN = [*WHY, "--by", "ann"]
MEMBER = "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"
BUREAU = ["gateway", "policy", "set", "bureau"]
ANCHORS = ["--anchors", "/nowhere/anchors.jsonl"]

TABLE: list[tuple[list[str], str]] = [
    ([*BUREAU, "send.bulkhead.in_flight_max=100000000000000000000", *WHY], "equal to 10000"),
    (
        [*BUREAU, "retry.sends_max=40000", *WHY],
        "retry.sends_max: input should be less than or equal to 10000",
    ),
    ([*BUREAU, "timeout_s=1e300", *WHY], "timeout_s: input should be less than or equal to 31536000"),
    ([*BUREAU, "send.breaker.window_s=1e300", *WHY], "send.breaker.window_s: input should be less"),
    ([*BUREAU, "nofield=1", *WHY], "nofield: unexpected keyword argument"),
    (
        ["gateway", "policy", "reset", "bureau", "nofield", *WHY],
        "no field 'nofield'; there are timeout_s, retry",
    ),
    (["gateway", "open", "nobody", *WHY], "there is no provider 'nobody'; there are bureau, "),
    (["rules", "list", "nothing"], "nothing has been published as 'nothing'"),
    (["rules", "history", "nothing"], "nothing has been published as 'nothing'"),
    (["rules", "history", "nothing", "--before", INT_MAX], "nothing has been published as 'nothing'"),
    (["rules", "decisions", "nothing-1"], "nothing-1 has not been published"),
    (["rules", "activate", "nothing-1", *WHY], "nothing-1 has not been published"),
    (["audit", "anchor", *ANCHORS], "the chain has no link yet, so nothing was noted"),
    (["audit", "show", "app_nowhere"], "there is no application app_nowhere"),
    (["audit", "replay", "app_nowhere"], "there is no application app_nowhere"),
    (["credit", "notice", "app_nowhere"], "there is no application app_nowhere"),
    (["credit", "notices", "--mark-sent", "app_nowhere/99999999999"], "neither an application nor"),
    (["credit", "notices", "--mark-sent", "app_nowhere/"], "neither an application nor"),
    (["credit", "fairness", "--edges", "100000000000000000000"], "has a number that nothing reaches"),
    (["points", "anchor", *ANCHORS], "the chain has no link yet, so nothing was noted"),
    (["points", "show", "mbr_nowhere"], "mbr_nowhere has no points account"),
    (["points", "operations", "mbr_nowhere", "--before", INT_MAX], "mbr_nowhere has no points account"),
    (["points", "reconcile", "--member", "mbr_nowhere"], "mbr_nowhere has no points account"),
    (["points", "adjust", "mbr_nowhere", INT_MAX, *BY_ANN], "an amount is a whole number from -"),
    (["points", "floor", "mbr_nowhere", INT_MAX, *BY_ANN], "a floor is a whole number from 0 to"),
    (["points", "approve", INT_MAX, "--by", "bob"], f"there is no operation {INT_MAX}"),
    (["points", "quote", "5", "--tier", "tin"], "there is no tier 'tin'; there are "),
    (["members", "show", "mbr_nowhere"], "there is no member mbr_nowhere"),
    (["members", "erase", "mbr_nowhere", "--reason", "left", "--yes"], "there is no member mbr_nowhere"),
    (["travel", "show", "rdm_nowhere"], "there is no redemption of this id"),
    (["travel", "retry", "rdm_nowhere"], "there is no redemption of this id"),
    (["payments", "show", "pay_nowhere"], "there is no payment of this id"),
    (["payments", "card", "crd_nowhere"], "there is no card of this token"),
    (["payments", "block", "crd_nowhere", *WHY], "there is no card of this token"),
    (["payments", "number", "crd_nowhere", "--generate"], "there is no card of this token"),
    (["payments", "limits", "crd_nowhere", "USD:1"], "is no limit: write USD:200000:500000"),
    (["payments", "limits", "crd_nowhere", "USD:2:1"], "USD: the limit of a transaction is not within"),
    (["payments", "limits", "crd_nowhere", "XXX:1:2"], "XXX is no active currency"),
    (["payments", "limits", "crd_nowhere", "USD:1:2", "USD:1:3"], "USD has two limits"),
    (["payments", "limits", "crd_nowhere", f"USD:1:{INT_MAX}9"], "not within that of a day, up to"),
    (["payments", "issue", "nobody", "--product", "gold"], "a member is mbr_ and 26 digits and letters"),
    (["payments", "issue", MEMBER, "--product", "Go ld"], "a product is lower-case letters"),
    (["payments", "policy", "show"], "there is no policy yet"),
    (["payments", "policy", "roll-back", "7", *WHY], "there is no version 7"),
    (["payments", "policy", "set", __file__, *WHY], "cannot be read"),
    (["payments", "policy", "try", "--amount", "1", "--currency", "XXX"], "XXX is no active currency"),
    (["fraud", "show", "dec_nowhere"], "there is no such decision"),
    (["fraud", "show", "pay_nowhere"], "there is no such decision"),
    (["fraud", "models", "activate", "payments-1", *WHY], "the registry has no model payments-1"),
    (["fraud", "models", "activate", "payments", *WHY], "a version is named like payments-2"),
    (["fraud", "models", "activate", f"payments-{INT_MAX}", *WHY], "a version is named like payments-2"),
    (["fraud", "models", "shadow", "payments-1", *WHY], "the registry has no model payments-1"),
    (["fraud", "models", "roll-back", *WHY], "no other model was active before"),
    (["fraud", "models", "train", "--name", "Not A Name"], "a model has a name like payments"),
    (["webhooks", "show", "whe_nowhere"], "there is no webhook endpoint whe_nowhere"),
    (["webhooks", "create", "a client", "https://hooks.example.com/x"], "a client id is 1 to 64 letters"),
    (["events", "replay", "nobody", "--from-seq", INT_MAX], "there is no consumer group 'nobody'"),
    (["events", "forget", "nobody"], "there is no consumer group 'nobody'"),
    (["archive", "restore", "--from-seq", INT_MAX], "and all after it are in PostgreSQL"),
]


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    monkeypatch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
    assert settings.database_url
    assert settings.valkey_url
    settings.home.mkdir(mode=0o700)
    return {
        "FAREGATE_HOME": str(settings.home),
        "FAREGATE_DATABASE_URL": settings.database_url.get_secret_value(),
        "FAREGATE_VALKEY_URL": settings.valkey_url.get_secret_value(),
    }


def rows_written(database_url: str) -> dict[str, int]:
    """How many rows each table that has any has had written, apart from the servers' own bookkeeping."""
    with psycopg.connect(database_url) as conn:
        tables = conn.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables "
            "where schemaname !~ '^(pg_|information_schema)'"
        ).fetchall()
        counts = {name: conn.execute(f"select count(*) from {name}").fetchall() for (name,) in tables}
    return {name: int(found[0][0]) for name, found in counts.items()}


def test_bad_input_is_one_line_and_changes_nothing(environment: Mapping[str, str], database_url: str) -> None:
    before, found = rows_written(database_url), {}
    for command, says in TABLE:
        error: Any = CliRunner(env=environment).invoke(app, command).exception
        line = line_of(error) if isinstance(error, Exception) else repr(error)
        if line is None or says not in line or "\n" in line:
            found[" ".join(command)] = line or repr(error)
    assert found == {}
    assert rows_written(database_url) == before


def test_a_value_that_the_database_cannot_hold_is_one_line_without_it() -> None:
    line = line_of(psycopg.errors.NumericValueOutOfRange("value s3cret is out of range"))
    assert line == (
        "a number or text that was given is none that PostgreSQL can hold (22003): correct or shorten it"
    )
