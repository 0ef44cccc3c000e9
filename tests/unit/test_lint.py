"""The project's own lints: what each finds, what it leaves alone, and how an escape works."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.lint import check_file, check_tree
from tools.lint.runner import check_files

INDEX = "index"  # in one piece, the option would be what it is the test of
PRODUCT = "src/faregate/credit/handlers.py"
DOMAIN = "src/faregate/credit/domain/decision.py"
DOC = '"""What it is for."""\n'


def broken(path: str, code: str) -> list[str]:
    return [f.rule for f in check_file(path, DOC + code)]


def long_function(*, lines: int, note: str = "") -> str:
    return f"def ladder() -> None:{note}\n" + "    pass\n" * (lines - 1)


@pytest.mark.parametrize(
    ("path", "code", "rule"),
    [
        (PRODUCT, long_function(lines=61), "function-length"),
        ("tests/unit/test_x.py", "async " + long_function(lines=61), "function-length"),
        (PRODUCT, "x = 1\n" * 500, "file-length"),
        (PRODUCT, "assert amount > 0\n", "no-assert"),
        (DOMAIN, "now = datetime.now(UTC)\n", "pure-parts"),
        (DOMAIN, "now = datetime.datetime.utcnow()\n", "pure-parts"),
        (DOMAIN, "started = time.monotonic()\n", "pure-parts"),
        (DOMAIN, "key = uuid.uuid4()\n", "pure-parts"),
        (DOMAIN, "pick = random.choice(names)\n", "pure-parts"),
        ("src/faregate/kernel/ids.py", "key = secrets.token_bytes(10)\n", "pure-parts"),
        ("src/faregate/credit/contracts.py", "key = uuid4()\n", "pure-parts"),
        (PRODUCT, "log.info('taken', legal_name=name)\n", "log-pii"),
        (PRODUCT, "self._logger.warning('taken', who=applicant.dob)\n", "log-pii"),
        (PRODUCT, "structlog.get_logger().info('taken', extra={'ssn_last4': 1})\n", "log-pii"),
        (PRODUCT, "log.info(body['annual_income'])\n", "log-pii"),
        ("requirements/dev.txt", f"--{INDEX}-url https://mirror.example/x\n", "registry-address"),
        ("docs/x.md", "see https://mirror.example/simple/\n", "registry-address"),
    ],
)
def test_each_rule_finds_what_it_is_for(path: str, code: str, rule: str) -> None:
    assert broken(path, code) == [rule]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (PRODUCT, long_function(lines=60)),
        (PRODUCT, "now = datetime.now(UTC)\n"),
        (DOMAIN, "key = uuid5(SPACE, name)\n"),
        (DOMAIN, "day = datetime.fromisoformat(text)\n"),
        ("tests/unit/test_x.py", "assert 1 == 1\n"),
        (PRODUCT, "log.info('taken', application_id=key)\n"),
        (PRODUCT, "catalog.info(legal_name=name)\n"),
        ("docs/x.md", "pip install -r requirements/dev.txt\n"),
    ],
)
def test_what_is_allowed_is_left_alone(path: str, code: str) -> None:
    assert broken(path, code) == []


def test_a_module_with_code_and_no_docstring_is_found() -> None:
    assert [f.rule for f in check_file(PRODUCT, "x = 1\n")] == ["module-docstring"]
    assert check_file("src/faregate/credit/__init__.py", "") == []


def test_an_escape_with_a_reason_silences_its_rule_only() -> None:
    note = "  # lint: allow(function-length) the guards are read in order"
    other = "  # lint: allow(no-assert) the guards are read in order"
    assert broken(PRODUCT, long_function(lines=61, note=note)) == []
    assert broken(PRODUCT, long_function(lines=61, note=other)) == ["function-length"]


def test_an_escape_without_a_reason_is_a_finding() -> None:
    (finding,) = check_file(PRODUCT, DOC + "assert x  # lint: " + "allow(no-assert)\n")
    assert finding.what == "escaped without a reason"


def test_a_finding_says_where_what_and_why() -> None:
    (finding,) = check_file(PRODUCT, DOC + "assert x\n")
    assert str(finding).startswith(f"{PRODUCT}:2: no-assert: asserts; `python -O` drops assert")


def test_binary_and_missing_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "card.png").write_bytes(b"\x89PNG\xff")
    assert check_files(tmp_path, ["card.png", "gone.py"]) == []


def test_a_tree_without_version_control_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "bad.py").write_text("x = 1\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "src.py").write_text("x = 1\n")
    assert [f.path for f in check_tree(tmp_path)] == ["src/bad.py"]
