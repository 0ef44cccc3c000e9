"""Runs `0040_fraud_lists_before.sql`. `before` in the name: it runs before the code that needs it is deployed."""

from faregate.infra.migrations import run_sql_beside

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    run_sql_beside(__file__)
