"""The API key that the processes of a home know each other by, where the settings name none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.embedded.folders import private_folder
from faregate.infra.http.api_keys import keep_api_key, make_token

KEY_FILE: Final = "scorer.key"
CLIENT: Final = "payments"
SCOPES: Final = ("fraud:score",)
_NOTE: Final = "made by the home for its own calls"


def own_token(home: Path) -> str:
    """Return the home's token; whoever comes first makes it, in a file that only its owner may read."""
    file = private_folder(home) / KEY_FILE
    if not file.exists():
        fresh = file.with_name(f"{KEY_FILE}.{uuid4().hex}")
        fresh.touch(mode=0o600)
        fresh.write_text(make_token(), encoding="ascii")
        with suppress(FileExistsError):  # another process was faster: its token counts
            os.link(fresh, file)
        fresh.unlink()
    return file.read_text(encoding="ascii").strip()


async def keep_own_token(access: Database, token: str) -> None:
    """Let the home's token open what it is for."""
    async with access.transaction() as conn:
        await keep_api_key(conn, token, client_id=CLIENT, scopes=SCOPES, now=SystemClock().now(), note=_NOTE)
