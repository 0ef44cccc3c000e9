"""Every piece of work that a provider really did: durable before it is answered, and counted.

This is what a test asks for the truth. What the work is does not belong here, nor who hears of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from faregate.sandbox.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a caller asks a provider to do, after the provider read it. `reference` is the caller's own."""

    reference: str
    callback_url: str | None = None

    @property
    def application(self) -> str:
        """The part of the reference before the first colon."""
        return self.reference.partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One executed, chargeable call. `answer` speaks the provider's language; None is a final refusal.

    `executed_at` and `ready_at` are Unix seconds; before `ready_at` an asynchronous provider still works.
    `persona` is the key of the persona whose fate its look-ups and callbacks share.
    """

    number: int
    provider: str
    check: str
    application: str
    reference: str
    executed_at: float
    ready_at: float
    answer: Mapping[str, Any] | None
    callback_url: str | None = None
    traceparent: str | None = None
    persona: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulls:
    """How often one check of one application was executed, over all attempts and providers."""

    application: str
    check: str
    pulls: int


class Executions:
    """The executed work of all providers, in memory for reading and in the journal for ever."""

    def __init__(self, journal: Journal, records: Iterable[Mapping[str, Any]]) -> None:
        self._journal = journal
        self._all: list[Execution] = []
        self._by_reference: defaultdict[tuple[str, str], list[Execution]] = defaultdict(list)
        self._pulls: Counter[tuple[str, str]] = Counter()
        self._undurable: dict[int, asyncio.Future[None]] = {}
        for record in records:
            self._remember(Execution(**record["execution"]))

    def next_number(self) -> int:
        """Return the number that the next execution carries."""
        return len(self._all) + 1

    async def add(self, execution: Execution) -> None:
        """Remember an execution; returns once it is on the disk."""
        self._remember(execution)
        future = self._journal.append({"type": "executed", "execution": execution})
        self._undurable[execution.number] = future
        await future
        del self._undurable[execution.number]

    async def find(self, *, provider: str, reference: str) -> Execution | None:
        """Return the latest execution of a reference, once it is on the disk; None if it never happened."""
        executions = self._by_reference.get((provider, reference))
        if not executions:
            return None
        if future := self._undurable.get(executions[-1].number):
            await asyncio.shield(future)
        return executions[-1]

    def matching(self, **wanted: str) -> list[Execution]:
        """Return the executions whose fields are as wanted, oldest first."""
        if {"provider", "reference"} <= wanted.keys():
            candidates = self._by_reference.get((wanted["provider"], wanted["reference"]), [])
        else:
            candidates = self._all
        return [
            execution
            for execution in candidates
            if all(getattr(execution, name) == value for name, value in wanted.items())
        ]

    def pulls(self, *, pulls_min: int = 1) -> list[Pulls]:
        """Return the pulls of every application and check that has at least so many."""
        return [
            Pulls(application=application, check=check, pulls=count)
            for (application, check), count in self._pulls.items()
            if count >= pulls_min
        ]

    def count_by_provider(self) -> Mapping[str, int]:
        """Return how many calls each provider executed."""
        return Counter(execution.provider for execution in self._all)

    def duplicates(self) -> int:
        """Return how many pulls were executed beyond the first of their application and check."""
        return sum(count - 1 for count in self._pulls.values())

    def _remember(self, execution: Execution) -> None:
        self._all.append(execution)
        self._by_reference[execution.provider, execution.reference].append(execution)
        self._pulls[execution.application, execution.check] += 1
