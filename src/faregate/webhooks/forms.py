"""The JSON forms of the webhook routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from faregate.webhooks.contracts import Delivery, Endpoint, EndpointChanges, EndpointDraft
from faregate.webhooks.domain.addresses import URL_LENGTH_MAX
from faregate.webhooks.domain.schedule import State

_URL = Field(min_length=1, max_length=URL_LENGTH_MAX, examples=["https://hooks.example.com/faregate"])
_TYPES = Field(min_length=1, max_length=50, examples=[["credit.decision.finalized"]])
_EventType = Annotated[str, StringConstraints(min_length=1, max_length=100)]
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]*$"
_MESSAGE_ID = r"^msg_[0-9A-Za-z]{1,64}$"
ENDPOINT_EXAMPLE = {
    "url": "https://hooks.example.com/faregate",
    "event_types": ["credit.decision.finalized"],
    "description": "decisions",
}


class EndpointForm(BaseModel):
    """A new endpoint."""

    model_config = ConfigDict(extra="forbid")

    url: str = _URL
    event_types: list[_EventType] = _TYPES
    description: str = Field(default="", max_length=200, pattern=_PRINTABLE)

    def draft(self) -> EndpointDraft:
        """Return what the client chose."""
        return EndpointDraft(**self.model_dump())


class EndpointChangesForm(BaseModel):
    """What is to change of an endpoint; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1})

    url: str | None = Field(default=None, min_length=1, max_length=URL_LENGTH_MAX)
    event_types: list[_EventType] | None = Field(default=None, min_length=1, max_length=50)
    description: str | None = Field(default=None, max_length=200, pattern=_PRINTABLE)
    enabled: bool | None = None

    @model_validator(mode="after")
    def _something_changes(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("nothing is to change")
        return self

    def changes(self) -> EndpointChanges:
        """Return what is to change."""
        return EndpointChanges(**self.model_dump())


class EndpointAnswer(BaseModel):
    """An endpoint as its client sees it. `disabled_reason` is null while messages are delivered."""

    id: str
    url: str
    event_types: list[str]
    description: str
    disabled_reason: Literal["client", "gone", "failing"] | None
    failing_since: datetime | None
    paused_until: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """Return the answer for an endpoint."""
        return cls.model_validate(endpoint, from_attributes=True)


class EndpointSecretAnswer(EndpointAnswer):
    """An endpoint with its new secret. A repeated request is answered without it: it is shown once."""

    secret: str | None = Field(description="`whsec_` and base64; null in a repeated answer.")


class EndpointListAnswer(BaseModel):
    """The endpoints of a client, oldest first."""

    endpoints: list[EndpointAnswer]


class DeliveryAnswer(BaseModel):
    """One message to one endpoint. `next_at` is when it is tried next; null once it is settled."""

    message_id: str
    event_type: str
    subject_id: str
    state: Literal["pending", "delivered", "dead"]
    attempts: int
    next_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """Return the answer for a delivery."""
        return cls.model_validate(delivery, from_attributes=True)


class DeliveryListAnswer(BaseModel):
    """A page of deliveries, newest first. `next` continues it as `after`; null at the end."""

    deliveries: list[DeliveryAnswer]
    next: str | None


class DeliveryQuery(BaseModel):
    """Which deliveries are asked for."""

    state: State | None = None
    after: str | None = Field(default=None, pattern=_MESSAGE_ID)
    limit: int = Field(default=50, ge=1, le=200)


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


DELIVERY_PARAMETERS: Sequence[Mapping[str, Any]] = (
    _query(
        "state", "Only those that stand so.", {"type": "string", "enum": [state.value for state in State]}
    ),
    _query("after", "`next` of the page before.", {"type": "string", "pattern": _MESSAGE_ID}),
    _query("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
)
