"""Transfers of points to partners that are told by file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from faregate.entrypoints.bootstrap.points import load_programme
from faregate.infra.database import Database
from faregate.infra.settings import Settings
from faregate.points.api import PointsApi
from faregate.points.contracts.ledger import Operation, Refusal, Reverse
from faregate.travel.contracts.redemptions import Came
from faregate.travel.handlers.tools import Tools
from faregate.travel.handlers.transfers import TransferCounter, TransferDesk
from faregate.travel.partners.transfer_file import Drop


@dataclass(frozen=True, slots=True)
class LedgerExchange:
    """The points ledger as transfers use it."""

    ledger: PointsApi

    async def convert(self, *, key: str, member_id: str, points: int, partner: str) -> Came:
        """Take points in whole blocks."""
        asked = self.ledger.conversion(
            key=key, by="travel", member_id=member_id, amount=points, partner=partner
        )
        answer = await self.ledger.submit(asked)
        if not isinstance(answer, Operation):
            return Came(refusal="key_reused")
        if answer.refusal is not None:
            return Came(refusal=answer.refusal.value)
        return Came(facts={"operation": answer.no, "points": asked.amount, "units": asked.gives})

    async def give_back(self, *, key: str, operation: int) -> Came:
        """Give the points of a conversion back."""
        asked = Reverse(key=key, by="travel", subject=operation, reason="rejected by the partner")
        answer = await self.ledger.submit(asked)
        is_back = isinstance(answer, Operation) and answer.refusal in (None, Refusal.ALREADY_REVERSED)
        return Came() if is_back else Came(refusal="not_given_back")


def transfer_drop(settings: Settings) -> Path:
    """Return the folder that the transfer partner shares with us."""
    return settings.transfer_drop or settings.home / "transfers"


def transfer_counter(settings: Settings, *, tools: Tools) -> TransferCounter:
    """Return where members ask for transfers."""
    return TransferCounter(tools=tools, takes_points=list(load_programme(settings).partners))


def transfer_desk(database: Database, ledger: PointsApi, *, settings: Settings, tools: Tools) -> TransferDesk:
    """Return what carries out transfers."""
    return TransferDesk(
        database=database, tools=tools, exchange=LedgerExchange(ledger), drop=Drop(transfer_drop(settings))
    )
