"""A provider without a network, for tests of what stands on adapters. It keeps a real one's promises.

The contract suite runs on it as on the real adapters. HTTP, formats and signatures do not belong here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from faregate.gateway.contracts import Callback, Capabilities, ProviderRequest
from faregate.gateway.exchange import no_callback, read_callback
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown


class Mishap(StrEnum):
    """What happens to one call instead of an answer."""

    NOT_CONNECTED = "not_connected"
    UNAVAILABLE = "unavailable"
    LOST_BEFORE = "lost_before"
    LOST_AFTER = "lost_after"


class FakeAdapter:
    """Executes in memory. `executed` holds every executed reference in order, repeated ones repeated."""

    def __init__(self, *, capabilities: Capabilities, facts: Mapping[str, Any]) -> None:
        self.capabilities = capabilities
        self.executed: list[str] = []
        self.mishaps: deque[Mishap] = deque()
        self._facts = facts
        self._ready: set[str] = set()

    def finish(self, provider_request_id: str) -> Mapping[str, Any]:
        """Let an asynchronous result be ready; return the callback that tells of it."""
        self._ready.add(provider_request_id)
        return {"provider_request_id": provider_request_id, "status": "success", "payload": self._facts}

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Execute, unless the next mishap comes first."""
        mishap = self.mishaps.popleft() if self.mishaps else None
        if mishap in (Mishap.NOT_CONNECTED, Mishap.UNAVAILABLE):
            return NotDone(mishap.value, retryable=True)
        if mishap is not Mishap.LOST_BEFORE:
            self._execute(request.provider_request_id)
        if mishap is not None:
            return Unknown("connection_lost")
        return self._state(request.provider_request_id)

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Say what became of a reference."""
        if self.mishaps:
            self.mishaps.popleft()
            return Unknown("connection_lost")
        if provider_request_id not in self.executed:
            return NotDone("not_found", retryable=True)
        return self._state(provider_request_id)

    def read_callback(self, body: Mapping[str, Any]) -> Callback:
        """Read what `finish` returned. Raises `CallbackNotUnderstood`."""
        if not self.capabilities.callback:
            raise no_callback(self.capabilities.provider)
        return read_callback(self.capabilities.provider, body, facts=dict)

    def _execute(self, reference: str) -> None:
        if not (self.capabilities.deduplicates and reference in self.executed):
            self.executed.append(reference)

    def _state(self, reference: str) -> Outcome:
        if self.capabilities.asynchronous and reference not in self._ready:
            return Accepted(poll_after_s=1.0)
        return Done(self._facts)
