"""Reads what operators declare about providers: one TOML file as the base, fields changed at run time on top of it.

    [defaults.send.bulkhead]        # for every provider
    in_flight_max = 64
    [providers.bureau.send.breaker] # for this one
    failure_rate = 0.3

A field is called as in the file, with dots: `send.breaker.failure_rate`. Every mistake is refused with its line or
field; nothing is guessed and nothing unknown is passed over.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from faregate.gateway.policies import declared
from faregate.gateway.policy import ProviderPolicy, RetryPolicy
from faregate.infra.failures import invalid_fields
from faregate.kernel.errors import InvalidError

Fields = Mapping[str, Any]
"""Values by dotted name."""

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class PolicyInvalid(InvalidError):
    """A declaration has an unknown field, a value outside of its limits, or fields that contradict each other."""


def _adapter() -> TypeAdapter[ProviderPolicy]:
    """Validate the frozen policies by their annotations; pydantic reads how strictly from the classes themselves."""
    policies: tuple[type[Any], ...] = (
        ProviderPolicy, RetryPolicy, declared.BreakerPolicy, declared.BulkheadPolicy, declared.RatePolicy,
        declared.RetryBudgetPolicy, declared.HedgePolicy, declared.OperationPolicy,
    )  # fmt: skip
    for of in policies:
        of.__pydantic_config__ = _STRICT
    return TypeAdapter(ProviderPolicy)


_ADAPTER = _adapter()


class Declarations:
    """The declarations of one file: a policy for each provider, made of the defaults and its own fields."""

    def __init__(self, text: str, *, source: str) -> None:
        """Read TOML. Raises PolicyInvalid with the line of what is wrong; `source` names the file in messages."""
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PolicyInvalid(f"{source} is no TOML: {error}") from None
        self._text, self._source = text, source
        if unknown := sorted(tree.keys() - {"defaults", "providers"}):
            raise self._invalid(unknown[0], "there are only [defaults…] and [providers.NAME…]")
        self._defaults = dict(_flat(self._table(tree, "defaults")))
        self._own = {
            name: dict(_flat(self._table(tree["providers"], name))) for name in self._table(tree, "providers")
        }
        for name, fields in [("defaults", {}), *((f"providers.{name}", f) for name, f in self._own.items())]:
            self._check(name, fields)

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that the file names."""
        return tuple(self._own)

    def fields(self, provider: str, overrides: Fields | None = None) -> Fields:
        """Return every field of a provider with its value, its own before the defaults, overrides before both."""
        return flat_fields(self.policy(provider, overrides))

    def policy(self, provider: str, overrides: Fields | None = None) -> ProviderPolicy:
        """Return a provider's policy; one that the file does not name has the defaults. Raises PolicyInvalid."""
        return read_policy({**self._defaults, **self._own.get(provider, {}), **(overrides or {})})

    def _check(self, section: str, fields: Fields) -> None:
        try:
            read_policy({**self._defaults, **fields})
        except PolicyInvalid as error:
            name = error.facts.get("field", "")
            raise self._invalid(f"{section}.{name}" if name else section, error.detail) from None

    def _table(self, tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        table = tree.get(name, {})
        if not isinstance(table, Mapping):
            raise self._invalid(name, "it must be a table")
        return table

    def _invalid(self, path: str, what: str) -> PolicyInvalid:
        place = f"{self._source}, line {_line_of(self._text, path)}" if self._text else self._source
        return PolicyInvalid(f"{place}: {what}", field=path)


def read_policy(fields: Fields) -> ProviderPolicy:
    """Make a policy of dotted fields; those left out have their plain values. Raises PolicyInvalid with the field."""
    try:
        # By JSON: of Python's values, strict validation would take a policy only as what it makes of it.
        return _ADAPTER.validate_json(json.dumps(_tree(fields), default=str))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise PolicyInvalid(invalid_fields(error), field=name) from None


def flat_fields(policy: ProviderPolicy) -> Fields:
    """Return every field of a policy by its dotted name."""
    return dict(_flat(asdict(policy)))


def parse_assignments(assignments: list[str]) -> Fields:
    """Read `field=value` with values as in TOML. Raises PolicyInvalid for what is not of that form."""
    fields: dict[str, Any] = {}
    for one in assignments:
        name, equals, value = one.partition("=")
        if not equals:
            raise PolicyInvalid(f"{one!r} is not of the form field=value", field=one)
        try:
            (fields[name.strip()],) = tomllib.loads(f"value = {value}").values()
        except ValueError:
            raise PolicyInvalid(f"{name}: {value!r} is no TOML value", field=name) from None
    return fields


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _tree(fields: Fields) -> Mapping[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping | list):
            raise PolicyInvalid(f"{name}: it must be one value; name its fields with dots", field=name)
        *tables, last = name.split(".")
        place = tree
        for table in tables:
            inner = place.setdefault(table, {})
            if not isinstance(inner, dict):
                raise PolicyInvalid(f"{name}: {table} is a value, not a table", field=name)
            place = inner
        place[last] = value
    return tree


def _line_of(text: str, path: str) -> int:
    """Return the line, from 1, that sets a dotted field, or the first one of the table that comes closest to it."""
    table, best, best_line = "", 0, 1
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.partition("#")[0].strip()
        if bare.startswith("["):
            table = bare.strip("[] ")
            name = table
        else:
            name = f"{table}.{bare.partition('=')[0].strip()}" if "=" in bare else ""
        if name and (path == name or path.startswith(f"{name}.")) and len(name) > best:
            best, best_line = len(name), number
    return best_line
