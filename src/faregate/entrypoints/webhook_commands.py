"""`faregate webhooks`: endpoints and deliveries of every client, for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from faregate.entrypoints.arguments import words
from faregate.entrypoints.output import Json, print_rows
from faregate.entrypoints.servers import on_site
from faregate.infra.http.api_keys import require_client_id
from faregate.webhooks.contracts import Endpoint, EndpointChanges, EndpointDraft
from faregate.webhooks.domain.schedule import State

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.webhooks.api import Webhooks

Result = TypeVar("Result")

app = typer.Typer(
    no_args_is_help=True,
    help="Endpoints that clients are told decisions at, and what was sent to them.",
    epilog="Example: faregate webhooks list",
)

Description = Annotated[
    str | None, typer.Option(help="What it is for.", callback=words(200, may_be_empty=True))
]
EndpointId = Annotated[str, typer.Argument(help="Id of the endpoint: whe_….")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Event type that is told; may be repeated.")]


@app.command("list", epilog="Example: faregate webhooks list --client partner-1 --json")
def list_endpoints(
    client: Annotated[str | None, typer.Option(help="Only this client's.")] = None, as_json: Json = False
) -> None:
    """List endpoints with how they do."""
    found = _run(lambda webhooks: webhooks.endpoints(client_id=client))
    print_rows([_row(endpoint) for endpoint in found], as_json=as_json)


@app.command("show", epilog="Example: faregate webhooks show whe_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def show_endpoint(endpoint_id: EndpointId, as_json: Json = False) -> None:
    """Show one endpoint."""
    print_rows([_row(_run(lambda webhooks: webhooks.endpoint(endpoint_id, client_id=None)))], as_json=as_json)


@app.command(
    "create",
    epilog="Example: faregate webhooks create partner-1 https://hooks.example.com/x --type credit.decision.finalized",
)
def create(
    client: Annotated[str, typer.Argument(help="The client whose decisions are told.")],
    url: Annotated[str, typer.Argument(help="https URL of the receiver.")],
    event_type: Types = None,
    description: Description = "",
    as_json: Json = False,
) -> None:
    """Subscribe an endpoint, to every event type unless some are named; its secret is shown this once."""
    require_client_id(client)

    async def act(webhooks: Webhooks) -> dict[str, object]:
        types = event_type or sorted(webhooks.event_types)
        draft = EndpointDraft(url=url, event_types=types, description=description or "")
        async with webhooks.database.transaction() as conn:
            made = await webhooks.create(conn, draft, client_id=client)
        return {"id": made.endpoint.id, "secret": made.secret}

    print_rows([_run(act)], as_json=as_json)


@app.command("update", epilog="Example: faregate webhooks update whe_01J… --url https://hooks.example.com/y")
def update(
    endpoint_id: EndpointId,
    url: Annotated[str | None, typer.Option(help="New https URL.")] = None,
    event_type: Types = None,
    description: Description = None,
    as_json: Json = False,
) -> None:
    """Change an endpoint; what is not named stays as it is."""
    changes = EndpointChanges(url=url, event_types=event_type, description=description)
    _change(endpoint_id, changes, as_json=as_json)


@app.command("enable", epilog="Example: faregate webhooks enable whe_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def enable(endpoint_id: EndpointId, as_json: Json = False) -> None:
    """Deliver again, from the next event on; `resend` sends what was given up meanwhile."""
    _change(endpoint_id, EndpointChanges(enabled=True), as_json=as_json)


@app.command("disable", epilog="Example: faregate webhooks disable whe_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def disable(endpoint_id: EndpointId, as_json: Json = False) -> None:
    """Deliver nothing any more; what waits is given up."""
    _change(endpoint_id, EndpointChanges(enabled=False), as_json=as_json)


@app.command("delete", epilog="Example: faregate webhooks delete whe_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def delete(endpoint_id: EndpointId) -> None:
    """Remove an endpoint with its secrets and deliveries."""
    _run(lambda webhooks: webhooks.delete(endpoint_id, client_id=None))
    typer.echo(f"deleted {endpoint_id}")


@app.command("rotate", epilog="Example: faregate webhooks rotate whe_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def rotate(endpoint_id: EndpointId, as_json: Json = False) -> None:
    """Make a new secret and show it this once; the one before signs along for a while."""

    async def act(webhooks: Webhooks) -> dict[str, object]:
        async with webhooks.database.transaction() as conn:
            made = await webhooks.rotate_secret(conn, endpoint_id, client_id=None)
        return {"id": endpoint_id, "secret": made.secret}

    print_rows([_run(act)], as_json=as_json)


@app.command("test", epilog="Example: faregate webhooks test whe_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def send_test(endpoint_id: EndpointId, as_json: Json = False) -> None:
    """Send a test message; a running worker delivers it."""

    async def act(webhooks: Webhooks) -> dict[str, object]:
        async with webhooks.database.transaction() as conn:
            return asdict(await webhooks.send_test(conn, endpoint_id, client_id=None))

    print_rows([_run(act)], as_json=as_json)


@app.command("deliveries", epilog="Example: faregate webhooks deliveries whe_01J… --state dead")
def deliveries(
    endpoint_id: EndpointId,
    state: Annotated[State | None, typer.Option(help="Only those that stand so.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 50,
    after: Annotated[str | None, typer.Option(help="Continue after this message.")] = None,
    as_json: Json = False,
) -> None:
    """List what was sent to an endpoint, newest first."""
    found = _run(
        lambda webhooks: webhooks.deliveries(
            endpoint_id, client_id=None, state=state, after=after, limit=limit
        )
    )
    print_rows([asdict(delivery) for delivery in found], as_json=as_json)


@app.command("resend", epilog="Example: faregate webhooks resend whe_01J… msg_019ab2c3…")
def resend(
    endpoint_id: EndpointId,
    message_id: Annotated[
        str | None, typer.Argument(help="The message; without it, all that were given up.")
    ] = None,
) -> None:
    """Send a message again, or everything that was given up, with a new schedule."""

    async def act(webhooks: Webhooks) -> int:
        if message_id is None:
            return await webhooks.resend_dead(endpoint_id, client_id=None)
        async with webhooks.database.transaction() as conn:
            await webhooks.resend(conn, endpoint_id, message_id, client_id=None)
        return 1

    typer.echo(f"{_run(act)} messages are sent again")


def _change(endpoint_id: str, changes: EndpointChanges, *, as_json: bool) -> None:
    changed = _run(lambda webhooks: webhooks.change(endpoint_id, changes, client_id=None))
    print_rows([_row(changed)], as_json=as_json)


def _row(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "client": endpoint.client_id,
        "url": endpoint.url,
        "event_types": list(endpoint.event_types),
        "description": endpoint.description,
        "state": f"disabled: {endpoint.disabled_reason}" if endpoint.disabled_reason else "enabled",
        "failing_since": endpoint.failing_since,
        "paused_until": endpoint.paused_until,
    }


def _run(act: Callable[[Webhooks], Awaitable[Result]]) -> Result:
    async def with_webhooks(stack: AsyncExitStack, site: Site) -> Result:
        from faregate.entrypoints.bootstrap.webhooks import webhooks_api

        return await act(await webhooks_api(stack, site))

    return on_site(with_webhooks)
