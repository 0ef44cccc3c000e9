"""Reads a payment policy, holds it to its rules, and finds the cell of a payment. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import combinations
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faregate.kernel.currencies import CURRENCIES
from faregate.kernel.errors import InvalidError, NotFoundError
from faregate.payments.contracts.payments import AMOUNT_MAX, Attempt, PaymentChannel
from faregate.payments.contracts.policy import (
    Band,
    BandTable,
    Cell,
    CellAction,
    Policy,
    Scope,
    ScorerState,
)

_NAME: Final = r"^[a-z][a-z0-9_]{0,39}$"
_STATES: Final = tuple(ScorerState)
COUNTRY_PATTERN: Final = r"^[A-Z]{2}$"


class PaymentPolicyInvalid(InvalidError):
    """The policy is not whole, or contradicts itself. `place` names the table, band and state.

    Every table has bands from 0 on without a gap or an overlap, the last without an end; every band has a cell for each
    state; one table is for everything that no other is for.
    """


class CurrencyUnknown(InvalidError):
    """The currency is no active code of ISO 4217."""


class PolicyVersionUnknown(NotFoundError):
    """There is no version of this number."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CellDocument(_Part):
    """What is done in one state."""

    action: CellAction = Field(strict=False)
    message: str | None = Field(default=None, min_length=1, max_length=500)


class BandDocument(_Part):
    """Amounts from one to another, both included, and what is done in each state."""

    name: str = Field(pattern=_NAME)
    from_minor: int = Field(ge=0, le=AMOUNT_MAX)
    to_minor: int | None = Field(default=None, ge=0, le=AMOUNT_MAX)
    cells: dict[str, CellDocument]


class ScopeDocument(_Part):
    """The payments that a table is for; what is left out is any."""

    currency: str | None = None
    merchant_categories: list[list[int]] | None = Field(default=None, min_length=1, max_length=100)
    channel: PaymentChannel | None = Field(default=None, strict=False)


class TableDocument(_Part):
    """Bands for the payments of a scope."""

    name: str = Field(pattern=_NAME)
    scope: ScopeDocument = ScopeDocument()
    bands: list[BandDocument] = Field(min_length=1, max_length=50)


class PaymentPolicyDocument(_Part):
    """A payment policy as people write it."""

    sanctioned_countries: list[str] = Field(max_length=300)
    review: Literal["approve_and_flag", "decline"]
    decline_message: str = Field(min_length=1, max_length=500)
    tables: list[TableDocument] = Field(min_length=1, max_length=100)


def read_policy(document: Mapping[str, Any]) -> Policy:
    """Return the policy that a document says. Raises PaymentPolicyInvalid, which names the place."""
    try:
        said = PaymentPolicyDocument.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise PaymentPolicyInvalid(f"{place}: {first['msg']}", place=place) from None
    for country in said.sanctioned_countries:
        if len(country) != 2 or not (country.isascii() and country.isalpha() and country.isupper()):
            raise _invalid("sanctioned_countries", "a country is two capital letters (ISO 3166)")
    tables = [_table(table) for table in said.tables]
    _check_scopes(tables)
    return Policy(
        sanctioned_countries=frozenset(said.sanctioned_countries),
        review=CellAction(said.review),
        decline_message=said.decline_message,
        tables=sorted(tables, key=lambda table: _rank(table.scope), reverse=True),
    )


def table_of(policy: Policy, attempt: Attempt) -> BandTable:
    """Return the table that a payment falls under: of those that are for it, the one that says most about it."""
    return next(table for table in policy.tables if _is_for(table.scope, attempt))


def band_of(table: BandTable, amount_minor: int) -> Band:
    """Return the band that an amount is in."""
    return next(band for band in table.bands if band.holds(amount_minor))


def trial_attempt(
    *, amount_minor: int, currency: str, merchant_category: int, channel: PaymentChannel, at: datetime
) -> Attempt:
    """Return a payment that nobody makes, by which a policy is tried. Raises CurrencyUnknown."""
    if currency not in CURRENCIES:
        raise CurrencyUnknown(f"{currency} is no active currency of ISO 4217")
    return Attempt(
        card_token=None,
        member_id=None,
        amount_minor=amount_minor,
        currency=currency,
        merchant="",
        merchant_category=merchant_category,
        channel=channel,
        country="",
        terminal_id=None,
        device_id=None,
        ip=None,
        ip_token=None,
        occurred_at=at,
    )


def _table(said: TableDocument) -> BandTable:
    scope = _scope(said.name, said.scope)
    bands = [_band(said.name, band) for band in said.bands]
    if len({band.name for band in bands}) != len(bands):
        raise _invalid(said.name, "two bands have the same name")
    _check_whole(said.name, bands)
    return BandTable(name=said.name, scope=scope, bands=bands)


def _scope(table: str, said: ScopeDocument) -> Scope:
    if said.currency is not None and said.currency not in CURRENCIES:
        raise _invalid(f"{table}.scope.currency", "no currency of ISO 4217")
    ranges = None
    if said.merchant_categories is not None:
        for pair in said.merchant_categories:
            if len(pair) != 2 or not 0 <= pair[0] <= pair[1] <= 9999:
                raise _invalid(
                    f"{table}.scope.merchant_categories", "a range is two categories, the lower first"
                )
        ranges = tuple((first, last) for first, last in said.merchant_categories)
    return Scope(currency=said.currency, merchant_categories=ranges, channel=said.channel)


def _band(table: str, said: BandDocument) -> Band:
    place = f"{table}.{said.name}"
    for name in said.cells:
        if name not in _STATES:
            raise _invalid(f"{place}.{name}", f"no state: there are {', '.join(_STATES)}")
    for state in _STATES:
        if state not in said.cells:
            raise _invalid(f"{place}.{state}", "there is no cell for this state")
    cells = {state: _cell(f"{place}.{state}", state, said.cells[state]) for state in _STATES}
    return Band(name=said.name, from_minor=said.from_minor, to_minor=said.to_minor, cells=cells)


def _cell(place: str, state: ScorerState, said: CellDocument) -> Cell:
    if state is ScorerState.UNAVAILABLE and said.action is CellAction.AS_SCORED:
        raise _invalid(place, "nothing was scored: say approve, approve_and_flag or decline")
    if said.action is CellAction.DECLINE and said.message is None:
        raise _invalid(place, "a decline needs a message for the cardholder")
    return Cell(action=said.action, message=said.message)


def _check_whole(table: str, bands: Sequence[Band]) -> None:
    """Hold bands to each other: from 0 on, each where the one before ends, the last without an end."""
    expected: int | None = 0
    for band in bands:
        place = f"{table}.{band.name}"
        if expected is None:
            raise _invalid(place, "the band before has no end")
        if band.from_minor != expected:
            word = "a gap" if band.from_minor > expected else "an overlap"
            raise _invalid(place, f"{word}: the band must begin at {expected}")
        if band.to_minor is not None and band.to_minor < band.from_minor:
            raise _invalid(place, "the band ends before it begins")
        expected = None if band.to_minor is None else band.to_minor + 1
    if expected is not None:
        raise _invalid(f"{table}.{bands[-1].name}", "the last band must have no end")


def _check_scopes(tables: Sequence[BandTable]) -> None:
    """Every payment has a table, and never two that say as much about it."""
    if len({table.name for table in tables}) != len(tables):
        raise _invalid("tables", "two tables have the same name")
    if not any(table.scope == Scope() for table in tables):
        raise _invalid("tables", "no table is for everything that no other is for: one needs an empty scope")
    for one, other in combinations(tables, 2):
        if _rank(one.scope) == _rank(other.scope) and _meet(one.scope, other.scope):
            raise _invalid(other.name, f"the scope overlaps that of {one.name}")


def _rank(scope: Scope) -> tuple[bool, bool, bool]:
    """What says more about a payment counts first: its category, then its channel, then its currency."""
    return (
        scope.merchant_categories is not None,
        scope.channel is not None,
        scope.currency is not None,
    )


def _meet(one: Scope, other: Scope) -> bool:
    """Whether two scopes of the same rank share a payment."""
    if one.currency != other.currency or one.channel != other.channel:
        return False
    return any(
        first <= there_last and there_first <= last
        for first, last in one.merchant_categories or [(0, 9999)]
        for there_first, there_last in other.merchant_categories or [(0, 9999)]
    )


def _is_for(scope: Scope, attempt: Attempt) -> bool:
    return (
        scope.currency in (None, attempt.currency)
        and scope.channel in (None, attempt.channel)
        and (
            scope.merchant_categories is None
            or any(first <= attempt.merchant_category <= last for first, last in scope.merchant_categories)
        )
    )


def _invalid(place: str, why: str) -> PaymentPolicyInvalid:
    return PaymentPolicyInvalid(f"{place}: {why}", place=place)
