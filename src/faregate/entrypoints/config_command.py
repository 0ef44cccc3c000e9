"""`faregate config`: what every setting is, where it comes from and what it is for. Secrets are masked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated
from urllib.parse import urlsplit

import orjson
import typer
from dotenv import dotenv_values
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from faregate.infra.settings import ENV_FILE, ENV_PREFIX, Settings

_MASK = "********"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One setting as it may be shown to anybody."""

    value: str | int | float | None
    source: str
    description: str


def config(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Print the effective settings, where each comes from and what it is for; secrets are masked."""
    shown = shown_settings(Settings(), environment=os.environ, file=dotenv_values(ENV_FILE))
    if as_json:
        document = {name: asdict(setting) for name, setting in shown.items()}
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        Console().print(_table(shown))


def shown_settings(
    settings: Settings, *, environment: Mapping[str, str], file: Mapping[str, str | None]
) -> Mapping[str, Shown]:
    """Describe every setting by the name of its variable, in the order of the class."""
    shown = {}
    for name, field in type(settings).model_fields.items():
        variable = f"{ENV_PREFIX}{name}".upper()
        shown[variable] = Shown(
            value=masked(getattr(settings, name)),
            source=_source(variable, environment=environment, file=file),
            description=field.description or "",
        )
    return shown


def masked(value: object) -> str | int | float | None:
    """Return the value as it may be shown: of a URL all but its password, of any other secret nothing."""
    if value is None or isinstance(value, int | float):
        return value
    if not isinstance(value, SecretStr):
        return _without_password(str(value)) or str(value)
    return _without_password(value.get_secret_value()) or _MASK


def _without_password(text: str) -> str | None:
    """The URL with its password masked; None for what is no URL, or may hide a secret in its query."""
    parts = urlsplit(text)
    if "://" not in text or "password" in parts.query:
        return None
    return text.replace(f":{parts.password}@", f":{_MASK}@") if parts.password else text


def _source(variable: str, *, environment: Mapping[str, str], file: Mapping[str, str | None]) -> str:
    if any(name.upper() == variable and value for name, value in environment.items()):
        return "environment"
    if any(name.upper() == variable and value for name, value in file.items()):
        return ENV_FILE
    return "default"


def _table(shown: Mapping[str, Shown]) -> Table:
    table = Table("setting", "value", "from", "what it is for")
    table.columns[0].no_wrap = True
    table.columns[1].overflow = "fold"
    for name, setting in shown.items():
        value = "–" if setting.value is None else str(setting.value)
        table.add_row(name, value, setting.source, setting.description)
    return table
