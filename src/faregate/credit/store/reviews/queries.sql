-- name: locate
-- The application that a review is about; its row is locked before the review is read.
select application_id from credit.review where id = %(id)s;

-- name: review
-- One review. `read_at` is the one clock that all processes agree on, read after the lock was waited for.
select r.*, clock_timestamp() as read_at from credit.review r where r.id = %(id)s;

-- name: reviews_not_closed
-- The reviews of applications that are not closed.
select * from credit.review where application_id = any(%(application_ids)s::text[]) and state <> 'closed'
order by application_id;

-- name: save_reviews
-- Reviews as they became, new ones too, each with its audit entry.
with w as (
  select * from json_to_recordset(%(reviews)s::json) as w (
    id text, application_id text, decision_version int, revision int, has_new_facts boolean, cause text,
    priority smallint, is_priority_set boolean, opened_at timestamptz, due_at timestamptz, state text,
    claimed_by text, claimed_until timestamptz, fence bigint, proposed_by text, proposed_at timestamptz,
    proposed_outcome text, proposed_reason_codes text[], proposed_note text, closed_at timestamptz, decided_by text,
    actor text, action text, details jsonb)),
saved as (
  insert into credit.review as r (
    id, application_id, decision_version, revision, has_new_facts, cause, priority, is_priority_set, opened_at, due_at,
    state, claimed_by, claimed_until, fence, proposed_by, proposed_at, proposed_outcome, proposed_reason_codes,
    proposed_note, closed_at, decided_by)
  select id, application_id, decision_version, revision, has_new_facts, cause, priority, is_priority_set, opened_at,
    due_at, state, claimed_by, claimed_until, fence, proposed_by, proposed_at, proposed_outcome,
    proposed_reason_codes, proposed_note, closed_at, decided_by
  from w order by application_id
  on conflict (id) do update set
    decision_version = excluded.decision_version, revision = excluded.revision,
    has_new_facts = excluded.has_new_facts, cause = excluded.cause, priority = excluded.priority,
    is_priority_set = excluded.is_priority_set, due_at = excluded.due_at, state = excluded.state,
    claimed_by = excluded.claimed_by, claimed_until = excluded.claimed_until, fence = excluded.fence,
    proposed_by = excluded.proposed_by, proposed_at = excluded.proposed_at,
    proposed_outcome = excluded.proposed_outcome, proposed_reason_codes = excluded.proposed_reason_codes,
    proposed_note = excluded.proposed_note, closed_at = excluded.closed_at, decided_by = excluded.decided_by)
insert into credit.audit_entry (application_id, at, actor, action, details)
select application_id, %(now)s, actor, action, details || jsonb_build_object('review_id', id) from w
order by application_id;

-- name: lock_reviewer
-- One person's claims go one after the other, so that none is made beyond the limit.
select pg_advisory_xact_lock(hashtextextended('credit.review:' || %(reviewer)s, 0));

-- name: live_claims
-- How many other reviews a person holds.
select count(*) as claims from credit.review
where claimed_by = %(reviewer)s and claimed_until > clock_timestamp() and id <> %(id)s;

-- name: queue
-- A page of the queue in the wanted order.
with line as (
  select r.*, a.product_type, a.amount, a.latest_step,
    case %(order)s when 'due' then extract(epoch from r.due_at) when 'opened' then extract(epoch from r.opened_at)
                   else -coalesce(a.amount, 0) end as rank,
    coalesce(r.claimed_until > clock_timestamp(), false) as is_claimed
  from credit.review r join credit.application a on a.id = r.application_id
  where r.state <> 'closed')
select * from line
where (%(state)s::text is null or state = %(state)s)
  and (%(priority)s::smallint is null or priority = %(priority)s)
  and (%(cause)s::text is null or cause = %(cause)s)
  and (%(is_claimed)s::boolean is null or is_claimed = %(is_claimed)s)
  and (%(claimed_by)s::text is null or (is_claimed and claimed_by = %(claimed_by)s))
  and (%(has_new_facts)s::boolean is null or has_new_facts = %(has_new_facts)s)
  and (%(is_overdue)s::boolean is null or (due_at < clock_timestamp()) = %(is_overdue)s)
  and (%(after)s::text is null or (rank, id) > (select rank, id from line where id = %(after)s))
order by rank, id limit %(limit)s;

-- name: queue_lines
-- How many reviews of each priority wait, and for how long.
select priority, count(*) as waiting, count(*) filter (where claimed_until > clock_timestamp()) as claimed,
       count(*) filter (where state = 'proposed') as proposed,
       count(*) filter (where due_at < clock_timestamp()) as overdue,
       extract(epoch from clock_timestamp() - min(opened_at))::float as oldest_s
from credit.review where state <> 'closed' group by priority order by priority;

-- name: lock_next_unclaimed
-- The review that is due first among those that this person may claim, and that nobody is busy with at the moment.
select r.id from credit.review r join credit.application a on a.id = r.application_id
where r.state <> 'closed' and (r.claimed_until is null or r.claimed_until <= clock_timestamp())
  and r.proposed_by is distinct from %(reviewer)s and (%(priority)s::smallint is null or r.priority = %(priority)s)
order by r.due_at, r.id limit 1 for update of r, a skip locked;

-- name: without_review
-- Applications in manual review that stand in no queue.
select a.id from credit.application a
where a.status = 'manual_review'
  and not exists (select from credit.review r where r.application_id = a.id and r.state <> 'closed')
order by a.id limit %(limit)s;

-- name: application_facts
-- What a reviewer sees of an application; nothing here names the applicant.
select a.id as application_id, a.client_id, a.status, product_type, amount, purpose, annual_income, age_years,
       decision_version, latest_step, submitted_at, updated_at, e.mandatory_checks
from credit.application a left join credit.workflow_execution e on e.application_id = a.id
where a.id = %(application_id)s;

-- name: outcomes
-- Every version of an application's decision, the newest first.
select version, outcome, risk_score, reason_codes, adverse_action_reasons, ruleset_version, scorecard_version,
       result -> 'trace' as trace, decided_at
from credit.decision where application_id = %(application_id)s order by version desc;

-- name: add_audit_entry
-- What somebody did that changes no row of the queue.
insert into credit.audit_entry (application_id, at, actor, action, details)
values (%(application_id)s, %(now)s, %(actor)s, %(action)s, %(details)s);

-- name: repull
-- One request for a new pull of a review.
select * from credit.repull where id = %(id)s and review_id = %(review_id)s;

-- name: repulls
-- The requests for new pulls of one application, oldest first.
select * from credit.repull where application_id = %(application_id)s order by requested_at, id;

-- name: save_repull
-- A request for a new pull, as it was made or as it was answered.
insert into credit.repull (
  id, review_id, application_id, checks, reason, state, requested_by, requested_at, answered_by, answered_at,
  provider_request_ids)
values (%(id)s, %(review_id)s, %(application_id)s, %(checks)s, %(reason)s, %(state)s, %(requested_by)s,
  %(requested_at)s, %(answered_by)s, %(answered_at)s, %(provider_request_ids)s)
on conflict (id) do update set state = excluded.state, answered_by = excluded.answered_by,
  answered_at = excluded.answered_at, provider_request_ids = excluded.provider_request_ids;

-- name: await_attempts
-- From these attempts on, an answer replaces the one that a check has.
update credit.risk_signal s set awaited_attempt = w.attempt
from unnest(%(checks)s::text[], %(attempts)s::int[]) as w (check_name, attempt)
where s.application_id = %(application_id)s and s.check_name = w.check_name
returning s.check_name;
