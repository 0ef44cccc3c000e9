-- Rulesets in operation: roll back, shadow, split, and who did it why; then what credit records of all that.
set local role faregate_rules;

-- `previous_id` is what a roll-back returns to. A roll-back takes over that of the activation that it restores, so
-- that a second one goes on backwards instead of returning to the version that was rolled back.
alter table rules.activation
  add column reason text,
  add column is_rollback boolean not null default false,
  add column previous_id bigint references rules.activation (id);
alter table rules.activation disable trigger activation_is_append_only;
update rules.activation a set previous_id = (
  select b.id from rules.activation b
  where b.name = a.name and (b.activated_at, b.id) < (a.activated_at, a.id)
  order by b.activated_at desc, b.id desc limit 1);
alter table rules.activation enable trigger activation_is_append_only;

-- Beside the active version: one that only watches, and one that decides for a share of the applications. The newest
-- row of a name counts.
create table rules.traffic (
  id bigint generated always as identity primary key,
  name text not null,
  shadow_version integer,
  challenger_version integer,
  challenger_basis_points integer not null default 0 check (challenger_basis_points between 0 and 10000),
  set_at timestamptz not null,
  set_by text not null,
  foreign key (name, shadow_version) references rules.ruleset_version (name, version),
  foreign key (name, challenger_version) references rules.ruleset_version (name, version),
  constraint a_share_needs_a_challenger check ((challenger_version is null) = (challenger_basis_points = 0))
);
create index traffic_by_name on rules.traffic (name, id desc);

create table rules.audit_entry (
  id bigint generated always as identity primary key,
  name text not null,
  version integer,
  action text not null,
  at timestamptz not null,
  actor text not null,
  reason text,
  details jsonb not null
);
create index audit_entry_by_name on rules.audit_entry (name, id);

create trigger traffic_is_append_only before update or delete on rules.traffic
  for each row execute function rules.refuse_change();
create trigger traffic_is_not_truncated before truncate on rules.traffic
  for each statement execute function rules.refuse_change();
create trigger audit_entry_is_append_only before update or delete on rules.audit_entry
  for each row execute function rules.refuse_change();
create trigger audit_entry_is_not_truncated before truncate on rules.audit_entry
  for each statement execute function rules.refuse_change();

create function rules.note(
  p_name text, p_version integer, p_action text, p_at timestamptz, p_by text, p_reason text, p_details jsonb
) returns void language sql security definer set search_path = rules, pg_temp as $$
  insert into rules.audit_entry (name, version, action, at, actor, reason, details)
  values (p_name, p_version, p_action, p_at, p_by, p_reason, p_details)
$$;

-- As before, with a reason; what was published before is no new entry.
drop function rules.publish(text, integer, text, text, timestamptz, text);
create function rules.publish(
  p_name text, p_version integer, p_content text, p_sha256 text, p_at timestamptz, p_by text,
  p_reason text default null
) returns rules.ruleset_version
language plpgsql security definer set search_path = rules, pg_temp as $$
declare
  found_version rules.ruleset_version;
begin
  insert into rules.ruleset_version (name, version, content, sha256, published_at, published_by)
  values (p_name, p_version, p_content, p_sha256, p_at, p_by)
  on conflict (name, version) do nothing;
  if found then
    perform rules.note(p_name, p_version, 'published', p_at, p_by, p_reason, jsonb_build_object('sha256', p_sha256));
  end if;
  select * into found_version from rules.ruleset_version where name = p_name and version = p_version;
  return found_version;
end $$;

create function rules.lock_name(p_name text) returns void
language sql security definer set search_path = rules, pg_temp as $$
  select pg_advisory_xact_lock(hashtextextended('rules.activation:' || p_name, 0))
$$;

create function rules.latest_activation(p_name text) returns rules.activation
language sql stable security definer set search_path = rules, pg_temp as $$
  select a from rules.activation a where a.name = p_name order by a.activated_at desc, a.id desc limit 1
$$;

-- Ends whatever is tried with a version: when it decides alone, there is nothing to try; when it was rolled back, it
-- must not go on deciding a share.
create function rules.end_trials(p_name text, p_version integer, p_at timestamptz, p_by text, p_reason text)
returns void
language plpgsql security definer set search_path = rules, pg_temp as $$
declare
  latest rules.traffic;
  is_shadow boolean;
  is_challenger boolean;
begin
  select * into latest from rules.traffic where name = p_name order by id desc limit 1;
  is_shadow := coalesce(latest.shadow_version = p_version, false);
  is_challenger := coalesce(latest.challenger_version = p_version, false);
  if not (is_shadow or is_challenger) then
    return;
  end if;
  insert into rules.traffic (
    name, shadow_version, challenger_version, challenger_basis_points, set_at, set_by)
  values (
    p_name, case when not is_shadow then latest.shadow_version end,
    case when not is_challenger then latest.challenger_version end,
    case when is_challenger then 0 else latest.challenger_basis_points end, p_at, p_by);
  perform rules.note(p_name, p_version, 'trials_ended', p_at, p_by, p_reason,
                     jsonb_build_object('shadow', is_shadow, 'challenger', is_challenger));
end $$;

-- As before, with a reason and the way back.
drop function rules.activate(text, integer, timestamptz, text);
create function rules.activate(
  p_name text, p_version integer, p_at timestamptz, p_by text, p_reason text default null
) returns boolean
language plpgsql security definer set search_path = rules, pg_temp as $$
declare
  latest rules.activation;
begin
  perform rules.lock_name(p_name);
  latest := rules.latest_activation(p_name);
  if latest.version = p_version and latest.activated_at <= p_at then
    return true;
  end if;
  if latest.activated_at > p_at then
    return false;
  end if;
  insert into rules.activation (name, version, activated_at, activated_by, reason, previous_id)
  values (p_name, p_version, p_at, p_by, p_reason, latest.id);
  perform rules.note(p_name, p_version, 'activated', p_at, p_by, p_reason,
                     jsonb_build_object('replaces', latest.version));
  perform rules.end_trials(p_name, p_version, p_at, p_by, p_reason);
  return true;
end $$;

-- Makes the version before the active one active again, from now on. No row: another version than the expected one
-- is active. `to_version` is null where there is nothing to return to; nothing changes then.
create function rules.roll_back(
  p_name text, p_expected_version integer, p_at timestamptz, p_by text, p_reason text
) returns table (from_version integer, since timestamptz, to_version integer, rolled_back_at timestamptz)
language plpgsql security definer set search_path = rules, pg_temp as $$
declare
  latest rules.activation;
  target rules.activation;
begin
  perform rules.lock_name(p_name);
  latest := rules.latest_activation(p_name);
  if latest.version is distinct from coalesce(p_expected_version, latest.version) then
    return;
  end if;
  select * into target from rules.activation where id = latest.previous_id;
  if target.id is not null then
    rolled_back_at := greatest(p_at, latest.activated_at); -- a clock that lags must not put it off
    insert into rules.activation (name, version, activated_at, activated_by, reason, is_rollback, previous_id)
    values (p_name, target.version, rolled_back_at, p_by, p_reason, true, target.previous_id);
    perform rules.note(p_name, latest.version, 'rolled_back', rolled_back_at, p_by, p_reason,
                       jsonb_build_object('active_since', latest.activated_at, 'returned_to', target.version));
    perform rules.end_trials(p_name, latest.version, rolled_back_at, p_by, p_reason);
  end if;
  from_version := latest.version;
  since := latest.activated_at;
  to_version := target.version;
  return next;
end $$;

-- The whole plan of a name at an instant, in one look: what decides, what watches, what challenges.
create function rules.plan(p_name text, p_at timestamptz)
returns table (version integer, shadow_version integer, challenger_version integer, challenger_basis_points integer)
language sql stable security definer set search_path = rules, pg_temp as $$
  select active.version, t.shadow_version, t.challenger_version, coalesce(t.challenger_basis_points, 0)
  from (
    select a.version from rules.activation a
    where a.name = p_name and a.activated_at <= p_at
    order by a.activated_at desc, a.id desc limit 1
  ) active
  left join lateral (select * from rules.traffic t where t.name = p_name order by t.id desc limit 1) t on true
$$;

-- Sets what watches; null ends it. The split stays as it is.
create function rules.set_shadow(p_name text, p_version integer, p_at timestamptz, p_by text, p_reason text)
returns void
language plpgsql security definer set search_path = rules, pg_temp as $$
declare
  latest rules.traffic;
begin
  perform rules.lock_name(p_name);
  select * into latest from rules.traffic where name = p_name order by id desc limit 1;
  insert into rules.traffic (
    name, shadow_version, challenger_version, challenger_basis_points, set_at, set_by)
  values (p_name, p_version, latest.challenger_version, coalesce(latest.challenger_basis_points, 0), p_at, p_by);
  perform rules.note(p_name, coalesce(p_version, latest.shadow_version),
                     case when p_version is null then 'shadow_stopped' else 'shadow_started' end,
                     p_at, p_by, p_reason, jsonb_build_object('replaces', latest.shadow_version));
end $$;

-- Sets what challenges, and for how many of 10,000 applications; null and 0 end it. The shadow stays as it is.
create function rules.set_split(
  p_name text, p_version integer, p_basis_points integer, p_at timestamptz, p_by text, p_reason text
) returns void
language plpgsql security definer set search_path = rules, pg_temp as $$
declare
  latest rules.traffic;
begin
  perform rules.lock_name(p_name);
  select * into latest from rules.traffic where name = p_name order by id desc limit 1;
  insert into rules.traffic (
    name, shadow_version, challenger_version, challenger_basis_points, set_at, set_by)
  values (p_name, latest.shadow_version, p_version, p_basis_points, p_at, p_by);
  perform rules.note(p_name, coalesce(p_version, latest.challenger_version),
                     case when p_version is null then 'split_stopped' else 'split_set' end,
                     p_at, p_by, p_reason, jsonb_build_object('basis_points', p_basis_points));
end $$;

-- Every published version, newest first, and since when the active one decides.
create function rules.versions(p_name text)
returns table (
  name text, version integer, sha256 text, published_at timestamptz, published_by text, active_since timestamptz)
language sql stable security definer set search_path = rules, pg_temp as $$
  select v.name, v.version, v.sha256, v.published_at, v.published_by, latest.activated_at
  from rules.ruleset_version v
  left join lateral rules.latest_activation(v.name) latest on latest.version = v.version
  where p_name is null or v.name = p_name
  order by v.name, v.version desc
$$;

create function rules.audit_trail(p_name text, p_before bigint, p_limit integer)
returns table (
  id bigint, version integer, action text, at timestamptz, actor text, reason text, details jsonb)
language sql stable security definer set search_path = rules, pg_temp as $$
  select e.id, e.version, e.action, e.at, e.actor, e.reason, e.details from rules.audit_entry e
  where e.name = p_name and (p_before is null or e.id < p_before) order by e.id desc limit p_limit
$$;

drop function rules.activations(text);
create function rules.activations(p_name text)
returns table (
  version integer, activated_at timestamptz, activated_by text, reason text, is_rollback boolean)
language sql stable security definer set search_path = rules, pg_temp as $$
  select a.version, a.activated_at, a.activated_by, a.reason, a.is_rollback
  from rules.activation a where a.name = p_name order by a.id
$$;

revoke execute on all functions in schema rules from public;
grant execute on function
  rules.publish(text, integer, text, text, timestamptz, text, text),
  rules.activate(text, integer, timestamptz, text, text),
  rules.roll_back(text, integer, timestamptz, text, text),
  rules.plan(text, timestamptz),
  rules.set_shadow(text, integer, timestamptz, text, text),
  rules.set_split(text, integer, integer, timestamptz, text, text),
  rules.versions(text),
  rules.activations(text),
  rules.audit_trail(text, bigint, integer),
  rules.note(text, integer, text, timestamptz, text, text, jsonb)
to faregate_app;

set local role faregate_credit;

create index decision_by_ruleset on credit.decision (ruleset_version, application_id, version);
create index decision_by_time on credit.decision (decided_at, application_id, version);

-- What a ruleset that only watches would have decided. `error` says why it gave no answer.
create table credit.shadow_result (
  application_id text not null,
  decision_version integer not null,
  shadow_version text not null,
  ruleset_version text not null,
  decided text not null,
  outcome text,
  risk_score double precision,
  reason_codes text[] not null,
  agrees boolean not null,
  error text,
  evaluated_at timestamptz not null,
  primary key (shadow_version, application_id, decision_version)
);

-- Which arm of a split decided an application.
create table credit.decision_arm (
  application_id text not null,
  decision_version integer not null,
  arm text not null check (arm in ('champion', 'challenger')),
  challenger_version text not null,
  challenger_basis_points integer not null,
  decided_at timestamptz not null,
  primary key (challenger_version, application_id, decision_version)
);

create trigger shadow_result_is_append_only before update or delete on credit.shadow_result
  for each row execute function credit.refuse_change();
create trigger shadow_result_is_not_truncated before truncate on credit.shadow_result
  for each statement execute function credit.refuse_change();
create trigger decision_arm_is_append_only before update or delete on credit.decision_arm
  for each row execute function credit.refuse_change();
create trigger decision_arm_is_not_truncated before truncate on credit.decision_arm
  for each statement execute function credit.refuse_change();

-- What another ruleset makes of the decisions of one: first reported, then applied. Reports are made in pages; the
-- last application that is in it is `reported_to`.
create table credit.redecision (
  id text primary key,
  ruleset_version text not null,
  target_version text not null,
  scorecard text not null,
  created_at timestamptz not null,
  created_by text not null,
  reported_to text not null default '',
  is_complete boolean not null default false
);

create table credit.redecision_item (
  redecision_id text not null references credit.redecision (id),
  application_id text not null,
  decision_version integer not null,
  change text not null,
  before jsonb not null,
  after jsonb not null,
  state text not null check (state in ('unchanged', 'pending', 'applied', 'skipped')),
  new_version integer,
  note text,
  primary key (redecision_id, application_id)
);
create index redecision_item_pending on credit.redecision_item (redecision_id, application_id) where state = 'pending';
