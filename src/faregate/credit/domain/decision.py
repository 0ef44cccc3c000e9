"""The credit decision: a pure function of recorded inputs, a scorecard and a ruleset.

`decide` first turns its inputs into the document that is recorded, and decides on that document alone, so
that a replay of the record cannot see anything else. Only known facts of the right type get into it: whatever
a provider sends, nothing breaks and no identifier of a person slips in. Loading, saving and announcing do not
belong here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Protocol

import rfc8785

from faregate.credit.contracts import Status, Verdict
from faregate.credit.domain.application import OUTCOMES, correction
from faregate.credit.domain.facts import FACTS, Check, FactValue, FraudLevel, Source
from faregate.credit.domain.features import CANDIDATES
from faregate.credit.domain.reasons import AdverseActionReason, reasons_of_rules, reasons_of_score
from faregate.credit.domain.scorecard import Score, ScoringModel
from faregate.kernel.errors import InvalidError
from faregate.rules.contracts import Evaluation
from faregate.rules.ruleset import RulesetFailed, RulesetInputRefused

_INTEGER_MAX: Final = 2**53 - 1  # RFC 8785 has no larger ones
_TEXT_CHARS_MAX: Final = 100
IN_DOUBT: Final = {Status.APPROVED: "APPROVAL_IN_DOUBT", Status.DENIED: "DENIAL_IN_DOUBT"}
"""Why an application whose rules now say otherwise goes to a person, by what it was."""


class UnknownCheck(InvalidError):
    """A check is required that no rule knows: its absence would go unnoticed."""


class AnswerMalformed(InvalidError):
    """A ruleset answered what is no decision, which its own output schema let through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationFacts:
    """What the form says. Money in whole units; `age_years` in completed years at submission."""

    product_type: str
    amount: int | None
    purpose: str | None
    annual_income: int
    age_years: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSignal:
    """What became of one check: `status` is done, not_done, unknown or missing."""

    status: str
    provider: str | None = None
    provider_request_id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionInputs:
    """All that a decision is made from."""

    application: ApplicationFacts
    signals: Mapping[str, CheckSignal]
    required_checks: Sequence[str]
    latest_step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionResult:
    """A decision. `risk_score` is 0 to 1 with four decimals, higher is riskier.

    `code_set_version` names the set that the reasons are from; it is recorded beside the document.
    """

    outcome: Status
    risk_score: float
    reason_codes: tuple[str, ...]
    adverse_action_reasons: tuple[AdverseActionReason, ...]
    scorecard_version: str
    ruleset_version: str
    code_set_version: str
    trace: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """Return the result as it is recorded; JSON values only, equal for equal inputs and versions."""
        return {
            "outcome": self.outcome.value,
            "risk_score": self.risk_score,
            "reason_codes": list(self.reason_codes),
            "adverse_action_reasons": [reason.document() for reason in self.adverse_action_reasons],
            "scorecard_version": self.scorecard_version,
            "ruleset_version": self.ruleset_version,
            "trace": dict(self.trace),
        }


class Ruleset(Protocol):
    """What a decision needs of the rules: the engine's compiled ruleset is one."""

    @property
    def label(self) -> str:
        """The version as it is recorded."""
        ...

    @property
    def sha256(self) -> str:
        """The hash of the content."""
        ...

    @property
    def code_set_version(self) -> str:
        """The version of the code set that the ruleset was published with."""
        ...

    @property
    def codes(self) -> Mapping[str, Mapping[str, Any]]:
        """The code set that the version was published with."""
        ...

    def evaluate(self, context: Mapping[str, Any]) -> Evaluation:
        """Return the answer; may raise RulesetInputRefused or RulesetFailed."""
        ...


def decide(inputs: DecisionInputs, *, scorecard: ScoringModel, ruleset: Ruleset) -> DecisionResult:
    """Return the decision. Total and deterministic: what cannot be decided by rule goes to manual review."""
    return replay(inputs_document(inputs), scorecard=scorecard, ruleset=ruleset)


def replay(document: Mapping[str, Any], *, scorecard: ScoringModel, ruleset: Ruleset) -> DecisionResult:
    """Return the decision that recorded inputs lead to, equal to the first one under the same versions.

    Inputs of a further decision say what it revises; a person's outcome is such an input, and stands.
    """
    by_rules = _by_rules(document, scorecard=scorecard, ruleset=ruleset)
    if (revision := document.get("revision")) is None:
        return by_rules
    if revision["by"] == "person":
        return _by_person(by_rules, revision, codes=ruleset.codes)
    return _corrected(by_rules, revision)


def revised_inputs(
    document: Mapping[str, Any],
    *,
    status_before: Status,
    verdict: Verdict | None = None,
    is_persons: bool = False,
) -> dict[str, Any]:
    """Return inputs for a further decision on an application in this state: by a person's verdict, or by rules.

    `is_persons`: a person decided the state, which rules do not overrule.
    """
    revision: dict[str, Any] = {"by": "rules", "status_before": status_before.value}
    if verdict is not None:
        chosen = {"outcome": verdict.outcome.value, "reason_codes": list(verdict.reason_codes)}
        revision |= {"by": "person", **chosen}
    elif is_persons:
        revision["is_persons"] = True
    return {**document, "revision": revision}


def _by_rules(document: Mapping[str, Any], *, scorecard: ScoringModel, ruleset: Ruleset) -> DecisionResult:
    score = score_of(document, scorecard=scorecard)
    try:
        _refuse_unknown_checks(document["required_checks"])
        evaluation = ruleset.evaluate(_context(document, score=score))
        answer = _answer(evaluation.result, ruleset=ruleset)
    except (UnknownCheck, RulesetInputRefused, RulesetFailed, AnswerMalformed) as error:
        trace = _trace(score, ruleset, error=error.detail)
        return _review("RULES_NOT_EVALUATED", score=score, ruleset=ruleset, trace=trace)
    return _result(answer, score=score, ruleset=ruleset, nodes=evaluation.trace)


def score_of(document: Mapping[str, Any], *, scorecard: ScoringModel) -> Score:
    """Return the score of recorded inputs."""
    return scorecard.score({**_form_facts(document["application"]), **document["facts"]})


def _by_person(
    by_rules: DecisionResult, revision: Mapping[str, Any], *, codes: Mapping[str, Mapping[str, Any]]
) -> DecisionResult:
    """Return a person's decision beside the score and what the rules say now, which go into its trace."""
    outcome, chosen = Status(revision["outcome"]), tuple(revision["reason_codes"])
    return replace(
        by_rules,
        outcome=outcome,
        reason_codes=chosen,
        adverse_action_reasons=reasons_of_rules(chosen, code_set=codes) if outcome is Status.DENIED else (),
        trace={**by_rules.trace, "revision": _what_rules_say(by_rules)},
    )


def _corrected(by_rules: DecisionResult, revision: Mapping[str, Any]) -> DecisionResult:
    before, is_persons = Status(revision["status_before"]), revision.get("is_persons", False)
    outcome = correction(current=before, outcome=by_rules.outcome, is_persons=is_persons)
    trace = {**by_rules.trace, "revision": _what_rules_say(by_rules)}
    if outcome is by_rules.outcome:
        return replace(by_rules, trace=trace)
    codes = (IN_DOUBT[before], *by_rules.reason_codes)
    return replace(by_rules, outcome=outcome, reason_codes=codes, adverse_action_reasons=(), trace=trace)


def _what_rules_say(by_rules: DecisionResult) -> dict[str, Any]:
    return {"outcome_by_rules": by_rules.outcome.value, "reason_codes_by_rules": list(by_rules.reason_codes)}


def inputs_document(inputs: DecisionInputs) -> dict[str, Any]:
    """Return the canonical record of the inputs: known facts only, each of its own type, in a fixed shape."""
    facts = {name: _fact(name, inputs.signals) for name in sorted(_KNOWN)}
    return {
        "format": 1,
        "application": _application(inputs.application),
        "required_checks": sorted({_text(check) or "" for check in inputs.required_checks}),
        "checks": {check.value: _check(inputs.signals.get(check.value)) for check in Check},
        "facts": {name: value for name, value in facts.items() if value is not None},
        "latest_step": _text(inputs.latest_step),
    }


def document_sha256(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a document's canonical JSON (RFC 8785), in hex."""
    return hashlib.sha256(rfc8785.dumps(dict(document))).hexdigest()


def _refuse_unknown_checks(required: Sequence[str]) -> None:
    if unknown := sorted(set(required) - {check.value for check in Check}):
        raise UnknownCheck(f"no rule knows the required checks {', '.join(unknown)}", checks=unknown)


def _application(facts: ApplicationFacts) -> dict[str, Any]:
    return {
        "product_type": _text(facts.product_type) or "",
        "amount": _integer(facts.amount),
        "purpose": _text(facts.purpose),
        "annual_income": _integer(facts.annual_income) or 0,
        "age_years": _integer(facts.age_years) or 0,
    }


def _check(signal: CheckSignal | None) -> dict[str, Any]:
    if signal is None or signal.status not in ("done", "not_done", "unknown"):
        return {"status": "missing", "provider": None, "provider_request_id": None}
    return {
        "status": signal.status,
        "provider": _text(signal.provider),
        "provider_request_id": _text(signal.provider_request_id),
    }


def _fact(name: str, signals: Mapping[str, CheckSignal]) -> Any:
    check, read = _KNOWN[name]
    signal = signals.get(check.value)
    return read(signal.facts.get(name)) if signal is not None and signal.status == "done" else None


def _integer(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _INTEGER_MAX:
        return None
    return int(value)


def _boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _share(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) and 0 <= value <= 1 else None


def _text(value: object) -> str | None:
    """Keep text that JSON can carry; a lone surrogate would break the canonical form."""
    if not isinstance(value, str):
        return None
    return value.encode("utf-8", errors="replace").decode()[:_TEXT_CHARS_MAX]


def _one_of(values: frozenset[FactValue]) -> Callable[[object], FactValue | None]:
    def read(value: object) -> FactValue | None:
        return next((v for v in values if type(v) is type(value) and v == value), None)

    return read


def _known_facts() -> dict[str, tuple[Check, Callable[[object], Any]]]:
    from_checks = (fact for fact in FACTS.values() if fact.source is not Source.FORM)
    known: dict[str, tuple[Check, Callable[[object], Any]]] = {
        fact.name: (Check(fact.source.value), _one_of(fact.values) if fact.values else _integer)
        for fact in from_checks
    }
    return known | {
        "identity_verified": (Check.KYC, _boolean),
        "watchlist_match": (Check.KYC, _boolean),
        "sanctioned": (Check.KYC, _boolean),
        "fraud_level": (Check.FRAUD, _one_of(frozenset(level.value for level in FraudLevel))),
        "fraud_score": (Check.FRAUD, _share),
        "annual_income_verified": (Check.INCOME, _integer),
    }


_KNOWN: Final = MappingProxyType(_known_facts())
_RULE_FACTS: Final = (
    "identity_verified",
    "watchlist_match",
    "sanctioned",
    "fraud_level",
    "fraud_score",
    "annual_income_verified",
)
_SCORED: Final = {feature.fact for feature in CANDIDATES}
NEEDED_FACTS: Final[Mapping[Check, frozenset[str]]] = {
    check: frozenset(
        name
        for name, (source, _) in _KNOWN.items()
        if source is check and (name in _SCORED or name in set(_RULE_FACTS) - {"sanctioned", "fraud_score"})
    )
    for check in Check
}
"""What a done check must have answered before anybody is approved or denied by score."""


def _form_facts(application: Mapping[str, Any]) -> dict[str, FactValue | None]:
    return {name: application[name] for name, fact in FACTS.items() if fact.source is Source.FORM}


def _context(document: Mapping[str, Any], *, score: Score) -> dict[str, Any]:
    """Return what the rules see: no provider names, no request ids."""
    return {
        "application": document["application"],
        "checks": {check.value: _state(check, document) for check in Check},
        "facts": {name: document["facts"].get(name) for name in _RULE_FACTS},
        "score": {"risk_score": score.risk_score, "points": score.points},
    }


def _state(check: Check, document: Mapping[str, Any]) -> str:
    status = str(document["checks"][check.value]["status"])
    if status == "done" and not NEEDED_FACTS[check] <= document["facts"].keys():
        status = "incomplete"
    return status if status == "done" or check.value in document["required_checks"] else "not_required"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What the rules say: the outcome, its codes, and the codes that hurt, unless the score does."""

    outcome: Status
    reason_codes: tuple[str, ...]
    adverse_codes: tuple[str, ...]
    denied_by_score: bool


def _answer(result: Mapping[str, Any], *, ruleset: Ruleset) -> _Answer:
    """Read a ruleset's answer. Raises `AnswerMalformed`: what a ruleset may answer is its author's to say."""
    outcome, by_score = result.get("outcome"), result.get("denied_by_score")
    if outcome not in OUTCOMES or not isinstance(by_score, bool):
        raise AnswerMalformed(f"{ruleset.label} answered no outcome that there is", ruleset=ruleset.label)
    return _Answer(
        outcome=Status(outcome),
        reason_codes=_codes("reason_codes", result, ruleset=ruleset),
        adverse_codes=_codes("adverse_codes", result, ruleset=ruleset),
        denied_by_score=by_score,
    )


def _codes(name: str, result: Mapping[str, Any], *, ruleset: Ruleset) -> tuple[str, ...]:
    codes = result.get(name)
    if (
        not isinstance(codes, Sequence)
        or isinstance(codes, str)
        or not all(isinstance(c, str) for c in codes)
    ):
        raise AnswerMalformed(f"{ruleset.label} answered no list of {name}", ruleset=ruleset.label)
    return tuple(dict.fromkeys(codes))


def _result(
    answer: _Answer, *, score: Score, ruleset: Ruleset, nodes: Sequence[Mapping[str, Any]]
) -> DecisionResult:
    trace = _trace(score, ruleset, nodes=nodes)
    reasons = _adverse_reasons(answer, score=score, ruleset=ruleset)
    if answer.outcome is Status.DENIED and not reasons:
        return _review("NO_ADVERSE_REASON", score=score, ruleset=ruleset, trace=trace)
    return DecisionResult(
        outcome=answer.outcome,
        risk_score=score.risk_score,
        reason_codes=answer.reason_codes,
        adverse_action_reasons=reasons if answer.outcome is Status.DENIED else (),
        scorecard_version=score.version,
        ruleset_version=ruleset.label,
        code_set_version=ruleset.code_set_version,
        trace=trace,
    )


def _adverse_reasons(answer: _Answer, *, score: Score, ruleset: Ruleset) -> tuple[AdverseActionReason, ...]:
    if answer.denied_by_score:
        return reasons_of_score(score.contributions, code_set=ruleset.codes)
    return reasons_of_rules(answer.adverse_codes, code_set=ruleset.codes)


def _review(code: str, *, score: Score, ruleset: Ruleset, trace: Mapping[str, Any]) -> DecisionResult:
    return DecisionResult(
        outcome=Status.MANUAL_REVIEW,
        risk_score=score.risk_score,
        reason_codes=(code,),
        adverse_action_reasons=(),
        scorecard_version=score.version,
        ruleset_version=ruleset.label,
        code_set_version=ruleset.code_set_version,
        trace=trace,
    )


def _trace(
    score: Score, ruleset: Ruleset, *, nodes: Sequence[Mapping[str, Any]] = (), error: str | None = None
) -> dict[str, Any]:
    return {
        "scorecard": {
            "version": score.version,
            "sha256": score.sha256,
            "points": score.points,
            "contributions": {c.fact: c.points for c in score.contributions},
        },
        "ruleset": {
            "version": ruleset.label,
            "sha256": ruleset.sha256,
            "nodes": [dict(node) for node in nodes],
            "error": error,
        },
    }
