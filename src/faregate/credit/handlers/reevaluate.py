"""A further version of a decision, on what is known already: no run is started and no provider is asked.

Whoever decides again (a ruleset that replaced a bad one, a person in review) does it here. The caller's transaction
holds everything: the version, its audit entry and `credit.decision.finalized`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from faregate.credit.contracts import Reevaluated, Reevaluation
from faregate.credit.domain.application import (
    ApplicationNotFound,
    DecisionNotMade,
    DecisionSuperseded,
    transition,
)
from faregate.credit.domain.decision import inputs_document, replay, revised_inputs
from faregate.credit.domain.reasons import require_reasons
from faregate.credit.domain.scorecard import ScoringModel
from faregate.credit.handlers.recording import decision_of, inputs_of, record
from faregate.credit.handlers.tools import Tools
from faregate.credit.store import applications, reevaluations
from faregate.credit.store.applications import LockedApplication
from faregate.credit.store.decisions import NewDecision
from faregate.infra.database import Connection
from faregate.kernel.errors import FaregateError
from faregate.rules.ruleset import CompiledRuleset


async def reevaluate(
    conn: Connection,
    request: Reevaluation,
    *,
    tools: Tools,
    scorecard: ScoringModel,
    ruleset: CompiledRuleset,
) -> Reevaluated:
    """Append one further version.

    Raises ApplicationNotFound, DecisionNotMade, DecisionSuperseded or IllegalTransition.
    """
    [answer] = await reevaluate_all(conn, [request], tools=tools, scorecard=scorecard, ruleset=ruleset)
    if isinstance(answer, FaregateError):
        raise answer
    return answer


async def reevaluate_all(
    conn: Connection,
    requests: Sequence[Reevaluation],
    *,
    tools: Tools,
    scorecard: ScoringModel,
    ruleset: CompiledRuleset,
) -> list[Reevaluated | FaregateError]:
    """Append further versions, at most one an application; the answers stand in the order of the requests.

    A request that is refused has its error as the answer, wrote nothing and does not hold up the others.
    """
    ids = [request.application_id for request in requests]
    if len(set(ids)) != len(ids):
        raise ValueError("an application is named twice")
    locked = await applications.lock_to_decide(conn, ids)
    carried_out = await reevaluations.carried_out(conn, [(r.application_id, r.request_key) for r in requests])
    recorded = await _recorded_inputs(conn, requests)
    persons = await reevaluations.decided_by_people(conn, ids)
    answers: list[Reevaluated | FaregateError] = []
    made: list[tuple[Reevaluation, NewDecision]] = []
    for request in requests:
        if (before := carried_out.get(request.application_id)) is not None:
            answers.append(before)
            continue
        try:
            application = _decided(request, locked.get(request.application_id))
            inputs = _inputs(request, application, recorded.get(request.application_id))
            document = revised_inputs(
                inputs,
                status_before=application.status,
                verdict=request.verdict,
                is_persons=application.id in persons,
            )
            decision = _revision(request, application, document, scorecard=scorecard, ruleset=ruleset)
        except FaregateError as refusal:
            answers.append(refusal)
            continue
        made.append((request, decision))
        answers.append(_answer(decision))
    await _append(conn, made, tools=tools)
    return answers


def _decided(request: Reevaluation, application: LockedApplication | None) -> LockedApplication:
    """Return the application if it stands where the requester thinks."""
    if application is None:
        raise ApplicationNotFound(f"there is no application {request.application_id}")
    if not application.decision_version:
        raise DecisionNotMade("no decision has been made yet", application_status=application.status.value)
    if application.decision_version != request.expected_version:
        raise DecisionSuperseded(
            f"version {application.decision_version} of the decision is there, not {request.expected_version}",
            decision_version=application.decision_version,
        )
    return application


def _inputs(
    request: Reevaluation, application: LockedApplication, recorded: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Return the inputs of the new version: those recorded with another one, or what is stored now."""
    if request.recorded_version is None:
        return inputs_document(inputs_of(application))
    if recorded is None:
        raise DecisionNotMade(f"there is no version {request.recorded_version} of the decision")
    return recorded


def _revision(
    request: Reevaluation,
    application: LockedApplication,
    document: dict[str, Any],
    *,
    scorecard: ScoringModel,
    ruleset: CompiledRuleset,
) -> NewDecision:
    if request.verdict is not None:
        transition(current=application.status, outcome=request.verdict.outcome)
        require_reasons(request.verdict, code_set=ruleset.codes)
    result = replay(document, scorecard=scorecard, ruleset=ruleset)
    return decision_of(application, document, result, actor=request.actor, reason=request.reason)


def _answer(decision: NewDecision) -> Reevaluated:
    return Reevaluated(
        application_id=decision.application_id, version=decision.version, status=decision.outcome
    )


async def _recorded_inputs(
    conn: Connection, requests: Sequence[Reevaluation]
) -> Mapping[str, Mapping[str, Any]]:
    wanted = [(r.application_id, r.recorded_version) for r in requests if r.recorded_version is not None]
    return await reevaluations.recorded_inputs(conn, wanted) if wanted else {}


async def _append(
    conn: Connection, made: Sequence[tuple[Reevaluation, NewDecision]], *, tools: Tools
) -> None:
    await record(conn, [decision for _, decision in made], tools=tools)
    await reevaluations.insert(
        conn, [(d.application_id, request.request_key, d.version) for request, d in made]
    )
