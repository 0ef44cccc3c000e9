"""The replay of decisions: recorded inputs under recorded versions must lead to all that was recorded."""

from __future__ import annotations

from faregate.credit.contracts import ReplayReport
from faregate.credit.domain.decision import document_sha256, replay
from faregate.credit.domain.scorecard import ScoringModel
from faregate.credit.store import decisions
from faregate.credit.store.artefacts import load_scorecard
from faregate.infra.database import Connection, Database
from faregate.kernel.errors import NotFoundError
from faregate.rules.api import Rulesets
from faregate.rules.ruleset import CompiledRuleset


async def replay_decisions(
    database: Database, *, rulesets: Rulesets, application_id: str | None = None
) -> ReplayReport:
    """Recompute recorded decisions from their recorded inputs and versions, and compare the whole results."""
    replayed, different = 0, []
    async with database.transaction() as conn:
        async for recorded in decisions.recorded_decisions(conn, application_id=application_id):
            if not await _is_reproduced_by_its_versions(conn, recorded, rulesets=rulesets):
                different.append(f"{recorded.application_id}/{recorded.version}")
            replayed += 1
    return ReplayReport(replayed=replayed, different=tuple(different))


async def _is_reproduced_by_its_versions(
    conn: Connection, recorded: decisions.RecordedDecision, *, rulesets: Rulesets
) -> bool:
    name, _, version = recorded.ruleset_version.rpartition("-")
    try:
        ruleset = await rulesets.version(conn, name=name, version=int(version))
        scorecard = load_scorecard(recorded.scorecard_version)
    except (NotFoundError, ValueError):
        return False  # A record that names versions which never were is as wrong as one that names others.
    return is_reproduced(recorded, scorecard=scorecard, ruleset=ruleset)


def is_reproduced(
    recorded: decisions.RecordedDecision, *, scorecard: ScoringModel, ruleset: CompiledRuleset
) -> bool:
    """Tell whether the recorded inputs are as they were hashed and lead to all that is recorded, bit for bit."""
    if bytes.fromhex(document_sha256(recorded.inputs)) != recorded.inputs_sha256:
        return False
    again = replay(recorded.inputs, scorecard=scorecard, ruleset=ruleset).document()
    shown = {name: again[name] for name in recorded.shown}
    return (
        document_sha256(again) == document_sha256(recorded.result)
        and shown == recorded.shown
        and recorded.code_set_version in (None, ruleset.code_set_version)
    )
