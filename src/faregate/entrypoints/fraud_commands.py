"""`faregate fraud`: models from training to roll-back, and decisions computed again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from faregate.entrypoints.arguments import words
from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.servers import on_site
from faregate.infra.clock import SystemClock

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.fraud.api import Doing, ModelRegistry, Replayed
    from faregate.fraud.contracts.release import ModelsInForce, ModelVersion

Result = TypeVar("Result")

app = typer.Typer(
    no_args_is_help=True,
    help="Fraud scoring: models, and decisions computed again.",
    epilog="Example: faregate fraud models train",
)
models = typer.Typer(
    no_args_is_help=True,
    help="Models from training to roll-back.",
    epilog="Example: faregate fraud models activate payments-1 --reason 'first model'",
)
app.add_typer(models, name="models")

Label = Annotated[str, typer.Argument(help="The version, such as payments-1.")]
By = Annotated[str, typer.Option(help="Who you are; it is recorded.", callback=words(100))]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.", callback=words(500))]


@models.command("train", epilog="Example: faregate fraud models train --name payments --activate")
def train(
    name: Annotated[str, typer.Option(help="Name of the model: lower case, digits, hyphens.")] = "payments",
    customers: Annotated[
        int, typer.Option(min=20, max=5_000, help="Learn from the payments of so many customers.")
    ] = 5_000,
    decline_precision: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="So many of what is declined should be fraud.")
    ] = 0.9,
    review_share: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Share of payments that people look at besides.")
    ] = 0.01,
    features: Annotated[
        Literal["payments", "fraud_benchmark"],
        typer.Option(help="Those of live payments, or the benchmark's own, which is measured only."),
    ] = "payments",
    activate: Annotated[bool, typer.Option("--activate", help="Let it decide at once.")] = False,
    by: By = "operator",
    as_json: Json = False,
) -> None:
    """Train a model on the simulated payments of the fraud benchmark, and put it into the registry.

    Its figures are those of simulated data: real payments are several times harder. The same data make the same
    model, which is registered once. With all customers it takes one or two minutes.
    """
    from faregate.entrypoints.bootstrap.fraud_training import train_on_benchmark
    from faregate.entrypoints.feature_commands import SETS
    from faregate.features.payments import PAYMENTS
    from faregate.fraud.handlers.registry import require_name
    from faregate.fraud.handlers.training import Aims

    require_name(name)
    aims = Aims(decline_precision=decline_precision, review_share=review_share)
    declared = SETS[features]
    trained = train_on_benchmark(customers=customers, aims=aims, say=_say, declared=declared)
    if declared is not PAYMENTS:
        print_rows([{"features": features, **trained.release.metrics}], as_json=as_json)
        return

    async def put(registry: ModelRegistry) -> tuple[ModelVersion, ModelsInForce]:
        version = await registry.register(trained, name=name, doing=_doing(by, "trained"))
        if activate:
            await registry.activate(version.label, doing=_doing(by, "trained"))
        return version, (await registry.versions())[1]

    version, in_force = _on_registry(put)
    print_rows([_row(version, in_force)], as_json=as_json)


@models.command("list", epilog="Example: faregate fraud models list --json")
def list_models(as_json: Json = False) -> None:
    """List the versions, with what they were measured at on simulated data, and which are in force."""
    versions, in_force = _on_registry(lambda registry: registry.versions())
    print_rows([_row(version, in_force) for version in versions], as_json=as_json)


@models.command("acts", epilog="Example: faregate fraud models acts --limit 10")
def acts(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """Show what was done with models, by whom and why, the newest first."""
    print_rows(_on_registry(lambda registry: registry.acts(limit=limit)), as_json=as_json)


@models.command("activate", epilog="Example: faregate fraud models activate payments-2 --reason 'finds more'")
def activate_model(label: Label, reason: Reason, by: By = "operator", as_json: Json = False) -> None:
    """Let a version decide; running processes follow within a second."""
    version = _on_registry(lambda registry: registry.activate(label, doing=_doing(by, reason)))
    print_rows([{"active": version.label, "sha256": version.sha256}], as_json=as_json)


@models.command("roll-back", epilog="Example: faregate fraud models roll-back --reason 'declines too much'")
def roll_back(reason: Reason, by: By = "operator", as_json: Json = False) -> None:
    """Let the version decide again that was active before."""
    version = _on_registry(lambda registry: registry.roll_back(doing=_doing(by, reason)))
    print_rows([{"active": version.label, "sha256": version.sha256}], as_json=as_json)


@models.command(
    "shadow", epilog="Example: faregate fraud models shadow payments-2 --reason 'before it decides'"
)
def shadow(
    reason: Reason,
    label: Annotated[str | None, typer.Argument(help="The version; none: nobody watches any more.")] = None,
    by: By = "operator",
    as_json: Json = False,
) -> None:
    """Let a version watch: what it would say is recorded with each decision, and never answered."""
    version = _on_registry(lambda registry: registry.shadow(label, doing=_doing(by, reason)))
    print_rows([{"shadow": version.label if version else None}], as_json=as_json)


@app.command("show", epilog="Example: faregate fraud show dec_01J3R2J7F1TQ0K6W6N8A4X9V7R --explain")
def show(
    decision: Annotated[str, typer.Argument(help="Id of a decision, dec_…, or of a payment.")],
    explain: Annotated[bool, typer.Option("--explain", help="Reasons of the model in any case.")] = False,
) -> None:
    """Show a decision as it was answered, as JSON."""

    async def read(stack: AsyncExitStack, site: Site) -> dict[str, Any]:
        from faregate.entrypoints.bootstrap.fraud import fraud_reader

        reader = await fraud_reader(stack, site)
        find = reader.by_id if decision.startswith("dec_") else reader.by_payment
        return await find(decision, explain=explain)

    echo_json(on_site(read))


@app.command("replay", epilog="Example: faregate fraud replay --last 100000 --json")
def replay(
    last: Annotated[int, typer.Option(min=1, max=10_000_000, help="So many, the newest.")] = 100_000,
    as_json: Json = False,
) -> None:
    """Compute decisions again from what was recorded, and compare score, action, reasons and rules bit for bit.

    The exit status is 1 if one of them comes out otherwise.
    """

    async def act(stack: AsyncExitStack, site: Site) -> Replayed:
        from faregate.entrypoints.bootstrap.fraud import fraud_replayer

        return await (await fraud_replayer(stack, site)).replay(last=last, say=_say_now_and_then())

    found = on_site(act)
    report = {
        "decisions": found.decisions,
        "scored_by_a_model": found.scored,
        "explained_by_a_model": found.explained,
        "by_action": dict(found.by_action),
        "differing": found.differing,
    }
    if as_json:
        echo_json({**report, "differences": [asdict(one) for one in found.differences]})
    else:
        print_rows([report], as_json=False)
        if found.differences:
            print_rows([asdict(one) for one in found.differences], as_json=False)
    if found.differing:
        raise typer.Exit(1)


def _say_now_and_then() -> Callable[[int], None]:
    def say(done: int) -> None:
        if done % 10_000 == 0:
            _say(f"{done:,} decisions")

    return say


def _row(version: ModelVersion, in_force: ModelsInForce) -> dict[str, Any]:
    metrics, thresholds = version.release.metrics, version.release.thresholds
    roles = {in_force.active: "active", in_force.shadow: "shadow"}
    return {
        "model": version.label,
        "in_force": roles.get(version.sha256),
        "sha256": version.sha256,
        "data": version.release.trained_on.get("data"),
        "auc": metrics.get("auc"),
        "average_precision": metrics.get("average_precision"),
        "card_precision_100": metrics.get("card_precision_100"),
        "review_at": thresholds.review_at,
        "decline_at": thresholds.decline_at,
        "inputs": len(version.release.inputs),
        "registered_at": version.registered_at,
    }


def _doing(by: str, reason: str) -> Doing:
    from faregate.fraud.api import Doing

    return Doing(by=by, at=SystemClock().now(), reason=reason)


def _on_registry(act: Callable[[ModelRegistry], Awaitable[Result]]) -> Result:
    from faregate.entrypoints.bootstrap.fraud import fraud_registry

    async def run(stack: AsyncExitStack, site: Site) -> Result:
        return await act(await fraud_registry(stack, site))

    return on_site(run)


def _say(text: str) -> None:
    typer.echo(f"· {text}", err=True)
