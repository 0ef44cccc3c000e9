"""`faregate travel`: the story of a redemption, what waits for a person, and letting it be tried again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.servers import on_site

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.travel.api import TravelApi
    from faregate.travel.contracts.redemptions import RedemptionView

Result = TypeVar("Result")

app = typer.Typer(
    no_args_is_help=True,
    help="Redemptions: trips that members book with points.",
    epilog="Example: faregate travel show rdm_01J3R2J7F1TQ0K6W6N8A4X9V7R",
)

RedemptionId = Annotated[str, typer.Argument(help="Id of the redemption: rdm_….")]


@app.command("show", epilog="Example: faregate travel show rdm_01J3R2J7F1TQ0K6W6N8A4X9V7R --json")
def show(redemption_id: RedemptionId, as_json: Json = False) -> None:
    """Show how a redemption stands, its bookings, and its steps in their order."""
    view = _run(lambda travel: travel.get(redemption_id))
    if as_json:
        echo_json(asdict(view))
        return
    for name, value in _summary(view).items():
        typer.echo(f"{name:12} {'' if value is None else value}")
    print_rows([asdict(leg) for leg in view.legs], as_json=False)
    print_rows(
        [{name: value for name, value in asdict(step).items() if name != "place"} for step in view.steps],
        as_json=False,
    )


@app.command("attention", epilog="Example: faregate travel attention --json")
def attention(as_json: Json = False) -> None:
    """List what waits for a person, the longest first: steps that could neither be done nor undone."""
    found = _run(lambda travel: travel.needing_attention())
    print_rows([_summary(view) for view in found], as_json=as_json)


@app.command("retry", epilog="Example: faregate travel retry rdm_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def retry(redemption_id: RedemptionId) -> None:
    """Let what is stuck be tried again; the redemption goes on by itself."""

    async def act(travel: TravelApi) -> None:
        async with travel.database.transaction() as conn:
            await travel.try_again(conn, redemption_id)

    _run(act)
    typer.echo(f"{redemption_id} goes on")


def _summary(view: RedemptionView) -> dict[str, Any]:
    return {
        "redemption": view.id,
        "member": view.member_id,
        "status": view.status,
        "points": view.points,
        "reason": view.reason,
        "needs": view.needs,
        "created_at": view.created_at,
        "updated_at": view.updated_at,
    }


def _run(act: Callable[[TravelApi], Awaitable[Result]]) -> Result:
    async def on(stack: AsyncExitStack, site: Site) -> Result:
        from faregate.entrypoints.bootstrap.process import Process
        from faregate.entrypoints.bootstrap.travel import travel_api

        process = Process(stack, site, connections_max=1)
        return await act(await travel_api(process, database=await process.database("travel")))

    return on_site(on)
