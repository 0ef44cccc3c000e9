"""Adverse-action reasons: which factors hurt, how they rank, and the words that an applicant reads.

The wording follows sample form C-1 of Regulation B (12 CFR part 1002, appendix C), as the ruleset's own code
set maps it. Sending notices does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from faregate.credit.contracts import Status, Verdict
from faregate.credit.domain.scorecard import Contribution
from faregate.kernel.errors import InvalidError

REASONS_MAX: Final = 4
"""More than four reasons are unlikely to help an applicant; four is also what a score disclosure may hold."""

INQUIRIES: Final = "Number of recent inquiries on credit bureau report"
"""The entry of form C-1 that is named beside the four (FCRA section 609(f)(9), 15 U.S.C. 1681g)."""

OTHER: Final = "Other, specify:"


class ReasonCodeUnknown(InvalidError):
    """A reason code is not in the code set of the active ruleset, or none was given at all.

    Use the codes that the review shows; `unknown` lists those that are not among them.
    """


class AdverseReasonMissing(InvalidError):
    """A denial needs at least one reason code that is mapped to Regulation B's form C-1.

    The applicant must be told a specific reason, and none of the given codes names one.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class AdverseActionReason:
    """One principal reason. `points_lost` counts from a neutral value; None if a rule denies outright."""

    code: str
    wording: str
    points_lost: int | None

    def document(self) -> dict[str, Any]:
        """Return the reason as it is stored and answered."""
        return {"code": self.code, "wording": self.wording, "points_lost": self.points_lost}


def reasons_of_rules(
    codes: Iterable[str], *, code_set: Mapping[str, Mapping[str, Any]]
) -> tuple[AdverseActionReason, ...]:
    """Return the reasons of rules that deny outright, in the order in which the rules stand."""
    return _named([(code, None) for code in codes], code_set=code_set)


def reasons_of_score(
    contributions: Iterable[Contribution], *, code_set: Mapping[str, Mapping[str, Any]]
) -> tuple[AdverseActionReason, ...]:
    """Return the factors that cost points, most points first; equal losses keep the order of the card."""
    hurting = [c for c in contributions if c.points < 0]
    ranked = sorted(hurting, key=lambda c: c.points)
    return _named([(c.reason, -c.points) for c in ranked], code_set=code_set)


def _named(
    found: Iterable[tuple[str | None, int | None]], *, code_set: Mapping[str, Mapping[str, Any]]
) -> tuple[AdverseActionReason, ...]:
    """Keep the first of each wording; a code without one is left out, for nobody could be told.

    Four at most, and a fifth if recent inquiries are among them: these take none of the four places.
    """
    reasons: dict[str, AdverseActionReason] = {}
    for code, points_lost in found:
        if code is None or (wording := wording_of(code, code_set=code_set)) is None:
            continue
        reasons.setdefault(wording, AdverseActionReason(code=code, wording=wording, points_lost=points_lost))
    named = [wording for wording in reasons if wording != INQUIRIES][:REASONS_MAX]
    return tuple(reason for wording, reason in reasons.items() if wording in (*named, INQUIRIES))


def wording_of(code: str, *, code_set: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what form C-1 calls the reason, or what is specified under its "Other"; None if unmapped.

    "Other" alone is no specific reason: without what is specified, it counts as unmapped.
    """
    entry = code_set.get(code, {})
    wording = entry.get("specify") if entry.get("form_c1") == OTHER else entry.get("form_c1")
    return wording if isinstance(wording, str) and wording.strip() else None


def require_reasons(verdict: Verdict, *, code_set: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ReasonCodeUnknown or AdverseReasonMissing for a person's verdict that does not give its reasons."""
    unknown = [code for code in verdict.reason_codes if code not in code_set]
    if unknown or not verdict.reason_codes:
        raise ReasonCodeUnknown("a verdict needs reason codes of the code set", unknown=unknown)
    if verdict.outcome is Status.DENIED and not reasons_of_rules(verdict.reason_codes, code_set=code_set):
        raise AdverseReasonMissing("none of the reason codes can be told to the applicant")
