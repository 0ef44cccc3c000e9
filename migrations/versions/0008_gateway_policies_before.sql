-- What operators changed about providers, and claims that take only what may be sent.
set local role faregate_gateway;

-- Policies that differ from the file, and breakers that a person holds open or closed. Nothing is changed or removed:
-- the newest row of a provider and a kind counts, and its id is the version that the next change must name.
create table gateway.provider_change (
    id bigint generated always as identity primary key,
    provider text not null check (provider ~ '^[a-z][a-z0-9_]{0,62}$'),
    kind text not null check (kind in ('policy', 'breaker')),
    content jsonb not null check (jsonb_typeof(content) = 'object'),
    reason text not null check (length(reason) between 1 and 500),
    changed_by text not null check (length(changed_by) between 1 and 100),
    changed_at timestamptz not null default clock_timestamp()
);
comment on table gateway.provider_change is
    'Changes that operators made to a provider''s policies and breakers at run time, for ever.';
create index provider_change_newest on gateway.provider_change (provider, kind, id desc);

create function gateway.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % refused', tg_table_name, tg_op using errcode = 'integrity_constraint_violation';
end $$;
create trigger provider_change_is_append_only before update or delete on gateway.provider_change
    for each row execute function gateway.refuse_change();
create trigger provider_change_is_not_truncated before truncate on gateway.provider_change
    for each statement execute function gateway.refuse_change();

-- Appends a change; null if another one came between: `seen_version` is the id of the newest row that its author knew,
-- 0 where there was none.
create function gateway.change_provider(
    wanted_provider text, wanted_kind text, seen_version bigint, content jsonb, reason text, changed_by text
) returns bigint
language plpgsql security definer set search_path = gateway, pg_temp as $$
declare
    newest bigint;
    made bigint;
begin
    perform pg_advisory_xact_lock(hashtextextended('gateway.provider_change:' || wanted_provider, 0));
    select coalesce(max(c.id), 0) into newest
    from gateway.provider_change c where c.provider = wanted_provider and c.kind = wanted_kind;
    if newest <> seen_version then
        return null;
    end if;
    insert into gateway.provider_change (provider, kind, content, reason, changed_by)
    values (wanted_provider, wanted_kind, content, reason, changed_by)
    returning id into made;
    return made;
end $$;

-- The newest change of each provider and kind.
create function gateway.provider_changes()
returns table (version bigint, provider text, kind text, content jsonb, reason text, changed_by text,
    changed_at timestamptz)
language sql stable security definer set search_path = gateway, pg_temp
begin atomic
    select distinct on (c.provider, c.kind) c.id, c.provider, c.kind, c.content, c.reason, c.changed_by, c.changed_at
    from gateway.provider_change c
    order by c.provider, c.kind, c.id desc;
end;

-- Every change of one provider, the newest first.
create function gateway.provider_history(wanted_provider text, most integer)
returns table (version bigint, kind text, content jsonb, reason text, changed_by text, changed_at timestamptz)
language sql stable security definer set search_path = gateway, pg_temp
begin atomic
    select c.id, c.kind, c.content, c.reason, c.changed_by, c.changed_at
    from gateway.provider_change c
    where c.provider = wanted_provider
    order by c.id desc
    limit most;
end;

-- What may be sent, what is to be asked and what can only end are found apart, so that a long queue of the one hides
-- none of the others.
create index intent_to_send on gateway.intent (owner, provider, next_at)
    where state = 'declared' and next_at is not null;
create index intent_to_ask on gateway.intent (owner, provider, next_at)
    where state <> 'declared' and next_at is not null;
create index intent_to_end on gateway.intent (owner, provider, deadline) where state = 'declared';
drop index gateway.intent_due;

-- Claims due intents of one provider for the length of a lease. A claim that makes an intent `sending` is the promise
-- to send: it must be committed before the first byte goes out. `sends_max` are promised; `diverts_max` more of those
-- that wait are claimed without a promise, to be answered in another way; `looks_max` were sent before. Those whose
-- budget is over are claimed in any case. The lease begins with the statement, so that waiting for a connection takes
-- nothing of it. `sending` that comes up again has lost its sender: it is `unknown`, and its
-- send ended at the latest with the lease.
-- In PL/pgSQL for its kept plans: it is called some ten times a second by every pool, and mostly finds nothing.
create function gateway.claim_work(wanted_provider text, holder text, token uuid, lease_s double precision,
    sends_max integer, diverts_max integer, looks_max integer)
returns setof gateway.intent_view
language plpgsql security definer set search_path = gateway, pg_temp set enable_seqscan = off
as $$
declare
    began constant timestamptz := statement_timestamp();
    caller constant text := gateway.caller();
    waiting text[];
    others text[];
begin
    waiting := array(
        select d.provider_request_id from gateway.intent d
        where d.owner = caller and d.provider = wanted_provider and d.state = 'declared'
          and d.next_at <= began and d.deadline > began
        order by d.next_at
        limit sends_max + diverts_max
        for update skip locked);
    others := waiting[sends_max + 1:] || array(
        select d.provider_request_id from gateway.intent d
        where d.owner = caller and d.provider = wanted_provider and d.state = 'declared'
          and d.deadline <= began and d.next_at <= began
        order by d.deadline
        limit 100
        for update skip locked) || array(
        select d.provider_request_id from gateway.intent d
        where d.owner = caller and d.provider = wanted_provider and d.state <> 'declared' and d.next_at <= began
        order by d.next_at
        limit looks_max
        for update skip locked);
    waiting := waiting[:sends_max];
    if waiting = '{}' and others = '{}' then
        return;
    end if;
    return query
    update gateway.intent i
    set state = case when i.provider_request_id = any (waiting) then 'sending'
                     when i.state = 'sending' then 'unknown' else i.state end,
        reason = case when i.state = 'sending' then 'sender_lost' else i.reason end,
        doubtful = i.doubtful or i.state = 'sending',
        was_unknown = i.was_unknown or i.state = 'sending',
        looks = case when i.state = 'sending' then 0 else i.looks end,
        sends = i.sends + (i.provider_request_id = any (waiting))::int,
        sent_at = case when i.provider_request_id = any (waiting) then began else i.sent_at end,
        sent_end = case when i.state = 'sending' then i.next_at else i.sent_end end,
        claim_token = token, claim_holder = holder, next_at = began + make_interval(secs => lease_s),
        updated_at = began
    where i.provider_request_id = any (waiting || others)
    returning i.provider_request_id, i.subject_id, i.check_name, i.provider, i.attempt, i.state, i.deadline,
        i.next_at, i.sends, i.looks, i.sent_end, i.doubtful, i.reason, i.settled, i.traceparent, began;
end;
$$;

-- Code that was deployed before this migration claims as it always did.
create or replace function gateway.claim(
    wanted_provider text, holder text, token uuid, lease_s double precision, most integer)
returns setof gateway.intent_view
language sql security definer set search_path = gateway, pg_temp
begin atomic
    select * from gateway.claim_work(wanted_provider, holder, token, lease_s, most, 0, most);
end;

revoke all on all functions in schema gateway from public;
grant execute on function
    gateway.change_provider(text, text, bigint, jsonb, text, text),
    gateway.provider_changes(),
    gateway.provider_history(text, integer),
    gateway.claim_work(text, text, uuid, double precision, integer, integer, integer)
to faregate_app;
