"""Transfers of points to partners that are told by file."""

from __future__ import annotations

from pathlib import Path

from faregate.entrypoints.bootstrap.points import load_programme
from faregate.infra.database import Database
from faregate.infra.settings import Settings
from faregate.travel.handlers.tools import Tools
from faregate.travel.handlers.transfers import Exchange, TransferCounter, TransferDesk
from faregate.travel.partners.transfer_file import Drop


def transfer_drop(settings: Settings) -> Path:
    """Return the folder that the transfer partner shares with us."""
    return settings.transfer_drop or settings.home / "transfers"


def transfer_counter(settings: Settings, *, tools: Tools) -> TransferCounter:
    """Return where members ask for transfers."""
    return TransferCounter(tools=tools, takes_points=list(load_programme(settings).partners))


def transfer_desk(
    database: Database, exchange: Exchange, *, settings: Settings, tools: Tools
) -> TransferDesk:
    """Return what carries out transfers."""
    return TransferDesk(database=database, tools=tools, exchange=exchange, drop=Drop(transfer_drop(settings)))
