"""The sandbox as a process for tests: `python -m tests.sandbox_process FOLDER PORT PLAN`.

It imports as little as it can, because tests start it often. Fixtures belong to `tests.sandbox`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from faregate.infra.clock import SystemClock
from faregate.sandbox.credentials import SandboxCredentials
from faregate.sandbox.faults import FaultPlan
from faregate.sandbox.server import SandboxSettings, run_sandbox

CREDENTIALS = SandboxCredentials.derived("tests")
LOOK_UP_LAG_S_MAX = 0.3


def main() -> None:
    """Serve until killed; prints one JSON line with the URL."""
    data_dir, port, plan = sys.argv[1:]
    settings = SandboxSettings(
        data_dir=Path(data_dir),
        port=int(port),
        credentials=CREDENTIALS,
        plan=FaultPlan.model_validate_json(plan),
        look_up_lag_s_max=LOOK_UP_LAG_S_MAX,
    )
    run_sandbox(settings, clock=SystemClock(), ready=_announce)


def _announce(url: str) -> None:
    sys.stdout.write(json.dumps({"url": url}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
