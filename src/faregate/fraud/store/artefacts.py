"""The artefacts that come with the package: the reason codes of models."""

from __future__ import annotations

from importlib.resources import files

import orjson

from faregate.fraud.domain.reasons import ReasonTable

REASONS = "model-reasons-1"


def load_reasons(version: str = REASONS) -> ReasonTable:
    """Return a table of reason codes. Raises ReasonTableIncomplete."""
    file = files("faregate.fraud") / "artefacts" / "reason_codes" / f"{version}.json"
    return ReasonTable.of(orjson.loads(file.read_bytes()))
