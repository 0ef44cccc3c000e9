"""`faregate keys|pii`: who may call, and the keys that personal data is encrypted with."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from math import ceil
from typing import TYPE_CHECKING, Annotated

import typer

from faregate.entrypoints.arguments import words
from faregate.entrypoints.output import Json, print_rows
from faregate.entrypoints.servers import on_site
from faregate.infra.clock import SystemClock
from faregate.infra.embedded.folders import private_folder
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
pii = typer.Typer(
    no_args_is_help=True,
    help="Keys that personal data is encrypted with.",
    epilog="Example: faregate pii rotate",
)


@pii.callback()
def keep_the_group() -> None:
    """Keep `pii` a group while it has a single command."""


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
    note: Annotated[
        str, typer.Option(help="What the key is for.", callback=words(200, may_be_empty=True))
    ] = "",
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
    from faregate.entrypoints.bootstrap.members import members_api
    from faregate.entrypoints.bootstrap.travel import travel_tools
    from faregate.entrypoints.bootstrap.webhooks import webhooks_api
    from faregate.travel.api import rotate_keys

    credit, webhooks, total = await credit_api(stack, site), await webhooks_api(stack, site), 0
    members, travel = await members_api(stack, site), await site.database(stack, "travel")

    def say(count: int) -> None:
        typer.echo(f"{count} re-encrypted", err=True)

    await asyncio.sleep(NOTICED_WITHIN_S)
    while changed := (
        await credit.rotate_keys(on_progress=say)
        + await webhooks.rotate_keys(on_progress=say)
        + await members.rotate_keys(on_progress=say)
        + await rotate_keys(travel, tools=travel_tools(site.settings), on_progress=say)
    ):
        total += changed
    return total
