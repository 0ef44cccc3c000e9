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
class ListedVersion(RulesetVersion):
    """A published version; `active_since` is None unless it is the active one of its name."""

    active_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Who does something to rulesets, when and why. It goes into the rulesets' audit trail."""

    actor: str
    at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A version became the active one of its name at an instant, by a roll-back or not."""

    version: int
    activated_at: datetime
    activated_by: str
    reason: str | None = None
    is_rollback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """What a roll-back did: the version that was active in `[since, rolled_back_at)`, and the one that is now."""

    name: str
    from_version: int
    since: datetime
    to_version: int
    rolled_back_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One act: published, activated, rolled_back, shadow_started, shadow_stopped, split_set, split_stopped, …"""

    id: int
    version: int | None
    action: str
    at: datetime
    actor: str
    reason: str | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What decides, watches and challenges under a name. `challenger_basis_points` are of 10,000 applications."""

    version: int
    shadow_version: int | None
    challenger_version: int | None
    challenger_basis_points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a ruleset answered, and by which rules: one entry a node, in the order they ran."""

    result: Mapping[str, Any]
    trace: tuple[Mapping[str, Any], ...]
