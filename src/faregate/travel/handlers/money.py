"""Asks the ledger and the cash desk for what a saga wants of them. Every request has a key, so it may come again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from faregate.travel.contracts.redemptions import Came, Payments, Points
from faregate.travel.domain.saga import Action


@dataclass(frozen=True, kw_only=True)
class Money:
    """The ledger and the cash desk."""

    points: Points
    payments: Payments

    async def carry_out(self, do: Mapping[str, Any]) -> Came:
        """Do one step of a saga, and return what came of it. Raises what says that it cannot be asked at present."""
        key = do["key"]
        lasts = datetime.fromisoformat(do["until"]) - datetime.fromisoformat(do["at"])
        match Action(do["action"]):
            case Action.HOLD_POINTS:
                return await self.points.hold(
                    key=key,
                    member_id=do["member_id"],
                    amount=do["amount"],
                    lasts=lasts,
                    reference=key.partition(":")[0],
                )
            case Action.EXTEND_POINTS:
                return await self._of_each_hold(
                    do, lambda one, hold: self.points.extend(key=one, hold=hold, lasts=lasts)
                )
            case Action.POST_POINTS:
                return await self._of_each_hold(do, lambda one, hold: self.points.post(key=one, hold=hold))
            case Action.VOID_POINTS:
                return await self._of_each_hold(do, lambda one, hold: self.points.void(key=one, hold=hold))
            case Action.REFUND_POINTS:
                return await self._refund_points(do)
            case action:
                return await self._cash(action, do)

    async def _of_each_hold(self, do: Mapping[str, Any], ask: Any) -> Came:
        """Ask for the same of each hold. The first refusal is that of all; what was done before it stays done."""
        facts: list[Mapping[str, Any]] = []
        for hold in do["holds"]:
            came: Came = await ask(f"{do['key']}:{hold}", hold)
            if came.refusal is not None:
                return came
            facts.append(came.facts)
        ends = [fact["expires_at"] for fact in facts if "expires_at" in fact]
        operations = [
            {"operation": fact["operation"], "amount": fact["amount"]}
            for fact in facts
            if "operation" in fact
        ]
        return Came(facts={"operations": operations, **({"expires_at": min(ends)} if ends else {})})

    async def _refund_points(self, do: Mapping[str, Any]) -> Came:
        """Give points back out of what was posted, the latest first."""
        left, posted = do["amount"], do["posted"]
        for one in _latest_first(posted):
            amount = min(left, one["amount"])
            if amount:
                operation = one["operation"]
                came = await self.points.refund(
                    key=f"{do['key']}:{operation}", operation=operation, amount=amount
                )
                if came.refusal is not None:
                    return came
                left -= amount
        return Came(facts={"amount": do["amount"] - left})

    async def _cash(self, action: Action, do: Mapping[str, Any]) -> Came:
        desk, key, authorisation = self.payments, do["key"], do["authorisation"]
        match action:
            case Action.AUTHORISE_CASH:
                return await desk.authorise(
                    key=key, member_id=do["member_id"], amount_minor=do["amount"], currency=do["currency"]
                )
            case Action.CAPTURE_CASH:
                return await desk.capture(key=key, authorisation=authorisation)
            case Action.VOID_CASH:
                return await desk.void(key=key, authorisation=authorisation)
            case Action.REFUND_CASH:
                return await desk.refund(key=key, authorisation=authorisation, amount_minor=do["amount"])
            case _:
                raise ValueError(f"{action.value} is no matter of money")


def _latest_first(posted: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return list(reversed(posted))
