"""Members, what they agreed to, their record, and the applications that made them members."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson
import psycopg

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.infra.security.blind_index import BlindDigest
from faregate.members.contracts import (
    Consent,
    ConsentChange,
    ConsentPurpose,
    MemberStatus,
    RecordEntry,
    Standing,
    TierNews,
)
from faregate.members.domain.profile import EmailTaken
from faregate.members.domain.status import MemberNotFound

_Q = load_queries("faregate.members.store")

SEALED_FIELDS: Final = ("name", "email", "phone", "date_of_birth", "preferences")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedMember:
    """The encrypted fields of a member; None where there is nothing."""

    name: bytes | None = field(default=None, repr=False)
    email: bytes | None = field(default=None, repr=False)
    phone: bytes | None = field(default=None, repr=False)
    date_of_birth: bytes | None = field(default=None, repr=False)
    preferences: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMember:
    """Somebody who becomes a member. `fields` are encrypted."""

    id: str
    fields: Mapping[str, bytes | None] = field(repr=False)
    digest: BlindDigest | None = field(repr=False)
    applicant_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMember:
    """A member with its fields still encrypted."""

    id: str
    status: MemberStatus
    version: int
    tier: str | None
    sealed: SealedMember
    home_airports: tuple[str, ...]
    consents: Mapping[ConsentPurpose, Consent]
    household_id: str | None
    registered_at: datetime
    updated_at: datetime
    erased_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedMember:
    """What a change needs of a member, read under its row lock."""

    id: str
    status: MemberStatus
    version: int
    sealed: SealedMember
    home_airports: tuple[str, ...]
    is_erased: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """An entry for a member's record. `details` hold nothing personal."""

    member_id: str
    by: str
    act: str
    details: Mapping[str, Any] = field(default_factory=dict)


async def insert_members(
    conn: Connection, new: Sequence[NewMember], *, now: datetime
) -> dict[str, str | None]:
    """Add members; return the applicant of each that was added. One who is a member already is passed over."""
    rows = [
        {
            "id": member.id,
            "applicant_id": member.applicant_id,
            **{name: value and base64.b64encode(value).decode() for name, value in member.fields.items()},
            "email_key_id": member.digest and member.digest.key_id,
            "email_digest": member.digest and member.digest.digest.hex(),
        }
        for member in new
    ]
    cursor = await conn.execute(_Q["insert_members"], {"members": orjson.dumps(rows).decode(), "now": now})
    return {row["id"]: row["applicant_id"] for row in await cursor.fetchall()}


async def find_by_digest(conn: Connection, candidates: Sequence[BlindDigest]) -> str | None:
    """Return the id of the member with an address that has one of these keyed hashes."""
    given = {"key_ids": [c.key_id for c in candidates], "digests": [c.digest for c in candidates]}
    row = await (await conn.execute(_Q["find_by_digest"], given)).fetchone()
    return None if row is None else str(row["id"])


async def members_of(conn: Connection, member_ids: Sequence[str]) -> list[StoredMember]:
    """Return those of the members that there are, in the order of their ids."""
    cursor = await conn.execute(_Q["members"], {"ids": list(member_ids)})
    return [
        StoredMember(
            id=row["id"],
            status=MemberStatus(row["status"]),
            version=row["version"],
            tier=row["tier"],
            sealed=_sealed(row),
            home_airports=tuple(row["home_airports"]),
            consents={ConsentPurpose(found["purpose"]): _consent(found) for found in row["consents"]},
            household_id=row["household_id"],
            registered_at=row["registered_at"],
            updated_at=row["updated_at"],
            erased_at=row["erased_at"],
        )
        for row in await cursor.fetchall()
    ]


async def standings_of(conn: Connection, member_ids: Sequence[str]) -> list[Standing]:
    """Return how those of the members stand that there are."""
    cursor = await conn.execute(_Q["standings"], {"ids": list(member_ids)})
    return [Standing(**{**row, "status": MemberStatus(row["status"])}) for row in await cursor.fetchall()]


async def active_ids(conn: Connection, *, limit: int) -> list[str]:
    """Return the first members that are active, by their ids, which rise with the time of joining."""
    return [row["id"] for row in await (await conn.execute(_Q["active_ids"], {"limit": limit})).fetchall()]


async def home_airports_of(conn: Connection, member_id: str) -> tuple[str, ...]:
    """Return a member's home airports, the nearest first. Raises MemberNotFound."""
    row = await (await conn.execute(_Q["home_airports"], {"id": member_id})).fetchone()
    if row is None:
        raise MemberNotFound(f"there is no member {member_id}")
    return tuple(row["home_airports"])


async def lock_member(conn: Connection, member_id: str) -> LockedMember:
    """Return a member, locked until the transaction ends. Raises MemberNotFound."""
    row = await (await conn.execute(_Q["lock_member"], {"id": member_id})).fetchone()
    if row is None:
        raise MemberNotFound(f"there is no member {member_id}")
    return LockedMember(
        id=row["id"],
        status=MemberStatus(row["status"]),
        version=row["version"],
        sealed=_sealed(row),
        home_airports=tuple(row["home_airports"]),
        is_erased=row["erased_at"] is not None,
    )


async def save_profile(
    conn: Connection,
    member_id: str,
    fields: Mapping[str, bytes | None],
    *,
    digest: BlindDigest | None,
    now: datetime,
) -> None:
    """Store the profile of a locked member. Raises EmailTaken; the transaction is over then."""
    given = {
        "id": member_id,
        **fields,
        "email_key_id": digest and digest.key_id,
        "email_digest": digest and digest.digest,
        "now": now,
    }
    try:
        await conn.execute(_Q["save_profile"], given)
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name != "one_member_per_email":
            raise
        raise EmailTaken("another member has this e-mail address") from error


async def save_preferences(conn: Connection, member_id: str, sealed: bytes, *, now: datetime) -> None:
    """Store the preferences of a locked member."""
    await conn.execute(_Q["save_preferences"], {"id": member_id, "sealed": sealed, "now": now})


async def save_home_airports(
    conn: Connection, member_id: str, codes: Sequence[str], *, now: datetime
) -> None:
    """Store the home airports of a locked member."""
    await conn.execute(_Q["save_home_airports"], {"id": member_id, "codes": list(codes), "now": now})


async def save_status(conn: Connection, member_id: str, status: MemberStatus, *, now: datetime) -> None:
    """Store the status of a locked member."""
    await conn.execute(_Q["save_status"], {"id": member_id, "status": status.value, "now": now})


async def newest_consent(
    conn: Connection, member_id: str, purpose: ConsentPurpose
) -> tuple[bool, str] | None:
    """Return whether a member agreed to a purpose last, and to which version of its text."""
    cursor = await conn.execute(_Q["newest_consent"], {"id": member_id, "purpose": purpose.value})
    row = await cursor.fetchone()
    return None if row is None else (row["given"], row["text_version"])


async def insert_consent(
    conn: Connection, member_id: str, change: ConsentChange, *, by: str, now: datetime
) -> None:
    """Add what a locked member said to a purpose."""
    given = {
        "id": member_id,
        "purpose": change.purpose.value,
        "given": change.given,
        "text_version": change.text_version,
        "now": now,
        "by": by,
    }
    await conn.execute(_Q["insert_consent"], given)


async def consents_of(conn: Connection, member_id: str) -> list[Consent]:
    """Return everything that a member ever said to any purpose, oldest first."""
    cursor = await conn.execute(_Q["consents"], {"id": member_id})
    return [_consent(row) for row in await cursor.fetchall()]


async def save_tiers(conn: Connection, news: Sequence[TierNews], *, now: datetime) -> set[str]:
    """Store the tiers that the programme told, at most one a member; return whose tier is another now."""
    given = {
        "ids": [one.member_id for one in news],
        "tiers": [one.tier for one in news],
        "instants": [one.changed_at for one in news],
        "now": now,
    }
    return {row["id"] for row in await (await conn.execute(_Q["save_tiers"], given)).fetchall()}


async def erase(conn: Connection, member_id: str, *, now: datetime) -> None:
    """Destroy what is personal of a locked member, and how applications lead to it."""
    await conn.execute(_Q["erase"], {"id": member_id, "now": now})
    await conn.execute(_Q["forget_enrolments"], {"id": member_id})


async def insert_records(conn: Connection, acts: Sequence[Act], *, now: datetime) -> None:
    """Add entries to the records of members."""
    entries = [
        {"member_id": act.member_id, "by": act.by, "act": act.act, "details": dict(act.details)}
        for act in acts
    ]
    await conn.execute(_Q["insert_records"], {"entries": orjson.dumps(entries).decode(), "now": now})


async def record_of(conn: Connection, member_id: str) -> list[RecordEntry]:
    """Return what was done to a member, oldest first."""
    cursor = await conn.execute(_Q["record"], {"id": member_id})
    return [RecordEntry(**row) for row in await cursor.fetchall()]


async def not_enrolled(conn: Connection, application_ids: Sequence[str]) -> list[str]:
    """Return those of the applications that nobody dealt with yet."""
    cursor = await conn.execute(_Q["not_enrolled"], {"ids": list(application_ids)})
    return [row["id"] for row in await cursor.fetchall()]


async def members_of_applications(conn: Connection, application_ids: Sequence[str]) -> dict[str, str]:
    """Return the active member that each of those of the applications led to that led to one."""
    cursor = await conn.execute(_Q["members_of_applications"], {"ids": list(application_ids)})
    return {row["application_id"]: row["member_id"] for row in await cursor.fetchall()}


async def members_of_applicants(conn: Connection, applicant_ids: Sequence[str]) -> dict[str, str]:
    """Return the member that each of these people is, by applicant."""
    cursor = await conn.execute(_Q["members_of_applicants"], {"applicant_ids": list(applicant_ids)})
    return {row["applicant_id"]: row["id"] for row in await cursor.fetchall()}


async def insert_enrolments(conn: Connection, member_of: Mapping[str, str], *, now: datetime) -> None:
    """Note the member to which each application led."""
    given = {"application_ids": list(member_of), "member_ids": list(member_of.values()), "now": now}
    await conn.execute(_Q["insert_enrolments"], given)


async def sealed_after(conn: Connection, *, after_id: str, limit: int) -> list[tuple[str, SealedMember]]:
    """Return a page of encrypted fields in id order, locked."""
    cursor = await conn.execute(_Q["sealed_after"], {"after_id": after_id, "limit": limit})
    return [(row["id"], _sealed(row)) for row in await cursor.fetchall()]


async def reseal(conn: Connection, member_id: str, sealed: SealedMember) -> None:
    """Store the fields of a locked member under another key."""
    fields = {name: getattr(sealed, name) for name in SEALED_FIELDS}
    await conn.execute(_Q["reseal"], {"id": member_id, **fields})


def _sealed(row: Mapping[str, Any]) -> SealedMember:
    values = {name: row[f"{name}_encrypted"] for name in SEALED_FIELDS}
    return SealedMember(**{name: None if value is None else bytes(value) for name, value in values.items()})


def _consent(row: Mapping[str, Any]) -> Consent:
    at = row["at"] if isinstance(row["at"], datetime) else datetime.fromisoformat(row["at"])
    return Consent(
        purpose=ConsentPurpose(row["purpose"]), given=row["given"], text_version=row["text_version"], at=at
    )
