"""Points over HTTP."""

from faregate.points.routes.ledger import ledger_routes

__all__ = ["ledger_routes"]
