"""The load generator as a process of its own, sending credit applications or payments: a server must not wait for
its generator.

    report = await generate_apart(load, run="2026-11-21-1", on_progress=show)

The plan goes in over standard input, so that no key shows in a process list; lines of JSON come out:
progress, then the report. What is measured with it does not belong here.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvloop

from faregate.bench.loadgen import (
    Load,
    LoadReport,
    MakeRequest,
    NobodyListens,
    OnProgress,
    Progress,
    generate,
)
from faregate.bench.payment_load import payments
from faregate.kernel.errors import UnavailableError

APPLICATIONS, PAYMENTS = "applications", "payments"
SUBMIT_PATH = "/api/credit-applications"
ANSWER_BYTES_MAX = 1 << 20


class GeneratorDied(UnavailableError):
    """The generator's process ended without a report; its own words are in the detail."""


async def generate_apart(
    load: Load, *, run: str, on_progress: OnProgress | None = None, what: str = APPLICATIONS
) -> LoadReport:
    """Send `load.count` new credit applications, or payments, from a process of its own; return what came of it.

    `run` makes the keys and applicants of this run differ from those of any other. Raises NobodyListens when no
    connection can be opened at the start, GeneratorDied when the process ends without a report.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "faregate.bench.load_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=ANSWER_BYTES_MAX,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        return await _converse(process, {"load": asdict(load), "run": run, "what": what}, on_progress)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _converse(
    process: asyncio.subprocess.Process, plan: Mapping[str, Any], on_progress: OnProgress | None
) -> LoadReport:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise ValueError("the generator's process needs pipes")
    process.stdin.write(json.dumps(plan).encode())
    process.stdin.write_eof()
    async for line in process.stdout:
        message = orjson.loads(line)
        if "report" in message:
            return LoadReport(**message["report"])
        if "nobody_listens" in message:
            raise NobodyListens(message["nobody_listens"])
        if on_progress is not None:
            on_progress(Progress(**message["progress"]))
    words = (await process.stderr.read()).decode(errors="replace")
    raise GeneratorDied(f"the load generator ended without a report: {words[-2000:]}")


def applications(load: Load, *, run: str) -> MakeRequest:
    """Return the maker of the HTTP requests: request n is the application of another person, with its own
    key.
    """
    host = urlsplit(load.urls[0]).netloc
    fixed = "".join(f"{name}: {value}\r\n" for name, value in load.headers.items())
    head = f"POST {SUBMIT_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{fixed}"

    def request(number: int) -> bytes:
        body = orjson.dumps(application(number, run=run))
        key = f"Idempotency-Key: {run}-{number}\r\nContent-Length: {len(body)}\r\n\r\n"
        return f"{head}{key}".encode() + body

    return request


def application(number: int, *, run: str) -> dict[str, Any]:
    """Return the body of application `number` of a run; no two numbers or runs share an applicant."""
    return {
        "product_type": "cashback_card",
        "applicant": {
            "legal_name": f"Bench {run} {number}",
            "dob": f"{1955 + number % 50}-{1 + number % 12:02d}-{1 + number % 28:02d}",
            "ssn_last4": f"{number % 10_000:04d}",
            "annual_income": 20_000 + number % 60 * 1_000,
        },
        "amount": 500 + number % 100 * 50,
        "purpose": "radio_television",
    }


MAKERS = {APPLICATIONS: applications, PAYMENTS: payments}


def main() -> None:
    """Read the plan, send it, write lines of JSON."""
    plan = json.load(sys.stdin)
    load = Load(**{**plan["load"], "urls": tuple(plan["load"]["urls"])})
    uvloop.run(_main(load, MAKERS[plan["what"]](load, run=plan["run"])))


async def _main(load: Load, request: MakeRequest) -> None:
    def progress(progress: Progress) -> None:
        _say({"progress": asdict(progress)})

    try:
        report = await generate(load, request, on_progress=progress)
    except NobodyListens as error:
        _say({"nobody_listens": error.detail})
    else:
        _say({"report": asdict(report)})


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    main()
