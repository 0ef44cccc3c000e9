"""What the endpoints of payments share: who may, and how an act is answered once a key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from starlette.requests import Request

from faregate.infra.admission import Work
from faregate.infra.http.acts import ActEdge
from faregate.infra.http.authentication import Authenticator, Caller
from faregate.infra.http.client_limits import SUBMIT
from faregate.infra.http.gate import Gate
from faregate.infra.http.idempotent_route import route_template
from faregate.infra.security.pseudonym import Pseudonyms
from faregate.kernel.clock import Clock
from faregate.payments.api import PaymentsApi

AUTHORISE_SCOPE = "payments:authorise"
READ_SCOPE, WRITE_SCOPE = "payments:read", "payments:write"
CARDS_SCOPE, POLICY_SCOPE = "payments:cards", "payments:policy"


@dataclass(frozen=True, slots=True)
class Id:
    """An id that a path names; None for what has not its form."""

    given: str | None

    @classmethod
    def of(cls, request: Request, name: str, form: re.Pattern[str]) -> Self:
        """Return the id. What is none may be a card's number: the path is forgotten, and problems name the route's."""
        given = str(request.path_params[name])
        if form.fullmatch(given):
            return cls(given)
        request.scope["path"] = route_template(request)
        return cls(None)


class PaymentsEdge(ActEdge):
    """The way in and out of every endpoint of this context. `write_scope` is what acts need here."""

    def __init__(
        self,
        *,
        payments: PaymentsApi,
        authenticator: Authenticator,
        gate: Gate,
        clock: Clock,
        pseudonyms: Pseudonyms,
        write_scope: str = WRITE_SCOPE,
    ) -> None:
        super().__init__(
            database=payments.database,
            authenticator=authenticator,
            gate=gate,
            clock=clock,
            read_scope=READ_SCOPE,
            write_scope=write_scope,
        )
        self.payments = payments
        self.clock = clock
        self.pseudonyms = pseudonyms
        self.may_authorise = authenticator.require(AUTHORISE_SCOPE)
        self._own_gate = gate

    async def enter(self, request: Request, caller: Caller) -> None:
        """Return once the client's limit and the state of the service allow a payment."""
        await self._own_gate.enter(request, caller=caller, policy=SUBMIT, work=Work.SUBMIT)
