"""`faregate events`: look at the event log and its consumers, on whichever bus; set them back, let them go on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import orjson
import typer

from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.servers import on_site, with_own_kafka
from faregate.infra.eventlog import GroupLag, forget_group, history, require_group, unsequenced
from faregate.infra.eventlog import lag as lag_of
from faregate.infra.eventlog import replay as replay_group
from faregate.infra.eventlog import skip as skip_event
from faregate.infra.settings import Settings
from faregate.kernel.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.infra.kafka import KafkaAddress

app = typer.Typer(
    no_args_is_help=True,
    help="The event log and its consumers: look, follow, lag, replay, skip; the topics on Kafka.",
    epilog="Example: faregate events lag",
)
dead_letters = typer.Typer(
    no_args_is_help=True,
    help="Events that a group could not handle, on Kafka.",
    epilog="Example: faregate events dead-letters list",
)
app.add_typer(dead_letters, name="dead-letters")

UNSEQUENCED = "(sequencer)"
TAIL_EVERY_S = 0.25
Group = Annotated[str, typer.Argument(help="The consumer group.")]


class NoDeadLetter(NotFoundError):
    """The group has no dead letter of that event."""


class NoKafka(InvalidError):
    """The command is about Kafka, and no setting names one."""


@app.command("lag", epilog="Example: faregate events lag")
def lag(as_json: Json = False) -> None:
    """Show how far each consumer group is behind, and what the sequencer has still to give them."""

    async def act(stack: AsyncExitStack, site: Site) -> list[dict[str, object]]:
        database = await site.database(stack, "eventlog")
        async with database.connection() as conn:
            groups, waiting = await lag_of(conn), await unsequenced(conn)
        behind = [GroupLag(group=UNSEQUENCED, events=waiting.events, seconds=waiting.seconds), *groups]
        return [{"group": b.group, "events": b.events, "seconds": round(b.seconds, 3)} for b in behind]

    print_rows(on_site(act), as_json=as_json)


@app.command("tail", epilog="Example: faregate events tail --follow --type credit.decision.finalized")
def tail(
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, help="How many of the newest to begin with.")
    ] = 10,
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only these event types.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the newest events of the log, one a line, and follow it."""

    async def act(stack: AsyncExitStack, site: Site) -> None:
        from faregate.infra.eventlog import newest

        database, after = await site.database(stack, "eventlog"), None
        while True:
            async with database.connection() as conn:
                found, after = await newest(conn, after=after, count=count, types=type_)
            for event in found:
                typer.echo(_line(event, as_json=as_json))
            if not follow:
                return
            await asyncio.sleep(TAIL_EVERY_S)

    on_site(act)


def _line(event: Mapping[str, Any], *, as_json: bool) -> str:
    if as_json:
        return orjson.dumps(event).decode()
    data = orjson.dumps(event["data"]).decode()
    return f"{event['seq']:>8}  {event['time']:%Y-%m-%d %H:%M:%S}  {event['type']:<32} {event['key']}  {data}"


@app.command("replay", epilog="Example: faregate events replay credit.snapshots --from-seq 1 --again")
def replay(
    group: Annotated[str, typer.Argument(help="The consumer group to set back.")],
    from_seq: Annotated[int, typer.Option(min=1, help="First event to read again.")],
    again: Annotated[
        bool, typer.Option("--again", help="Also repeat the effects of events handled before.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Set a consumer group back to an earlier event; running workers notice within seconds.

    Events that the group has handled are passed over, unless --again: then its handler runs for them once more.
    """

    async def act(stack: AsyncExitStack, site: Site) -> None:
        from faregate.entrypoints.bootstrap.events import kafka_address, kafka_topics
        from faregate.infra.kafka import replay_from_kafka, require_answer

        database, address = (
            await site.database(stack, "eventlog"),
            kafka_address(with_own_kafka(site.settings)),
        )
        if address is not None:
            await asyncio.to_thread(require_answer, address)
            topics = kafka_topics(site.settings)
            await replay_from_kafka(
                database, address=address, topics=topics, group=group, from_seq=from_seq, effects_again=again
            )
            return
        async with database.transaction() as conn:
            await replay_group(conn, group=group, from_seq=from_seq, effects_again=again)

    on_site(act)
    done = {"group": group, "from_seq": from_seq, "again": again}
    _say(f"{group} reads again from event {from_seq}", done, as_json=as_json)


@app.command("skip", epilog="Example: faregate events skip credit.snapshots 019ab2c3-…")
def skip(
    group: Annotated[str, typer.Argument(help="The consumer group that cannot handle the event.")],
    event_id: Annotated[UUID, typer.Argument(help="The event's id, as the worker's log names it.")],
    as_json: Json = False,
) -> None:
    """Let a consumer group pass over one event that it cannot handle; the others of its partition go on."""

    async def act(stack: AsyncExitStack, site: Site) -> None:
        database = await site.database(stack, "eventlog")
        async with database.transaction() as conn:
            await skip_event(conn, group=group, event_id=event_id)

    on_site(act)
    done = {"group": group, "event_id": str(event_id)}
    _say(f"{group} passes over event {event_id}", done, as_json=as_json)


@app.command("show", epilog="Example: faregate events show app_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def show_events(
    key: Annotated[str, typer.Argument(help="What the events are about: an application's id.")],
    as_json: Json = False,
) -> None:
    """Show every event about one thing in the order of the log, those in cold storage included."""
    from faregate.entrypoints.bootstrap.archive import cold_events

    async def act(stack: AsyncExitStack, site: Site) -> list[dict[str, object]]:
        database, cold = await site.database(stack, "eventlog"), cold_events(site.settings)
        return [
            {"seq": e.seq, "time": e.time, "type": e.type, "id": e.id, "data": dict(e.data)}
            async for e in history(database, cold, key=key)
        ]

    print_rows(on_site(act), as_json=as_json)


@app.command("forget", epilog="Example: faregate events forget credit.old-group")
def forget(
    group: Annotated[str, typer.Argument(help="A consumer group that no code uses any more.")],
    as_json: Json = False,
) -> None:
    """Remove a consumer group: it no longer keeps events from moving to cold storage. It begins anew if it returns."""

    async def act(stack: AsyncExitStack, site: Site) -> None:
        database = await site.database(stack, "eventlog")
        async with database.transaction() as conn:
            await forget_group(conn, group=group)

    on_site(act)
    _say(f"forgot {group}", {"group": group}, as_json=as_json)


@app.command("topics", epilog="Example: faregate events topics --apply")
def topics(
    apply: Annotated[
        bool, typer.Option("--apply", help="Make what is missing; adapt partitions and retention.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the topics on Kafka, or set them up as the settings say: partitions, replicas, retention."""
    from faregate.entrypoints.bootstrap.events import kafka_topics
    from faregate.infra.kafka import ensure_topics, topics_found

    settings = with_own_kafka(Settings())
    address, wanted = _kafka(settings), kafka_topics(settings)
    if apply:
        done = ensure_topics(address, wanted)
        print_rows([{"topic": d.topic, "change": d.change} for d in done], as_json=as_json)
        return
    print_rows(topics_found(address, wanted), as_json=as_json)


@dead_letters.command("list", epilog="Example: faregate events dead-letters list --group credit.signals")
def list_dead_letters(
    group: Annotated[str | None, typer.Option(help="Only those of this group.")] = None, as_json: Json = False
) -> None:
    """Show events that groups could not handle, with the last error of each, oldest first.

    One without an event id is a record that somebody else wrote: it is kept, and never given back.
    """
    rows = [
        {
            "at": letter.at,
            "group": letter.group,
            "type": letter.event.type if letter.event else None,
            "key": letter.event.aggregate_id if letter.event else None,
            "event_id": str(letter.event.id) if letter.event else None,
            "attempts": letter.attempts,
            "error": letter.error,
            "origin": letter.origin,
        }
        for letter in _dead_letters().all(group=group)
    ]
    print_rows(rows, as_json=as_json)


@dead_letters.command("replay", epilog="Example: faregate events dead-letters replay credit.signals")
def replay_dead_letters(
    group: Group,
    event_id: Annotated[
        UUID | None, typer.Option("--event", help="Only this event; else all of them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give dead letters back to their group, which handles each once; what it has handled since is passed over."""
    letters = _dead_letters()
    on_site(lambda stack, site: _require_group(stack, site, group))
    wanted = (
        found
        for found in letters.all(group=group)
        if event_id is None or (found.event and found.event.id == event_id)
    )
    given_back = letters.give_back(wanted)
    if event_id and not given_back:
        raise NoDeadLetter(f"group {group!r} has no dead letter of event {event_id}", group=group)
    done = {"group": group, "given_back": given_back}
    _say(f"{given_back} events given back to {group}", done, as_json=as_json)


async def _require_group(stack: AsyncExitStack, site: Site, group: str) -> None:
    database = await site.database(stack, "eventlog", connections_max=1)
    async with database.connection() as conn:
        await require_group(conn, group=group)


def _say(line: str, done: Mapping[str, object], *, as_json: bool) -> None:
    """Say what was done, to people or to programs."""
    if as_json:
        echo_json(done)
    else:
        typer.echo(line)


def _dead_letters() -> Any:
    from faregate.entrypoints.bootstrap.events import kafka_topics
    from faregate.infra.kafka import DeadLetters

    settings = with_own_kafka(Settings())
    return DeadLetters(address=_kafka(settings), topics=kafka_topics(settings))


def _kafka(settings: Settings) -> KafkaAddress:
    """Return the address of the broker, which answers. Raises NoKafka, KafkaOptionsInvalid or KafkaUnavailable."""
    from faregate.entrypoints.bootstrap.events import kafka_address
    from faregate.infra.kafka import require_answer

    address = kafka_address(settings)
    if address is None:
        raise NoKafka(
            "no Kafka is named: set FAREGATE_KAFKA_BOOTSTRAP, or start one with `faregate up --kafka`"
        )
    return require_answer(address)
