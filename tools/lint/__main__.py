"""`python -m tools.lint [PATH ...]`: check the whole project, or these files; status 1 on a finding."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.lint.runner import check_files, check_tree


def main(arguments: list[str]) -> int:
    """Print what breaks a rule, one line each."""
    root = Path(__file__).resolve().parents[2]
    findings = check_files(root, arguments) if arguments else check_tree(root)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
