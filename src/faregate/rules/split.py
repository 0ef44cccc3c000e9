"""Which arm of a split decides: by a hash of the subject, so that the same one always gets the same answer.

The hash knows the ruleset's name only, not the versions or the share: whoever is in the challenger's share stays in
it when the share grows.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

from faregate.rules.contracts import Traffic

BASIS_POINTS: Final = 10_000


class Arm(StrEnum):
    """Who decides: the active version, or the one that challenges it."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


def arm_of(subject_id: str, *, name: str, traffic: Traffic) -> Arm | None:
    """Return the arm that decides a subject, None while there is no split."""
    if traffic.challenger_version is None:
        return None
    is_challenged = bucket_of(subject_id, name=name) < traffic.challenger_basis_points
    return Arm.CHALLENGER if is_challenged else Arm.CHAMPION


def bucket_of(subject_id: str, *, name: str) -> int:
    """Return a number from 0 to 9,999 that is evenly spread over subjects and always the same for one."""
    digest = hashlib.sha256(f"{name}\0{subject_id}".encode()).digest()
    return int.from_bytes(digest[:8]) % BASIS_POINTS
