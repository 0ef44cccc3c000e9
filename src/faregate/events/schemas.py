"""Writes `schemas/`: a JSON Schema an event and one AsyncAPI document. What an event holds is said elsewhere.

python -m faregate.events.schemas            writes them
python -m faregate.events.schemas --check    exits with 1 and names each file that differs
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faregate.events import EVENT_TYPES, PublishedEvent

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
Document = dict[str, Any]


def documents() -> Mapping[str, str]:
    """Return the text of every generated file by its path inside `schemas/`."""
    files = {f"events/{event.type}.json": event_schema(event) for event in EVENT_TYPES.values()}
    files["asyncapi.json"] = asyncapi()
    return {path: json.dumps(document, indent=2) + "\n" for path, document in sorted(files.items())}


def event_schema(event: type[PublishedEvent]) -> Document:
    """Return the JSON Schema of an event's data."""
    return {"$schema": JSON_SCHEMA, "$id": f"{event.type}.json", **_data_schema(event)}


def asyncapi() -> Document:
    """Return the AsyncAPI 3.0 document: a channel for each kind of aggregate, a message for each event."""
    events = EVENT_TYPES.values()
    channels = sorted({event.aggregate_type for event in events})
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "faregate events",
            "version": "1",
            "description": "At least once, in the order of `partitionkey`; dedupe on `id`.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {channel: _channel(channel) for channel in channels},
        "operations": {
            f"publish.{channel}": {"action": "send", "channel": {"$ref": f"#/channels/{channel}"}}
            for channel in channels
        },
        "components": {
            "messages": {event.type: _message(event) for event in events},
            "schemas": {event.type: _data_schema(event) for event in events},
        },
    }


def _channel(aggregate_type: str) -> Document:
    names = [event.type for event in EVENT_TYPES.values() if event.aggregate_type == aggregate_type]
    return {
        "address": f"outbox.event.{aggregate_type}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def _message(event: type[PublishedEvent]) -> Document:
    return {
        "name": event.type,
        "summary": event.__doc__,
        "contentType": "application/cloudevents+json",
        "payload": _envelope(event),
    }


def _envelope(event: type[PublishedEvent]) -> Document:
    """Return the schema of an event in its CloudEvents envelope, as `infra.eventlog.cloudevent` writes it."""
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "subject", "time", "partitionkey", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "format": "uuid"},
            "source": {"type": "string", "format": "uri-reference"},
            "type": {"const": event.type},
            "subject": text,
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "partitionkey": {**text, "description": f"The event's `{event.key}`."},
            "aggregatetype": {"const": event.aggregate_type},
            "traceparent": text,
            "sequence": {"type": "string", "pattern": "^[0-9]{20}$"},
            "data": {"$ref": f"#/components/schemas/{event.type}"},
        },
    }


def _data_schema(event: type[PublishedEvent]) -> Document:
    schema = event.model_json_schema(mode="serialization")
    optional = {name for name, field in event.model_fields.items() if not field.is_required()}
    schema["required"] = [name for name in schema["required"] if name not in optional]
    return {**schema, "title": event.type}


def drift(folder: Path) -> list[str]:
    """Return one sentence for each file in the folder that is not what the events say."""
    wanted = documents()
    found = {str(path.relative_to(folder)) for path in [*folder.glob("events/*.json")]}
    problems = [f"{path} belongs to no event" for path in sorted(found - wanted.keys())]
    for path, text in wanted.items():
        target = folder / path
        if not target.exists():
            problems.append(f"{path} is missing")
        elif target.read_text(encoding="utf-8") != text:
            problems.append(f"{path} differs from the event's definition")
    return problems


def write(folder: Path) -> None:
    """Write every document, and remove schemas of events that no longer exist."""
    wanted = documents()
    (folder / "events").mkdir(parents=True, exist_ok=True)
    for path in folder.glob("events/*.json"):
        if str(path.relative_to(folder)) not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the schemas, or with `--check` compare them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m faregate.events.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit with 1 on any difference")
    parser.add_argument("--folder", type=Path, default=Path("schemas"), help="where the schemas stand")
    given = parser.parse_args(arguments)
    if not given.check:
        write(given.folder)
        return 0
    problems = drift(given.folder)
    for problem in problems:
        sys.stderr.write(f"{given.folder}: {problem}; run `python -m faregate.events.schemas`\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
