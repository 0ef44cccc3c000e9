"""Manual review over HTTP: the queue, claims, verdicts with reasons, four eyes. Each act audited and announced."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from faregate.credit.routes.review_forms import FileAnswer, QueueAnswer
from tests.credit_desk import GOOD_ROW, completed, desk_of_module, servers_of_module  # noqa: F401
from tests.credit_world import new_key
from tests.review_room import (  # noqa: F401
    APPROVE,
    DENY,
    NOTE,
    Room,
    quiet_room,
    room_of_module,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("C33")]


async def ids(room: Room, **query: Any) -> list[str]:
    reply = await room.get(**query)
    assert reply.status == 200, reply.body
    return [line["review_id"] for line in reply.json["reviews"]]


async def test_whatever_goes_to_review_stands_in_the_queue_with_its_cause(room: Room) -> None:
    review = await room.in_review(fraud="unknown")
    row = await room.row(review)
    assert (row["state"], row["decision_version"], row["cause"]) == ("open", 1, "check_missing")
    assert (await room.actions(review))[-1] == ("decision-service", "review.opened")
    [event] = await room.announced(review)
    assert event["payload"]["priority"] == "normal"


async def test_a_decision_that_is_rolled_back_opens_no_review(room: Room) -> None:
    application = await room.desk.checked(fraud="unknown")
    with pytest.raises(ZeroDivisionError):
        await room.desk.decide(application, then=lambda: 1 / 0)
    query = "select * from credit.review where application_id = %(id)s"
    assert await room.desk.sql(query, id=application) == []


async def test_the_queue_is_in_order_of_what_is_due_and_can_be_filtered(room: Room) -> None:
    missing = await room.in_review(fraud="unknown")
    concern = await room.in_review(fraud={"fraud_level": "medium"})
    large = await room.in_review(amount=20_000, fraud={"fraud_level": "medium"})
    assert await ids(room) == [large, concern, missing]
    QueueAnswer.model_validate((await room.get()).json)
    assert await ids(room, order="opened") == [missing, concern, large]
    assert (await ids(room, order="amount"))[0] == large
    assert await ids(room, cause="concern", priority="high") == [concern]
    assert await ids(room, limit=1, after=large) == [concern]
    await room.claim(missing)
    assert await ids(room, claimed="true") == await ids(room, claimed_by="ada") == [missing]
    assert await ids(room, claimed="false") == [large, concern]
    assert await ids(room, overdue="true") == []


async def test_what_waits_longer_comes_before_what_is_more_urgent(room: Room) -> None:
    old, urgent = await room.in_review(), await room.in_review(fraud={"fraud_level": "medium"})
    assert await ids(room) == [urgent, old]
    await room.desk.sql("update credit.review set due_at = now() where id = %(id)s", id=old)
    assert await ids(room) == [old, urgent]
    assert await ids(room, overdue="true") == [old]


async def test_the_figures_of_the_queue_count_by_priority(room: Room) -> None:
    first, _ = await room.in_review(), await room.in_review()
    await room.claim(first)
    [line] = (await room.get("/stats")).json["lines"]
    assert (line["priority"], line["waiting"], line["claimed"], line["overdue"]) == ("normal", 2, 1, 0)
    await room.desk.world.add_key("watcher", client="watcher", scopes=["metrics:read"])
    metrics = await room.desk.world.request("GET", "/metrics", client="watcher")
    assert b'faregate_reviews_waiting{priority="normal"} 2.0' in metrics.body
    assert b'faregate_reviews_oldest_seconds{priority="urgent"} 0.0' in metrics.body


@pytest.mark.requirement("C20")
@pytest.mark.parametrize(("verdict", "status"), [(APPROVE, "approved"), (DENY, "denied")])
async def test_a_reviewer_decides_and_the_application_gets_a_further_version(
    room: Room, verdict: dict[str, Any], status: str
) -> None:
    review = await room.in_review()
    reply = await room.decide(review, verdict)
    assert (reply.status, reply.json["status"], reply.json["decision_version"]) == (200, status, 2)
    row = await room.row(review)
    assert (row["state"], row["decided_by"], row["decision_version"]) == ("closed", "ada", 2)
    decision = (await room.desk.world.decision(row["application_id"])).json
    assert (decision["outcome"], decision["reason_codes"]) == (status, verdict["reason_codes"])
    assert (await room.actions(review))[-3:] == [
        ("reviewer:ada", "review.claimed"),
        ("reviewer:ada", "review.decided"),
        ("reviewer:ada", "decision.finalized"),
    ]
    types = [event["type"].removeprefix("credit.review.") for event in await room.announced(review)]
    assert types == ["opened", "claimed", "closed"]


@pytest.mark.requirement("C17")
async def test_a_person_s_denial_makes_a_notice_due_and_is_replayed(room: Room) -> None:
    review = await room.in_review()
    await room.decide(review, DENY)
    application = (await room.row(review))["application_id"]
    query = "select decision_version from credit.adverse_action_notice where application_id = %(id)s"
    assert await room.desk.sql(query, id=application) == [{"decision_version": 2}]
    assert (await room.desk.credit.replay(application_id=application)).different == ()


REFUSED_VERDICTS = {
    "no code": ({"reason_codes": []}, 422, "validation-failed"),
    "a code that nobody knows": ({"reason_codes": ["BECAUSE"]}, 400, "reason-code-unknown"),
    "a denial that nobody can be told": (
        {"reason_codes": ["SCORE_BORDERLINE"]},
        400,
        "adverse-reason-missing",
    ),
    "a note that says nothing": ({"note": "  no   "}, 400, "note-too-short"),
    "an outcome that is none": ({"outcome": "manual_review"}, 422, "validation-failed"),
    "another claim": ({"fence": 7}, 409, "claim-lost"),
    "another revision": ({"revision": 7}, 409, "review-changed"),
}


@pytest.mark.parametrize("what", REFUSED_VERDICTS)
async def test_a_verdict_without_its_reasons_or_its_claim_is_refused(room: Room, what: str) -> None:
    changes, status, slug = REFUSED_VERDICTS[what]
    review = await room.in_review()
    held = await room.claim(review)
    async with room.desk.world.unchanged():
        reply = await room.post(f"/{review}/decision", {**held, **DENY, **changes})
    assert reply.problem == (status, slug)


async def test_ten_reviewers_race_for_a_claim_and_one_wins(room: Room) -> None:
    review = await room.in_review()
    for number in range(10):
        await room.desk.world.add_key(f"r{number}", client=f"r{number}", scopes=["review:work"])
    replies = await asyncio.gather(*(room.post(f"/{review}/claim", who=f"r{n}") for n in range(10)))
    assert sorted(reply.status for reply in replies) == [200] + [409] * 9
    assert {r.problem[1] for r in replies if r.status == 409} == {"review-taken"}
    assert (await room.row(review))["fence"] == 1


async def test_a_claim_that_ended_is_taken_over_and_its_late_decision_refused(room: Room) -> None:
    review = await room.in_review()
    late = await room.claim(review, who="ada")
    await room.expire(review)
    taken = await room.claim(review, who="bob")
    assert taken["fence"] == late["fence"] + 1
    reply = await room.post(f"/{review}/decision", {**late, **APPROVE}, who="ada")
    assert reply.problem == (409, "claim-lost")
    assert (await room.post(f"/{review}/decision", {**taken, **DENY}, who="bob")).json["status"] == "denied"
    reply = await room.post(f"/{review}/decision", {**late, **APPROVE}, who="ada")
    assert reply.problem == (409, "review-over")


async def test_nobody_decides_under_a_claim_that_ended_even_if_it_is_still_theirs(room: Room) -> None:
    review = await room.in_review()
    held = await room.claim(review)
    await room.expire(review)
    reply = await room.post(f"/{review}/decision", {**held, **APPROVE})
    assert reply.problem == (409, "claim-lost")


async def test_a_claim_is_extended_and_released_by_its_holder_only(room: Room) -> None:
    review = await room.in_review()
    held = {"fence": (await room.claim(review))["fence"]}
    before = (await room.row(review))["claimed_until"]
    assert (await room.post(f"/{review}/extension", held)).status == 200
    assert (await room.row(review))["claimed_until"] > before
    for act in ("extension", "release"):
        assert (await room.post(f"/{review}/{act}", held, who="bob")).problem == (409, "claim-lost")
    assert (await room.post(f"/{review}/release", held)).json["claimed_by"] is None
    assert (await room.claim(review, who="bob"))["fence"] == 2


async def test_claiming_twice_keeps_the_one_claim(room: Room) -> None:
    review = await room.in_review()
    first = await room.claim(review, who="eve")
    assert await room.claim(review, who="eve") == first
    assert (await room.actions(review)).count(("reviewer:eve", "review.claimed")) == 1


async def test_one_person_holds_no_more_claims_than_the_limit_however_fast(room: Room) -> None:
    reviews = [await room.in_review() for _ in range(4)]
    replies = await asyncio.gather(*(room.post(f"/{review}/claim") for review in reviews))
    assert sorted(reply.status for reply in replies) == [200, 409, 409, 409]
    assert {r.problem[1] for r in replies if r.status == 409} == {"too-many-claims"}


async def test_the_next_review_is_what_is_due_first_and_each_gets_another(room: Room) -> None:
    reviews = [await room.in_review() for _ in range(2)]
    replies = await asyncio.gather(*(room.post("/next", who=who) for who in ("ada", "bob", "eve")))
    claimed = [reply.json["review_id"] for reply in replies if reply.status == 200]
    assert sorted(claimed) == sorted(reviews)
    assert [r.problem for r in replies if r.status != 200] == [(404, "nothing-to-claim")]


async def test_a_priority_that_a_person_set_outlives_a_new_decision(room: Room) -> None:
    review = await room.in_review()
    reply = await room.post(f"/{review}/priority", {"priority": "urgent", "reason": NOTE})
    assert (reply.json["priority"], reply.json["is_priority_set"]) == ("urgent", True)
    held = await room.claim(review)
    assert (await room.post(f"/{review}/reevaluation", held)).json["status"] == "manual_review"
    row = await room.row(review)
    assert (row["priority"], row["decision_version"], row["revision"]) == (1, 2, 2)


async def test_above_the_limit_a_second_person_confirms(room: Room) -> None:
    review = await room.in_review(amount=10_001)
    proposed = await room.decide(review, APPROVE)
    assert (proposed.json["status"], proposed.json["second_person"]) == (None, "amount")
    application = (await room.row(review))["application_id"]
    assert (await room.desk.world.status(application)).json["status"] == "manual_review"
    assert (await room.post(f"/{review}/claim")).problem == (403, "same-person")
    held = await room.claim(review, who="bob")
    confirmed = await room.post(f"/{review}/confirmation", held, who="bob")
    assert (confirmed.json["status"], confirmed.json["decision_version"]) == ("approved", 2)
    row = await room.row(review)
    assert (row["proposed_by"], row["decided_by"]) == ("ada", "bob")
    [*_, closed] = await room.announced(review)
    assert (closed["payload"]["reviewer"], closed["payload"]["confirmed"]) == ("bob", "ada")


async def test_at_the_limit_one_person_decides(room: Room) -> None:
    reply = await room.decide(await room.in_review(amount=10_000), APPROVE)
    assert reply.json["status"] == "approved"


async def test_overriding_a_knock_out_takes_two_however_small_the_amount(room: Room) -> None:
    review = await room.in_review()
    application = (await room.row(review))["application_id"]
    await room.desk.sql(
        "update credit.risk_signal set facts = facts || '{\"watchlist_match\": true}'"
        " where application_id = %(id)s and check_name = 'kyc'",
        id=application,
    )
    file = (await room.get(f"/{review}")).json
    assert file["by_rules"]["reason_codes"] == ["WATCHLIST_MATCH"]
    assert file["second_person"] == {"approved": "rules_deny", "denied": None}
    assert (await room.decide(review, APPROVE)).json["second_person"] == "rules_deny"


async def test_what_a_second_person_rejects_goes_back_to_the_queue(room: Room) -> None:
    review = await room.in_review(amount=50_000)
    await room.decide(review, APPROVE)
    held = await room.claim(review, who="bob")
    assert (await room.post(f"/{review}/decision", {**held, **DENY}, who="bob")).problem == (
        409,
        "proposal-pending",
    )
    reply = await room.post(f"/{review}/rejection", held, who="bob")
    assert (reply.json["review"]["state"], reply.json["review"]["proposal"]) == ("open", None)
    assert ("reviewer:bob", "review.rejected") in await room.actions(review)
    held = await room.claim(review)
    assert (await room.post(f"/{review}/confirmation", held)).problem == (409, "proposal-missing")


async def test_the_database_itself_refuses_one_person_for_both_pairs_of_eyes(room: Room) -> None:
    review = await room.in_review(amount=50_000)
    await room.decide(review, APPROVE)
    for column in ("claimed_by", "decided_by"):
        with pytest.raises(Exception, match="four_eyes_are_not_two"):
            await room.desk.sql(f"update credit.review set {column} = 'ada' where id = %(id)s", id=review)


async def test_late_facts_mark_the_review_and_outdate_what_was_read(room: Room) -> None:
    review = await room.in_review()
    application = (await room.row(review))["application_id"]
    held = await room.claim(review)
    await room.desk.settle(completed(application, "fraud", GOOD_ROW, {"fraud_level": "high"}))
    row = await room.row(review)
    assert (row["has_new_facts"], row["revision"]) == (True, 2)
    assert [e["type"] for e in await room.announced(review)][-1] == "credit.review.facts_arrived"
    assert (await room.post(f"/{review}/decision", {**held, **APPROVE})).problem == (409, "review-changed")
    reply = await room.post(f"/{review}/reevaluation", {**held, "revision": 2})
    assert (reply.json["status"], reply.json["decision_version"]) == ("denied", 2)
    row = await room.row(review)
    assert (row["state"], row["decided_by"]) == ("closed", None)


async def test_a_signal_that_says_nothing_new_marks_nothing(room: Room) -> None:
    review = await room.in_review()
    application = (await room.row(review))["application_id"]
    await room.desk.settle(completed(application, "kyc", GOOD_ROW, "unknown"))
    assert (await room.row(review))["revision"] == 1


@pytest.mark.requirement("C23")
@pytest.mark.parametrize(
    ("awaited", "attempt", "status", "is_replaced"),
    [
        (None, 2, "done", False),  # nobody authorised a new pull
        (2, 2, "done", True),
        (2, 3, "done", True),  # a retry of the new pull
        (2, 1, "done", False),  # the old answer once more
        (2, 2, "unknown", False),
        (2, 2, "not_done", False),
    ],
)
async def test_an_answer_is_replaced_only_by_that_of_an_authorised_attempt(
    room: Room, awaited: int | None, attempt: int, status: str, is_replaced: bool
) -> None:
    review = await room.in_review()
    application = (await room.row(review))["application_id"]
    where = "where application_id = %(id)s and check_name = 'kyc'"
    await room.world.sql(
        f"update credit.risk_signal set awaited_attempt = %(awaited)s {where}",
        id=application,
        awaited=awaited,
    )
    answer = {"identity_verified": True, "watchlist_match": True} if status == "done" else status
    event = completed(application, "kyc", GOOD_ROW, answer)
    await room.desk.settle(event.model_copy(update={"provider_request_id": f"{application}:kyc:{attempt}"}))
    [signal] = await room.world.sql(f"select * from credit.risk_signal {where}", id=application)
    assert (signal["facts"]["watchlist_match"] is True) == is_replaced
    assert signal["awaited_attempt"] == (None if is_replaced else awaited)


@pytest.mark.requirement("C5")
async def test_a_new_decision_voids_what_was_proposed_on_the_old_one(room: Room) -> None:
    review = await room.in_review(amount=50_000)
    await room.decide(review, APPROVE)
    application = (await room.row(review))["application_id"]
    await room.desk.reevaluate(application, version=1)
    row = await room.row(review)
    assert (row["state"], row["proposed_by"], row["decision_version"]) == ("open", None, 2)


async def test_an_approval_in_doubt_opens_another_review_that_is_urgent(room: Room) -> None:
    review = await room.in_review()
    await room.decide(review, APPROVE)
    application = (await room.row(review))["application_id"]
    await room.desk.settle(completed(application, "fraud", GOOD_ROW, {"fraud_level": "high"}))
    await room.desk.reevaluate(application, version=2)
    again = await room.row(await room.review_of(application))
    assert again["id"] != review
    assert (again["cause"], again["priority"], again["decision_version"]) == ("decision_in_doubt", 1, 3)


async def test_the_file_shows_what_decides_and_nobody_s_name(room: Room) -> None:
    review = await room.in_review()
    reply = await room.get(f"/{review}")
    file = reply.json
    FileAnswer.model_validate(file)
    assert file["application"]["amount"] == 2500
    assert {s["check"]: s["status"] for s in file["signals"]}["fraud"] == "unknown"
    assert file["decisions"][0]["trace"]["scorecard"]["contributions"]
    assert [entry["action"] for entry in file["audit_trail"]][-1] == "review.opened"
    told = {code["code"] for code in file["reason_codes"] if code["wording"]}
    assert "LENGTH_OF_EMPLOYMENT" in told
    assert "KYC_OK" not in told
    for field in (b"legal_name", b"ssn", b"dob"):
        assert field not in reply.body


async def test_a_name_is_shown_to_who_holds_the_review_and_that_is_written_down(room: Room) -> None:
    review = await room.in_review()
    assert (await room.get(f"/{review}/identity", fence=0)).problem == (409, "claim-lost")
    held = await room.claim(review)
    reply = await room.get(f"/{review}/identity", fence=held["fence"])
    assert set(reply.json) == {"legal_name", "dob", "ssn_last4"}
    assert reply.headers["cache-control"] == "no-store"
    assert (await room.actions(review))[-1] == ("reviewer:ada", "review.identity_shown")


async def test_what_is_sent_twice_under_a_key_is_done_once(room: Room) -> None:
    review, key = await room.in_review(), new_key()
    held = await room.claim(review)
    body = {**held, **APPROVE}
    first, second = [await room.post(f"/{review}/decision", body, key=key) for _ in range(2)]
    assert (first.status, first.body) == (second.status, second.body)
    assert second.headers["idempotent-replayed"] == "true"
    other = await room.in_review()
    assert (await room.post(f"/{other}/decision", body, key=key)).problem == (422, "idempotency-key-reused")


@pytest.mark.parametrize("scopes", [["credit:read"], ["review:read"], ["review:work"]])
async def test_each_act_needs_its_scope(room: Room, scopes: list[str]) -> None:
    review = await room.in_review()
    name = f"only-{scopes[0]}"
    await room.desk.world.add_key(name, client="mallory", scopes=scopes)
    reads = [await room.get(path, who=name) for path in ("", "/stats", f"/{review}")]
    assert {r.status for r in reads} == ({200} if scopes == ["review:read"] else {403})
    acts = [await room.post(f"/{review}/{act}", {"fence": 9}, who=name) for act in ("release", "extension")]
    assert {r.status for r in acts} == ({409} if scopes == ["review:work"] else {403})
    assert (
        await room.post(f"/{review}/repulls", {"checks": ["kyc"], "reason": NOTE}, who=name)
    ).status == 403
    assert (await room.get(f"/{review}/identity", who=name, fence=1)).status == 403


@pytest.mark.parametrize("path", ["/rev_nobody", "/rev_%25", "/x", "/rev_nobody/identity?fence=1"])
async def test_a_review_that_is_not_there_is_not_found(room: Room, path: str) -> None:
    assert (await room.get(path)).problem == (404, "review-not-found")


@pytest.mark.parametrize(
    "query", [{"order": "name"}, {"limit": 0}, {"limit": "x"}, {"color": "red"}, {"claimed": "perhaps"}]
)
async def test_a_query_that_is_none_is_refused(room: Room, query: dict[str, Any]) -> None:
    assert (await room.get(**query)).problem == (422, "validation-failed")
