"""Notices of adverse action: what each says, which are due, and that one was sent.

A notice becomes due in the statement that writes a denial (`store.decisions.insert_decision`), whoever decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from faregate.credit.contracts.record import Notice, NoticeDue
from faregate.credit.domain.decision import score_of
from faregate.credit.domain.notice import Denial, Issuer, UsedScore, notice_document, notice_text, sources_of
from faregate.credit.domain.reasons import reasons_of_score
from faregate.credit.domain.scorecard import points_range
from faregate.credit.store.artefacts import load_scorecard
from faregate.credit.store.audit import notices
from faregate.credit.store.audit.notices import StoredNotice
from faregate.infra.database import Connection, Database
from faregate.kernel.clock import Clock
from faregate.kernel.errors import ConflictError, NotFoundError
from faregate.rules.api import Rulesets


class NoAdverseAction(NotFoundError):
    """The application was not denied, or not decided yet: there is nothing to notify anybody of."""


class NoticeAlreadySent(ConflictError):
    """It is recorded already that this notice was sent, and by whom."""


class NoticeIncomplete(ConflictError):
    """The notice lacks what the law demands; `missing` names what the file of the issuer must say first."""


@dataclass(frozen=True, kw_only=True)
class NoticeDesk:
    """Everything about notices. `issuer` is who denies credit."""

    database: Database
    rulesets: Rulesets
    issuer: Issuer
    clock: Clock

    async def of_denied(self, *, application_id: str) -> Notice:
        """Return the notice of an application whose newest decision is a denial; raise NoAdverseAction."""
        async with self.database.connection() as conn:
            stored = await notices.notice_of(conn, application_id)
            if stored is None or stored.version != stored.newest_version:
                raise NoAdverseAction(f"{application_id} is not denied")
            return await self._notice(conn, stored)

    async def due(self, *, within: timedelta | None, limit: int) -> list[NoticeDue]:
        """Return the open notices that are due in that time, the overdue ones first; None: all."""
        due_before = None if within is None else self.clock.now() + within
        async with self.database.connection() as conn:
            return await notices.open_notices(conn, due_before=due_before, limit=limit)

    async def mark_sent(self, *, application_id: str, version: int | None, by: str) -> Notice:
        """Record that a notice was sent, with what it said; `version` None: that of the newest decision.

        Raises NoAdverseAction, NoticeIncomplete, NoticeAlreadySent.
        """
        async with self.database.transaction() as conn:
            if (stored := await notices.notice_of(conn, application_id, version=version)) is None:
                raise NoAdverseAction(f"{application_id} has no such notice")
            if version is None and stored.version != stored.newest_version:
                raise NoAdverseAction(
                    f"{application_id} is not denied any more; name version {stored.version} if its notice was sent"
                )
            notice = await self._notice(conn, stored)
            if missing := notice.document["missing"]:
                raise NoticeIncomplete(f"the issuer's {', '.join(missing)} is not set", missing=missing)
            now = self.clock.now()
            if not await notices.mark_sent(conn, stored, document=notice.document, by=by, now=now):
                raise NoticeAlreadySent(f"the notice of {application_id} was sent by {stored.sent_by}")
            sent = await notices.notice_of(conn, application_id, version=stored.version)
            return await self._notice(conn, sent or stored)

    async def _notice(self, conn: Connection, stored: StoredNotice) -> Notice:
        score, scored_facts = await self._used_score(conn, stored)
        denial = Denial(
            application_id=stored.application_id,
            version=stored.version,
            decided_at=stored.decided_at,
            inputs=stored.inputs,
            reasons=stored.reasons,
            code_set_version=stored.code_set_version,
            score=score,
            sources=sources_of((r["code"] for r in stored.reasons), scored_facts=scored_facts),
        )
        document = notice_document(denial, issuer=self.issuer)
        return Notice(
            application_id=stored.application_id,
            decision_version=stored.version,
            status=_status(stored),
            due_at=stored.due_at,
            sent_at=stored.sent_at,
            sent_by=stored.sent_by,
            document=document,
            text=notice_text(document),
        )

    async def _used_score(
        self, conn: Connection, stored: StoredNotice
    ) -> tuple[UsedScore | None, Sequence[str]]:
        """Return the score and its facts, unless a rule denied without it. A person who denied had it in view."""
        by_score = any(reason["points_lost"] is not None for reason in stored.reasons)
        by_person = stored.inputs.get("revision", {}).get("by") == "person"
        if not by_score and not by_person:
            return None, ()
        name, _, version = stored.ruleset_version.rpartition("-")
        ruleset = await self.rulesets.version(conn, name=name, version=int(version))
        model = load_scorecard(stored.scorecard_version)
        score = score_of(stored.inputs, scorecard=model)
        low, high = points_range(model, version=stored.scorecard_version)
        used = UsedScore(
            points=stored.points,
            low=low,
            high=high,
            card=stored.scorecard_version,
            key_factors=reasons_of_score(score.contributions, code_set=ruleset.codes),
        )
        return used, [contribution.fact for contribution in score.contributions]


def _status(stored: StoredNotice) -> str:
    if stored.sent_at is not None:
        return "sent"
    return "open" if stored.version == stored.newest_version else "superseded"
