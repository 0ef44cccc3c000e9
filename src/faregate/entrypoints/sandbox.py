"""The sandbox process: the outside world until SIGTERM or SIGINT."""

from __future__ import annotations

from pathlib import Path

import structlog
from pydantic import ValidationError

from faregate.entrypoints.bootstrap.providers import sandbox_credentials
from faregate.entrypoints.bootstrap.transfers import transfer_drop
from faregate.entrypoints.servers import observe
from faregate.infra.clock import SystemClock
from faregate.infra.failures import invalid_fields
from faregate.infra.settings import Settings
from faregate.kernel.errors import InvalidError
from faregate.sandbox.faults import FaultPlan
from faregate.sandbox.server import SandboxSettings, run_sandbox

_log = structlog.get_logger(__name__)


class FaultsUnreadable(InvalidError):
    """The file is no plan of faults."""


def read_faults(path: Path | None) -> FaultPlan:
    """Read what goes wrong; without a file nothing does. Raises FaultsUnreadable and OSError."""
    if path is None:
        return FaultPlan()
    try:
        return FaultPlan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise FaultsUnreadable(f"{path} is no plan of faults: {invalid_fields(error)}") from None


def run_sandbox_process(settings: Settings, *, plan: FaultPlan, data_dir: Path | None) -> None:
    """Serve the outside world until a signal."""
    observe(settings, "faregate-sandbox")
    sandbox = SandboxSettings(
        data_dir=data_dir or settings.home / "sandbox",
        credentials=sandbox_credentials(settings),
        host=settings.sandbox_host,
        port=settings.sandbox_port,
        plan=plan,
        transfer_drop=transfer_drop(settings),
    )
    run_sandbox(sandbox, clock=SystemClock(), ready=lambda url: _log.info("sandbox_ready", url=url))
