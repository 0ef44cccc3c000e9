"""How the gateway treats each check and each provider, declared as frozen data.

Values only: nothing here reads a setting, a clock or a database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from faregate.gateway.contracts import Capabilities
from faregate.gateway.policies.declared import (
    Count,
    GuardPolicy,
    HedgePolicy,
    Operation,
    OperationPolicy,
    RatePolicy,
    RetryBudgetPolicy,
    Seconds,
    SecondsOrNone,
)

JOURNAL_OPERATIONS = (Operation.SEND, Operation.LOOK_UP)
"""What a provider pool does."""


class FallbackUnsafe(ValueError):
    """A check would be asked twice: a provider that counts its refusals as executed has another one after it."""


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
    After the budget, look-ups go on for `reconcile_s`, so that a late result is still found, at least every
    `reconcile_every_s_max`.
    """

    sends_max: Count = 3
    backoff_s: Seconds = 0.1
    backoff_s_max: Seconds = 5.0
    look_up_s: Seconds = 0.1
    look_up_s_max: Seconds = 5.0
    callback_s_max: Seconds = 15.0
    call_s_min: SecondsOrNone = 0.05
    reconcile_s: SecondsOrNone = 600.0
    reconcile_every_s_max: Seconds = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPolicy:
    """Everything that an operator declares about one provider.

    `timeout_s` is how long a call may take; unset, what its adapter declares. `send` and `look_up` stand before the
    calls of the journal, `read` and `write` before those of contexts that keep their own.
    """

    timeout_s: Seconds | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    retry_budget: RetryBudgetPolicy = field(default_factory=RetryBudgetPolicy)
    rate: RatePolicy = field(default_factory=RatePolicy)
    hedge: HedgePolicy = field(default_factory=HedgePolicy)
    send: OperationPolicy = field(default_factory=OperationPolicy)
    look_up: OperationPolicy = field(default_factory=OperationPolicy)
    read: OperationPolicy = field(default_factory=OperationPolicy)
    write: OperationPolicy = field(default_factory=OperationPolicy)

    def guard(self, operations: Sequence[Operation] = JOURNAL_OPERATIONS) -> GuardPolicy:
        """Return what stands before calls of these operations."""
        return GuardPolicy(
            operations={operation: getattr(self, operation.value) for operation in operations},
            rate=self.rate,
            retry_budget=self.retry_budget,
            hedge=self.hedge,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Everything that settling one intent depends on besides the intent, the outcome and the time."""

    capabilities: Capabilities
    retry: RetryPolicy
    fallback: str | None = None
    tells_late_refusals: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The declarations of one owner: its routes, its providers' capabilities, and what operators declare of them.

    `providers` may change while it is in use: each call is treated by what holds in its moment. With
    `tells_late_refusals` an owner who was told that an outcome is unknown also learns that it was not done.
    Raises FallbackUnsafe.
    """

    routes: Mapping[str, Route]
    capabilities: Mapping[str, Capabilities]
    providers: Mapping[str, ProviderPolicy] = field(default_factory=dict)
    tells_late_refusals: bool = False

    def __post_init__(self) -> None:
        for route in self.routes.values():
            for provider in route.providers[:-1]:
                if self.capabilities[provider].refusal_is_executed:
                    raise FallbackUnsafe(
                        f"{route.check} cannot fall back from {provider}: a check that it refuses counts as executed"
                    )

    def provider(self, provider: str) -> ProviderPolicy:
        """Return what is declared of a provider at this moment."""
        return self.providers.get(provider, _PLAIN)

    def timeout_s(self, provider: str) -> float:
        """Return how long a call to a provider may take. Raises KeyError for one that is not declared."""
        return self.provider(provider).timeout_s or self.capabilities[provider].timeout_s

    def has_fallback(self, provider: str) -> bool:
        """Say whether any check that a provider answers can go to another one."""
        return any(route.after(provider) for route in self.routes.values())

    def rules(self, *, check: str, provider: str) -> Rules:
        """Return what applies to a check at a provider. Raises KeyError for one that is not declared."""
        declared, capabilities = self.provider(provider), self.capabilities[provider]
        if declared.timeout_s is not None:
            capabilities = replace(capabilities, timeout_s=declared.timeout_s)
        return Rules(
            capabilities=capabilities,
            retry=declared.retry,
            fallback=self.routes[check].after(provider),
            tells_late_refusals=self.tells_late_refusals,
        )


_PLAIN = ProviderPolicy()
