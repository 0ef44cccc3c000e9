"""What the commands for rulesets work with: files, published versions, the operator's desk, and who acts."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from faregate.credit.store.artefacts import load_reason_codes
from faregate.entrypoints.servers import on_site
from faregate.kernel.errors import InvalidError

if TYPE_CHECKING:
    from faregate.credit.api import RulesetDesk
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.infra.database import Connection

Result = TypeVar("Result")


class RulesetFileUnreadable(InvalidError):
    """The file is no JSON object."""


def document_in(file: Path) -> dict[str, Any]:
    """Return the ruleset in a file; a code set that is only named is taken from the package.

    Raises RulesetFileUnreadable or ArtefactNotFound.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RulesetFileUnreadable(f"{file} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise RulesetFileUnreadable(f"{file} holds no JSON object")
    named = document.get("code_set")
    return document | {"code_set": load_reason_codes(named)} if isinstance(named, str) else document


async def ruleset_document(desk: RulesetDesk, conn: Connection, named: str) -> dict[str, Any]:
    """Return the ruleset in the file of this name, or the published version of this label."""
    if (file := Path(named)).is_file():
        return document_in(file)
    return dict(await desk.document(conn, named))


def on_desk(act: Callable[[RulesetDesk, Connection], Awaitable[Result]], *, is_act: bool = False) -> Result:
    """Do something at the operator's desk; what changes something (`is_act`) in one transaction."""

    async def with_desk(stack: AsyncExitStack, site: Site) -> Result:
        from faregate.entrypoints.bootstrap.credit import credit_api

        desk = (await credit_api(stack, site)).rules
        async with desk.database.transaction() if is_act else desk.database.connection() as conn:
            return await act(desk, conn)

    return on_site(with_desk)


def who(by: str | None) -> str:
    """Return who acts: as given, or the user of this machine."""
    if by:
        return by
    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"
