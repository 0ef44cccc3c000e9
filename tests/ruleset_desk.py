"""Rulesets for tests of what operators do with them: variations of the released one, published under new versions.

    from tests.ruleset_desk import Rules, denying_everything, rules_of_desk  # noqa: F401

`rules` is the fixture: it publishes and activates on the module's `desk`, each test versions of its own.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from faregate.credit.handlers.decide import RULESET_NAME
from faregate.credit.handlers.redecide import Redecider
from faregate.credit.handlers.rulesets import RulesetDesk
from faregate.credit.store.artefacts import load_ruleset_document
from faregate.entrypoints.bootstrap.site import tools
from faregate.rules.api import publish
from tests.credit_desk import Desk

Change = Callable[[dict[str, Any]], Any]
_versions = itertools.count(101)


def next_version() -> int:
    """Return a version that no other call returned."""
    return next(_versions)


def released(version: int, *changes: Change) -> dict[str, Any]:
    """Return the released ruleset under another version, changed."""
    document = copy.deepcopy(load_ruleset_document(f"{RULESET_NAME}-1")) | {"version": version}
    for change in changes:
        change(document)
    return document


def content(document: dict[str, Any], node_id: str) -> dict[str, Any]:
    """Return the content of a node, to be changed."""
    [found] = [node for node in document["graph"]["nodes"] if node["id"] == node_id]
    inner: dict[str, Any] = found["content"]
    return inner


def denying_everything(document: dict[str, Any]) -> None:
    """Somebody confused cents with dollars: nobody earns enough."""
    rows = content(document, "knock_outs")["rules"]
    rows[5]["when_1"] = "< 1200000000"
    rows.pop(6)


def approving_everything(document: dict[str, Any]) -> None:
    """The outcome's rows before the last one are gone."""
    rows = content(document, "outcome")["rules"]
    del rows[:-1]


def reviewing_low_risk(document: dict[str, Any]) -> None:
    """Hardly anybody's risk is called low."""
    content(document, "score_band")["rules"][0]["when_0"] = "< 0.001"


def failing(document: dict[str, Any]) -> None:
    """It passes every check, and gives an answer that its own output schema forbids."""
    content(document, "decision")["schema"]["properties"]["reason_codes"]["maxItems"] = 0
    content(document, "decision")["schema"]["properties"]["reason_codes"].pop("minItems")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Rulesets on a desk: `operator` is what operators use, `redecider` decides again."""

    desk: Desk

    @property
    def operator(self) -> RulesetDesk:
        return self.desk.credit.rules

    @property
    def redecider(self) -> Redecider:
        return self.operator.redecider

    async def publish(self, *changes: Change) -> str:
        """Publish a new version and return its label."""
        async with self.desk.database.transaction() as conn:
            document = released(next_version(), *changes)
            published = await self.operator.publish(conn, document, actor="ada", reason="a test")
        return published.version.label

    async def publish_unseen(self, *changes: Change) -> str:
        """Publish a new version behind credit's back, so that nobody tries it first."""
        async with self.desk.database.transaction() as conn:
            document = released(next_version(), *changes)
            published = await publish(
                conn, document=document, published_at=tools().clock.now(), published_by="eve"
            )
        return published.label

    async def deploy(self, *changes: Change) -> str:
        """Publish a new version, activate it and return its label."""
        label = await self.publish(*changes)
        async with self.desk.database.transaction() as conn:
            await self.operator.activate(conn, label, actor="ada", reason="a test")
        return label

    async def roll_back(self) -> None:
        async with self.desk.database.transaction() as conn:
            await self.operator.roll_back(
                conn, RULESET_NAME, expected=None, actor="bob", reason="it denies everything"
            )

    async def outcomes(self, application: str) -> list[tuple[int, str, str]]:
        """Return version, outcome and ruleset of each decision of an application."""
        rows = await self.desk.sql(
            "select version, outcome, ruleset_version from credit.decision where application_id = %(id)s"
            " order by version",
            id=application,
        )
        return [(row["version"], row["outcome"], row["ruleset_version"]) for row in rows]


@pytest.fixture(name="rules")
def rules_of_desk(desk: Desk) -> Rules:
    return Rules(desk=desk)
