"""`faregate archive`: moves old events into cold storage, looks after them there, brings them back."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from faregate.entrypoints.output import Json, print_rows
from faregate.entrypoints.servers import on_site

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.infra.eventlog import Segment

app = typer.Typer(
    no_args_is_help=True,
    help="Old events in cold storage: Delta tables of Parquet files.",
    epilog="Example: faregate archive run --older-than 30d",
)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """Read `30d`, `12h`, `15m` or `0s`."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None:
        raise typer.BadParameter("write a number and one of s, m, h, d, such as 30d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@app.command("run", epilog="Example: faregate archive run --older-than 30d")
def run(
    older_than: Annotated[
        timedelta, typer.Option(parser=duration, metavar="AGE", help="Age of events that move: 30d, 12h.")
    ],
    as_json: Json = False,
) -> None:
    """Move filled segments of the event log whose events every consumer group has handled.

    It can be killed at any moment and run again: no event is lost or kept twice.
    """
    from faregate.entrypoints.bootstrap.archive import event_archive

    async def act(stack: AsyncExitStack, site: Site) -> dict[str, Any]:
        moved = await (await event_archive(stack, site)).run(older_than=older_than)
        return {"segments": len(moved.segments), "events": moved.events, "stopped_by": moved.stopped_by}

    report = on_site(act)
    if as_json:
        typer.echo(orjson.dumps(report).decode())
        return
    typer.echo(f"moved {report['events']} events in {report['segments']} segments")
    typer.echo(f"stopped: {report['stopped_by']}")


@app.command("list", epilog="Example: faregate archive list")
def list_segments(as_json: Json = False) -> None:
    """List the segments of the event log, hot and cold."""
    from faregate.entrypoints.bootstrap.archive import event_archive

    async def act(stack: AsyncExitStack, site: Site) -> list[dict[str, object]]:
        return [_row(segment) for segment in await (await event_archive(stack, site)).segments()]

    print_rows(on_site(act), as_json=as_json)


@app.command("verify", epilog="Example: faregate archive verify")
def verify(as_json: Json = False) -> None:
    """Read all of cold storage and compare it with what was written; exit status 1 if a segment is damaged."""
    from faregate.entrypoints.bootstrap.archive import event_archive

    async def act(stack: AsyncExitStack, site: Site) -> dict[int, str | None]:
        return await (await event_archive(stack, site)).verify()

    found = on_site(act)
    rows: list[dict[str, object]] = [
        {"segment": segment, "damage": damage or "none"} for segment, damage in found.items()
    ]
    print_rows(rows, as_json=as_json)
    if any(found.values()):
        raise typer.Exit(1)


@app.command("restore", epilog="Example: faregate archive restore --from-seq 1 --keep 7d")
def restore(
    from_seq: Annotated[int, typer.Option(min=1, help="First event to bring back, and all after it.")],
    keep: Annotated[
        timedelta,
        typer.Option(parser=duration, metavar="TIME", help="How long they stay before they may move again."),
    ] = "7d",  # type: ignore[assignment]  # typer parses it
) -> None:
    """Bring events back into PostgreSQL, so that a consumer group can read them again."""
    from faregate.entrypoints.bootstrap.archive import event_archive

    async def act(stack: AsyncExitStack, site: Site) -> int:
        restored = await (await event_archive(stack, site)).restore(from_seq=from_seq, keep=keep)
        return sum(segment.end_seq - segment.from_seq for segment in restored)

    typer.echo(f"brought {on_site(act)} events back")


def _row(segment: Segment) -> dict[str, object]:
    return {
        "from_seq": segment.from_seq,
        "last_seq": segment.end_seq - 1,
        "state": "cold" if segment.is_cold else "filled" if segment.filled else "open",
        "first_at": segment.first_at,
        "last_at": segment.last_at,
        "archived_at": segment.archived_at,
        "kept_until": segment.kept_until,
        "bytes": segment.bytes,
        "sha256": segment.sha256.hex() if segment.sha256 else None,
    }
