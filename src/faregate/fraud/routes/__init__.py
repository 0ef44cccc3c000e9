"""The HTTP face of fraud. Each endpoint reads, asks the `api`, answers; nothing is decided here."""

from faregate.fraud.routes.scoring import scoring_routes

__all__ = ["scoring_routes"]
