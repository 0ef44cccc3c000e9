"""Drives a ledger with transfers: as fast as it takes them, or at an offered rate whether it keeps up or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from faregate.bench.ledger.port import DONE, LedgerUnderTest
from faregate.bench.ledger.workload import Transfer

OUTSTANDING_MAX: Final = 2_000
"""Transfers under way at once in an open loop; what falls due beyond them is dropped, and counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call and its answer; times of `time.perf_counter`."""

    kind: str
    key: str
    account: str
    amount: int
    answer: str
    began: float
    ended: float
    hold: str = ""


@dataclass(slots=True)
class Driven:
    """What came of a drive: `calls` in the order of their answers; latencies from when a transfer fell due."""

    seconds: float = 0.0
    calls: list[Call] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    transfers: int = 0
    dropped: int = 0
    failed: int = 0

    @property
    def transfers_per_s(self) -> float:
        """Transfers that were carried through, a second."""
        return self.transfers / self.seconds if self.seconds else 0.0


class Driver:
    """Drives one ledger. `prefix` keeps the keys of drives apart."""

    def __init__(self, ledger: LedgerUnderTest, *, prefix: str) -> None:
        self._ledger = ledger
        self._prefix = prefix
        self.driven = Driven()

    async def as_fast_as_it_takes(
        self, transfers: Iterator[Transfer], *, clients: int, seconds: float
    ) -> Driven:
        """Let so many clients do one transfer after the other for a while."""
        began = perf_counter()
        until = began + seconds

        async def client() -> None:
            while perf_counter() < until:
                await self._transfer(next(transfers), due=perf_counter())

        await asyncio.gather(*(client() for _ in range(clients)))
        self.driven.seconds = perf_counter() - began
        return self.driven

    async def at_rate(self, transfers: Iterator[Transfer], *, per_s: float, seconds: float) -> Driven:
        """Begin a transfer whenever one falls due. One that finds too many under way is dropped."""
        began, running = perf_counter(), set[asyncio.Task[None]]()
        for place in range(round(per_s * seconds)):
            due = began + place / per_s
            if (wait := due - perf_counter()) > 0.001:
                await asyncio.sleep(wait)
            elif place % 16 == 0:
                await asyncio.sleep(0)
            if len(running) >= OUTSTANDING_MAX:
                self.driven.dropped += 1
                continue
            task = asyncio.create_task(self._transfer(next(transfers), due=due))
            running.add(task)
            task.add_done_callback(running.discard)
        while running:
            await asyncio.gather(*running)
        self.driven.seconds = perf_counter() - began
        return self.driven

    async def _transfer(self, transfer: Transfer, *, due: float) -> None:
        hold = f"{self._prefix}h{transfer.number}"
        try:
            for _ in range(2 if transfer.is_repeated else 1):
                answer = await self._call("hold", hold, transfer)
            if answer == DONE and transfer.end:
                await self._call(transfer.end, f"{self._prefix}e{transfer.number}", transfer, hold=hold)
        except Exception:  # noqa: BLE001 - whatever a ledger raises counts as one that failed
            self.driven.failed += 1
            return
        self.driven.transfers += 1
        self.driven.latencies_s.append(perf_counter() - due)

    async def _call(self, kind: str, key: str, transfer: Transfer, *, hold: str = "") -> str:
        began = perf_counter()
        match kind:
            case "hold":
                answer = await self._ledger.hold(key, transfer.account, transfer.amount)
            case "post":
                answer = await self._ledger.post(key, hold, transfer.account)
            case _:
                answer = await self._ledger.void(key, hold, transfer.account)
        self.driven.calls.append(
            Call(
                kind=kind,
                key=key,
                account=transfer.account,
                amount=transfer.amount,
                answer=answer,
                began=began,
                ended=perf_counter(),
                hold=hold,
            )
        )
        return answer
