"""People with a fixed fate, for trying a situation by hand: send the name, see the path.

A persona is found by the name alone; birthday, SSN digits and income may be anything. `GET /personas` lists
them. Faults that strike at a rate or by script do not belong here, see `faults`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from faregate.sandbox.faults import Fault
from faregate.sandbox.people import Identity, Record, record_of, rows

_GOOD_ROW: Final = 803
_BAD_ROW: Final = 832


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """A name and its fate: a row, facts that differ from it, faults by provider, extra latency in seconds."""

    legal_name: str
    story: str
    row: int = _GOOD_ROW
    known: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, frozenset[Fault]] = field(default_factory=dict)
    extra_latency_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name as `PERSONAS` and executions know it."""
        return self.legal_name.casefold()


_DOWN: Final = frozenset({Fault.UNAVAILABLE})
_NEVER_KNOWN: Final = frozenset({Fault.DROP_AFTER, Fault.LOOK_UP_ERROR})
_ALL: Final = (
    Persona(legal_name="Greta Gutmann", story="a solid row of the sample data, nothing against her"),
    Persona(legal_name="Boris Badluck", story="a weak row of the sample data", row=_BAD_ROW),
    Persona(legal_name="Wanda Watchlist", story="is on a watch list", known={"watchlist_match": True}),
    Persona(
        legal_name="Ulf Unproven",
        story="his identity cannot be verified",
        known={"identity_verified": False},
    ),
    Persona(
        legal_name="Felix Fraudster",
        story="the fraud provider says high",
        known={"fraud_level": "high", "fraud_score": 0.97},
    ),
    Persona(
        legal_name="Mira Medium",
        story="the fraud provider says medium",
        known={"fraud_level": "medium", "fraud_score": 0.55},
    ),
    Persona(
        legal_name="Oscar Overstated",
        story="earns nothing, whatever he states",
        known={"annual_income_verified": 0},
    ),
    Persona(
        legal_name="Selma Slowbureau",
        story="the bureau takes 1.5 seconds more than usual",
        extra_latency_s={"bureau": 1.5},
    ),
    Persona(
        legal_name="Bruno Bureaudown",
        story="the bureau answers 503, the other bureau works",
        faults={"bureau": _DOWN},
    ),
    Persona(
        legal_name="Nina Nobureau",
        story="both bureaus answer 503",
        faults={"bureau": _DOWN, "bureau_alt": _DOWN},
    ),
    Persona(
        legal_name="Uma Unknown",
        story="the bureau does the work, drops the connection and cannot look it up",
        faults={"bureau": _NEVER_KNOWN},
    ),
    Persona(
        legal_name="Silas Silent",
        story="the KYC provider never calls back",
        faults={"kyc": frozenset({Fault.CALLBACK_LOST})},
    ),
    Persona(
        legal_name="Paul Paperless",
        story="the KYC provider gives up: it refuses for good",
        faults={"kyc": frozenset({Fault.REFUSED})},
    ),
)
PERSONAS: Final[Mapping[str, Persona]] = {persona.key: persona for persona in _ALL}


def persona_of(identity: Identity) -> Persona | None:
    """Return the persona of this name, written in any case and spacing."""
    return PERSONAS.get(" ".join(identity.legal_name.casefold().split()))


def faults_of(key: str | None, *, provider: str) -> frozenset[Fault]:
    """Return what always goes wrong between a provider and a persona; nothing for everybody else."""
    if key is None or key not in PERSONAS:
        return frozenset()
    return PERSONAS[key].faults.get(provider, frozenset())


def known_of(identity: Identity, persona: Persona | None) -> Record:
    """Return what the world knows of an identity, a persona's fate included."""
    record = record_of(identity)
    if persona is None:
        return record
    clean = replace(
        record,
        row=rows()[persona.row],
        identity_verified=True,
        watchlist_match=False,
        fraud_level="low",
        fraud_score=0.05,
        annual_income_verified=identity.annual_income,
    )
    return replace(clean, **persona.known)
