"""Runs `0027_locked_redemptions_before.sql`. `before`: it runs before the code that needs it is deployed."""

from faregate.infra.migrations import run_sql_beside

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    run_sql_beside(__file__)
