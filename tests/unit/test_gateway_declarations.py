"""What operators declare is read strictly: every mistake is refused with its place, nothing is guessed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from faregate.credit.domain.checks import CHECK_OF_PROVIDER
from faregate.entrypoints.bootstrap.providers import declarations
from faregate.gateway.book import PolicyBook
from faregate.gateway.declarations import Declarations, PolicyInvalid, flat_fields, parse_assignments
from faregate.gateway.policies.declared import Operation, Override
from faregate.gateway.policy import ProviderPolicy
from faregate.gateway.store.changes import Kind, ProviderChange
from faregate.infra.settings import Settings

TEXT = """
[defaults.retry]
sends_max = 4
[providers.kyc.retry]
backoff_s = 1
[providers.kyc.send.breaker]
failure_rate = 0.25
[providers.bureau]
timeout_s = 2.5
"""


def change(kind: Kind, content: dict[str, object], *, version: int = 1) -> ProviderChange:
    return ProviderChange(
        version=version,
        kind=kind,
        content=content,
        reason="why",
        changed_by="me",
        changed_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


def test_a_provider_has_its_own_fields_before_the_defaults_and_overrides_before_both() -> None:
    declared = Declarations(TEXT, source="x.toml")
    kyc = declared.policy("kyc", {"retry.sends_max": 9})
    assert (kyc.retry.sends_max, kyc.retry.backoff_s, kyc.send.breaker.failure_rate) == (9, 1.0, 0.25)
    assert declared.policy("bureau").timeout_s == 2.5
    assert declared.policy("somebody else").retry.sends_max == 4
    assert declared.providers == ("kyc", "bureau")


def test_an_empty_file_leaves_everything_as_the_program_has_it() -> None:
    assert Declarations("", source="x.toml").policy("kyc") == ProviderPolicy()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[defaults.retry]\nsends_max = 0", "line 2: retry.sends_max: input should be greater than"),
        ("[defaults.retry]\n\ntries = 1", "line 3: retry.tries: unexpected keyword argument"),
        ("[defaults.retry]\nsends_max = '3'", "line 2: retry.sends_max: input should be a valid integer"),
        ("[providers.a.send.breaker]\nprobes = 2", "line 1: send.breaker: .*could never close"),
        ("[providers.a]\ntimeout_s = inf", "line 2: timeout_s: input should be a finite number"),
        ("[providers.a]\ntimeout_s = 2026-01-01", "line 2: timeout_s: input should be a valid number"),
        ("[defaults]\nretry = 3", "line 2: retry: input should be an object"),
        ("[providers]\na = 3", "line 1: it must be a table"),
        ("[provider.a]", r"line 1: there are only \[defaults"),
        ("[defaults", "no TOML"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, says: str) -> None:
    with pytest.raises(PolicyInvalid, match=says):
        Declarations(text, source="x.toml")


def test_every_field_can_be_set_by_its_dotted_name() -> None:
    declared = Declarations(TEXT, source="x.toml")
    fields = declared.fields("kyc")
    assert flat_fields(declared.policy("other", fields)) == fields
    assert len(fields) > 50


def test_assignments_are_read_as_toml() -> None:
    assert parse_assignments(["a.b=3", "c = 0.5", "d=true", 'e="x"']) == {
        "a.b": 3,
        "c": 0.5,
        "d": True,
        "e": "x",
    }


@pytest.mark.parametrize("assignment", ["a", "a=", "a=b c", "retry.sends_max=1\nb=2", "=1"])
def test_what_is_no_assignment_is_refused(assignment: str) -> None:
    with pytest.raises(PolicyInvalid):
        Declarations("", source="x").policy("kyc", parse_assignments([assignment]))


def test_the_file_of_the_package_declares_every_provider() -> None:
    declared = declarations(Settings(_env_file=None))
    assert set(declared.providers) == set(CHECK_OF_PROVIDER)


def test_a_file_of_ones_own_can_be_named(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("[defaults.retry]\nsends_max = 0\n")
    with pytest.raises(PolicyInvalid, match=r"own\.toml, line 2"):
        declarations(Settings(_env_file=None, provider_policies=own))


def test_a_book_follows_changes_and_says_for_whom() -> None:
    book = PolicyBook(Declarations(TEXT, source="x.toml"), providers=["kyc", "bureau"])
    policy = change(Kind.POLICY, {"retry.sends_max": 1})
    held = change(Kind.BREAKER, {"send": "forced_open"}, version=2)
    changes = {("kyc", Kind.POLICY): policy, ("bureau", Kind.BREAKER): held, ("gone", Kind.POLICY): policy}
    assert book.take(changes) == ["bureau", "kyc"]
    assert book.take(changes) == []
    assert (book["kyc"].retry.sends_max, book["bureau"].retry.sends_max) == (1, 4)
    assert book.overrides("bureau") == {Operation.SEND: Override.FORCED_OPEN}
    assert book.overrides("kyc") == {}


def test_a_change_that_cannot_be_read_leaves_what_held_before() -> None:
    book = PolicyBook(Declarations(TEXT, source="x.toml"), providers=["kyc"])
    book.take({("kyc", Kind.POLICY): change(Kind.POLICY, {"retry.sends_max": 2})})
    book.take({("kyc", Kind.POLICY): change(Kind.POLICY, {"of.tomorrow": 1}, version=2)})
    assert book["kyc"].retry.sends_max == 2
