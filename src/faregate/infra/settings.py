"""Every setting of faregate, read from `FAREGATE_*` variables and a `.env` file.

A new setting is one field with a description; `faregate config` shows it at once. A setting that nothing
reads is removed. Whatever grants access is a `SecretStr`, URLs with a password in them included. What the
settings do does not belong here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

ENV_PREFIX = "FAREGATE_"
ENV_FILE = ".env"


class Settings(BaseSettings):
    """The effective settings of a process. The defaults make a laptop work with no configuration at all."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True
    )

    # Servers
    home: Path = Field(
        default=Path(".faregate"),
        description="Folder of the embedded servers' data, of keys made on this machine and of logs.",
    )
    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL 18, postgresql://…; unset: an embedded one in the home folder."
    )
    database_replica_url: SecretStr | None = Field(
        default=None,
        description="A streaming replica of that PostgreSQL, for reads while it keeps up; unset: none.",
    )
    valkey_url: SecretStr | None = Field(
        default=None, description="Valkey 9, unix:///path or redis://…; unset: an embedded one in the home."
    )
    kafka_bootstrap: str | None = Field(
        default=None,
        description="Kafka that carries the events, host:port,…; unset: they are read from PostgreSQL.",
    )
    kafka_options: dict[str, SecretStr] = Field(
        default_factory=dict,
        description='Further settings of librdkafka as JSON, such as {"security.protocol": "SASL_SSL", …}.',
    )
    kafka_topic_prefix: str = Field(
        default="",
        description="Begins the name of each topic: tells several installations on one Kafka apart.",
    )
    kafka_partitions: int = Field(
        default=16,
        description="Partitions of each topic: 16, 32, 64, 128 or 256; there may only be more later.",
    )
    kafka_replicas: int = Field(default=1, gt=0, description="Replicas of each topic when it is made.")
    kafka_retention_days: float = Field(
        default=30.0, gt=0, description="How long topics keep events; the log keeps them in any case."
    )
    event_attempts_max: int = Field(
        default=20,
        ge=0,
        description="After so many attempts an event goes to Kafka's dead letters; 0: it is tried for ever.",
    )
    archive_dir: Path | None = Field(
        default=None, description="Folder of events in cold storage; unset: archive in the home folder."
    )
    database_connections_max: int = Field(
        default=10, gt=0, description="Most connections that one process opens for one role."
    )

    # HTTP
    api_host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    api_port: int = Field(default=8080, ge=0, le=65535, description="Port of the API; 0 takes a free one.")
    public_url: str = Field(
        default="http://127.0.0.1:8080", description="Where providers reach the API for their callbacks."
    )
    submit_body_bytes_max: int = Field(
        default=64 * 1024, gt=0, description="Longest request body that is read; a longer one is refused."
    )
    request_time_s_max: float = Field(
        default=10.0, gt=0, description="Longest that a request may take before it is answered with an error."
    )
    submit_rate_per_s: float = Field(
        default=200.0, ge=0.001, le=1e6, description="Submissions a second of a client without own limit."
    )
    submit_burst: int = Field(
        default=1_000, ge=1, le=10**9, description="Submissions that such a client may send at once."
    )
    read_rate_per_s: float = Field(
        default=1_000.0, ge=0.001, le=1e6, description="Reads a second of a client without own limit."
    )
    read_burst: int = Field(
        default=5_000, ge=1, le=10**9, description="Reads that such a client may send at once."
    )
    admission_delay_s_max: float = Field(
        default=0.5, gt=0, description="Delay from which on new submissions are refused, before it grows."
    )
    worker_port: int = Field(
        default=8081, ge=0, le=65535, description="Port of a worker's health and metrics; 0 takes a free one."
    )
    ready_lag_s_max: float = Field(
        default=30.0,
        gt=0,
        description="A process whose events waited longer is not ready until it caught up once; inf: never mind.",
    )

    # Points
    programme_time_zone: str = Field(
        default="UTC", description="Time zone whose midnight ends the day on which points expire."
    )
    programme_file: Path | None = Field(
        default=None, description="TOML file that declares the programme; unset: the one that comes along."
    )
    point_value_micro_minor: int = Field(
        default=500_000,
        ge=0,
        description="Value of a point, in millionths of the minor unit of the currency.",
    )
    point_breakage_bp: int = Field(
        default=1_000,
        ge=0,
        le=10_000,
        description="Share of dated points never to be spent, in basis points.",
    )
    point_breakage_open_bp: int = Field(
        default=500, ge=0, le=10_000, description="The same share of points that have no last day."
    )
    points_adjust_alone_max: int = Field(
        default=10_000, ge=0, description="Largest correction of points that one person may make alone."
    )

    # Travel
    travel_point_value_micro_minor: int = Field(
        default=1_000_000,
        ge=1,
        description="What a point pays of a trip, in millionths of the minor unit of the currency.",
    )
    travel_decide_s: float = Field(
        default=600.0, gt=0, description="Within how many seconds a redemption is booked, or not at all."
    )
    travel_send_s: float = Field(
        default=30.0,
        gt=0,
        description="How long a partner is tried; one that is slower by its own word, for twice its time-out.",
    )
    travel_resolve_s: float = Field(
        default=600.0,
        gt=0,
        description="How long it is asked what became of a step before a person must look at it.",
    )
    travel_answer_s: float = Field(
        default=600.0, gt=0, description="How long a member may think about a new price."
    )
    travel_search_s: float = Field(
        default=8.0, gt=0, description="How long a search waits for partners before it answers without them."
    )
    points_url: str | None = Field(
        default=None,
        description="Where travel asks `serve points` for points; unset: it uses the ledger in its process.",
    )
    members_url: str | None = Field(
        default=None,
        description="Where travel asks `serve members` for travellers; unset: it reads members in its process.",
    )
    travel_key: SecretStr | None = Field(
        default=None,
        description="API key of client `travel` for these, with the scopes that it says it needs.",
    )
    travel_country: str = Field(
        default="US",
        pattern="^[A-Z]{2}$",
        description="Country (ISO 3166) in which the cash part of a trip is paid.",
    )
    transfer_drop: Path | None = Field(
        default=None, description="Folder for the files of partners that take points; unset: one in the home."
    )
    transfer_every_s: float = Field(
        default=60.0, gt=0, description="How often points are told to partners by file, and answers read."
    )
    partner_policies: Path | None = Field(
        default=None,
        description="TOML file that declares how partners are treated; unset: the one that comes along.",
    )

    # Fraud
    fraud_features_ms_max: int = Field(
        default=25, gt=0, description="How long a payment waits for its features before it goes without."
    )
    fraud_audit_ms_max: int = Field(
        default=40,
        gt=0,
        description="How long an answer waits for PostgreSQL before its decision goes to the local spool.",
    )
    fraud_spool_bytes_max: int = Field(
        default=1024**3, gt=0, description="Most bytes of decisions in the local spool, in the home folder."
    )

    # Payments
    scorer_url: str | None = Field(
        default=None,
        description="Where payments ask for scores, as `serve fraud` answers; unset: FAREGATE_PUBLIC_URL.",
    )
    scorer_key: SecretStr | None = Field(
        default=None,
        description="API key for that, with scope fraud:score; unset: one that this home makes for itself.",
    )
    scorer_deadline_ms: int = Field(
        default=80,
        ge=1,
        le=60_000,
        description="How long a payment waits for its score, connecting included.",
    )
    payments_url: str | None = Field(
        default=None,
        description="Where travel asks `serve payments` for cash; unset: it uses payments in its process.",
    )

    # Credit
    working_steps_max: int = Field(
        default=64, gt=0, description="Most workflow steps that work at one moment, over all processes."
    )
    applications_in_flight_max: int = Field(
        default=3000,
        gt=0,
        description="Most applications whose checks are under way, over all processes; the rest wait their turn.",
    )
    application_deadline_s: float = Field(
        default=60.0, gt=0, description="Longest that an application waits for its checks."
    )
    duplicate_window_days: int = Field(
        default=30, gt=0, description="Days in which the same person's second application is a duplicate."
    )
    status_cache_ttl_s: float = Field(
        default=5.0, gt=0, description="Seconds that an application's status may be answered from the cache."
    )
    check_plans: Path | None = Field(
        default=None,
        description="TOML file of the checks that each product needs; unset: all four, all mandatory.",
    )
    provider_policies: Path | None = Field(
        default=None,
        description="TOML file of limits, breakers and retries by provider; unset: the one in the package.",
    )
    scorecard: str = Field(
        default="german-1", description="Scorecard that decides: the name of an artefact in the package."
    )

    issuer_file: Path | None = Field(
        default=None,
        description="JSON file that names creditor and agencies in notices; unset: issuer.json in home.",
    )

    # Webhooks
    webhook_secret_grace_h: float = Field(
        default=24.0, ge=0, description="Hours that a replaced webhook secret still signs beside the new one."
    )
    webhook_loopback: bool = Field(
        default=False, description="Development: webhooks may go to this machine, by http too, on any port."
    )
    webhook_in_flight_each: int = Field(
        default=10, gt=0, description="Most requests that are in flight to one webhook endpoint."
    )

    # Manual review
    review_lease_minutes: float = Field(
        default=30.0, gt=0, description="Minutes that a claim on a review lasts unless it is extended."
    )
    review_claims_max: int = Field(
        default=1, gt=0, description="Most reviews that one person may hold at one moment."
    )
    review_amount_max: int = Field(
        default=10_000,
        ge=0,
        description="Largest amount (whole units) that one person may decide on; above it a second one confirms.",
    )
    review_amount_if_absent: int = Field(
        default=0,
        ge=0,
        description="What an application that names no amount counts as (whole units) where amounts have a limit.",
    )
    review_note_chars_min: int = Field(
        default=20, ge=1, description="Fewest characters of the note that a reviewer's act needs."
    )
    review_key: SecretStr | None = Field(
        default=None, description="Your own API key, for what you do by `faregate review`."
    )

    # Personal data. The keys of encryption and those of the blind index are never the same.
    pii_keys: SecretStr | None = Field(
        default=None,
        description="Keys for personal data, JSON map of id to base64 of 32 bytes; unset: keys.json in home.",
    )
    pii_key_id: str = Field(default="k1", description="The one of pii_keys that encrypts new values.")
    blind_index_keys: SecretStr | None = Field(
        default=None,
        description="Keys that people are found by, a map like pii_keys; unset: keys.json in home.",
    )
    blind_index_key_id: str = Field(
        default="k1", description="The one of blind_index_keys that indexes new people."
    )

    # Logs and traces
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="One JSON object a line, or coloured lines for people."
    )
    trace_exporter: Literal["none", "otlp", "file"] = Field(
        default="none", description="Where spans go: nowhere, to a collector, or into a file of JSON lines."
    )
    trace_endpoint: str = Field(
        default="http://127.0.0.1:4318/v1/traces", description="OTLP over HTTP endpoint of the collector."
    )
    trace_file: Path | None = Field(
        default=None, description="File that spans are appended to; unset: traces.jsonl in the home folder."
    )
    trace_sample_ratio: float = Field(
        default=1.0, ge=0, le=1, description="Share of new traces that are recorded."
    )

    # The sandbox, and the providers, which are parts of it unless they have a URL of their own
    sandbox_host: str = Field(default="127.0.0.1", description="Address that the sandbox listens on.")
    sandbox_port: int = Field(
        default=8090, ge=0, le=65535, description="Port of the sandbox; 0 takes a free one."
    )
    bureau_url: str | None = Field(default=None, description="Credit bureau; unset: the sandbox's.")
    bureau_api_key: SecretStr = Field(
        default=SecretStr("sandbox-bureau-key"), description="API key for the credit bureau."
    )
    bureau_alt_url: str | None = Field(
        default=None, description="Second bureau, asked when the first did not do it; unset: the sandbox's."
    )
    bureau_alt_user: str = Field(default="faregate", description="User name at the second credit bureau.")
    bureau_alt_password: SecretStr = Field(
        default=SecretStr("sandbox-bureau-alt-password"), description="Password at the second credit bureau."
    )
    kyc_url: str | None = Field(default=None, description="Identity check; unset: the sandbox's.")
    kyc_api_key: SecretStr = Field(
        default=SecretStr("sandbox-kyc-key"), description="API key for the identity check."
    )
    kyc_callback_secret: SecretStr = Field(
        default=SecretStr("sandbox-kyc-callback-secret"), description="Signs the identity check's callbacks."
    )
    fraud_url: str | None = Field(default=None, description="Fraud check; unset: the sandbox's.")
    fraud_hmac_secret: SecretStr = Field(
        default=SecretStr("sandbox-fraud-hmac-secret"), description="Signs our requests to the fraud check."
    )
    income_url: str | None = Field(default=None, description="Income verification; unset: the sandbox's.")
    income_client_id: str = Field(default="faregate", description="OAuth2 client at the income verification.")
    income_client_secret: SecretStr = Field(
        default=SecretStr("sandbox-income-client-secret"), description="That client's secret."
    )
    income_callback_secret: SecretStr = Field(
        default=SecretStr("whsec_c2FuZGJveC1pbmNvbWUtY2FsbGJhY2stc2VjcmV0ISE="),
        description="Signs the income verification's callbacks, as a Standard Webhooks secret (whsec_…).",
    )
    airline_a_url: str | None = Field(default=None, description="Airline A; unset: the sandbox's.")
    airline_a_token: SecretStr = Field(
        default=SecretStr("sandbox-airline-a-token"), description="Bearer token for airline A."
    )
    airline_b_url: str | None = Field(default=None, description="Airline B; unset: the sandbox's.")
    airline_b_secret: SecretStr = Field(
        default=SecretStr("sandbox-airline-b-secret"), description="Signs our requests to airline B."
    )
    hotel_c_url: str | None = Field(default=None, description="Hotel C; unset: the sandbox's.")
    hotel_c_key: SecretStr = Field(
        default=SecretStr("sandbox-hotel-c-key"), description="API key for hotel C."
    )
    hotel_c_secret: SecretStr = Field(
        default=SecretStr("sandbox-hotel-c-secret"), description="Signs our requests to hotel C."
    )
    hotel_d_url: str | None = Field(default=None, description="Hotel D; unset: the sandbox's.")
    hotel_d_key: SecretStr = Field(
        default=SecretStr("sandbox-hotel-d-key"), description="API key for hotel D."
    )

    def provider_url(self, provider: str) -> str:
        """A provider's base URL without a slash at its end: its own setting, or its place in the sandbox."""
        own: str | None = getattr(self, f"{provider}_url")
        return (own or f"http://{self.sandbox_host}:{self.sandbox_port}/{provider}").rstrip("/")
