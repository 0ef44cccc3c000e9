"""What the owner of intents lends to the gateway: its own writes, its requests' contents, its encryption.

The gateway stays free of any context's domain; whatever is particular to one comes in through this protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from faregate.gateway.contracts import ProviderRequest
from faregate.gateway.intent import Intent, Settled
from faregate.infra.database import Connection

Requests = Mapping[str, ProviderRequest]
"""What to send, by provider request id."""


class Hooks(Protocol):
    """Calls into the owner context. With a connection: in the transaction of the journal's write."""

    async def requested(self, conn: Connection, intents: Sequence[Intent]) -> None:
        """Announce intents that the gateway itself declared: a further attempt, or a fallback provider."""
        ...

    async def lock(self, conn: Connection, subject_ids: Collection[str]) -> None:
        """Lock what the following calls of this transaction write about: once, in one order for everybody."""
        ...

    async def settled(self, conn: Connection, results: Sequence[Settled]) -> None:
        """Take the ends of checks, at most one a check and batch; a `done` may follow an `unknown` later."""
        ...

    async def load_requests(self, conn: Connection, intents: Sequence[Intent]) -> Requests:
        """Return the contents to send; an intent left out is known not done. Raising holds up all of them."""
        ...

    def seal(self, provider_request_id: str, raw: bytes) -> bytes:
        """Encrypt a raw answer for keeping."""
        ...
