"""Rulesets in PostgreSQL: published once and for ever, activated in order, readable by every part."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from faregate.credit.store.artefacts import load_ruleset_document
from faregate.infra.database import Connection, Database
from faregate.rules import api, store
from faregate.rules.checks import RulesetRefused

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAME = "card-eligibility"
OpenDatabase = Callable[[str], Awaitable[Database]]


def document(version: int = 1, **changes: Any) -> dict[str, Any]:
    return load_ruleset_document("card-eligibility-1") | {"version": version} | changes


async def publish(conn: Connection, *, version: int = 1, **changes: Any) -> None:
    await api.publish(conn, document=document(version, **changes), published_at=NOON, published_by="ada")


async def activate(conn: Connection, version: int, at: datetime) -> None:
    await api.activate(conn, name=NAME, version=version, activated_at=at, activated_by="ada")


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    """Another part's database: rules work for any role."""
    return await open_database("credit")


@pytest.mark.requirement("C17")
async def test_a_published_and_activated_version_can_be_evaluated(database: Database) -> None:
    async with database.transaction() as conn:
        await publish(conn)
        await activate(conn, 1, NOON)
        ruleset = await api.Rulesets().active(conn, name=NAME, at=NOON)
    assert ruleset.label == "card-eligibility-1"
    assert ruleset.codes["FRAUD_HIGH"]["form_c1"] == "Other, specify:"


async def test_the_same_content_twice_is_one_version_and_keeps_its_first_date(database: Database) -> None:
    async with database.transaction() as conn:
        await publish(conn)
        again = await api.publish(conn, document=document(), published_at=NOON + HOUR, published_by="bob")
    assert (again.published_at, again.published_by) == (NOON, "ada")


@pytest.mark.requirement("C17")
async def test_a_published_version_never_changes(database: Database) -> None:
    async with database.transaction() as conn:
        await publish(conn)
        with pytest.raises(store.RulesetVersionTaken):
            await publish(conn, description="other content")


@pytest.mark.requirement("C17")
async def test_a_set_of_codes_keeps_its_words_under_its_version(database: Database) -> None:
    changed = copy.deepcopy(document()["code_set"])
    changed["codes"]["FRAUD_HIGH"]["specify"] = "We did not like the application"
    async with database.transaction() as conn:
        await publish(conn)
        with pytest.raises(store.CodeSetTaken, match="card-eligibility-1 was published with another set"):
            await publish(conn, version=2, code_set=changed)
        await publish(conn, version=2, code_set={**changed, "version": "reason-codes-1-changed"})


@pytest.mark.requirement("C17")
async def test_an_unfit_document_is_not_stored(database: Database) -> None:
    async with database.transaction() as conn:
        with pytest.raises(RulesetRefused):
            await publish(conn, code_set={"version": "empty", "codes": {}})
        with pytest.raises(store.RulesetVersionNotFound):
            await api.Rulesets().version(conn, name=NAME, version=1)


@pytest.mark.requirement("C17")
async def test_the_active_version_of_any_past_instant_is_known(database: Database) -> None:
    rulesets = api.Rulesets()
    async with database.transaction() as conn:
        for version in (1, 2):
            await publish(conn, version=version)
        await activate(conn, 1, NOON)
        await activate(conn, 2, NOON + HOUR)
        instants = [NOON, NOON + HOUR / 2, NOON + HOUR, NOON + 9 * HOUR]
        active = [await rulesets.active(conn, name=NAME, at=at) for at in instants]
        assert [ruleset.version for ruleset in active] == [1, 1, 2, 2]
        with pytest.raises(store.NoActiveRuleset):
            await rulesets.active(conn, name=NAME, at=NOON - HOUR)


async def test_an_earlier_version_can_be_activated_again(database: Database) -> None:
    async with database.transaction() as conn:
        for version in (1, 2):
            await publish(conn, version=version)
        for hours, version in enumerate((1, 2, 1)):
            await activate(conn, version, NOON + hours * HOUR)
        history = await api.activations(conn, name=NAME)
    assert [activation.version for activation in history] == [1, 2, 1]


async def test_activating_the_active_version_again_adds_nothing(database: Database) -> None:
    async with database.transaction() as conn:
        await publish(conn)
        await activate(conn, 1, NOON)
        await activate(conn, 1, NOON + HOUR)
        assert len(await api.activations(conn, name=NAME)) == 1


async def test_the_past_cannot_be_activated(database: Database) -> None:
    async with database.transaction() as conn:
        for version in (1, 2):
            await publish(conn, version=version)
        await activate(conn, 1, NOON)
        with pytest.raises(store.ActivationInThePast):
            await activate(conn, 2, NOON - HOUR)


async def test_an_unpublished_version_cannot_be_activated_and_the_transaction_lives_on(
    database: Database,
) -> None:
    async with database.transaction() as conn:
        with pytest.raises(store.RulesetVersionNotFound):
            await activate(conn, 7, NOON)
        assert await api.activations(conn, name=NAME) == []


async def test_each_version_is_compiled_once(database: Database) -> None:
    rulesets = api.Rulesets()
    async with database.transaction() as conn:
        await publish(conn)
        await activate(conn, 1, NOON)
        active = await rulesets.active(conn, name=NAME, at=NOON)
        assert await rulesets.version(conn, name=NAME, version=1) is active
        assert await rulesets.active(conn, name=NAME, at=NOON + HOUR) is active


@pytest.mark.parametrize("table", ["ruleset_version", "activation"])
@pytest.mark.parametrize(
    "change", ["delete from rules.{}", "update rules.{} set version = 9", "truncate rules.{} cascade"]
)
async def test_even_the_owner_cannot_change_what_was_published(
    open_database: OpenDatabase, table: str, change: str
) -> None:
    database = await open_database("rules")
    async with database.transaction() as conn:
        await publish(conn)
        await activate(conn, 1, NOON)
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        async with database.transaction() as conn:
            await conn.execute(change.format(table))


async def test_another_part_cannot_read_the_tables_themselves(database: Database) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with database.transaction() as conn:
            await conn.execute("select content from rules.ruleset_version")


async def test_content_that_does_not_match_its_hash_is_refused(database: Database) -> None:
    parameters = {"name": "x", "version": 1, "content": "{}", "sha256": "0" * 64, "at": NOON, "by": "eve"}
    with pytest.raises(psycopg.errors.CheckViolation):
        async with database.transaction() as conn:
            await conn.execute(
                "select rules.publish(%(name)s, %(version)s, %(content)s, %(sha256)s, %(at)s, %(by)s)",
                parameters,
            )
