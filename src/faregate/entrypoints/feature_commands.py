"""`faregate features`: what is declared, whether the engines agree, and how to fill Valkey again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.features.benchmark import BENCHMARK
from faregate.features.declarations import Aggregate, Feature
from faregate.features.feature_set import FeatureSet
from faregate.features.payments import PAYMENTS
from faregate.kernel.errors import NotFoundError

if TYPE_CHECKING:
    from faregate.bench.feature_equality import Equality
    from faregate.entrypoints.bootstrap.site import Site

SETS = {declared.name: declared for declared in (PAYMENTS, BENCHMARK)}
VERIFY_TIMEOUT_MS = 60_000

app = typer.Typer(
    no_args_is_help=True,
    help="Features over sliding windows: what is declared, whether the engines agree.",
    epilog="Example: faregate features list",
)


class FeatureSetUnknown(NotFoundError):
    """There is no set of features of that name."""


@app.command("list", epilog="Example: faregate features list fraud_benchmark --json")
def list_features(
    name: Annotated[str, typer.Argument(help=f"The set: {', '.join(SETS)}.")] = PAYMENTS.name,
    as_json: Json = False,
) -> None:
    """Show what is declared, with the version of the set."""
    declared = _set(name)
    if as_json:
        features = [asdict(feature) for feature in declared.features]
        echo_json({"set": declared.name, "version": declared.version, "features": features})
        return
    print_rows([_declaration(feature) for feature in declared.features], as_json=False)
    typer.echo(f"{declared.name}, version {declared.version}")


@app.command("verify", epilog="Example: faregate features verify --customers 500 --json")
def verify(
    customers: Annotated[
        int, typer.Option(help="Take the payments of so many customers only.", min=1, max=5_000)
    ] = 5_000,
    as_json: Json = False,
) -> None:
    """Compute every feature of the benchmark's 1,754,155 payments online and offline, and compare bit for bit.

    It runs on a Valkey of its own and takes minutes. The exit status is 1 if a single value differs.
    """
    found = asyncio.run(_verified(customers))
    if as_json:
        echo_json(found.as_json())
    else:
        print_rows(_rows(found), as_json=False)
        typer.echo(
            f"{found.skew.values:,} values of {found.skew.rows:,} payments: {_verdict(found)}; offline"
            f" {found.offline_s:.0f} s, online {found.online_s:.0f} s, {found.held_bytes / 1e6:,.0f} MB held"
        )
    if not found.skew.is_none:
        raise typer.Exit(1)


@app.command("rebuild", epilog="Example: faregate features rebuild")
def rebuild(as_json: Json = False) -> None:
    """Forget the features of live payments in Valkey, and fill them again from the event log.

    Until it is done, what needs them is not ready. A worker does it by itself when Valkey lost what it held.
    """
    from faregate.entrypoints.servers import on_site

    async def act(stack: AsyncExitStack, site: Site) -> int:
        from faregate.entrypoints.bootstrap.features import rebuild_features

        return await rebuild_features(stack, site, say=lambda done: _say(f"{done:,} events"))

    done = on_site(act)
    report = {"set": PAYMENTS.name, "version": PAYMENTS.version, "events": done}
    print_rows([report], as_json=as_json)


async def _verified(customers: int) -> Equality:
    from faregate.bench.feature_equality import verify_equality
    from faregate.infra.cache import Cache
    from faregate.infra.embedded import embedded_servers

    with (
        TemporaryDirectory(prefix="faregate-features-") as folder,
        embedded_servers(Path(folder) / "home", wanted={"valkey"}, end_with_us=True) as servers,
    ):
        cache = await Cache.open(f"unix://{servers.valkey_socket}", request_timeout_ms=VERIFY_TIMEOUT_MS)
        try:
            return await verify_equality(cache, customers=customers, say=_say)
        finally:
            await cache.close()


def _declaration(feature: Feature) -> dict[str, Any]:
    if feature.aggregate is Aggregate.RATIO:
        what = f"{feature.numerator} / {feature.denominator}"
    else:
        what = " ".join(str(part) for part in (feature.aggregate, feature.field) if part)
    return {
        "feature": feature.name,
        "what": what,
        "by": feature.by,
        "over": _span(feature.window_s),
        "grain": _span(feature.grain_s if feature.window_s else 0),
        "delay": _span(feature.delay_s),
        "itself": feature.counts_itself if feature.window_s else None,
        "default": feature.default,
    }


def _span(seconds: int) -> str | None:
    """Return a time in its largest whole unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return None


def _rows(found: Equality) -> list[dict[str, Any]]:
    return [
        {
            "feature": name,
            "match": counts.match,
            "mismatch": counts.mismatch,
            "missing": counts.missing,
            "extra": counts.extra,
            "SMAPE": counts.smape,
        }
        for name, counts in found.skew.by_feature.items()
    ]


def _verdict(found: Equality) -> str:
    return "all match" if found.skew.is_none else f"{found.skew.values - found.skew.matches:,} differ"


def _set(name: str) -> FeatureSet:
    if name not in SETS:
        raise FeatureSetUnknown(f"there is no set {name!r}; there are {', '.join(SETS)}")
    return SETS[name]


def _say(text: str) -> None:
    typer.echo(f"· {text}", err=True)
