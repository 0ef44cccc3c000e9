"""The artefacts of the package: data that is published or read, not code."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

_ARTEFACTS: Final = files("faregate.points") / "artefacts"


def load_earn_rules(version: str) -> dict[str, Any]:
    """Return a ruleset ready to be published, such as `points-earning-1`."""
    document: dict[str, Any] = json.loads(
        _ARTEFACTS.joinpath("rulesets", f"{version}.json").read_text(encoding="utf-8")
    )
    return document
