"""What is done with a payment: of what the scorer said and of what the policy says where it could not say all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from faregate.payments.contracts.payments import Attempt
from faregate.payments.contracts.policy import Band, CellAction, Policy, ScorerState
from faregate.payments.contracts.scoring import NoScore, Reason, Score, ScorerAction
from faregate.payments.domain.policy import band_of, table_of

_MEANS: Final[Mapping[str, ScorerState]] = {
    "features_missing": ScorerState.STALE,
    "features_stale": ScorerState.STALE,
    "rules_missing": ScorerState.STALE,
    "model_missing": ScorerState.MODEL_MISSING,
}
"""What a scorer that lacked something could not know. Where its record is kept first changes no decision."""
_STRICTNESS: Final = (CellAction.APPROVE, CellAction.APPROVE_AND_FLAG, CellAction.DECLINE)
_TEXTS: Final[Mapping[ScorerState, str]] = {
    ScorerState.UNAVAILABLE: "The scorer gave no answer in time",
    ScorerState.STALE: "The scorer had no fresh features or no rules",
    ScorerState.MODEL_MISSING: "The scorer had no model",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is done, and why. `cell` names the cell that was asked (`table.band.state`); None: none was."""

    action: CellAction
    reasons: Sequence[Reason]
    message: str | None
    states: Sequence[ScorerState] = ()
    missing: Sequence[str] = ()
    cell: str | None = None

    @property
    def is_declined(self) -> bool:
        """Whether the payment is declined."""
        return self.action is CellAction.DECLINE

    @property
    def is_flagged(self) -> bool:
        """Whether a person should look at it."""
        return self.action is CellAction.APPROVE_AND_FLAG


def knocked_out(reason: Reason, policy: Policy) -> Verdict:
    """Return the verdict on a payment that the scorer need not be asked about."""
    return Verdict(action=CellAction.DECLINE, reasons=(reason,), message=policy.decline_message)


def decide(attempt: Attempt, came: Score | NoScore, policy: Policy) -> Verdict:
    """Return what is done with a payment that nothing of ours is against.

    With a whole answer that is what the scorer says. Else the cell of the payment's band counts, and of an answer that
    lacks something, the stricter of the two: what rules declined stays declined.
    """
    missing = ("score",) if isinstance(came, NoScore) else tuple(came.degraded)
    scored = None if isinstance(came, NoScore) else _as_scored(came, policy)
    states = _states(came)
    if not states:
        if scored is None:
            raise ValueError("an answer that lacks nothing says what is done")
        return Verdict(
            action=scored,
            reasons=_reasons(came),
            message=policy.decline_message if scored is CellAction.DECLINE else None,
            missing=missing,
        )
    table = table_of(policy, attempt)
    band = band_of(table, attempt.amount_minor)
    state = max(states, key=lambda one: _strictness(band, one, scored))
    cell, action = band.cells[state], _stricter(band, state, scored)
    by_scorer = action is CellAction.DECLINE and scored is action and cell.action is not action
    return Verdict(
        action=action,
        reasons=(*_reasons(came), *(_lacking(one) for one in states)),
        message=policy.decline_message if by_scorer else cell.message,
        states=states,
        missing=missing,
        cell=f"{table.name}.{band.name}.{state.value}",
    )


def verdict_in(
    state: ScorerState, attempt: Attempt, policy: Policy, *, scored: ScorerAction = ScorerAction.APPROVE
) -> Verdict:
    """Return what would be done with a payment in a state: the policy as a table that can be asked."""
    if state is ScorerState.UNAVAILABLE:
        return decide(attempt, NoScore("not_asked"), policy)
    missing = next(name for name, means in _MEANS.items() if means is state)
    return decide(attempt, Score(decision_id="", action=scored, score=None, degraded=(missing,)), policy)


def _states(came: Score | NoScore) -> Sequence[ScorerState]:
    if isinstance(came, NoScore):
        return (ScorerState.UNAVAILABLE,)
    found = {_MEANS[name] for name in came.degraded if name in _MEANS}
    return tuple(state for state in ScorerState if state in found)


def _as_scored(score: Score, policy: Policy) -> CellAction:
    match score.action:
        case ScorerAction.APPROVE:
            return CellAction.APPROVE
        case ScorerAction.DECLINE:
            return CellAction.DECLINE
        case ScorerAction.REVIEW:
            return policy.review


def _stricter(band: Band, state: ScorerState, scored: CellAction | None) -> CellAction:
    says = band.cells[state].action
    if says is CellAction.AS_SCORED:
        says = scored or CellAction.DECLINE
    return says if scored is None else max(says, scored, key=_STRICTNESS.index)


def _strictness(band: Band, state: ScorerState, scored: CellAction | None) -> int:
    return _STRICTNESS.index(_stricter(band, state, scored))


def _reasons(came: Score | NoScore) -> Sequence[Reason]:
    return () if isinstance(came, NoScore) else tuple(came.reasons)


def _lacking(state: ScorerState) -> Reason:
    return Reason(code=f"SCORER_{state.name}", source="policy", text=_TEXTS[state])
