"""Our ledger behind the six calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from faregate.bench.ledger.port import DONE, Holding
from faregate.points.api import PointsApi
from faregate.points.contracts.ledger import Earn, Hold, KeyReused, Post, Request, Void


class OurLedger:
    """The points ledger in this process, as an API process has it. Holds are known by number: it remembers them."""

    def __init__(self, points: PointsApi) -> None:
        self._points = points
        self._holds: dict[str, int] = {}

    async def open(self, accounts: Sequence[str]) -> None:
        """Open accounts."""
        await self._points.open_accounts(accounts, at=datetime.now(UTC))

    async def earn(self, key: str, account: str, amount: int) -> str:
        """Add points."""
        return await self._ask(Earn(key=key, member_id=account, amount=amount))

    async def hold(self, key: str, account: str, amount: int) -> str:
        """Reserve points."""
        return await self._ask(Hold(key=key, member_id=account, amount=amount))

    async def post(self, key: str, hold: str, account: str) -> str:  # noqa: ARG002 - others need the account
        """Spend what is held."""
        return await self._ask(Post(key=key, subject=self._holds[hold]))

    async def void(self, key: str, hold: str, account: str) -> str:  # noqa: ARG002
        """Release what is held."""
        return await self._ask(Void(key=key, subject=self._holds[hold]))

    async def balance(self, account: str) -> Holding:
        """Return what an account has."""
        found = (await self._points.account(account)).balance
        return Holding(posted=found.posted, held=found.held)

    async def _ask(self, request: Request) -> str:
        answer = await self._points.submit(request)
        if isinstance(answer, KeyReused):
            return "key reused"
        if isinstance(request, Hold):
            self._holds[request.key] = answer.no
        return DONE if answer.refusal is None else answer.refusal.value
