"""Writes `schemas/`: a JSON Schema an event, one AsyncAPI document, and what was released. What events hold: elsewhere.

python -m faregate.events.schemas            writes them; a schema that changed is added to `schemas/released/`
python -m faregate.events.schemas --check    exits with 1 and names each file that differs, and each broken promise

A change that breaks readers, or could not read what was written, is refused either way: make it a new event type.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faregate.events import EVENT_TYPES, PublishedEvent, schema_id
from faregate.events.identity import HASH_DIGITS, data_schema
from faregate.events.released import INDEX, breaks, event_schema, index, new_versions, text_of_document

RELEASED = "released"
Document = dict[str, Any]


def documents() -> Mapping[str, str]:
    """Return the text of every generated file by its path inside `schemas/`."""
    files = {f"events/{event.type}.json": event_schema(event) for event in EVENT_TYPES.values()}
    files["asyncapi.json"] = asyncapi()
    return {path: text_of_document(document) for path, document in sorted(files.items())}


def asyncapi() -> Document:
    """Return the AsyncAPI 3.0 document: a channel for each lane of each kind of aggregate, a message for each event."""
    events = EVENT_TYPES.values()
    channels = sorted({_channel_of(event) for event in events})
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
            "schemas": {event.type: data_schema(event) for event in events},
        },
    }


def _channel_of(event: type[PublishedEvent]) -> str:
    return f"{event.aggregate_type}.urgent" if event.is_urgent else event.aggregate_type


def _channel(channel: str) -> Document:
    names = [event.type for event in EVENT_TYPES.values() if _channel_of(event) == channel]
    return {
        "address": f"outbox.event.{channel}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def _message(event: type[PublishedEvent]) -> Document:
    return {
        "name": event.type,
        "summary": event.__doc__,
        "contentType": "application/cloudevents+json",
        "headers": {"type": "object", "properties": {"schema-id": _schema_ids(event)}},
        "payload": _envelope(event),
    }


def _schema_ids(event: type[PublishedEvent]) -> Document:
    """Return the schema of the id of any version of an event's schema: older events carry older ones."""
    return {
        "type": "string",
        "pattern": f"^{re.escape(event.type)}/[0-9a-f]{{{HASH_DIGITS}}}$",
        "description": "The file of this name in `schemas/released` is what the data follows.",
        "examples": [schema_id(event.type)],
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
            "dataschema": _schema_ids(event),
            "partitionkey": {**text, "description": f"The event's `{event.key}`."},
            "aggregatetype": {"const": event.aggregate_type},
            "traceparent": text,
            "sequence": {"type": "string", "pattern": "^[0-9]{20}$"},
            "data": {"$ref": f"#/components/schemas/{event.type}"},
        },
    }


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


def released(folder: Path) -> Mapping[str, str]:
    """Return the text of every file in the folder of released versions, by its path inside it."""
    root = folder / RELEASED
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in root.rglob("*.json")}


def problems(folder: Path) -> list[str]:
    """Return a sentence for each promise that is broken and each file that is not what the events say."""
    files = released(folder)
    missing = [f"{RELEASED}/{path} is missing" for path in new_versions(files)]
    remedy = "; run `python -m faregate.events.schemas`"
    return [*breaks(files), *(f"{problem}{remedy}" for problem in [*drift(folder), *missing])]


def write(folder: Path) -> list[str]:
    """Write every document, add versions that are new, remove schemas of no event; return broken promises.

    While a promise is broken nothing is written, so that a version that may not be released never stands there.
    """
    files = released(folder)
    found = breaks(files)
    if found:
        return found
    wanted = documents()
    for path in folder.glob("events/*.json"):
        if str(path.relative_to(folder)) not in wanted:
            path.unlink()
    versions = {f"{RELEASED}/{path}": text for path, text in new_versions(files).items()}
    for name, text in {**wanted, **versions, f"{RELEASED}/{INDEX}": index(files)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the schemas, or with `--check` compare them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m faregate.events.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit with 1 on any difference")
    parser.add_argument("--folder", type=Path, default=Path("schemas"), help="where the schemas stand")
    given = parser.parse_args(arguments)
    found = problems(given.folder) if given.check else write(given.folder)
    for problem in found:
        sys.stderr.write(f"{given.folder}: {problem}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
