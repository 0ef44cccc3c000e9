"""`faregate audit`: what was decided, why, and whether the record is whole."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from faregate.entrypoints.credit_commands import open_credit
from faregate.entrypoints.operator_commands import Json
from faregate.entrypoints.servers import on_site

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site

app = typer.Typer(
    no_args_is_help=True,
    help="The audit record: replay of decisions.",
    epilog="Example: faregate audit replay",
)


@app.command("replay", epilog="Example: faregate audit replay --json")
def replay(
    application_id: Annotated[str | None, typer.Argument(help="Only this application.")] = None,
    as_json: Json = False,
) -> None:
    """Recompute decisions from their recorded inputs and versions; exit 1 if one comes out differently."""

    async def act(stack: AsyncExitStack, site: Site) -> dict[str, Any]:
        credit = await open_credit(stack, site)
        return asdict(await credit.replay(application_id=application_id))

    report = on_site(act)
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        typer.echo(
            f"{report['replayed']} decisions replayed, {len(report['different'])} came out differently"
        )
        for name in report["different"]:
            typer.echo(f"  {name}")
    if report["different"]:
        raise typer.Exit(1)
