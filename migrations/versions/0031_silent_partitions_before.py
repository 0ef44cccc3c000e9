"""Runs `0031_silent_partitions_before.sql`. `before` in the name: it runs before the code that needs it is deployed."""

from faregate.infra.migrations import run_sql_beside

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    run_sql_beside(__file__)
