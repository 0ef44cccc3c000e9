"""Decisions: made once, recorded with all that they were made from, never changed, found out when tampered with."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

import psycopg
import pytest

from faregate.credit.handlers.checks import process_signals
from faregate.credit.handlers.decide import RULESET_NAME
from faregate.credit.store.artefacts import load_ruleset_document
from faregate.entrypoints.bootstrap.site import KEY_FILE, identity_vault, tools
from faregate.infra.clock import SystemClock
from faregate.infra.security.encryption import CiphertextRejected
from faregate.infra.security.keys import rotate_key
from faregate.rules.api import activate, publish
from tests.credit_desk import BAD_ROW, GOOD_ROW, Desk, completed, desk_of_module, servers_of_module  # noqa: F401
from tests.credit_worker import new_person
from tests.credit_world import changed, open_credit_world

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLES = ("credit", "eventlog", "workflow", "gateway", "rules", "access", "app")


@pytest.mark.requirement("C18")
async def test_ten_deciders_of_one_process_make_one_decision_and_announce_it_once(desk: Desk) -> None:
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
                (
                    psycopg.errors.IntegrityConstraintViolation,
                    psycopg.errors.InsufficientPrivilege,
                    psycopg.errors.FeatureNotSupported,  # other tables refer to it
                )
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
    "the outcome that is shown": "outcome = 'manual_review'",
    "the score that is shown": "risk_score = 0.9999",
    "the reasons that are shown": "reason_codes = '{BUREAU_OK}'",
    "the adverse reasons that are shown": "adverse_action_reasons = '[{}]'",
    "the ruleset": "ruleset_version = 'card-eligibility-99'",
    "the scorecard": "scorecard_version = 'german-99'",
    "the set of reason codes": "code_set_version = 'reason-codes-99'",
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
