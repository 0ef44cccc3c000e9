"""The travel partners: one file each, each with the semantics of a real public API, all behind one base class."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from faregate.sandbox.credentials import SandboxCredentials
from faregate.sandbox.partners.airline_a import AirlineA
from faregate.sandbox.partners.airline_b import AirlineB
from faregate.sandbox.partners.base import Backstage, Twin
from faregate.sandbox.partners.hotel_c import HotelC
from faregate.sandbox.partners.hotel_d import HotelD

PARTNERS = ("airline_a", "airline_b", "hotel_c", "hotel_d")


def all_partners(backstage: Backstage, credentials: SandboxCredentials) -> Mapping[str, Twin]:
    """Return every partner by its name."""
    made: Mapping[str, Callable[[], Twin]] = {
        "airline_a": lambda: AirlineA(backstage, token=credentials.airline_a_token),
        "airline_b": lambda: AirlineB(backstage, secret=credentials.airline_b_secret),
        "hotel_c": lambda: HotelC(
            backstage, api_key=credentials.hotel_c_key, secret=credentials.hotel_c_secret
        ),
        "hotel_d": lambda: HotelD(backstage, api_key=credentials.hotel_d_key),
    }
    return {name: made[name]() for name in PARTNERS}
