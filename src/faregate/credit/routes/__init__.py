"""The HTTP face of the credit context. Each endpoint reads, asks the `api`, answers; nothing is decided here."""

from faregate.credit.routes.applications import application_routes
from faregate.credit.routes.audit import audit_routes
from faregate.credit.routes.callbacks import CallbackSource, callback_routes
from faregate.credit.routes.notices import notice_routes
from faregate.credit.routes.redecisions import redecision_routes
from faregate.credit.routes.reviews import review_routes
from faregate.credit.routes.rulesets import ruleset_routes

__all__ = [
    "CallbackSource",
    "application_routes",
    "audit_routes",
    "callback_routes",
    "notice_routes",
    "redecision_routes",
    "review_routes",
    "ruleset_routes",
]
