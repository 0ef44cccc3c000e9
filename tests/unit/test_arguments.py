"""Every argument and option of every command refuses what nothing could keep, before anything is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from faregate.entrypoints.arguments import ArgumentRefused
from faregate.entrypoints.cli import app
from tests.unit.test_cli import faregate, paths

Command = list[str]
TEXTS = {"a\udcff": "is not UTF-8", "a\0b": "holds a NUL", "x" * 100_000: "characters: give 2,048 at most"}
INTS = {"100000000000000000000": "is out of range", "-100000000000000000000": "is out of range"}
FLOATS = {"inf": "give a finite one"}
DAYS = {"0001-01-01": "of the years 1900 to 2999", "9999-12-31": "of the years 1900 to 2999"}
BAD: dict[str, dict[str, str]] = {"str": TEXTS, "int": INTS, "float": FLOATS, "datetime": DAYS}
GOOD = {"str": "x", "int": "1", "float": "1", "datetime": "2026-01-01", "UUID": f"{0:032x}", "Path": __file__}


def leaves() -> Iterator[tuple[Command, Any]]:
    root = typer.main.get_command(app)
    for path in paths(root, []):
        command: Any = root
        for name in path:
            command = command.get_command(typer.Context(command), name)
        if not hasattr(command, "commands"):
            yield path, command


def kind_of(parameter: Any) -> str:
    """The name of the type of one value, `` for one that is chosen from a list or parsed by the command."""
    descriptor = parameter.type_descriptor
    if descriptor.is_choice or descriptor.parameter_info.parser:
        return ""
    kind = descriptor.annotation
    return str(getattr(kind, "__args__", (kind,))[0].__name__)


def typed(parameter: Any, value: str) -> Sequence[str]:
    return [f"{parameter.opts[0]}={value}"] if parameter.opts[0].startswith("-") else [value]


def good(parameter: Any) -> str:
    choices = parameter.type_descriptor.choices
    return str(choices[0]) if choices else GOOD.get(kind_of(parameter), "1d")


def cases() -> Iterator[Any]:
    for path, command in leaves():
        for parameter in command.params:
            for value, says in BAD.get(kind_of(parameter), {}).items():
                others = [one for one in command.params if one.required and one is not parameter]
                options = [text for one in others if one.opts[0][0] == "-" for text in typed(one, good(one))]
                arguments = [
                    value if one is parameter else good(one)
                    for one in command.params
                    if one.opts[0][0] != "-" and (one.required or one is parameter)
                ]
                if parameter.opts[0][0] == "-":
                    options += typed(parameter, value)
                name = f"{' '.join(path)} {parameter.name} {says}"
                yield pytest.param([*path, *options, "--", *arguments], says, id=name)


@pytest.mark.parametrize(("arguments", "says"), cases())
def test_what_nothing_could_keep_is_refused_by_its_name(arguments: list[str], says: str) -> None:
    ended = CliRunner().invoke(app, arguments)
    if isinstance(ended.exception, ArgumentRefused):
        assert says in ended.exception.detail
    else:  # its own limits, narrower than these, have refused it
        assert ended.exit_code == 2, ended.output
        assert "Invalid value for" in ended.output


@pytest.mark.parametrize("reason", ["", " "])
def test_a_reason_that_says_nothing_is_one_line_and_status_two(tmp_path: Path, reason: str) -> None:
    ended = faregate("gateway", "open", "bureau", "--reason", reason, home=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith("faregate: --reason is empty: ")


@pytest.mark.parametrize(
    ("command", "chars_max"),
    [
        (["gateway", "open", "bureau"], 500),
        (["gateway", "policy", "reset", "bureau"], 500),
        (["rules", "activate", "card-eligibility-1"], 500),
        (["rules", "shadow", "stop", "card-eligibility"], 500),
        (["points", "adjust", "mbr_1", "5", "--by", "ann"], 200),
        (["points", "status", "mbr_1", "frozen", "--by", "ann"], 200),
    ],
)
def test_a_reason_is_no_longer_than_what_keeps_it(command: list[str], chars_max: int) -> None:
    error = CliRunner().invoke(app, [*command, "--reason", "x" * (chars_max + 1)]).exception
    assert isinstance(error, ArgumentRefused)
    assert error.detail == f"--reason has {chars_max + 1} characters: say it in {chars_max}"
