-- Versioned rulesets: what was published, and which version was active when. Nothing is ever changed or removed.
set local role faregate_rules;

create function rules.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: % refused', tg_table_name, tg_op using errcode = 'integrity_constraint_violation';
end $$;

create table rules.ruleset_version (
  name text not null,
  version integer not null check (version > 0),
  content text not null,
  sha256 text not null,
  published_at timestamptz not null,
  published_by text not null,
  primary key (name, version),
  constraint content_has_its_hash check (sha256 = encode(sha256(convert_to(content, 'UTF8')), 'hex'))
);

create table rules.activation (
  id bigint generated always as identity primary key,
  name text not null,
  version integer not null,
  activated_at timestamptz not null,
  activated_by text not null,
  foreign key (name, version) references rules.ruleset_version (name, version)
);
create index activation_by_name_and_time on rules.activation (name, activated_at, id);

create trigger ruleset_version_is_append_only before update or delete on rules.ruleset_version
  for each row execute function rules.refuse_change();
create trigger ruleset_version_is_not_truncated before truncate on rules.ruleset_version
  for each statement execute function rules.refuse_change();
create trigger activation_is_append_only before update or delete on rules.activation
  for each row execute function rules.refuse_change();
create trigger activation_is_not_truncated before truncate on rules.activation
  for each statement execute function rules.refuse_change();

-- Returns the version as it now stands: the given one, or the one that had the place already.
create function rules.publish(
  p_name text, p_version integer, p_content text, p_sha256 text, p_at timestamptz, p_by text
) returns rules.ruleset_version
language plpgsql security definer set search_path = rules, pg_temp as $$
declare
  found_version rules.ruleset_version;
begin
  insert into rules.ruleset_version (name, version, content, sha256, published_at, published_by)
  values (p_name, p_version, p_content, p_sha256, p_at, p_by)
  on conflict (name, version) do nothing;
  select * into found_version from rules.ruleset_version where name = p_name and version = p_version;
  return found_version;
end $$;

-- Appends an activation unless the version is active already; true if the version is active at that instant.
-- False: a later activation stands, and history is not rewritten.
create function rules.activate(p_name text, p_version integer, p_at timestamptz, p_by text) returns boolean
language plpgsql security definer set search_path = rules, pg_temp as $$
declare
  latest rules.activation;
begin
  perform pg_advisory_xact_lock(hashtextextended('rules.activation:' || p_name, 0));
  select * into latest from rules.activation
    where name = p_name order by activated_at desc, id desc limit 1;
  if latest.version = p_version and latest.activated_at <= p_at then
    return true;
  end if;
  if latest.activated_at > p_at then
    return false;
  end if;
  insert into rules.activation (name, version, activated_at, activated_by) values (p_name, p_version, p_at, p_by);
  return true;
end $$;

-- The version that was active at an instant, without its content: readers keep that by its hash.
create function rules.active(p_name text, p_at timestamptz)
returns table (name text, version integer, sha256 text, published_at timestamptz, published_by text)
language sql stable security definer set search_path = rules, pg_temp as $$
  select v.name, v.version, v.sha256, v.published_at, v.published_by
  from rules.ruleset_version v
  join (
    select a.name, a.version from rules.activation a
    where a.name = p_name and a.activated_at <= p_at
    order by a.activated_at desc, a.id desc limit 1
  ) latest on latest.name = v.name and latest.version = v.version
$$;

create function rules.version(p_name text, p_version integer)
returns table (name text, version integer, sha256 text, published_at timestamptz, published_by text, content text)
language sql stable security definer set search_path = rules, pg_temp as $$
  select v.name, v.version, v.sha256, v.published_at, v.published_by, v.content
  from rules.ruleset_version v where v.name = p_name and v.version = p_version
$$;

create function rules.activations(p_name text)
returns table (version integer, activated_at timestamptz, activated_by text)
language sql stable security definer set search_path = rules, pg_temp as $$
  select a.version, a.activated_at, a.activated_by from rules.activation a where a.name = p_name order by a.id
$$;

revoke execute on all functions in schema rules from public;
grant usage on schema rules to faregate_app;
grant execute on function
  rules.publish(text, integer, text, text, timestamptz, text),
  rules.activate(text, integer, timestamptz, text),
  rules.active(text, timestamptz),
  rules.version(text, integer),
  rules.activations(text)
to faregate_app;
