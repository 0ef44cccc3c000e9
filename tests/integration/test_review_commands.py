"""`faregate review`: the command line does what the routes do, as whoever the key in the settings belongs to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from faregate.credit.domain.review import SamePerson
from faregate.entrypoints import servers
from faregate.entrypoints.cli import app
from faregate.infra.http.authentication import Unauthenticated
from faregate.infra.settings import Settings
from tests.background_loop import BackgroundLoop, opened_beside
from tests.credit_desk import open_desk, servers_of_module  # noqa: F401
from tests.review_room import NOTE, Room

pytestmark = pytest.mark.requirement("C33")


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """A shell in which people type, beside the running room."""

    loop: BackgroundLoop
    room: Room
    environment: dict[str, str]

    def run(self, *arguments: str, who: str | None = "ada") -> Result:
        key = {"FAREGATE_REVIEW_KEY": self.room.world.tokens[who]} if who else {}
        return CliRunner(env=self.environment | key).invoke(app, ["review", *arguments])

    def ask(self, *arguments: str, who: str | None = "ada") -> Any:
        """Run a command that must work and return the JSON that it prints."""
        ended = self.run(*arguments, "--json", who=who)
        assert ended.exit_code == 0, (ended.output, ended.exception)
        return json.loads(ended.stdout)

    def in_review(self, **given: Any) -> str:
        return str(self.loop.run(self.room.in_review(**given)))

    def claimed(self, review: str, who: str = "ada") -> list[str]:
        """Claim a review and return the options of what its holder does."""
        claim = self.ask("claim", review, who=who)
        return ["--fence", str(claim["fence"]), "--revision", str(claim["revision"]), "--note", NOTE]


@pytest.fixture(scope="module")
def terminal(servers_of_module: Settings) -> Iterator[Terminal]:  # noqa: F811
    given = servers_of_module
    with opened_beside(open_desk(given)) as (loop, desk), pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
        room = loop.run(Room.hired(desk.world, desk=desk))
        assert given.database_url
        assert given.valkey_url
        environment = {
            "FAREGATE_HOME": str(given.home),
            "FAREGATE_DATABASE_URL": given.database_url.get_secret_value(),
            "FAREGATE_VALKEY_URL": given.valkey_url.get_secret_value(),
        }
        yield Terminal(loop=loop, room=room, environment=environment)


def test_somebody_takes_the_next_review_reads_it_and_decides(terminal: Terminal) -> None:
    review = terminal.in_review()
    assert [line["review_id"] for line in terminal.ask("list", who=None)] == [review]
    assert terminal.ask("next")["review_id"] == review
    [line] = terminal.ask("stats", who=None)
    assert (line["priority"], line["waiting"], line["claimed"]) == ("normal", 1, 1)
    shown = terminal.run("show", review, who=None).stdout
    assert "fraud" in shown
    assert "review.claimed" in shown
    options = ["--outcome", "denied", "--code", "LENGTH_OF_EMPLOYMENT", *terminal.claimed(review)]
    assert terminal.ask("decide", review, *options)["status"] == "denied"
    assert terminal.ask("list", who=None) == []


def test_the_second_person_is_told_by_their_key(terminal: Terminal) -> None:
    review = terminal.in_review(amount=50_000)
    verdict = ["--outcome", "approved", "--code", "INCOME_VERIFIED"]
    proposed = terminal.ask("decide", review, *verdict, *terminal.claimed(review))
    assert proposed["second_person"] == "amount"
    assert isinstance(terminal.run("claim", review).exception, SamePerson)
    answer = terminal.run("confirm", review, *terminal.claimed(review, who="bob"), who="bob")
    assert answer.exit_code == 0
    assert "approved" in answer.stdout


def test_a_claim_is_extended_released_and_what_is_proposed_rejected(terminal: Terminal) -> None:
    review = terminal.in_review(amount=50_000)
    held = terminal.claimed(review)
    assert terminal.ask("extend", review, *held[:2])["claimed_by"] == "ada"
    assert terminal.ask("release", review, *held[:2])["claimed_by"] is None
    assert terminal.ask("prioritise", review, "--priority", "urgent", "--note", NOTE)["priority"] == "urgent"
    verdict = ["--outcome", "approved", "--code", "INCOME_VERIFIED"]
    terminal.ask("decide", review, *verdict, *terminal.claimed(review))
    rejected = terminal.ask("reject", review, *terminal.claimed(review, who="bob"), who="bob")
    assert rejected["review"]["state"] == "open"
    again = terminal.ask("reevaluate", review, *terminal.claimed(review, who="bob"), who="bob")
    assert (again["status"], again["decision_version"]) == ("manual_review", 2)


@pytest.mark.parametrize("who", [None, "acme"])
def test_acting_needs_a_key_with_its_scope(terminal: Terminal, who: str | None) -> None:
    refused = terminal.run("next", who=who)
    assert refused.exit_code == 1
    assert isinstance(refused.exception, Unauthenticated) == (who is None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["list", "--order", "name"], "order"),
        (["next", "--priority", "top"], "priority"),
        (["repull", "rev_1", "--note", NOTE], "give one of --check"),
        (["repull", "rev_1", "--note", NOTE, "--check", "KYC!"], "checks"),
    ],
)
def test_an_option_that_does_not_fit_is_a_usage_error_that_names_it(
    terminal: Terminal, options: list[str], words: str
) -> None:
    ended = terminal.run(*options)
    assert ended.exit_code == 2
    assert words in ended.output


def test_a_new_pull_of_what_was_never_asked_is_refused_by_name(terminal: Terminal) -> None:
    review = terminal.in_review()
    ended = terminal.run("repull", review, "--check", "kyc", "--note", NOTE)
    assert "nobody was asked about kyc" in str(ended.exception)
    for answer in ("--authorise", "--reject"):
        ended = terminal.run("repull", review, answer, "rpl_nobody", "--note", NOTE, who="bob")
        assert "has no new pull rpl_nobody" in str(ended.exception)
