"""Facts that a ruleset converts itself: an amount by the factor of its currency, so that one limit holds for all.

The factors stand in the document, with the rules that need them, as text that is read as an exact fraction. They are
for comparing, not for exchanging.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from faregate.kernel.errors import InvalidError


class ConversionInvalid(InvalidError):
    """A conversion names a fact, what it is `of`, `by` what, and a positive factor for each value of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """`fact` is `of` times the factor of `by`, as a whole number, halves up; None where there is no factor."""

    fact: str
    of: str
    by: str
    factors: Mapping[str, Fraction]

    def value(self, facts: Mapping[str, Any]) -> int | None:
        """Return the converted fact."""
        amount, by = facts.get(self.of), facts.get(self.by)
        factor = self.factors.get(by) if isinstance(by, str) else None
        if factor is None or type(amount) is not int:
            return None
        return (2 * amount * factor.numerator + factor.denominator) // (2 * factor.denominator)


def read_conversions(found: object) -> tuple[Conversion, ...]:
    """Return the conversions of a document. Raises `ConversionInvalid`."""
    if not isinstance(found, list):
        raise ConversionInvalid("conversions must be a list")
    return tuple(_conversion(one) for one in found)


def _conversion(found: object) -> Conversion:
    if not isinstance(found, Mapping) or found.keys() != {"fact", "of", "by", "factors"}:
        raise ConversionInvalid("a conversion has fact, of, by and factors")
    names, factors = [found[key] for key in ("fact", "of", "by")], found["factors"]
    if not all(isinstance(name, str) and name for name in names) or not isinstance(factors, Mapping):
        raise ConversionInvalid("fact, of and by are names of facts, factors an object")
    try:
        read = {str(by): Fraction(factor) for by, factor in factors.items() if isinstance(factor, str)}
    except (ValueError, ZeroDivisionError) as error:
        raise ConversionInvalid(f'factors must be text such as "1.08": {error}') from error
    if len(read) != len(factors) or not all(factor > 0 for factor in read.values()):
        raise ConversionInvalid('factors must be text such as "1.08", above 0')
    return Conversion(fact=names[0], of=names[1], by=names[2], factors=read)
