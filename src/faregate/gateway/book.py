"""What holds for each provider at this moment: the file, and what operators changed since, on top of it.

Reading the changes from the database does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import structlog

from faregate.gateway.declarations import Declarations, PolicyInvalid
from faregate.gateway.policies.declared import Operation, Override
from faregate.gateway.policy import ProviderPolicy
from faregate.gateway.store.changes import Kind, ProviderChange

_log = structlog.get_logger(__name__)

Changes = Mapping[tuple[str, Kind], ProviderChange]


class PolicyBook(Mapping[str, ProviderPolicy]):
    """The policies of some providers by name; `take` brings them up to date."""

    def __init__(self, declarations: Declarations, *, providers: Sequence[str]) -> None:
        self._declarations = declarations
        self._policies = {name: declarations.policy(name) for name in providers}
        self._changes: Changes = {}

    def __getitem__(self, provider: str) -> ProviderPolicy:
        return self._policies[provider]

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def __len__(self) -> int:
        return len(self._policies)

    def take(self, changes: Changes) -> Sequence[str]:
        """Take in the newest changes, and return the providers for which something is different now.

        A change that this version of the program cannot read is logged, and what held before goes on.
        """
        old, self._changes = self._changes, changes
        touched = {key[0] for key in changes if old.get(key) != changes[key]} & self._policies.keys()
        for name in touched:
            change = changes.get((name, Kind.POLICY))
            try:
                self._policies[name] = self._declarations.policy(name, change.content if change else None)
            except PolicyInvalid as error:
                _log.error("gateway.policy_not_understood", provider=name, error=error.detail)
        return sorted(touched)

    def overrides(self, provider: str) -> Mapping[Operation, Override]:
        """Return which breakers of a provider an operator holds open or closed."""
        change = self._changes.get((provider, Kind.BREAKER))
        if change is None:
            return {}
        known = {operation.value for operation in Operation}
        return {Operation(name): Override(how) for name, how in change.content.items() if name in known}
