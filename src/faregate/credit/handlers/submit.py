"""Submitting applications: many at once in one transaction, each with an answer of its own.

Guards in this order: idempotency key, the same key for the same applicant (C21), a recent duplicate, creation.
Locks in this order: idempotency scopes (only tried), applicants by digest, new rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from faregate.credit.contracts import Receipt, Status, Submission
from faregate.credit.domain.application import ApplicationExists, KeyUsedElsewhere, age_years
from faregate.credit.handlers.identity import IdentityVault
from faregate.credit.handlers.tools import Tools
from faregate.credit.store import applications
from faregate.credit.store.applications import ApplicantHash, Earlier, NewApplication
from faregate.events.credit import ApplicationSubmitted
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import append
from faregate.infra.http.idempotency_store import (
    Attempt,
    Fresh,
    KeyScope,
    KeyState,
    StoredResponse,
    check_attempts,
    save_responses,
)
from faregate.infra.http.problems import MEDIA_TYPE, problem_of
from faregate.kernel.errors import FaregateError
from faregate.kernel.event import NewEvent

METHOD = "POST"
ROUTE = "/api/credit-applications"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitPolicy:
    """How long a decision may wait for its checks, and how long a second application is a duplicate."""

    deadline: timedelta
    duplicate_window: timedelta
    next_poll_after_seconds: int = 3


Answer = StoredResponse | KeyState
"""A new answer, or what is known of the key."""


def attempt_of(submission: Submission) -> Attempt:
    """Return the scope and fingerprint under which this submission's answer is remembered."""
    scope = KeyScope(submission.client_id, METHOD, ROUTE, submission.idempotency_key)
    return Attempt(scope, submission.fingerprint)


@dataclass(frozen=True, kw_only=True)
class Submitter:
    """Writes batches of submissions. The answers come in the order of the submissions."""

    database: Database
    tools: Tools
    vault: IdentityVault
    policy: SubmitPolicy

    async def __call__(self, submissions: Sequence[Submission]) -> list[Answer]:
        """Answer each submission; everything that is created commits together, or nothing does."""
        async with self.database.transaction() as conn:
            states = await check_attempts(conn, [attempt_of(s) for s in submissions])
            answers: list[Answer] = list(states)
            fresh = {n: submissions[n] for n, state in enumerate(states) if isinstance(state, Fresh)}
            if fresh:
                for n, answer in (await self._create(conn, fresh)).items():
                    answers[n] = answer
        return answers

    async def _create(self, conn: Connection, fresh: Mapping[int, Submission]) -> dict[int, StoredResponse]:
        now = self.tools.clock.now()
        rows, new_people = await self._rows(conn, fresh, now=now)
        answers = await self._refusals(conn, rows, new_people, now=now)
        created = {n: row for n, row in rows.items() if n not in answers}
        if created:
            await applications.insert_applications(
                conn, list(created.values()), now=now, deadline_at=now + self.policy.deadline
            )
            await append(conn, [self._submitted(row, fresh[n], now) for n, row in created.items()])
        answers.update({n: self._receipt(row.id) for n, row in created.items()})
        await save_responses(conn, [(attempt_of(fresh[n]), a) for n, a in answers.items()], now=now)
        return answers

    async def _rows(
        self, conn: Connection, fresh: Mapping[int, Submission], *, now: datetime
    ) -> tuple[dict[int, NewApplication], set[str]]:
        """Return the row that each submission would create, and the ids of people seen for the first time."""
        hashes = {
            n: self.vault.applicant_hash(s.identity, new_id=self.tools.new_id("per"))
            for n, s in fresh.items()
        }
        people, new_people = await applications.find_or_create_applicants(
            conn, list(_one_per_digest(hashes.values()).values()), now=now
        )
        return {n: self._row(s, people[hashes[n].digest], now=now) for n, s in fresh.items()}, new_people

    def _row(self, submission: Submission, applicant_id: str, *, now: datetime) -> NewApplication:
        application_id = self.tools.new_id("app")
        return NewApplication(
            id=application_id,
            client_id=submission.client_id,
            applicant_id=applicant_id,
            idempotency_key=submission.idempotency_key,
            product_type=submission.product_type,
            amount=submission.amount,
            purpose=submission.purpose,
            annual_income=submission.annual_income,
            age_years=age_years(dob=submission.identity.dob, on=now.date()),
            identity_encrypted=self.vault.seal_identity(application_id, submission.identity),
        )

    async def _refusals(
        self, conn: Connection, rows: Mapping[int, NewApplication], new_people: set[str], *, now: datetime
    ) -> dict[int, StoredResponse]:
        """Return the answers of submissions that create nothing: they repeat an earlier application."""
        answers: dict[int, StoredResponse] = {}
        known = [(n, row) for n, row in rows.items() if row.applicant_id not in new_people]
        if known:
            since = now - self.policy.duplicate_window
            earlier = await applications.earlier_applications(conn, known, since=since)
            answers = {n: self._repeat(rows[n], found) for n, found in earlier.items()}
        first: dict[tuple[str, ...], NewApplication] = {}
        for n, row in rows.items():
            if n in answers:
                continue
            person = row.applicant_id
            identities = (person, row.idempotency_key), (person, row.client_id, row.product_type)
            repeated = next((first[identity] for identity in identities if identity in first), None)
            if repeated is None:
                first.update(dict.fromkeys(identities, row))
            else:
                answers[n] = self._repeat(row, _earlier_in_batch(n, repeated))
        return answers

    def _repeat(self, row: NewApplication, earlier: Earlier) -> StoredResponse:
        """A refusal is a finished answer: it is kept under the key like any other."""
        if earlier.client_id != row.client_id:
            return _refusal(
                KeyUsedElsewhere("this Idempotency-Key cannot be used for this applicant: send a new one")
            )
        return _refusal(
            ApplicationExists(
                "this applicant already applied for this product a short while ago",
                application_id=earlier.id,
            )
        )

    def _submitted(self, row: NewApplication, submission: Submission, now: datetime) -> NewEvent:
        event = ApplicationSubmitted(
            application_id=row.id,
            applicant_id=row.applicant_id,
            idempotency_key=row.idempotency_key,
            submitted_at=now,
        )
        return self.tools.stamp(event, traceparent=submission.traceparent)

    def _receipt(self, application_id: str) -> StoredResponse:
        receipt = Receipt(
            application_id=application_id,
            status=Status.PROCESSING,
            next_poll_after_seconds=self.policy.next_poll_after_seconds,
        )
        return StoredResponse(
            status=202,
            body=orjson.dumps(receipt),
            headers=(("location", f"{ROUTE}/{application_id}"), ("content-type", "application/json")),
        )


def _refusal(error: FaregateError) -> StoredResponse:
    problem = problem_of(error, instance=ROUTE)
    return StoredResponse(
        status=problem["status"], body=orjson.dumps(problem), headers=(("content-type", MEDIA_TYPE),)
    )


async def known_answers(database: Database, attempts: Sequence[Attempt]) -> list[KeyState]:
    """Say what is known of keys without creating anything: for requests that are refused."""
    async with database.transaction() as conn:
        return await check_attempts(conn, attempts)


def _one_per_digest(hashes: Iterable[ApplicantHash]) -> dict[bytes, ApplicantHash]:
    return {found.digest: found for found in hashes}


def _earlier_in_batch(n: int, first: NewApplication) -> Earlier:
    return Earlier(n=n, id=first.id, client_id=first.client_id)
