"""Runs `0024_travel_before.sql`. `before` in the name: it runs before the code that needs it is deployed."""

from faregate.infra.migrations import run_sql_beside

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    run_sql_beside(__file__)
