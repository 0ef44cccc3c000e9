"""`faregate gateway`: how the providers stand, what is declared of them, and breakers held by hand."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from faregate.entrypoints.arguments import Reason
from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.servers import on_site
from faregate.gateway.policies.declared import Operation, Override
from faregate.gateway.policy import JOURNAL_OPERATIONS

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.gateway.desk import GatewayDesk, OperationView, PolicyView, ProviderView

Result = TypeVar("Result")
Provider = Annotated[str, typer.Argument(help="Name of the provider, as `faregate gateway status` shows it.")]
Operations = Annotated[
    list[Operation] | None,
    typer.Option("--operation", help="Calls that it is about, may be repeated; unless given: send only."),
]

app = typer.Typer(
    no_args_is_help=True,
    help="Providers: breakers, limits, policies.",
    epilog="Example: faregate gateway status",
)
policy = typer.Typer(
    no_args_is_help=True,
    help="What is declared of a provider, and what differs from the file at run time.",
    epilog="Example: faregate gateway policy show bureau",
)
app.add_typer(policy, name="policy")


@app.command("status", epilog="Example: faregate gateway status --json | jq '.[].operations'")
def status(as_json: Json = False) -> None:
    """Show each provider's breakers, calls, limits and retries, over all processes that call it."""
    views = _at_desk(lambda desk: desk.status())
    if as_json:
        _print([asdict(view) for view in views])
        return
    rows = [_row(view, operation) for view in views for operation in view.operations]
    print_rows(rows, as_json=False)


@app.command("open", epilog="Example: faregate gateway open bureau --reason 'maintenance until six'")
def hold_open(
    provider: Provider, reason: Reason, operation: Operations = None, as_json: Json = False
) -> None:
    """Send nothing more to a provider until told otherwise; look-ups go on, and fallbacks take over."""
    _hold(provider, Override.FORCED_OPEN, reason, operation, as_json=as_json)


@app.command("close", epilog="Example: faregate gateway close bureau --reason 'the failures are not theirs'")
def hold_closed(
    provider: Provider, reason: Reason, operation: Operations = None, as_json: Json = False
) -> None:
    """Let calls to a provider pass, whatever its breaker says, until told otherwise."""
    _hold(provider, Override.FORCED_CLOSED, reason, operation, as_json=as_json)


@app.command("auto", epilog="Example: faregate gateway auto bureau --reason 'maintenance is over'")
def let_go(provider: Provider, reason: Reason, operation: Operations = None, as_json: Json = False) -> None:
    """Leave a provider's breakers to themselves again: all that are held, unless an operation is given."""
    _hold(provider, Override.AUTOMATIC, reason, operation or list(JOURNAL_OPERATIONS), as_json=as_json)


@policy.command("show", epilog="Example: faregate gateway policy show bureau --json")
def show_policy(provider: Provider, as_json: Json = False) -> None:
    """Show every field of a provider's policy, and which of them differ from the file."""
    view = _at_desk(lambda desk: desk.policy(provider))
    _show_policy(view, as_json=as_json)


@policy.command(
    "set", epilog="Example: faregate gateway policy set kyc send.bulkhead.in_flight_max=8 --reason slow"
)
def set_policy(
    provider: Provider,
    assignments: Annotated[list[str], typer.Argument(metavar="FIELD=VALUE...", help="Values as in TOML.")],
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Change fields of a provider's policy; running processes follow within seconds."""
    from faregate.gateway.declarations import parse_assignments

    fields = parse_assignments(assignments)

    async def act(desk: GatewayDesk) -> PolicyView:
        view = await desk.policy(provider)
        wanted = {**view.overrides, **fields}
        return await desk.change_policy(
            provider, wanted, seen_version=view.version, reason=reason, by=_operator()
        )

    _show_policy(_at_desk(act), as_json=as_json)


@policy.command("reset", epilog="Example: faregate gateway policy reset kyc --reason 'they are well again'")
def reset_policy(
    provider: Provider,
    reason: Reason,
    fields: Annotated[list[str] | None, typer.Argument(help="Fields; all of them unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Put fields of a provider's policy back to what the file says."""
    from faregate.gateway.declarations import PolicyInvalid

    async def act(desk: GatewayDesk) -> PolicyView:
        view = await desk.policy(provider)
        if unknown := [name for name in fields or () if name not in view.fields]:
            known = ", ".join(view.fields)
            raise PolicyInvalid(f"there is no field {unknown[0]!r}; there are {known}", field=unknown[0])
        kept = {name: value for name, value in view.overrides.items() if fields and name not in fields}
        return await desk.change_policy(
            provider, kept, seen_version=view.version, reason=reason, by=_operator()
        )

    _show_policy(_at_desk(act), as_json=as_json)


@policy.command("history", epilog="Example: faregate gateway policy history bureau")
def history(provider: Provider, as_json: Json = False) -> None:
    """Show what operators changed about a provider, the newest first."""
    changes = _at_desk(lambda desk: desk.history(provider))
    rows: list[dict[str, object]] = [asdict(change) | {"content": dict(change.content)} for change in changes]
    print_rows(rows, as_json=as_json)


def _hold(
    provider: str, how: Override, reason: str, operations: list[Operation] | None, *, as_json: bool
) -> None:
    chosen = operations or [Operation.SEND]
    held = _at_desk(lambda desk: desk.hold(provider, how, operations=chosen, reason=reason, by=_operator()))
    if as_json:
        _print({"provider": provider, "held": held})
    else:
        stands = ", ".join(f"{name} {state}" for name, state in held.items()) or "nothing is held"
        typer.echo(f"{provider}: {stands}")


def _at_desk(act: Callable[[GatewayDesk], Awaitable[Result]]) -> Result:
    async def run(stack: AsyncExitStack, site: Site) -> Result:
        from faregate.entrypoints.bootstrap.gateway import gateway_desk

        return await act(await gateway_desk(stack, site))

    return on_site(run)


def _operator() -> str:
    """The account that runs the command."""
    return f"cli:{getpass.getuser()}"


def _show_policy(view: PolicyView, *, as_json: bool) -> None:
    if as_json:
        from faregate.gateway.routes import policy_document

        _print(policy_document(view))
        return
    rows: list[dict[str, object]] = [
        {"field": name, "value": value, "changed": "yes" if name in view.overrides else ""}
        for name, value in view.fields.items()
    ]
    print_rows(rows, as_json=False)


def _row(view: ProviderView, operation: OperationView) -> dict[str, object]:
    held = {Override.FORCED_OPEN: "held open", Override.FORCED_CLOSED: "held closed"}
    return {
        "provider": view.provider,
        "calls": operation.operation,
        "breaker": held.get(operation.override, operation.shared_state or "no Valkey"),
        "in flight": f"{operation.in_flight}/{operation.limit}",
        "failed": f"{operation.failed}/{operation.calls}",
        "slow": operation.slow,
        "rate/s": f"{view.rate_per_s:g}" if view.rate_per_s else "no limit",
    }


def _print(document: Any) -> None:
    echo_json(document)
