"""The import rules hold, and are exhaustive: a module without a place in the order fails the build."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINTER = Path(sys.executable).with_name("lint-imports")

STRAYS = {
    "utils.py": "",
    "credit/helpers.py": "",
    "kernel/stray.py": "import faregate.infra.database\n",
    "credit/domain/stray.py": "import time\nimport faregate.credit.store\n",
    "gateway/stray.py": "import psycopg\nimport glide\n",
    "credit/providers/stray.py": "import dbos\n",
    "sandbox/stray.py": "import faregate.gateway.contracts\n",
}


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    command = (LINTER, "--no-logo", "--no-cache", "--config", ROOT / ".importlinter")
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a copy of the tree with every stray module in it."""
    tree = tmp_path_factory.mktemp("tree")
    only_python = shutil.ignore_patterns("*.csv", "*.json", "*.sql", "__pycache__")
    shutil.copytree(ROOT / "src" / "faregate", tree / "faregate", ignore=only_python)
    for path, code in STRAYS.items():
        (tree / "faregate" / path).write_text(code)
    return " ".join(lint(tree).stdout.split())


def test_the_tree_as_it_stands_keeps_the_rules() -> None:
    checked = lint(ROOT / "src")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    "complaint",
    [
        "The following modules are not listed as layers: - faregate.utils",
        "The following modules are not listed as layers: - faregate.credit.helpers",
        "faregate.kernel is not allowed to import faregate.infra",
        "faregate.credit.domain is not allowed to import faregate.credit.store",
        "faregate.gateway.stray -> psycopg",
        "faregate.gateway.stray -> glide",
        "faregate.credit.domain.stray -> time",
        "faregate.credit.providers.stray -> dbos",
        "faregate.sandbox.stray -> faregate.gateway.contracts",
    ],
)
def test_a_module_in_the_wrong_place_is_refused(spoiled: str, complaint: str) -> None:
    assert complaint in spoiled
