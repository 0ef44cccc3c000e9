"""What a feature means, as a hash: a model may read live features whose meaning is that which it was trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from faregate.features.declarations import Feature
from faregate.features.feature_set import SEMANTICS, FeatureSet


def definitions_of(declared: FeatureSet) -> Mapping[str, str]:
    """Return for each feature of a set a hash that changes with anything that could change its value."""
    return {name: _definition(feature, declared) for name, feature in declared.feature_named.items()}


def _definition(feature: Feature, declared: FeatureSet) -> str:
    said = json.dumps({"semantics": SEMANTICS, **_said(feature, declared)}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _said(feature: Feature, declared: FeatureSet) -> dict[str, Any]:
    """The declaration, with the source that it looks at, and with those that it is made of."""
    source = declared.source_named.get(feature.of or declared.asked_by.name)
    parts = [declared.feature_named[name] for name in (feature.numerator, feature.denominator) if name]
    return {
        "feature": asdict(feature),
        "source": None if source is None else [source.name, source.lateness_s, source.ahead_s],
        "parts": [_said(part, declared) for part in parts],
    }
