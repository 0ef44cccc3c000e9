"""The partners of travel: which there are, and how each is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import aiohttp

from faregate.infra.settings import Settings
from faregate.travel.contracts.partners import Partner

MakePartner = Callable[[aiohttp.ClientSession], Partner]


def partners(settings: Settings) -> Mapping[str, MakePartner]:
    """Return what makes the adapter of each partner, given connections that it shares with nobody."""
    return {}
