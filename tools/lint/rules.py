"""The rules, one class each: a name for the escape, the paths it covers, why it exists, and how it looks.

How files are found and escapes are read does not belong here; see `runner`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 500

NodeT = TypeVar("NodeT", bound=ast.AST)


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path from the root of the project, its text, and its tree when it is Python."""

    path: str
    text: str
    tree: ast.Module | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A place that breaks a rule: its line, from 1, and what is wrong there."""

    line: int
    what: str


class Rule(Protocol):
    """What a rule offers: `covers` says where it holds, `check` yields what breaks it."""

    name: ClassVar[str]
    why: ClassVar[str]

    def covers(self, path: str) -> bool:
        """Return whether the rule holds for this path."""
        ...

    def check(self, source: Source) -> Iterator[Hit]:
        """Yield every place that breaks the rule."""
        ...


def _is_python(path: str) -> bool:
    return path.endswith(".py")


def _is_product(path: str) -> bool:
    return path.startswith("src/") and _is_python(path)


class FunctionLength:
    """A function fits on one screen."""

    name: ClassVar[str] = "function-length"
    why: ClassVar[str] = (
        f"a function over {FUNCTION_LINES_MAX} lines does more than one thing: name its parts"
    )

    def covers(self, path: str) -> bool:
        """Hold for every Python file, tests included."""
        return _is_python(path)

    def check(self, source: Source) -> Iterator[Hit]:
        """Yield each function that is too long, at its `def`."""
        for node in _functions(source):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield Hit(node.lineno, f"{node.name} has {lines} lines")


class FileLength:
    """A file has one subject."""

    name: ClassVar[str] = "file-length"
    why: ClassVar[str] = f"a file over {FILE_LINES_MAX} lines holds more than one subject: make it a package"

    def covers(self, path: str) -> bool:
        """Hold for Python and SQL."""
        return path.endswith((".py", ".sql"))

    def check(self, source: Source) -> Iterator[Hit]:
        """Yield one hit, at the first line, for a file that is too long."""
        lines = source.text.count("\n")
        if lines > FILE_LINES_MAX:
            yield Hit(1, f"the file has {lines} lines")


class ModuleDocstring:
    """A module opens by saying what it is for."""

    name: ClassVar[str] = "module-docstring"
    why: ClassVar[str] = (
        "a stranger must learn from the first line what belongs in a module, and what does not"
    )

    def covers(self, path: str) -> bool:
        """Hold for every Python file of the product and the tools."""
        return path.startswith(("src/", "tools/")) and _is_python(path)

    def check(self, source: Source) -> Iterator[Hit]:
        """Yield one hit for a module with code and no docstring; an empty `__init__.py` may stay empty."""
        if source.tree is not None and source.tree.body and ast.get_docstring(source.tree) is None:
            yield Hit(1, "the module has no docstring")


class PureParts:
    """Kernel, events, contracts and domain get time, ids and randomness as arguments."""

    name: ClassVar[str] = "pure-parts"
    why: ClassVar[str] = (
        "a decision that reads a clock or a random source cannot be replayed: take the value as an argument"
    )
    impure: ClassVar[re.Pattern[str]] = re.compile(
        r"(^|\.)(datetime|date)\.(now|utcnow|today)$|^time\.(time|monotonic|perf_counter|time_ns)$"
        r"|^random\.|^secrets\.|(^|\.)uuid[1-8]$|^os\.urandom$|^(numpy|np)\.random\.(?!Generator|default_rng$)"
    )
    parts: ClassVar[re.Pattern[str]] = re.compile(
        r"^src/faregate/(kernel|events)/|^src/faregate/\w+/(domain/|contracts(\.py|/))"
    )

    def covers(self, path: str) -> bool:
        """Hold for the pure parts only."""
        return _is_python(path) and self.parts.match(path) is not None

    def check(self, source: Source) -> Iterator[Hit]:
        """Yield each call of a clock, a random source or an id generator."""
        for node in _walk(source, ast.Call):
            called = _dotted(node.func)
            if called != "uuid.uuid5" and called != "uuid5" and self.impure.search(called):
                yield Hit(node.lineno, f"calls {called}()")


class NoAssert:
    """The product does not assert."""

    name: ClassVar[str] = "no-assert"
    why: ClassVar[str] = (
        "`python -O` drops assert: raise a named error for input, ValueError for a broken contract"
    )

    def covers(self, path: str) -> bool:
        """Hold for the product, not for tests."""
        return _is_product(path)

    def check(self, source: Source) -> Iterator[Hit]:
        """Yield each assert statement."""
        for node in _walk(source, ast.Assert):
            yield Hit(node.lineno, "asserts")


class NoPersonalDataInLogs:
    """A log line names a person by surrogate id only."""

    name: ClassVar[str] = "log-pii"
    why: ClassVar[str] = "logs leave the trust boundary: log the surrogate id, never what identifies a person"
    fields: ClassVar[frozenset[str]] = frozenset(
        {
            "account_number",
            "annual_income",
            "card_number",
            "date_of_birth",
            "dob",
            "email",
            "first_name",
            "full_name",
            "last_name",
            "legal_name",
            "pan",
            "phone",
            "ssn",
            "ssn_last4",
            "street",
        }
    )
    levels: ClassVar[frozenset[str]] = frozenset(
        {"debug", "info", "warning", "error", "critical", "exception", "log", "bind", "msg"}
    )

    def covers(self, path: str) -> bool:
        """Hold for the product."""
        return _is_product(path)

    def check(self, source: Source) -> Iterator[Hit]:
        """Yield each log call that passes such a field, as a keyword, a name, an attribute or a key."""
        for node in _walk(source, ast.Call):
            if not self._is_log_call(node):
                continue
            for name in sorted(set(_names_in(node)) & self.fields):
                yield Hit(node.lineno, f"logs {name}")

    def _is_log_call(self, node: ast.Call) -> bool:
        if not isinstance(node.func, ast.Attribute) or node.func.attr not in self.levels:
            return False
        return re.search(r"(^|[._])log(ger|ging)?($|[._(])", _dotted(node.func.value).lower()) is not None


class NoRegistryAddress:
    """No file says where packages come from."""

    name: ClassVar[str] = "registry-address"
    why: ClassVar[str] = (
        "which mirror to use is the machine's setting; an address in a file breaks whoever cannot reach it"
    )
    settings: ClassVar[str] = r"--(extra-)?index-url|--find-links|<[r]epository>|\"resolved\": *\"http"
    hosts: ClassVar[str] = r"pypi\.|pythonhosted|/simple/|registry\.npmjs|artifactory|nexus/repository"
    address: ClassVar[re.Pattern[str]] = re.compile(
        rf"{settings}|source = \{{ registry|https?://[^\s\"']*({hosts})"
    )

    def covers(self, path: str) -> bool:
        """Hold for every file but this one, which must name what it looks for, and its test."""
        return path not in {"tools/lint/rules.py", "tests/unit/test_lint.py"}

    def check(self, source: Source) -> Iterator[Hit]:
        """Yield each line that names a package registry."""
        for number, line in enumerate(source.text.splitlines(), start=1):
            if self.address.search(line):
                yield Hit(number, "names a package registry")


RULES: tuple[Rule, ...] = (
    FunctionLength(),
    FileLength(),
    ModuleDocstring(),
    PureParts(),
    NoAssert(),
    NoPersonalDataInLogs(),
    NoRegistryAddress(),
)


def _functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from _walk(source, ast.FunctionDef)
    yield from _walk(source, ast.AsyncFunctionDef)


def _walk(source: Source, *kinds: type[NodeT]) -> Iterator[NodeT]:
    if source.tree is not None:
        yield from (node for node in ast.walk(source.tree) if isinstance(node, kinds))


def _dotted(node: ast.expr) -> str:
    """Return `a.b.c` of a name or an attribute; a call in between counts by what it calls."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return f"{_dotted(node.value)}.{node.attr}"
        case ast.Call():
            return _dotted(node.func)
        case _:
            return ""


def _names_in(call: ast.Call) -> Iterator[str]:
    """Yield every keyword, name, attribute and constant key among the arguments of a call."""
    yield from (keyword.arg for keyword in call.keywords if keyword.arg)
    for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
        for node in ast.walk(argument):
            match node:
                case ast.Name():
                    yield node.id
                case ast.Attribute():
                    yield node.attr
                case ast.Subscript(slice=ast.Constant(value=str(key))):
                    yield key
                case ast.Dict():
                    yield from (
                        k.value for k in node.keys if isinstance(k, ast.Constant) and isinstance(k.value, str)
                    )
