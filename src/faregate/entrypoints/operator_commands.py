"""`faregate keys|events|pii`: what an operator does to a running system."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from math import ceil
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from faregate.entrypoints.output import Json, print_rows
from faregate.entrypoints.servers import on_site
from faregate.infra.clock import SystemClock
from faregate.infra.embedded.folders import private_folder
from faregate.infra.eventlog import GroupLag, forget_group, history, unsequenced
from faregate.infra.eventlog import lag as lag_of
from faregate.infra.eventlog import replay as replay_group
from faregate.infra.eventlog import skip as skip_event
from faregate.infra.http.api_keys import (
    KNOWN_SCOPES,
    create_api_key,
    list_api_keys,
    require_known_scopes,
    revoke_api_key,
)
from faregate.infra.http.client_limits import (
    POLICIES,
    SUBMIT,
    drop_client_limit,
    list_client_limits,
    set_client_limit,
)
from faregate.infra.rate import Rate
from faregate.infra.security.keys import NOTICED_WITHIN_S, begin_rotation, finish_rotation, key_sets_from_file
from faregate.infra.settings import Settings

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site

keys = typer.Typer(
    no_args_is_help=True, help="API keys of clients.", epilog="Example: faregate keys create partner-1"
)
events = typer.Typer(
    no_args_is_help=True, help="The event log: lag, replay, skipping.", epilog="Example: faregate events lag"
)
pii = typer.Typer(
    no_args_is_help=True,
    help="Keys that personal data is encrypted with.",
    epilog="Example: faregate pii rotate",
)


@pii.callback()
def keep_the_group() -> None:
    """Keep `pii` a group while it has a single command."""


UNSEQUENCED = "(sequencer)"
SCOPES = ", ".join(sorted(KNOWN_SCOPES))


@keys.command(
    "create", epilog="Example: faregate keys create partner-1 --scope credit:submit --scope credit:read"
)
def create(
    client: Annotated[str, typer.Argument(help="Id of the client; the client owns what it submits.")],
    scope: Annotated[list[str], typer.Option(help=f"What the key may do; may be repeated: {SCOPES}.")] = [  # noqa: B006
        "credit:submit",
        "credit:read",
    ],
    note: Annotated[str, typer.Option(help="What the key is for.")] = "",
) -> None:
    """Make a key and print its token, which is shown this once and kept nowhere."""
    require_known_scopes(scope)

    async def act(stack: AsyncExitStack, site: Site) -> str:
        database = await site.database(stack, "access")
        async with database.transaction() as conn:
            key = await create_api_key(
                conn, client_id=client, scopes=scope, now=SystemClock().now(), note=note
            )
        return key.token

    typer.echo(on_site(act))


@keys.command("revoke", epilog="Example: faregate keys revoke 0a1b2c3d4e5f6071")
def revoke(key_id: Annotated[str, typer.Argument(help="The id inside the token: fg_ID_secret.")]) -> None:
    """End a key for ever; running processes notice within seconds."""

    async def act(stack: AsyncExitStack, site: Site) -> None:
        database = await site.database(stack, "access")
        async with database.transaction() as conn:
            await revoke_api_key(conn, key_id=key_id, now=SystemClock().now())

    on_site(act)
    typer.echo(f"revoked {key_id}")


@keys.command("list", epilog="Example: faregate keys list --json")
def list_keys(as_json: Json = False) -> None:
    """List every key ever made, without its secret."""

    async def act(stack: AsyncExitStack, site: Site) -> list[dict[str, object]]:
        database = await site.database(stack, "access")
        async with database.connection() as conn:
            found = await list_api_keys(conn)
        return [
            {
                "id": key.id,
                "client": key.client_id,
                "scopes": sorted(key.scopes),
                "note": key.note,
                "created_at": key.created_at,
                "revoked_at": key.revoked_at,
            }
            for key in found
        ]

    print_rows(on_site(act), as_json=as_json)


@keys.command(
    "limit", epilog="Example: faregate keys limit partner-1 --policy submit --rate 500 --burst 2000"
)
def limit(
    client: Annotated[str, typer.Argument(help="Id of the client, over all its keys.")],
    policy: Annotated[str, typer.Option(help=f"What is limited: {', '.join(POLICIES)}.")] = SUBMIT,
    rate: Annotated[float | None, typer.Option(help="Requests a second.")] = None,
    burst: Annotated[
        int | None, typer.Option(help="Requests at once; as many as the rate if not given.")
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Let the settings count again.")] = False,
    as_json: Json = False,
) -> None:
    """Give a client a limit of its own, or show what holds for it; running processes notice within seconds."""
    if default and (rate is not None or burst is not None):
        raise typer.BadParameter("--default goes without --rate and --burst")
    if rate is None and burst is not None:
        raise typer.BadParameter("--burst needs --rate")

    async def act(stack: AsyncExitStack, site: Site) -> list[dict[str, object]]:
        from faregate.entrypoints.bootstrap.api import default_limits

        database = await site.database(stack, "access", connections_max=1)
        async with database.transaction() as conn:
            if default:
                await drop_client_limit(conn, client_id=client, policy=policy)
            elif rate is not None:
                wanted = Rate(per_s=rate, burst=max(1, ceil(rate)) if burst is None else burst)
                now = SystemClock().now()
                await set_client_limit(conn, client_id=client, policy=policy, rate=wanted, now=now)
            own = {found.policy: found.rate for found in await list_client_limits(conn, client_id=client)}
        return [
            {
                "policy": name,
                "rate_per_s": own.get(name, usual).per_s,
                "burst": own.get(name, usual).burst,
                "from": "client" if name in own else "settings",
            }
            for name, usual in default_limits(site.settings).items()
        ]

    print_rows(on_site(act), as_json=as_json)


@events.command("lag", epilog="Example: faregate events lag")
def lag(as_json: Json = False) -> None:
    """Show how far each consumer group is behind, and what the sequencer has still to give them."""

    async def act(stack: AsyncExitStack, site: Site) -> list[dict[str, object]]:
        database = await site.database(stack, "eventlog")
        async with database.connection() as conn:
            groups, waiting = await lag_of(conn), await unsequenced(conn)
        behind = [GroupLag(group=UNSEQUENCED, events=waiting.events, seconds=waiting.seconds), *groups]
        return [{"group": b.group, "events": b.events, "seconds": round(b.seconds, 3)} for b in behind]

    print_rows(on_site(act), as_json=as_json)


@events.command("replay", epilog="Example: faregate events replay credit.snapshots --from-seq 1 --again")
def replay(
    group: Annotated[str, typer.Argument(help="The consumer group to set back.")],
    from_seq: Annotated[int, typer.Option(help="First event to read again.")],
    again: Annotated[
        bool, typer.Option("--again", help="Also repeat the effects of events handled before.")
    ] = False,
) -> None:
    """Set a consumer group back to an earlier event; running workers notice within seconds.

    Events that the group has handled are passed over, unless --again: then its handler runs for them once more.
    """

    async def act(stack: AsyncExitStack, site: Site) -> None:
        database = await site.database(stack, "eventlog")
        async with database.transaction() as conn:
            await replay_group(conn, group=group, from_seq=from_seq, effects_again=again)

    on_site(act)
    typer.echo(f"{group} reads again from event {from_seq}")


@events.command("skip", epilog="Example: faregate events skip credit.snapshots 019ab2c3-…")
def skip(
    group: Annotated[str, typer.Argument(help="The consumer group that cannot handle the event.")],
    event_id: Annotated[UUID, typer.Argument(help="The event's id, as the worker's log names it.")],
) -> None:
    """Let a consumer group pass over one event that it cannot handle; the others of its partition go on."""

    async def act(stack: AsyncExitStack, site: Site) -> None:
        database = await site.database(stack, "eventlog")
        async with database.transaction() as conn:
            await skip_event(conn, group=group, event_id=event_id)

    on_site(act)
    typer.echo(f"{group} passes over event {event_id}")


@events.command("show", epilog="Example: faregate events show app_01J3R2J7F1TQ0K6W6N8A4X9V7R")
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


@events.command("forget", epilog="Example: faregate events forget credit.old-group")
def forget(
    group: Annotated[str, typer.Argument(help="A consumer group that no code uses any more.")],
) -> None:
    """Remove a consumer group: it no longer keeps events from moving to cold storage. It begins anew if it returns."""

    async def act(stack: AsyncExitStack, site: Site) -> None:
        database = await site.database(stack, "eventlog")
        async with database.transaction() as conn:
            await forget_group(conn, group=group)

    on_site(act)
    typer.echo(f"forgot {group}")


@pii.command("rotate", epilog="Example: faregate pii rotate")
def rotate() -> None:
    """Make a new encryption key and re-encrypt what is stored; run again, it takes up an interrupted rotation.

    Running processes learn of the new key by themselves. With keys from settings, add the new key there first
    (FAREGATE_PII_KEYS, FAREGATE_PII_KEY_ID), restart the processes, then run this: it makes no key then.
    """
    from faregate.entrypoints.bootstrap.site import KEY_FILE

    settings = Settings()
    file = settings.home / KEY_FILE
    rotation = None
    if settings.pii_keys is None:
        key_sets_from_file(private_folder(settings.home) / KEY_FILE)
        rotation = begin_rotation(file, purpose="encryption")
    if rotation:
        typer.echo(f"{'going on with' if rotation.resumed else 'new'} key {rotation.key_id}")
    typer.echo(f"{on_site(_reencrypt_all)} values are now under the current key")
    if rotation:
        finish_rotation(file, purpose="encryption", key_id=rotation.key_id)


async def _reencrypt_all(stack: AsyncExitStack, site: Site) -> int:
    """Sweep until nothing is left: other processes may write under the old key until they notice the new one."""
    from faregate.entrypoints.bootstrap.credit import credit_api
    from faregate.entrypoints.bootstrap.webhooks import webhooks_api

    credit, webhooks, total = await credit_api(stack, site), await webhooks_api(stack, site), 0

    def say(count: int) -> None:
        typer.echo(f"{count} re-encrypted", err=True)

    await asyncio.sleep(NOTICED_WITHIN_S)
    while changed := (
        await credit.rotate_keys(on_progress=say) + await webhooks.rotate_keys(on_progress=say)
    ):
        total += changed
    return total
