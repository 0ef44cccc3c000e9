"""Every requirement of docs/requirements.md is proven by a test that carries its id."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).parents[1]
REQUIREMENTS = TESTS.parent / "docs" / "requirements.md"
_ROW = re.compile(r"^\| ([CFL]\d+) \| \S", re.MULTILINE)
_MARK = re.compile(r"""mark\.requirement\(\s*["']([CFL]\d+)["']\s*\)""")


def required() -> list[str]:
    return _ROW.findall(REQUIREMENTS.read_text(encoding="utf-8"))


def proofs() -> list[Path]:
    return [file for file in TESTS.rglob("test_*.py") if file != Path(__file__)]


def marked(files: Iterable[Path]) -> set[str]:
    return {found for file in files for found in _MARK.findall(file.read_text(encoding="utf-8"))}


def test_the_list_names_each_requirement_once_and_in_order() -> None:
    assert required() == sorted(set(required()), key=lambda name: (name[0], int(name[1:])))


def test_every_requirement_has_a_test_that_carries_its_id() -> None:
    missing = set(required()) - marked(proofs())
    assert not missing, f"no test is marked with {', '.join(sorted(missing))}"


def test_no_test_carries_an_id_that_nobody_required() -> None:
    assert marked(proofs()) <= set(required())


def test_a_file_without_marks_proves_nothing(tmp_path: Path) -> None:
    plain, proving = tmp_path / "test_plain.py", tmp_path / "test_proving.py"
    plain.write_text('def test_c1():\n    """C1"""\n')
    proving.write_text('@pytest.mark.requirement("C7")\ndef test_status():\n    ...\n')
    assert marked([plain, proving]) == {"C7"}
