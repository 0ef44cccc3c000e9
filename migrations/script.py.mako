"""Runs `${up_revision}_${slug}.sql`. `before` or `after` in the name: whether it runs before or after the deploy."""

from faregate.infra.migrations import run_sql_beside

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    run_sql_beside(__file__)
