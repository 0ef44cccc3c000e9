"""What callers of the rules engine pass and get. Frozen data, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesetVersion:
    """A published version. `sha256` is the hash of its canonical JSON content, in hex."""

    name: str
    version: int
    sha256: str
    published_at: datetime
    published_by: str

    @property
    def label(self) -> str:
        """The version as decisions record it, such as `card-eligibility-1`."""
        return f"{self.name}-{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A version became the active one of its name at an instant."""

    version: int
    activated_at: datetime
    activated_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a ruleset answered, and by which rules: one entry a node, in the order they ran."""

    result: Mapping[str, Any]
    trace: tuple[Mapping[str, Any], ...]
