"""The features of live payments follow the event log, are filled again when lost, and are not trusted before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from faregate.entrypoints.bootstrap.features import recent_events
from faregate.entrypoints.feature_commands import app
from faregate.events import EVENT_TYPES
from faregate.events.base import PublishedEvent
from faregate.events.behaviour import DeviceSeen, LoginAttempted, PageClicked, PasswordChanged, SessionEnded
from faregate.events.members import ProfileUpdated, UserRegistered
from faregate.events.payments import CardIssued, PaymentAuthorised, PaymentDeclined, PaymentReversed
from faregate.features.declarations import Entity, pair
from faregate.features.facts import FeatureEvent, Status
from faregate.features.feature_set import FeatureSet
from faregate.features.keeping import (
    BATCH,
    DISORDER,
    GROUP,
    HORIZON,
    REVERSIBLE_S,
    TYPES,
    FeatureKeeper,
    FeaturesCold,
    FillTakenOver,
    WarmUp,
    fact_of,
    live_features,
)
from faregate.features.online import OnlineFeatures
from faregate.features.payments import PAYMENTS
from faregate.fraud.contracts.ingestion import Kind, Reported
from faregate.fraud.handlers.ingest import Ingestion
from faregate.infra.cache import Cache
from faregate.infra.clock import SystemClock
from faregate.infra.eventlog import ConsumersBehind, place_before
from faregate.infra.security.keys import KeyRing, KeySet
from faregate.infra.security.pseudonym import Pseudonyms
from faregate.infra.settings import Settings
from faregate.kernel.event import Event, NewEvent
from tests.conftest import OpenDatabase
from tests.eventlog import NOON, Log, eventually, running, running_log
from tests.member_desk import ManualClock
from tests.servers import own_servers
from tests.valkey import asked


def paid(number: int, *, member: str | None = "mbr_1", amount: int = 100, minutes: float = 0) -> NewEvent:
    at = NOON + timedelta(minutes=minutes)
    return _appended(
        PaymentAuthorised(
            payment_id=f"pay_{number}",
            member_id=member,
            amount_minor=amount,
            currency="EUR",
            merchant_category=5812,
            merchant="mer_1",
            authorised_at=at,
        ),
        at,
    )


def declined(number: int, *, minutes: float) -> NewEvent:
    """The same as was paid, only that it was not."""
    at = NOON + timedelta(minutes=minutes)
    data = {**paid(number, minutes=minutes).data, "declined_at": at, "reasons": ["SANCTIONED_COUNTRY"]}
    return _appended(PaymentDeclined.model_validate(data), at)


def reversed_(number: int, *, minutes: float) -> NewEvent:
    at = NOON + timedelta(minutes=minutes)
    return _appended(PaymentReversed(payment_id=f"pay_{number}", reversed_at=at), at)


def _appended(published: PublishedEvent, at: datetime) -> NewEvent:
    return published.to_event(id=uuid4(), time=at)


def logged(event: NewEvent) -> Event:
    """The event as a consumer reads it."""
    return Event(**{name: getattr(event, name) for name in NewEvent.__slots__}, seq=1)


PAYMENTS_OF_A_DAY: Sequence[NewEvent] = [
    paid(1, minutes=0),
    paid(2, minutes=0.5, amount=300),
    paid(3, minutes=1, amount=50),
    reversed_(2, minutes=2),
    reversed_(9, minutes=3),
    paid(9, minutes=3),
    paid(4, minutes=4, member=None),
]


def asking(*, minutes: float) -> FeatureEvent:
    fact = fact_of(logged(paid(1_000, minutes=minutes, amount=1)))
    assert isinstance(fact, FeatureEvent)
    return fact


async def spent(features: OnlineFeatures, *, minutes: float = 5) -> tuple[object, object]:
    """What was spent and how often in an hour, asked by a payment of 1 that is taken back."""
    event = asking(minutes=minutes)
    observed = await features.observe(event)
    assert observed.values is not None
    return observed.values["member_spent_1h"], observed.values["merchant_count_1d"]


EXPECTED = (100 + 50 + 1, 4)
"""Payments 1 and 3 and the one that asks; payment 4 counts for the merchant only."""


@pytest.fixture
async def log(open_database: OpenDatabase) -> AsyncIterator[Log]:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    async with running_log(credit=credit, admin=admin) as running_one:
        yield running_one


def member(log: Log, keeper: FeatureKeeper) -> object:
    group = keeper.consumer_group(clock=ManualClock(NOON + timedelta(days=1)))
    return log.source.subscribe(
        database=log.admin, group=group.name, types=group.types, handler=group.handler
    ).run


@pytest.mark.requirement("F2")
@pytest.mark.requirement("F4")
async def test_the_features_follow_the_log(log: Log, cache: Cache) -> None:
    features = live_features(cache)
    async with running(member(log, FeatureKeeper(features, cache))):  # type: ignore[arg-type]
        await log.append(*PAYMENTS_OF_A_DAY)
        last = PAYMENTS_OF_A_DAY[-1]
        fact = fact_of(logged(last))
        assert isinstance(fact, FeatureEvent)
        await eventually(lambda: is_there(log, len(PAYMENTS_OF_A_DAY)), what="all are handled")
    assert (await features.observe(fact)).status is Status.DUPLICATE
    assert await spent(features) == EXPECTED


async def is_there(log: Log, count: int, *, group: str = GROUP) -> bool:
    [row] = await log.rows("select count(*) as n from eventlog.inbox where consumer_group = %s", group)
    return bool(row["n"] == count)


@pytest.mark.requirement("F4")
async def test_what_was_lost_is_filled_again_from_the_log_and_is_not_trusted_before(
    log: Log, cache: Cache, settings: Settings
) -> None:
    features = live_features(cache)
    keeper = FeatureKeeper(features, cache)
    gate = WarmUp(keeper, log.admin)
    await log.append(*PAYMENTS_OF_A_DAY)
    await log.until_sequenced(len(PAYMENTS_OF_A_DAY))
    with pytest.raises(FeaturesCold):
        await gate.check()
    assert await keeper.rebuild(events_of(log, settings)) == len(PAYMENTS_OF_A_DAY)
    with pytest.raises(ConsumersBehind):
        await gate.check()
    async with running(member(log, keeper)):  # type: ignore[arg-type]
        await eventually(lambda: is_open(gate), what="the gate is open")
        assert await spent(features) == EXPECTED
        await cache.clear()
        with pytest.raises(FeaturesCold):
            await gate.check()
        await keeper.fill(events_of(log, settings))
        await gate.check()
        assert await spent(features) == EXPECTED


async def test_filling_again_what_is_there_changes_nothing(
    log: Log, cache: Cache, settings: Settings
) -> None:
    features = live_features(cache)
    keeper = FeatureKeeper(features, cache)
    await log.append(*PAYMENTS_OF_A_DAY)
    await log.until_sequenced(len(PAYMENTS_OF_A_DAY))
    for _ in range(2):
        await keeper.fill(events_of(log, settings))
    await keeper.apply([event async for event in events_of(log, settings)])
    assert await spent(features) == EXPECTED
    await keeper.rebuild(events_of(log, settings))
    assert await spent(features) == EXPECTED


def events_of(log: Log, settings: Settings) -> AsyncIterator[Event]:
    return recent_events(log.admin, settings, now=NOON + timedelta(days=1))


async def is_open(gate: WarmUp) -> bool:
    try:
        await gate.check()
    except (FeaturesCold, ConsumersBehind):
        return False
    return True


@pytest.mark.requirement("F4")
async def test_a_valkey_that_was_started_again_is_not_trusted_until_it_is_filled(tmp_path: Path) -> None:
    with own_servers(tmp_path / "home", migrated=False) as servers:
        cache = await Cache.open(
            f"unix://{servers.valkey_socket}", request_timeout_ms=5_000, retry_after_s=0.01
        )
        keeper = FeatureKeeper(live_features(cache), cache)
        await keeper.fill(nothing())
        assert await keeper.is_warm()
        servers.valkey.restart()
        await asyncio.to_thread(servers.valkey.start)
        assert not await keeper.is_warm()
        await keeper.fill(nothing())
        assert await keeper.is_warm()
        await cache.close()


@pytest.mark.requirement("F4")
async def test_the_command_fills_the_features_from_the_log(
    log: Log, cache: Cache, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append(*PAYMENTS_OF_A_DAY)
    await log.until_sequenced(len(PAYMENTS_OF_A_DAY))
    assert settings.database_url
    assert settings.valkey_url
    monkeypatch.setenv("FAREGATE_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("FAREGATE_VALKEY_URL", settings.valkey_url.get_secret_value())
    monkeypatch.setenv("FAREGATE_HOME", str(settings.home))
    # Once that noon is out of every window it is passed over.
    result = await asyncio.to_thread(CliRunner().invoke, app, ["rebuild", "--json"])
    assert result.exit_code == 0, result.output
    [report] = json.loads(result.stdout)
    days_ago = (SystemClock().now() - NOON).days
    assert report["events"] == (len(PAYMENTS_OF_A_DAY) if days_ago < HORIZON.days else 0)
    assert await live_features(cache).is_warm()


async def test_only_who_filled_last_says_that_the_features_are_warm(cache: Cache) -> None:
    """A rebuild that begins while a worker fills throws away what the worker did: the worker must not call it warm."""
    features = live_features(cache)
    worker, command = FeatureKeeper(features, cache), FeatureKeeper(features, cache)

    async def overtaken() -> AsyncIterator[Event]:
        for number in range(BATCH):
            yield logged(paid(number))
        assert await features.begin_to_fill("command", by_force=True)
        assert not await features.begin_to_fill("another", by_force=False)

    with pytest.raises(FillTakenOver):
        await worker.fill(overtaken())
    assert not await worker.is_warm()
    await worker.fill(nothing())  # somebody else has the right: nothing happens
    assert not await worker.is_warm()
    await command.rebuild(nothing())
    assert await worker.is_warm()


async def test_an_event_that_was_half_lost_is_whole_after_it_comes_again(
    cache: Cache, valkey_socket: Path
) -> None:
    """Keys are forgotten one after the other while others are written: the answer may be left, and the event gone."""
    features = live_features(cache)
    event = fact_of(logged(paid(1, amount=70)))
    assert isinstance(event, FeatureEvent)
    await features.observe(event)
    keys = [key for key in await asked(valkey_socket, "KEYS", f"{features.prefix}[0-9]*") if b"mbr_1" in key]
    await asked(valkey_socket, "DEL", *keys)
    assert (await features.observe(event)).status is Status.DUPLICATE
    assert await spent(features, minutes=1) == (71, 2)


async def nothing() -> AsyncIterator[Event]:
    none: Sequence[Event] = ()
    for event in none:
        yield event


@pytest.mark.parametrize("merchant", ["x" * 10_000, ""])
async def test_an_event_that_cannot_be_kept_holds_up_none_behind_it(
    log: Log, cache: Cache, settings: Settings, merchant: str
) -> None:
    strange = paid(5, minutes=0.1)
    bad = replace(strange, data={**strange.data, "merchant": merchant})
    too_much = [paid(100 + n, member="mbr_2", amount=10**12, minutes=n / 1_000) for n in range(3)]
    features = live_features(cache)
    keeper = FeatureKeeper(features, cache)
    await log.append(bad, *too_much, *PAYMENTS_OF_A_DAY)
    await log.until_sequenced(1 + len(too_much) + len(PAYMENTS_OF_A_DAY))
    applied = await keeper.rebuild(events_of(log, settings))
    assert applied == len(too_much) + len(PAYMENTS_OF_A_DAY)
    assert (await spent(features))[0] == EXPECTED[0]


async def test_an_event_whose_total_would_not_be_exact_holds_up_none_behind_it(cache: Cache) -> None:
    features = live_features(cache)
    keeper = FeatureKeeper(features, cache)
    full = asking(minutes=0)
    for batch in range(0, 9_007, 500):
        ids = range(batch, min(batch + 500, 9_007))
        await features.apply(
            [replace(full, id=str(n), values={**full.values, "amount_minor": 10**12}) for n in ids]
        )
    events = [paid(1, amount=10**12), paid(2, amount=1)]
    assert await keeper.apply([logged(one) for one in events])
    second = fact_of(logged(events[1]))
    assert isinstance(second, FeatureEvent)
    assert (await features.observe(second)).status is Status.DUPLICATE


async def test_only_what_a_window_may_reach_is_read_from_the_log(log: Log) -> None:
    await log.append(*(paid(number, minutes=number) for number in range(50)))
    await log.until_sequenced(50)
    for number in (0, 1, 25, 49, 50):
        after = await place_before(log.admin, NOON + timedelta(minutes=number))
        assert after == number
    assert await place_before(log.admin, NOON - timedelta(days=1)) == 0


async def test_an_empty_log_has_no_place_before_anything(log: Log) -> None:
    assert await place_before(log.admin, NOON) == 0


def test_what_is_not_about_payments_or_behaviour_is_nothing_to_features() -> None:
    other = Event(id=uuid4(), type="x", aggregate_type="x", aggregate_id="x", time=NOON, data={}, seq=1)
    assert fact_of(other) is None
    assert all(name in EVENT_TYPES for name in TYPES)


async def test_a_declined_payment_counts_like_an_authorised_one(cache: Cache) -> None:
    features = live_features(cache)
    await FeatureKeeper(features, cache).apply([logged(paid(1)), logged(declined(2, minutes=1))])
    assert await spent(features) == (201, 3)


WHO: Any = {
    "member_id": "mbr_1",
    "subject": "mbr_1",
    "session_id": "ses_1",
    "device_id": "dev_1",
    "ip_token": "ip_1",
}
ACTS: Sequence[PublishedEvent] = [
    PageClicked(**WHO, page="checkout", clicked_at=NOON),
    PageClicked(**WHO, page=None, clicked_at=NOON + timedelta(minutes=1)),
    SessionEnded(**WHO, duration_s=90, clicks=2, ended_at=NOON),
    SessionEnded(**WHO, duration_s=30, clicks=None, ended_at=NOON),
    LoginAttempted(**WHO, succeeded=True, attempted_at=NOON),
    LoginAttempted(**WHO, succeeded=False, attempted_at=NOON),
    LoginAttempted(**{**WHO, "member_id": None, "subject": "ip_1"}, succeeded=False, attempted_at=NOON),
    LoginAttempted(**{**WHO, "member_id": "mbr_2"}, succeeded=False, attempted_at=NOON),
    PasswordChanged(**WHO, changed_at=NOON),
    ProfileUpdated(member_id="mbr_1", fields=("phone",), version=2, updated_at=NOON + timedelta(minutes=1)),
    DeviceSeen(**WHO, seen_at=NOON),
    DeviceSeen(**WHO, seen_at=NOON + timedelta(minutes=2)),
    UserRegistered(member_id="mbr_1", source="enrolment", registered_at=NOON - timedelta(hours=1)),
    CardIssued(
        card_token="crd_1",
        member_id="mbr_1",
        application_id=None,
        product="cashback_card",
        issued_at=NOON - timedelta(minutes=10),
    ),
]


@pytest.mark.requirement("F2")
@pytest.mark.requirement("F6")
async def test_what_members_do_besides_shows_in_the_features_of_their_next_payment(cache: Cache) -> None:
    features = live_features(cache)
    acts = [logged(_appended(act, NOON + timedelta(minutes=2))) for act in ACTS]
    assert await FeatureKeeper(features, cache).apply(acts) == len(ACTS)
    payment = replace(
        asking(minutes=3),
        entities={
            Entity.CARD: "crd_1",
            Entity.MEMBER: "mbr_1",
            Entity.IP: "ip_1",
            Entity.MEMBER_DEVICE: pair("mbr_1", "dev_1"),
        },
    )
    values = (await features.observe(payment)).values
    assert values is not None
    assert {name: values[name] for name in SEEN} == SEEN


SEEN = {
    "member_clicks_1h": 2,
    "member_session_mean_30d": 60.0,
    "member_logins_1d": 1,
    "member_logins_failed_1h": 1,
    "ip_logins_failed_1h": 3,
    "ip_accounts_failed_1d": 2,
    "member_password_since_s": 180,
    "member_profile_since_s": 120,
    "member_device_since_s": 60,
    "member_device_age_s": 180,
    "member_age_s": 3_780,
    "card_age_s": 780,
}


async def test_what_no_window_reaches_is_passed_over_by_a_group_that_begins_with_the_log(
    cache: Cache,
) -> None:
    features = live_features(cache)
    long_after = ManualClock(NOON + HORIZON + DISORDER + timedelta(minutes=2))
    group = FeatureKeeper(features, cache).consumer_group(clock=long_after)
    nothing_to_it: Any = None
    await group.handler(nothing_to_it, [logged(paid(1, minutes=1)), logged(paid(2, minutes=3))])
    assert await spent(features) == (101, 2)


async def test_while_a_deployment_goes_on_each_version_keeps_a_set_of_its_own_up_to_date(
    log: Log, cache: Cache, settings: Settings
) -> None:
    """The old code has handled everything before the new code begins: that takes nothing away from the new set."""
    sets = [
        OnlineFeatures(cache, declared, reversible_s=REVERSIBLE_S)
        for declared in (PAYMENTS, replace_one_default())
    ]
    old, new = (FeatureKeeper(features, cache) for features in sets)
    await old.fill(nothing())
    async with running(member(log, old)):  # type: ignore[arg-type]
        await log.append(*PAYMENTS_OF_A_DAY)
        await eventually(lambda: is_there(log, len(PAYMENTS_OF_A_DAY)), what="the old set has all")
        gate = WarmUp(new, log.admin)
        with pytest.raises(FeaturesCold):
            await gate.check()
        await new.fill(events_of(log, settings))
        with pytest.raises(ConsumersBehind):
            await gate.check()
        async with running(member(log, new)):  # type: ignore[arg-type]
            await eventually(lambda: is_open(gate), what="the new set is complete")
            await log.append(paid(50, minutes=4.5, amount=1_000))
            await eventually(lambda: have(log, len(PAYMENTS_OF_A_DAY) + 1, old, new), what="both have it")
    assert old.group != new.group
    for features in sets:
        assert await spent(features) == (EXPECTED[0] + 1_000, EXPECTED[1] + 1)


async def have(log: Log, count: int, *keepers: FeatureKeeper) -> bool:
    return all([await is_there(log, count, group=keeper.group) for keeper in keepers])


def replace_one_default() -> FeatureSet:
    first, *rest = PAYMENTS.features
    return replace(PAYMENTS, features=(replace(first, default=1), *rest))


@pytest.mark.requirement("F2")
async def test_what_a_client_reports_is_in_the_features_of_the_next_payment(
    log: Log, cache: Cache, open_database: OpenDatabase
) -> None:
    """From the report to the feature store through everything between: transaction, log, consumer."""
    clock, ring = ManualClock(NOON), KeyRing.fixed(KeySet(current="k1", keys={"k1": b"k" * 32}))
    ingestion = Ingestion(
        database=await open_database("fraud"), clock=clock, pseudonyms=Pseudonyms(ring=ring)
    )
    features = live_features(cache)
    failed = [
        Reported(
            id=f"e{n}", kind=Kind.LOGIN, occurred_at=NOON, member_id="mbr_1", ip="192.0.2.1", succeeded=False
        )
        for n in range(3)
    ]
    async with running(member(log, FeatureKeeper(features, cache))):  # type: ignore[arg-type]
        for _ in range(2):
            await ingestion.take(failed, client_id="acme")
        await eventually(lambda: is_there(log, 3), what="all are handled")
    values = (await features.observe(asking(minutes=1))).values
    assert values is not None
    assert values["member_logins_failed_1h"] == 3
