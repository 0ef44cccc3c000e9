"""Runs `0026_due_providers_before.sql`. `before` in the name: it runs before the code that needs it is deployed."""

from faregate.infra.migrations import run_sql_beside

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    run_sql_beside(__file__)
