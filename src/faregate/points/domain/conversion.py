"""What points become elsewhere: units of a partner, in whole blocks, or points of another member, rounded down.

What is left over of a conversion stays with the member. What does not arrive of a transfer goes to the programme.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from faregate.kernel.errors import InvalidError


class RatioInvalid(InvalidError):
    """A ratio or a block that cannot be meant."""


class PartnerUnknown(InvalidError):
    """The programme has no such partner."""


class LessThanOneBlock(InvalidError):
    """There are fewer points than the partner takes at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """So many `points` give so many `units`; only multiples of `block` points are taken."""

    points: int
    units: int
    block: int = 1

    def __post_init__(self) -> None:
        """Check that a block gives whole units."""
        if min(self.points, self.units, self.block) <= 0 or self.block * self.units % self.points:
            raise RatioInvalid(
                f"a block of {self.block} points must give whole units at {self.points}:{self.units}"
            )


class NothingArrives(InvalidError):
    """Of so few points not one would arrive at the other member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRatio:
    """Of `points` that a member gives, `units` arrive at the other one. No points are made on the way."""

    points: int = 1
    units: int = 1

    def __post_init__(self) -> None:
        """Check that it is a share."""
        if not 0 < self.units <= self.points:
            raise RatioInvalid(f"of {self.points} points {self.units} cannot arrive")


EVEN: Final = TransferRatio()
"""What is given arrives."""


def arriving(points: int, ratio: TransferRatio) -> int:
    """Return how many points arrive, rounded down. Raises NothingArrives."""
    arrives = points * ratio.units // ratio.points
    if arrives == 0:
        raise NothingArrives(f"of {points} points none arrives at {ratio.units} for {ratio.points}")
    return arrives


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What is taken, what the partner gives for it, and what is left with the member."""

    points: int
    units: int
    left: int


def convert(points: int, ratio: Ratio) -> Converted:
    """Convert as many whole blocks as there are. Nothing is made or lost. Raises LessThanOneBlock."""
    taken = points - points % ratio.block
    if taken <= 0:
        raise LessThanOneBlock(f"at least {ratio.block} points are taken, not {points}")
    return Converted(points=taken, units=taken * ratio.units // ratio.points, left=points - taken)
