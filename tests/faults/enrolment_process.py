"""A process that enrols and is killed before it commits: `python -m tests.faults.enrolment_process URL HOME`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from faregate.entrypoints.bootstrap.members import enroller_on, members_on
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import Listener, PostgresEventSource, Sequencer
from faregate.infra.settings import Settings
from faregate.kernel.event import Event
from faregate.members.consumers import consumer_groups
from tests.eventlog import LEASE_S, running


async def main(url: str, home: str) -> None:
    """Enrol, say so, and hold the transaction open until killed."""
    settings = Settings(_env_file=None, home=Path(home))  # type: ignore[call-arg]
    members, credit, log = [
        await Database.open(url, role=f"faregate_{part}") for part in ("members", "credit", "eventlog")
    ]
    enroller = enroller_on(settings, applications=credit)
    group, _ = consumer_groups(members=members_on(members, settings), enroller=enroller)

    async def enrol_and_hang(conn: Connection, events: Sequence[Event]) -> None:
        await group.handler(conn, events)
        sys.stdout.write("enrolled\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    sequencer = Sequencer(database=log, holder=uuid4().hex, lease_s=LEASE_S)
    async with Listener(members) as listener, running(sequencer.run):
        source = PostgresEventSource(listener=listener, lease_s=LEASE_S)
        member = source.subscribe(
            database=members, group=group.name, types=group.types, handler=enrol_and_hang
        )
        await member.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
