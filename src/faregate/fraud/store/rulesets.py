"""The rulesets of the package: data that is published, not code."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

_ARTEFACTS: Final = files("faregate.fraud") / "artefacts" / "rulesets"


def load_ruleset_document(label: str) -> dict[str, Any]:
    """Return a ruleset ready to be published, such as `fraud-payments-1`."""
    document: dict[str, Any] = json.loads(_ARTEFACTS.joinpath(f"{label}.json").read_text(encoding="utf-8"))
    return document
