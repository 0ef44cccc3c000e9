"""The how-to for a new partner, done word for word to a copy of the project: its adapter is short, and it passes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOWTO = (ROOT / "docs/howto/add-a-partner.md").read_text()
LINES_MAX = 150


def files() -> dict[str, str]:
    """Return the files that the how-to writes out, by path."""
    return dict(re.findall(r"^`(src/\S+\.py)`\n\n```python\n(.*?)^```$", HOWTO, re.DOTALL | re.MULTILINE))


def changes() -> str:
    """Return what the how-to changes in files that are there."""
    [diff] = re.findall(r"^```diff\n(.*?)^```$", HOWTO, re.DOTALL | re.MULTILINE)
    return str(diff)


def test_the_adapter_of_the_howto_is_short() -> None:
    assert len(files()["src/faregate/travel/partners/hotel_f.py"].splitlines()) < LINES_MAX


@pytest.mark.requirement("L3")
def test_a_partner_that_is_added_by_the_howto_passes_the_kit(tmp_path: Path) -> None:
    for name in ("src", "tests", "migrations", "pyproject.toml"):
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        (
            shutil.copytree(source, tmp_path / name, ignore=ignored)
            if source.is_dir()
            else shutil.copy(source, tmp_path)
        )
    for path, text in files().items():
        (tmp_path / path).write_text(text)
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=changes().encode(), check=True)
    kit = (
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "tests/contract/test_partner_adapters.py",
        "-k",
        "hotel_f",
    )
    ran = subprocess.run(
        [sys.executable, *kit],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"1\d\d passed", ran.stdout), ran.stdout
