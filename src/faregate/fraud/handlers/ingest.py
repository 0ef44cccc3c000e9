"""Takes events of behaviour in: each once, together with what the log hears of it, in one transaction.

A client may send a request again when it got no answer: what was taken then is said to be repeated. Ids are
remembered for as long as what they stand for can be reported, and then forgotten by those who report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from faregate.events.behaviour import BehaviourEvent
from faregate.fraud.contracts.ingestion import AGE_MAX, EventOutcome, EventRefusal, Reported, Taken
from faregate.fraud.domain.ingestion import published, refusal_of
from faregate.fraud.store import ingested
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import append
from faregate.infra.security.canonical import canonical_hash
from faregate.infra.security.pseudonym import AddressInvalid, Pseudonyms
from faregate.kernel.clock import Clock
from faregate.kernel.event import NewEvent

REMEMBERED: Final = AGE_MAX + timedelta(hours=1)
FORGET_SHARE: Final = 2
"""So many times as many are forgotten as come in: what is there never grows beyond what must be."""
_IDS: Final = uuid5(NAMESPACE_URL, "https://faregate.dev/fraud/events")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """An event that can be taken, and what tells it from another under its id."""

    id: str
    event: BehaviourEvent
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Ingestion:
    """Takes events in for any client."""

    database: Database
    clock: Clock
    pseudonyms: Pseudonyms

    async def take(self, reported: Sequence[Reported], *, client_id: str) -> Sequence[Taken]:
        """Take events in and return what became of each, in their order."""
        now = self.clock.now()
        judged = [self._judged(one, now=now) for one in reported]
        first: dict[str, _Candidate] = {}
        for one in judged:
            if isinstance(one, _Candidate):
                first.setdefault(one.id, one)
        if not first:
            return [one for one in judged if isinstance(one, Taken)]
        async with self.database.transaction() as conn:
            known = await self._remember(conn, first, client_id=client_id, now=now)
        return _outcomes(judged, first, known)

    def _judged(self, reported: Reported, *, now: datetime) -> _Candidate | Taken:
        refusal, token = None, None
        try:
            token = None if reported.ip is None else self.pseudonyms.address(reported.ip)
        except AddressInvalid:
            refusal = EventRefusal.ADDRESS_INVALID
        refusal = refusal or refusal_of(reported, now=now)
        if refusal is not None:
            return Taken(id=reported.id, outcome=EventOutcome.REFUSED, refusal=refusal)
        event = published(reported, ip_token=token)
        content = canonical_hash([event.type, event.model_dump(mode="json")])
        return _Candidate(id=reported.id, event=event, content=content)

    async def _remember(
        self, conn: Connection, first: dict[str, _Candidate], *, client_id: str, now: datetime
    ) -> dict[str, bytes]:
        """Write what is new with its events, and return the contents of the ids that were there before."""
        new = await ingested.remember(
            conn,
            client_id=client_id,
            contents={one.id: one.content for one in first.values()},
            now=now,
        )
        await append(
            conn,
            [_event(one, client_id=client_id, now=now) for one in first.values() if one.id in new],
        )
        await ingested.forget(conn, before=now - REMEMBERED, limit=FORGET_SHARE * len(first))
        old = first.keys() - new
        return dict(await ingested.contents(conn, client_id=client_id, ids=old)) if old else {}


def _event(one: _Candidate, *, client_id: str, now: datetime) -> NewEvent:
    """Return the event to append; its id follows from what was said, so that no bus can have two of it."""
    return one.event.to_event(id=uuid5(_IDS, f"{client_id}/{one.id}/{one.content.hex()}"), time=now)


def _outcomes(
    judged: Sequence[_Candidate | Taken], first: dict[str, _Candidate], known: dict[str, bytes]
) -> Sequence[Taken]:
    taken: list[Taken] = []
    for one in judged:
        if isinstance(one, Taken):
            taken.append(one)
            continue
        said = Taken(id=one.id, outcome=EventOutcome.ACCEPTED)
        if known.get(one.id, first[one.id].content) != one.content:
            said = replace(said, outcome=EventOutcome.REFUSED, refusal=EventRefusal.ID_REUSED)
        elif one.id in known or one is not first[one.id]:
            said = replace(said, outcome=EventOutcome.REPEATED)
        taken.append(said)
    return taken
