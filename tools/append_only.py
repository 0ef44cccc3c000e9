"""Fails when a schema that was released is gone or was changed: git knows every one that there ever was.

python -m tools.append_only

A version that never left its branch may go, together with the commit that added it (amend, or squash).
What a version promises does not belong here; see `faregate.events.released`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASED = "schemas/released/*/*.json"


def added(root: Path) -> dict[str, str]:
    """Return every released file that a commit ever added, with the hash of what it was then."""
    log = ("log", "--first-parent", "-m", "--reverse", "--raw", "--no-abbrev", "--no-renames", "--format=")
    entries = _git(root, *log, "--diff-filter=A", "--", f":(glob){RELEASED}").splitlines()
    first: dict[str, str] = {}
    for entry in entries:
        change, path = entry.split("\t", maxsplit=1)
        first.setdefault(path, change.split(" ")[3])
    return first


def losses(root: Path) -> list[str]:
    """Return a sentence for each released file that is not what it was."""
    first = added(root)
    standing = [path for path in first if (root / path).is_file()]
    hashes = _git(root, "hash-object", "--", *standing).split() if standing else []
    present = dict(zip(standing, hashes, strict=True))
    return [
        f"{path} was released and is {'changed' if path in present else 'gone'}: readers and stored events name it"
        for path, was in sorted(first.items())
        if present.get(path) != was
    ]


def main() -> int:
    """Print what was lost, one line each; return the exit status."""
    if not (ROOT / ".git").exists():
        print("append_only: no git history here, nothing to compare with", file=sys.stderr)
        return 0
    if _git(ROOT, "rev-parse", "--is-shallow-repository").strip() == "true":
        print("append_only: a shallow clone, only the history that it has is compared", file=sys.stderr)
    found = losses(ROOT)
    for loss in found:
        print(loss, file=sys.stderr)
    return 1 if found else 0


def _git(root: Path, *arguments: str) -> str:
    run = subprocess.run(("git", *arguments), cwd=root, check=True, capture_output=True, text=True)
    return run.stdout


if __name__ == "__main__":
    sys.exit(main())
