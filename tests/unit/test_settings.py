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


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (8080, 8080),
        ("http://localhost:1/x", "http://localhost:1/x"),
        ("http://me:secret@localhost/x", "http://me:********@localhost/x"),
        (SecretStr("plain secret"), "********"),
        (SecretStr("postgresql://me:secret@db:5/x?host=/run"), "postgresql://me:********@db:5/x?host=/run"),
        (SecretStr("postgresql://db/x?password=secret"), "********"),
        (SecretStr("host=db password=secret"), "********"),
        (SecretStr("unix:///run/valkey.sock"), "unix:///run/valkey.sock"),
    ],
)
def test_what_is_shown_keeps_the_address_and_masks_the_secret(value: object, shown: object) -> None:
    assert masked(value) == shown


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
