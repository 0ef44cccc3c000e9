"""What a client's request must pass after authentication: the client's own limit, then the state of the service."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from faregate.infra.admission import Admission, Work
from faregate.infra.http.authentication import Caller
from faregate.infra.http.client_limits import ClientLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The one gate of a process."""

    limits: ClientLimits
    admission: Admission

    async def enter(self, request: Request, *, caller: Caller, policy: str, work: Work) -> None:
        """Return if the request may go on. Raises RateLimited or Overloaded."""
        await self.limits.take(request, caller=caller, policy=policy)
        self.admission.admit(work)
