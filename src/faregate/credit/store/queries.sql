-- name: find_applicants
-- People already known under any of these keyed hashes; under key rotation a person has one per key.
select id, blind_index as digest from credit.applicant
where (blind_index_key_id, blind_index) in (
  select * from unnest(%(key_ids)s::text[], %(digests)s::bytea[]));

-- name: upsert_applicants
-- Finds or creates people by their keyed hash, in hash order, and locks their rows to the end.
insert into credit.applicant as a (id, blind_index_key_id, blind_index, created_at)
select w.id, w.key_id, decode(w.digest, 'hex'), %(now)s
from json_to_recordset(%(people)s::json) as w (id text, key_id text, digest text)
order by w.digest
on conflict (blind_index_key_id, blind_index) do update set blind_index = excluded.blind_index
returning a.id, encode(a.blind_index, 'hex') as digest, (a.xmax = 0) as is_new;

-- name: lock_applicants
-- Locks known people in a fixed order, so that two submissions for one person go one after the other.
select id from credit.applicant where id = any(%(ids)s::text[]) order by id for update;

-- name: earlier_applications
-- Applications that a new one would repeat: the same applicant and key, or the same product in the window.
select w.n, a.id, a.client_id
from unnest(%(ns)s::int[], %(applicant_ids)s::text[], %(keys)s::text[], %(client_ids)s::text[],
            %(product_types)s::text[]) as w (n, applicant_id, key, client_id, product_type)
join credit.application a on a.applicant_id = w.applicant_id
where a.idempotency_key = w.key
   or (a.client_id = w.client_id and a.product_type = w.product_type and a.submitted_at > %(since)s)
order by w.n, a.idempotency_key = w.key desc, a.submitted_at desc;

-- name: insert_applications
-- New applications and their first audit entry, in one statement.
with added as (
  insert into credit.application (
    id, client_id, applicant_id, idempotency_key, product_type, amount, purpose, annual_income,
    age_years, identity_encrypted, deadline_at, submitted_at, updated_at)
  select w.id, w.client_id, w.applicant_id, w.idempotency_key, w.product_type, w.amount, w.purpose,
         w.annual_income, w.age_years, decode(w.identity, 'base64'), %(deadline_at)s, %(now)s, %(now)s
  from json_to_recordset(%(applications)s::json)
    as w (id text, client_id text, applicant_id text, idempotency_key text, product_type text, amount bigint,
          purpose text, annual_income bigint, age_years smallint, identity text)
  returning id, client_id)
insert into credit.audit_entry (application_id, at, actor, action, details)
select id, %(now)s, 'client:' || client_id, 'application.submitted', '{}' from added;

-- name: application_status
-- The state of one application, as pollers see it.
select id as application_id, client_id, status, latest_step, updated_at, revision
from credit.application where id = %(id)s;

-- name: statuses
-- The states of several applications, for their snapshots.
select id as application_id, client_id, status, latest_step, updated_at, revision
from credit.application where id = any(%(ids)s::text[]);

-- name: lock_to_decide
-- Applications, locked in id order: events of their keys are appended in the order of this lock.
select a.id, a.status, product_type, amount, purpose, annual_income, age_years, decision_version, ready_at, latest_step,
       e.asked_checks, e.mandatory_checks
from credit.application a left join credit.workflow_execution e on e.application_id = a.id
where a.id = any(%(ids)s::text[]) order by a.id for update of a;

-- name: signals_to_decide
-- The signals of locked applications. A statement after the lock's: that one may have waited for their writer.
select application_id, check_name as "check", status, provider, provider_request_id, facts
from credit.risk_signal where application_id = any(%(ids)s::text[]) order by application_id, check_name;

-- name: applications_of_client
-- A client's newest applications before an id, merged from those of each wanted state. Each is a range of
-- application_of_client: written as equalities, the planner would at times walk through all clients' applications.
select page.* from unnest(%(statuses)s::text[]) as wanted (status)
cross join lateral (
  select a.id as application_id, a.product_type, a.status, a.latest_step, a.submitted_at, a.updated_at
  from credit.application a
  where (a.client_id, a.status, a.id) < (%(client_id)s, wanted.status, %(before_id)s)
    and (a.client_id, a.status) >= (%(client_id)s, wanted.status)
  order by a.client_id desc, a.status desc, a.id desc limit %(limit)s) as page
order by page.application_id desc limit %(limit)s;

-- name: lock_applications
-- Several applications, locked in id order.
select id, status from credit.application where id = any(%(ids)s::text[]) order by id for update;

-- name: begin_execution
-- The run of an application begins, with its row locked; a repeated dispatch changes nothing but returns the same.
-- The checks get their whole time, however long the application waited for a worker. The run keeps the check plan
-- of its product.
with locked as (
  select id, product_type, %(now)s + (deadline_at - submitted_at) as deadline_at, deadline_at as stored_deadline_at,
         coalesce(%(plans)s::jsonb -> 'products' -> product_type, %(plans)s::jsonb -> 'default') as plan
  from credit.application where id = %(id)s for update),
begun as (
  insert into credit.workflow_execution (
    application_id, run_id, status, started_at, check_plan_version, asked_checks, mandatory_checks)
  select id, id, 'waiting', %(now)s, plan ->> 'version',
         array(select jsonb_array_elements_text(plan -> 'asked')),
         array(select jsonb_array_elements_text(plan -> 'mandatory'))
  from locked on conflict do nothing returning application_id),
stepped as (
  update credit.application a set latest_step = 'checks_requested', updated_at = %(now)s, revision = revision + 1,
    deadline_at = l.deadline_at
  from locked l
  where a.id = l.id and a.id in (select application_id from begun) and a.status = 'processing')
select case when exists (select from begun) then deadline_at else stored_deadline_at end as deadline_at, product_type
from locked;

-- name: clients_of
-- The clients that own applications.
select id, client_id from credit.application where id = any (%(ids)s)

-- name: overdue_applications
-- Applications that no run decided although their deadline is long past, and whether their run ever began. In the
-- order of the index, so that all pages together read each of them once.
select a.id, a.deadline_at, exists (select from credit.workflow_execution e where e.application_id = a.id) as has_begun
from credit.application a
where a.status = 'processing' and a.deadline_at < %(before)s
  and a.deadline_at >= %(after_deadline)s and (a.deadline_at, a.id) > (%(after_deadline)s, %(after_id)s)
order by a.deadline_at, a.id limit %(limit)s;

-- name: identities
-- What the providers must be told of these applicants; the identity is still encrypted.
select id, identity_encrypted, annual_income, amount, purpose
from credit.application where id = any(%(ids)s::text[]);

-- name: approved_identities
-- Who is behind those of the applications that are approved now; the identity is still encrypted.
select id, applicant_id, identity_encrypted from credit.application
where id = any(%(ids)s::text[]) and status = 'approved' order by id;

-- name: approved_products
-- For which products those of the applications are that are approved now.
select id, product_type from credit.application
where id = any(%(ids)s::text[]) and status = 'approved' order by id;

-- name: upsert_signals
-- The newest outcome of each check; an answer replaces "unknown" and "not done", never the reverse. An answer itself is
-- replaced only by that of an awaited attempt or a later one, which an authorised new pull made.
insert into credit.risk_signal as s (
  application_id, check_name, status, provider, provider_request_id, reason, facts, received_at)
select w.application_id, w.check_name, w.status, w.provider, w.provider_request_id, w.reason, w.facts, w.received_at
from unnest(%(application_ids)s::text[], %(checks)s::text[], %(statuses)s::text[], %(providers)s::text[],
            %(provider_request_ids)s::text[], %(reasons)s::text[], %(facts)s::jsonb[],
            %(received_ats)s::timestamptz[])
  as w (application_id, check_name, status, provider, provider_request_id, reason, facts, received_at)
on conflict (application_id, check_name) do update
set status = excluded.status, provider = excluded.provider, reason = excluded.reason, facts = excluded.facts,
    provider_request_id = excluded.provider_request_id, received_at = excluded.received_at,
    awaited_attempt = case
      when excluded.status = 'done' and credit.attempt_of(excluded.provider_request_id) >= s.awaited_attempt then null
      else s.awaited_attempt end
where (s.status <> 'done' or (excluded.status = 'done'
         and credit.attempt_of(excluded.provider_request_id) >= s.awaited_attempt))
  and (s.status, s.provider_request_id, s.facts)
      is distinct from (excluded.status, excluded.provider_request_id, excluded.facts)
returning new.application_id, new.check_name, new.status, new.provider_request_id,
  old.awaited_attempt is not null and new.awaited_attempt is null as is_repulled;

-- name: record_steps
-- The step that each application took last, while it is still being processed.
update credit.application a set latest_step = w.step, updated_at = %(now)s, revision = revision + 1
from unnest(%(ids)s::text[], %(steps)s::text[]) as w (id, step)
where a.id = w.id and a.status = 'processing';

-- name: mark_ready
-- The applications whose checks have all settled and that nobody has called ready before.
update credit.application a set ready_at = %(now)s
from credit.workflow_execution e
where a.id = any(%(ids)s::text[]) and a.ready_at is null and a.status = 'processing' and e.application_id = a.id
  and (select count(*) from credit.risk_signal s
       where s.application_id = a.id and s.check_name = any(e.asked_checks)) = cardinality(e.asked_checks)
returning a.id, (select coalesce(array_agg(s.provider order by s.check_name), '{}') from credit.risk_signal s
                 where s.application_id = a.id and s.status <> 'done') as missing_providers,
          not exists (select from credit.risk_signal s
                      where s.application_id = a.id and s.status <> 'done'
                        and s.check_name = any(e.mandatory_checks)) as is_complete;

-- name: signals
-- The signals of one application, in the order of their checks' names.
select check_name as "check", status, provider, provider_request_id, reason, facts, received_at
from credit.risk_signal where application_id = %(id)s order by check_name;

-- name: insert_decision
-- A decision, the state that it leaves, the end of the run, the notice that a denial makes due, and the audit entry, in
-- one statement. The clock of a notice runs from the completed application; from the decision, if an earlier one had
-- been final; a notice that was not sent yet hands its day on. Nothing is written unless the version before stands.
with decided as (
  insert into credit.decision (
    application_id, version, outcome, risk_score, reason_codes, adverse_action_reasons, ruleset_version,
    scorecard_version, code_set_version, inputs, inputs_sha256, result, decided_at)
  select id, %(version)s, %(outcome)s, %(risk_score)s, %(reason_codes)s::text[],
    %(adverse_action_reasons)s, %(ruleset_version)s, %(scorecard_version)s, %(code_set_version)s, %(inputs)s,
    %(inputs_sha256)s, %(result)s, %(now)s
  from credit.application where id = %(id)s and decision_version = %(version)s - 1
  returning application_id),
moved as (
  update credit.application set status = %(outcome)s, latest_step = %(step)s, updated_at = %(now)s,
    revision = revision + 1, decision_version = %(version)s, ready_at = coalesce(ready_at, %(now)s)
  where id = (select application_id from decided)),
ended as (
  update credit.workflow_execution set status = 'finished', finished_at = %(now)s
  where application_id = (select application_id from decided) and status = 'waiting'),
noticed as (
  insert into credit.adverse_action_notice (application_id, decision_version, due_at)
  select a.id, %(version)s, coalesce(
    (select min(n.due_at) from credit.adverse_action_notice n where n.application_id = a.id and n.sent_at is null),
    case when exists (
        select from credit.decision d where d.application_id = a.id and d.outcome in ('approved', 'denied'))
      then %(now)s else coalesce(a.ready_at, %(now)s) end + %(notice_within)s)
  from credit.application a join decided on decided.application_id = a.id
  where %(outcome)s = 'denied'
  returning due_at)
insert into credit.audit_entry (application_id, at, actor, action, details)
select application_id, %(now)s, %(actor)s, 'decision.finalized',
       jsonb_build_object('version', %(version)s::int, 'outcome', %(outcome)s::text, 'result', %(result)s::jsonb)
       || jsonb_strip_nulls(jsonb_build_object('reason', %(reason)s::text))
       || coalesce((select jsonb_build_object('notice_due_at', due_at) from noticed), '{}')
from decided
returning application_id;

-- name: reevaluations
-- What came of requests to decide again that were carried out before.
select w.application_id, r.version, d.outcome
from unnest(%(application_ids)s::text[], %(request_keys)s::text[]) as w (application_id, request_key)
join credit.reevaluation r using (application_id, request_key)
join credit.decision d on d.application_id = r.application_id and d.version = r.version;

-- name: decided_by_people
-- Those of the applications whose newest decision is a person's.
select a.id from credit.application a
join credit.decision d on d.application_id = a.id and d.version = a.decision_version
where a.id = any(%(ids)s::text[]) and d.inputs #>> '{revision,by}' = 'person';

-- name: insert_reevaluations
-- Requests to decide again, with the version that each made.
insert into credit.reevaluation (application_id, request_key, version)
select * from unnest(%(application_ids)s::text[], %(request_keys)s::text[], %(versions)s::int[]);

-- name: recorded_inputs
-- The recorded inputs of given versions.
select d.application_id, d.inputs
from unnest(%(application_ids)s::text[], %(versions)s::int[]) as w (application_id, version)
join credit.decision d using (application_id, version);

-- name: decision
-- The newest decision of one application.
select d.application_id, a.client_id, d.version, d.outcome, d.risk_score, d.reason_codes,
       d.adverse_action_reasons, d.ruleset_version, d.scorecard_version, d.decided_at
from credit.decision d join credit.application a on a.id = d.application_id
where d.application_id = %(id)s order by d.version desc limit 1;

-- name: recorded_decisions
-- Recorded inputs and results after a key, for replay in pages.
select application_id, version, inputs, inputs_sha256, result, ruleset_version, scorecard_version, code_set_version,
       jsonb_build_object(
         'outcome', outcome, 'risk_score', risk_score, 'reason_codes', reason_codes,
         'adverse_action_reasons', adverse_action_reasons, 'ruleset_version', ruleset_version,
         'scorecard_version', scorecard_version) as shown
from credit.decision
where (application_id, version) > (%(after_id)s, %(after_version)s)
  and (%(id)s::text is null or application_id = %(id)s)
order by application_id, version limit %(limit)s;

-- name: insert_arm
-- Which arm of a split made a decision.
insert into credit.decision_arm (
  application_id, decision_version, arm, challenger_version, challenger_basis_points, decided_at)
values (%(id)s, %(version)s, %(arm)s, %(challenger)s, %(basis_points)s, %(now)s);

-- name: insert_shadow_result
-- What a shadow said beside a decision.
insert into credit.shadow_result (
  application_id, decision_version, shadow_version, ruleset_version, decided, outcome, risk_score, reason_codes,
  agrees, error, evaluated_at)
values (%(id)s, %(version)s, %(shadow)s, %(ruleset)s, %(decided)s, %(outcome)s, %(risk_score)s,
  %(reason_codes)s::text[], %(agrees)s, %(error)s, %(now)s);

-- name: shadow_counts
-- How often each outcome met each answer of a shadow.
select decided, outcome, agrees, count(*) as applications
from credit.shadow_result
where shadow_version = %(shadow)s and (%(since)s::timestamptz is null or evaluated_at >= %(since)s)
group by decided, outcome, agrees;

-- name: shadow_differences
-- A page of applications on which a shadow did not agree, or failed.
select r.application_id, r.decision_version, r.ruleset_version, r.decided, d.reason_codes as decided_reason_codes,
       r.outcome, r.risk_score, r.reason_codes, r.error, r.evaluated_at
from credit.shadow_result r
join credit.decision d on d.application_id = r.application_id and d.version = r.decision_version
where r.shadow_version = %(shadow)s and not r.agrees and r.application_id > %(after_id)s
  and (%(since)s::timestamptz is null or r.evaluated_at >= %(since)s)
order by r.application_id limit %(limit)s;

-- name: arm_counts
-- The decisions of each arm of a split, by version and outcome.
select r.arm, d.ruleset_version, d.outcome, count(*) as decisions, avg(d.risk_score) as risk_score_mean
from credit.decision_arm r
join credit.decision d on d.application_id = r.application_id and d.version = r.decision_version
where r.challenger_version = %(challenger)s
  and (%(since)s::timestamptz is null or r.decided_at >= %(since)s)
group by r.arm, d.ruleset_version, d.outcome order by r.arm, d.ruleset_version, d.outcome;

-- name: touched_decisions
-- A page of the decisions that a version of a ruleset made, a person's left out, and where the applications stand now.
select d.application_id, d.version, d.outcome, d.risk_score, d.reason_codes, d.decided_at,
       a.status, a.decision_version as newest_version
from credit.decision d join credit.application a on a.id = d.application_id
where d.ruleset_version = %(ruleset)s and coalesce(d.inputs #>> '{revision,by}', 'rules') = 'rules'
  and (d.application_id, d.version) > (%(after_id)s, %(after_version)s)
  and (%(since)s::timestamptz is null or d.decided_at >= %(since)s)
order by d.application_id, d.version limit %(limit)s;

-- name: touched_counts
-- How many decisions a version of a ruleset made, a person's left out, by outcome and whether they still stand.
select d.outcome, a.decision_version = d.version as stands, count(*) as decisions
from credit.decision d join credit.application a on a.id = d.application_id
where d.ruleset_version = %(ruleset)s and coalesce(d.inputs #>> '{revision,by}', 'rules') = 'rules'
  and (%(since)s::timestamptz is null or d.decided_at >= %(since)s)
group by d.outcome, stands;

-- name: insert_redecision
-- A report to be made: what another ruleset makes of the decisions of one.
insert into credit.redecision (id, ruleset_version, target_version, scorecard, created_at, created_by)
values (%(id)s, %(ruleset)s, %(target)s, %(scorecard)s, %(now)s, %(by)s);

-- name: redecision
-- One report.
select id, ruleset_version, target_version, scorecard, created_at, created_by, reported_to, is_complete
from credit.redecision where id = %(id)s;

-- name: lock_redecision
-- One report, locked: whoever goes on with it is alone.
select id, ruleset_version, target_version, scorecard, created_at, created_by, reported_to, is_complete
from credit.redecision where id = %(id)s for update;

-- name: redecisions
-- The newest reports, of one version or of all.
select id, ruleset_version, target_version, scorecard, created_at, created_by, reported_to, is_complete
from credit.redecision where %(ruleset)s::text is null or ruleset_version = %(ruleset)s
order by created_at desc, id desc limit %(limit)s;

-- name: decisions_to_redecide
-- A page of the decisions of a version that still stand, with their recorded inputs; a person's are left out.
select d.application_id, d.version, d.inputs, d.outcome, d.risk_score, d.reason_codes, d.adverse_action_reasons,
       a.status
from credit.decision d
join credit.application a on a.id = d.application_id and a.decision_version = d.version
where d.ruleset_version = %(ruleset)s and coalesce(d.inputs #>> '{revision,by}', 'rules') = 'rules'
  and d.application_id > %(after_id)s
order by d.application_id limit %(limit)s;

-- name: insert_redecision_items
-- A page of a report, and how far it goes.
with added as (
  insert into credit.redecision_item (
    redecision_id, application_id, decision_version, change, before, after, state)
  select %(id)s, w.application_id, w.decision_version, w.change, w.before, w.after, w.state
  from unnest(%(application_ids)s::text[], %(versions)s::int[], %(changes)s::text[], %(befores)s::jsonb[],
              %(afters)s::jsonb[], %(states)s::text[])
    as w (application_id, decision_version, change, before, after, state))
update credit.redecision set reported_to = %(reported_to)s, is_complete = %(is_complete)s where id = %(id)s;

-- name: redecision_items
-- A page of what a report says, those that change first being all that is asked for if so wanted.
select application_id, decision_version, change, before, after, state, new_version, note
from credit.redecision_item
where redecision_id = %(id)s and application_id > %(after_id)s and (not %(only_changed)s or change <> 'unchanged')
order by application_id limit %(limit)s;

-- name: redecision_counts
-- What a report adds up to.
select before ->> 'outcome' as outcome_before, after ->> 'outcome' as outcome_after, change, state,
       count(*) as applications
from credit.redecision_item where redecision_id = %(id)s
group by outcome_before, outcome_after, change, state
order by outcome_before, outcome_after, change, state;

-- name: pending_redecision_items
-- The next applications to which a report is to be applied.
select application_id, decision_version from credit.redecision_item
where redecision_id = %(id)s and state = 'pending' order by application_id limit %(limit)s;

-- name: pending_redecision_count
-- To how many applications a report is still to be applied.
select count(*) as applications from credit.redecision_item where redecision_id = %(id)s and state = 'pending';

-- name: settle_redecision_items
-- What became of applications of a report.
update credit.redecision_item i set state = w.state, new_version = w.new_version, note = w.note
from unnest(%(application_ids)s::text[], %(states)s::text[], %(new_versions)s::int[], %(notes)s::text[])
  as w (application_id, state, new_version, note)
where i.redecision_id = %(id)s and i.application_id = w.application_id;

-- name: first_decisions
-- A page of the first decisions of a period, or of a share of the applications, with their recorded inputs.
select application_id, inputs, outcome, risk_score, reason_codes, adverse_action_reasons, scorecard_version, decided_at
from credit.decision
where version = 1 and (decided_at, application_id) > (%(after_time)s, %(after_id)s)
  and decided_at >= %(since)s and decided_at < %(until)s
  and ('x' || substr(md5(application_id), 1, 7))::bit(28)::int %% 10000 < %(basis_points)s
order by decided_at, application_id limit %(limit)s;

-- name: audit_trail
-- What happened to one application, oldest first.
select at, actor, action, details from credit.audit_entry where application_id = %(id)s order by id;

-- name: counts_by_status
-- How many applications stand where.
select status, count(*) as applications from credit.application group by status order by status;

-- name: outcomes_of
-- Status, submission and decision instants of the given applications, for reports.
select a.id as application_id, a.status, a.submitted_at, d.decided_at, d.outcome, d.risk_score, d.scorecard_version,
       (select count(*) from credit.decision n where n.application_id = a.id) as decisions,
       (select count(*) from credit.risk_signal s
        where s.application_id = a.id and s.status = 'done') as checks_done,
       (select e.started_at from credit.workflow_execution e where e.application_id = a.id) as started_at
from credit.application a left join credit.decision d on d.application_id = a.id and d.version = 1
where a.id = any(%(ids)s::text[]);

-- name: identities_under_other_keys
-- A page of identities that were not encrypted under the given key, for rotation.
select id, identity_encrypted from credit.application
where id > %(after_id)s order by id limit %(limit)s;

-- name: replace_identity
-- One identity under a new key, unless somebody changed it since it was read.
update credit.application set identity_encrypted = %(new)s where id = %(id)s and identity_encrypted = %(old)s;
