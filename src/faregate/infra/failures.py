"""One line for each failure of what surrounds the program: its settings, PostgreSQL, files and ports.

Where the line goes belongs to the command line, and situations with a name of their own to `kernel.errors`.
Neither a setting's value nor anything that stands in a row is ever part of a line.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable

import psycopg
from pydantic import ValidationError
from pydantic_settings import SettingsError

from faregate.infra.settings import ENV_FILE, ENV_PREFIX, Settings
from faregate.kernel.errors import FaregateError

_PORTS = ", ".join(f"{ENV_PREFIX}{part}_PORT" for part in ("API", "WORKER", "SANDBOX"))
_DATABASE = f"{ENV_PREFIX}DATABASE_URL"


def line_of(error: Exception) -> str | None:
    """Return what happened and what to do about it, or None for an error that nobody expects."""
    for kind, explain in _EXPLANATIONS.items():
        if isinstance(error, kind):
            text = explain(error)
            return None if text is None else " ".join(text.split())
    return None


def invalid_fields(error: ValidationError) -> str:
    """Return each invalid field with what is wrong about it, without its value."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(": ".join(filter(None, [_place(e["loc"]), _lower(e["msg"])])) for e in found)


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _settings(error: ValidationError) -> str | None:
    if error.title != Settings.__name__:
        return None
    found = error.errors(include_url=False, include_context=False, include_input=False)
    wrong = "; ".join(f"{ENV_PREFIX}{_place(e['loc']).upper()}: {_lower(e['msg'])}" for e in found)
    return f"{wrong}. Correct it in the environment or in {ENV_FILE}"


def _unparsed(error: SettingsError) -> str | None:
    field = re.search(r'field "(\w+)"', str(error))
    if field is None:
        return None
    meaning = Settings.model_fields[field[1]].description
    return f"{ENV_PREFIX}{field[1].upper()} is no JSON. Correct it in the environment or in {ENV_FILE}: {meaning}"


def _connection(error: psycopg.OperationalError) -> str:
    first = str(error).partition("\n")[0]  # what follows is general advice
    return f"PostgreSQL cannot be used: {first}. Check {_DATABASE} and that the server runs"


def _database(error: psycopg.Error) -> str:
    if type(error) is psycopg.ProgrammingError and error.sqlstate is None:
        return f"{_DATABASE} is no URL of a PostgreSQL: write postgresql://user@host:5432/database"
    code = f" ({error.sqlstate})" if error.sqlstate else ""
    if isinstance(error, psycopg.DataError):
        return (
            f"a number or text that was given is none that PostgreSQL can hold{code}: correct or shorten it"
        )
    # PostgreSQL's own message may quote a value, and its detail quotes whole rows.
    return f"PostgreSQL refused a statement: {type(error).__name__}{code}; its log says more"


def _machine(error: OSError) -> str | None:
    if error.errno == errno.EADDRINUSE:
        return f"{error.strerror}: stop the process that has the port, or choose another one ({_PORTS})"
    if error.strerror is None:  # nobody but the program itself raised it
        return None
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


# The first kind that fits is taken.
_EXPLANATIONS: dict[type[Exception], Callable[..., str | None]] = {
    FaregateError: lambda error: error.detail,
    ValidationError: _settings,
    SettingsError: _unparsed,
    psycopg.OperationalError: _connection,
    psycopg.Error: _database,
    OSError: _machine,
}
