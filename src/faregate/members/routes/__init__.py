"""The HTTP face of the members context. Each endpoint reads, asks the `api`, answers; nothing is decided here."""

from faregate.members.routes.edge import Edge
from faregate.members.routes.households import household_routes
from faregate.members.routes.members import member_routes

__all__ = ["Edge", "household_routes", "member_routes"]
