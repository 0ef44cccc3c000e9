"""The door to the credit context: submit, look, decide nothing. Takes and returns frozen data of `contracts`.

Do not import other modules of this context from outside; do not pass rows or requests through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from faregate.credit.contracts import (
    ApplicationPage,
    ApprovedApplicant,
    DecisionView,
    Identity,
    PageWanted,
    QueuedReview,
    QueueLine,
    QueueQuery,
    ReplayReport,
    ReviewFile,
    SignalView,
    StatusView,
    Submission,
)
from faregate.credit.contracts.record import (
    AuditTrace,
    ChainReport,
    ChainStatus,
    FairnessReport,
    Notice,
)
from faregate.credit.domain.application import DecisionNotMade
from faregate.credit.domain.fairness import Segmentation, fairness_report
from faregate.credit.handlers.audit import chain_status, trace_of, verify_chain
from faregate.credit.handlers.backtest import Period
from faregate.credit.handlers.identity import IdentityVault, approved_applicants, rotate_identities
from faregate.credit.handlers.notices import NoticeDesk
from faregate.credit.handlers.redecide import ReportNotComplete, ReportOutdated, RulesetStillActive
from faregate.credit.handlers.replay import replay_decisions
from faregate.credit.handlers.repull import RepullDesk
from faregate.credit.handlers.review import ReviewDesk
from faregate.credit.handlers.review_file import identity_for_reviewer, review_file
from faregate.credit.handlers.rulesets import (
    NothingTried,
    NotTriedOnApplications,
    RulesetCheck,
    RulesetDesk,
    check_ruleset,
)
from faregate.credit.handlers.status import StatusReader
from faregate.credit.handlers.submit import ROUTE as SUBMIT_ROUTE
from faregate.credit.handlers.submit import Answer
from faregate.credit.store import applications, decisions, reviews
from faregate.credit.store.audit.chain import CHAIN
from faregate.credit.store.audit.segments import segment_counts
from faregate.credit.store.redecisions import RedecisionNotFound
from faregate.gateway.api import accept_callback, reseal_answers
from faregate.gateway.contracts import Callback
from faregate.infra.admission import Admission, Work
from faregate.infra.chain.check import note_anchor
from faregate.infra.chain.links import Anchored
from faregate.infra.coalescer import Coalescer
from faregate.infra.database import Database
from faregate.infra.http.idempotency_store import Attempt, KeyState
from faregate.infra.replica import ReadDatabase
from faregate.kernel.clock import Clock
from faregate.rules.api import Rulesets


@dataclass(frozen=True, kw_only=True)
class AuditApi:
    """The audit record. `anchor_file` is where the end of the chain is noted, outside of the database."""

    database: Database
    clock: Clock
    anchor_file: Path

    async def verify(self, *, anchor_file: Path | None = None) -> ChainReport:
        """Walk along the whole chain and compare it with the anchors of a file."""
        return await verify_chain(
            self.database, anchor_file=anchor_file or self.anchor_file, clock=self.clock
        )

    async def anchor(self, *, anchor_file: Path | None = None) -> Anchored:
        """Note the end of the chain in a file, unless it stands there already."""
        path = anchor_file or self.anchor_file
        return await note_anchor(self.database, store=CHAIN, path=path, clock=self.clock)

    async def status(self) -> ChainStatus:
        """Return where the chain ends, what waits to be sealed, and the last verification."""
        return await chain_status(self.database)

    async def trace(self, *, application_id: str) -> AuditTrace:
        """Return all that is recorded of one application; raise ApplicationNotFound."""
        return await trace_of(self.database, application_id=application_id)


@dataclass(frozen=True, kw_only=True)
class ReviewApi:
    """Manual review. What reviewers do at `desk` and `repulls` belongs to the caller's transaction."""

    database: Database
    desk: ReviewDesk
    repulls: RepullDesk
    vault: IdentityVault

    async def queue(self, query: QueueQuery) -> Sequence[QueuedReview]:
        """Return a page of the queue."""
        async with self.database.connection() as conn:
            return await reviews.queue(conn, query)

    async def lines(self) -> Sequence[QueueLine]:
        """Return how many reviews of each priority wait, and for how long."""
        async with self.database.connection() as conn:
            return await reviews.queue_lines(conn)

    async def file(self, review_id: str) -> ReviewFile:
        """Return all that is needed to decide a review; raise ReviewNotFound."""
        async with self.database.transaction() as conn:
            return await review_file(conn, review_id, desk=self.desk)

    async def identity(self, review_id: str, *, reviewer: str, fence: int) -> Identity:
        """Return who the applicant is, to who holds the review; raise ReviewNotFound, ReviewOver or ClaimLost."""
        async with self.database.transaction() as conn:
            return await identity_for_reviewer(
                conn, review_id, reviewer=reviewer, fence=fence, desk=self.desk, vault=self.vault
            )


@dataclass(frozen=True, kw_only=True)
class ApplicantApi:
    """Who is behind applications, for a context that must know: what events tell has no names in it."""

    database: Database
    vault: IdentityVault

    async def approved(self, application_ids: Sequence[str]) -> Mapping[str, ApprovedApplicant]:
        """Return the applicant of each of these applications that is approved now, by application."""
        return await approved_applicants(self.database, application_ids, vault=self.vault)

    async def approved_products(self, application_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the product of each of these applications that is approved now; nothing personal is read."""
        async with self.database.connection() as conn:
            return await applications.approved_products(conn, application_ids)


@dataclass(frozen=True, kw_only=True)
class CreditApi:
    """Everything that others may ask of credit. A `client_id` of None asks as the operator, who sees all."""

    database: Database
    submissions: Coalescer[Submission, Answer]
    known_keys: Coalescer[Attempt, KeyState]
    reads: ReadDatabase
    read_status: StatusReader
    admission: Admission
    vault: IdentityVault
    rulesets: Rulesets
    audit: AuditApi
    notices: NoticeDesk
    rules: RulesetDesk

    async def submit(self, submission: Submission) -> Answer:
        """Submit an application, together with whatever else arrives at the moment."""
        return await self.submissions.submit(submission)

    async def known_answer(self, attempt: Attempt) -> KeyState:
        """Say what is known of an idempotency key without creating anything. Raises Overloaded."""
        self.admission.admit(Work.KEY_LOOK_UP)
        return await self.known_keys.submit(attempt)

    async def status(
        self, *, application_id: str, client_id: str | None, known_revision: int = 0
    ) -> StatusView:
        """Return where an application stands, not older than a revision that the reader knows of.

        Raises ApplicationNotFound, Overloaded.
        """
        return await self.read_status(
            application_id=application_id, client_id=client_id, known_revision=known_revision
        )

    async def decision(
        self, *, application_id: str, client_id: str | None, known_version: int = 1
    ) -> DecisionView:
        """Return the newest decision, not older than a version that the reader knows of.

        Raises ApplicationNotFound, DecisionNotMade, Overloaded.
        """
        status = await self.status(application_id=application_id, client_id=client_id)
        self.admission.admit(Work.DATABASE_READ)
        found = await self.newest_decision(application_id=application_id, known_version=known_version)
        if found is None:
            raise DecisionNotMade("no decision has been made yet", application_status=status.status.value)
        return found

    async def newest_decision(self, *, application_id: str, known_version: int = 1) -> DecisionView | None:
        """Return the newest decision, None while there is none."""
        return await self.reads.read(
            lambda conn: decisions.decision_of(conn, application_id),
            suffices=lambda found: found is not None and found.version >= known_version,
        )

    async def list_applications(self, *, client_id: str, wanted: PageWanted) -> ApplicationPage:
        """Return a page of a client's applications, which may be a moment old."""
        return await self.reads.read(
            lambda conn: applications.applications_of_client(conn, client_id=client_id, wanted=wanted)
        )

    async def adverse_action(self, *, application_id: str, client_id: str | None) -> Notice:
        """Return the notice of a denied application; raise ApplicationNotFound or NoAdverseAction."""
        await self.status(application_id=application_id, client_id=client_id)
        return await self.notices.of_denied(application_id=application_id)

    async def accept_callback(self, *, callback: Callback, dedupe_key: str) -> bool:
        """Keep a verified callback durably; False for a repetition. Raises ProviderRequestNotFound."""
        async with self.database.transaction() as conn:
            return await accept_callback(
                conn, callback=callback, dedupe_key=dedupe_key, seal=self.vault.seal_response
            )

    async def signals(self, *, application_id: str) -> Sequence[SignalView]:
        """Return what each check of an application found."""
        return await self.reads.read(
            lambda conn: decisions.signals_of(conn, application_id), suffices=lambda found: bool(found)
        )

    async def audit_trail(self, *, application_id: str) -> Sequence[Mapping[str, Any]]:
        """Return what happened to an application, oldest first."""
        return await self.reads.read(
            lambda conn: decisions.audit_trail(conn, application_id), suffices=lambda found: bool(found)
        )

    async def fairness(
        self, segments: Segmentation, *, since: datetime | None, sample_min: int
    ) -> FairnessReport:
        """Compare the approval rates of segments: a report for people, which nothing else reads."""
        async with self.database.connection() as conn:
            counts = await segment_counts(conn, segments, since=since)
        return fairness_report(counts, segments=segments, sample_min=sample_min)

    async def counts_by_status(self) -> Mapping[str, int]:
        """Return how many applications stand in each state."""
        async with self.database.connection() as conn:
            return await applications.counts_by_status(conn)

    async def outcomes_of(self, application_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Return state, instants and outcome of the given applications, for reports."""
        async with self.database.connection() as conn:
            return await decisions.outcomes_of(conn, application_ids)

    async def replay(self, *, application_id: str | None = None) -> ReplayReport:
        """Recompute recorded decisions and compare them with what was recorded."""
        return await replay_decisions(self.database, rulesets=self.rulesets, application_id=application_id)

    async def rotate_keys(self, *, on_progress: Callable[[int], None]) -> int:
        """Re-encrypt every identity and raw answer under the current key; return how many changed."""
        identities = await rotate_identities(self.database, vault=self.vault, on_progress=on_progress)
        answers = await reseal_answers(
            self.database, reseal=self.vault.reseal_response, on_progress=on_progress
        )
        return identities + answers


__all__ = [
    "SUBMIT_ROUTE",
    "ApplicantApi",
    "AuditApi",
    "CreditApi",
    "NotTriedOnApplications",
    "NothingTried",
    "Period",
    "RedecisionNotFound",
    "ReportNotComplete",
    "ReportOutdated",
    "ReviewApi",
    "RulesetCheck",
    "RulesetDesk",
    "RulesetStillActive",
    "check_ruleset",
]
