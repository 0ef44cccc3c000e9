"""The artefacts of credit: scorecards, rulesets and reason codes, read from the package.

An artefact's name is its version, and it never changes once it is released. Making new ones does not belong
here: cards come from `scorecards`, rulesets from whoever writes the rules.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from faregate.credit.domain.plans import CheckPlans, CheckPlansRefused, read_check_plans
from faregate.credit.domain.scorecard import CrossFittedScorecard, Scorecard, read_scorecard
from faregate.kernel.errors import InvalidError, NotFoundError

_ARTEFACTS: Final = files("faregate") / "credit" / "artefacts"
NEWEST_CODES: Final = "reason-codes-1"


class ArtefactNotFound(NotFoundError):
    """There is no artefact of this name in the package."""


class ProviderPoliciesUnreadable(InvalidError):
    """The file of the providers' policies is not there, or is no text."""


@cache
def load_scorecard(version: str) -> Scorecard | CrossFittedScorecard:
    """Return the model of a version as decisions record it: `german-1`, or `german-1-cross-fitted#3`."""
    return read_scorecard(load_artefact("scorecards", version.partition("#")[0]))


def load_ruleset_document(version: str) -> dict[str, Any]:
    """Return a ruleset ready to be published, such as `card-eligibility-1`, with its code set put in."""
    document = load_artefact("rulesets", version)
    return document | {"code_set": load_reason_codes(document["code_set"])}


def load_reason_codes(version: str) -> dict[str, Any]:
    """Return a set of reason codes, such as `reason-codes-1`, with the mapping to form C-1."""
    return load_artefact("reason_codes", version)


def load_form_c1() -> Sequence[str]:
    """Return the entries of the official form by which an applicant is told why."""
    return [str(entry) for entry in load_reason_codes(NEWEST_CODES)["form_c1"]]


def load_check_plans(file: Path | None = None) -> CheckPlans:
    """Return the check plans of a TOML file, by default of the package. Raises `CheckPlansRefused`."""
    source = file or _ARTEFACTS / "check_plans.toml"
    try:
        return read_check_plans(tomllib.loads(source.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckPlansRefused(f"{source} cannot be read: {error}") from error
    except CheckPlansRefused as refused:
        raise CheckPlansRefused(f"{source}: {refused.detail}") from refused


def provider_policies_text(file: Path | None = None) -> tuple[str, str]:
    """Return the TOML that declares the providers' policies, by default of the package, and what to call it.

    Raises `ProviderPoliciesUnreadable`.
    """
    source = file or _ARTEFACTS / "providers.toml"
    try:
        return source.read_text(encoding="utf-8"), str(file or "providers.toml")
    except (OSError, ValueError) as error:
        raise ProviderPoliciesUnreadable(f"{source} cannot be read: {error}") from error


def load_artefact(folder: str, name: str) -> dict[str, Any]:
    """Return the JSON document of an artefact. Raises `ArtefactNotFound`."""
    try:
        text = _ARTEFACTS.joinpath(folder, f"{name}.json").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ArtefactNotFound(f"there is no {name} among the {folder}", name=name) from error
    document: dict[str, Any] = json.loads(text)
    return document
