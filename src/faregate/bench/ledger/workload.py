"""What is asked of a ledger: transfers that hold points and then post or void them, spread over accounts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Skew(StrEnum):
    """How transfers are spread over accounts."""

    UNIFORM = "uniform"
    ZIPF_1 = "Zipf 1.0"
    ZIPF_2 = "Zipf 2.0"
    HOT = "one hot account"


_EXPONENTS: Final[Mapping[Skew, float]] = {Skew.UNIFORM: 0.0, Skew.ZIPF_1: 1.0, Skew.ZIPF_2: 2.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A hold and what ends it: `post`, `void`, or nothing. `is_repeated`: the hold is sent a second time."""

    number: int
    account: str
    amount: int
    end: str
    is_repeated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """The shares of what ends a hold, and of holds that are sent twice. The rest of the holds stays open."""

    posted: float = 0.85
    voided: float = 0.10
    repeated: float = 0.02


def accounts_of(count: int, *, prefix: str = "acc") -> list[str]:
    """Name so many accounts."""
    return [f"{prefix}_{number}" for number in range(count)]


def transfers(accounts: Sequence[str], *, skew: Skew, seed: int, mix: Mix = Mix()) -> Iterator[Transfer]:
    """Return transfers without end, the same for the same seed. The first accounts are the busiest."""
    chance = random.Random(f"{seed}{skew}")  # noqa: S311 - a repeatable load, not a secret
    cumulated = list(itertools.accumulate(_weights(len(accounts), skew)))
    for number in itertools.count():
        [account] = chance.choices(accounts, cum_weights=cumulated)
        draw = chance.random()
        yield Transfer(
            number=number,
            account=account,
            amount=chance.choice((1, 2, 4, 8)),
            end="post" if draw < mix.posted else "void" if draw < mix.posted + mix.voided else "",
            is_repeated=chance.random() < mix.repeated,
        )


def _weights(count: int, skew: Skew) -> Iterator[float]:
    if skew is Skew.HOT:
        yield 1.0
        yield from itertools.repeat(0.0, count - 1)
        return
    for rank in range(1, count + 1):
        yield 1.0 / rank ** _EXPONENTS[skew]
