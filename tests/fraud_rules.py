"""Rulesets of fraud for tests: variations of the released one, and the payments that they judge."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from faregate.fraud.domain.rule_check import FRAUD
from faregate.fraud.store.rulesets import load_ruleset_document
from faregate.infra.database import Database
from faregate.rules import api as rules
from faregate.rules.contracts import Act

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
Change = Callable[[dict[str, Any]], Any]


class MovedClock:
    """A clock that tests move."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def move(self, **ahead: float) -> datetime:
        self.at += timedelta(**ahead)
        return self.at


@dataclass(frozen=True, slots=True, kw_only=True)
class Paying:
    """Who and what takes part in a payment."""

    card_token: str = "crd_1"
    member_id: str | None = "mbr_1"
    merchant: str = "mer_1"
    ip_token: str | None = None
    device_id: str | None = "dev_1"
    country: str = "US"


def released(version: int, *changes: Change) -> dict[str, Any]:
    """Return the released ruleset under another version, changed."""
    document = copy.deepcopy(load_ruleset_document(f"{FRAUD}-1")) | {"version": version}
    for change in changes:
        change(document)
    return document


def rows(document: dict[str, Any], node_id: str) -> list[dict[str, Any]]:
    """Return the rules of a table, to be changed."""
    [found] = [node for node in document["graph"]["nodes"] if node["id"] == node_id]
    listed: list[dict[str, Any]] = found["content"]["rules"]
    return listed


def declining_large(document: dict[str, Any]) -> None:
    """What is more than $10,000 is declined instead of looked at."""
    rows(document, "amounts")[0]["action"] = '"decline"'
    for case in document["cases"]["given"]:
        if "over_10000" in case["fired"] and case["action"] == "review":
            case["action"] = "decline"


async def publish(database: Database, version: int, *changes: Change, at: datetime = NOON) -> int:
    """Publish a version, not active."""
    async with database.transaction() as conn:
        document = released(version, *changes)
        await rules.publish(conn, document=document, published_at=at, published_by="ada")
    return version


async def activate(database: Database, version: int, *, at: datetime) -> None:
    async with database.transaction() as conn:
        await rules.activate(conn, name=FRAUD, version=version, activated_at=at, activated_by="ada")


def act(at: datetime) -> Act:
    return Act(actor="ada", at=at, reason="a test")
