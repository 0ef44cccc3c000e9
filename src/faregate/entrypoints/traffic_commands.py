"""`faregate traffic`: stories of members online and of accounts that are taken over, and telling them to a system."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import aiohttp
import orjson
import typer
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from faregate.entrypoints.arguments import ArgumentRefused
from faregate.entrypoints.output import Json, echo_json
from faregate.infra.clock import SystemClock
from faregate.infra.failures import invalid_fields
from faregate.sandbox.traffic.replay import Played, Stage, Told, replay
from faregate.sandbox.traffic.sessions import Act, Plot, PlotInvalid, tell

app = typer.Typer(
    no_args_is_help=True,
    help="Payments, clicks and logins of the sandbox's people, and accounts that are taken over.",
    epilog="Example: faregate traffic story --seed 7 --members 50 --payments 500 --takeovers 5",
)

Seed = Annotated[int, typer.Option(help="Which story; the same number is the same story.", min=0)]
Members = Annotated[int, typer.Option(help="Members in it.", min=1, max=100_000)]
Payments = Annotated[int, typer.Option(help="Payments in it, frauds included.", min=1, max=1_000_000)]
Takeovers = Annotated[int, typer.Option(help="Accounts that are taken over.", min=0, max=100_000)]


class CardForm(BaseModel):
    """A card in the file of cards, whatever else stands there about it."""

    model_config = ConfigDict(extra="ignore")

    member_id: str = Field(min_length=1, max_length=64)
    card_token: str = Field(min_length=1, max_length=64)


@app.command("story", epilog="Example: faregate traffic story --seed 7 > story.jsonl")
def story(seed: Seed = 0, members: Members = 50, payments: Payments = 500, takeovers: Takeovers = 5) -> None:
    """Print a story, a line of JSON an act in the order in which they happen, with the label of each payment."""
    for act in _told(seed, members, payments, takeovers):
        echo_json(asdict(act), pretty=False)


@app.command(
    "replay", epilog="Example: faregate traffic replay --cards cards.json --url http://127.0.0.1:8000"
)
def replay_story(
    cards: Annotated[
        Path,
        typer.Option(
            help='JSON: [{"member_id": …, "card_token": …}, …], one for each member of the story at least.',
            exists=True,
            dir_okay=False,
        ),
    ],
    url: Annotated[str, typer.Option(help="Where the API is.")],
    token: Annotated[
        str,
        typer.Option(
            envvar="FAREGATE_TRAFFIC_TOKEN",
            help="An API key with the scopes fraud:events and payments:authorise.",
            show_default=False,
        ),
    ],
    seed: Seed = 0,
    members: Members = 50,
    payments: Payments = 500,
    takeovers: Takeovers = 5,
    speed: Annotated[
        float | None,
        typer.Option(help="1: as it happened, 60: an hour in a minute. Without it: flat out.", min=0.01),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell a story to a running system over HTTP, and sum up how it answered payments and frauds."""
    told = _told(seed, members, payments, takeovers)
    cast = _cast(cards, members)
    stage = Stage(url=url.rstrip("/"), token=token, run=uuid4().hex[:8], speed=speed)
    summary = asyncio.run(_replay(told, cast, stage))
    if as_json:
        echo_json(summary.as_json())
        return
    for name, value in summary.as_json().items():
        shown = (
            ", ".join(f"{key} {count:,}" for key, count in value.items())
            if isinstance(value, dict)
            else value
        )
        typer.echo(f"{name:18} {shown}")


async def _replay(told: Sequence[Act], cast: Sequence[Played], stage: Stage) -> Told:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return await replay(told, cast, stage, session=session, clock=SystemClock(), say=_say)


def _told(seed: int, members: int, payments: int, takeovers: int) -> Sequence[Act]:
    try:
        return tell(Plot(seed=seed, members=members, payments=payments, takeovers=takeovers))
    except PlotInvalid as error:
        raise ArgumentRefused(error.detail) from None


def _cast(path: Path, members: int) -> Sequence[Played]:
    try:
        forms = TypeAdapter(list[CardForm]).validate_python(orjson.loads(path.read_bytes()))
    except orjson.JSONDecodeError:
        raise ArgumentRefused(f"{path} is no JSON") from None
    except ValidationError as error:
        raise ArgumentRefused(f"{path}: {invalid_fields(error)}") from None
    if len(forms) < members:
        raise ArgumentRefused(f"{path} has {len(forms):,} cards, and the story {members:,} members")
    return [Played(member_id=one.member_id, card_token=one.card_token) for one in forms]


def _say(done: int) -> None:
    if done % 100 == 0:
        typer.echo(f"· {done:,} payments", err=True)
