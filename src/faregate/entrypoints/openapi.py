"""Writes `schemas/openapi.json`, the API as clients see it: `python -m faregate.entrypoints.openapi [--check]`.

The routes are built without servers behind them: only their documentation is asked for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from faregate.entrypoints.bootstrap.api import describe

TARGET = Path(__file__).parents[3] / "schemas" / "openapi.json"


def document_text() -> str:
    """Return the document as it is committed."""
    return json.dumps(describe(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the document, or with `--check` compare it; 1 if it has drifted."""
    text = document_text()
    if "--check" in arguments:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write(f"{TARGET} has drifted: run make schemas\n")
        return 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
