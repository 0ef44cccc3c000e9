"""What an operator does with rulesets: check, publish, compare, activate, roll back, try, and look at what they did.

Every function works inside the caller's transaction. Deciding again is in `redecide`, backtests are in `backtest`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from faregate.credit.contracts import TouchedDecision
from faregate.credit.domain.code_check import code_findings
from faregate.credit.domain.comparison import ANSWERS, matrix_document
from faregate.credit.domain.specimens import specimen_findings
from faregate.credit.handlers.backtest import Backtest, Period, backtest
from faregate.credit.handlers.redecide import Redecider
from faregate.credit.handlers.tools import Tools
from faregate.credit.store import redecisions, trials
from faregate.credit.store.artefacts import load_form_c1, load_scorecard
from faregate.infra.database import Connection, Database
from faregate.kernel.errors import ConflictError, InvalidError
from faregate.rules import api as rules
from faregate.rules.checks import examine, refuse_errors
from faregate.rules.contracts import Act, AuditEntry, ListedVersion, RolledBack, RulesetVersion, Traffic
from faregate.rules.diff import RulesetDiff, diff_documents
from faregate.rules.findings import Finding, Severity
from faregate.rules.ruleset import (
    CompiledRuleset,
    RulesetLabelInvalid,
    canonical,
    compile_ruleset,
    parse_label,
    require_name,
)

RulesetCheck = Callable[[Mapping[str, Any]], Sequence[Finding]]
"""Says all that can be said against a document, errors first."""


class NothingTried(ConflictError):
    """No version watches, or none challenges, and none was named."""


class NotTriedOnApplications(InvalidError):
    """The ruleset is another context's: it cannot watch, challenge or be held against decisions on applications."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A version as it stands now, and what its analysis warned of."""

    version: RulesetVersion
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report as JSON values, under the labels of the versions that it is about."""

    about: str
    document: Mapping[str, Any]


def check_ruleset(document: Mapping[str, Any], *, scorecard: str) -> list[Finding]:
    """Return all that can be said against a document, errors first: in itself, and as rules of credit."""
    found = examine(document)
    if any(finding.severity is Severity.ERROR for finding in found):
        return found
    ruleset, model = compile_ruleset(canonical(document)), load_scorecard(scorecard)
    unmapped = code_findings(document, score_reasons=model.reasons, official=load_form_c1())
    return [*specimen_findings(ruleset, scorecard=model), *unmapped, *found]


@dataclass(frozen=True, kw_only=True)
class RulesetDesk:
    """The operator's view of rulesets; an act needs somebody and a reason.

    What changes something takes the caller's connection; `database` is where whoever calls opens one. `others` judge
    rulesets of other contexts, by name: those are published and activated here, too, but not tried on applications.
    Some are `tried_elsewhere`: here they begin to watch and to challenge, and their context reports on it.
    """

    tools: Tools
    rulesets: rules.Rulesets
    database: Database
    redecider: Redecider
    others: Mapping[str, RulesetCheck] = field(default_factory=dict)
    tried_elsewhere: Collection[str] = ()

    def check(self, document: Mapping[str, Any]) -> Sequence[Finding]:
        """Return all that can be said against a document, errors first."""
        if other := self.others.get(str(document.get("name"))):
            return other(document)
        return check_ruleset(document, scorecard=self.redecider.scorecard)

    async def publish(
        self, conn: Connection, document: Mapping[str, Any], *, actor: str, reason: str
    ) -> Published:
        """Publish a document. Raises RulesetRefused, RulesetVersionTaken or CodeSetTaken."""
        now = self.tools.clock.now()
        findings = tuple(refuse_errors(self.check(document)))
        version = await rules.publish(
            conn, document=document, published_at=now, published_by=actor, reason=reason
        )
        return Published(version=version, findings=findings)

    async def versions(self, conn: Connection, *, name: str | None = None) -> Sequence[ListedVersion]:
        """Return the published versions, newest first."""
        return await rules.versions(conn, name=name if name is None else require_name(name))

    async def document(self, conn: Connection, label: str) -> Mapping[str, Any]:
        """Return a published document. Raises RulesetLabelInvalid or RulesetVersionNotFound."""
        name, version = parse_label(label)
        return await rules.document_of(conn, name=name, version=version)

    async def compiled(self, conn: Connection, label: str) -> CompiledRuleset:
        """Return a published version ready to be evaluated. Raises as `document`, or NotTriedOnApplications."""
        name, version = parse_label(label)
        self._require_own(name)
        return await self.rulesets.version(conn, name=name, version=version)

    def compiled_document(self, document: Mapping[str, Any]) -> CompiledRuleset:
        """Return an unpublished document ready to be evaluated. Raises RulesetRefused or NotTriedOnApplications."""
        self._require_own(str(document.get("name")))
        refuse_errors(self.check(document))
        return compile_ruleset(canonical(document))

    async def diff(self, conn: Connection, before: str, after: str) -> RulesetDiff:
        """Return what differs between two published versions."""
        return diff_documents(await self.document(conn, before), await self.document(conn, after))

    async def activate(self, conn: Connection, label: str, *, actor: str, reason: str) -> Traffic:
        """Make a published version the active one. Raises RulesetVersionNotFound or ActivationInThePast."""
        name, version = parse_label(label)
        now = self.tools.clock.now()
        await rules.activate(
            conn, name=name, version=version, activated_at=now, activated_by=actor, reason=reason
        )
        return await self.rulesets.traffic(conn, name=name, at=now)

    async def roll_back(
        self, conn: Connection, name: str, *, expected: str | None, actor: str, reason: str
    ) -> RolledBack:
        """Make the version before the active one active again, in one step.

        Raises NotTheActiveVersion if another than the expected version is active, or NothingToRollBackTo.
        """
        require_name(name)
        version = None
        if expected is not None:
            expected_name, version = parse_label(expected)
            if expected_name != name:
                raise RulesetLabelInvalid(f"{expected} is no version of {name}")
        act = self._act(actor, reason)
        return await rules.roll_back(conn, name=name, expected_version=version, act=act)

    async def traffic(self, conn: Connection, name: str) -> Traffic:
        """Return what decides, watches and challenges now. Raises NoActiveRuleset."""
        return await self.rulesets.traffic(conn, name=require_name(name), at=self.tools.clock.now())

    async def history(
        self, conn: Connection, name: str, *, before_id: int | None = None, limit: int = 100
    ) -> Sequence[AuditEntry]:
        """Return a page of what was done under a name, newest first."""
        return await rules.audit_trail(conn, name=require_name(name), before_id=before_id, limit=limit)

    async def touched(
        self,
        conn: Connection,
        label: str,
        *,
        since: datetime | None = None,
        after: tuple[str, int] = ("", 0),
        limit: int = 100,
    ) -> Sequence[TouchedDecision]:
        """Return a page of the decisions that a version made, by application id and version."""
        parse_label(label)
        return await redecisions.touched(conn, ruleset_version=label, since=since, after=after, limit=limit)

    async def touched_counts(
        self, conn: Connection, label: str, *, since: datetime | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return how many decisions a version made, by outcome and whether they still stand."""
        return await redecisions.touched_counts(conn, ruleset_version=label, since=since)

    async def start_shadow(self, conn: Connection, label: str, *, actor: str, reason: str) -> Traffic:
        """Let a published version watch the active one on live applications, or on what its context decides.

        Raises RulesetVersionNotFound or NotTriedOnApplications.
        """
        name, version = parse_label(label)
        self._require_tried(name)
        await rules.set_shadow(conn, name=name, version=version, act=self._act(actor, reason))
        return await self.traffic(conn, name)

    async def stop_shadow(self, conn: Connection, name: str, *, actor: str, reason: str) -> Traffic:
        """Let nothing watch any more. Raises NoActiveRuleset for a name that has none."""
        await rules.set_shadow(conn, name=require_name(name), version=None, act=self._act(actor, reason))
        return await self.traffic(conn, name)

    async def set_split(
        self, conn: Connection, label: str, *, basis_points: int, actor: str, reason: str
    ) -> Traffic:
        """Let a version decide for so many of 10,000 applications, or of what its context decides by.

        Raises RulesetVersionNotFound, SplitInvalid or NotTriedOnApplications.
        """
        name, version = parse_label(label)
        self._require_tried(name)
        act = self._act(actor, reason)
        await rules.set_split(conn, name=name, version=version, basis_points=basis_points, act=act)
        return await self.traffic(conn, name)

    async def stop_split(self, conn: Connection, name: str, *, actor: str, reason: str) -> Traffic:
        """Let the active version decide alone again. Raises NoActiveRuleset for a name that has none."""
        act = self._act(actor, reason)
        await rules.set_split(conn, name=require_name(name), version=None, basis_points=0, act=act)
        return await self.traffic(conn, name)

    async def shadow_report(
        self,
        conn: Connection,
        name: str,
        *,
        label: str | None = None,
        since: datetime | None = None,
        limit: int = 20,
        after_id: str = "",
    ) -> Report:
        """Return how far a shadow agrees: rate, matrix of outcomes, and a page of what it says otherwise.

        The version that watches now, unless one is named. Raises NothingTried or NotTriedOnApplications.
        """
        self._require_own(name)
        if label is not None:
            parse_label(label)
        shadow = label or self._tried(name, (await self.traffic(conn, name)).shadow_version, "watches")
        counts = await trials.shadow_counts(conn, shadow_version=shadow, since=since)
        differing = await trials.shadow_differences(
            conn, shadow_version=shadow, since=since, after_id=after_id, limit=limit
        )
        return Report(about=shadow, document={**_shadow_summary(counts), "differing": differing})

    async def split_report(
        self, conn: Connection, name: str, *, label: str | None = None, since: datetime | None = None
    ) -> Report:
        """Return what each arm of a split decided; the present challenger's unless one is named.

        Raises NothingTried or NotTriedOnApplications.
        """
        self._require_own(name)
        if label is not None:
            parse_label(label)
        challenger = label or self._tried(
            name, (await self.traffic(conn, name)).challenger_version, "challenges"
        )
        counts = await trials.arm_counts(conn, challenger_version=challenger, since=since)
        return Report(about=challenger, document={"arms": _arms(counts)})

    async def backtest(
        self,
        candidate: CompiledRuleset,
        *,
        period: Period,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> Backtest:
        """Hold a candidate against the first decisions of a period."""
        return await backtest(self.database.connection, candidate, period=period, on_progress=on_progress)

    def _require_tried(self, name: str) -> None:
        if name not in self.tried_elsewhere:
            self._require_own(name)

    def _require_own(self, name: str) -> None:
        if name in self.others:
            raise NotTriedOnApplications(f"{name} does not decide applications", name=name)

    def _act(self, actor: str, reason: str) -> Act:
        return Act(actor=actor, at=self.tools.clock.now(), reason=reason)

    def _tried(self, name: str, version: int | None, does: str) -> str:
        if version is None:
            raise NothingTried(f"no version of {name} {does}; name the one that did")
        return f"{name}-{version}"


def _shadow_summary(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total = sum(row["applications"] for row in counts)
    agreed = sum(row["applications"] for row in counts if row["agrees"])
    same = sum(row["applications"] for row in counts if row["decided"] == row["outcome"])
    cells: dict[tuple[str, str], int] = {}
    for row in counts:
        cell = (row["decided"], row["outcome"] or "error")
        cells[cell] = cells.get(cell, 0) + row["applications"]
    return {
        "watched": total,
        "errors": sum(n for (_, answer), n in cells.items() if answer == "error"),
        "agreement_rate": agreed / total if total else None,
        "same_outcome_rate": same / total if total else None,
        "matrix": matrix_document(cells, answers=(*ANSWERS, "error")),
    }


def _arms(counts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one line for each arm and version: a champion may have been replaced while it was challenged."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in counts:
        arm, version = row["arm"], row["ruleset_version"]
        line = lines.setdefault(
            (arm, version),
            {
                "arm": arm,
                "ruleset_version": version,
                "decisions": 0,
                **dict.fromkeys(ANSWERS, 0),
                "scores": 0.0,
            },
        )
        line["decisions"] += row["decisions"]
        line[row["outcome"]] += row["decisions"]
        line["scores"] += (row["risk_score_mean"] or 0.0) * row["decisions"]
    for line in lines.values():
        line["approval_rate"] = line["approved"] / line["decisions"]
        line["risk_score_mean"] = line.pop("scores") / line["decisions"]
    return list(lines.values())
