"""What every argument and option must be before anything is done: text, numbers and days that can be kept.

What a value means to one command does not belong here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faregate.kernel.errors import InvalidError

if TYPE_CHECKING:
    from typer._click.core import Command, Context, Parameter

Check = Callable[[Any], None]

CHARS_MAX = 2_048
"""As long as a URL may be, which is the longest text that anything keeps."""
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
YEAR_MIN, YEAR_MAX = 1900, 2999


class ArgumentRefused(InvalidError):
    """An argument or option has a value that nothing could keep."""


def words(chars_max: int, *, may_be_empty: bool = False) -> Callable[[str | None], str | None]:
    """Return what takes a text of people only if it says something and is not longer than this."""

    def check(text: str | None) -> str | None:
        if text is None:
            return text
        if not may_be_empty and not text.strip():
            raise ArgumentRefused("is empty: say something")
        if len(text) > chars_max:
            raise ArgumentRefused(f"has {len(text):,} characters: say it in {chars_max}")
        return text

    return check


Reason = Annotated[
    str, typer.Option(help="Why; it is kept for ever.", show_default=False, callback=words(500))
]


class Guard:
    """Refuses a parameter's value with the parameter's name. `inner` is the parameter's own callback."""

    def __init__(self, inner: Callable[..., Any] | None) -> None:
        self.inner = inner

    def __call__(self, context: Context, parameter: Parameter, value: Any) -> Any:
        """Return the value. Raises ArgumentRefused."""
        try:
            for one in value if isinstance(value, list | tuple) else [value]:
                _check(one)
            if parameter.required and value == "":
                raise ArgumentRefused("is empty: give it a value")
            return value if self.inner is None else self.inner(context, parameter, value)
        except ArgumentRefused as error:
            raise ArgumentRefused(f"{_named(parameter)} {error.detail}") from None


def guarded(command: Command) -> Command:
    """Return a command or group whose every parameter has a guard."""
    for inner in getattr(command, "commands", {}).values():
        guarded(inner)
    for parameter in command.params:
        if not isinstance(parameter.callback, Guard):
            parameter.callback = Guard(parameter.callback)
    return command


def _named(parameter: Parameter) -> str:
    option = parameter.opts[0]
    return option if option.startswith("-") else (parameter.metavar or option.upper())


def _check(value: object) -> None:
    """Raise ArgumentRefused for what neither PostgreSQL nor JSON could hold."""
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        raise ArgumentRefused(f"is out of range: give a number from {INT_MIN} to {INT_MAX}")
    elif isinstance(value, float) and not isfinite(value):
        raise ArgumentRefused("is no number that anything could be counted by: give a finite one")
    elif isinstance(value, datetime) and not YEAR_MIN <= value.year <= YEAR_MAX:
        raise ArgumentRefused(f"is out of range: give a day of the years {YEAR_MIN} to {YEAR_MAX}")


def _check_text(text: str) -> None:
    if len(text) > CHARS_MAX:
        raise ArgumentRefused(f"has {len(text):,} characters: give {CHARS_MAX:,} at most")
    if "\0" in text:
        raise ArgumentRefused("holds a NUL character: leave it out")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ArgumentRefused("is not UTF-8: write it so, or set the terminal to a UTF-8 locale") from None
