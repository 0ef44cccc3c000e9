"""The HTTP face of travel. Each endpoint reads, asks the `api`, answers; nothing is decided here."""

from faregate.travel.routes.travel import travel_routes

__all__ = ["travel_routes"]
