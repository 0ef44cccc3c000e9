"""What goes over the wire about rulesets: the bodies of requests and answers, and the queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from faregate.credit.contracts import Redecision, Status
from faregate.rules.findings import Finding, Kind, Severity

_REASON = Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]*$")
_APPLICATION_ID = r"^[A-Za-z0-9_]{1,64}$"
_LABEL = r"^[a-z][a-z0-9-]{2,62}-[1-9][0-9]{0,8}$"


class ReasonForm(BaseModel):
    """Why somebody does it; kept for ever."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = _REASON


class CheckForm(BaseModel):
    """A ruleset to be looked at."""

    model_config = ConfigDict(extra="forbid", strict=True)

    document: dict[str, Any]


class PublishForm(ReasonForm):
    """A ruleset to be published."""

    document: dict[str, Any]


class RollBackForm(ReasonForm):
    """With `expected`, nothing happens unless that version is the active one."""

    expected: str | None = Field(default=None, pattern=_LABEL, examples=["card-eligibility-2"])


class SplitForm(ReasonForm):
    """The share of applications that the challenger decides."""

    basis_points: int = Field(ge=1, le=10_000, description="Of 10,000 applications.", examples=[500])


class FindingAnswer(BaseModel):
    """A finding with its place. Errors refuse a ruleset; notes name what could not be examined."""

    severity: Severity
    kind: Kind
    node: str | None
    row: str | None
    column: str | None
    message: str

    @staticmethod
    def all_of(findings: Sequence[Finding]) -> list[FindingAnswer]:
        """Return findings as they are sent."""
        return [FindingAnswer.model_validate(finding.document()) for finding in findings]


class CheckAnswer(BaseModel):
    """Whether a ruleset may be published, and all that can be said against it."""

    may_be_published: bool
    findings: list[FindingAnswer]


class VersionAnswer(BaseModel):
    """A published version. `active_since` is null unless it decides now."""

    model_config = ConfigDict(from_attributes=True)

    label: str
    name: str
    version: int
    sha256: str
    published_at: datetime
    published_by: str
    active_since: datetime | None = None


class VersionListAnswer(BaseModel):
    """Published versions, newest first."""

    rulesets: list[VersionAnswer]


class PublishedAnswer(VersionAnswer):
    """What was published, and what its analysis warned of."""

    findings: list[FindingAnswer]


class DocumentAnswer(BaseModel):
    """A ruleset as it was published."""

    label: str
    document: dict[str, Any]


class DifferenceAnswer(BaseModel):
    """One thing that differs; `place` leads to it."""

    change: Literal["added", "removed", "changed", "moved"]
    place: list[str]
    before: Any
    after: Any


class DiffAnswer(BaseModel):
    """What differs between two versions."""

    before: str
    after: str
    differences: list[DifferenceAnswer]


class TrafficAnswer(BaseModel):
    """What decides, what watches, and what challenges for how many of 10,000 applications."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    shadow_version: int | None
    challenger_version: int | None
    challenger_basis_points: int


class TouchedCount(BaseModel):
    """How many decisions of one outcome there are, and whether they still stand."""

    outcome: Status
    stands: bool
    decisions: int


class RolledBackAnswer(BaseModel):
    """The version that was active in `[since, rolled_back_at)`, what it decided, and the version that is active now."""

    name: str
    from_version: int
    to_version: int
    since: datetime
    rolled_back_at: datetime
    decisions: list[TouchedCount]


class HistoryEntry(BaseModel):
    """One act, with who and why."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    version: int | None
    action: str
    at: datetime
    actor: str
    reason: str | None
    details: dict[str, Any]


class HistoryAnswer(BaseModel):
    """A page of what was done, newest first. `next` continues it as `before`."""

    entries: list[HistoryEntry]
    next: int | None


class TouchedEntry(BaseModel):
    """A decision that the version made; `status` and `newest_version` are the application's now."""

    model_config = ConfigDict(from_attributes=True)

    application_id: str
    version: int
    outcome: Status
    risk_score: float | None
    reason_codes: list[str]
    decided_at: datetime
    status: Status
    newest_version: int


class TouchedAnswer(BaseModel):
    """A page of decisions in the order of their applications. `next` continues it as `after`."""

    decisions: list[TouchedEntry]
    next: str | None


class RulesetReportAnswer(BaseModel):
    """A report about a version; the keys are described where the report is asked for."""

    ruleset_version: str
    report: dict[str, Any]


class RedecisionCount(BaseModel):
    """Applications of one kind in a report."""

    outcome_before: Status
    outcome_after: Status
    change: Literal["unchanged", "reasons", "outcome"]
    state: Literal["unchanged", "pending", "applied", "skipped"]
    applications: int


class RedecisionAnswer(BaseModel):
    """A report of what another version makes of a version's decisions; `counts` is what it adds up to so far."""

    id: str
    ruleset_version: str
    target_version: str
    created_at: datetime
    created_by: str
    is_complete: bool
    counts: list[RedecisionCount]

    @staticmethod
    def of(report: Redecision, counts: Sequence[Mapping[str, Any]]) -> RedecisionAnswer:
        """Return a report as it is sent."""
        return RedecisionAnswer(
            id=report.id,
            ruleset_version=report.ruleset_version,
            target_version=report.target_version,
            created_at=report.created_at,
            created_by=report.created_by,
            is_complete=report.is_complete,
            counts=[RedecisionCount.model_validate(count) for count in counts],
        )


class RedecisionItemAnswer(BaseModel):
    """One application of a report: its answer before and after, and what became of it."""

    model_config = ConfigDict(from_attributes=True)

    application_id: str
    decision_version: int
    change: Literal["unchanged", "reasons", "outcome"]
    before: dict[str, Any]
    after: dict[str, Any]
    state: Literal["unchanged", "pending", "applied", "skipped"]
    new_version: int | None
    note: str | None


class RedecisionItemsAnswer(BaseModel):
    """A page of a report in the order of its applications. `next` continues it as `after`."""

    items: list[RedecisionItemAnswer]
    next: str | None


class AppliedAnswer(BaseModel):
    """What this batch did, and to how many applications the report is still to be applied: send again until 0."""

    model_config = ConfigDict(from_attributes=True)

    applied: int
    skipped: int
    pending: int


class NameQuery(BaseModel):
    """Which versions are asked for."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9-]{2,62}$")


class AgainstQuery(BaseModel):
    """What a version is compared with."""

    model_config = ConfigDict(extra="forbid")

    against: str = Field(pattern=_LABEL)


class HistoryQuery(BaseModel):
    """Which page of a history is asked for."""

    model_config = ConfigDict(extra="forbid")

    before: int | None = Field(default=None, ge=1, lt=2**63)
    limit: int = Field(default=50, ge=1, le=500)


class PageQuery(BaseModel):
    """Which page is asked for."""

    model_config = ConfigDict(extra="forbid")

    after: str = Field(default="", pattern=r"^([A-Za-z0-9_]{1,64}(/[0-9]{1,9})?)?$")
    limit: int = Field(default=100, ge=1, le=1_000)

    @property
    def after_decision(self) -> tuple[str, int]:
        """The application and version after which a page of decisions begins."""
        application_id, _, version = self.after.partition("/")
        return application_id, int(version or 0)


class ItemsQuery(BaseModel):
    """Which page of a report is asked for."""

    model_config = ConfigDict(extra="forbid")

    after: str = Field(default="", pattern=r"^[A-Za-z0-9_]{0,64}$")
    limit: int = Field(default=100, ge=1, le=1_000)
    only_changed: bool = False


class TrialQuery(BaseModel):
    """What a report of a shadow or of a split is about."""

    model_config = ConfigDict(extra="forbid")

    version: str | None = Field(default=None, pattern=_LABEL)
    since: AwareDatetime | None = None


class ShadowQuery(TrialQuery):
    """What a report of a shadow is about, and which page of differing applications it shows."""

    after: str = Field(default="", pattern=r"^[A-Za-z0-9_]{0,64}$")
    limit: int = Field(default=20, ge=1, le=500)


class BacktestQuery(BaseModel):
    """On which decisions a version is tested."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    basis_points: int = Field(default=10_000, ge=1, le=10_000)
    limit: int = Field(default=1_000, ge=1, le=2_000)


def parameters_of(query: type[BaseModel]) -> list[dict[str, Any]]:
    """Return the OpenAPI parameters of a query."""
    schema = query.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": {key: value for key, value in described.items() if key not in ("title", "description")},
            **({"description": described["description"]} if "description" in described else {}),
        }
        for name, described in schema["properties"].items()
    ]
