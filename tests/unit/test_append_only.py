"""What was released is never lost: history knows it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tools.append_only import losses

FIRST = "schemas/released/shop.order.paid/0123456789ab.json"
SECOND = "schemas/released/shop.order.paid/ba9876543210.json"


def git(root: Path, *arguments: str) -> None:
    names = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(("git", *names, *arguments), cwd=root, check=True, capture_output=True)


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--no-verify", "--message", "A change")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    put(tmp_path, FIRST, "first\n")
    put(tmp_path, "schemas/released/unsupported.json", "{}\n")
    commit(tmp_path)
    return tmp_path


def test_new_versions_and_other_files_may_come_and_change(project: Path) -> None:
    put(project, SECOND, "second\n")
    put(project, "schemas/released/unsupported.json", '{"a/b": "no reader"}\n')
    commit(project)
    assert losses(project) == []


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_released_file_that_is_gone_or_changed_is_named(project: Path, is_committed: bool) -> None:
    put(project, SECOND, "second\n")
    commit(project)
    (project / FIRST).unlink()
    put(project, SECOND, "another\n")
    if is_committed:
        commit(project)
    assert losses(project) == [
        f"{FIRST} was released and is gone: readers and stored events name it",
        f"{SECOND} was released and is changed: readers and stored events name it",
    ]


def test_what_a_branch_added_and_took_back_before_it_was_merged_was_never_released(project: Path) -> None:
    git(project, "switch", "--quiet", "--create", "branch")
    put(project, SECOND, "second\n")
    commit(project)
    (project / SECOND).unlink()
    commit(project)
    assert [loss.split(" ")[0] for loss in losses(project)] == [SECOND]
    git(project, "switch", "--quiet", "main")
    git(project, "merge", "--quiet", "--no-ff", "--no-edit", "branch")
    assert losses(project) == []
