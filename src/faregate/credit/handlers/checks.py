"""The checks of an application: what the gateway asks of credit, and what becomes of its answers.

The gateway calls the first three inside its own transaction; `process_signals` consumes the events that they append.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from faregate.credit.contracts import Status, StatusView
from faregate.credit.domain.application import step_of_signal
from faregate.credit.domain.checks import attempt_of, check_of
from faregate.credit.handlers.following import mark_new_facts
from faregate.credit.handlers.identity import IdentityVault
from faregate.credit.handlers.tools import Tools
from faregate.credit.store import applications, decisions
from faregate.events.credit import DecisionReady, ExternalCompleted, ExternalRequested
from faregate.gateway.contracts import ProviderRequest
from faregate.gateway.intent import Intent, Settled
from faregate.infra.database import Connection
from faregate.infra.eventlog import append
from faregate.infra.workflow import Signal, send_signals
from faregate.kernel.event import NewEvent

READY_SIGNAL = "decision_ready"
TakeSnapshots = Callable[[Sequence[StatusView]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class GatewayHooks:
    """What the gateway needs of credit, given where providers call back and how long a call may take."""

    tools: Tools
    vault: IdentityVault
    callback_url_of: Callable[[str], str]
    timeout_s_of: Callable[[str], float]

    async def lock(self, conn: Connection, subject_ids: Collection[str]) -> None:
        """Lock applications in the order in which everybody does."""
        await applications.lock_applications(conn, list(subject_ids))

    async def requested(self, conn: Connection, intents: Sequence[Intent]) -> None:
        """Announce requests that the gateway decided on itself: a further attempt, or a fallback provider."""
        await self.announce(conn, intents)

    async def announce(self, conn: Connection, intents: Sequence[Intent]) -> None:
        """Announce requests that are about to be made, for applications whose rows are locked."""
        await append(conn, [self._requested_event(intent) for intent in intents])

    async def settled(self, conn: Connection, results: Sequence[Settled]) -> None:
        """Announce what became of requests; their signals follow from these events."""
        await append(conn, [self._completed_event(result) for result in results])

    async def load_requests(
        self, conn: Connection, intents: Sequence[Intent]
    ) -> Mapping[str, ProviderRequest]:
        """Return what to send for each request id. Identities are decrypted here and kept nowhere."""
        people = {p.id: p for p in await applications.identities(conn, [i.subject_id for i in intents])}
        return {i.provider_request_id: self._request(i, people[i.subject_id]) for i in intents}

    def seal(self, provider_request_id: str, raw: bytes) -> bytes:
        """Encrypt a provider's raw answer, bound to its request."""
        return self.vault.seal_response(provider_request_id, raw)

    def _request(self, intent: Intent, person: applications.StoredIdentity) -> ProviderRequest:
        identity = self.vault.open_identity(person.id, person.identity_encrypted)
        return ProviderRequest(
            provider_request_id=intent.provider_request_id,
            subject={
                "legal_name": identity.legal_name,
                "dob": identity.dob.isoformat(),
                "ssn_last4": identity.ssn_last4,
                "annual_income": person.annual_income,
                "amount": person.amount,
                "purpose": person.purpose,
            },
            callback_url=self.callback_url_of(intent.provider),
        )

    def _requested_event(self, intent: Intent) -> NewEvent:
        event = ExternalRequested(
            application_id=intent.subject_id,
            provider=intent.provider,
            provider_request_id=intent.provider_request_id,
            attempt=intent.attempt,
            timeout_ms=round(self.timeout_s_of(intent.provider) * 1000),
        )
        return self.tools.stamp(event, traceparent=intent.traceparent)

    def _completed_event(self, result: Settled) -> NewEvent:
        event = ExternalCompleted(
            application_id=result.subject_id,
            provider=result.provider,
            provider_request_id=result.provider_request_id,
            status=result.status.value,
            signal_payload=dict(result.facts),
            received_at=result.received_at,
            reason=result.reason,
        )
        return self.tools.stamp(event, traceparent=result.traceparent)


async def process_signals(
    conn: Connection,
    completed: Sequence[ExternalCompleted],
    *,
    tools: Tools,
    traceparents: Mapping[str, str],
    take_snapshots: TakeSnapshots,
) -> list[decisions.ChangedSignal]:
    """Turn settled calls into risk signals, and tell the run of each application that became ready.

    Returns the signals that became known in applications which are decided already.

    `traceparents` continue the trace of each application. Snapshots are taken of what is about to commit: if it
    does not, the events come again and the snapshots are replaced.
    """
    now = tools.clock.now()
    ids = sorted({event.application_id for event in completed})
    states = await applications.lock_applications(conn, ids)
    changed = await decisions.upsert_signals(conn, list(newest_signals(completed).values()))
    late = [s for s in changed if s.status != "unknown" and states[s.application_id] is not Status.PROCESSING]
    if late:
        await _tell_reviewers(conn, late, tools=tools, traceparents=traceparents)
    open_ids = [i for i in ids if states.get(i) is Status.PROCESSING]
    if not open_ids:
        return late
    await decisions.record_steps(conn, _steps(completed, set(open_ids)), now=now)
    ready = await decisions.mark_ready(conn, open_ids, now=now)
    if ready:
        await _announce_ready(conn, ready, tools=tools, traceparents=traceparents)
    await take_snapshots(await applications.statuses_of(conn, open_ids))
    return late


async def _tell_reviewers(
    conn: Connection,
    late: Sequence[decisions.ChangedSignal],
    *,
    tools: Tools,
    traceparents: Mapping[str, str],
) -> None:
    """Mark the reviews of applications that were sent to review before these signals were known."""
    checks: dict[str, list[str]] = {}
    for signal in late:
        checks.setdefault(signal.application_id, []).append(signal.check_name)
    events = await mark_new_facts(conn, checks, now=tools.clock.now())
    await append(conn, [tools.stamp(e, traceparent=traceparents.get(e.application_id)) for e in events])


def newest_signals(completed: Sequence[ExternalCompleted]) -> dict[tuple[str, str], decisions.NewSignal]:
    """Return one signal an application and check: the last one, unless an earlier one was done.

    Of two that were done that of the later attempt counts: a new pull was made.
    """
    signals: dict[tuple[str, str], decisions.NewSignal] = {}
    for event in completed:
        key = (event.application_id, check_of(event.provider))
        if key in signals and not _replaces(event, signals[key]):
            continue
        signals[key] = decisions.NewSignal(
            application_id=event.application_id,
            check=key[1],
            status=event.status,
            provider=event.provider,
            provider_request_id=event.provider_request_id,
            reason=event.reason,
            facts=dict(event.signal_payload),
            received_at=event.received_at,
        )
    return signals


def _replaces(event: ExternalCompleted, known: decisions.NewSignal) -> bool:
    if known.status != "done":
        return True
    is_later = attempt_of(event.provider_request_id) > attempt_of(known.provider_request_id)
    return event.status == "done" and is_later


def _steps(completed: Sequence[ExternalCompleted], open_ids: set[str]) -> dict[str, str]:
    return {
        event.application_id: step_of_signal(check=check_of(event.provider), status=event.status)
        for event in completed
        if event.application_id in open_ids
    }


async def _announce_ready(
    conn: Connection,
    ready: Mapping[str, decisions.Readiness],
    *,
    tools: Tools,
    traceparents: Mapping[str, str],
) -> None:
    events = [
        tools.stamp(
            DecisionReady(
                application_id=application_id,
                required_signals_complete=readiness.is_complete,
                missing_providers=readiness.missing_providers,
            ),
            traceparent=traceparents.get(application_id),
        )
        for application_id, readiness in sorted(ready.items())
    ]
    await append(conn, events)
    signals = [Signal(run_id=i, name=READY_SIGNAL, signal_id="ready", payload=None) for i in sorted(ready)]
    await send_signals(conn, signals)
