"""`faregate traffic`: a story is lines of JSON, and what cannot be told ends in one line before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faregate.entrypoints.arguments import ArgumentRefused
from faregate.entrypoints.traffic_commands import app


def run(*arguments: str) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.exception


def test_a_story_is_printed_with_the_label_of_each_payment() -> None:
    _, said, _ = run("story", "--members", "10", "--payments", "40", "--takeovers", "1")
    acts = [json.loads(line) for line in said.splitlines()]
    assert sum(act["kind"] == "payment" for act in acts) == 40
    assert {act["kind"] for act in acts if act["is_fraud"]} == {"payment"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is no JSON"),
        ('[{"member_id": "m"}]', "card_token"),
        ('[{"member_id": "m", "card_token": "c"}]', "1 cards, and the story 50 members"),
    ],
)
def test_a_file_of_cards_that_will_not_do_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    cards = tmp_path / "cards.json"
    cards.write_text(content)
    refused = run("replay", "--cards", str(cards), "--url", "http://127.0.0.1:1", "--token", "t")[2]
    assert isinstance(refused, ArgumentRefused)
    assert problem in refused.detail


def test_a_plot_that_cannot_be_told_is_refused() -> None:
    refused = run("story", "--payments", "5", "--takeovers", "5")[2]
    assert isinstance(refused, ArgumentRefused)
