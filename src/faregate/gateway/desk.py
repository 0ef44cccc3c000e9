"""What operators do with the gateway: look at it, change a policy, hold a breaker. The door for commands and routes.

Every change is appended with its author and reason, announced in the event log, and followed by running processes
within seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from faregate.events.gateway import PolicyChanged
from faregate.gateway.control import Stamp
from faregate.gateway.declarations import Declarations, Fields
from faregate.gateway.policies.breaker import State
from faregate.gateway.policies.declared import Operation, Override
from faregate.gateway.policy import JOURNAL_OPERATIONS
from faregate.gateway.store.changes import (
    Kind,
    ProviderChange,
    append_change,
    change_history,
    newest_changes,
)
from faregate.infra.cache import CacheUnavailable
from faregate.infra.database import Database
from faregate.infra.eventlog import append
from faregate.infra.shared_breakers import SharedBreakers, SharedView
from faregate.kernel.errors import InvalidError, NotFoundError

HISTORY_MAX = 100


class ProviderNotDeclared(NotFoundError):
    """The gateway knows no provider of this name."""


class OperationNotGuarded(InvalidError):
    """The gateway makes no calls of this operation to the provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """What holds for a provider: every field, those that differ from the file, and the change that made them so."""

    provider: str
    fields: Fields
    overrides: Fields
    change: ProviderChange | None

    @property
    def version(self) -> int:
        """What the next change must name as seen; 0 where nothing was changed yet."""
        return self.change.version if self.change else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """How one operation stands over all processes. `shared_state` is None while Valkey is down.

    `in_flight` and `limit` are sums; `calls`, `failed` and `slow` those of the processes' recent windows.
    `alone` counts the processes that go by what they see themselves, `following` those that know of the override.
    """

    operation: str
    override: Override
    shared_state: str | None
    open_for_s: float | None
    states: Mapping[str, int]
    alone: int
    following: int
    in_flight: int
    limit: int
    calls: int
    failed: int
    slow: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderView:
    """How one provider stands. `processes` are those that call it and were heard of in the last seconds."""

    provider: str
    processes: int
    retries_granted: int
    retries_left: float
    rate_per_s: float
    changed_fields: int
    operations: Sequence[OperationView]


@dataclass(kw_only=True)
class GatewayDesk:
    """The gateway's providers under an operator's hands. `declarations`: the file that declares each of them."""

    database: Database
    declarations: Mapping[str, Declarations]
    breakers: SharedBreakers
    stamp: Stamp
    operations: Sequence[Operation] = field(default=JOURNAL_OPERATIONS)

    async def policy(self, provider: str) -> PolicyView:
        """Return what holds for a provider. Raises ProviderNotDeclared."""
        self._require(provider)
        async with self.database.connection() as conn:
            change = (await newest_changes(conn)).get((provider, Kind.POLICY))
        overrides = dict(change.content) if change else {}
        fields = self.declarations[provider].fields(provider, overrides)
        return PolicyView(provider=provider, fields=fields, overrides=overrides, change=change)

    async def change_policy(
        self, provider: str, overrides: Fields, *, seen_version: int, reason: str, by: str
    ) -> PolicyView:
        """Let these fields, and no others, differ from the file. Raises PolicyInvalid and ChangeOvertaken."""
        self._require(provider)
        self.declarations[provider].policy(provider, overrides)
        await self._change(provider, Kind.POLICY, overrides, seen_version=seen_version, reason=reason, by=by)
        return await self.policy(provider)

    async def hold(
        self, provider: str, how: Override, *, operations: Sequence[Operation], reason: str, by: str
    ) -> Mapping[str, str]:
        """Hold the breakers of these operations open or closed, or leave them to themselves; return all that are held.

        Raises OperationNotGuarded, and ChangeOvertaken if somebody else did the same in this moment.
        """
        self._require(provider)
        if unknown := [one.value for one in operations if one not in self.operations]:
            raise OperationNotGuarded(f"no {unknown[0]} calls are made to {provider}", provider=provider)
        async with self.database.connection() as conn:
            change = (await newest_changes(conn)).get((provider, Kind.BREAKER))
        held = dict(change.content) if change else {}
        held |= {operation.value: how.value for operation in operations}
        held = {name: held[name] for name in sorted(held) if held[name] != Override.AUTOMATIC}
        seen = change.version if change else 0
        await self._change(provider, Kind.BREAKER, held, seen_version=seen, reason=reason, by=by)
        return held

    async def history(self, provider: str) -> Sequence[ProviderChange]:
        """Return the last changes of a provider, the newest first. Raises ProviderNotDeclared."""
        self._require(provider)
        async with self.database.connection() as conn:
            return await change_history(conn, provider=provider, most=HISTORY_MAX)

    async def status(self) -> Sequence[ProviderView]:
        """Return how every provider stands. While Valkey is down, only what operators changed is known."""
        async with self.database.connection() as conn:
            changes = await newest_changes(conn)
        keys = [f"{name}/{operation}" for name in self.declarations for operation in self.operations]
        try:
            census = await self.breakers.census(keys=keys)
            shown = [orjson.loads(document) for document in (await self.breakers.shown()).values()]
            views: Mapping[str, SharedView] = dict(zip(keys, census.views, strict=True))
        except CacheUnavailable:
            shown, views = [], {}
        return [self._view(name, changes, shown, views) for name in self.declarations]

    async def held_back(self) -> Sequence[str]:
        """Return the providers to which nothing is sent now, by their breaker or by an operator."""
        return [
            view.provider
            for view in await self.status()
            for one in view.operations
            if one.operation == Operation.SEND and (one.override is Override.FORCED_OPEN or _is_open(one))
        ]

    async def _change(
        self,
        provider: str,
        kind: Kind,
        content: Mapping[str, Any],
        *,
        seen_version: int,
        reason: str,
        by: str,
    ) -> None:
        async with self.database.transaction() as conn:
            version = await append_change(
                conn,
                provider=provider,
                kind=kind,
                seen_version=seen_version,
                content=content,
                reason=reason,
                changed_by=by,
            )
            event = PolicyChanged(
                provider=provider,
                subject=kind.value,
                version=version,
                content=dict(content),
                reason=reason,
                changed_by=by,
            )
            await append(conn, [self.stamp(event)])

    def _view(
        self,
        name: str,
        changes: Mapping[tuple[str, Kind], ProviderChange],
        shown: Sequence[Mapping[str, Any]],
        views: Mapping[str, SharedView],
    ) -> ProviderView:
        policy, breaker = changes.get((name, Kind.POLICY)), changes.get((name, Kind.BREAKER))
        overrides = dict(policy.content) if policy else {}
        seen = [document[name] for document in shown if name in document]
        held = breaker.content if breaker else {}
        return ProviderView(
            provider=name,
            processes=len(seen),
            retries_granted=sum(one["retries_granted"] for one in seen),
            retries_left=sum(one["retries_left"] for one in seen),
            rate_per_s=self.declarations[name].policy(name, overrides).rate.per_s,
            changed_fields=len(overrides),
            operations=[
                _operation_view(
                    operation.value,
                    Override(held.get(operation.value, Override.AUTOMATIC)),
                    [one["operations"][operation.value] for one in seen],
                    views.get(f"{name}/{operation}"),
                )
                for operation in self.operations
            ],
        )

    def _require(self, provider: str) -> None:
        if provider not in self.declarations:
            known = ", ".join(self.declarations)
            raise ProviderNotDeclared(f"there is no provider {provider!r}; there are {known}")


def _is_open(view: OperationView) -> bool:
    return view.shared_state == State.OPEN and view.override is Override.AUTOMATIC


def _operation_view(
    operation: str, override: Override, seen: Sequence[Mapping[str, Any]], view: SharedView | None
) -> OperationView:
    states = [one["state"] for one in seen]
    return OperationView(
        operation=operation,
        override=override,
        shared_state=view.state if view else None,
        open_for_s=view.open_for_s if view else None,
        states={state.value: states.count(state.value) for state in State if state.value in states},
        alone=sum(not one["is_led"] for one in seen),
        following=sum(one["override"] == override.value for one in seen),
        in_flight=sum(one["in_flight"] for one in seen),
        limit=sum(one["limit"] for one in seen),
        calls=sum(one["calls"] for one in seen),
        failed=sum(one["failed"] for one in seen),
        slow=sum(one["slow"] for one in seen),
    )
