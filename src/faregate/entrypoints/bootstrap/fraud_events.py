"""What takes events of behaviour in over HTTP."""

from __future__ import annotations

from faregate.entrypoints.bootstrap.site import key_rings
from faregate.fraud.handlers.ingest import Ingestion
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.security.pseudonym import Pseudonyms
from faregate.infra.settings import Settings


def ingestion_on(database: Database, settings: Settings) -> Ingestion:
    """Return what takes events in, on fraud's own database. Addresses have the key of the blind index."""
    pseudonyms = Pseudonyms(ring=key_rings(settings)["blind_index"])
    return Ingestion(database=database, clock=SystemClock(), pseudonyms=pseudonyms)
