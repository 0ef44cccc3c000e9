"""The partners of travel: which there are, and how each is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

import aiohttp

from faregate.gateway.declarations import Declarations
from faregate.infra.clock import SystemClock
from faregate.infra.settings import Settings
from faregate.travel.contracts.partners import Partner
from faregate.travel.partners.airline_a import AirlineA
from faregate.travel.partners.airline_b import AirlineB
from faregate.travel.partners.hotel_c import HotelC
from faregate.travel.partners.hotel_d import HotelD

MakePartner = Callable[[aiohttp.ClientSession], Partner]


def partners(settings: Settings) -> Mapping[str, MakePartner]:
    """Return what makes the adapter of each partner, given connections that it shares with nobody."""
    clock = SystemClock()
    return {
        "airline_a": lambda session: AirlineA(
            session=session,
            base_url=settings.provider_url("airline_a"),
            token=settings.airline_a_token.get_secret_value(),
        ),
        "airline_b": lambda session: AirlineB(
            session=session,
            base_url=settings.provider_url("airline_b"),
            secret=settings.airline_b_secret.get_secret_value(),
            clock=clock,
        ),
        "hotel_c": lambda session: HotelC(
            session=session,
            base_url=settings.provider_url("hotel_c"),
            api_key=settings.hotel_c_key.get_secret_value(),
            secret=settings.hotel_c_secret.get_secret_value(),
            clock=clock,
        ),
        "hotel_d": lambda session: HotelD(
            session=session,
            base_url=settings.provider_url("hotel_d"),
            api_key=settings.hotel_d_key.get_secret_value(),
            clock=clock,
        ),
    }


def partner_declarations(settings: Settings) -> Declarations:
    """Read how the partners are to be treated. Raises PolicyInvalid with the line of what is wrong."""
    comes_along = files("faregate.travel") / "artefacts" / "partners.toml"
    source: Traversable = settings.partner_policies or comes_along
    return Declarations(source.read_text(encoding="utf-8"), source=str(source))
