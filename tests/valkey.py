"""What a test asks Valkey itself, past our own client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glide import GlideClient, GlideClientConfiguration, NodeAddress


async def asked(socket: Path, *command: str | bytes) -> Any:
    """Give a command and return the answer."""
    client = await GlideClient.create(
        GlideClientConfiguration([NodeAddress(unix_socket_path=socket)], request_timeout=5_000)
    )
    try:
        return await client.custom_command(list(command))
    finally:
        await client.close()
