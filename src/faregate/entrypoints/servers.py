"""The servers of a command: those that the settings name, or embedded ones."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

import orjson

from faregate.infra.embedded import embedded_servers
from faregate.infra.embedded.keeper import servers_kept_running, unnamed_servers
from faregate.infra.migrations import migrate
from faregate.infra.security.keys import KeySet, KeySetInvalid
from faregate.infra.settings import Settings
from faregate.infra.telemetry.logs import configure_logging
from faregate.infra.telemetry.tracing import configure_tracing

if TYPE_CHECKING:
    from faregate.credit.api import CreditApi
    from faregate.entrypoints.bootstrap.site import Site

Result = TypeVar("Result")


@contextmanager
def site_of(settings: Settings) -> Iterator[Site]:
    """Give the servers, started if they must be, and the database brought up to date."""
    from faregate.entrypoints.bootstrap.site import Site

    refuse_bad_keys(settings)
    with ExitStack() as stack:
        database_url, valkey_url = _urls(settings)
        if database_url is None or valkey_url is None:
            wanted = unnamed_servers(database_url=database_url, valkey_url=valkey_url)
            servers = stack.enter_context(embedded_servers(settings.home, wanted=wanted))
            database_url = database_url or servers.database_url
            valkey_url = valkey_url or f"unix://{servers.valkey_socket}"
        migrate(database_url)
        yield Site(settings=settings, database_url=database_url, valkey_url=valkey_url)


def kept_running(settings: Settings) -> AbstractAsyncContextManager[None]:
    """Start embedded servers of a long-lived process again when one dies; those that the settings name are not ours."""
    database_url, valkey_url = _urls(settings)
    wanted = unnamed_servers(database_url=database_url, valkey_url=valkey_url)
    return servers_kept_running(settings.home.absolute(), wanted=wanted) if wanted else nullcontext()


def _urls(settings: Settings) -> tuple[str | None, str | None]:
    """The addresses of PostgreSQL and Valkey that the settings name."""
    secrets = (settings.database_url, settings.valkey_url)
    database_url, valkey_url = (secret.get_secret_value() if secret else None for secret in secrets)
    return database_url, valkey_url


def with_own_kafka(settings: Settings) -> Settings:
    """Return the settings with the home's own broker, where that runs and they name no other: the system uses it."""
    from faregate.infra.embedded.kafka import kafka_of

    own = kafka_of(settings.home.absolute())
    if settings.kafka_bootstrap is not None or own.pid() is None:
        return settings
    return settings.model_copy(update={"kafka_bootstrap": own.bootstrap()})


def refuse_bad_keys(settings: Settings) -> None:
    """Raise KeySetInvalid with the variable's name, before anything starts, if its keys cannot be used."""
    given = {
        "FAREGATE_PII_KEYS": (settings.pii_keys, settings.pii_key_id),
        "FAREGATE_BLIND_INDEX_KEYS": (settings.blind_index_keys, settings.blind_index_key_id),
    }
    for variable, (secret, current) in given.items():
        if secret is None:
            continue
        try:
            keys = orjson.loads(secret.get_secret_value()).items()
            KeySet(current=current, keys={key_id: base64.b64decode(key) for key_id, key in keys})
        except KeySetInvalid as error:
            raise KeySetInvalid(f"{variable}: {error.detail}") from None
        except (ValueError, TypeError, AttributeError):
            form = "a JSON map of key id to base64 of 32 bytes"
            raise KeySetInvalid(f"{variable} must be {form}") from None  # its words could hold the key


def on_site(act: Callable[[AsyncExitStack, Site], Awaitable[Result]]) -> Result:
    """Run something short against the servers that the settings name; standard output stays its own."""
    configure_logging(format="console", level=logging.WARNING)

    async def run(site: Site) -> Result:
        async with AsyncExitStack() as stack:
            return await act(stack, site)

    with site_of(Settings()) as site:
        return asyncio.run(run(site))


async def open_credit(stack: AsyncExitStack, site: Site) -> CreditApi:
    """Give credit's whole API, for as long as the stack is open."""
    from faregate.entrypoints.bootstrap.credit import credit_api

    return await credit_api(stack, site)


def observe(settings: Settings, service: str) -> None:
    """Set up the logs and traces of this process."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    configure_logging(format=settings.log_format, level=level)
    configure_tracing(
        service=service,
        exporter=settings.trace_exporter,
        endpoint=settings.trace_endpoint,
        path=settings.trace_file or settings.home / "traces.jsonl",
        sample_ratio=settings.trace_sample_ratio,
    )
