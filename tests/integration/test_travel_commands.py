"""`faregate travel`: what an operator sees and does, on a real database."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.travel import known_partners, travel_api
from faregate.entrypoints.cli import app, main
from faregate.infra.clock import SystemClock
from faregate.infra.settings import Settings
from faregate.infra.workflow.prepare import prepare
from faregate.travel.contracts.redemptions import NewRedemption, Traveller, Wish
from faregate.travel.partners.fake import FakePartner

pytestmark = pytest.mark.requirement("L4")


@pytest.fixture
def site(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
    assert settings.database_url
    assert settings.valkey_url
    urls = settings.database_url.get_secret_value(), settings.valkey_url.get_secret_value()
    monkeypatch.setenv("FAREGATE_HOME", str(settings.home))
    monkeypatch.setenv("FAREGATE_DATABASE_URL", urls[0])
    monkeypatch.setenv("FAREGATE_VALKEY_URL", urls[1])
    settings.home.mkdir(mode=0o700)
    prepare(urls[0])
    return Site(settings=settings, database_url=urls[0], valkey_url=urls[1])


def run(*arguments: str) -> Any:
    ended = CliRunner().invoke(app, ["travel", *arguments], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout) if "--json" in arguments else ended.stdout


def begun(site: Site) -> str:
    """Begin a redemption that nobody carries out."""

    async def inside() -> str:
        async with AsyncExitStack() as stack:
            process = Process(stack, site)
            partner = FakePartner(name="airline", clock=SystemClock())
            process.provide(known_partners, {"airline": partner})
            travel = await travel_api(process, database=await process.database("travel"))
            wish = Wish(partner="airline", offer_id="o-20000", price_minor=20_000)
            async with travel.database.transaction() as conn:
                return await travel.begin(
                    conn,
                    NewRedemption(member_id="mbr_1", wishes=[wish]),
                    traveller=Traveller(name="Ada Byron"),
                    offers=[await partner.quote("o-20000", timeout_s=1)],
                )

    return asyncio.run(inside())


def test_a_redemption_is_shown_without_who_travels(site: Site) -> None:
    redemption = begun(site)
    shown = run("show", redemption, "--json")
    assert (shown["id"], shown["status"], shown["points"]) == (redemption, "started", 20_000)
    assert "Ada" not in run("show", redemption)


def test_what_waits_for_a_person_is_listed_and_goes_on_when_it_is_tried_again(site: Site) -> None:
    redemption = begun(site)
    assert run("attention", "--json") == []
    with psycopg.connect(site.database_url, autocommit=True) as server:
        server.execute("update travel.redemption set status = 'needs_attention', needs = 'cancel 1: refused'")
    [waiting] = run("attention", "--json")
    assert (waiting["redemption"], waiting["needs"]) == (redemption, "cancel 1: refused")
    assert run("retry", redemption) == f"{redemption} goes on\n"
    with psycopg.connect(site.database_url) as server:
        sent = server.execute("select signals from travel.redemption").fetchone()
    assert sent == (1,)


def test_a_redemption_that_is_not_there_is_one_clear_line(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(site)
    monkeypatch.setattr("sys.argv", ["faregate", "travel", "show", "rdm_nobody"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "faregate: there is no redemption of this id\n"
