"""The JSON forms of events that clients report."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from faregate.events.behaviour import SESSION_S_MAX
from faregate.fraud.contracts.ingestion import EVENTS_MAX, EventOutcome, EventRefusal, Kind, Reported
from faregate.infra.http.dates import Instant

_ID = r"^[A-Za-z0-9_.:-]{1,64}$"

Id = Annotated[str, Field(pattern=_ID)]
MemberId = Annotated[str, Field(pattern=_ID, examples=["mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"])]
Address = Annotated[
    str, Field(max_length=64, description="IPv4 or IPv6; it is kept as a pseudonym.", examples=["192.0.2.7"])
]


class ReportedForm(BaseModel):
    """What all events have in common. `id` is the client's own: the same one again has no second effect."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Id
    occurred_at: Instant
    session_id: Id | None = None
    device_id: Id | None = Field(default=None, description="The fingerprint of a browser or an application.")
    ip: Address | None = None

    def reported(self) -> Reported:
        """Return the event for whoever takes it in."""
        said = self.model_dump()
        return Reported(kind=Kind(said.pop("kind")), **said)


class ClickForm(ReportedForm):
    """A member clicked."""

    kind: Literal["click"]
    member_id: MemberId
    page: str | None = Field(default=None, pattern=r"^[a-z0-9_-]{1,64}$", examples=["checkout"])


class SessionForm(ReportedForm):
    """A member's session ended."""

    kind: Literal["session"]
    member_id: MemberId
    duration_s: int = Field(ge=0, le=SESSION_S_MAX)
    clicks: int | None = Field(default=None, ge=0, le=1_000_000)


class LoginForm(ReportedForm):
    """Somebody tried to log in. Without `member_id`: under a name that nobody has."""

    kind: Literal["login"]
    member_id: MemberId | None = None
    succeeded: bool


class PasswordChangeForm(ReportedForm):
    """A member's password was changed."""

    kind: Literal["password_change"]
    member_id: MemberId


class DeviceForm(ReportedForm):
    """A member was seen with a device."""

    kind: Literal["device"]
    member_id: MemberId
    device_id: Id = Field(description="The fingerprint of a browser or an application.")


class AnyReportedForm(
    RootModel[
        Annotated[
            ClickForm | SessionForm | LoginForm | PasswordChangeForm | DeviceForm,
            Field(discriminator="kind"),
        ]
    ]
):
    """An event. Its kind says what else it takes."""


class EventsForm(BaseModel):
    """Events of any kinds. One that does not fit its form is refused alone."""

    model_config = ConfigDict(extra="forbid")

    events: list[Annotated[AnyReportedForm | dict[str, Any], Field(union_mode="left_to_right")]] = Field(
        min_length=1, max_length=EVENTS_MAX
    )


class WrongField(BaseModel):
    """A field that is not valid, and why."""

    field: str
    message: str


class TakenAnswer(BaseModel):
    """What became of one event, in the order of the request."""

    id: str | None = Field(description="Null if it had none that could be read.")
    outcome: EventOutcome
    reason: EventRefusal | None = None
    detail: str | None = None
    errors: list[WrongField] = Field(default=[], description="The fields, where the reason is `invalid`.")


class EventsAnswer(BaseModel):
    """What became of all of them."""

    accepted: int
    repeated: int
    refused: int
    events: list[TakenAnswer]
