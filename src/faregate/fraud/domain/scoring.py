"""What is decided about a payment: rules first, then the model for what passes. The order stands in `decide`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

from faregate.fraud.contracts.release import Thresholds
from faregate.fraud.contracts.scoring import Action, Evaluated, Payment, Reason, Ruleset, Values

RULE, MODEL = "rule", "model"
_ACTIONS: Final = {"allow": Action.APPROVE, "decline": Action.DECLINE, "review": Action.REVIEW}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The action. `by_rule` says that the model was not asked."""

    action: Action
    by_rule: bool


def facts_of(payment: Payment, *, features: Values | None, lists: Mapping[str, bool]) -> dict[str, Any]:
    """Return what rules see of a payment. What they convert, such as amounts in other currencies, they add."""
    return {
        "amount_minor": payment.amount_minor,
        "currency": payment.currency,
        "merchant": payment.merchant,
        "merchant_category": payment.merchant_category,
        "channel": payment.channel,
        "country": payment.country,
        "terminal_id": payment.terminal_id,
        "device_id": payment.device_id,
        "ip_token": payment.ip_token,
        "hour": payment.occurred_at.astimezone(UTC).hour,
        "features": {} if features is None else features,
        "lists": lists,
    }


def verdict_of_rules(evaluated: Evaluated | None) -> Verdict | None:
    """Return what the rules decide, None if they let the payment pass."""
    deciding = None if evaluated is None else evaluated.deciding
    return None if deciding is None else Verdict(_ACTIONS[deciding.action], by_rule=True)


def verdict_of_score(score: float | None, thresholds: Thresholds | None) -> Verdict:
    """Return what the model decides; what nobody could score is approved, and says that the model is missing."""
    if score is None or thresholds is None:
        return Verdict(Action.APPROVE, by_rule=False)
    if score >= thresholds.decline_at:
        return Verdict(Action.DECLINE, by_rule=False)
    if score >= thresholds.review_at:
        return Verdict(Action.REVIEW, by_rule=False)
    return Verdict(Action.APPROVE, by_rule=False)


def reasons_of_rules(evaluated: Evaluated | None, ruleset: Ruleset | None) -> Sequence[Reason]:
    """Return a reason for each code that fired, in the order of the rules, the one that decides first."""
    if evaluated is None or ruleset is None:
        return ()
    deciding = evaluated.deciding
    fired = [*([deciding] if deciding else []), *evaluated.fired]
    codes = dict.fromkeys(one.code for one in fired)
    return [Reason(code, RULE, str(ruleset.codes.get(code, {}).get("meaning", code))) for code in codes]
