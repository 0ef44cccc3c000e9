-- Manual review, and further versions of decisions.
set local role faregate_credit;

-- Requests to decide again that were carried out: the same key for the same application does nothing the second time.
create table credit.reevaluation (
  application_id text not null,
  request_key text not null,
  version integer not null,
  primary key (application_id, request_key)
);

-- One stay of an application in manual review; an application has at most one that is not closed. Whoever changes a
-- row holds the lock of its application's row, so that it goes in step with decisions.
create table credit.review (
  id text primary key,
  application_id text not null references credit.application (id),
  decision_version integer not null,          -- the newest decision; the one that ended the review once it is closed
  revision integer not null default 1,        -- counts what could change a reviewer's mind: facts and decisions
  has_new_facts boolean not null default false,
  cause text not null check (cause in ('decision_in_doubt', 'rules', 'concern', 'check_missing', 'score_band')),
  priority smallint not null check (priority between 1 and 4), -- 1 is the most urgent
  is_priority_set boolean not null default false,              -- by a person: rules leave it alone
  opened_at timestamptz not null,
  due_at timestamptz not null,
  state text not null default 'open' check (state in ('open', 'proposed', 'closed')),
  claimed_by text,
  claimed_until timestamptz,
  fence bigint not null default 0,            -- the number of claims: what is done under an older one is refused
  proposed_by text,
  proposed_at timestamptz,
  proposed_outcome text check (proposed_outcome in ('approved', 'denied')),
  proposed_reason_codes text[],
  proposed_note text,
  closed_at timestamptz,
  decided_by text,                            -- null: rules ended the review
  check ((state = 'proposed') <= (proposed_by is not null)),
  check ((state = 'closed') = (closed_at is not null)),
  check (state <> 'closed' or claimed_by is null),
  constraint four_eyes_are_not_two check (
    claimed_by is distinct from proposed_by and decided_by is distinct from proposed_by or proposed_by is null)
) with (fillfactor = 80);

create unique index review_not_closed on credit.review (application_id) where state <> 'closed';
create index review_queue on credit.review (due_at, id) where state <> 'closed';
create index review_claims on credit.review (claimed_by) where claimed_by is not null;

create index application_in_review on credit.application (id) where status = 'manual_review';

-- Requests for a new pull of checks whose outcome is known. It takes two people.
create table credit.repull (
  id text primary key,
  review_id text not null references credit.review (id),
  application_id text not null references credit.application (id),
  checks text[] not null check (cardinality(checks) > 0),
  reason text not null,
  state text not null default 'requested' check (state in ('requested', 'authorised', 'rejected')),
  requested_by text not null,
  requested_at timestamptz not null,
  answered_by text,
  answered_at timestamptz,
  provider_request_ids text[] not null default '{}',
  check ((state = 'requested') = (answered_by is null)),
  constraint repull_takes_two_people check (answered_by is distinct from requested_by)
);
create unique index repull_open_of_review on credit.repull (review_id) where state = 'requested';
create index repull_of_application on credit.repull (application_id);

-- The attempt from which on an answer replaces one that was done before; set by an authorised new pull only.
alter table credit.risk_signal add column awaited_attempt smallint check (awaited_attempt > 1);

create function credit.attempt_of(provider_request_id text) returns integer
language sql immutable strict parallel safe
return substring(provider_request_id from '[0-9]+$')::integer;

-- The journal numbers epochs by the attempt that began them. Within one, at most one request may have been executed.
set local role faregate_gateway;
alter table gateway.intent add column epoch smallint not null default 1 check (epoch between 1 and attempt);
drop index gateway.intent_one_pull;
create unique index intent_one_pull on gateway.intent (owner, subject_id, check_name, epoch) where state <> 'not_done';

-- Declares intents; those that exist, or whose check has one in its newest epoch that may be executed, are left out of
-- the answer. A fallback provider joins the newest epoch of its check.
create or replace function gateway.declare(intents jsonb) returns setof gateway.intent_view
language sql security definer set search_path = gateway, pg_temp set enable_seqscan = off
begin atomic
    insert into gateway.intent as i (provider_request_id, owner, subject_id, check_name, provider, attempt, deadline,
        next_at, sends, traceparent, epoch)
    select n.subject_id || ':' || n.provider || ':' || greatest(n.attempt, e.epoch), gateway.caller(), n.subject_id,
        n.check_name, n.provider, greatest(n.attempt, e.epoch), n.deadline,
        now() + make_interval(secs => n.delay_s), n.sends, n.traceparent, e.epoch
    from jsonb_to_recordset(intents) as n (subject_id text, check_name text, provider text, attempt smallint,
        deadline timestamptz, delay_s double precision, sends smallint, traceparent text)
    cross join lateral (
        select coalesce(max(o.epoch), 1::smallint) as epoch
        from gateway.intent o
        where o.owner = gateway.caller() and o.check_name = n.check_name
          and o.provider_request_id > n.subject_id || ':' and o.provider_request_id < n.subject_id || ';') as e
    order by 1
    on conflict do nothing
    returning i.provider_request_id, i.subject_id, i.check_name, i.provider, i.attempt, i.state, i.deadline,
        i.next_at, i.sends, i.looks, i.sent_end, i.doubtful, i.reason, i.settled, i.traceparent, now();
end;

-- Begins a new epoch of each check: a further pull that somebody authorised. A check is left out of the answer while
-- the truth about an earlier request is not known, and when there was none. The caller holds a lock of the subject.
create function gateway.declare_anew(intents jsonb) returns setof gateway.intent_view
language sql security definer set search_path = gateway, pg_temp set enable_seqscan = off
begin atomic
    insert into gateway.intent as i (provider_request_id, owner, subject_id, check_name, provider, attempt, deadline,
        next_at, traceparent, epoch)
    select n.subject_id || ':' || n.provider || ':' || e.attempt, gateway.caller(), n.subject_id, n.check_name,
        n.provider, e.attempt, n.deadline, now(), n.traceparent, e.attempt
    from jsonb_to_recordset(intents) as n (subject_id text, check_name text, provider text, deadline timestamptz,
        traceparent text)
    cross join lateral (
        select (max(o.attempt) + 1)::smallint as attempt, bool_and(o.state in ('done', 'not_done')) as is_known
        from gateway.intent o
        where o.owner = gateway.caller() and o.check_name = n.check_name
          and o.provider_request_id > n.subject_id || ':' and o.provider_request_id < n.subject_id || ';') as e
    where e.is_known
    order by 1
    on conflict do nothing
    returning i.provider_request_id, i.subject_id, i.check_name, i.provider, i.attempt, i.state, i.deadline,
        i.next_at, i.sends, i.looks, i.sent_end, i.doubtful, i.reason, i.settled, i.traceparent, now();
end;

revoke all on function gateway.declare_anew from public;
grant execute on function gateway.declare_anew to faregate_app;
