"""Settings: documented, overridable, and never shown with their secrets."""

from __future__ import annotations

import re

import orjson
import pytest
import typer
from pydantic import SecretStr, ValidationError
from typer.testing import CliRunner

from faregate.entrypoints.config_command import config, masked, shown_settings
from faregate.infra.settings import Settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))


def run_config(*arguments: str, **environment: str) -> str:
    app = typer.Typer()
    app.command()(config)
    result = CliRunner().invoke(app, list(arguments), env=environment)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_in_a_sentence(name: str) -> None:
    assert re.fullmatch(r"[A-Z].{15,90}\.", Settings.model_fields[name].description or "")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_what_sounds_secret_is_typed_as_a_secret(name: str) -> None:
    if name.endswith(("_secret", "_password", "_api_key", "_keys", "database_url", "valkey_url")):
        assert "SecretStr" in str(Settings.model_fields[name].annotation)


def test_defaults_need_no_configuration() -> None:
    settings = Settings(_env_file=None)
    assert settings.database_url is None
    assert settings.provider_url("kyc") == "http://127.0.0.1:8090/kyc"


def test_a_provider_has_its_own_address_when_one_is_set() -> None:
    settings = Settings(_env_file=None, kyc_url="https://kyc.example/v2/")
    assert settings.provider_url("kyc") == "https://kyc.example/v2"


def test_a_value_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREGATE_TRACE_SAMPLE_RATIO", "2")
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Settings(_env_file=None)


def test_a_secret_is_in_no_representation() -> None:
    settings = Settings(_env_file=None, fraud_hmac_secret=SecretStr("tell-nobody"))
    assert "tell-nobody" not in f"{settings!r} {settings} {settings.model_dump_json()}"


SHOWN: list[tuple[str, object, object]] = [
    ("bureau_url", None, None),
    ("api_port", 8080, 8080),
    ("bureau_alt_user", "me@example.org", "me@example.org"),
    ("bureau_url", "http://localhost:1/x", "http://localhost:1/x"),
    ("bureau_url", "http://[::1]:1/x", "http://[::1]:1/x"),
    ("bureau_url", "http://me:secret@localhost/x", "http://********@localhost/x"),
    ("bureau_url", "http://secret@localhost/x", "http://********@localhost/x"),
    ("bureau_url", "http://h/?password=secret", "http://h/?********"),
    ("trace_endpoint", "http://h/v1?host=secret#secret", "http://h/v1?********#********"),
    ("bureau_url", "http://me:secret[@h/x", "********"),
    ("bureau_url", " http://me:secret@h/x", "********"),
    ("bureau_url", "me:secret@h/x", "********"),
    ("bureau_api_key", SecretStr("plain secret"), "********"),
    ("bureau_api_key", SecretStr("abc://secret"), "********"),
    ("pii_keys", SecretStr("https://me:secret@h/x"), "********"),
    ("database_url", SecretStr("postgresql://me:secret@db:5/x"), "postgresql://me:********@db:5/x"),
    ("database_url", SecretStr("postgresql://me:se@cret@db/x"), "postgresql://me:********@db/x"),
    (
        "database_url",
        SecretStr("postgresql://me@/x?host=/run&port=5"),
        "postgresql://me@/x?host=/run&port=5",
    ),
    (
        "database_url",
        SecretStr("postgresql://db/x?password=secret&host=/run"),
        "postgresql://db/x?host=/run&********",
    ),
    ("database_url", SecretStr("postgresql://db/x?host=h;password=secret"), "postgresql://db/x?********"),
    ("database_url", SecretStr("postgresql://me:se[cret@h/db"), "********"),
    ("database_url", SecretStr("postgresql://me:se/cret@h/db"), "********"),
    ("database_url", SecretStr("postgresql://me:12/secret@h/db"), "********"),
    ("database_url", SecretStr("postgresql://me:12#secret@h/db"), "********"),
    ("database_url", SecretStr("postgresql://h/db;password=secret"), "********"),
    ("database_url", SecretStr("host=db password=secret"), "********"),
    ("valkey_url", SecretStr("unix:///run/valkey.sock"), "unix:///run/valkey.sock"),
    ("valkey_url", SecretStr("redis://:secret@h:1/0"), "redis://:********@h:1/0"),
    ("valkey_url", SecretStr("redis://h:1/0?token=secret"), "redis://h:1/0?********"),
    ("valkey_url", SecretStr("redis://h:1/0?host=secret"), "redis://h:1/0?********"),
    ("valkey_url", SecretStr("secret:secret://secret"), "********"),
]


@pytest.mark.parametrize(("name", "value", "shown"), SHOWN)
def test_what_is_shown_keeps_the_address_and_masks_the_secret(
    name: str, value: object, shown: object
) -> None:
    assert masked(name, value) == shown


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FAREGATE_BUREAU_API_KEY", "abc://supersecret"),
        ("FAREGATE_VALKEY_URL", "redis://h:1/0?token=supersecret"),
        ("FAREGATE_BUREAU_URL", "http://h/[/x]?password=supersecret"),
        ("FAREGATE_DATABASE_URL", "postgresql://u:super[secret@h/db"),
    ],
)
def test_the_command_shows_no_secret_whatever_the_url(form: list[str], variable: str, value: str) -> None:
    output = run_config(*form, COLUMNS="200", **{variable: value})
    assert variable in output
    assert "secret@" not in output
    assert "supersecret" not in output


def test_the_command_tells_value_source_and_purpose_as_json() -> None:
    shown = orjson.loads(run_config("--json", FAREGATE_API_PORT="9", FAREGATE_PII_KEYS='{"k1": "AAAA"}'))
    assert shown["FAREGATE_API_PORT"] == {
        "value": 9,
        "source": "environment",
        "description": "Port of the API; 0 takes a free one.",
    }
    assert shown["FAREGATE_PII_KEYS"]["value"] == "********"


def test_the_command_prints_a_table_without_secrets() -> None:
    output = run_config(COLUMNS="200", FAREGATE_BUREAU_API_KEY="tell-nobody")
    assert "FAREGATE_BUREAU_API_KEY" in output
    assert "tell-nobody" not in output


def test_the_source_is_the_environment_before_the_file_before_the_default() -> None:
    settings = Settings(_env_file=None)
    shown = shown_settings(
        settings,
        environment={"faregate_api_port": "1"},
        file={"FAREGATE_API_PORT": "2", "FAREGATE_API_HOST": "::1"},
    )
    sources = [shown[f"FAREGATE_API_{name}"].source for name in ("PORT", "HOST")]
    assert [*sources, shown["FAREGATE_HOME"].source] == ["environment", ".env", "default"]
