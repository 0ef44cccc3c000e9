"""The checks of an application and the providers that can answer each, in order of preference. Pure data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PROVIDERS_OF_CHECK: Final[dict[str, tuple[str, ...]]] = {
    "bureau": ("bureau", "bureau_alt"),
    "kyc": ("kyc",),
    "fraud": ("fraud",),
    "income": ("income",),
}
CHECKS: Final = tuple(PROVIDERS_OF_CHECK)
"""Every check there is, in the standard order."""
CHECK_OF_PROVIDER: Final = {
    provider: check for check, providers in PROVIDERS_OF_CHECK.items() for provider in providers
}


def primary_providers(checks: Iterable[str]) -> list[str]:
    """Return the first provider of each check, for naming what is missing."""
    return [PROVIDERS_OF_CHECK[check][0] for check in checks]


def check_of(provider: str) -> str:
    """Return the check that a provider answers; KeyError for a provider that nobody declared."""
    return CHECK_OF_PROVIDER[provider]


def attempt_of(provider_request_id: str) -> int:
    """Return the attempt that a request id names, which is its last part."""
    return int(provider_request_id.rpartition(":")[2])
