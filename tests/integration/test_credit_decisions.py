"""Decisions: made once, recorded with all that they were made from, never changed, found out when tampered with."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from faregate.credit.api import CreditApi
from faregate.credit.domain.facts import Source, facts_of_row
from faregate.credit.handlers.checks import GatewayHooks, process_signals
from faregate.credit.handlers.decide import RULESET_NAME, DecisionService, publish_first_ruleset
from faregate.credit.store.artefacts import load_ruleset_document, load_scorecard
from faregate.entrypoints.bootstrap.credit import credit_api
from faregate.entrypoints.bootstrap.site import KEY_FILE, identity_vault, tools
from faregate.events.credit import ExternalCompleted
from faregate.infra.cache import Cache
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.security.encryption import CiphertextRejected
from faregate.infra.security.keys import rotate_key
from faregate.infra.settings import Settings
from faregate.rules.api import Rulesets, activate, publish
from faregate.sandbox.people import rows
from tests.credit_worker import new_person, servers_of_module  # noqa: F401
from tests.credit_world import CreditWorld, changed, open_credit_world

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD_ROW, BAD_ROW = rows()[803], rows()[832]
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "bureau": {},
    "kyc": {"identity_verified": True, "watchlist_match": False},
    "fraud": {"fraud_level": "low", "fraud_score": 0.05},
    "income": {"annual_income_verified": 1_000_000},
}
ROLES = ("credit", "eventlog", "workflow", "gateway", "rules", "access", "app")


@dataclass(kw_only=True)
class Desk:
    """The decision service on a database where nothing works by itself; `world` submits over HTTP."""

    world: CreditWorld
    database: Database
    credit: CreditApi
    service: DecisionService

    async def application(self) -> str:
        reply = await self.world.submit(new_person())
        return str(reply.json["application_id"])

    async def checked(self, row: Mapping[str, str] = GOOD_ROW, **answers: Mapping[str, Any] | str) -> str:
        """Submit and settle each check: facts of a row of the sample and what is given; text is another status."""
        application = await self.application()
        events = [completed(application, check, row, answers.get(check, {})) for check in ANSWERS]
        async with self.database.transaction() as conn:
            await process_signals(
                conn, events, tools=tools(), traceparents={}, take_snapshots=lambda _: asyncio.sleep(0)
            )
        return application

    async def decide(self, application: str, *, then: Callable[[], object] = lambda: None) -> str:
        """Do the deciding step; `then` comes before its commit."""
        async with self.database.transaction() as conn:
            decided = await self.service.decide(conn, application)
            then()
        return decided["status"]

    async def decided(self, row: Mapping[str, str] = GOOD_ROW) -> str:
        """Return an application that has been decided."""
        application = await self.checked(row)
        await self.decide(application)
        return application

    async def sql(self, query: str, **values: Any) -> list[dict[str, Any]]:
        return await self.world.sql(query, **values)

    async def decision(self, application: str) -> dict[str, Any]:
        [row] = await self.sql("select * from credit.decision where application_id = %(id)s", id=application)
        return row

    async def announced(self, application: str) -> list[dict[str, Any]]:
        """Return the events about the decision that wait for the log, oldest first."""
        return await self.sql(
            "select type, payload from eventlog.outbox where aggregateid = %(id)s and type like '%%decision%%'"
            " order by ord",
            id=application,
        )


def completed(
    application: str, check: str, row: Mapping[str, str], answer: Mapping[str, Any] | str
) -> ExternalCompleted:
    known = {} if check == "fraud" else facts_of_row(row, source=Source(check))
    status = answer if isinstance(answer, str) else "done"
    facts = {} if isinstance(answer, str) else {**known, **ANSWERS[check], **answer}
    return ExternalCompleted(
        application_id=application,
        provider=check,
        provider_request_id=f"{application}:{check}:1",
        status=status,  # type: ignore[arg-type]
        signal_payload=facts,
        received_at=SystemClock().now(),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(servers_of_module: Settings) -> AsyncIterator[Desk]:  # noqa: F811
    assert servers_of_module.valkey_url is not None
    async with AsyncExitStack() as stack:
        cache = await Cache.open(servers_of_module.valkey_url.get_secret_value())
        stack.push_async_callback(cache.close)
        world = await stack.enter_async_context(open_credit_world(servers_of_module, cache=cache))
        database = await world.site.database(stack, "credit", connections_max=12)
        await publish_first_ruleset(database, now=SystemClock().now())
        yield Desk(
            world=world,
            database=database,
            credit=await credit_api(stack, world.site),
            service=service(world.settings),
        )


def service(settings: Settings) -> DecisionService:
    hooks = GatewayHooks(
        tools=tools(), vault=identity_vault(settings), callback_url_of=str, timeout_s_of=lambda _: 1.0
    )
    return DecisionService(
        tools=tools(),
        hooks=hooks,
        rulesets=Rulesets(),
        scorecard=load_scorecard(settings.scorecard),
    )


@pytest.mark.requirement("C18")
async def test_ten_deciders_at_once_make_one_decision_and_announce_it_once(desk: Desk) -> None:
    application = await desk.checked()
    decided = await asyncio.gather(*(desk.decide(application) for _ in range(10)))
    assert set(decided) == {"approved"}
    row = await desk.decision(application)
    assert (row["version"], row["outcome"]) == (1, "approved")
    assert [event["type"] for event in await desk.announced(application)] == [
        "credit.decision.ready",
        "credit.decision.finalized",
    ]
    trail = await desk.credit.audit_trail(application_id=application)
    assert [entry["action"] for entry in trail] == ["application.submitted", "decision.finalized"]


@pytest.mark.requirement("C18")
async def test_a_decision_that_cannot_be_announced_is_not_made(desk: Desk) -> None:
    application = await desk.checked()

    with pytest.raises(ZeroDivisionError):
        await desk.decide(application, then=lambda: 1 / 0)
    assert (await desk.world.status(application)).json["status"] == "processing"
    assert await desk.decide(application) == "approved"


@pytest.mark.requirement("C18")
@pytest.mark.requirement("C13")
async def test_at_the_deadline_it_is_decided_without_what_is_missing_and_says_so(desk: Desk) -> None:
    application = await desk.application()
    async with desk.database.transaction() as conn:
        event = completed(application, "fraud", GOOD_ROW, {})
        await process_signals(
            conn, [event], tools=tools(), traceparents={}, take_snapshots=lambda _: asyncio.sleep(0)
        )
    assert await desk.decide(application) == "manual_review"
    [ready, _] = await desk.announced(application)
    assert ready["payload"]["required_signals_complete"] is False
    assert sorted(ready["payload"]["missing_providers"]) == ["bureau", "income", "kyc"]
    assert (await desk.world.status(application)).json["latest_step"] == "bureau_check_timeout"


@pytest.mark.requirement("C20")
@pytest.mark.parametrize("row", [GOOD_ROW, BAD_ROW])
async def test_a_decided_application_stays_as_it_is_when_it_is_decided_again(
    desk: Desk, row: Mapping[str, str]
) -> None:
    application = await desk.decided(row)
    before = (await desk.decision(application), (await desk.world.status(application)).json)
    assert await desk.decide(application) == before[1]["status"]
    assert (await desk.decision(application), (await desk.world.status(application)).json) == before


@pytest.mark.requirement("C20")
@pytest.mark.parametrize("status", ["rejected", "submitted", ""])
async def test_the_database_refuses_a_state_that_the_machine_does_not_have(desk: Desk, status: str) -> None:
    application = await desk.application()
    with pytest.raises(psycopg.errors.CheckViolation):
        await desk.sql(
            "update credit.application set status = %(status)s where id = %(id)s",
            status=status,
            id=application,
        )


CHANGES = {
    "update": "update {table} set {column} = {column}",
    "delete": "delete from {table}",
    "truncate": "truncate {table}",
    "truncate with what depends on it": "truncate {table} cascade",
}
APPEND_ONLY = {"credit.decision": "outcome", "credit.audit_entry": "action", "eventlog.event": "type"}


@pytest.mark.requirement("C20")
@pytest.mark.requirement("C32")
@pytest.mark.parametrize(("table", "change"), itertools.product(APPEND_ONLY, CHANGES))
async def test_no_role_changes_what_is_appended_not_even_the_owner_or_the_superuser(
    desk: Desk, table: str, change: str
) -> None:
    if table == "credit.decision":
        await desk.decided()
    statement = CHANGES[change].format(table=table, column=APPEND_ONLY[table])
    count = f"select count(*) from {table}"
    before = await desk.sql(count)
    for role in (None, *ROLES):
        async with desk.world.connection.transaction(force_rollback=True):
            if role:
                await desk.sql(f"set local role faregate_{role}")
            with pytest.raises(
                (psycopg.errors.IntegrityConstraintViolation, psycopg.errors.InsufficientPrivilege)
            ):
                async with desk.world.connection.transaction():
                    await desk.sql(statement)
    assert await desk.sql(count) == before


@pytest.mark.requirement("C17")
async def test_a_decision_names_the_versions_it_was_made_with_and_their_trace(desk: Desk) -> None:
    application = await desk.decided()
    row = await desk.decision(application)
    assert (row["ruleset_version"], row["scorecard_version"]) == ("card-eligibility-1", "german-1")
    trace = row["result"]["trace"]
    assert len(trace["ruleset"]["sha256"]) == len(trace["scorecard"]["sha256"]) == 64
    assert trace["ruleset"]["nodes"]
    assert trace["scorecard"]["contributions"]
    assert row["inputs"]["facts"]["fraud_level"] == "low"
    [event] = [e for e in await desk.announced(application) if e["type"].endswith("finalized")]
    assert event["payload"]["ruleset_version"] == row["ruleset_version"]


@pytest.mark.requirement("C32")
async def test_every_decision_is_replayed_to_the_identical_decision(desk: Desk) -> None:
    approved, denied = await desk.decided(), await desk.decided(BAD_ROW)
    reviewed = await desk.checked(fraud="unknown")
    await desk.decide(reviewed)
    outcomes = [(await desk.decision(a))["outcome"] for a in (approved, denied, reviewed)]
    assert outcomes == ["approved", "denied", "manual_review"]
    report = await desk.credit.replay()
    assert report.replayed >= 3
    assert report.different == ()


@pytest.mark.requirement("C17")
@pytest.mark.requirement("C32")
async def test_a_decision_is_reproduced_under_its_own_ruleset_after_another_was_activated(desk: Desk) -> None:
    before = await desk.decided()
    changed = load_ruleset_document("card-eligibility-1") | {"version": 2, "description": "The next one."}
    now = SystemClock().now()
    async with desk.database.transaction() as conn:
        await publish(conn, document=changed, published_at=now, published_by="ada")
        await activate(conn, name=RULESET_NAME, version=2, activated_at=now, activated_by="ada")
    after = await desk.decided()
    versions = [(await desk.decision(a))["ruleset_version"] for a in (before, after)]
    assert versions == ["card-eligibility-1", "card-eligibility-2"]
    for application in (before, after):
        assert (await desk.credit.replay(application_id=application)).different == ()


TAMPERING = {
    "an input": "inputs = jsonb_set(inputs, '{facts,fraud_level}', '\"high\"')",
    "an input with its hash": (
        "inputs = jsonb_set(inputs, '{facts,fraud_level}', '\"high\"'), inputs_sha256 = '\\x00'"
    ),
    "the recorded result": "result = jsonb_set(result, '{outcome}', '\"denied\"')",
    "the recorded score": "result = jsonb_set(result, '{risk_score}', '0.0001')",
    "the trace": "result = jsonb_set(result, '{trace,scorecard,points}', '1')",
    "the outcome that is shown": "outcome = 'denied'",
    "the score that is shown": "risk_score = 0.9999",
    "the reasons that are shown": "reason_codes = '{BUREAU_OK}'",
    "the adverse reasons that are shown": "adverse_action_reasons = '[{}]'",
    "the ruleset": "ruleset_version = 'card-eligibility-99'",
    "the scorecard": "scorecard_version = 'german-99'",
}


@pytest.mark.requirement("C32")
@pytest.mark.parametrize("what", TAMPERING)
async def test_a_record_that_somebody_tampered_with_is_found_by_replay(desk: Desk, what: str) -> None:
    application = await desk.decided()
    async with desk.world.connection.transaction():
        await desk.sql("alter table credit.decision disable trigger decision_is_append_only")
        tamper = f"update credit.decision set {TAMPERING[what]} where application_id = %(id)s"
        await desk.sql(tamper, id=application)
        await desk.sql("alter table credit.decision enable trigger decision_is_append_only")
    report = await desk.credit.replay(application_id=application)
    assert (report.replayed, report.different) == (1, (f"{application}/1",))
    # What was tampered with must not stay behind for the tests of whole replays.
    async with desk.world.connection.transaction():
        await desk.sql("set local session_replication_role = replica")
        await desk.sql("delete from credit.decision where application_id = %(id)s", id=application)


@pytest.mark.requirement("C20")
async def test_the_tables_hold_a_person_only_as_ciphertext_and_keyed_hash(desk: Desk) -> None:
    form = new_person()
    application = (await desk.world.submit(form)).json["application_id"]
    [row] = await desk.sql(
        "select a.identity_encrypted, p.blind_index, row_to_json(a)::text || row_to_json(p)::text as text"
        " from credit.application a join credit.applicant p on p.id = a.applicant_id where a.id = %(id)s",
        id=application,
    )
    person = form["applicant"]
    assert len(row["blind_index"]) == 32
    for value in (person["legal_name"], person["dob"]):
        assert value.encode() not in bytes(row["identity_encrypted"])
        assert value not in row["text"]
    vault = identity_vault(desk.world.settings)
    opened = vault.open_identity(application, bytes(row["identity_encrypted"]))
    assert (opened.legal_name, opened.ssn_last4) == (person["legal_name"], person["ssn_last4"])


@pytest.mark.requirement("C20")
async def test_an_identity_copied_to_another_application_cannot_be_read_there(desk: Desk) -> None:
    first, second = await desk.application(), await desk.application()
    [row] = await desk.sql("select identity_encrypted from credit.application where id = %(id)s", id=first)
    with pytest.raises(CiphertextRejected):
        identity_vault(desk.world.settings).open_identity(second, bytes(row["identity_encrypted"]))


@pytest.mark.requirement("P3")
async def test_a_person_is_found_again_after_the_key_of_the_index_was_rotated(desk: Desk) -> None:
    form, settings = new_person(), desk.world.settings
    first = (await desk.world.submit(form)).json["application_id"]
    key_id = rotate_key(settings.home / KEY_FILE, purpose="blind_index")
    async with open_credit_world(settings, cache=desk.world.cache) as restarted:
        again = (await restarted.submit(changed(form, product_type="travel_card"))).json["application_id"]
        newcomer = (await restarted.submit(new_person())).json["application_id"]
        assert (await restarted.submit(form)).problem == (409, "application-exists")
    query = (
        "select a.id, p.id as person, p.blind_index_key_id as key from credit.application a"
        " join credit.applicant p on p.id = a.applicant_id where a.id = any(%(ids)s)"
    )
    found = {row["id"]: row for row in await desk.sql(query, ids=[first, again, newcomer])}
    assert found[first]["person"] == found[again]["person"]
    assert (found[first]["key"], found[newcomer]["key"]) == ("k1", key_id)
