"""The HTTP face of fraud. Each endpoint reads, asks the `api`, answers; nothing is decided here."""

from faregate.fraud.routes.models import model_routes
from faregate.fraud.routes.scoring import scoring_routes

__all__ = ["model_routes", "scoring_routes"]
