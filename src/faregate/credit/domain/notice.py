"""Notices of adverse action: until when an applicant must be told of a denial, and what the notice says.

The form is Regulation B's sample form C-1 (12 CFR part 1002, appendix C) with the score disclosure of section 615(a) of
the Fair Credit Reporting Act (15 U.S.C. 1681m(a)). Name and address of the applicant are added by whoever sends it;
sending does not belong here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from faregate.credit.domain.facts import FACTS, Check, Source
from faregate.credit.domain.features import CANDIDATES
from faregate.credit.domain.reasons import AdverseActionReason

NOTICE_WITHIN: Final = timedelta(days=30)
"""From the completed application, or from the action on one that was decided before (12 CFR 1002.9(a)(1))."""

ECOA: Final = (
    "The Federal Equal Credit Opportunity Act prohibits creditors from discriminating against credit "
    "applicants on the basis of race, color, religion, national origin, sex, marital status, age "
    "(provided the applicant has the capacity to enter into a binding contract); because all or part of "
    "the applicant's income derives from any public assistance program; or because the applicant has in "
    "good faith exercised any right under the Consumer Credit Protection Act. The Federal agency that "
    "administers compliance with this law concerning this creditor is {agency}."
)
REPORT: Final = (
    "Our credit decision was based in whole or in part on information obtained in a report from the "
    "consumer reporting agency listed below. You have a right under the Fair Credit Reporting Act to know "
    "the information contained in your credit file at the consumer reporting agency. The reporting agency "
    "played no part in our decision and is unable to supply specific reasons why we have denied credit to "
    "you. You also have a right to a free copy of your report from the reporting agency, if you request "
    "it no later than 60 days after you receive this notice. In addition, if you find that any "
    "information contained in the report you receive is inaccurate or incomplete, you have the right to "
    "dispute the matter with the reporting agency."
)
OUTSIDE: Final = (
    "Our credit decision was based in whole or in part on information obtained from an outside source "
    "other than a consumer reporting agency. Under the Fair Credit Reporting Act, you have the right to "
    "make a written request, no later than 60 days after you receive this notice, for disclosure of the "
    "nature of this information."
)
SCORE: Final = (
    "We used a credit score in making our credit decision. Your credit score is a number that reflects "
    "the information in your consumer report. Your credit score can change, depending on how the "
    "information in your consumer report changes."
)
_LINE_CHARS: Final = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Somebody whom the notice names."""

    name: str
    address: str
    phone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who denies the credit, which federal agency it answers to, and the reporting agencies by provider of reports."""

    creditor: Party | None = None
    federal_agency: str | None = None
    reporting_agencies: Mapping[str, Party] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedScore:
    """The score that the action was taken on. Higher is better; `low` and `high` are the card's whole range."""

    points: int
    low: int
    high: int
    card: str
    key_factors: Sequence[AdverseActionReason]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A denial as it is recorded, with the score if it was used. `sources`: the checks that its reasons rest on."""

    application_id: str
    version: int
    decided_at: datetime
    inputs: Mapping[str, Any]
    reasons: Sequence[Mapping[str, Any]]
    code_set_version: str | None
    score: UsedScore | None
    sources: frozenset[Check] = frozenset(Check)


_OF_RULES: Final[Mapping[str, frozenset[Check]]] = {
    "AGE_BELOW_LEGAL_CAPACITY": frozenset(),
    "INCOME_BELOW_MINIMUM": frozenset({Check.INCOME}),
    "IDENTITY_NOT_VERIFIED": frozenset({Check.KYC}),
    "WATCHLIST_MATCH": frozenset({Check.KYC}),
    "SANCTIONED": frozenset({Check.KYC}),
    "FRAUD_HIGH": frozenset({Check.FRAUD}),
    "RECENT_INQUIRIES": frozenset({Check.BUREAU}),
}


def sources_of(codes: Iterable[str], *, scored_facts: Iterable[str]) -> frozenset[Check]:
    """Return the checks that a denial rests on: by the codes of its reasons, and by the facts if it was scored.

    A code that is not among those of the package may rest on anything, so it rests on every check.
    """
    of_codes = (_of_code().get(code, frozenset(Check)) for code in codes)
    return frozenset().union(*of_codes, *(_of_fact(fact) for fact in scored_facts))


@cache
def _of_code() -> Mapping[str, frozenset[Check]]:
    of_score: dict[str, frozenset[Check]] = {}
    for feature in CANDIDATES:
        for code in (feature.reason, *feature.reasons.values()):
            of_score[code] = of_score.get(code, frozenset()) | _of_fact(feature.fact)
    return {**of_score, **_OF_RULES}


def _of_fact(fact: str) -> frozenset[Check]:
    source = FACTS[fact].source
    return frozenset() if source is Source.FORM else frozenset({Check(source.value)})


def notice_document(denial: Denial, *, issuer: Issuer) -> dict[str, Any]:
    """Return what the notice says, as JSON values. `missing` names what must be set before it may be sent."""
    checks = denial.inputs["checks"]
    done = {c.value: checks[c.value] for c in sorted(denial.sources) if checks[c.value]["status"] == "done"}
    bureau = done.get(Check.BUREAU.value)
    agency = issuer.reporting_agencies.get(bureau["provider"]) if bureau else None
    return {
        "form": "12 CFR part 1002 (Regulation B), Appendix C, Form C-1",
        "application_id": denial.application_id,
        "decision_version": denial.version,
        "requested_credit": {
            k: denial.inputs["application"][k] for k in ("product_type", "amount", "purpose")
        },
        "action_taken": "Your application for credit was denied.",
        "action_taken_on": denial.decided_at.date().isoformat(),
        "creditor": _party(issuer.creditor),
        "principal_reasons": [{"code": r["code"], "wording": r["wording"]} for r in denial.reasons],
        "code_set_version": denial.code_set_version,
        "credit_score": _score(denial, issuer=issuer),
        "consumer_report": bureau
        and {"provider": bureau["provider"], "agency": _party(agency), "statement": REPORT},
        "outside_sources": _outside_sources(done),
        "ecoa_notice": ECOA.format(agency=issuer.federal_agency) if issuer.federal_agency else None,
        "missing": list(_missing(issuer, bureau=bureau, agency=agency)),
    }


def _party(party: Party | None) -> dict[str, Any] | None:
    return asdict(party) if party else None


def _score(denial: Denial, *, issuer: Issuer) -> dict[str, Any] | None:
    if (used := denial.score) is None:
        return None
    return {
        "score": used.points,
        "range": {"low": used.low, "high": used.high},
        "scored_on": denial.decided_at.date().isoformat(),
        "provided_by": issuer.creditor.name if issuer.creditor else None,
        "card": used.card,
        "key_factors": [{"code": factor.code, "wording": factor.wording} for factor in used.key_factors],
        "statement": SCORE,
    }


def _outside_sources(done: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    others = sorted(found["provider"] for check, found in done.items() if check != Check.BUREAU)
    return {"providers": others, "statement": OUTSIDE} if others else None


def _missing(issuer: Issuer, *, bureau: Mapping[str, Any] | None, agency: Party | None) -> Iterator[str]:
    if issuer.creditor is None:
        yield "creditor"
    if issuer.federal_agency is None:
        yield "federal_agency"
    if bureau is not None and agency is None:
        yield f"reporting_agencies.{bureau['provider']}"


def notice_text(document: Mapping[str, Any]) -> str:
    """Return the notice as text to be read, without the applicant's name and address."""
    return "\n\n".join(_paragraphs(document)) + "\n"


def _paragraphs(document: Mapping[str, Any]) -> Iterator[str]:
    asked = document["requested_credit"]
    purpose = f", purpose: {asked['purpose']}" if asked["purpose"] else ""
    amount = f", amount {asked['amount']}" if asked["amount"] else ""
    yield "NOTICE OF ACTION TAKEN AND STATEMENT OF REASONS"
    yield f"Application: {document['application_id']}\nRequested credit: {asked['product_type']}{amount}{purpose}"
    yield f"{document['action_taken']}\nDate: {document['action_taken_on']}"
    yield "\n".join(["Principal reasons:", *(f"  - {r['wording']}" for r in document["principal_reasons"])])
    if (report := document["consumer_report"]) is not None:
        yield f"{_filled(report['statement'])}\n\n{_of_party(report['agency'], what='consumer reporting agency')}"
    if (score := document["credit_score"]) is not None:
        yield _of_score(score)
    if (outside := document["outside_sources"]) is not None:
        yield _filled(outside["statement"])
    yield _of_party(document["creditor"], what="creditor")
    yield _filled(document["ecoa_notice"] or "[The ECOA notice needs the name of the federal agency.]")


def _of_score(score: Mapping[str, Any]) -> str:
    lines = [
        _filled(score["statement"]),
        "",
        f"Your credit score: {score['score']}",
        f"Date: {score['scored_on']}",
        f"Scores range from a low of {score['range']['low']} to a high of {score['range']['high']}",
        f"Provided by: {score['provided_by'] or '[creditor]'} ({score['card']})",
        "Key factors that adversely affected your credit score:",
        *(f"  - {factor['wording']}" for factor in score["key_factors"]),
    ]
    return "\n".join(lines)


def _of_party(party: Mapping[str, Any] | None, *, what: str) -> str:
    if party is None:
        return f"[Name and address of the {what} are not set.]"
    return "\n".join(line for line in (party["name"], party["address"], party["phone"]) if line)


def _filled(text: str) -> str:
    return textwrap.fill(text, width=_LINE_CHARS)
