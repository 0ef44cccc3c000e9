"""The gateway's door for contexts: declare what is to be asked, hand in what a provider told us, look at it.

`ProviderPool` and `CallbackSettler` do the asking; they are wired in `entrypoints`.
"""

from __future__ import annotations

from collections.abc import Callable

from faregate.gateway.contracts import Callback
from faregate.gateway.store.answers import reseal_answers
from faregate.gateway.store.journal import (
    ProviderRequestNotFound,
    declare,
    declare_anew,
    history,
    keep_callback,
    look_again,
    summary,
)
from faregate.infra.database import Connection
from faregate.kernel.outcome import Done

__all__ = [
    "ProviderRequestNotFound",
    "accept_callback",
    "declare",
    "declare_anew",
    "history",
    "look_again",
    "reseal_answers",
    "summary",
]


async def accept_callback(
    conn: Connection, *, callback: Callback, dedupe_key: str, seal: Callable[[str, bytes], bytes]
) -> bool:
    """Keep a verified callback in the caller's transaction; False for a repeat. Answer 2xx after its commit.

    Early, late, repeated and contradicting ones are all accepted; a `CallbackSettler` judges them later.
    Raises ProviderRequestNotFound for a request that was never declared.
    """
    raw = callback.outcome.raw if isinstance(callback.outcome, Done) else b""
    return await keep_callback(
        conn,
        provider=callback.provider,
        provider_request_id=callback.provider_request_id,
        dedupe_key=dedupe_key,
        outcome=callback.outcome,
        response=seal(callback.provider_request_id, raw) if raw else b"",
    )
