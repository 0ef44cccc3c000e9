"""Members on a real database: registering, changing under a version, consent, status, tier, erasure, households."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest

from faregate.infra.http.problems import problem_of
from faregate.kernel.errors import FaregateError
from faregate.members.contracts import (
    Cabin,
    Channel,
    ConsentChange,
    ConsentPurpose,
    Meal,
    MemberStatus,
    Preferences,
    Profile,
    ProfileChanges,
    ProfileField,
    Seat,
    StatusAct,
    TierNews,
)
from faregate.members.domain.household import (
    NotInvited,
)
from faregate.members.domain.profile import EmailTaken, MemberChanged, ProfileInvalid
from faregate.members.domain.status import (
    MemberClosed,
    MemberErased,
    MemberNotFound,
    StatusActRefused,
)
from tests.member_desk import BY, NEW, Desk, desk, vault_of

__all__ = ["desk"]
pytestmark = pytest.mark.requirement("L1")

PERSONAL = Profile(
    name="Zyx Quillfeather", email="Zyx@Example.com", phone="+41791234567", date_of_birth=date(1961, 2, 3)
)
PLAIN = ("zyx", "quillfeather", "41791234567", "1961-02-03")
LIKES = Preferences(
    language="de-CH",
    seat=Seat.AISLE,
    meal=Meal.KOSHER,
    cabin=Cabin.BUSINESS,
    hotel_chains=("HI", "MC"),
    channels=(Channel.EMAIL, Channel.PUSH),
)


async def update(desk: Desk, member_id: str, *, version: int, **changes: Any) -> Any:
    return await desk.do(
        lambda api, conn: api.update_profile(
            conn, member_id, ProfileChanges(**changes), version=version, by=BY
        )
    )


async def set_status(desk: Desk, member_id: str, act: StatusAct) -> Any:
    return await desk.do(lambda api, conn: api.set_status(conn, member_id, act, reason="asked", by=BY))


async def erase(desk: Desk, member_id: str) -> Any:
    return await desk.do(lambda api, conn: api.erase(conn, member_id, reason="member_request", by=BY))


# Registering and finding


@pytest.mark.requirement("L6")
async def test_who_registers_is_a_member_whom_others_can_ask_about(desk: Desk) -> None:
    made = await desk.member(**{name: getattr(PERSONAL, name) for name in ProfileField})
    assert made.id.startswith("mbr_")
    assert (made.status, made.version, made.tier) == (MemberStatus.ACTIVE, 1, None)
    assert made.profile == PERSONAL
    assert await desk.api.get(made.id) == made
    assert list(await desk.api.get_many([made.id, "mbr_nobody"])) == [made]
    [standing] = await desk.api.standings([made.id, "mbr_nobody"])
    assert (standing.member_id, standing.status, standing.tier) == (made.id, "active", None)
    assert await desk.api.home_airports(made.id) == ()
    assert await desk.events() == [
        {
            "type": "members.member.registered",
            "member_id": made.id,
            "source": "registration",
            "registered_at": "2026-11-21T12:00:00Z",
        }
    ]


async def test_a_member_is_found_by_an_address_in_any_spelling_and_nobody_by_another(desk: Desk) -> None:
    made = await desk.member(email="Zyx@Example.com")
    assert await desk.api.find_by_email("zyx@EXAMPLE.com") == made.id
    assert await desk.api.find_by_email("zyx@example.org") is None


async def test_nothing_personal_stands_in_clear_in_any_table_or_event(desk: Desk) -> None:
    made = await desk.whole_member()
    stored = f"{await desk.tables()} {await desk.events()}".casefold()
    assert not [plain for plain in PLAIN if plain in stored]
    assert made.id.casefold() in stored


async def test_an_address_belongs_to_one_member(desk: Desk) -> None:
    first, other = await desk.member(email="zyx@example.com"), await desk.member()
    with pytest.raises(EmailTaken):
        await desk.member(email="ZYX@example.com")
    with pytest.raises(EmailTaken):
        await update(desk, other.id, version=1, email="Zyx@example.com")
    same = await update(desk, first.id, version=1, email="ZYX@example.com")
    assert same.profile.email == "ZYX@example.com"


async def test_of_many_who_register_with_one_address_at_once_one_becomes_a_member(desk: Desk) -> None:
    tries = [desk.member(email="zyx@example.com") for _ in range(8)]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["EmailTaken"] * 7 + ["Member"]
    assert len((await desk.tables())["member"]) == 1


async def test_who_registers_has_an_address(desk: Desk) -> None:
    with pytest.raises(ProfileInvalid) as refused:
        await desk.member(email=None)
    assert refused.value.facts == {"field": "email"}


async def test_nobody_is_found_under_an_unknown_id(desk: Desk) -> None:
    for ask in (desk.api.get, desk.api.tier_of, desk.api.home_airports):
        with pytest.raises(MemberNotFound):
            await ask("mbr_nobody")


# Changing


@pytest.mark.requirement("L6")
async def test_a_change_tells_the_names_of_its_fields_and_no_value(desk: Desk) -> None:
    made = await desk.member()
    changed = await update(desk, made.id, version=1, name="Zyx Q.", phone="+41791234567")
    assert (changed.version, changed.profile.name) == (2, "Zyx Q.")
    [event] = await desk.events("members.profile.updated")
    assert (event["fields"], event["version"]) == (["name", "phone"], 2)
    removed = await update(desk, made.id, version=2, removed=frozenset({ProfileField.PHONE}))
    assert removed.profile.phone is None


async def test_a_change_that_changes_nothing_writes_and_tells_nothing(desk: Desk) -> None:
    made = await desk.whole_member()
    before = (await desk.tables(), await desk.events())
    await update(desk, made.id, version=made.version, name=made.profile.name)
    await desk.do(
        lambda api, conn: api.set_preferences(conn, made.id, made.preferences, version=made.version, by=BY)
    )
    await desk.do(
        lambda api, conn: api.set_home_airports(conn, made.id, ["ZRH"], version=made.version, by=BY)
    )
    await desk.consent(made.id, given=True)
    assert (await desk.tables(), await desk.events()) == before


async def test_of_two_changes_to_one_version_one_is_refused(desk: Desk) -> None:
    made = await desk.member()
    tries = [update(desk, made.id, version=1, name=name) for name in ("Ada", "Bob")]
    found = await asyncio.gather(*tries, return_exceptions=True)
    [refused] = [one for one in found if isinstance(one, MemberChanged)]
    assert refused.facts == {"version": 2}
    assert (await desk.api.get(made.id)).version == 2


async def test_preferences_and_home_airports_are_replaced_as_a_whole(desk: Desk) -> None:
    made = await desk.member()
    liking = await desk.do(lambda api, conn: api.set_preferences(conn, made.id, LIKES, version=1, by=BY))
    assert liking.preferences == LIKES
    living = await desk.do(
        lambda api, conn: api.set_home_airports(conn, made.id, ["ZRH", "BSL"], version=2, by=BY)
    )
    assert (living.version, living.home_airports) == (3, ("ZRH", "BSL"))
    assert await desk.api.home_airports(made.id) == ("ZRH", "BSL")
    told = [event["fields"] for event in await desk.events("members.profile.updated")]
    assert told == [["preferences"], ["home_airports"]]
    assert b"kosher" not in (await desk.tables())["member"][0]["preferences_encrypted"]


@pytest.mark.requirement("L6")
async def test_a_consent_is_kept_with_every_change_of_mind(desk: Desk) -> None:
    made = await desk.member()
    for given, text in ((True, "2026-10"), (True, "2026-11"), (False, "2026-11")):
        desk.pass_by(days=1)
        member = await desk.consent(made.id, given=given, text=text)
    assert [(c.given, c.text_version) for c in await desk.api.consents(made.id)] == [
        (True, "2026-10"),
        (True, "2026-11"),
        (False, "2026-11"),
    ]
    newest = member.consents[ConsentPurpose.MARKETING]
    assert (newest.given, newest.at) == (False, desk.clock.at)
    assert [event["given"] for event in await desk.events("members.consent.changed")] == [True, True, False]


@pytest.mark.parametrize("table", ["consent", "record"])
@pytest.mark.parametrize("statement", ["update {} set by = 'x'", "delete from {}", "truncate {}"])
async def test_what_was_said_and_done_cannot_be_changed(desk: Desk, table: str, statement: str) -> None:
    await desk.whole_member()
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="append-only"):
        await desk.sql(statement.format(f"members.{table}"))


# Status and tier


@pytest.mark.requirement("L6")
async def test_a_status_goes_its_way_and_is_told(desk: Desk) -> None:
    made = await desk.member()
    for act, status in (
        (StatusAct.FREEZE, "frozen"),
        (StatusAct.UNFREEZE, "active"),
        (StatusAct.CLOSE, "closed"),
    ):
        assert (await set_status(desk, made.id, act)).status == status
    with pytest.raises(StatusActRefused):
        await set_status(desk, made.id, StatusAct.UNFREEZE)
    told = [
        (e["previous"], e["status"], e["reason"]) for e in await desk.events("members.member.status_changed")
    ]
    assert told == [
        ("active", "frozen", "asked"),
        ("frozen", "active", "asked"),
        ("active", "closed", "asked"),
    ]


async def test_a_closed_member_changes_nothing_but_may_withdraw_a_consent(desk: Desk) -> None:
    made = await desk.whole_member()
    closed = await set_status(desk, made.id, StatusAct.CLOSE)
    with pytest.raises(MemberClosed):
        await update(desk, made.id, version=closed.version, name="Ada")
    withdrawn = await desk.consent(made.id, given=False)
    assert not withdrawn.consents[ConsentPurpose.MARKETING].given


async def test_the_newest_tier_counts_however_its_news_arrive(desk: Desk) -> None:
    made, gone = await desk.member(), await desk.member()
    await erase(desk, gone.id)
    now = desk.clock.at

    def told(member_id: str, tier: str, minutes: int) -> TierNews:
        return TierNews(member_id=member_id, tier=tier, changed_at=now + timedelta(minutes=minutes))

    batches = [
        [told(made.id, "gold", 2), told(made.id, "silver", 1), told(gone.id, "gold", 1)],
        [told(made.id, "silver", 1)],
        [told(made.id, "gold", 2), told("mbr_nobody", "gold", 1)],
    ]
    for batch in batches:
        await desk.do(lambda api, conn, batch=batch: api.desk.note_tiers(conn, batch))  # type: ignore[misc]
        assert await desk.api.tier_of(made.id) == "gold"
    assert [entry.act for entry in await desk.api.record(made.id)] == ["registered", "tier_changed"]
    assert await desk.api.tier_of(gone.id) is None


# Erasure


@pytest.mark.requirement("L6")
async def test_an_erasure_leaves_neither_plain_text_nor_ciphertext_in_any_table(desk: Desk) -> None:
    made = await desk.whole_member()
    [before] = (await desk.tables())["member"]
    secrets = [value for value in before.values() if isinstance(value, bytes)]
    assert len(secrets) == 6
    erased = await erase(desk, made.id)
    assert erased.profile == Profile()
    assert (erased.preferences, erased.home_airports) == (Preferences(), ())
    for rows in (await desk.tables()).values():
        kept = [value for row in rows for value in row.values()]
        assert not [value for value in kept if isinstance(value, bytes)]
        text = repr(kept).casefold()
        assert not [plain for plain in (*PLAIN, "zrh") if plain in text]
        assert not [secret for secret in secrets if secret.hex() in text or repr(secret) in text]
    assert await desk.api.find_by_email(str(made.profile.email)) is None


@pytest.mark.requirement("L6")
async def test_an_erased_member_keeps_its_id_and_the_record_of_its_erasure(desk: Desk) -> None:
    made = await desk.whole_member()
    erased = await erase(desk, made.id)
    assert (erased.id, erased.status, erased.erased_at) == (made.id, "closed", desk.clock.at)
    assert [entry.act for entry in await desk.api.record(made.id)][-2:] == ["status_changed", "erased"]
    last = (await desk.api.record(made.id))[-1]
    assert (last.by, last.details) == (BY, {"reason": "member_request"})
    [event] = await desk.events("members.member.erased")
    assert event["member_id"] == made.id
    before = await desk.events()
    assert await erase(desk, made.id) == erased
    assert await desk.events() == before


async def test_nothing_can_be_done_under_the_id_of_an_erased_member(desk: Desk) -> None:
    made, other = await desk.member(), await desk.member()
    await desk.do(lambda api, conn: api.households.create(conn, other.id, by=BY))
    version = (await erase(desk, made.id)).version
    consent = ConsentChange(purpose=ConsentPurpose.MARKETING, given=True, text_version="1")
    acts: list[Any] = [
        lambda api, conn: api.update_profile(conn, made.id, ProfileChanges(name="A"), version=version, by=BY),
        lambda api, conn: api.set_preferences(conn, made.id, LIKES, version=version, by=BY),
        lambda api, conn: api.set_home_airports(conn, made.id, ["ZRH"], version=version, by=BY),
        lambda api, conn: api.set_consent(conn, made.id, consent, by=BY),
        lambda api, conn: api.set_status(conn, made.id, StatusAct.FREEZE, reason="asked", by=BY),
        lambda api, conn: api.households.create(conn, made.id, by=BY),
        lambda api, conn: api.households.invite(conn, other.id, member_id=made.id, by=BY),
    ]
    before = await desk.tables()
    for act in acts:
        with pytest.raises(MemberErased):
            await desk.do(act)
    assert await desk.tables() == before


async def test_the_address_of_an_erased_member_is_free_again(desk: Desk) -> None:
    made = await desk.member(email="zyx@example.com")
    await erase(desk, made.id)
    again = await desk.member(email="zyx@example.com")
    assert again.id != made.id


async def test_the_database_refuses_an_erasure_that_leaves_something(desk: Desk) -> None:
    await desk.whole_member()
    with pytest.raises(psycopg.errors.CheckViolation, match="nothing_personal_survives_erasure"):
        await desk.sql("update members.member set status = 'closed', erased_at = now()")


# Keys


async def test_members_are_found_and_read_after_both_keys_rotated(desk: Desk) -> None:
    made, erased = await desk.whole_member(), await desk.member()
    await erase(desk, erased.id)
    later = replace(desk.api, desk=replace(desk.api.desk, vault=vault_of(NEW)))
    assert await later.find_by_email(str(made.profile.email)) == made.id
    with pytest.raises(EmailTaken):
        async with later.database.transaction() as conn:
            await later.register(conn, made.profile, by=BY)
    counted: list[int] = []
    assert await later.rotate_keys(on_progress=counted.append) == 1
    assert await later.rotate_keys(on_progress=counted.append) == 0
    [row] = await desk.sql("select * from members.member where id = %s", made.id)
    assert {value[2:4] for name, value in row.items() if name.endswith("_encrypted")} == {b"k2"}
    assert await later.get(made.id) == made


async def test_a_ciphertext_moved_to_another_member_is_not_read(desk: Desk) -> None:
    one, other = await desk.member(), await desk.member()
    await desk.sql(
        "update members.member set name_encrypted = "
        "(select name_encrypted from members.member where id = %s) where id = %s",
        one.id,
        other.id,
    )
    with pytest.raises(FaregateError, match="does not belong here"):
        await desk.api.get(other.id)


def test_refusals_have_the_statuses_of_their_kinds() -> None:
    kinds = {MemberNotFound: 404, MemberErased: 409, EmailTaken: 409, NotInvited: 403, ProfileInvalid: 400}
    assert {error: problem_of(error("x"), instance="/")["status"] for error in kinds} == kinds
