"""What the gateway and a provider's adapter say to each other. Frozen data and one protocol.

No I/O, no clock and no word of any context's domain belongs here: a subject is a mapping that only the owner
context and its adapters understand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from faregate.kernel.outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can do; decides how the gateway treats an outcome that it does not know.

    `deduplicates`: the same request id is executed once, so that sending it again is safe.
    `look_up_lag_s_max`: an executed call is visible to a look-up after at most this many seconds in which the
    provider works; "not found" counts as not done only later than this after a look-up said so for the first time.
    `polls`: results are fetched by asking; `callback`: results are sent to us.
    `refusal_is_executed`: a refusal comes after the work and counts as a pull, so that no other provider may be asked
    for the same check after it.
    """

    provider: str
    asynchronous: bool
    deduplicates: bool
    look_up_lag_s_max: float
    timeout_s: float
    callback: bool
    polls: bool
    refusal_is_executed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """One request to one provider. `provider_request_id` is our own reference for it, for ever."""

    provider_request_id: str
    subject: Mapping[str, Any]
    callback_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A provider's own message about one of our requests, after its signature was verified."""

    provider: str
    provider_request_id: str
    outcome: Outcome


class Adapter(Protocol):
    """Speaks one provider's protocol. It neither retries nor remembers: that is the gateway's work."""

    capabilities: Capabilities

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:
        """Send the request once and say what is known of it. Never raises for what the provider does."""
        ...

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:
        """Ask what became of our request.

        Done | Accepted (still working) | NotDone("not_found") | NotDone (a final refusal) | Unknown.
        """
        ...

    def read_callback(self, body: Mapping[str, Any]) -> Callback:
        """Read a callback whose signature was verified. Raises ValueError for a malformed body."""
        ...
