"""Scorecards as versioned data: points per bin, summed in integers, and a probability of default.

The artefact decides everything; nothing here was learned. Zero points are neutral: a value that costs points
hurts, and its bin names the reason. A missing or unseen value is no evidence and gets zero. Training and
policy (cut-offs, outcomes) do not belong here.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any, Final, Protocol

import rfc8785

from faregate.credit.domain.facts import FactValue
from faregate.credit.domain.features import Kind
from faregate.kernel.errors import InvalidError

RISK_DECIMALS: Final = 4
_ARITHMETIC: Final = Context(prec=28, rounding=ROUND_HALF_EVEN)
_QUANTUM: Final = Decimal(1).scaleb(-RISK_DECIMALS)


class BrokenScorecard(InvalidError):
    """An artefact that cannot be a scorecard: a bin without reason, edges out of order, a value twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Values worth the same. `below` is the exclusive upper edge of a numeric bin, None for the last one."""

    points: int
    reason: str | None
    values: tuple[FactValue, ...] = ()
    below: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one fact added to the score. `reason` is set only if it cost points."""

    fact: str
    points: int
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The result of a card. `risk_score` is the probability of default, 0 to 1, rounded to four decimals."""

    points: int
    risk_score: float
    contributions: tuple[Contribution, ...]
    version: str
    sha256: str


class ScoringModel(Protocol):
    """What a decision needs: a score of any facts, with the version of the card that gave it."""

    def score(self, facts: Mapping[str, FactValue | None]) -> Score:
        """Return the score of the facts; never fails, whatever is missing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One fact of a card with its bins."""

    fact: str
    kind: Kind
    bins: tuple[Bin, ...]
    edges: tuple[int, ...]
    bin_of_value: Mapping[FactValue, Bin]

    def bin_of(self, value: FactValue | None) -> Bin | None:
        """Return the bin of a value, None if the value is missing, of another type, or never seen."""
        if self.kind is Kind.CATEGORICAL:
            return self.bin_of_value.get(value) if isinstance(value, str) else None
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        return self.bins[bisect_right(self.edges, value)]

    def contribution(self, value: FactValue | None) -> Contribution:
        """Return what a value adds."""
        if (found := self.bin_of(value)) is None:
            return Contribution(fact=self.fact, points=0, reason=None)
        return Contribution(
            fact=self.fact, points=found.points, reason=found.reason if found.points < 0 else None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """`base_points` mean odds of `base_odds` good to one bad; every `pdo` points more double the odds."""

    base_points: int
    base_odds: int
    pdo: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """One card: the points that everybody starts with, and the attributes."""

    version: str
    sha256: str
    scaling: Scaling
    start_points: int
    attributes: tuple[Attribute, ...]

    @property
    def reasons(self) -> frozenset[str]:
        """Return every reason that it can give."""
        bins = (found for attribute in self.attributes for found in attribute.bins)
        return frozenset(found.reason for found in bins if found.points < 0 and found.reason)

    def score(self, facts: Mapping[str, FactValue | None]) -> Score:
        """Return the score of the facts; missing and unseen values are neutral."""
        contributions = tuple(a.contribution(facts.get(a.fact)) for a in self.attributes)
        points = self.start_points + sum(c.points for c in contributions)
        return Score(
            points=points,
            risk_score=probability_of_default(points, scaling=self.scaling),
            contributions=contributions,
            version=self.version,
            sha256=self.sha256,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFittedScorecard:
    """One card a fold. The card of an applicant was trained without anybody of the applicant's fold."""

    version: str
    sha256: str
    fold_features: tuple[str, ...]
    cards: tuple[Scorecard, ...]

    @property
    def reasons(self) -> frozenset[str]:
        """Return every reason that one of the cards can give."""
        return frozenset().union(*(card.reasons for card in self.cards))

    def score(self, facts: Mapping[str, FactValue | None]) -> Score:
        """Return the score by the one card that cannot have seen the applicant."""
        fold = fold_of(facts, features=self.fold_features, folds=len(self.cards))
        return self.cards[fold].score(facts)


def points_range(model: Scorecard | CrossFittedScorecard, *, version: str) -> tuple[int, int]:
    """Return the fewest and the most points that the card of a version can give; a missing value gives none.

    `version` is as a decision records it: of a cross-fitted model it names one card, such as `german-1-cross-fitted#3`.
    """
    card = model
    if isinstance(card, CrossFittedScorecard):
        card = next(c for c in card.cards if c.version == version)
    points = [[0, *(b.points for b in attribute.bins)] for attribute in card.attributes]
    return card.start_points + sum(map(min, points)), card.start_points + sum(map(max, points))


@lru_cache(maxsize=4096)
def probability_of_default(points: int, *, scaling: Scaling) -> float:
    """Return the logistic of the points, rounded half to even; decimals are equal on every machine."""
    doublings = _ARITHMETIC.divide(Decimal(points - scaling.base_points), Decimal(scaling.pdo))
    odds = _ARITHMETIC.multiply(Decimal(scaling.base_odds), _ARITHMETIC.power(Decimal(2), doublings))
    return float(_ARITHMETIC.divide(Decimal(1), odds + 1).quantize(_QUANTUM, rounding=ROUND_HALF_EVEN))


def fold_of(facts: Mapping[str, FactValue | None], *, features: Sequence[str], folds: int) -> int:
    """Return the fold of an applicant: SHA-256 of the canonical ASCII JSON of the features, mod folds."""
    form = {name: facts.get(name) for name in features}
    text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return int.from_bytes(digest) % folds


def artefact_sha256(artefact: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an artefact's canonical JSON (RFC 8785), in hex."""
    return hashlib.sha256(rfc8785.dumps(dict(artefact))).hexdigest()


def read_scorecard(artefact: Mapping[str, Any]) -> Scorecard | CrossFittedScorecard:
    """Return the model that an artefact describes. Raises `BrokenScorecard`."""
    try:
        return _read_artefact(artefact)
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenScorecard(f"the artefact lacks or misspells {error}") from error


def _read_artefact(artefact: Mapping[str, Any]) -> Scorecard | CrossFittedScorecard:
    name, sha256 = str(artefact["name"]), artefact_sha256(artefact)
    scaling = Scaling(**artefact["scaling"])
    documents = artefact["cards"]
    if not documents:
        raise BrokenScorecard(f"{name} has no card")
    if len(documents) == 1:
        return _read_card(documents[0], version=name, sha256=sha256, scaling=scaling)
    cards = tuple(
        _read_card(card, version=f"{name}#{fold}", sha256=sha256, scaling=scaling)
        for fold, card in enumerate(documents)
    )
    features = tuple(artefact["fold_features"])
    return CrossFittedScorecard(version=name, sha256=sha256, fold_features=features, cards=cards)


def _read_card(card: Mapping[str, Any], *, version: str, sha256: str, scaling: Scaling) -> Scorecard:
    attributes = tuple(_read_attribute(a) for a in card["attributes"])
    return Scorecard(
        version=version,
        sha256=sha256,
        scaling=scaling,
        start_points=int(card["start_points"]),
        attributes=attributes,
    )


def _read_attribute(data: Mapping[str, Any]) -> Attribute:
    fact, kind = str(data["fact"]), Kind(data["kind"])
    bins = tuple(_read_bin(b, fact=fact) for b in data["bins"])
    edges = tuple(b.below for b in bins[:-1] if b.below is not None)
    if kind is Kind.NUMERIC and (
        len(edges) != len(bins) - 1 or list(edges) != sorted(set(edges)) or bins[-1].below is not None
    ):
        raise BrokenScorecard(f"the edges of {fact} do not rise, or its last bin is not open", fact=fact)
    values = [value for b in bins for value in b.values]
    if kind is Kind.CATEGORICAL and (len(values) != len(set(values)) or not all(b.values for b in bins)):
        raise BrokenScorecard(f"a value of {fact} is in two bins, or a bin is empty", fact=fact)
    by_value = {value: b for b in bins for value in b.values}
    return Attribute(fact=fact, kind=kind, bins=bins, edges=edges, bin_of_value=by_value)


def _read_bin(data: Mapping[str, Any], *, fact: str) -> Bin:
    if data["points"] < 0 and not data["reason"]:
        raise BrokenScorecard(f"a bin of {fact} costs points without a reason", fact=fact)
    return Bin(
        points=int(data["points"]),
        reason=data["reason"],
        values=tuple(data.get("values", ())),
        below=data.get("below"),
    )
