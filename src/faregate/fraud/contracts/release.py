"""A release of a model: what it reads, from which score on it reviews and declines, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from faregate.kernel.errors import InvalidError


class ThresholdsInvalid(InvalidError):
    """A model reviews from one score on and declines from a higher one, both between 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From `review_at` on a payment is looked at by people, from `decline_at` on it is declined."""

    review_at: float
    decline_at: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.review_at <= self.decline_at <= 1.0:
            raise ThresholdsInvalid("0 ≤ review_at ≤ decline_at ≤ 1 does not hold")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """A feature that a model reads, in its place. `definition` changes with anything that could change its value."""

    name: str
    definition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What goes with the content of a model."""

    feature_set: str
    feature_set_version: str
    inputs: tuple[ModelInput, ...]
    thresholds: Thresholds
    metrics: Mapping[str, Any]
    trained_on: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """Return the release as it is stored and hashed."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Release:
        """Return the release of a stored document."""
        return cls(
            feature_set=document["feature_set"],
            feature_set_version=document["feature_set_version"],
            inputs=tuple(ModelInput(**one) for one in document["inputs"]),
            thresholds=Thresholds(**document["thresholds"]),
            metrics=document["metrics"],
            trained_on=document["trained_on"],
        )

    @property
    def names(self) -> Sequence[str]:
        """The names of the inputs, in their order."""
        return [one.name for one in self.inputs]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A version in the registry. `sha256` is the hash of content and release."""

    name: str
    version: int
    sha256: str
    release: Release
    size: int
    registered_at: datetime
    registered_by: str

    @property
    def label(self) -> str:
        """The version as people name it, such as `payments-3`."""
        return f"{self.name}-{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel(ModelVersion):
    """A version with its content."""

    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsInForce:
    """Which version decides and which one watches, by the hash of each."""

    active: str | None
    shadow: str | None
