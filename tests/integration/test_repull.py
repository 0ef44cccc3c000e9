"""New pulls: two people, one executed request an epoch, the answer decides again without a second run."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.credit_worker import (  # noqa: F401
    SLOW,
    STRAIGHT,
    CreditSystem,
    quiet_system,
    servers_of_module,
    system_of_module,
)
from tests.review_room import APPROVE, DENY, Reviewers
from tests.sandbox import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.requirement("C33"),
    pytest.mark.requirement("C23"),
]

DOWN = {"rates": {"unavailable": 1.0}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(system_of_module: CreditSystem) -> Reviewers:  # noqa: F811
    return await Reviewers.hired(system_of_module.world)


async def in_review(system: CreditSystem, people: Reviewers, name: str = "Mira Medium") -> tuple[str, str]:
    """Return an application that its checks sent to review, and the review."""
    application = await system.submit(name, amount=2_000)
    assert (await system.decided(application))["outcome"] == "manual_review"
    await system.until_quiet()
    return application, await people.review_of(application)


async def versions(system: CreditSystem, application: str, count: int) -> list[dict[str, Any]]:
    """Wait until there are so many versions of the decision and return them."""
    return await until(lambda: system.decisions(application), lambda found: len(found) >= count)


@pytest.mark.requirement("C20")
@pytest.mark.requirement("C5")
async def test_an_authorised_new_pull_is_executed_once_and_decides_again(
    system: CreditSystem, people: Reviewers
) -> None:
    async with system.faults(bureau=DOWN, bureau_alt=DOWN):
        application, review = await in_review(system, people, "Greta Gutmann")
    assert await system.executed(application) == STRAIGHT[1:]
    authorised = await people.authorise(await people.ask_for_repull(review, "bureau"))
    [reference] = authorised.json["provider_request_ids"]
    _, second = await versions(system, application, 2)
    assert (second["outcome"], second["version"]) == ("approved", 2)
    assert await system.executed(application, check="bureau") == [reference.removeprefix(f"{application}:")]
    runs = "select status from credit.workflow_execution where application_id = %(id)s"
    assert await system.sql(runs, id=application) == [{"status": "finished"}]
    requested = [e["payload"] for e in await system.events(application) if e["type"].endswith("requested")]
    assert requested[-1]["provider_request_id"] == reference
    assert requested[-1]["attempt"] == int(reference.rpartition(":")[2]) > 1
    assert (await people.row(review))["state"] == "closed"


async def test_each_epoch_of_a_check_that_was_done_is_executed_once(
    system: CreditSystem, people: Reviewers
) -> None:
    application, review = await in_review(system, people)
    for count in (2, 3):
        asked = await people.ask_for_repull(review, "bureau")
        assert (await people.authorise(asked)).status == 200
        await versions(system, application, count)
    assert await system.executed(application, check="bureau") == ["bureau:1", "bureau:2", "bureau:3"]
    signal = (await system.signals(application))["bureau"]
    assert signal["provider_request_id"] == f"{application}:bureau:3"
    assert [d["outcome"] for d in await system.decisions(application)] == ["manual_review"] * 3
    assert (await people.row(review))["decision_version"] == 3


async def test_in_a_new_epoch_the_fallback_stands_in_under_a_reference_of_its_own(
    system: CreditSystem, people: Reviewers
) -> None:
    async with system.faults(bureau=DOWN):
        application, review = await in_review(system, people)
        assert (await system.signals(application))["bureau"]["provider"] == "bureau_alt"
        await people.authorise(await people.ask_for_repull(review, "bureau"))
        await versions(system, application, 2)
    executed = await system.executed(application, check="bureau")
    assert len(executed) == 2
    assert executed[0] == "bureau_alt:1"
    signal = (await system.signals(application))["bureau"]
    assert signal["provider_request_id"] == f"{application}:{executed[1]}"


async def test_while_the_outcome_is_unknown_nobody_asks_again(
    system: CreditSystem, people: Reviewers
) -> None:
    application = await system.submit("Uma Unknown", hurried=True)
    await system.decided(application)
    await system.until_quiet()
    review = await people.review_of(application)
    assert (await people.ask_for_repull(review, "bureau")).problem == (409, "pull-still-open")
    assert list(await system.intents(application)).count("bureau:2") == 0


async def test_what_became_unknown_after_it_was_asked_for_is_not_authorised(
    system: CreditSystem, people: Reviewers
) -> None:
    application, review = await in_review(system, people)
    asked = await people.ask_for_repull(review, "kyc")
    await system.sql(
        "update gateway.intent set state = 'unknown', settled = 'unknown' where provider_request_id = %(id)s",
        id=f"{application}:kyc:1",
    )
    assert (await people.authorise(asked)).problem == (409, "pull-still-open")
    assert sorted(await system.intents(application)) == STRAIGHT


async def test_who_asks_for_a_new_pull_does_not_authorise_it_and_it_is_answered_once(
    system: CreditSystem, people: Reviewers
) -> None:
    application, review = await in_review(system, people)
    asked = await people.ask_for_repull(review, "fraud")
    assert (await people.ask_for_repull(review, "fraud", who="bob")).problem == (409, "repull-pending")
    assert (await people.authorise(asked, who="ada")).problem == (403, "same-person")
    assert sorted(await system.intents(application)) == STRAIGHT
    path = f"/{review}/repulls/{asked.json['repull_id']}/rejection"
    reply = await people.post(path, {"note": "Nothing speaks for it, the facts are fresh."}, who="bob")
    assert (reply.json["state"], reply.json["answered_by"]) == ("rejected", "bob")
    assert (await people.authorise(asked, who="eve")).problem == (409, "repull-answered")
    assert (await people.actions(review))[-2:] == [
        ("reviewer:ada", "review.repull_requested"),
        ("reviewer:bob", "review.repull_rejected"),
    ]


async def test_a_closed_review_makes_no_new_pull(system: CreditSystem, people: Reviewers) -> None:
    application, review = await in_review(system, people)
    asked = await people.ask_for_repull(review, "fraud")
    assert (await people.decide(review, APPROVE)).json["status"] == "approved"
    assert (await people.authorise(asked)).problem == (409, "review-over")
    assert (await people.ask_for_repull(review, "fraud")).problem == (409, "review-over")
    assert sorted(await system.intents(application)) == STRAIGHT


@pytest.mark.parametrize("checks", [["horoscope"], ["kyc", "kyc"]])
async def test_only_checks_that_there_are_can_be_pulled_again(
    system: CreditSystem, people: Reviewers, checks: list[str]
) -> None:
    _, review = await in_review(system, people)
    assert (await people.ask_for_repull(review, *checks)).problem == (400, "check-unknown")


async def test_the_answer_to_a_new_pull_outdates_what_a_reviewer_read(
    system: CreditSystem, people: Reviewers
) -> None:
    async with system.faults(kyc=SLOW):
        application = await system.submit("Mira Medium")
        await system.until_requested(application, "kyc:1")
        await system.call_back(application, status="failure")
        await system.decided(application)
    await system.until_quiet()
    review = await people.review_of(application)
    held = await people.claim(review)
    await people.authorise(await people.ask_for_repull(review, "kyc"))
    await versions(system, application, 2)
    assert (await people.post(f"/{review}/decision", {**held, **APPROVE})).problem == (409, "review-changed")
    held["revision"] = (await people.row(review))["revision"]
    reply = await people.post(f"/{review}/decision", {**held, **APPROVE})
    assert (reply.json["status"], reply.json["decision_version"]) == ("approved", 3)


async def test_an_answer_that_comes_after_a_person_decided_is_put_before_a_person_again(
    system: CreditSystem, people: Reviewers
) -> None:
    async with system.faults(bureau=DOWN, bureau_alt=DOWN):
        application, review = await in_review(system, people, "Greta Gutmann")
    async with system.no_worker():
        await people.authorise(await people.ask_for_repull(review, "bureau"))
        assert (await people.decide(review, DENY)).json["status"] == "denied"
    _, _, third = await versions(system, application, 3)
    assert (third["outcome"], third["reason_codes"][0]) == ("manual_review", "DENIAL_IN_DOUBT")
    again = await people.row(await people.review_of(application))
    assert (again["cause"], again["decision_version"]) == ("decision_in_doubt", 3)


async def test_an_answer_that_only_bears_out_what_a_person_decided_makes_no_further_version(
    system: CreditSystem, people: Reviewers
) -> None:
    async with system.faults(bureau=DOWN, bureau_alt=DOWN):
        application, review = await in_review(system, people, "Greta Gutmann")
    async with system.no_worker():
        await people.authorise(await people.ask_for_repull(review, "bureau"))
        assert (await people.decide(review, APPROVE)).json["status"] == "approved"
    await until(lambda: system.signals(application), lambda found: found["bureau"]["status"] == "done")
    await system.until_quiet()
    assert [d["outcome"] for d in await system.decisions(application)] == ["manual_review", "approved"]
