"""Named SQL: found by name, refused when ambiguous."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from faregate.infra.queries import load_queries, parse_queries

TEXT = """\
-- Statements of the test. This header belongs to none of them.

-- name: find_one
-- One row by its id.
select * from thing where id = %(id)s;

-- name: count_all
select count(*) from thing -- name: not_a_name
"""


def test_a_statement_is_found_by_its_name_with_its_comments() -> None:
    queries = parse_queries(TEXT, source="test")
    assert queries["find_one"] == "-- One row by its id.\nselect * from thing where id = %(id)s;"
    assert list(queries) == ["find_one", "count_all"]


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="no query 'find_all' in test; it has: count_all, find_one"):
        parse_queries(TEXT, source="test")["find_all"]


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="names a query twice: find_one"):
        parse_queries(TEXT + "\n-- name: find_one\nselect 1", source="test")


def test_sql_before_the_first_name_is_refused() -> None:
    with pytest.raises(ValueError, match="has SQL before its first"):
        parse_queries("select 1;\n" + TEXT, source="test")


def test_the_file_is_read_from_inside_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_with_queries"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "queries.sql").write_text(TEXT)
    monkeypatch.syspath_prepend(tmp_path)
    assert "find_one" in load_queries("package_with_queries")
    del sys.modules["package_with_queries"]
