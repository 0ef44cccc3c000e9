"""Every schema version that was ever published, and what is wrong with the present ones beside them.

A version is a file under `schemas/released/`, named by its id and never changed. An index beside them tells which there
are, and the lane of each type, which no version holds. Files are read and written elsewhere (`schemas`); when one
schema may follow another is said in `compatibility`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faregate.events import EVENT_TYPES, PublishedEvent
from faregate.events.compatibility import backward_gaps, forward_gaps
from faregate.events.identity import constraints, data_schema, id_of, text_of

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
UNSUPPORTED = "unsupported.json"
"""Beside the versions: `{id: reason}` of those that are not compared any more."""
INDEX = "index.json"
"""Beside the versions: `{type: {"lane": …, "versions": [hash, …]}}` of all that was released. It only grows."""

Events = Mapping[str, type[PublishedEvent]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of an event's schema. `identity` is what must not change as long as the type exists."""

    id: str
    type: str
    identity: Mapping[str, str]
    schema: Mapping[str, Any]


def event_schema(event: type[PublishedEvent]) -> dict[str, Any]:
    """Return the JSON Schema of an event's data, with its id and what orders and routes the event."""
    schema = data_schema(event)
    identity = {"x-aggregate-type": event.aggregate_type, "x-key": event.key}
    return {"$schema": JSON_SCHEMA, "$id": id_of(event.type, schema), **identity, **schema}


def new_versions(files: Mapping[str, str], *, events: Events = EVENT_TYPES) -> Mapping[str, str]:
    """Return the present versions that are not among the released files, as text by path."""
    present = {f"{schema['$id']}.json": schema for schema in map(event_schema, events.values())}
    return {path: text_of_document(schema) for path, schema in present.items() if path not in files}


def index(files: Mapping[str, str], *, events: Events = EVENT_TYPES) -> str:
    """Return the text of the index with the present versions added; nothing is taken out of it."""
    entries = {kind: dict(entry) for kind, entry in _index(files).items()}
    for path in new_versions(files, events=events):
        kind, _, name = path.removesuffix(".json").rpartition("/")
        entry = entries.setdefault(kind, {"lane": events[kind].lane(), "versions": []})
        entry["versions"] = sorted({*entry["versions"], name})
    return text_of_document(dict(sorted(entries.items())))


def breaks(files: Mapping[str, str], *, events: Events = EVENT_TYPES) -> list[str]:
    """Return a sentence for each promise that the present events break, or that was tampered with.

    `files` are those of the folder of released versions: text by path inside it.
    """
    versions, found = _read(files)
    unsupported, wrong = _unsupported(files, {version.id for version in versions}, events)
    found.extend(wrong)
    try:
        found.extend(_lost(files, versions, events))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        found.append(f"{INDEX} is not what was written, bring it back out of git: {error}")
    for version in versions:
        event = events.get(version.type)
        if event is None:
            found.append(f"{version.id} was released: the event type {version.type} may not disappear")
            continue
        found.extend(_changed_identity(version, event))
        if version.id not in unsupported:
            found.extend(_incompatibilities(version, event))
    return list(dict.fromkeys(found))


def text_of_document(document: Mapping[str, Any]) -> str:
    """Return a document as it is committed."""
    return json.dumps(document, indent=2) + "\n"


def _lost(files: Mapping[str, str], versions: Sequence[Version], events: Events) -> Iterator[str]:
    """Say which version or which lane is not as the index has it."""
    entries = _index(files)
    named = {f"{kind}/{name}" for kind, entry in entries.items() for name in entry["versions"]}
    for version_id in sorted(named - {path.removesuffix(".json") for path in files}):
        yield f"{version_id} was released and is gone: bring {version_id}.json back out of git"
    for version in versions:
        if version.id not in named:
            yield f"{version.id} is not in {INDEX}: bring {INDEX} back out of git"
    for kind, entry in entries.items():
        if kind in events and events[kind].lane() != entry["lane"]:
            lane = events[kind].lane()
            yield f"{kind} was released with the lane `{entry['lane']}`: it may not become `{lane}`"


def _index(files: Mapping[str, str]) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = json.loads(files.get(INDEX, "{}"))
    return found


def _changed_identity(version: Version, event: type[PublishedEvent]) -> Iterator[str]:
    present = event_schema(event)
    for name, was in version.identity.items():
        if present[name] != was:
            label = name.removeprefix("x-").replace("-", "_")
            yield f"{version.type} was released with the {label} `{was}`: it may not become `{present[name]}`"


def _incompatibilities(version: Version, event: type[PublishedEvent]) -> Iterator[str]:
    current = data_schema(event)
    if id_of(event.type, current) == version.id:
        return
    for gap in backward_gaps(released=version.schema, current=current):
        yield f"{event.type} could not read data of {version.id} (backward): {gap}"
    for gap in forward_gaps(released=version.schema, current=current):
        yield f"{event.type} would break readers of {version.id} (forward): {gap}"


def _read(files: Mapping[str, str]) -> tuple[list[Version], list[str]]:
    versions, problems = [], []
    for path, text in sorted(files.items()):
        if path in (UNSUPPORTED, INDEX):
            continue
        try:
            versions.append(_version(path, text))
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"{path} is not what was released: {error}")
    return versions, problems


def _version(path: str, text: str) -> Version:
    document = json.loads(text)
    kind, found = path.rpartition("/")[0], document["$id"]
    if found != id_of(kind, document) or path != f"{found}.json":
        raise ValueError(f"its content has the id {id_of(kind, document)}")
    identity = {name: document[name] for name in ("x-aggregate-type", "x-key")}
    return Version(id=found, type=kind, identity=identity, schema=constraints(document))


def _unsupported(files: Mapping[str, str], known: set[str], events: Events) -> tuple[set[str], list[str]]:
    """Return the ids that are not compared any more, and what is wrong with the list of them."""
    listed: Mapping[str, str] = json.loads(files.get(UNSUPPORTED, "{}"))
    present = {id_of(event.type, data_schema(event)) for event in events.values()}
    problems = []
    for version_id, reason in listed.items():
        if version_id not in known:
            problems.append(f"{UNSUPPORTED} names {text_of(version_id)}, which was never released")
        elif version_id in present:
            problems.append(f"{UNSUPPORTED} names {version_id}, which the code publishes")
        elif len(reason.split()) < 2:
            problems.append(f"{UNSUPPORTED} says no reason for {version_id}")
    return set(listed), problems
