"""What follows from an outcome: intent, outcome, capabilities and time in; the changed intent out. Pure.

The rule behind all rows: what may have been executed is asked about, never sent again under another reference
and never given to another provider. No I/O and no clock; chance comes in as a number between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from faregate.gateway.intent import FINAL, Intent, NewIntent, State, Status
from faregate.gateway.policies.refusals import Reason, Refusal
from faregate.gateway.policy import Rules
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown

NOT_FOUND = "not_found"
RATE_LIMITED = "rate_limited"
BUDGET_EXHAUSTED = "budget_exhausted"
_ELSEWHERE = frozenset({Reason.BREAKER_OPEN, Reason.PROBES_TAKEN, Reason.RETRY_BUDGET})
"""Refusals after which a fallback is asked at once: waiting would cost time, and asking would harm the provider."""


class Step(StrEnum):
    """What a claimed intent needs now."""

    SEND = "send"
    LOOK_UP = "look_up"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When an outcome is judged: `now`, the start of the call that brought it, and a roll of the dice."""

    now: datetime
    started_at: datetime
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The intent as it becomes; `tell` the owner this status, if any; `successor` is to be declared."""

    intent: Intent
    tell: Status | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes = b""
    successor: NewIntent | None = None


def next_step(intent: Intent, *, now: datetime, rules: Rules) -> Step:
    """Return what a claimed intent needs. The end of the budget is announced before all else."""
    if intent.settled is None and _remaining_s(intent, now) <= 0:
        return Step.EXPIRE
    if intent.state is not State.SENDING:
        return Step.LOOK_UP
    return Step.SEND if _remaining_s(intent, now) > rules.retry.call_s_min else Step.EXPIRE


def call_timeout_s(intent: Intent, *, now: datetime, rules: Rules) -> float:
    """Return how long the next call may take: never past the budget, unless the budget is over anyway."""
    if intent.settled is not None:
        return rules.capabilities.timeout_s
    return min(rules.capabilities.timeout_s, _remaining_s(intent, now))


def after_send(intent: Intent, outcome: Outcome, *, at: Moment, rules: Rules) -> Change:
    """Judge what a send brought. A refusal says nothing of an earlier send that may have been executed."""
    match outcome:
        case Done():
            return _done(intent, outcome)
        case Accepted():
            accepted = replace(intent, state=State.ACCEPTED, sent_end=at.now, looks=0, reason=None)
            return _wait(accepted, _poll_s(accepted, outcome, at, rules), at, rules)
        case NotDone() if not intent.doubtful:
            return _not_done(intent, outcome, at, rules, fresh=False)
        case NotDone(reason=reason) | Unknown(reason=reason):
            unknown = replace(intent, state=State.UNKNOWN, doubtful=True, looks=0, reason=reason)
            unknown = replace(unknown, sent_end=at.now)
            return _wait(unknown, _look_up_s(unknown, at, rules), at, rules)


def after_refusal(intent: Intent, refusal: Refusal, *, at: Moment, rules: Rules) -> Change:
    """Put back what a policy did not let through: nothing was sent, so it counts as no send.

    It waits for as long as the policy says, at most for its deadline. A fallback takes it over where waiting is no
    use, unless an earlier send may have been executed.
    """
    sends = intent.sends - (intent.state is State.SENDING)
    back = replace(intent, state=State.DECLARED, sends=sends, reason=refusal.reason.value)
    worth_it = rules.retry.call_s_min
    is_in_time = _remaining_s(intent, at.now) - refusal.retry_after_s > worth_it
    is_useless = refusal.reason in _ELSEWHERE or not is_in_time
    if is_useless and rules.fallback and not intent.doubtful and _remaining_s(intent, at.now) > worth_it:
        ended = replace(back, state=State.NOT_DONE, next_at=None)
        return Change(intent=ended, successor=_at_provider(intent, rules.fallback))
    # A little apart from each other, so that what was refused together does not come back together.
    due_at = at.now + timedelta(seconds=refusal.retry_after_s * (1 + 0.2 * at.chance))
    return Change(intent=replace(back, next_at=min(due_at, intent.deadline)))


def look_up_refused(intent: Intent, refusal: Refusal, *, at: Moment, rules: Rules) -> Change:
    """Ask later: a look-up that was not made says nothing, and does not count as one."""
    return _wait(intent, max(refusal.retry_after_s, rules.retry.look_up_s), at, rules)


def is_failure(step: Step, outcome: Outcome) -> bool:
    """Say whether an outcome tells that the provider is not well, which is what a breaker counts.

    A refusal is an answer, "not found" is one to a look-up, and a limit of the provider's is our own haste.
    """
    match outcome:
        case Unknown():
            return True
        case NotDone(reason=reason, retryable=True):
            return step is Step.SEND and reason != RATE_LIMITED
        case _:
            return False


def after_look_up(intent: Intent, outcome: Outcome, *, at: Moment, rules: Rules) -> Change:
    """Judge what a look-up brought. Only a final refusal or a late enough "not found" means not done."""
    looked = replace(intent, looks=intent.looks + 1)
    match outcome:
        case Done():
            return _done(looked, outcome)
        case Accepted():
            accepted = replace(looked, state=State.ACCEPTED)
            return _wait(accepted, _poll_s(accepted, outcome, at, rules), at, rules)
        case NotDone(reason=reason) if reason == NOT_FOUND:
            return _not_found(looked, at, rules)
        case NotDone(retryable=False):
            return _not_done(looked, outcome, at, rules, fresh=True)
        case Unknown(reason=reason):
            looked = replace(looked, reason=reason)
    return _wait(looked, _look_up_s(looked, at, rules), at, rules)


def after_callback(intent: Intent, outcome: Outcome, *, at: Moment, rules: Rules) -> Change | None:
    """Judge what a provider told us by itself; None when it changes nothing. The first final outcome wins."""
    if intent.state in FINAL:
        return None
    match outcome:
        case Done():
            return _done(intent, outcome)
        case NotDone():
            return _not_done(intent, outcome, at, rules, fresh=True)
        case _:
            return None


def at_deadline(intent: Intent, *, at: Moment, rules: Rules) -> Change:
    """End the budget: not done if certainly nothing was executed, else unknown and never a fallback."""
    if intent.state in (State.DECLARED, State.SENDING) and not intent.doubtful:
        return _not_done(intent, NotDone(BUDGET_EXHAUSTED), at, replace(rules, fallback=None), fresh=False)
    state = State.ACCEPTED if intent.state is State.ACCEPTED else State.UNKNOWN
    ended = replace(intent, state=state, settled=Status.UNKNOWN, reason=BUDGET_EXHAUSTED)
    return Change(intent=_reconciled(ended, at, rules), tell=Status.UNKNOWN)


def _done(intent: Intent, outcome: Done) -> Change:
    done = replace(intent, state=State.DONE, settled=Status.DONE, reason=None, next_at=None)
    return Change(intent=done, tell=Status.DONE, facts=outcome.payload, raw=outcome.raw)


def _not_found(intent: Intent, at: Moment, rules: Rules) -> Change:
    """Judge "not found": final only if an earlier look-up said so, this one began later than the lag after that, and
    none in between was without an answer.

    A provider that stands still executes what waits for it when it goes on, perhaps after it has answered look-ups:
    as long as it answers nothing, time proves nothing.
    """
    capabilities = rules.capabilities
    since = intent.sent_end if intent.reason == NOT_FOUND else None
    intent = replace(intent, reason=NOT_FOUND, sent_end=since or at.now)
    final_from = (since or at.now) + timedelta(seconds=capabilities.look_up_lag_s_max)
    if at.started_at > final_from:
        refusal = NotDone(NOT_FOUND, retryable=True)
        return _not_done(intent, refusal, at, rules, fresh=not capabilities.deduplicates)
    if capabilities.deduplicates and _may_send(intent, 0.0, at, rules):
        again = replace(intent, state=State.DECLARED, doubtful=True, reason=NOT_FOUND)
        due_at = at.now + timedelta(seconds=_backoff_s(intent, at, rules))
        return Change(intent=replace(again, next_at=min(due_at, intent.deadline)))
    until_final_s = (final_from - at.now).total_seconds() + 0.001
    return _wait(intent, min(_look_up_s(intent, at, rules), until_final_s), at, rules)


def _not_done(intent: Intent, outcome: NotDone, at: Moment, rules: Rules, *, fresh: bool) -> Change:
    """Known not done: try again (under a fresh reference where this one was seen), fall back, or give up."""
    delay_s = max(_backoff_s(intent, at, rules), outcome.retry_after_s or 0.0)
    ended = replace(intent, state=State.NOT_DONE, reason=outcome.reason, next_at=None, doubtful=False)
    if intent.settled is not None:
        if not rules.tells_late_refusals or intent.settled is not Status.UNKNOWN:
            return Change(intent=ended)
        return Change(intent=replace(ended, settled=Status.NOT_DONE), tell=Status.NOT_DONE)
    if outcome.retryable and _may_send(intent, delay_s, at, rules):
        if fresh:
            return Change(intent=ended, successor=_next_attempt(intent, delay_s))
        due_at = at.now + timedelta(seconds=delay_s)
        return Change(intent=replace(ended, state=State.DECLARED, next_at=due_at))
    if rules.fallback and _remaining_s(intent, at.now) > rules.retry.call_s_min:
        return Change(intent=ended, successor=_at_provider(intent, rules.fallback))
    return Change(intent=replace(ended, settled=Status.NOT_DONE), tell=Status.NOT_DONE)


def _wait(intent: Intent, delay_s: float, at: Moment, rules: Rules) -> Change:
    if intent.settled is not None:
        return Change(intent=_reconciled(intent, at, rules))
    if _remaining_s(intent, at.now) <= 0:
        return at_deadline(intent, at=at, rules=rules)
    return Change(intent=replace(intent, next_at=min(at.now + timedelta(seconds=delay_s), intent.deadline)))


def _reconciled(intent: Intent, at: Moment, rules: Rules) -> Intent:
    """Go on asking, ever more patiently, after the owner was told that the outcome is unknown."""
    retry = rules.retry
    due_at = at.now + timedelta(seconds=_doubled(retry.look_up_s, intent.looks, retry.reconcile_every_s_max))
    last_at = intent.deadline + timedelta(seconds=retry.reconcile_s)
    return replace(intent, next_at=due_at if due_at <= last_at else None)


def _next_attempt(intent: Intent, delay_s: float) -> NewIntent:
    following = _at_provider(intent, intent.provider)
    return replace(following, attempt=intent.attempt + 1, sends=intent.sends, delay_s=delay_s)


def _at_provider(intent: Intent, provider: str) -> NewIntent:
    return NewIntent(
        subject_id=intent.subject_id,
        check=intent.check,
        provider=provider,
        deadline=intent.deadline,
        traceparent=intent.traceparent,
    )


def _may_send(intent: Intent, delay_s: float, at: Moment, rules: Rules) -> bool:
    in_time = _remaining_s(intent, at.now) - delay_s > rules.retry.call_s_min
    return in_time and intent.settled is None and intent.sends < rules.retry.sends_max


def _backoff_s(intent: Intent, at: Moment, rules: Rules) -> float:
    """Full jitter: anything between nothing and the exponential bound."""
    retry = rules.retry
    return at.chance * _doubled(retry.backoff_s, intent.sends - 1, retry.backoff_s_max)


def _look_up_s(intent: Intent, at: Moment, rules: Rules) -> float:
    """Equal jitter: at least half the bound, because asking at once again tells nothing new."""
    retry = rules.retry
    return (0.5 + at.chance / 2) * _doubled(retry.look_up_s, intent.looks, retry.look_up_s_max)


def _poll_s(intent: Intent, outcome: Accepted, at: Moment, rules: Rules) -> float:
    """Polling providers say when; for others asking is the net under a lost callback."""
    if rules.capabilities.polls:
        return max(outcome.poll_after_s, rules.retry.look_up_s)
    patience_s = min(_remaining_s(intent, at.now) / 2, rules.retry.callback_s_max)
    return max(patience_s, rules.retry.look_up_s)


def _doubled(first_s: float, times: int, most_s: float) -> float:
    return min(most_s, first_s * 2.0 ** min(max(times, 0), 30))


def _remaining_s(intent: Intent, now: datetime) -> float:
    return (intent.deadline - now).total_seconds()
