"""The earn rules of the package, and changed ones."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from faregate.points.domain.earning import EarnRates
from faregate.points.store.artefacts import load_earn_rules
from faregate.rules.ruleset import canonical, compile_ruleset

DOCUMENT = load_earn_rules("points-earning-1")


def rates_of(document: dict[str, Any] = DOCUMENT) -> EarnRates:
    """Return rates that can be asked."""
    return EarnRates(compile_ruleset(canonical(document)))


def rows(document: dict[str, Any], node: str) -> list[dict[str, Any]]:
    """Return the rows of a table, to be changed."""
    [found] = [one for one in document["graph"]["nodes"] if one["id"] == node]
    table: list[dict[str, Any]] = found["content"]["rules"]
    return table


def next_version(version: int, **points_per_unit: str) -> dict[str, Any]:
    """Return the rules under another version, with other rates for some rows."""
    document = {**deepcopy(DOCUMENT), "version": version}
    for row in rows(document, "rate"):
        if row["_id"] in points_per_unit:
            row["points_per_unit"] = f'"{points_per_unit[row["_id"]]}"'
    return document
