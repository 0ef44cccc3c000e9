"""The events of the gateway, ordered by the provider that they are about."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from faregate.events.base import PublishedEvent


class GatewayEvent(PublishedEvent):
    """A fact about one provider."""

    aggregate_type: ClassVar[str] = "gateway.provider"
    key: ClassVar[str] = "provider"

    provider: str = Field(min_length=1, examples=["bureau"])


class BreakerEvent(GatewayEvent):
    """A change of state of a breaker that it made by itself."""

    operation: str = Field(min_length=1, examples=["send"], description="The calls that it stands before.")
    scope: Literal["all", "process"] = Field(
        description="Of all processes, or of one alone that could not reach the others."
    )


class BreakerOpened(BreakerEvent):
    """Calls fail or are slow: no more of them are made for a while."""

    type: ClassVar[str] = "gateway.breaker.opened"


class BreakerHalfOpened(BreakerEvent):
    """A few calls are made to see whether the provider is well again."""

    type: ClassVar[str] = "gateway.breaker.half_opened"


class BreakerClosed(BreakerEvent):
    """Enough of these calls succeeded: all are made again."""

    type: ClassVar[str] = "gateway.breaker.closed"


class PolicyChanged(GatewayEvent):
    """An operator changed how a provider is treated; running processes follow within seconds."""

    type: ClassVar[str] = "gateway.policy.changed"

    subject: Literal["policy", "breaker"]
    version: int = Field(ge=1, description="Grows with every change of any provider.")
    content: dict[str, Any] = Field(description="All that now differs from the file, or is held by hand.")
    reason: str = Field(min_length=1)
    changed_by: str = Field(min_length=1, description="Id of the client or the account that did it.")


EVENTS: tuple[type[GatewayEvent], ...] = (BreakerOpened, BreakerHalfOpened, BreakerClosed, PolicyChanged)
"""Every event that the gateway publishes."""
