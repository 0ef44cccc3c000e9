"""Named SQL: a package's `queries.sql` holds `-- name: xyz` blocks. Running them does not belong here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)


class Queries(Mapping[str, str]):
    """The statements of one file by name. An unknown name is a KeyError that lists the known ones."""

    def __init__(self, *, source: str, statements: Mapping[str, str]) -> None:
        self._source = source
        self._statements = dict(statements)

    def __getitem__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            known = ", ".join(sorted(self._statements))
            raise KeyError(f"no query {name!r} in {self._source}; it has: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


def parse_queries(text: str, *, source: str) -> Queries:
    """Split the text at its `-- name:` lines. A name given twice, or SQL before any, is a ValueError."""
    parts = _NAME.split(text)
    if any(line and not line.startswith("--") for line in parts[0].splitlines()):
        raise ValueError(f"{source} has SQL before its first '-- name:' line")
    names = parts[1::2]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{source} names a query twice: {', '.join(repeated)}")
    return Queries(source=source, statements={n: s.strip() for n, s in zip(names, parts[2::2], strict=True)})


def load_queries(package: str) -> Queries:
    """Read `queries.sql` inside the package: `load_queries("faregate.credit.store")`."""
    text = (files(package) / "queries.sql").read_text(encoding="utf-8")
    return parse_queries(text, source=f"{package}/queries.sql")
