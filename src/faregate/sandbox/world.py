"""The state of the sandbox: what was executed, what goes wrong, who is to be called back.

HTTP does not belong here; `routes` serves the providers and `admin` the questions of tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp

from faregate.kernel.clock import Clock
from faregate.kernel.errors import InvalidError
from faregate.sandbox.callbacks import Callbacks
from faregate.sandbox.credentials import SandboxCredentials
from faregate.sandbox.executions import Execution, Executions, Order
from faregate.sandbox.faults import Fault, FaultPlan, Faults, Latency, ProviderFaults, Script, Stage
from faregate.sandbox.journal import Journal
from faregate.sandbox.partners import all_partners
from faregate.sandbox.partners.base import Backstage
from faregate.sandbox.partners.bookings import Bookings
from faregate.sandbox.partners.transfer_e import NAME as TRANSFER_E
from faregate.sandbox.partners.transfer_e import TransferE
from faregate.sandbox.people import Identity
from faregate.sandbox.personas import Persona, faults_of, known_of
from faregate.sandbox.providers import all_providers
from faregate.sandbox.providers.base import Provider, Statement

JOURNAL_FILE: Final = "executions.jsonl"
BOOKINGS_FILE: Final = "bookings.jsonl"


class FaultPlanRefused(InvalidError):
    """A plan that would make a provider break its own statement, or that names what does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work: what is asked, about whom, whether it ends in a refusal, and in whose trace."""

    order: Order
    identity: Identity
    persona: Persona | None
    refused: bool
    traceparent: str | None


class World:
    """Everything that one sandbox holds. Use `open`; `close` leaves pending callbacks to the next one."""

    def __init__(
        self,
        *,
        journal: Journal,
        records: list[dict[str, Any]],
        providers: Mapping[str, Provider],
        credentials: SandboxCredentials,
        booked: tuple[Journal, list[dict[str, Any]]],
        transfer_drop: Path,
        plan: FaultPlan,
        session: aiohttp.ClientSession,
        clock: Clock,
        look_up_lag_s_max: float | None,
    ) -> None:
        self.providers = providers
        self.statements = _statements(providers, look_up_lag_s_max)
        self.clock = clock
        self.calls: Counter[str] = Counter()
        self.deduplicated: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        self._journal = journal
        self._session = session
        self._booked = booked[0]
        self.bookings = Bookings(*booked)
        backstage = Backstage(
            bookings=self.bookings,
            faults=lambda: self.faults,
            now=self.now,
            struck=self._strike,
            called=self._called,
        )
        self.partners = all_partners(backstage, credentials)
        self.transfers = TransferE(
            transfer_drop, journal=booked[0], records=booked[1], faults=lambda: self.faults
        )
        self.executions = Executions(journal, _of_type(records, "executed"))
        self.faults = self._checked(plan)
        self.callbacks = Callbacks(
            providers=providers, faults=lambda: self.faults, journal=journal, session=session, clock=clock
        )
        closed = {record["number"]: record["state"] for record in _of_type(records, "callback_closed")}
        self.callbacks.resume(self.executions.matching(), closed)

    @classmethod
    def open(
        cls,
        *,
        data_dir: Path,
        plan: FaultPlan,
        credentials: SandboxCredentials,
        clock: Clock,
        token_life_s: int = 60,
        look_up_lag_s_max: float | None = None,
        transfer_drop: Path | None = None,
    ) -> World:
        """Read the journal of `data_dir` and take up its pending callbacks. Needs a running loop.

        `look_up_lag_s_max` replaces what every provider states. Raises `JournalInUse`, `FaultPlanRefused`.
        """
        journal, records = Journal.open(data_dir / JOURNAL_FILE)
        return cls(
            journal=journal,
            records=records,
            providers=all_providers(credentials, token_life_s=token_life_s),
            credentials=credentials,
            booked=Journal.open(data_dir / BOOKINGS_FILE),
            transfer_drop=transfer_drop or data_dir / "transfers",
            plan=plan,
            session=aiohttp.ClientSession(),
            clock=clock,
            look_up_lag_s_max=look_up_lag_s_max,
        )

    async def close(self) -> None:
        """Stop callbacks and give the journal back."""
        await self.callbacks.close()
        await self._session.close()
        await self._journal.close()
        await self._booked.close()

    def now(self) -> float:
        """Return the present instant in Unix seconds."""
        return self.clock.now().timestamp()

    def set_plan(self, plan: FaultPlan) -> None:
        """Replace everything that goes wrong, waiting scripts included. Raises `FaultPlanRefused`."""
        self.faults = self._checked(plan)

    def add_script(self, script: Script) -> None:
        """Add a script. Raises `FaultPlanRefused`."""
        self._checked(self.faults.plan.model_copy(update={"scripts": (script,)}))
        self.faults.script(script)

    async def execute(self, provider: Provider, job: Job) -> tuple[Execution, bool]:
        """Do the work, on the disk when this returns; say whether it was done for this call.

        A provider that deduplicates returns the execution of the same reference instead.
        """
        name = provider.statement.name
        if provider.statement.deduplicates:
            earlier = await self.executions.find(provider=name, reference=job.order.reference)
            if earlier is not None:
                self.deduplicated[name] += 1
                return earlier, False
        execution = self._worked_out(provider, job)
        await self.executions.add(execution)
        return execution, True

    def latency_s(self, provider: str, job: Job) -> float:
        """Return how long the provider takes from the work to the answer."""
        extra_s = job.persona.extra_latency_s.get(provider, 0.0) if job.persona else 0.0
        latency = self.faults.plan.of(provider).latency
        return self._drawn_s(latency, "latency", provider, job.order.reference) + extra_s

    def fault(self, stage: Stage, *, provider: str, reference: str, persona: str | None) -> Fault | None:
        """Return what goes wrong at this stage of a call, if anything."""
        always = faults_of(persona, provider=provider)
        fault = self.faults.draw(stage, provider=provider, reference=reference, always=always)
        if fault is not None:
            self._strike(provider, fault)
        return fault

    def _called(self, name: str) -> None:
        self.calls[name] += 1

    def _strike(self, provider: str, fault: Fault) -> None:
        self.struck[f"{provider}:{fault.value}"] += 1

    def _worked_out(self, provider: Provider, job: Job) -> Execution:
        statement, order = provider.statement, job.order
        now = self.now()
        return Execution(
            number=self.executions.next_number(),
            provider=statement.name,
            check=statement.check,
            application=order.application,
            reference=order.reference,
            executed_at=now,
            ready_at=now + self._processing_s(statement, order.reference),
            answer=None if job.refused else provider.work(known_of(job.identity, job.persona)),
            callback_url=order.callback_url,
            traceparent=job.traceparent,
            persona=job.persona.key if job.persona else None,
        )

    def _processing_s(self, statement: Statement, reference: str) -> float:
        if not statement.asynchronous:
            return 0.0
        processing = self.faults.plan.of(statement.name).processing
        return self._drawn_s(processing, "processing", statement.name, reference)

    def _drawn_s(self, latency: Latency, purpose: str, provider: str, reference: str) -> float:
        if not latency.median_ms:
            return 0.0
        return latency.seconds(self.faults.unit(purpose, provider=provider, reference=reference))

    def _checked(self, plan: FaultPlan) -> Faults:
        for name in (*plan.providers, *(script.provider for script in plan.scripts)):
            if name not in (*self.statements, *self.partners, TRANSFER_E):
                known = ", ".join((*self.statements, *self.partners, TRANSFER_E))
                raise FaultPlanRefused(f"{name} is no provider; there are {known}")
        for script in plan.scripts:
            if not self._can_meet(script.provider, script.fault):
                raise FaultPlanRefused(f"{script.provider} can never meet {script.fault.value}")
        for name, statement in self.statements.items():
            scripted = {script.fault for script in plan.scripts if script.provider == name}
            _check_statement_kept(statement, plan.of(name), scripted)
        return Faults(plan)

    def _can_meet(self, provider: str, fault: Fault) -> bool:
        """Whether a fault can strike a provider: each stage belongs to some of them."""
        if provider in self.partners:
            return fault.stage is not Stage.CALLBACK and fault is not Fault.REFUSED
        if provider in self.statements:
            has_stage = fault.stage is not Stage.CALLBACK or self.statements[provider].callback
            return has_stage and fault.stage is not Stage.PARTNER
        return True


def _check_statement_kept(statement: Statement, behaviour: ProviderFaults, scripted: set[Fault]) -> None:
    """Raise `FaultPlanRefused` where a provider would break what it promises."""
    possible = scripted | {fault for fault, rate in behaviour.rates.items() if rate > 0}
    lag_s = behaviour.look_up_lag_s + (behaviour.late_work_s if Fault.LATE_WORK in possible else 0.0)
    if lag_s > statement.look_up_lag_s_max:
        raise FaultPlanRefused(
            f"{statement.name}: a lag of {lag_s} s exceeds the stated {statement.look_up_lag_s_max} s"
        )
    if Fault.REFUSED in possible and not statement.asynchronous:
        raise FaultPlanRefused(f"{statement.name} answers at once and never refuses what it has done")


def _statements(providers: Mapping[str, Provider], lag_s_max: float | None) -> dict[str, Statement]:
    return {
        name: provider.statement
        if lag_s_max is None
        else replace(provider.statement, look_up_lag_s_max=lag_s_max)
        for name, provider in providers.items()
    }


def _of_type(records: list[dict[str, Any]], wanted: str) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in record.items() if name != "type"}
        for record in records
        if record["type"] == wanted
    ]
