"""Why a model gave its score: what each input contributed, gathered under reason codes that people understand.

Only what raised the score is a reason. Each feature has one code; the table is whole or it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from faregate.fraud.contracts.scoring import Reason
from faregate.fraud.domain.scoring import MODEL
from faregate.kernel.errors import InvalidError

REASONS_MAX: Final = 4


class ReasonTableIncomplete(InvalidError):
    """A feature has no reason code, or a code has no words: nobody could be told why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonTable:
    """The codes of features, and their words."""

    version: str
    codes: Mapping[str, str]
    features: Mapping[str, str]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> ReasonTable:
        """Return the table of a document. Raises ReasonTableIncomplete for a code without words."""
        table = cls(version=document["version"], codes=document["codes"], features=document["features"])
        if missing := sorted(set(table.features.values()) - {c for c, text in table.codes.items() if text}):
            raise ReasonTableIncomplete(f"no words for {', '.join(missing)}", codes=missing)
        return table

    def require_whole(self, names: Iterable[str]) -> None:
        """Raise ReasonTableIncomplete if one of these features has no code."""
        if missing := [name for name in names if name not in self.features]:
            raise ReasonTableIncomplete(f"no reason code for {', '.join(missing)}", features=missing)


def reasons_of_model(
    names: Sequence[str], contributions: Sequence[float], table: ReasonTable
) -> tuple[Reason, ...]:
    """Return the codes whose features raised the score together, the greatest first; equal ones by name."""
    raised: dict[str, float] = {}
    for name, contribution in zip(names, contributions, strict=True):
        code = table.features[name]
        raised[code] = raised.get(code, 0.0) + contribution
    ranked = sorted((code for code in raised if raised[code] > 0.0), key=lambda code: (-raised[code], code))
    return tuple(Reason(code, MODEL, table.codes[code]) for code in ranked[:REASONS_MAX])
