"""A statement as a file: JSON and CSV for programs, PDF for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

import orjson

from faregate.points.contracts.reading import Source, Statement, StatementLine

MEDIA_TYPES: Final = {"json": "application/json", "csv": "text/csv", "pdf": "application/pdf"}
_COLUMNS: Final = (
    "operation", "at", "kind", "change", "held", "posted_after", "held_after", "subject", "reference",
    "from_operation", "from_earned_at", "from_expires_on", "from_amount",
)  # fmt: skip
_LINES_A_PAGE: Final = 58
_PAGE_INCHES: Final = (8.27, 11.69)


def as_json(statement: Statement) -> bytes:
    """Return the statement as JSON."""
    return orjson.dumps(asdict(statement))


def as_csv(statement: Statement) -> bytes:
    """Return the statement as CSV with a header: a row an operation, and for a spend one a source."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(_COLUMNS)
    for line in statement.lines:
        for source in line.sources or (None,):
            rows.writerow(_csv_row(line, source))
    return text.getvalue().encode()


def as_pdf(statement: Statement) -> bytes:
    """Return the statement as pages of A4."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    lines = list(_text_of(statement))
    pages = [lines[begin : begin + _LINES_A_PAGE] for begin in range(0, len(lines), _LINES_A_PAGE)]
    file = io.BytesIO()
    with PdfPages(file, metadata={"Title": f"Points of {statement.member_id}", "CreationDate": None}) as pdf:
        for number, page in enumerate(pages, start=1):
            figure = Figure(figsize=_PAGE_INCHES)
            text = "\n".join(page)
            figure.text(0.06, 0.95, text, family="monospace", fontsize=8, va="top", parse_math=False)
            figure.text(0.94, 0.03, f"{number} of {len(pages)}", fontsize=8, ha="right")
            pdf.savefig(figure)
    return file.getvalue()


FILES: Final = {"json": as_json, "csv": as_csv, "pdf": as_pdf}


def _csv_row(line: StatementLine, source: Source | None) -> Sequence[Any]:
    came = ("", "", "", "") if source is None else (
        source.operation, source.earned_at.isoformat(), source.expires_on or "", source.amount,
    )  # fmt: skip
    return (
        line.operation, line.at.isoformat(), line.kind.value, line.change, line.held, line.balance.posted,
        line.balance.held, line.subject or "", line.reference, *came,
    )  # fmt: skip


def _text_of(statement: Statement) -> Iterator[str]:
    yield f"Points of {statement.member_id}"
    yield f"{statement.since:%Y-%m-%d %H:%M %Z} to {statement.until:%Y-%m-%d %H:%M %Z}"
    yield ""
    yield f"{'at the beginning':<52}{statement.opening.posted:>14,}"
    for line in statement.lines:
        words = f"{line.words} {line.reference}".strip()[:34]
        yield f"{line.at:%Y-%m-%d %H:%M}  {words:<34}{line.change:>+14,}{line.balance.posted:>14,}"
        for source in line.sources:
            ends = f", to {source.expires_on}" if source.expires_on else ""
            yield f"{'':18}  {source.amount:,} earned {source.earned_at:%Y-%m-%d} (no. {source.operation}){ends}"
    yield ""
    closing = statement.closing
    yield f"{'at the end':<52}{closing.posted:>14,}"
    yield f"{'of which held':<52}{closing.held:>14,}"
