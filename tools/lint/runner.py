"""Finds the files, runs the rules over them and applies the escapes. The rules stand in `rules`."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.lint.rules import RULES, Hit, Rule, Source

ESCAPE = re.compile(r"lint: allow\((?P<rule>[a-z-]+)\)(?P<reason>[^\n]*)")
TEXT_SUFFIXES = frozenset(
    {"", ".cfg", ".ini", ".json", ".lock", ".mako", ".md", ".py", ".sql", ".toml", ".txt", ".yaml", ".yml"}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that is broken at a place, with the reason for the rule."""

    path: str
    line: int
    rule: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.what}; {self.why}"


def check_tree(root: Path) -> list[Finding]:
    """Check every file that git knows or would add; without git, all that is not hidden."""
    return check_files(root, _versioned(root) if (root / ".git").exists() else _visible(root))


def check_files(root: Path, paths: Iterable[str]) -> list[Finding]:
    """Check these paths below the root; a path that is gone, binary or data is passed over."""
    wanted = [p for p in sorted(paths) if Path(p).suffix in TEXT_SUFFIXES and (root / p).is_file()]
    return [f for path in wanted for f in check_file(path, (root / path).read_text("utf-8"))]


def check_file(path: str, text: str) -> list[Finding]:
    """Check one file by its path from the root and its text."""
    source = Source(path, text, ast.parse(text, path) if path.endswith(".py") else None)
    lines = text.splitlines()
    return [
        *_unexplained_escapes(path, lines),
        *(f for rule in RULES if rule.covers(path) for f in _findings(rule, source, lines)),
    ]


def _versioned(root: Path) -> list[str]:
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    listing = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return listing.stdout.splitlines()


def _visible(root: Path) -> list[str]:
    tops = [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    files = [file for top in tops for file in (top.rglob("*") if top.is_dir() else [top])]
    return [file.relative_to(root).as_posix() for file in files]


def _findings(rule: Rule, source: Source, lines: list[str]) -> Iterator[Finding]:
    for hit in rule.check(source):
        if not _is_escaped(rule, hit, lines):
            yield Finding(source.path, hit.line, rule.name, hit.what, rule.why)


def _is_escaped(rule: Rule, hit: Hit, lines: list[str]) -> bool:
    here = lines[hit.line - 1] if hit.line <= len(lines) else ""
    return any(match["rule"] == rule.name for match in ESCAPE.finditer(here))


def _unexplained_escapes(path: str, lines: list[str]) -> Iterator[Finding]:
    names = {rule.name for rule in RULES}
    for number, line in enumerate(lines, start=1):
        for match in ESCAPE.finditer(line):
            if match["rule"] in names and len(match["reason"].split()) < 2:
                yield Finding(
                    path, number, match["rule"], "escaped without a reason", "say why after the bracket"
                )
