-- The credit context: applications, their signals, decisions, runs and the audit trail.
set local role faregate_credit;

create function credit.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: % refused', tg_table_name, tg_op using errcode = 'integrity_constraint_violation';
end $$;

-- A person under a surrogate id, found only through a keyed hash of the identity.
create table credit.applicant (
  id text primary key,
  blind_index_key_id text not null,
  blind_index bytea not null,
  created_at timestamptz not null,
  unique (blind_index_key_id, blind_index)
);

create table credit.application (
  id text primary key,
  client_id text not null,
  applicant_id text not null references credit.applicant (id),
  idempotency_key text not null,
  product_type text not null,
  amount bigint check (amount > 0),
  purpose text,
  annual_income bigint not null check (annual_income >= 0),
  age_years smallint not null,
  identity_encrypted bytea not null,
  status text not null default 'processing'
    check (status in ('processing', 'approved', 'denied', 'manual_review')),
  latest_step text not null default 'submitted',
  revision integer not null default 1, -- counts what pollers see change: a status snapshot never replaces a newer one
  decision_version integer not null default 0,
  ready_at timestamptz,
  deadline_at timestamptz not null,
  submitted_at timestamptz not null,
  updated_at timestamptz not null,
  constraint one_application_per_key unique (applicant_id, idempotency_key)
) with (fillfactor = 70);

create index application_in_processing on credit.application (deadline_at) where status = 'processing';

-- What is known of one check of one application: the newest settled outcome.
create table credit.risk_signal (
  application_id text not null references credit.application (id),
  check_name text not null,
  status text not null check (status in ('done', 'not_done', 'unknown')),
  provider text not null,
  provider_request_id text not null,
  reason text,
  facts jsonb not null,
  received_at timestamptz not null,
  primary key (application_id, check_name)
);

create table credit.workflow_execution (
  application_id text primary key references credit.application (id),
  run_id text not null unique,
  status text not null check (status in ('waiting', 'finished')),
  started_at timestamptz not null,
  finished_at timestamptz
) with (fillfactor = 80);

-- Every decision ever made, with all that it was made from. A re-evaluation appends a version.
create table credit.decision (
  application_id text not null references credit.application (id),
  version integer not null check (version > 0),
  outcome text not null check (outcome in ('approved', 'denied', 'manual_review')),
  risk_score double precision check (risk_score between 0 and 1),
  reason_codes text[] not null,
  adverse_action_reasons jsonb not null,
  ruleset_version text not null,
  scorecard_version text not null,
  inputs jsonb not null,
  inputs_sha256 bytea not null,
  result jsonb not null,
  decided_at timestamptz not null,
  primary key (application_id, version)
);

create table credit.audit_entry (
  id bigint generated always as identity primary key,
  application_id text not null,
  at timestamptz not null,
  actor text not null,
  action text not null,
  details jsonb not null
);
create index audit_entry_by_application on credit.audit_entry (application_id, id);

create trigger decision_is_append_only before update or delete on credit.decision
  for each row execute function credit.refuse_change();
create trigger audit_entry_is_append_only before update or delete on credit.audit_entry
  for each row execute function credit.refuse_change();
create trigger decision_is_not_truncated before truncate on credit.decision
  for each statement execute function credit.refuse_change();
create trigger audit_entry_is_not_truncated before truncate on credit.audit_entry
  for each statement execute function credit.refuse_change();
