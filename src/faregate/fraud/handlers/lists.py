"""The lists: put something on one, take it off, look at them; and what every process knows of them in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from faregate.fraud.contracts.lists import ListChange, ListEntry, ListKind, ListName, NewEntry
from faregate.fraud.domain.listed import facts_of_lists, require_value
from faregate.fraud.store import lists as store
from faregate.fraud.store.lists import Standing
from faregate.infra.database import Connection, Database
from faregate.kernel.clock import Clock
from faregate.kernel.errors import ConflictError, InvalidError, NotFoundError

ENTRIES_MAX: Final = 100_000
"""So many entries there may be on all lists together: every process holds all of them."""
AT_ONCE_MAX: Final = 1_000
EXPIRED_FOR: Final = timedelta(days=1)
"""What ended longer ago is forgotten when the lists change; that it was there stays in the history."""
_CHANGES_PAGE: Final = 1_000


class ListsFull(ConflictError):
    """The lists hold as many entries as processes keep in memory: take off what is not needed any more."""


class ListEntryNotFound(NotFoundError):
    """It does not stand on this list."""


class ListEntriesInvalid(InvalidError):
    """One to a thousand different entries can be put on a list at once, each with an end in the future or none."""


class Parties(Protocol):
    """Whoever and whatever takes part in a payment."""

    @property
    def card_token(self) -> str | None: ...
    @property
    def member_id(self) -> str | None: ...
    @property
    def merchant(self) -> str | None: ...
    @property
    def ip_token(self) -> str | None: ...
    @property
    def device_id(self) -> str | None: ...
    @property
    def country(self) -> str | None: ...


_NOWHERE: Final[frozenset[str]] = frozenset()
_On = Mapping[ListName, datetime | None]


class ListSnapshot:
    """All entries in memory, as of a change. An entry ends at its instant, whether anybody looks again or not."""

    def __init__(self) -> None:
        self._entries: dict[ListKind, dict[str, _On]] = {kind: {} for kind in ListKind}
        self._version: int | None = None

    @property
    def version(self) -> int | None:
        """The number of the last change that is in it, None before it was loaded."""
        return self._version

    def __len__(self) -> int:
        """Return how many values stand on some list, those that ended lately included."""
        return sum(len(values) for values in self._entries.values())

    def members_of(self, kind: ListKind, value: str | None, at: datetime) -> frozenset[str]:
        """Return the lists on which something stands at an instant."""
        found = self._entries[kind].get(value) if value is not None else None
        if found is None:
            return _NOWHERE
        return frozenset(name for name, end in found.items() if end is None or at < end)

    def facts(self, payment: Parties, *, at: datetime) -> dict[str, bool]:
        """Return the facts of lists for a payment."""
        values = {
            ListKind.CARD: payment.card_token,
            ListKind.MEMBER: payment.member_id,
            ListKind.MERCHANT: payment.merchant,
            ListKind.IP_TOKEN: payment.ip_token,
            ListKind.DEVICE: payment.device_id,
            ListKind.COUNTRY: payment.country,
        }
        return facts_of_lists({kind: self.members_of(kind, value, at) for kind, value in values.items()})

    async def refresh(self, conn: Connection, *, at: datetime) -> None:
        """Read what was done since the last time, which is mostly nothing; all, the first time."""
        if self._version is None:
            version, standing = await store.everything(conn)
            self.apply(standing)
            self._version = version
        while changes := await store.changes(conn, after=self._version, limit=_CHANGES_PAGE):
            self.apply(change for _, change in changes)
            self._version = changes[-1][0]
            self._forget_expired(at - EXPIRED_FOR)

    def apply(self, changes: Iterable[Standing]) -> None:
        """Take changes over. What a reader holds meanwhile is replaced, never changed."""
        for change in changes:
            values = self._entries[change.kind]
            others = {name: end for name, end in values.get(change.value, {}).items() if name != change.list}
            here = {change.list: change.expires_at} if change.act == "added" else {}
            if lists := {**others, **here}:
                values[change.value] = lists
            else:
                values.pop(change.value, None)

    def _forget_expired(self, before: datetime) -> None:
        for values in self._entries.values():
            over = [
                v for v, on in values.items() if all(end is not None and end < before for end in on.values())
            ]
            for value in over:
                del values[value]


@dataclass(frozen=True, kw_only=True)
class ListDesk:
    """What operators do with lists; each act takes the caller's transaction, somebody and a reason."""

    database: Database
    clock: Clock

    async def add(
        self, conn: Connection, name: ListName, entries: Sequence[NewEntry], *, actor: str, reason: str
    ) -> Sequence[ListEntry]:
        """Put entries on a list; one that is there gets the new end and reason.

        Raises ListValueInvalid, ListEntriesInvalid or ListsFull.
        """
        now = self.clock.now()
        _require_distinct(entries)
        for entry in entries:
            if entry.expires_at is not None and entry.expires_at <= now:
                raise ListEntriesInvalid(f"an end of {entry.expires_at.isoformat()} is over already")
        version = await store.lock(conn)
        await store.forget_expired(conn, before=now - EXPIRED_FOR)
        if await store.count_besides(conn, name, entries) + len(entries) > ENTRIES_MAX:
            raise ListsFull(f"all lists together hold {ENTRIES_MAX:,} entries at most")
        await store.add(conn, name, entries, version=version, at=now, by=actor, reason=reason)
        return [
            ListEntry(
                list=name,
                kind=entry.kind,
                value=entry.value,
                expires_at=entry.expires_at,
                added_at=now,
                added_by=actor,
                reason=reason,
            )
            for entry in entries
        ]

    async def remove(
        self, conn: Connection, name: ListName, entries: Sequence[NewEntry], *, actor: str, reason: str
    ) -> None:
        """Take entries off a list: all of them or, where one is not there, none. Raises ListEntryNotFound."""
        _require_distinct(entries)
        version, now = await store.lock(conn), self.clock.now()
        gone = await store.remove(conn, name, entries, version=version, at=now, by=actor, reason=reason)
        if missing := sum((entry.kind, entry.value) not in gone for entry in entries):
            raise ListEntryNotFound(f"{missing} of {len(entries)} do not stand on the list {name}")

    async def entries(
        self,
        conn: Connection,
        *,
        name: ListName | None = None,
        kind: ListKind | None = None,
        value: str | None = None,
        after: tuple[str, str, str] = ("", "", ""),
        limit: int = 100,
    ) -> Sequence[ListEntry]:
        """Return a page of what stands on the lists now, by list, kind and value."""
        now = self.clock.now()
        return await store.entries(conn, name=name, kind=kind, value=value, at=now, after=after, limit=limit)

    async def history(
        self,
        conn: Connection,
        *,
        name: ListName | None = None,
        kind: ListKind | None = None,
        value: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Sequence[ListChange]:
        """Return a page of what was done, the newest first."""
        return await store.history(conn, name=name, kind=kind, value=value, before=before, limit=limit)


def _require_distinct(entries: Sequence[NewEntry]) -> None:
    if not 1 <= len({(entry.kind, entry.value) for entry in entries}) == len(entries) <= AT_ONCE_MAX:
        raise ListEntriesInvalid(f"give 1 to {AT_ONCE_MAX:,} different entries")
    for entry in entries:
        require_value(entry.kind, entry.value)
