"""`faregate config`: what every setting is, where it comes from and what it is for. Secrets are masked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated
from urllib.parse import urlsplit

import typer
from dotenv import dotenv_values
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from faregate.entrypoints.output import echo_json
from faregate.infra.settings import ENV_FILE, ENV_PREFIX, Settings

_MASK = "********"
_SERVERS = frozenset({"database_url", "valkey_url"})  # the only secrets that are shown in part


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
        echo_json(document)
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
            value=masked(name, getattr(settings, name)),
            source=_source(variable, environment=environment, file=file),
            description=field.description or "",
        )
    return shown


def masked(name: str, value: object) -> str | int | float | None:
    """Return the setting's value as it may be shown: of a URL its address, of any other secret nothing."""
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, SecretStr):
        return _address(name, value.get_secret_value()) if name in _SERVERS else _MASK
    is_url = "://" in str(value) or name.endswith(("_url", "_endpoint"))
    return _address(name, str(value)) if is_url else str(value)


def _address(name: str, url: str) -> str:
    """The URL without what may be secret; nothing of it when its parts cannot be told apart for certain."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is no port, such as a password before an unescaped slash
    except ValueError:
        return _MASK
    start = f"{parts.scheme}://"
    misplaced = "@" in parts.path + parts.query + parts.fragment or set(parts.path) & set(";=&")
    if not parts.scheme or not url.lower().startswith(start) or misplaced:
        return _MASK
    login, at, host = parts.netloc.rpartition("@")
    user, colon, _password = login.partition(":")
    if name not in _SERVERS:
        login = _MASK if login else ""
    elif colon:
        login = f"{user}:{_MASK}"
    query = _query(name, parts.query)
    return f"{start}{login}{at}{host}{parts.path}{query}{f'#{_MASK}' if parts.fragment else ''}"


def _query(name: str, query: str) -> str:
    """The query masked, except that a database's may tell its host and port: the embedded one's are there."""
    given = query.split("&") if query else []
    kept = [one for one in given if name == "database_url" and re.fullmatch("(host|port)=[^=;]*", one)]
    shown = kept if len(kept) == len(given) else [*kept, _MASK]
    return f"?{'&'.join(shown)}" if shown else ""


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
        table.add_row(name, escape(value), setting.source, setting.description)
    return table
