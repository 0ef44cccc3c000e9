"""The test cases of a ruleset: given facts, which rules fire and what they decide. They are published with the rules.

`cases` of a document holds `base`, the facts of an ordinary payment, and `given`, a list of `{says, facts, fired,
action}`: facts are laid over the base, object over object; `action` is null where the model is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

from faregate.kernel.errors import InvalidError
from faregate.rules.compiled import HotRuleset
from faregate.rules.findings import Finding, Kind, Severity

SHOWN_MAX = 20
_NO_LIST = "cases must hold base, an object, and given, a list of {says, facts, fired, action}"


class CasesInvalid(InvalidError):
    """The test cases of a ruleset cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test case, its facts complete."""

    says: str
    facts: Mapping[str, Any]
    fired: tuple[str, ...]
    action: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """A case, and what the rules make of it."""

    case: Case
    fired: tuple[str, ...]
    action: str | None

    @property
    def is_met(self) -> bool:
        """Whether the rules do as the case says."""
        return (self.fired, self.action) == (self.case.fired, self.case.action)

    @property
    def text(self) -> str:
        """What was expected and what came, as one line."""
        return f"{_told(self.case.fired, self.case.action)}, not {_told(self.fired, self.action)}"


def read_cases(document: Mapping[str, Any]) -> tuple[Case, ...]:
    """Return the cases of a document. Raises CasesInvalid."""
    found = document.get("cases")
    base, given = (found.get("base"), found.get("given")) if isinstance(found, Mapping) else (None, None)
    if not isinstance(base, Mapping) or not isinstance(given, list):
        raise CasesInvalid(_NO_LIST)
    return tuple(_case(one, base, number) for number, one in enumerate(given, start=1))


def results_of(ruleset: HotRuleset, cases: Sequence[Case]) -> list[CaseResult]:
    """Return what the rules make of each case."""
    results = []
    for case in cases:
        found = ruleset.evaluate(case.facts)
        fired = tuple(one.rule for one in found.fired)
        results.append(CaseResult(case=case, fired=fired, action=found.action))
    return results


def case_findings(
    document: Mapping[str, Any], ruleset: HotRuleset, *, schema: Mapping[str, Any]
) -> Iterator[Finding]:
    """Yield an error for each case that does not hold or cannot be, and a warning for each rule that no case fires."""
    try:
        cases = read_cases(document)
    except CasesInvalid as error:
        yield Finding(message=error.detail, kind=Kind.CASE)
        return
    validator = Draft202012Validator(schema)
    for result in results_of(ruleset, cases):
        says = result.case.says
        for problem in list(validator.iter_errors(result.case.facts))[:1]:
            place = "/".join(str(part) for part in problem.path)
            message = f"the case {says!r} has facts that no payment has: {place}: {problem.message}"
            yield Finding(message=message, kind=Kind.CASE)
        if not result.is_met:
            yield Finding(message=f"the case {says!r} does not hold: {result.text}", kind=Kind.CASE)
    tried = {rule for case in cases for rule in case.fired}
    for rule in ruleset.rules:
        if rule.rule not in tried:
            yield Finding(
                message="no case fires it", kind=Kind.CASE, severity=Severity.WARNING, row=rule.rule
            )


def _case(found: object, base: Mapping[str, Any], number: int) -> Case:
    if not isinstance(found, Mapping) or found.keys() != {"says", "facts", "fired", "action"}:
        raise CasesInvalid(f"case {number}: {_NO_LIST}")
    fired, action = found["fired"], found["action"]
    is_sound = (
        isinstance(found["says"], str)
        and isinstance(found["facts"], Mapping)
        and isinstance(fired, list)
        and all(isinstance(rule, str) for rule in fired)
        and isinstance(action, str | None)
    )
    if not is_sound:
        raise CasesInvalid(f"case {number}: {_NO_LIST}")
    return Case(says=found["says"], facts=_laid_over(base, found["facts"]), fired=tuple(fired), action=action)


def _laid_over(base: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _laid_over(base[name], value)
        for name, value in facts.items()
        if isinstance(value, Mapping) and isinstance(base.get(name), Mapping)
    }
    return {**base, **facts, **both}


def _told(fired: Sequence[str], action: str | None) -> str:
    names = ", ".join(fired[:SHOWN_MAX]) or "nothing"
    return f"{names} fires and {action or 'no rule'} decides"
