"""Rulesets in operation: roll back in one step, who did what and why, what watches and what challenges."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import psycopg
import pytest

from faregate.credit.handlers.decide import RULESET_NAME
from faregate.credit.handlers.trial import SHADOWED
from faregate.infra.clock import SystemClock
from faregate.rules import api
from faregate.rules.contracts import Act, RolledBack, Traffic
from faregate.rules.split import BASIS_POINTS, Arm, arm_of, bucket_of
from faregate.rules.store import NothingToRollBackTo, NotTheActiveVersion, RulesetVersionNotFound
from tests.credit_desk import BAD_ROW, Desk, desk_of_module, servers_of_module  # noqa: F401
from tests.ruleset_desk import (  # noqa: F401
    Rules,
    denying_everything,
    failing,
    released,
    reviewing_low_risk,
    rules_of_desk,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAME = "lifecycle"


class Lifecycle:
    """A name of its own whose versions 1 to 4 are published; acts come one second after another."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.database, self.name, self.now = desk.database, name, SystemClock().now()

    def act(self, reason: str = "a test") -> Act:
        self.now += timedelta(seconds=1)
        return Act(actor="ada", at=self.now, reason=reason)

    async def publish(self) -> None:
        async with self.database.transaction() as conn:
            for version in range(1, 5):
                document = released(version) | {"name": self.name}
                await api.publish(conn, document=document, published_at=self.now, published_by="ada")

    async def activate(self, version: int) -> None:
        act = self.act(f"version {version}")
        async with self.database.transaction() as conn:
            await api.activate(
                conn,
                name=self.name,
                version=version,
                activated_at=act.at,
                activated_by=act.actor,
                reason=act.reason,
            )

    async def roll_back(self, expected: int | None = None) -> RolledBack:
        async with self.database.transaction() as conn:
            return await api.roll_back(conn, name=self.name, act=self.act("bad"), expected_version=expected)

    async def traffic(self) -> Traffic:
        async with self.database.connection() as conn:
            return await api.Rulesets().traffic(conn, name=self.name, at=self.now)

    async def trail(self) -> list[tuple[str, int | None, str | None]]:
        async with self.database.connection() as conn:
            return [(e.action, e.version, e.reason) for e in await api.audit_trail(conn, name=self.name)]


@pytest.fixture
async def cycle(desk: Desk, request: pytest.FixtureRequest) -> Lifecycle:
    made = Lifecycle(desk, f"{NAME}-{abs(hash(request.node.nodeid)) % 10**9}")
    await made.publish()
    return made


@pytest.mark.requirement("C28")
async def test_a_roll_back_is_one_step_and_says_from_when_to_when_the_version_was_active(
    cycle: Lifecycle,
) -> None:
    await cycle.activate(1)
    await cycle.activate(2)
    since = cycle.now
    done = await cycle.roll_back()
    assert (done.from_version, done.to_version, done.since) == (2, 1, since)
    assert done.rolled_back_at == cycle.now
    assert (await cycle.traffic()).version == 1


@pytest.mark.requirement("C28")
async def test_a_second_roll_back_goes_on_backwards_and_never_returns_to_what_was_rolled_back(
    cycle: Lifecycle,
) -> None:
    for version in (1, 2, 3):
        await cycle.activate(version)
    returned = [(await cycle.roll_back()).to_version for _ in range(2)]
    assert returned == [2, 1]
    with pytest.raises(NothingToRollBackTo):
        await cycle.roll_back()
    assert (await cycle.traffic()).version == 1


async def test_after_a_roll_back_the_next_activation_can_be_rolled_back_too(cycle: Lifecycle) -> None:
    for version in (1, 2):
        await cycle.activate(version)
    await cycle.roll_back()
    await cycle.activate(3)
    assert (await cycle.roll_back()).to_version == 1


async def test_only_the_expected_version_is_rolled_back(cycle: Lifecycle) -> None:
    for version in (1, 2, 3):
        await cycle.activate(version)
    with pytest.raises(NotTheActiveVersion):
        await cycle.roll_back(expected=2)
    assert (await cycle.roll_back(expected=3)).to_version == 2


async def test_two_who_roll_back_the_same_version_at_once_roll_it_back_once(cycle: Lifecycle) -> None:
    for version in (1, 2, 3):
        await cycle.activate(version)
    done = await asyncio.gather(*(cycle.roll_back(expected=3) for _ in range(5)), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in done) == ["NotTheActiveVersion"] * 4 + ["RolledBack"]
    assert (await cycle.traffic()).version == 2


async def test_a_name_that_was_never_active_cannot_be_rolled_back(cycle: Lifecycle) -> None:
    with pytest.raises(NothingToRollBackTo):
        await cycle.roll_back()


@pytest.mark.requirement("C28")
async def test_a_roll_back_by_a_clock_that_lags_takes_effect_all_the_same(cycle: Lifecycle) -> None:
    for version in (1, 2):
        await cycle.activate(version)
    active_since, cycle.now = cycle.now, cycle.now - timedelta(hours=1)
    done = await cycle.roll_back()
    cycle.now = active_since
    assert done.rolled_back_at == active_since
    assert (await cycle.traffic()).version == 1


@pytest.mark.requirement("C17")
async def test_publishing_activating_and_rolling_back_leave_who_and_why(cycle: Lifecycle) -> None:
    for version in (1, 2):
        await cycle.activate(version)
    await cycle.roll_back()
    assert (await cycle.trail())[:3] == [
        ("rolled_back", 2, "bad"),
        ("activated", 2, "version 2"),
        ("activated", 1, "version 1"),
    ]
    assert [action for action, _, _ in await cycle.trail()].count("published") == 4
    await cycle.publish()
    assert len(await cycle.trail()) == 7


async def test_shadow_and_split_are_set_apart_from_each_other(cycle: Lifecycle) -> None:
    await cycle.activate(1)
    async with cycle.database.transaction() as conn:
        await api.set_shadow(conn, name=cycle.name, version=2, act=cycle.act())
        await api.set_split(conn, name=cycle.name, version=3, basis_points=500, act=cycle.act())
    assert await cycle.traffic() == Traffic(
        version=1, shadow_version=2, challenger_version=3, challenger_basis_points=500
    )
    async with cycle.database.transaction() as conn:
        await api.set_shadow(conn, name=cycle.name, version=None, act=cycle.act())
    assert await cycle.traffic() == Traffic(
        version=1, shadow_version=None, challenger_version=3, challenger_basis_points=500
    )
    with pytest.raises(RulesetVersionNotFound):
        async with cycle.database.transaction() as conn:
            await api.set_shadow(conn, name=cycle.name, version=9, act=cycle.act())


@pytest.mark.requirement("C28")
async def test_a_version_that_is_rolled_back_goes_on_challenging_nobody(cycle: Lifecycle) -> None:
    await cycle.activate(1)
    async with cycle.database.transaction() as conn:
        await api.set_split(conn, name=cycle.name, version=2, basis_points=500, act=cycle.act())
        await api.set_shadow(conn, name=cycle.name, version=3, act=cycle.act())
    await cycle.activate(4)
    async with cycle.database.transaction() as conn:
        await api.set_split(conn, name=cycle.name, version=4, basis_points=500, act=cycle.act())
    await cycle.roll_back()
    assert await cycle.traffic() == Traffic(
        version=1, shadow_version=3, challenger_version=None, challenger_basis_points=0
    )
    assert (await cycle.trail())[0][:2] == ("trials_ended", 4)


async def test_a_version_that_is_activated_neither_watches_nor_challenges_itself(cycle: Lifecycle) -> None:
    await cycle.activate(1)
    async with cycle.database.transaction() as conn:
        await api.set_split(conn, name=cycle.name, version=2, basis_points=500, act=cycle.act())
        await api.set_shadow(conn, name=cycle.name, version=2, act=cycle.act())
    await cycle.activate(2)
    assert await cycle.traffic() == Traffic(
        version=2, shadow_version=None, challenger_version=None, challenger_basis_points=0
    )


@pytest.mark.parametrize(("version", "basis_points"), [(2, 0), (None, 1), (2, 10_001), (2, -1)])
async def test_a_split_needs_a_challenger_and_a_share(
    cycle: Lifecycle, version: int | None, basis_points: int
) -> None:
    with pytest.raises(api.SplitInvalid):
        async with cycle.database.transaction() as conn:
            await api.set_split(
                conn, name=cycle.name, version=version, basis_points=basis_points, act=cycle.act()
            )


@pytest.mark.parametrize("table", ["traffic", "audit_entry"])
@pytest.mark.parametrize(
    "change", ["delete from rules.{}", "update rules.{} set name = 'x'", "truncate rules.{}"]
)
async def test_what_was_done_cannot_be_changed_not_even_by_the_superuser(
    cycle: Lifecycle, desk: Desk, table: str, change: str
) -> None:
    async with cycle.database.transaction() as conn:
        await api.set_shadow(conn, name=cycle.name, version=2, act=cycle.act())
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        await desk.sql(change.format(table))


async def test_a_share_grows_without_anybody_changing_sides_back() -> None:
    people = [f"app_{number}" for number in range(4_000)]
    shares = [_challenged(people, basis_points) for basis_points in (500, 2_000, BASIS_POINTS)]
    assert shares[0] < shares[1] < shares[2] == set(people)
    assert len(shares[1]) == pytest.approx(800, rel=0.2)
    spread = Counter(bucket_of(person, name="other") // 1_000 for person in people)
    assert min(spread.values()) > 300


def _challenged(people: list[str], basis_points: int) -> set[str]:
    traffic = Traffic(
        version=1, shadow_version=None, challenger_version=2, challenger_basis_points=basis_points
    )
    return {p for p in people if arm_of(p, name="name", traffic=traffic) is Arm.CHALLENGER}


@pytest.mark.requirement("C17")
async def test_a_split_decides_each_application_by_its_arm_and_reports_both(desk: Desk, rules: Rules) -> None:
    champion, challenger = await rules.deploy(), await rules.publish(denying_everything)
    async with desk.database.transaction() as conn:
        await rules.operator.set_split(conn, challenger, basis_points=5_000, actor="ada", reason="a trial")
    applications = [await desk.decided() for _ in range(12)]
    async with desk.database.transaction() as conn:
        report = await rules.operator.split_report(conn, RULESET_NAME)
        await rules.operator.stop_split(conn, RULESET_NAME, actor="ada", reason="seen enough")
    expected = {a: bucket_of(a, name=RULESET_NAME) < 5_000 for a in applications}
    for application, is_challenged in expected.items():
        [(_, outcome, version)] = await rules.outcomes(application)
        assert (outcome, version) == (("denied", challenger) if is_challenged else ("approved", champion))
    arms = {line["arm"]: line for line in report.document["arms"]}
    assert {arm: line["decisions"] for arm, line in arms.items()} == Counter(
        "challenger" if is_challenged else "champion" for is_challenged in expected.values()
    )
    assert {arm: line["approval_rate"] for arm, line in arms.items()} == {
        arm: float(arm == "champion") for arm in arms
    }
    [(_, _, version)] = await rules.outcomes(await desk.decided())
    assert version == champion


@pytest.mark.requirement("C17")
async def test_a_shadow_watches_and_its_report_says_where_it_differs(desk: Desk, rules: Rules) -> None:
    active, shadow = await rules.deploy(), await rules.publish(reviewing_low_risk)
    async with desk.database.transaction() as conn:
        await rules.operator.start_shadow(conn, shadow, actor="ada", reason="before it decides")
    approved, denied = await desk.decided(), await desk.decided(BAD_ROW)
    async with desk.database.transaction() as conn:
        report = (await rules.operator.shadow_report(conn, RULESET_NAME)).document
        await rules.operator.stop_shadow(conn, RULESET_NAME, actor="ada", reason="seen enough")
    assert await rules.outcomes(approved) == [(1, "approved", active)]
    assert await rules.outcomes(denied) == [(1, "denied", active)]
    assert (report["watched"], report["errors"], report["agreement_rate"]) == (2, 0, 0.5)
    cells = {(cell["before"], cell["after"]): cell["count"] for cell in report["matrix"] if cell["count"]}
    assert cells == {("approved", "manual_review"): 1, ("denied", "denied"): 1}
    [differing] = report["differing"]
    assert (differing["application_id"], differing["outcome"]) == (approved, "manual_review")
    watched = "select count(*) from credit.shadow_result where shadow_version = %(shadow)s"
    await desk.decided()
    assert (await desk.sql(watched, shadow=shadow))[0]["count"] == 2


def shadowed(answer: str) -> float:
    return float(SHADOWED.labels(answer)._value.get())


@pytest.mark.requirement("C17")
async def test_a_shadow_that_fails_is_recorded_and_counted_and_the_decision_stands(
    desk: Desk, rules: Rules
) -> None:
    await rules.deploy()
    shadow, before = await rules.publish_unseen(failing), shadowed("error")
    async with desk.database.transaction() as conn:
        await rules.operator.start_shadow(conn, shadow, actor="ada", reason="a trial")
    application = await desk.checked()
    assert await desk.decide(application) == "approved"
    async with desk.database.transaction() as conn:
        report = (await rules.operator.shadow_report(conn, RULESET_NAME)).document
        await rules.operator.stop_shadow(conn, RULESET_NAME, actor="ada", reason="it fails")
    assert (report["watched"], report["errors"], report["agreement_rate"]) == (1, 1, 0.0)
    assert "RulesetFailed" in report["differing"][0]["error"]
    assert shadowed("error") == before + 1


async def test_a_shadow_whose_answer_cannot_be_stored_does_not_touch_the_decision(
    desk: Desk, rules: Rules
) -> None:
    await rules.deploy()
    shadow, before = await rules.publish(), shadowed("error")
    async with desk.database.transaction() as conn:
        await rules.operator.start_shadow(conn, shadow, actor="ada", reason="a trial")
    await desk.sql("alter table credit.shadow_result rename to shadow_result_away")
    try:
        application = await desk.checked()
        assert await desk.decide(application) == "approved"
    finally:
        await desk.sql("alter table credit.shadow_result_away rename to shadow_result")
        async with desk.database.transaction() as conn:
            await rules.operator.stop_shadow(conn, RULESET_NAME, actor="ada", reason="seen enough")
    assert len(await rules.outcomes(application)) == 1
    assert shadowed("error") == before + 1


async def test_nothing_is_recorded_while_nothing_is_tried(desk: Desk, rules: Rules) -> None:
    await rules.deploy()
    rows = "select (select count(*) from credit.shadow_result), (select count(*) as arms from credit.decision_arm)"
    before = await desk.sql(rows)
    await desk.decided()
    assert await desk.sql(rows) == before
