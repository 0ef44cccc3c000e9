-- The submission journal and the callbacks of the gateway. Contexts reach them only through the functions below, and
-- each sees only what it owns: the owner of a row is the role that declared it.
set local role faregate_gateway;

grant usage on schema gateway to faregate_app;

create function gateway.caller() returns text
language sql stable
return regexp_replace(
    coalesce(nullif(current_setting('role', true), 'none'), session_user::text), '^faregate_', '');
comment on function gateway.caller() is 'The owner that calls: its role without the prefix.';

-- One row a request to a provider. Most rows are updated two or three times within a second and then never again.
create table gateway.intent (
    provider_request_id text collate "C" primary key, -- in C, a subject's intents lie side by side
    owner text not null,
    subject_id text not null,
    check_name text not null,
    provider text not null,
    attempt smallint not null check (attempt >= 1),
    state text not null default 'declared'
        check (state in ('declared', 'sending', 'accepted', 'unknown', 'done', 'not_done')),
    reason text,
    deadline timestamptz not null,
    next_at timestamptz,            -- when it needs somebody next; while it is claimed, the end of the lease
    sends smallint not null default 0,
    looks smallint not null default 0,
    sent_at timestamptz,
    sent_end timestamptz,           -- when the last send had certainly ended
    doubtful boolean not null default false,
    was_unknown boolean not null default false,
    claim_token uuid,
    claim_holder text,
    settled text check (settled in ('done', 'not_done', 'unknown')),
    settled_at timestamptz,
    facts jsonb,
    response bytea,                 -- the raw answer, encrypted by the owner
    traceparent text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (provider_request_id = subject_id || ':' || provider || ':' || attempt),
    check ((state in ('done', 'not_done')) = (next_at is null) or settled = 'unknown')
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05,
        autovacuum_vacuum_cost_delay = 1);
comment on table gateway.intent is 'Submission journal: what was asked of a provider, and what is known of it.';

-- Whatever the callers do, at most one request about a check may have been executed or may still be.
create unique index intent_one_pull on gateway.intent (owner, subject_id, check_name) where state <> 'not_done';
create index intent_due on gateway.intent (owner, provider, next_at) where next_at is not null;

-- What providers told us by themselves, durable before they are answered.
create table gateway.callback (
    ord bigint generated always as identity primary key,
    owner text not null,
    provider text not null,
    dedupe_key text not null,
    provider_request_id text collate "C" not null references gateway.intent,
    outcome jsonb not null,
    response bytea,
    received_at timestamptz not null default now(),
    due_at timestamptz default now(),   -- null once it is processed
    result text,
    unique (provider, dedupe_key)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
comment on table gateway.callback is 'Inbox of provider callbacks, kept at least seven days for duplicates.';
create index callback_due on gateway.callback (owner, ord) where due_at is not null;
create index callback_intent on gateway.callback (provider_request_id);

-- An intent as code sees it. `read_at` is the one clock that every process agrees on.
create type gateway.intent_view as (
    provider_request_id text, subject_id text, check_name text, provider text, attempt smallint, state text,
    deadline timestamptz, next_at timestamptz, sends smallint, looks smallint, sent_end timestamptz,
    doubtful boolean, reason text, settled text, traceparent text, read_at timestamptz
);

-- Declares intents; those that exist, or whose check has one that may be executed, are left out of the answer.
create function gateway.declare(intents jsonb) returns setof gateway.intent_view
language sql security definer set search_path = gateway, pg_temp
begin atomic
    insert into gateway.intent as i (provider_request_id, owner, subject_id, check_name, provider, attempt, deadline,
        next_at, sends, traceparent)
    select n.subject_id || ':' || n.provider || ':' || n.attempt, gateway.caller(), n.subject_id, n.check_name,
        n.provider, n.attempt, n.deadline, now() + make_interval(secs => n.delay_s), n.sends, n.traceparent
    from jsonb_to_recordset(intents) as n (subject_id text, check_name text, provider text, attempt smallint,
        deadline timestamptz, delay_s double precision, sends smallint, traceparent text)
    order by 1
    on conflict do nothing
    returning i.provider_request_id, i.subject_id, i.check_name, i.provider, i.attempt, i.state, i.deadline,
        i.next_at, i.sends, i.looks, i.sent_end, i.doubtful, i.reason, i.settled, i.traceparent, now();
end;

-- Claims due intents of one provider for the length of a lease. A claim of `declared` is the promise to send: it must
-- be committed before the first byte goes out. `sending` that comes up again has lost its sender: it is `unknown`,
-- and its send ended at the latest with the lease.
create function gateway.claim(wanted_provider text, holder text, token uuid, lease_s double precision, most integer)
returns setof gateway.intent_view
language sql security definer set search_path = gateway, pg_temp set enable_seqscan = off
begin atomic
    with due as materialized (
        select d.provider_request_id
        from gateway.intent d
        where d.owner = gateway.caller() and d.provider = wanted_provider and d.next_at <= now()
        order by d.next_at
        limit most
        for update skip locked
    )
    update gateway.intent i
    set state = case
            when i.state = 'declared' and i.deadline > now() then 'sending'
            when i.state = 'sending' then 'unknown'
            else i.state end,
        reason = case when i.state = 'sending' then 'sender_lost' else i.reason end,
        doubtful = i.doubtful or i.state = 'sending',
        was_unknown = i.was_unknown or i.state = 'sending',
        looks = case when i.state = 'sending' then 0 else i.looks end,
        sends = i.sends + (i.state = 'declared' and i.deadline > now())::int,
        sent_at = case when i.state = 'declared' then now() else i.sent_at end,
        sent_end = case when i.state = 'sending' then i.next_at else i.sent_end end,
        claim_token = token, claim_holder = holder, next_at = now() + make_interval(secs => lease_s),
        updated_at = now()
    from due
    where i.provider_request_id = due.provider_request_id
    returning i.provider_request_id, i.subject_id, i.check_name, i.provider, i.attempt, i.state, i.deadline,
        i.next_at, i.sends, i.looks, i.sent_end, i.doubtful, i.reason, i.settled, i.traceparent, now();
end;

-- Writes what became of intents. A change with a token is refused when the claim was lost meanwhile (to a callback or
-- to another process); one without is made by whoever holds the row's lock. Rows are locked in the order of their ids.
create function gateway.record(changes jsonb) returns setof text
language sql security definer set search_path = gateway, pg_temp set enable_seqscan = off
begin atomic
    with change as materialized (
        select * from jsonb_to_recordset(changes) as c (provider_request_id text, token uuid, state text,
            reason text, next_at timestamptz, sends smallint, looks smallint, sent_end timestamptz, doubtful boolean,
            settled text, facts jsonb, response text)
    ), held as materialized (
        select h.provider_request_id
        from gateway.intent h
        join change using (provider_request_id)
        where h.owner = gateway.caller() and (change.token is null or h.claim_token = change.token)
        order by h.provider_request_id
        for update of h
    )
    update gateway.intent i
    set state = c.state, reason = c.reason, next_at = c.next_at, sends = c.sends, looks = c.looks,
        sent_end = c.sent_end, doubtful = c.doubtful, was_unknown = i.was_unknown or c.state = 'unknown',
        settled = c.settled,
        settled_at = case when i.settled is distinct from c.settled then now() else i.settled_at end,
        facts = coalesce(c.facts, i.facts), response = coalesce(decode(c.response, 'base64'), i.response),
        claim_token = null, claim_holder = null, updated_at = now()
    from change c join held using (provider_request_id)
    where i.provider_request_id = c.provider_request_id
      and (c.token is null or i.claim_token = c.token)
    returning i.provider_request_id;
end;

-- Keeps a callback. `known` is false for a request that the caller never declared; `fresh` is false for a repeat.
create function gateway.accept_callback(from_provider text, request_id text, key text, told jsonb, raw bytea)
returns table (known boolean, fresh boolean)
language sql security definer set search_path = gateway, pg_temp
begin atomic
    with declared as (
        select i.provider_request_id, i.owner
        from gateway.intent i
        where i.provider_request_id = request_id and i.provider = from_provider and i.owner = gateway.caller()
    ), kept as (
        insert into gateway.callback (owner, provider, dedupe_key, provider_request_id, outcome, response)
        select d.owner, from_provider, key, d.provider_request_id, told, raw from declared d
        on conflict (provider, dedupe_key) do nothing
        returning ord
    )
    select exists (select from declared), exists (select from kept);
end;

-- Locks the oldest unprocessed callbacks, then their intents in the order of their ids, until the transaction ends.
create function gateway.claim_callbacks(most integer)
returns table (ord bigint, outcome jsonb, response bytea, received_at timestamptz, intent gateway.intent_view)
language plpgsql security definer set search_path = gateway, pg_temp set enable_seqscan = off
as $$
declare
    taken bigint[];
begin
    taken := array(
        select c.ord from gateway.callback c
        where c.owner = gateway.caller() and c.due_at <= now()
        order by c.ord
        limit most
        for update skip locked);
    perform from gateway.intent i
    where i.provider_request_id in (select c.provider_request_id from gateway.callback c where c.ord = any (taken))
    order by i.provider_request_id
    for update;
    return query
    select c.ord, c.outcome, c.response, c.received_at, row(i.provider_request_id, i.subject_id, i.check_name, i.provider, i.attempt, i.state, i.deadline,
        i.next_at, i.sends, i.looks, i.sent_end, i.doubtful, i.reason, i.settled, i.traceparent, now())::gateway.intent_view
    from gateway.callback c
    join gateway.intent i using (provider_request_id)
    where c.ord = any (taken)
    order by c.ord;
end;
$$;

-- Marks callbacks with what they changed; a `retry_s` puts one off instead.
create function gateway.close_callbacks(closed jsonb) returns void
language sql security definer set search_path = gateway, pg_temp set enable_seqscan = off
begin atomic
    update gateway.callback c
    set result = x.result, due_at = now() + make_interval(secs => x.retry_s)
    from jsonb_to_recordset(closed) as x (ord bigint, result text, retry_s double precision)
    where c.ord = x.ord and c.owner = gateway.caller();
end;

-- The whole history of one subject, oldest first, for people and audits.
create function gateway.history(wanted_subject text)
returns table (provider_request_id text, check_name text, provider text, attempt smallint, state text, reason text,
    sends smallint, looks smallint, was_unknown boolean, settled text, facts jsonb, created_at timestamptz,
    sent_at timestamptz, settled_at timestamptz)
language sql stable security definer set search_path = gateway, pg_temp
begin atomic
    select i.provider_request_id, i.check_name, i.provider, i.attempt, i.state, i.reason, i.sends, i.looks,
        i.was_unknown, i.settled, i.facts, i.created_at, i.sent_at, i.settled_at
    from gateway.intent i
    where i.owner = gateway.caller() and i.subject_id = wanted_subject
      and i.provider_request_id > wanted_subject || ':' and i.provider_request_id < wanted_subject || ';'
    order by i.created_at, i.provider_request_id;
end;

-- How many intents stand where, for the demo, metrics and alarms.
create function gateway.summary()
returns table (provider text, state text, intents bigint, sends bigint, was_unknown bigint, unsettled bigint)
language sql stable security definer set search_path = gateway, pg_temp
begin atomic
    select i.provider, i.state, count(*), coalesce(sum(i.sends), 0), count(*) filter (where i.was_unknown),
        count(*) filter (where i.settled is null)
    from gateway.intent i
    where i.owner = gateway.caller()
    group by i.provider, i.state
    order by i.provider, i.state;
end;

-- Encrypted raw answers in the order of their keys, for the rotation of the key that they are under.
create function gateway.sealed_answers(after_request text, after_ord bigint, most integer)
returns table (provider_request_id text, ord bigint, response bytea)
language sql stable security definer set search_path = gateway, pg_temp
begin atomic
    (select i.provider_request_id, null::bigint, i.response
     from gateway.intent i
     where i.owner = gateway.caller() and i.response is not null and i.provider_request_id > after_request
     order by i.provider_request_id limit most)
    union all
    (select c.provider_request_id, c.ord, c.response
     from gateway.callback c
     where c.owner = gateway.caller() and c.response is not null and c.ord > after_ord
     order by c.ord limit most);
end;

-- Puts an answer under another key in place of the one that was read; nothing happens if it changed meanwhile.
create function gateway.reseal_answer(request_id text, wanted_ord bigint, old bytea, new bytea) returns boolean
language sql security definer set search_path = gateway, pg_temp
begin atomic
    with of_intent as (
        update gateway.intent i set response = new
        where wanted_ord is null and i.provider_request_id = request_id and i.owner = gateway.caller()
          and i.response = old
        returning 1),
    of_callback as (
        update gateway.callback c set response = new
        where c.ord = wanted_ord and c.owner = gateway.caller() and c.response = old
        returning 1)
    select exists (select from of_intent) or exists (select from of_callback);
end;

revoke all on all functions in schema gateway from public;
grant execute on all functions in schema gateway to faregate_app;
grant usage on type gateway.intent_view to faregate_app;
