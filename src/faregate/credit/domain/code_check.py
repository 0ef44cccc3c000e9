"""What a ruleset's code set must say so that every denial can be told: the words of form C-1, and no others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from faregate.credit.domain.reasons import OTHER, wording_of
from faregate.rules.findings import Finding, Kind

ADVERSE_FIELD, NEEDED = "adverse_code", "form_c1"
_WHERE: Final = "the code set"


def code_findings(
    document: Mapping[str, Any], *, score_reasons: Collection[str], official: Collection[str]
) -> Iterator[Finding]:
    """Yield an error for each code that a notice could not name in the official words.

    `score_reasons` are the codes that the scorecard gives, `official` the entries of the form.
    """
    codes: Mapping[str, Mapping[str, Any]] = document["code_set"]["codes"]
    if document["code_fields"].get(ADVERSE_FIELD) != NEEDED:
        yield _unmapped(f"code_fields must say that {ADVERSE_FIELD} needs {NEEDED}")
    for code, entry in sorted(codes.items()):
        wording = entry.get(NEEDED)
        if wording is None:
            continue
        if wording not in official:
            yield _unmapped(f"the code {code} is mapped to {wording!r}, which is no entry of form C-1")
        elif wording == OTHER and wording_of(code, code_set=codes) is None:
            yield _unmapped(f"the code {code} is mapped to {OTHER!r} and specifies nothing")
    for code in sorted(score_reasons):
        if wording_of(code, code_set=codes) is None:
            yield _unmapped(f"the scorecard gives the reason {code}, which the code set does not map")


def _unmapped(message: str) -> Finding:
    return Finding(message=f"{_WHERE}: {message}", kind=Kind.UNMAPPED_CODE)
