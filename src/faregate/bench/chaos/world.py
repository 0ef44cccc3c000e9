"""The outside world during a fault run: its plan, changed while it runs, and its counts over its own deaths."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from faregate.bench.partner import wait_until
from faregate.sandbox.faults import FaultPlan

WATCH_S = 0.5
ADMIN_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
PLAN_S_MAX = 60.0


class WorldUnderFaults:
    """The sandbox through its administration. `faults_file` is what it reads when it is started again."""

    def __init__(self, *, session: aiohttp.ClientSession, url: str, faults_file: Path) -> None:
        self._session = session
        self._url = url
        self._faults_file = faults_file
        self._last: Mapping[str, int] = {}
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """Calls (`kyc:calls`), their faults (`kyc:hang_after`) and what became of callbacks, over all restarts.

        Less than the truth by what a killed sandbox had counted since it was last asked.
        """
        return self._counts

    async def set_plan(self, plan: FaultPlan) -> None:
        """Let this go wrong from now on; a sandbox that is dead or frozen learns of it when it is back."""
        self._faults_file.write_text(plan.model_dump_json(), encoding="utf-8")
        await wait_until(lambda: self._tell(plan), timeout_s=PLAN_S_MAX)

    async def watch(self) -> None:
        """Keep the counts until cancelled."""
        while True:
            await self.count()
            await asyncio.sleep(WATCH_S)

    async def count(self) -> None:
        """Add what was counted since the last time; a count that fell began anew."""
        with suppress(aiohttp.ClientError, TimeoutError):
            now = _counted(await self._summary())
            for name, count in now.items():
                last = self._last.get(name, 0)
                self._counts[name] += count - last if count >= last else count
            self._last = now

    async def _summary(self) -> Mapping[str, Any]:
        async with self._session.get(f"{self._url}/admin/summary", timeout=ADMIN_TIMEOUT) as answer:
            summary: Mapping[str, Any] = await answer.json()
            return summary

    async def _tell(self, plan: FaultPlan) -> bool:
        url, body = f"{self._url}/admin/faults", plan.model_dump_json()
        try:
            async with self._session.put(url, data=body, timeout=ADMIN_TIMEOUT) as answer:
                answer.raise_for_status()
                return True
        except (aiohttp.ClientConnectionError, TimeoutError):
            return False


def _counted(summary: Mapping[str, Any]) -> Mapping[str, int]:
    calls = {f"{name}:calls": count for name, count in summary["calls_by_endpoint"].items()}
    return {**summary["struck"], **summary["callbacks"], **calls}
