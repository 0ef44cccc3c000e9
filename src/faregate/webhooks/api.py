"""The door to webhooks: endpoints, their secrets and deliveries for clients and operators; announcing for contexts.

A `client_id` of None asks as the operator, who sees all. Functions that take a connection join its transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from faregate.infra.database import Connection, Database
from faregate.kernel.clock import Clock
from faregate.kernel.errors import ConflictError, InvalidError
from faregate.kernel.ids import RANDOM_BYTES, prefixed_id
from faregate.webhooks.contracts import (
    Announcement,
    Backlog,
    Delivery,
    Endpoint,
    EndpointChanges,
    EndpointDraft,
    EndpointWithSecret,
)
from faregate.webhooks.domain.addresses import AddressRules, EndpointUrlRefused
from faregate.webhooks.domain.schedule import State
from faregate.webhooks.secrets import SecretVault
from faregate.webhooks.store import deliveries, endpoints
from faregate.webhooks.store.deliveries import DeliveryNotFound, MessageTooLong
from faregate.webhooks.store.endpoints import EndpointNotFound, TooManyEndpoints

TEST_EVENT = "webhooks.test"
RETENTION_DAYS = 30
"""How long a settled delivery can be listed and sent again."""

_RESEAL_ROWS = 200


class EventTypeUnknown(InvalidError):
    """No message of this type is ever sent."""


class EndpointIsDisabled(ConflictError):
    """Nothing is sent to a disabled endpoint. Enable it first."""


async def announce(conn: Connection, announcements: Sequence[Announcement]) -> int:
    """Tell clients' endpoints in the caller's transaction; return how many deliveries that makes.

    Any role may. A message that was announced before is passed over. Raises MessageTooLong.
    """
    return await deliveries.insert_announcements(conn, announcements) if announcements else 0


@dataclass(frozen=True, kw_only=True)
class Webhooks:
    """What clients and operators do. `event_types` are those that contexts announce."""

    database: Database
    vault: SecretVault
    clock: Clock
    rules: AddressRules
    event_types: frozenset[str]
    secret_grace: timedelta

    async def create(self, conn: Connection, draft: EndpointDraft, *, client_id: str) -> EndpointWithSecret:
        """Subscribe; raise EndpointUrlRefused, EventTypeUnknown or TooManyEndpoints."""
        self._check(url=draft.url, event_types=draft.event_types)
        now = self.clock.now()
        endpoint_id = self._new_id("whe", now=now)
        made = await endpoints.insert_endpoint(
            conn, draft, endpoint_id=endpoint_id, client_id=client_id, now=now
        )
        return EndpointWithSecret(endpoint=made, secret=await self._new_secret(conn, endpoint_id, now=now))

    async def endpoints(self, *, client_id: str | None) -> Sequence[Endpoint]:
        """Return the endpoints of a client, oldest first."""
        async with self.database.connection() as conn:
            return await endpoints.endpoints_of(conn, client_id=client_id)

    async def endpoint(self, endpoint_id: str, *, client_id: str | None) -> Endpoint:
        """Return an endpoint; raise EndpointNotFound."""
        async with self.database.connection() as conn:
            return await endpoints.endpoint_of(conn, endpoint_id, client_id=client_id)

    async def change(self, endpoint_id: str, changes: EndpointChanges, *, client_id: str | None) -> Endpoint:
        """Change an endpoint; raise EndpointNotFound, EndpointUrlRefused or EventTypeUnknown.

        What waits for an endpoint when it is disabled is given up, and can be sent again later.
        """
        self._check(url=changes.url, event_types=changes.event_types)
        async with self.database.transaction() as conn:
            await endpoints.lock_endpoint(conn, endpoint_id, client_id=client_id)
            return await endpoints.change_endpoint(conn, endpoint_id, changes, now=self.clock.now())

    async def delete(self, endpoint_id: str, *, client_id: str | None) -> None:
        """Unsubscribe: the endpoint goes with its secrets and deliveries. Raises EndpointNotFound."""
        async with self.database.transaction() as conn:
            await endpoints.lock_endpoint(conn, endpoint_id, client_id=client_id)
            await endpoints.delete_endpoint(conn, endpoint_id)

    async def rotate_secret(
        self, conn: Connection, endpoint_id: str, *, client_id: str | None
    ) -> EndpointWithSecret:
        """Give an endpoint a new secret; the one before signs along for `secret_grace`. Raises EndpointNotFound."""
        found = await endpoints.lock_endpoint(conn, endpoint_id, client_id=client_id)
        secret = await self._new_secret(conn, endpoint_id, now=self.clock.now())
        return EndpointWithSecret(endpoint=found, secret=secret)

    async def send_test(self, conn: Connection, endpoint_id: str, *, client_id: str | None) -> Delivery:
        """Send a message of the type `webhooks.test`; raise EndpointNotFound or EndpointIsDisabled."""
        found = await self._lock_enabled(conn, endpoint_id, client_id=client_id)
        now = self.clock.now()
        message = Announcement(
            client_id=found.client_id,
            message_id=self._new_id("msg", now=now),
            event_type=TEST_EVENT,
            subject_id=endpoint_id,
            at=now,
            data={"endpoint_id": endpoint_id},
        )
        return await deliveries.insert_delivery(conn, endpoint_id=endpoint_id, message=message, now=now)

    async def deliveries(
        self,
        endpoint_id: str,
        *,
        client_id: str | None,
        state: State | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Sequence[Delivery]:
        """Return a page of an endpoint's deliveries, newest first; raise EndpointNotFound."""
        async with self.database.connection() as conn:
            await endpoints.endpoint_of(conn, endpoint_id, client_id=client_id)
            return await deliveries.deliveries_of(conn, endpoint_id, state=state, after=after, limit=limit)

    async def resend(
        self, conn: Connection, endpoint_id: str, message_id: str, *, client_id: str | None
    ) -> Delivery:
        """Send a message again. Raises EndpointNotFound, EndpointIsDisabled or DeliveryNotFound."""
        await self._lock_enabled(conn, endpoint_id, client_id=client_id)
        return await deliveries.resend(
            conn, endpoint_id=endpoint_id, message_id=message_id, now=self.clock.now()
        )

    async def resend_dead(self, endpoint_id: str, *, client_id: str | None) -> int:
        """Send everything again that was given up; return how much. Raises EndpointNotFound, EndpointIsDisabled."""
        async with self.database.transaction() as conn:
            await self._lock_enabled(conn, endpoint_id, client_id=client_id)
            return await deliveries.resend_dead(conn, endpoint_id=endpoint_id, now=self.clock.now())

    async def backlog(self) -> Backlog:
        """Return what waits and what was given up, over all clients."""
        async with self.database.connection() as conn:
            return await deliveries.backlog(conn, now=self.clock.now())

    async def prune(self) -> None:
        """Forget deliveries that were settled RETENTION_DAYS ago, and secrets that no longer sign."""
        now = self.clock.now()
        async with self.database.connection() as conn:
            await endpoints.prune_secrets(conn, before=now)
            await deliveries.prune_deliveries(conn, before=now - timedelta(days=RETENTION_DAYS))

    async def rotate_keys(self, *, on_progress: Callable[[int], None]) -> int:
        """Re-encrypt every secret under the current key; return how many changed."""
        changed, after = 0, ""
        while True:
            async with self.database.transaction() as conn:
                page = await endpoints.secrets_after(conn, after, limit=_RESEAL_ROWS)
                for secret_id, was in page:
                    sealed = self.vault.reseal(was, secret_id=secret_id)
                    if sealed != was:
                        await endpoints.reseal_secret(conn, secret_id, was=was, sealed=sealed)
                        changed += 1
            if not page:
                return changed
            after = page[-1][0]
            on_progress(changed)

    async def _lock_enabled(self, conn: Connection, endpoint_id: str, *, client_id: str | None) -> Endpoint:
        found = await endpoints.lock_endpoint(conn, endpoint_id, client_id=client_id)
        if found.disabled_reason is not None:
            raise EndpointIsDisabled(f"{endpoint_id} is disabled", reason=found.disabled_reason)
        return found

    async def _new_secret(self, conn: Connection, endpoint_id: str, *, now: datetime) -> str:
        secret, secret_id = self.vault.new(), self._new_id("whs", now=now)
        await endpoints.replace_secret(
            conn,
            endpoint_id=endpoint_id,
            secret_id=secret_id,
            sealed=self.vault.seal(secret, secret_id=secret_id),
            ends_at=now + self.secret_grace,
            now=now,
        )
        return secret

    def _check(self, *, url: str | None, event_types: Sequence[str] | None) -> None:
        if url is not None:
            self.rules.check_url(url)
        unknown = sorted(set(event_types or ()) - self.event_types)
        if unknown:
            known = ", ".join(sorted(self.event_types))
            raise EventTypeUnknown(f"no message has the type {', '.join(unknown)}; there are {known}")

    def _new_id(self, prefix: str, *, now: datetime) -> str:
        return prefixed_id(prefix, now=now, random=self.vault.random(RANDOM_BYTES))


__all__ = [
    "RETENTION_DAYS",
    "TEST_EVENT",
    "DeliveryNotFound",
    "EndpointIsDisabled",
    "EndpointNotFound",
    "EndpointUrlRefused",
    "EventTypeUnknown",
    "MessageTooLong",
    "TooManyEndpoints",
    "Webhooks",
    "announce",
]
