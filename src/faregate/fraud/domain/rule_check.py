"""What can be said against a ruleset of fraud besides what can be said of any.

It must run on the hot path, read what payments have, and do what its own cases say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from faregate.fraud.domain.cases import case_findings
from faregate.fraud.domain.listed import NAMES
from faregate.rules.checks import examine
from faregate.rules.compiled import HotRulesetUnfit, compile_hot
from faregate.rules.conversion import ConversionInvalid
from faregate.rules.findings import Finding, Kind, Severity
from faregate.rules.ruleset import canonical

FRAUD: Final = "fraud-payments"
"""The name of the ruleset by which payments are judged."""

OWN_FACTS: Final = frozenset(
    {
        "amount_minor",
        "currency",
        "merchant",
        "merchant_category",
        "channel",
        "country",
        "terminal_id",
        "device_id",
        "ip_token",
        "hour",
        "features",
        "lists",
    }
)
"""What rules see of a payment. `hour` is that of UTC; names of people and cards are not among it."""


def fraud_findings(document: Mapping[str, Any], *, features: Collection[str]) -> list[Finding]:
    """Return all that can be said against a ruleset of fraud, errors first. `features` are those there are."""
    found = examine(document)
    if any(finding.severity is Severity.ERROR for finding in found):
        return found
    try:
        ruleset = compile_hot(canonical(document))
    except (HotRulesetUnfit, ConversionInvalid) as error:
        return [Finding(message=error.detail, kind=Kind.GRAPH), *found]
    schema = next(n for n in document["graph"]["nodes"] if n["type"] == "inputNode")["content"]["schema"]
    converted = {conversion.fact for conversion in ruleset.conversions}
    found += [
        *_unknown_facts(schema, converted=converted, features=features),
        *case_findings(document, ruleset, schema=schema),
    ]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def _unknown_facts(
    schema: Mapping[str, Any], *, converted: Collection[str], features: Collection[str]
) -> Iterator[Finding]:
    """Yield an error for each fact that no payment has: a rule that reads it would never be told."""
    known = {"": OWN_FACTS | set(converted), "features": set(features), "lists": NAMES}
    for group, names in known.items():
        there = schema if not group else schema.get("properties", {}).get(group, {})
        for name in sorted(there.get("properties", {}).keys() - names):
            path = f"{group}.{name}" if group else name
            yield Finding(message=f"no payment has the fact {path}", kind=Kind.UNKNOWN_FIELD, node="input")
