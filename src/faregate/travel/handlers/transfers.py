"""Turns points into a partner's currency: takes them, tells the partner by file, gives back what it rejects.

`turn` does whatever is due, as often as it is called and in however many processes: each act of the ledger has a key
made of the transfer, and a file is written from what stands in its rows, so a process that dies between two of them
leaves nothing behind that the next turn does not do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from faregate.infra.database import Connection, Database
from faregate.kernel.errors import FaregateError, NotFoundError, UnavailableError
from faregate.travel.contracts.redemptions import Came
from faregate.travel.contracts.transfers import NewTransfer, TransferStatus
from faregate.travel.handlers.tools import Tools
from faregate.travel.partners.transfer_file import Acknowledged, Drop, FileBroken, Row, acknowledged, written
from faregate.travel.store import transfers as store
from faregate.travel.store.transfers import StoredTransfer

_log = structlog.get_logger(__name__)
AT_ONCE: Final = 500


class TransferPartnerNotFound(NotFoundError):
    """The programme has no partner of this name that takes points."""


class NotGivenBack(RuntimeError):
    """The ledger did not give back what a partner rejected: a defect, which the log tells until it is mended."""


class Exchange(Protocol):
    """What transfers need of the ledger. Whatever comes again under its key is done once."""

    async def convert(self, *, key: str, member_id: str, points: int, partner: str) -> Came:
        """Take points in whole blocks. The facts have `operation`, `points` and `units`."""
        ...

    async def give_back(self, *, key: str, operation: int) -> Came:
        """Give the points of a conversion back, with the dates that they had."""
        ...


@dataclass(frozen=True, kw_only=True)
class TransferCounter:
    """Where members ask for transfers. `takes_points` names the partners that take some."""

    tools: Tools
    takes_points: Sequence[str]

    async def begin(self, conn: Connection, wanted: NewTransfer) -> str:
        """Note a transfer in the caller's transaction, and return its id. Raises TransferPartnerNotFound."""
        if wanted.partner not in self.takes_points:
            raise TransferPartnerNotFound(f"no partner {wanted.partner!r} takes points")
        transfer_id = self.tools.new_id("trf")
        await store.insert(
            conn,
            id=transfer_id,
            member_id=wanted.member_id,
            partner=wanted.partner,
            account_encrypted=self.tools.seal_account(transfer_id, wanted.account),
            points=wanted.points,
            now=self.tools.clock.now(),
        )
        return transfer_id


@dataclass(frozen=True, kw_only=True)
class TransferDesk:
    """Carries out transfers of points to partners that are told by file."""

    database: Database
    tools: Tools
    exchange: Exchange
    drop: Drop

    async def turn(self) -> None:
        """Do what is due: take points, write the files, read the answers, give back what was rejected."""
        await self._each(TransferStatus.REQUESTED, self._convert)
        await self._file()
        await self._write_files()
        for name, body in await asyncio.to_thread(self.drop.answers):
            await self._answered(name, body)
        await self._each(TransferStatus.REJECTED, self._return)

    async def _each(
        self, status: TransferStatus, work: Callable[[Connection, StoredTransfer], Awaitable[None]]
    ) -> None:
        while True:
            async with self.database.transaction() as conn:
                found = await store.to_move(conn, status, limit=1)
                for one in found:
                    await work(conn, one)
            if not found:
                return

    async def _convert(self, conn: Connection, transfer: StoredTransfer) -> None:
        view = transfer.view
        try:
            came = await self.exchange.convert(
                key=f"{view.id}:convert", member_id=view.member_id, points=view.points, partner=view.partner
            )
        except UnavailableError:
            raise
        except FaregateError as error:
            came = Came(refusal=error.slug())
        is_done = came.refusal is None
        await store.move(
            conn,
            view.id,
            had=TransferStatus.REQUESTED,
            status=TransferStatus.CONVERTED if is_done else TransferStatus.REFUSED,
            now=self.tools.clock.now(),
            reason=came.refusal,
            **({name: int(came.facts[name]) for name in ("points", "units", "operation")} if is_done else {}),
        )

    async def _return(self, conn: Connection, transfer: StoredTransfer) -> None:
        view = transfer.view
        if transfer.operation is None:
            raise NotGivenBack(f"{view.id} was rejected and never converted")
        came = await self.exchange.give_back(key=f"{view.id}:return", operation=transfer.operation)
        if came.refusal is not None:
            raise NotGivenBack(f"{view.id}: {came.refusal}")
        await store.move(
            conn,
            view.id,
            had=TransferStatus.REJECTED,
            status=TransferStatus.RETURNED,
            now=self.tools.clock.now(),
        )

    async def _file(self) -> None:
        """Give what is converted a file a partner: the file's name is decided before the file is there."""
        now = self.tools.clock.now()
        async with self.database.transaction() as conn:
            converted = await store.to_move(conn, TransferStatus.CONVERTED, limit=AT_ONCE)
            for partner in sorted({one.view.partner for one in converted}):
                number = await store.next_file_no(conn)
                ids = [one.view.id for one in converted if one.view.partner == partner]
                await store.file(conn, ids, name=f"{partner}-{now:%Y-%m-%d}-{number:06d}", now=now)

    async def _write_files(self) -> None:
        async with self.database.connection() as conn:
            files = await store.files_without_answer(conn)
        for name, transfers in files.items():
            rows = [
                Row(
                    transfer_id=one.view.id,
                    account=self.tools.open_account(one.view.id, one.account_encrypted),
                    units=one.view.units,
                )
                for one in transfers
            ]
            await asyncio.to_thread(self.drop.put, name, written(rows))

    async def _answered(self, name: str, body: bytes) -> None:
        """Take what the partner says of a file. A broken answer is left where it is: a whole one replaces it."""
        try:
            answers = acknowledged(body)
        except FileBroken as error:
            _log.warning("travel.acknowledgement_broken", file=name, error=str(error))
            return
        async with self.database.transaction() as conn:
            waiting = await store.of_file(conn, name)
            for answer in answers:
                if answer.transfer_id in waiting:
                    await self._take(conn, answer)
        async with self.database.connection() as conn:
            left = await store.of_file(conn, name)
        if left:
            _log.warning("travel.acknowledgement_incomplete", file=name, missing=len(left))
        else:
            await asyncio.to_thread(self.drop.close, name)

    async def _take(self, conn: Connection, answer: Acknowledged) -> None:
        await store.move(
            conn,
            answer.transfer_id,
            had=TransferStatus.FILED,
            status=TransferStatus.ACCEPTED if answer.is_accepted else TransferStatus.REJECTED,
            now=self.tools.clock.now(),
            reason=answer.reason or None,
        )
