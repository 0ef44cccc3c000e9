"""Each context and role as a process of its own: what it opens, whom it may become, and what it says when it cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import psycopg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from faregate.entrypoints import http, worker
from faregate.entrypoints.bootstrap.api import OPENS as OPENS_CONTEXT
from faregate.entrypoints.bootstrap.api import api_app
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.worker import OPENS as OPENS_ROLE
from faregate.entrypoints.bootstrap.worker import worker as open_worker
from faregate.entrypoints.cli import app
from faregate.entrypoints.processes import CONTEXTS, RELAY, ROLES, acts_as, logins
from faregate.infra.database import url_with_role
from faregate.infra.failures import line_of
from faregate.infra.http.server import listen, serving
from faregate.infra.logins import RolesNotGranted, make_logins, require_roles
from faregate.infra.migrations import SchemaBehind, migrate, newest_revision
from faregate.infra.settings import Settings
from tests.logins import made_logins

LoginUrl = Callable[[str], str]
PARTS = sorted({part for parts in logins().values() for part in parts})


@pytest.fixture
def login_url(database_url: str) -> LoginUrl:
    return made_logins(database_url)


def site_of(settings: Settings, url: str) -> Site:
    assert settings.valkey_url
    own = settings.model_copy(update={"database_url": SecretStr(url)})
    return Site(settings=own, database_url=url, valkey_url=settings.valkey_url.get_secret_value())


def line(*command: str, **environment: str) -> str:
    """Run a command in this process that must fail, and return what it says."""
    error = CliRunner(env=environment).invoke(app, list(command)).exception
    assert isinstance(error, Exception)
    said = line_of(error)
    assert said is not None, error
    return said


def test_every_context_and_role_has_something_that_opens_it() -> None:
    assert list(OPENS_CONTEXT) == list(CONTEXTS)
    assert list(OPENS_ROLE) == list(ROLES)


# Under its own login


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("role", [role for role in ROLES if role != RELAY])
async def test_a_worker_of_one_role_opens_what_its_login_may_be_and_nothing_else(
    settings: Settings, login_url: LoginUrl, role: str
) -> None:
    url = login_url(f"faregate_login_work_{role}")
    require_roles(url, acts_as((role,), ROLES))
    async with AsyncExitStack() as stack:
        opened = await open_worker(stack, site_of(settings, url), [role])
        asked = {name: check for name, check in opened.checks.items() if not name.startswith("lag.")}
        for check in asked.values():
            await check()
        await opened.metrics.render()
    assert {name.partition(".")[2] for name in asked if name != "engine"} == set(ROLES[role].acts_as)
    assert ("engine" in asked) == (role == "runs")


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("context", CONTEXTS)
async def test_an_api_of_one_context_opens_what_its_login_may_be_and_serves_nothing_else(
    settings: Settings, login_url: LoginUrl, context: str
) -> None:
    site = site_of(settings, login_url(f"faregate_login_serve_{context}"))
    listener = listen()
    async with AsyncExitStack() as stack:
        served = await api_app(stack, site, [context])
        url = await stack.enter_async_context(serving(served, listener=listener))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        async with session.get(f"{url}/readyz") as answer:
            ready = await answer.json()
        statuses = {}
        for name, path in PATHS.items():
            async with session.get(url + path) as answer:
                statuses[name] = answer.status
    assert ready == {
        "ready": True,
        "checks": {f"database.{part}": "ok" for part in CONTEXTS[context].acts_as}
        | ({"fraud.model": "ok: no model is active"} if context == "fraud" else {}),
    }
    assert statuses == {name: 401 if name == context else 404 for name in CONTEXTS}


PATHS = {
    "credit": "/api/credit-applications/app_01",
    "webhooks": "/api/webhook-endpoints",
    "review": "/internal/reviews",
    "gateway": "/internal/gateway/providers",
    "members": "/api/members/mbr_01",
    "points": "/api/points/operations/1",
    "travel": "/api/travel/redemptions/rdm_01",
    "fraud": "/api/fraud/decisions",
    "payments": "/api/payments/authorizations/pay_01",
}


@pytest.mark.requirement("P2")
def test_a_login_can_become_the_roles_of_its_process_and_no_other(login_url: LoginUrl) -> None:
    for login, may in logins().items():
        for part in may:
            with psycopg.connect(url_with_role(login_url(login), role=f"faregate_{part}")) as conn:
                conn.execute("select 1")
        with psycopg.connect(login_url(login), autocommit=True) as conn:
            for other in set(PARTS).difference(may):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(f"set role faregate_{other}")


@pytest.mark.requirement("P2")
def test_a_connection_that_may_not_act_as_a_part_is_refused_from_the_start(login_url: LoginUrl) -> None:
    url = url_with_role(login_url("faregate_login_work_audit"), role="faregate_eventlog")
    with pytest.raises(psycopg.OperationalError, match="permission denied to set role"):
        psycopg.connect(url)


@pytest.mark.requirement("P2")
def test_a_login_reads_no_table_before_it_becomes_a_part(login_url: LoginUrl) -> None:
    with (
        psycopg.connect(login_url("faregate_login_work")) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute("select from credit.application")


@pytest.mark.requirement("P2")
def test_a_process_with_the_login_of_another_ends_with_one_line(
    settings: Settings, login_url: LoginUrl
) -> None:
    with pytest.raises(RolesNotGranted) as refused:
        worker.run_worker(site_of(settings, login_url("faregate_login_work_sequencer")).settings, ["audit"])
    assert refused.value.detail.startswith(
        "faregate_login_work_sequencer may not become faregate_credit; `faregate database roles`"
    )
    with pytest.raises(RolesNotGranted, match="faregate_access, faregate_gateway"):
        http.run_api(site_of(settings, login_url("faregate_login_work_audit")).settings, ["gateway"])


# Logins


def test_a_login_that_is_made_again_loses_what_it_no_longer_needs(database_url: str) -> None:
    for parts in (("credit", "gateway"), ("credit",)):
        make_logins(database_url, {"faregate_login_changing": ("s3cret", parts)})
    with pytest.raises(RolesNotGranted, match="may not become faregate_gateway;"):
        require_roles(database_url.replace("postgres@", "faregate_login_changing@"), ["credit", "gateway"])


def test_a_password_is_stored_as_a_verifier_and_was_never_sent(database_url: str) -> None:
    make_logins(database_url, {"faregate_login_secret": ("s3cret", ("credit",))})
    with psycopg.connect(database_url) as conn:
        query = "select rolpassword from pg_authid where rolname = 'faregate_login_secret'"
        row = conn.execute(query).fetchone()
    assert row is not None
    assert row[0].startswith("SCRAM-SHA-256$")


def test_the_command_shows_every_login_and_makes_those_that_have_a_password(
    database_url: str, settings: Settings, tmp_path: Path
) -> None:
    assert settings.valkey_url
    servers = {
        "FAREGATE_HOME": str(settings.home),
        "FAREGATE_DATABASE_URL": database_url,
        "FAREGATE_VALKEY_URL": settings.valkey_url.get_secret_value(),
    }
    (file := tmp_path / "passwords").write_text("faregate_login_work_audit s3cret\n\n")
    command = ["database", "roles", "--json", "--passwords", str(file)]
    shown = CliRunner(env=servers).invoke(app, command)
    assert '"login": "faregate_login_work_audit",\n    "process": "faregate work audit"' in shown.stdout
    assert shown.stdout.count('"login"') == len(logins())
    file.write_text("faregate_login_work_audit\n")
    assert line(*command, **servers) == "line 1 of the passwords is not LOGIN PASSWORD"
    file.write_text("somebody s3cret\n")
    assert line(*command, **servers).startswith("there is no login 'somebody'")


# What cannot be started


UNKNOWN = [
    (["serve", "credits"], f"there is no context 'credits'; there are {', '.join(CONTEXTS)}"),
    (["work", "sealer"], "there is no role 'sealer'; there are sequencer, relay, consumers, runs"),
    (["work", "consumers.credit"], "consumers.credit.runs, consumers.credit.signals"),
]


@pytest.mark.parametrize(("command", "says"), UNKNOWN)
def test_an_unknown_name_is_one_line_that_lists_the_known_ones(command: list[str], says: str) -> None:
    assert says in line(*command)


def test_the_relay_alone_has_nothing_to_do_without_another_bus(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "observe", lambda *_: None)
    with pytest.raises(Exception, match="relay: there is nothing to do with these settings"):
        worker.run_worker(settings, [RELAY])


def test_a_worker_without_runs_does_not_even_import_the_workflow_engine() -> None:
    asked = "import sys, faregate.entrypoints.worker; sys.exit('dbos' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


# The schema


@pytest.mark.requirement("P2")
def test_a_login_that_may_not_migrate_only_says_that_the_schema_is_behind(
    database_url: str, login_url: LoginUrl
) -> None:
    url = login_url("faregate_login_serve")
    migrate(url)
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("update public.alembic_version set version_num = '0001'")
    with pytest.raises(SchemaBehind) as behind:
        migrate(url)
    assert behind.value.detail == (
        f"the database is at revision 0001 and must be at {newest_revision()}: "
        "run `faregate database migrate` as its administrator"
    )


@pytest.mark.requirement("P2")
def test_a_schema_that_is_ahead_of_the_code_is_left_alone(database_url: str, login_url: LoginUrl) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("update public.alembic_version set version_num = '9999'")
        migrate(login_url("faregate_login_serve"))
        migrate(database_url)
        row = conn.execute("select version_num from public.alembic_version").fetchone()
    assert row == ("9999",)
