"""Applications and applicants: creation in batches, states, identities."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from faregate.credit.contracts import (
    ApplicationPage,
    ListedApplication,
    PageWanted,
    Status,
    StatusView,
)
from faregate.credit.domain.application import ApplicationNotFound
from faregate.credit.domain.checks import CHECKS
from faregate.credit.domain.plans import CheckPlan, CheckPlans
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.credit.store")
_AFTER_EVERY_ID = "app_" + "Z" * 27
"""Longer than any id and of its last letter, so that the first page is a range of the index like the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicantHash:
    """The keyed hash under which a person is found, and the id that the person gets if new."""

    new_id: str
    key_id: str
    digest: bytes
    older: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApplication:
    """A row to insert; `identity_encrypted` is bound to `id`."""

    id: str
    client_id: str
    applicant_id: str
    idempotency_key: str
    product_type: str
    amount: int | None
    purpose: str | None
    annual_income: int
    age_years: int
    identity_encrypted: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An application that the n-th wanted one would repeat."""

    n: int
    id: str
    client_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedApplication:
    """What a decision needs of an application, read under its row lock. `signals` are in order of their checks.

    The checks are those of the run's plan, and all there are before the run began.
    """

    id: str
    status: Status
    product_type: str
    amount: int | None
    purpose: str | None
    annual_income: int
    age_years: int
    decision_version: int
    ready_at: datetime | None
    latest_step: str
    asked_checks: Sequence[str]
    mandatory_checks: Sequence[str]
    signals: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIdentity:
    """An applicant's encrypted identity and what else the providers are told."""

    id: str
    identity_encrypted: bytes
    annual_income: int
    amount: int | None
    purpose: str | None


async def find_or_create_applicants(
    conn: Connection, hashes: Sequence[ApplicantHash], *, now: datetime
) -> tuple[dict[bytes, str], set[str]]:
    """Return the surrogate id by digest, and which ids are new. The people's rows stay locked."""
    known = await _known_under_older_keys(conn, hashes)
    wanted = {h.digest: h for h in hashes if h.digest not in known}
    new: set[str] = set()
    if wanted:
        people = [{"id": h.new_id, "key_id": h.key_id, "digest": h.digest.hex()} for h in wanted.values()]
        cursor = await conn.execute(_Q["upsert_applicants"], {"people": _json(people), "now": now})
        for row in await cursor.fetchall():
            known[bytes.fromhex(row["digest"])] = row["id"]
            if row["is_new"]:
                new.add(row["id"])
    return known, new


async def _known_under_older_keys(conn: Connection, hashes: Sequence[ApplicantHash]) -> dict[bytes, str]:
    older = {digest: h for h in hashes for _, digest in h.older}
    if not older:
        return {}
    pairs = [(key_id, digest) for h in hashes for key_id, digest in h.older]
    cursor = await conn.execute(
        _Q["find_applicants"], {"key_ids": [k for k, _ in pairs], "digests": [d for _, d in pairs]}
    )
    known = {older[bytes(row["digest"])].digest: str(row["id"]) for row in await cursor.fetchall()}
    await conn.execute(_Q["lock_applicants"], {"ids": sorted(known.values())})
    return known


async def earlier_applications(
    conn: Connection, wanted: Sequence[tuple[int, NewApplication]], *, since: datetime
) -> dict[int, Earlier]:
    """Return for each wanted application, by its number, the one that it would repeat (same key first)."""
    cursor = await conn.execute(
        _Q["earlier_applications"],
        {
            "ns": [n for n, _ in wanted],
            "applicant_ids": [a.applicant_id for _, a in wanted],
            "keys": [a.idempotency_key for _, a in wanted],
            "client_ids": [a.client_id for _, a in wanted],
            "product_types": [a.product_type for _, a in wanted],
            "since": since,
        },
    )
    earlier: dict[int, Earlier] = {}
    for row in await cursor.fetchall():
        earlier.setdefault(row["n"], Earlier(**row))
    return earlier


async def insert_applications(
    conn: Connection, applications: Sequence[NewApplication], *, now: datetime, deadline_at: datetime
) -> None:
    """Insert new applications with their first audit entries."""
    rows = [
        {
            "id": a.id,
            "client_id": a.client_id,
            "applicant_id": a.applicant_id,
            "idempotency_key": a.idempotency_key,
            "product_type": a.product_type,
            "amount": a.amount,
            "purpose": a.purpose,
            "annual_income": a.annual_income,
            "age_years": a.age_years,
            "identity": b64encode(a.identity_encrypted).decode(),
        }
        for a in applications
    ]
    given = {"applications": _json(rows), "now": now, "deadline_at": deadline_at}
    await conn.execute(_Q["insert_applications"], given)


def _json(rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    """One JSON text costs a fraction of as many arrays as there are columns."""
    return orjson.dumps(rows).decode()


async def status_of(conn: Connection, application_id: str) -> StatusView:
    """Return the state of one application; raise ApplicationNotFound."""
    cursor = await conn.execute(_Q["application_status"], {"id": application_id})
    if (row := await cursor.fetchone()) is None:
        raise ApplicationNotFound(f"there is no application {application_id}")
    return _status_view(row)


async def statuses_of(conn: Connection, application_ids: Sequence[str]) -> list[StatusView]:
    """Return the states of those of the applications that exist."""
    cursor = await conn.execute(_Q["statuses"], {"ids": list(application_ids)})
    return [_status_view(row) for row in await cursor.fetchall()]


async def applications_of_client(conn: Connection, *, client_id: str, wanted: PageWanted) -> ApplicationPage:
    """Return a page of a client's applications."""
    parameters = {
        "client_id": client_id,
        "statuses": [wanted.status] if wanted.status else list(Status),
        "before_id": wanted.before_id or _AFTER_EVERY_ID,
        "limit": wanted.limit + 1,
    }
    rows = await (await conn.execute(_Q["applications_of_client"], parameters)).fetchall()
    listed = [ListedApplication(**{**row, "status": Status(row["status"])}) for row in rows[: wanted.limit]]
    has_more = len(rows) > wanted.limit
    return ApplicationPage(
        applications=tuple(listed), next_before_id=listed[-1].application_id if has_more else None
    )


def _status_view(row: dict[str, object]) -> StatusView:
    return StatusView(**{**row, "status": Status(str(row["status"]))})  # type: ignore[arg-type]


async def lock_application(conn: Connection, application_id: str) -> LockedApplication:
    """Lock one application to the end of the transaction and return it; raise ApplicationNotFound."""
    found = await lock_to_decide(conn, [application_id])
    if not found:
        raise ApplicationNotFound(f"there is no application {application_id}")
    return found[application_id]


async def lock_to_decide(conn: Connection, application_ids: Sequence[str]) -> dict[str, LockedApplication]:
    """Lock applications in id order to the end of the transaction; return those that exist, by id."""
    cursor = await conn.execute(_Q["lock_to_decide"], {"ids": list(application_ids)})
    rows = await cursor.fetchall()
    cursor = await conn.execute(_Q["signals_to_decide"], {"ids": [row["id"] for row in rows]})
    signals: dict[str, list[Mapping[str, Any]]] = {row["id"]: [] for row in rows}
    for signal in await cursor.fetchall():
        signals[signal.pop("application_id")].append(signal)
    return {row["id"]: _locked(row, signals[row["id"]]) for row in rows}


def _locked(row: Mapping[str, Any], signals: Sequence[Mapping[str, Any]]) -> LockedApplication:
    plan = {name: row[name] or CHECKS for name in ("asked_checks", "mandatory_checks")}
    return LockedApplication(**{**row, **plan, "status": Status(row["status"]), "signals": signals})


async def lock_applications(conn: Connection, application_ids: Sequence[str]) -> dict[str, Status]:
    """Lock applications in id order and return their states by id."""
    cursor = await conn.execute(_Q["lock_applications"], {"ids": list(application_ids)})
    return {row["id"]: Status(row["status"]) for row in await cursor.fetchall()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run that has begun: the application's deadline from now on, and its product."""

    deadline_at: datetime
    product_type: str


async def begin_execution(
    conn: Connection, application_id: str, *, plans: CheckPlans, now: datetime
) -> Begun:
    """Lock an application and record that its run has begun, with the check plan of its product.

    A repetition changes nothing and returns the same.

    Raises ApplicationNotFound.
    """
    given = {"id": application_id, "plans": _json(_plans(plans)), "now": now}
    cursor = await conn.execute(_Q["begin_execution"], given)
    if (row := await cursor.fetchone()) is None:
        raise ApplicationNotFound(f"there is no application {application_id}")
    return Begun(**row)


def _plans(plans: CheckPlans) -> dict[str, Any]:
    return {
        "default": _plan(plans.default),
        "products": {name: _plan(plan) for name, plan in plans.products.items()},
    }


def _plan(plan: CheckPlan) -> dict[str, Any]:
    return {"version": plan.version, "asked": plan.asked, "mandatory": plan.mandatory}


async def clients_of(conn: Connection, application_ids: Sequence[str]) -> dict[str, str]:
    """Return the client of each application."""
    cursor = await conn.execute(_Q["clients_of"], {"ids": list(application_ids)})
    return {row["id"]: row["client_id"] for row in await cursor.fetchall()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """An application that nobody decided though its deadline passed, and whether its run ever began."""

    id: str
    deadline_at: datetime
    has_begun: bool


async def overdue(
    conn: Connection, *, before: datetime, after: tuple[datetime, str], limit: int
) -> list[Overdue]:
    """Return a page of those whose deadline passed before `before`, by deadline and id, from `after` these on."""
    given = {"before": before, "after_deadline": after[0], "after_id": after[1], "limit": limit}
    cursor = await conn.execute(_Q["overdue_applications"], given)
    return [Overdue(**row) for row in await cursor.fetchall()]


async def identities(conn: Connection, application_ids: Sequence[str]) -> list[StoredIdentity]:
    """Return what the providers must be told, with the identities still encrypted."""
    cursor = await conn.execute(_Q["identities"], {"ids": list(application_ids)})
    return [
        StoredIdentity(**{**row, "identity_encrypted": bytes(row["identity_encrypted"])})
        for row in await cursor.fetchall()
    ]


async def approved_identities(
    conn: Connection, application_ids: Sequence[str]
) -> list[tuple[str, str, bytes]]:
    """Return id, applicant and encrypted identity of those of the applications that are approved now."""
    cursor = await conn.execute(_Q["approved_identities"], {"ids": list(application_ids)})
    return [
        (row["id"], row["applicant_id"], bytes(row["identity_encrypted"])) for row in await cursor.fetchall()
    ]


async def approved_products(conn: Connection, application_ids: Sequence[str]) -> dict[str, str]:
    """Return the product of each of those of the applications that are approved now."""
    cursor = await conn.execute(_Q["approved_products"], {"ids": list(application_ids)})
    return {row["id"]: row["product_type"] for row in await cursor.fetchall()}


async def identities_after(conn: Connection, *, after_id: str, limit: int) -> list[tuple[str, bytes]]:
    """Return a page of encrypted identities in id order."""
    cursor = await conn.execute(_Q["identities_under_other_keys"], {"after_id": after_id, "limit": limit})
    return [(row["id"], bytes(row["identity_encrypted"])) for row in await cursor.fetchall()]


async def replace_identity(conn: Connection, application_id: str, *, old: bytes, new: bytes) -> bool:
    """Store an identity under a new key; False if somebody changed it meanwhile."""
    cursor = await conn.execute(_Q["replace_identity"], {"id": application_id, "old": old, "new": new})
    return cursor.rowcount == 1


async def counts_by_status(conn: Connection) -> dict[str, int]:
    """Return how many applications stand in each state."""
    cursor = await conn.execute(_Q["counts_by_status"])
    return {row["status"]: row["applications"] for row in await cursor.fetchall()}
