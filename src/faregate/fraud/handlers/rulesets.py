"""Which rules decide a payment: the active version, one that challenges it for a share of the cards, one that watches.

Every process keeps them in memory and looks twice a second whether they are still the ones. While nobody can be asked
the last known ones go on deciding.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final

from faregate.fraud.domain.rule_check import FRAUD
from faregate.fraud.handlers.lists import ListSnapshot, Parties
from faregate.fraud.store.rulesets import load_ruleset_document
from faregate.infra.database import Connection, Database
from faregate.infra.periodic import run_periodically
from faregate.kernel.clock import Clock
from faregate.kernel.errors import UnavailableError
from faregate.rules import api as rules
from faregate.rules.compiled import HotRuleset, compile_hot
from faregate.rules.contracts import Traffic
from faregate.rules.split import Arm, arm_of
from faregate.rules.store import NoActiveRuleset

LOOK_S: Final = 0.5
_ACTOR: Final = "faregate"


class RulesInForce:
    """The rules and lists of this process, as of its last look. It answers from memory and raises nothing."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._versions: dict[int, HotRuleset] = {}
        self._traffic: Traffic | None = None
        self.lists = ListSnapshot()

    def active(self, payment: Parties) -> HotRuleset | None:
        """Return the version that decides a payment, for one card always the same; None if there is none."""
        traffic = self._traffic
        if traffic is None:
            return None
        arm = arm_of(payment.card_token or "", name=FRAUD, traffic=traffic)
        version = traffic.challenger_version if arm is Arm.CHALLENGER else traffic.version
        return self._versions.get(version or traffic.version)

    def shadow(self) -> HotRuleset | None:
        """Return the version that watches, None if none does."""
        version = None if self._traffic is None else self._traffic.shadow_version
        return None if version is None else self._versions.get(version)

    def memberships(self, payment: Parties, *, at: datetime) -> Mapping[str, bool]:
        """Return the facts of lists for a payment."""
        return self.lists.facts(payment, at=at)

    async def look(self) -> None:
        """Look which versions are in force, and what was done to lists. Raises DatabaseUnavailable."""
        now = self._clock.now()
        async with self._database.connection() as conn:
            await self.lists.refresh(conn, at=now)
            try:
                traffic = await rules.traffic(conn, name=FRAUD, at=now)
            except NoActiveRuleset:
                return
            versions = {number: await self._version(conn, number) for number in _versions_of(traffic)}
        self._versions, self._traffic = versions, traffic

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at once, if anybody can be asked, and again and again, for the length of the block."""
        with suppress(
            UnavailableError
        ):  # the watcher asks again and says so; decisions say that rules are missing
            await self.look()
        stop = asyncio.Event()
        watcher = asyncio.create_task(
            run_periodically(stop, name="fraud.rules", every_s=LOOK_S, work=self.look)
        )
        try:
            yield
        finally:
            stop.set()
            await watcher

    async def _version(self, conn: Connection, number: int) -> HotRuleset:
        if (found := self._versions.get(number)) is not None:
            return found
        content = await rules.content_of(conn, name=FRAUD, version=number)
        return await asyncio.to_thread(
            compile_hot, content
        )  # tens of milliseconds, which no payment waits for


async def publish_first_rules(database: Database, *, now: datetime) -> None:
    """Publish and activate the ruleset of the package, unless some version is active already."""
    await rules.publish_first(
        database, name=FRAUD, document=lambda: load_ruleset_document(f"{FRAUD}-1"), now=now, by=_ACTOR
    )


def _versions_of(traffic: Traffic) -> set[int]:
    named = (traffic.version, traffic.shadow_version, traffic.challenger_version)
    return {version for version in named if version is not None}
