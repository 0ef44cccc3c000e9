"""What an examination of a ruleset found, each finding with its place. Finding it does not belong here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """Errors refuse a ruleset, warnings ask for a second look, notes say what could not be examined."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Kind(StrEnum):
    """What is found."""

    DOCUMENT = "document"
    GRAPH = "graph"
    SCHEMA = "schema"
    BROKEN_CELL = "broken_cell"
    NOT_REPEATABLE = "not_repeatable"
    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_CODE = "unknown_code"
    UNMAPPED_CODE = "unmapped_code"
    UNREACHABLE_ROW = "unreachable_row"
    GAP = "gap"
    OVERLAP = "overlap"
    NOT_ANALYSED = "not_analysed"
    CASE = "case"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding; `column` is a table's column, an expression's key or a switch's statement."""

    message: str
    kind: Kind
    severity: Severity = Severity.ERROR
    node: str | None = None
    row: str | None = None
    column: str | None = None

    @property
    def text(self) -> str:
        """The finding as one line with its place."""
        row = f"rule {self.row}" if self.row else None
        column = f"column {self.column}" if self.column else None
        return ": ".join(part for part in (self.node, row, column, self.message) if part)

    def document(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return {
            "severity": self.severity.value,
            "kind": self.kind.value,
            "node": self.node,
            "row": self.row,
            "column": self.column,
            "message": self.message,
        }
