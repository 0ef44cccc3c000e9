"""Files of past payments with what rules see of them and whether they were frauds: Parquet, CSV or JSON lines.

A column is a fact by its name, `features.NAME` and `lists.NAME` with a dot; any other name is a feature. `is_fraud` is
true, false, or empty where it is not known; `amount_minor` and `currency` must be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb

from faregate.fraud.domain.rule_check import OWN_FACTS
from faregate.kernel.errors import InvalidError

PAGE: Final = 2_000
IS_FRAUD: Final = "is_fraud"
NEEDED: Final = frozenset({IS_FRAUD, "amount_minor", "currency"})
BESIDE: Final = frozenset({"payment_id", "occurred_at", "card_token", "member_id"})
"""Columns that say which payment it is, and are no facts of rules."""
_READERS: Final = {
    ".parquet": "read_parquet(?)",
    ".csv": "read_csv(?, header = true)",
    ".jsonl": "read_json(?, format = 'newline_delimited')",
    ".ndjson": "read_json(?, format = 'newline_delimited')",
}

Judged = tuple[dict[str, Any], bool | None]
"""The facts of a payment, and whether it was a fraud."""


class FactFileInvalid(InvalidError):
    """The file cannot be read as payments with their facts and labels."""


def payments_in(file: Path) -> Iterator[Judged]:
    """Yield the payments of a file in its order. Raises FactFileInvalid, mostly before the first."""
    with _opened(file) as found:
        names = [str(column[0]) for column in found.description or ()]
        if missing := sorted(NEEDED - set(names)):
            raise FactFileInvalid(f"{file.name} lacks the columns {', '.join(missing)}")
        places = [_place(name) for name in names]
        for number, row in enumerate(_rows(found, file), start=1):
            yield _judged(row, places, number=number, file=file)


@contextmanager
def _opened(file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise FactFileInvalid(f"{file.name}: give a file of {', '.join(_READERS)}")
    if not file.is_file():
        raise FactFileInvalid(f"{file} is not there")
    with duckdb.connect(config={"threads": 1}) as database:
        try:
            found = database.execute(f"select * from {reader}", [str(file)])  # noqa: S608 - the reader is a word of ours
        except duckdb.Error as error:
            raise FactFileInvalid(f"{file.name}: {_first_line(error)}") from error
        yield found


def _rows(found: duckdb.DuckDBPyConnection, file: Path) -> Iterator[tuple[Any, ...]]:
    try:
        while rows := found.fetchmany(PAGE):
            yield from rows
    except duckdb.Error as error:
        raise FactFileInvalid(f"{file.name}: {_first_line(error)}") from error


def _place(name: str) -> tuple[str, ...] | None:
    """Return where the value of a column stands among the facts, None for one that is none."""
    if name == IS_FRAUD:
        return (IS_FRAUD,)
    if name in BESIDE:
        return None
    group, dot, inner = name.partition(".")
    if dot and group in ("features", "lists"):
        return group, inner
    return (name,) if name in OWN_FACTS else ("features", name)


def _judged(row: tuple[Any, ...], places: list[tuple[str, ...] | None], *, number: int, file: Path) -> Judged:
    facts: dict[str, Any] = {"features": {}, "lists": {}}
    for place, value in zip(places, row, strict=True):
        if place is not None:
            (facts if len(place) == 1 else facts[place[0]])[place[-1]] = _plain(value)
    truth, amount, currency = facts.pop(IS_FRAUD), facts["amount_minor"], facts["currency"]
    if type(amount) is not int or amount < 0 or not isinstance(currency, str):
        raise FactFileInvalid(
            f"{file.name}, payment {number}: amount_minor is a whole number from 0, currency is text"
        )
    if truth not in (None, False, True):
        raise FactFileInvalid(f"{file.name}, payment {number}: is_fraud is true, false, 1, 0 or empty")
    return facts, None if truth is None else bool(truth)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, datetime | date) else value


def _first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0]
