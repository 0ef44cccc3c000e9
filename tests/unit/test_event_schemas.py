"""The generated schemas: they say what the events are, and drift is noticed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from faregate.events import EVENT_TYPES, schema_id
from faregate.events.schemas import documents, main
from faregate.infra.eventlog import cloudevent
from tests.unit.test_credit_events import NOON, PROMISED, UUID, read

COMMITTED = Path(__file__).parents[2] / "schemas"


@pytest.mark.requirement("C10")
def test_the_committed_schemas_are_what_the_events_say() -> None:
    assert main(["--check", "--folder", str(COMMITTED)]) == 0


def test_drift_is_reported_by_file_and_ends_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--folder", str(tmp_path)]) == 0
    (tmp_path / "asyncapi.json").unlink()
    (tmp_path / "events" / "credit.decision.ready.json").write_text("{}")
    (tmp_path / "events" / "credit.gone.json").write_text("{}")
    assert main(["--check", "--folder", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1].split(";")[0] for line in lines] == [
        "events/credit.gone.json belongs to no event",
        "asyncapi.json is missing",
        "events/credit.decision.ready.json differs from the event's definition",
    ]


def test_writing_brings_a_drifted_folder_back(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "credit.gone.json").write_text("{}")
    main(["--folder", str(tmp_path)])
    assert main(["--check", "--folder", str(tmp_path)]) == 0


@pytest.mark.parametrize("kind", PROMISED)
def test_a_schema_accepts_the_promised_fields_and_later_additions_but_no_omission(kind: str) -> None:
    validator = Draft202012Validator(json.loads(documents()[f"events/{kind}.json"]))
    validator.check_schema(validator.schema)
    validator.validate({**PROMISED[kind], "added_later": 1})
    for field in PROMISED[kind]:
        without = {name: value for name, value in PROMISED[kind].items() if name != field}
        assert not validator.is_valid(without), field


@pytest.mark.parametrize("kind", PROMISED)
def test_the_asyncapi_document_describes_the_envelope_as_it_is_written(kind: str) -> None:
    document = json.loads(documents()["asyncapi.json"])
    schema = {**document["components"]["messages"][kind]["payload"], "components": document["components"]}
    event = read(kind).to_event(id=UUID(int=1), time=NOON)
    envelope = cloudevent(event, dataschema=schema_id(kind))
    for described in (envelope, cloudevent(event)):
        Draft202012Validator(schema).validate(described)
    for wrong in ({"type": "other"}, {"dataschema": "other/0123456789ab"}):
        assert not Draft202012Validator(schema).is_valid({**envelope, **wrong})


@pytest.mark.parametrize("kind", PROMISED)
def test_the_asyncapi_document_describes_the_header_with_the_schema_id(kind: str) -> None:
    headers = json.loads(documents()["asyncapi.json"])["components"]["messages"][kind]["headers"]
    Draft202012Validator(headers).validate({"schema-id": schema_id(kind)})
    assert not Draft202012Validator(headers).is_valid({"schema-id": kind})


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = json.loads(documents()["asyncapi.json"])
    references = list(references_in(document))
    assert len(references) >= 2 * len(EVENT_TYPES)
    for reference in references:
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def references_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references_in(inner)
