"""Points as clients use them, and what is due in the ledger by itself."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import date, datetime, time
from importlib.resources import files
from importlib.resources.abc import Traversable
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from faregate.entrypoints.bootstrap.process import Opened, Process, instance
from faregate.entrypoints.bootstrap.site import Site
from faregate.infra.chain.sealer import Sealer
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.periodic import run_periodically
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Metrics
from faregate.kernel.errors import InvalidError
from faregate.kernel.ids import RANDOM_BYTES, uuid7
from faregate.points.api import PaymentEarning, PointsApi, TierKeeper
from faregate.points.contracts.liability import Valuation
from faregate.points.contracts.programme import Earner, EarnQuote, Purchase
from faregate.points.domain.case import Rules
from faregate.points.domain.programme import Programme, ProgrammeInvalid, earn_for, read_programme
from faregate.points.handlers.announce import announcer
from faregate.points.handlers.due import Due
from faregate.points.handlers.earning import EarnRules, publish_first_earn_rules
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store.chain import ANCHOR_FILE, CHAIN
from faregate.rules.api import Rulesets

HOLDS_S = 1.0
EXPIRY_S = 60.0
ANCHOR_S = 300.0
"""How often the end of the chain is noted: what is older cannot be rewritten unnoticed."""


class TimeZoneUnknown(InvalidError):
    """FAREGATE_PROGRAMME_TIME_ZONE names no time zone of the IANA database."""


async def points_api(stack: AsyncExitStack, site: Site, *, database: Database) -> PointsApi:
    """Open the ledger."""
    day_of = programme_day(site.settings)
    writer = LedgerWriter(
        database=database,
        day_of=day_of,
        announce=announcer(new_id=_new_id),
        rules=Rules(adjust_alone_max=site.settings.points_adjust_alone_max),
    )
    stack.push_async_callback(writer.close)
    programme = load_programme(site.settings)
    return PointsApi(
        database=database,
        writer=writer,
        day_of=day_of,
        anchor_file=site.settings.home / ANCHOR_FILE,
        partners=programme.partners,
        transfers=programme.transfers,
    )


async def points(process: Process) -> Opened:
    """Open the loops that release holds, let points expire, and seal what was done."""
    database = await process.database("points")
    api = await points_api(process.stack, process.site, database=database)
    due = Due(database=database, writer=api.writer, day_of=api.day_of)

    async def release_holds() -> None:
        await due.release_holds()

    async def expire_points() -> None:
        await due.expire_points()

    keeper = tier_keeper(process.site.settings)

    async def look_at_tiers() -> None:
        await keeper.look_at_overdue(database)

    async def anchor() -> None:
        await api.anchor(clock=SystemClock())

    _count_unsealed(process.metrics, api)
    sealer = Sealer(store=CHAIN, database=database, clock=SystemClock(), holder=instance())
    return Opened(
        loops={
            "points.sealer": sealer.run,
            "points.anchors": lambda stop: run_periodically(
                stop, name="points.anchors", every_s=ANCHOR_S, work=anchor
            ),
            "points.tiers_overdue": lambda stop: run_periodically(
                stop, name="points.tiers_overdue", every_s=EXPIRY_S, work=look_at_tiers
            ),
            "points.holds": lambda stop: run_periodically(
                stop, name="points.holds", every_s=HOLDS_S, work=release_holds
            ),
            "points.expiry": lambda stop: run_periodically(
                stop, name="points.expiry", every_s=EXPIRY_S, work=expire_points
            ),
        }
    )


def _count_unsealed(metrics: Metrics, points: PointsApi) -> None:
    links = metrics.gauge("faregate_points_links", "Operations that the chain over the ledger seals")
    rows = metrics.gauge("faregate_points_unsealed_operations", "Operations that wait to be sealed")
    seconds = metrics.gauge("faregate_points_unsealed_seconds", "Age of the oldest of them")

    async def probe() -> None:
        end = await points.chain_end()
        links.set(end.links)
        rows.set(end.unsealed)
        seconds.set(end.unsealed_s)

    metrics.add_probe(probe)


def load_programme(settings: Settings) -> Programme:
    """Read the programme: of FAREGATE_PROGRAMME_FILE, else the one that comes with faregate.

    Raises ProgrammeInvalid, which names the place.
    """
    file: Traversable = settings.programme_file or files("faregate.points") / "artefacts" / "programme.toml"
    try:
        return read_programme(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ProgrammeInvalid(f"{file}: {error}") from error


async def payment_earning(points: PointsApi, settings: Settings) -> PaymentEarning:
    """Return what lets payments earn; the first earn rules are published if there are none."""
    await publish_first_earn_rules(points.database, now=SystemClock().now())
    return PaymentEarning(
        database=points.database,
        writer=points.writer,
        programme=load_programme(settings),
        rules=EarnRules(Rulesets()),
        day_of=points.day_of,
        begins=_begins(settings),
    )


async def quote_now(
    database: Database, settings: Settings, *, purchase: Purchase, earner: Earner
) -> EarnQuote:
    """Return what a purchase would earn by what was active at its instant, or by the first earn rules there were."""
    await publish_first_earn_rules(database, now=SystemClock().now())
    at = purchase.occurred_at
    async with database.connection() as conn:
        rates = await EarnRules(Rulesets()).active_at(conn, [at])
    programme = load_programme(settings)
    return earn_for(purchase, earner, programme, rates=rates[at], on=programme_day(settings)(at))


def tier_keeper(settings: Settings) -> TierKeeper:
    """Return what keeps tiers."""
    return TierKeeper(
        programme=load_programme(settings),
        day_of=programme_day(settings),
        begins=_begins(settings),
        new_id=_new_id,
    )


def valuation_of(settings: Settings) -> Valuation:
    """Return what a point is worth."""
    return Valuation(
        value_micro_minor=settings.point_value_micro_minor,
        breakage_dated_bp=settings.point_breakage_bp,
        breakage_open_bp=settings.point_breakage_open_bp,
    )


def programme_day(settings: Settings) -> Callable[[datetime], date]:
    """Return what tells the programme's day of an instant. Raises TimeZoneUnknown."""
    zone = _zone(settings)
    return lambda instant: instant.astimezone(zone).date()


def noon(day: date, settings: Settings) -> datetime:
    """Return the middle of a day of the programme."""
    return datetime.combine(day, time(12), _zone(settings))


def _begins(settings: Settings) -> Callable[[date], datetime]:
    zone = _zone(settings)
    return lambda day: datetime.combine(day, time(), zone)


def _zone(settings: Settings) -> ZoneInfo:
    try:
        return ZoneInfo(settings.programme_time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise TimeZoneUnknown(f"{settings.programme_time_zone!r} is no time zone") from error


def _new_id() -> UUID:
    return uuid7(now=SystemClock().now(), random=os.urandom(RANDOM_BYTES))
