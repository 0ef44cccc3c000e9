"""What was released stays readable and stays there: ids of schemas, their registry, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field, create_model

from faregate.events import EVENT_TYPES, PublishedEvent, schema_id
from faregate.events.identity import data_schema, id_of
from faregate.events.released import INDEX, UNSUPPORTED, breaks, index, new_versions
from faregate.events.schemas import main, problems, write
from tests.unit.test_credit_events import PROMISED

RELEASED = Path(__file__).parents[2] / "schemas" / "released"
READY = "credit.decision.ready"


class Paid(PublishedEvent):
    """Something was paid."""

    type: ClassVar[str] = "shop.order.paid"
    aggregate_type: ClassVar[str] = "shop.order"
    key: ClassVar[str] = "order_id"

    order_id: str = Field(min_length=1)
    method: Literal["card", "cash"]


def paid(*, base: type[PublishedEvent] = Paid, names: Mapping[str, str] | None = None, **fields: Any) -> Any:
    """The same event type as somebody changed it."""
    changed = create_model("Changed", __base__=base, **fields)
    for name, value in (names or {}).items():
        setattr(changed, name, value)
    return changed


def released(*events: type[PublishedEvent]) -> dict[str, str]:
    """The files after each of these has been released, one after the other."""
    files: dict[str, str] = {}
    for event in events:
        present = {event.type: event}
        files |= {INDEX: index(files, events=present), **new_versions(files, events=present)}
    return files


FIRST = released(Paid)
FIRST_ID = id_of(Paid.type, data_schema(Paid))


def found(event: type[PublishedEvent], files: Mapping[str, str] = FIRST) -> list[str]:
    return breaks(files, events={event.type: event})


def test_an_id_is_the_type_and_the_hash_of_what_a_reader_depends_on() -> None:
    assert schema_id("credit.decision.finalized") == "credit.decision.finalized/816d3d404e4e"
    assert schema_id("somebody.elses.event") is None


@pytest.mark.parametrize(
    ("changes", "is_another"),
    [
        (
            {"method": (Literal["cash", "card"], Field(description="How.", title="M", examples=["card"]))},
            False,
        ),
        ({"order_id": (str, Field(min_length=1, deprecated=True))}, False),
        ({"title": (str | None, None)}, True),
        ({"method": (Literal["card"], ...)}, True),
        ({"order_id": (str, Field(min_length=2))}, True),
    ],
    ids=[
        "words and order",
        "a mark",
        "a field whose name is that of a keyword",
        "a value less",
        "a longer text",
    ],
)
def test_an_id_changes_with_the_constraints_and_not_with_the_words(changes: Any, is_another: bool) -> None:
    changed = paid(**changes)
    assert (id_of(Paid.type, data_schema(changed)) != FIRST_ID) is is_another


@pytest.mark.requirement("C10")
@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_the_file_that_an_id_names_is_the_schema_of_the_data(kind: str) -> None:
    schema = json.loads((RELEASED / f"{schema_id(kind)}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == schema_id(kind)
    if kind in PROMISED:
        Draft202012Validator(schema).validate(PROMISED[kind])


def test_a_version_that_follows_is_added_beside_those_before_it() -> None:
    changed = paid(note=(str | None, None))
    assert found(changed) == []
    (path,) = new_versions(FIRST, events={Paid.type: changed})
    assert path not in FIRST
    after = json.loads(index(FIRST, events={Paid.type: changed}))[Paid.type]
    assert {f"{Paid.type}/{name}.json" for name in after["versions"]} == {path, f"{FIRST_ID}.json"}
    assert new_versions(FIRST, events={Paid.type: Paid}) == {}


@pytest.mark.requirement("C10")
def test_a_change_that_breaks_somebody_is_refused_with_its_place() -> None:
    backward = f"shop.order.paid could not read data of {FIRST_ID} (backward): #/"
    forward = f"shop.order.paid would break readers of {FIRST_ID} (forward): #/"
    assert found(paid(method=(Literal["card"], ...), amount_cents=(int, ...))) == [
        backward + "required: the reader demands `amount_cents`, the writer may leave it out",
        backward + 'properties/method/enum: the reader does not take "cash", which the writer may write',
    ]
    assert found(paid(method=(Literal["card", "cash", "points"], ...))) == [
        forward + 'properties/method/enum: the reader does not take "points", which the writer may write'
    ]


def test_a_version_is_held_against_every_earlier_one_not_only_the_last() -> None:
    noted = paid(note=(str | None, None))
    history = released(Paid, noted)
    assert found(Paid, history) == []
    (line, *_) = found(paid(note=(int | None, None)), history)
    assert "#/properties/note" in line


def test_a_deliberate_break_is_a_new_type_beside_the_old_one() -> None:
    successor = paid(names={"type": "shop.order.paid.v2"}, method=(Literal["points"], ...))
    assert breaks(FIRST, events={event.type: event for event in (Paid, successor)}) == []


@pytest.mark.requirement("C10")
def test_a_released_type_may_not_disappear_or_be_keyed_or_routed_anew() -> None:
    assert breaks(FIRST, events={}) == [
        f"{FIRST_ID} was released: the event type shop.order.paid may not disappear"
    ]
    assert found(paid(names={"key": "method", "aggregate_type": "shop.payment"})) == [
        "shop.order.paid was released with the aggregate_type `shop.order`: it may not become `shop.payment`",
        "shop.order.paid was released with the key `order_id`: it may not become `method`",
    ]


@pytest.mark.requirement("C10")
def test_a_released_type_stays_in_its_lane() -> None:
    urgent = paid(names={"is_urgent": True})
    assert found(urgent) == [
        "shop.order.paid was released with the lane `ordinary`: it may not become `urgent`"
    ]
    assert found(Paid, released(urgent)) == [
        "shop.order.paid was released with the lane `urgent`: it may not become `ordinary`"
    ]


@pytest.mark.requirement("C10")
def test_a_released_version_that_is_gone_is_missed_though_the_code_is_at_a_later_one() -> None:
    noted = paid(note=(str | None, None))
    left = {path: text for path, text in released(Paid, noted).items() if path != f"{FIRST_ID}.json"}
    assert found(noted, left) == [
        f"{FIRST_ID} was released and is gone: bring {FIRST_ID}.json back out of git"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, f"{FIRST_ID} is not in index.json: bring index.json back out of git"),
        ("{}", f"{FIRST_ID} is not in index.json: bring index.json back out of git"),
        ("not JSON", "index.json is not what was written, bring it back out of git: Expecting value"),
        ("[]", "index.json is not what was written, bring it back out of git: "),
    ],
)
def test_the_index_of_what_was_released_cannot_be_made_anew(text: str | None, line: str) -> None:
    files = {path: content for path, content in FIRST.items() if path != INDEX}
    (found_line,) = found(paid(names={"is_urgent": True}), files if text is None else {**files, INDEX: text})
    assert found_line.startswith(line)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (FIRST[f"{FIRST_ID}.json"].replace('"cash"', '"coin"'), "its content has the id shop.order.paid/"),
        ("{}", "'$id'"),
        ("not JSON", "Expecting value"),
    ],
)
def test_a_released_file_that_is_not_what_was_released_is_found(text: str, why: str) -> None:
    (line,) = found(Paid, {**FIRST, f"{FIRST_ID}.json": text})
    assert line.startswith(f"{FIRST_ID}.json is not what was released: {why}")


@pytest.mark.parametrize(
    ("listed", "line"),
    [
        ({FIRST_ID: "Nothing of it is stored any more."}, None),
        ({FIRST_ID: "old"}, f"{UNSUPPORTED} says no reason for {FIRST_ID}"),
        ({"a.b/1": "It is gone."}, f'{UNSUPPORTED} names "a.b/1", which was never released'),
    ],
)
def test_a_version_without_data_and_readers_can_be_taken_out_of_the_comparison(
    listed: Mapping[str, str], line: str | None
) -> None:
    narrowed = paid(method=(Literal["card"], ...))
    lines = found(narrowed, {**FIRST, UNSUPPORTED: json.dumps(listed)})
    assert (line is None and lines == []) or line in lines


def test_the_present_version_cannot_be_called_unsupported() -> None:
    listed = json.dumps({FIRST_ID: "We would rather not."})
    assert found(Paid, {**FIRST, UNSUPPORTED: listed}) == [
        f"{UNSUPPORTED} names {FIRST_ID}, which the code publishes"
    ]


@pytest.mark.requirement("C10")
def test_while_a_promise_is_broken_nothing_is_written_and_the_gate_is_shut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(tmp_path) == []
    present = json.loads(text_of(tmp_path, READY))
    release(tmp_path, READY, {**present, "required": [*present["required"], "gone"]})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    for arguments in ([], ["--check"]):
        assert main([*arguments, "--folder", str(tmp_path)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "(forward): #/required: the reader demands `gone`" in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_a_schema_that_was_not_released_yet_is_missed(tmp_path: Path) -> None:
    write(tmp_path)
    path, others = forgotten(tmp_path, READY)
    assert problems(tmp_path) == [f"released/{path} is missing; run `python -m faregate.events.schemas`"]
    assert write(tmp_path) == []
    assert problems(tmp_path) == []
    assert json.loads((tmp_path / "released" / INDEX).read_text()).keys() - others == {READY}


@pytest.mark.requirement("C10")
def test_a_released_file_that_was_deleted_shuts_the_gate_until_it_is_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    (tmp_path / "released" / f"{schema_id(READY)}.json").unlink()
    for arguments in ([], ["--check"]):
        assert main([*arguments, "--folder", str(tmp_path)]) == 1
        line = capsys.readouterr().err.splitlines()[0]
        assert f"{schema_id(READY)} was released and is gone" in line


def text_of(folder: Path, kind: str) -> str:
    return (folder / "events" / f"{kind}.json").read_text(encoding="utf-8")


def forgotten(folder: Path, kind: str) -> tuple[str, set[str]]:
    """Take a type out of the registry as if it were new; return the path of its version, and the other types."""
    path, file = f"{schema_id(kind)}.json", folder / "released" / INDEX
    (folder / "released" / path).unlink()
    others = {name: entry for name, entry in json.loads(file.read_text()).items() if name != kind}
    file.write_text(json.dumps(others))
    return path, set(others)


def release(folder: Path, kind: str, schema: dict[str, Any]) -> None:
    """Put a version into the registry as if it had been released before."""
    version, file = id_of(kind, schema), folder / "released" / INDEX
    entries = json.loads(file.read_text())
    entries[kind]["versions"].append(version.rpartition("/")[2])
    file.write_text(json.dumps(entries))
    (folder / "released" / f"{version}.json").write_text(
        json.dumps({**schema, "$id": version}), encoding="utf-8"
    )
