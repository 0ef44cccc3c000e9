"""What every process needs: its servers, its keys, its clock."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import orjson
from pydantic import SecretStr

from faregate.credit.handlers.identity import IdentityVault
from faregate.credit.handlers.status import StatusSnapshots
from faregate.credit.handlers.tools import Tools
from faregate.infra.cache import Cache
from faregate.infra.clock import SystemClock
from faregate.infra.database import ROLE_PREFIX, Database
from faregate.infra.http.health import Check
from faregate.infra.replica import ReadDatabase
from faregate.infra.security.blind_index import BlindIndex
from faregate.infra.security.encryption import FieldCipher
from faregate.infra.security.keys import KeyRing, KeySet
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Metrics

KEY_FILE = "keys.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where this process finds its servers, and the settings for the rest."""

    settings: Settings
    database_url: str
    valkey_url: str

    async def database(
        self, stack: AsyncExitStack, part: str, *, connections_max: int | None = None
    ) -> Database:
        """Open a pool that acts as the part's own role."""
        most = connections_max or self.settings.database_connections_max
        database = await Database.open(self.database_url, role=f"{ROLE_PREFIX}{part}", connections_max=most)
        stack.push_async_callback(database.close)
        return database

    async def reads(self, stack: AsyncExitStack, *, primary: Database, metrics: Metrics) -> ReadDatabase:
        """Open the reads of a part, whose replica may be down and is found again by itself."""
        url, replica = self.settings.database_replica_url, None
        if url is not None:
            replica = await Database.open(
                url.get_secret_value(),
                role=primary.role,
                connections_max=self.settings.database_connections_max,
                must_answer=False,
            )
            stack.push_async_callback(replica.close)
        reads = ReadDatabase(primary=primary, replica=replica, metrics=metrics)
        await stack.enter_async_context(reads.watched())
        return reads

    async def snapshots(self, stack: AsyncExitStack) -> StatusSnapshots:
        """Open the status snapshots in Valkey."""
        cache = await Cache.open(self.valkey_url)
        stack.push_async_callback(cache.close)
        return StatusSnapshots(cache=cache, ttl_s=self.settings.status_cache_ttl_s)


def tools() -> Tools:
    """Return the machine's clock and randomness."""
    return Tools(clock=SystemClock(), random_bytes=os.urandom)


def key_rings(settings: Settings) -> Mapping[str, KeyRing]:
    """Return the keys by purpose: those of the settings, else those of the file in the home folder.

    A running process notices a changed file within a second. Keys of the settings (FAREGATE_PII_KEYS,
    FAREGATE_BLIND_INDEX_KEYS) stay as they are until it starts again: nothing reloads them.
    """
    given = {
        "encryption": (settings.pii_keys, settings.pii_key_id),
        "blind_index": (settings.blind_index_keys, settings.blind_index_key_id),
    }
    return {
        purpose: KeyRing.from_file(settings.home / KEY_FILE, purpose=purpose)
        if secret is None
        else KeyRing.fixed(_key_set(secret, current=current))
        for purpose, (secret, current) in given.items()
    }


def _key_set(secret: SecretStr, *, current: str) -> KeySet:
    stored = orjson.loads(secret.get_secret_value())
    return KeySet(current=current, keys={key_id: base64.b64decode(key) for key_id, key in stored.items()})


def identity_vault(settings: Settings) -> IdentityVault:
    """Return what encrypts and finds applicants."""
    rings = key_rings(settings)
    return IdentityVault(
        cipher=FieldCipher(ring=rings["encryption"]), index=BlindIndex(ring=rings["blind_index"])
    )


def database_check(database: Database) -> Check:
    """Return a readiness check that asks the database for one row."""

    async def check() -> None:
        async with database.connection() as conn:
            await conn.execute("select 1")

    return check
