"""`faregate credit fairness`: approval rates by segment. Optional, for people; no decision reads it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from faregate.credit.contracts.record import FairnessReport
from faregate.credit.domain.fairness import SEGMENTATIONS, segmentation
from faregate.entrypoints.arguments import INT_MAX
from faregate.entrypoints.output import Json
from faregate.entrypoints.servers import on_site, open_credit
from faregate.kernel.errors import InvalidError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from faregate.entrypoints.bootstrap.site import Site

SUFFIXES = (".png", ".svg")
CAUTION = (
    "A report for people, where their law asks for one: no rule reads it, and a ratio alone proves nothing."
)


class PlotFormatUnknown(InvalidError):
    """A plot is written as .png or .svg."""


class EdgesMalformed(InvalidError):
    """Edges of bands are whole numbers with commas between them."""


def fairness(
    by: Annotated[str, typer.Option(help=f"What segments are made by: {', '.join(SEGMENTATIONS)}.")] = "age",
    edges: Annotated[
        str,
        typer.Option(
            help="Lower bounds of the bands of age or income, such as 25,40,62; unset: the usual ones."
        ),
    ] = "",
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day of submission (UTC).")
    ] = None,
    sample_min: Annotated[
        int, typer.Option(min=1, help="Fewer decided applications are a small sample.")
    ] = 30,
    plot: Annotated[Path | None, typer.Option(help="Also draw the ratios into this .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Compare the approval rates of segments of applicants by the four-fifths ratio. Optional: not a gate."""
    segments = segmentation(by, edges=_edges(edges))
    if plot is not None and plot.suffix not in SUFFIXES:
        raise PlotFormatUnknown(f"{plot} is neither {' nor '.join(SUFFIXES)}")
    start = since.replace(tzinfo=UTC) if since else None

    async def act(stack: AsyncExitStack, site: Site) -> FairnessReport:
        credit = await open_credit(stack, site)
        return await credit.fairness(segments, since=start, sample_min=sample_min)

    report = on_site(act)
    if plot is not None:
        draw(report, path=plot)
    if as_json:
        typer.echo(orjson.dumps(asdict(report)).decode())
    else:
        _print(report, console=Console())


def _edges(text: str) -> list[int]:
    try:
        found = [int(edge) for edge in text.split(",")] if text else []
    except ValueError:
        raise EdgesMalformed(f"{text!r} is no list of whole numbers") from None
    if any(abs(edge) > INT_MAX for edge in found):
        raise EdgesMalformed(f"{text!r} has a number that nothing reaches")
    return found


def _print(report: FairnessReport, *, console: Console) -> None:
    table = Table(
        report.by,
        "approved",
        "denied",
        "undecided",
        "rate",
        "ratio",
        "95 %",
        "",
        title="Approvals by segment",
    )
    for s in report.segments:
        rate = "" if s.approval_rate is None else f"{s.approval_rate:.1%}"
        ratio = "" if s.ratio is None else f"{s.ratio:.2f}"
        interval = "" if s.ratio_low is None else f"{s.ratio_low:.2f}-{s.ratio_high:.2f}"
        notes = [
            *(["below 4/5"] if s.is_below_four_fifths else []),
            *(["small sample"] if s.is_small_sample else []),
        ]
        numbers = (str(s.approved), str(s.denied), str(s.undecided))
        table.add_row(s.segment, *numbers, rate, ratio, interval, ", ".join(notes))
    console.print(table)
    console.print(f"Reference: {report.reference or 'none, nothing is decided'}. {CAUTION}")


def draw(report: FairnessReport, *, path: Path) -> None:
    """Draw the ratios with their intervals and the line of four fifths. The same report is the same picture."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "faregate", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 1.5 + 0.45 * len(report.segments)), layout="constrained")
        _draw_ratios(figure.subplots(), report)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_ratios(axes: Axes, report: FairnessReport) -> None:
    shown = [s for s in report.segments if s.ratio is not None]
    for place, s in enumerate(shown):
        low, high = s.ratio_low or 0.0, s.ratio_high or 0.0
        colour = "tab:red" if s.is_below_four_fifths else "tab:blue"
        axes.plot([low, high], [place, place], color=colour, alpha=0.3 if s.is_small_sample else 1.0)
        face = "white" if s.is_small_sample else colour
        axes.plot([s.ratio or 0.0], [place], marker="o", color=colour, markerfacecolor=face)
    axes.axvline(4 / 5, color="black", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(shown)), [f"{s.segment} (n={s.approved + s.denied})" for s in shown])
    axes.invert_yaxis()
    axes.set_xlabel(f"approval rate against {report.reference or 'none'}, with its 95 % interval")
    axes.set_title(f"Approvals by {report.by}; hollow: fewer than {report.sample_min} decided")
