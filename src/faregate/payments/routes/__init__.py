"""The routes of payments."""

from faregate.payments.routes.authorizations import authorisation_routes
from faregate.payments.routes.cards import card_routes
from faregate.payments.routes.edge import CARDS_SCOPE, POLICY_SCOPE, PaymentsEdge
from faregate.payments.routes.policy import policy_routes

__all__ = [
    "CARDS_SCOPE",
    "POLICY_SCOPE",
    "PaymentsEdge",
    "authorisation_routes",
    "card_routes",
    "policy_routes",
]
