"""How the gateway treats each check and each provider, declared as frozen data.

Values only: nothing here reads a setting, a clock or a database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from faregate.gateway.contracts import Capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Who answers a check, in the order in which they are asked.

    A later provider is asked only when the earlier one is known not to have done it.
    """

    check: str
    providers: tuple[str, ...]

    def after(self, provider: str) -> str | None:
        """Return the provider to ask after this one, None when it is the last or no longer on the route."""
        if provider not in self.providers:
            return None
        following = self.providers[self.providers.index(provider) + 1 :]
        return following[0] if following else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently one provider is asked. All durations are in seconds.

    `sends_max` counts sends of one check to one provider, over all attempts. Retries wait a random time up to
    `backoff_s * 2 ** (sends - 1)`, at most `backoff_s_max`. A callback that has not come after `callback_s_max`, or
    after half the rest of the budget, is asked for. `call_s_min` is the least rest of the budget that is worth a call.
    After the budget, look-ups go on for `reconcile_s`, so that a late result is still found.
    """

    sends_max: int = 3
    backoff_s: float = 0.1
    backoff_s_max: float = 5.0
    look_up_s: float = 0.1
    look_up_s_max: float = 5.0
    callback_s_max: float = 15.0
    call_s_min: float = 0.05
    reconcile_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Everything that settling one intent depends on besides the intent, the outcome and the time."""

    capabilities: Capabilities
    retry: RetryPolicy
    fallback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The declarations of one owner: its routes, its providers' capabilities and their retry policies."""

    routes: Mapping[str, Route]
    capabilities: Mapping[str, Capabilities]
    retries: Mapping[str, RetryPolicy] = field(default_factory=dict)

    def rules(self, *, check: str, provider: str) -> Rules:
        """Return what applies to a check at a provider. Raises KeyError for one that is not declared."""
        return Rules(
            capabilities=self.capabilities[provider],
            retry=self.retries.get(provider, RetryPolicy()),
            fallback=self.routes[check].after(provider),
        )
