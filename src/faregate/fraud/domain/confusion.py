"""What a ruleset says of payments of which it is known whether they were frauds: how many, and how much money. Pure.

Amounts are the ruleset's own converted ones, in US cents; a payment without one counts, its amount does not. Money is
stopped where the rules decline, and held up where they send it to people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from faregate.rules.compiled import Action, HotRuleset

AMOUNT: Final = "amount_usd_minor"
ACTIONS: Final = (Action.ALLOW.value, Action.DECLINE.value, Action.REVIEW.value, "model")
"""What rules make of a payment; `model`: they leave it to the model."""
TRUTHS: Final[Mapping[bool | None, str]] = {True: "fraud", False: "genuine", None: "unknown"}


@dataclass(kw_only=True)
class Confusion:
    """Payments counted as they come, by what the rules say and by what is known."""

    ruleset: HotRuleset
    payments: Counter[tuple[str, str]] = field(default_factory=Counter)
    amounts: Counter[tuple[str, str]] = field(default_factory=Counter)
    fired: Counter[tuple[str, str]] = field(default_factory=Counter)
    fired_amounts: Counter[tuple[str, str]] = field(default_factory=Counter)
    untold: Counter[str] = field(default_factory=Counter)
    without_amount: int = 0

    def add(self, facts: Mapping[str, Any], *, is_fraud: bool | None) -> None:
        """Let the ruleset judge a payment, and count what it says. Only the newest label is given."""
        found, amount = self.ruleset.evaluate(facts), self.ruleset.completed(facts).get(AMOUNT)
        truth = TRUTHS[is_fraud]
        cell = ("model" if found.action is None else found.action.value, truth)
        self.without_amount += amount is None
        self.payments[cell] += 1
        self.amounts[cell] += amount or 0
        for one in found.fired:
            self.fired[one.rule, truth] += 1
            self.fired_amounts[one.rule, truth] += amount or 0
        self.untold.update(found.unknown)

    def document(self) -> dict[str, Any]:
        """Return what was found as JSON values."""
        return {
            "candidate": self.ruleset.label,
            "payments": self.payments.total(),
            "labelled": sum(n for (_, truth), n in self.payments.items() if truth != TRUTHS[None]),
            "without_amount": self.without_amount,
            "matrix": [
                {
                    "action": action,
                    "truth": truth,
                    "payments": self.payments[action, truth],
                    AMOUNT: self.amounts[action, truth],
                }
                for action in ACTIONS
                for truth in TRUTHS.values()
            ],
            "declined": self._rates({"decline"}),
            "declined_or_reviewed": self._rates({"decline", "review"}),
            "rules": [self._rule(rule.rule, rule.code, rule.action) for rule in self.ruleset.rules],
        }

    def _rates(self, actions: set[str]) -> dict[str, dict[str, float | None]]:
        return {
            "by_number": _rates_of(self.payments, actions),
            "by_amount": _rates_of(self.amounts, actions),
        }

    def _rule(self, rule: str, code: str, action: str) -> dict[str, Any]:
        return {
            "rule": rule,
            "code": code,
            "action": action,
            **{truth: self.fired[rule, truth] for truth in TRUTHS.values()},
            "fraud_usd_minor": self.fired_amounts[rule, "fraud"],
            "genuine_usd_minor": self.fired_amounts[rule, "genuine"],
            "untold": self.untold[rule],
        }


def _rates_of(cells: Counter[tuple[str, str]], actions: set[str]) -> dict[str, float | None]:
    """Return precision, recall and the share of genuine payments that were stopped, each None of nothing."""
    hits = sum(n for (action, truth), n in cells.items() if truth == "fraud" and action in actions)
    alarms = sum(n for (action, truth), n in cells.items() if truth == "genuine" and action in actions)
    frauds = sum(n for (_, truth), n in cells.items() if truth == "fraud")
    genuine = sum(n for (_, truth), n in cells.items() if truth == "genuine")
    return {
        "precision": _share(hits, hits + alarms),
        "recall": _share(hits, frauds),
        "false_alarms": _share(alarms, genuine),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
