"""The key by which a home's payments know themselves to its scorer: made once, private, good for one thing."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from faregate.entrypoints.bootstrap.own_key import KEY_FILE, keep_own_token, own_token
from faregate.infra.http.api_keys import TokenMalformed
from faregate.infra.http.authentication import Authenticator
from tests.conftest import OpenDatabase


async def test_whoever_comes_first_makes_it_and_all_have_the_same(tmp_path: Path) -> None:
    made = await asyncio.gather(*(asyncio.to_thread(own_token, tmp_path / "home") for _ in range(20)))
    assert len(set(made)) == 1
    file = tmp_path / "home" / KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in file.parent.iterdir()] == [KEY_FILE]


@pytest.mark.requirement("F9")
async def test_it_opens_scoring_and_nothing_else_however_often_it_is_kept(
    open_database: OpenDatabase, tmp_path: Path
) -> None:
    access, token = await open_database("access"), own_token(tmp_path / "home")
    for _ in range(3):
        await keep_own_token(access, token)
    caller = await Authenticator(database=access).caller_of(token)
    assert (caller.client_id, caller.scopes) == ("payments", frozenset({"fraud:score"}))


async def test_what_is_no_token_is_refused(open_database: OpenDatabase) -> None:
    with pytest.raises(TokenMalformed):
        await keep_own_token(await open_database("access"), "a word")
