"""The API is what its OpenAPI document says: Schemathesis asks every route, with all checks on, as every caller.

A short run with the same cases each time; `make fuzz` runs for as long as one likes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog
from tools.fuzz import CALLERS, CallerKey, fuzz, keys_of

from faregate.infra.http.edge import Limits
from faregate.infra.http.server import serving
from tests.credit_world import CreditWorld, shared_world
from tests.integration.http_world import make_app

__all__ = ["shared_world"]
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

REPEATABLE = ("--generation-deterministic", "--no-shrink")
SHORT = {
    "everything allowed": ("--phases", "examples,coverage,stateful", "--max-examples", "1"),
    "two clients": ("--phases", "stateful", "--max-examples", "1"),
    "no key": ("--phases", "fuzzing", "--max-examples", "1"),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of requests would hide what a failure says."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


@pytest.mark.requirement("C11")
async def test_every_route_keeps_to_the_openapi_document_for_every_caller(shared_world: CreditWorld) -> None:
    async def fuzzed(caller: CallerKey) -> tuple[int, str]:
        tokens = await keys_of(shared_world.site, caller)
        return await fuzz(shared_world.url, tokens=tokens, options=(*REPEATABLE, *SHORT[caller.name]))

    callers = [caller for caller in CALLERS if caller.name in SHORT]
    assert len(callers) == len(SHORT)
    for caller, (status, output) in zip(callers, await asyncio.gather(*map(fuzzed, callers)), strict=True):
        assert status == 0, f"{caller.name}\n{output}"


async def test_an_api_that_breaks_its_document_is_found_out() -> None:
    async with serving(make_app(limits=Limits(request_s_max=0.2))) as url:
        options = (*REPEATABLE, "--max-examples", "1", "--phases", "fuzzing")
        status, output = await fuzz(url, tokens={}, options=options)
    assert status == 1
    assert {"GET /crash", "POST /orders"} <= {line.strip(" _") for line in output.splitlines()}, output
