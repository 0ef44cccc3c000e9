"""What the data of an event promises, as JSON Schema, and the id of that promise.

The id is of what a reader depends on: words that only explain do not change it. What may change does not belong here
(`compatibility`), nor which versions there were (`released`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import rfc8785

from faregate.events.base import PublishedEvent

Schema = Mapping[str, Any] | bool

HASH_DIGITS = 12

_WORDS = frozenset(
    {
        "$comment", "$id", "$schema", "deprecated", "description", "discriminator", "examples", "readOnly", "title",
        "writeOnly",
    }
)  # fmt: skip
"""Keywords that no data is refused by. `default` is not one: a reader takes it for what is missing."""

_BY_NAME = frozenset({"$defs", "dependentSchemas", "patternProperties", "properties"})
_ONE = frozenset(
    {
        "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
        "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
_IN_ORDER = frozenset({"prefixItems"})
_IN_ANY_ORDER = frozenset({"allOf", "anyOf", "oneOf"})
_SETS = frozenset({"enum", "required", "type"})


def data_schema(event: type[PublishedEvent]) -> dict[str, Any]:
    """Return the JSON Schema of an event's data."""
    schema = event.model_json_schema(mode="serialization")
    optional = {name for name, field in event.model_fields.items() if not field.is_required()}
    schema["required"] = [name for name in schema.get("required", ()) if name not in optional]
    return {**schema, "title": event.type}


def constraints(schema: Any) -> Any:
    """Return a schema without words, and with what has no order sorted: two that mean the same look the same."""
    if not isinstance(schema, Mapping):
        return schema
    kept = (name for name in schema if name not in _WORDS and not name.startswith("x-"))
    return {name: _inside(name, schema[name]) for name in kept}


def id_of(event_type: str, schema: Schema) -> str:
    """Return the id of a version of an event's data schema: `credit.decision.finalized/3f9a1c2b4d5e`."""
    return f"{event_type}/{hashlib.sha256(rfc8785.dumps(constraints(schema))).hexdigest()[:HASH_DIGITS]}"


def text_of(value: Any) -> str:
    """Return a value of JSON as one comparable, readable line."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _inside(keyword: str, value: Any) -> Any:
    if keyword in _BY_NAME and isinstance(value, Mapping):
        return {name: constraints(schema) for name, schema in value.items()}
    if keyword in _ONE:
        return constraints(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    if keyword in _IN_ORDER:
        return [constraints(schema) for schema in value]
    if keyword in _IN_ANY_ORDER:
        return sorted((constraints(schema) for schema in value), key=text_of)
    return sorted(value, key=text_of) if keyword in _SETS else value
