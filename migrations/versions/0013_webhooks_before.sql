-- Outbound webhooks: who wants to be told what, under which secrets, and what is still to be delivered. Contexts
-- write deliveries in their own transactions through `announce`; everything else is the webhooks part's own.
-- Lock order: the endpoint, then its deliveries.
do $$
begin
    perform pg_advisory_xact_lock(7233173); -- roles belong to the whole server: see 0001
    if not exists (select from pg_roles where rolname = 'faregate_webhooks') then
        begin
            create role faregate_webhooks nologin noinherit;
        exception when duplicate_object or unique_violation then
            null; -- another database's migration was faster
        end;
    end if;
    if not pg_has_role(current_user, 'faregate_webhooks', 'set') then
        execute 'grant faregate_webhooks to current_user';
    end if;
    if not pg_has_role('faregate_webhooks', 'faregate_app', 'usage') then
        execute 'grant faregate_app to faregate_webhooks with inherit true';
    end if;
    create schema if not exists webhooks authorization faregate_webhooks;
end
$$;

set local role faregate_webhooks;

create table webhooks.endpoint (
    id text primary key,
    client_id text not null,
    url text not null,
    event_types text[] not null check (cardinality(event_types) > 0),
    description text not null,
    disabled_reason text check (disabled_reason in ('client', 'gone', 'failing')), -- null: enabled
    failing_since timestamptz,  -- the first failure after the last success
    paused_until timestamptz,   -- it asked for a pause
    claimed_at timestamptz,     -- when it last had its turn
    created_at timestamptz not null,
    updated_at timestamptz not null
) with (fillfactor = 70);
create index endpoint_by_client on webhooks.endpoint (client_id);

-- Secrets sign, newest first; one that was replaced signs along with the new one until it ends.
create table webhooks.secret (
    id text primary key,
    endpoint_id text not null references webhooks.endpoint (id) on delete cascade,
    sealed bytea not null,
    created_at timestamptz not null,
    ends_at timestamptz
);
create index secret_of_endpoint on webhooks.secret (endpoint_id);

-- One message to one endpoint. `body` is what is signed and sent, byte for byte, each time.
create table webhooks.delivery (
    endpoint_id text not null references webhooks.endpoint (id) on delete cascade,
    message_id text not null,
    event_type text not null,
    subject_id text not null,
    body text not null check (octet_length(body) < 20000),
    state text not null default 'pending' check (state in ('pending', 'delivered', 'dead')),
    attempts smallint not null default 0,
    next_at timestamptz,        -- when it is due; while it is claimed, the end of the lease
    claim_token uuid,           -- set while somebody sends it: only that one's outcome counts
    last_status smallint,
    last_error text,
    created_at timestamptz not null,
    settled_at timestamptz,
    primary key (endpoint_id, message_id),
    check ((state = 'pending') = (next_at is not null)),
    check ((state = 'pending') = (settled_at is null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
create index delivery_due on webhooks.delivery (endpoint_id, next_at) where next_at is not null;
create index delivery_undelivered on webhooks.delivery (state, next_at) where state <> 'delivered';
create index delivery_in_flight on webhooks.delivery (endpoint_id) where claim_token is not null;
create index delivery_listed on webhooks.delivery (endpoint_id, created_at, message_id);
create index delivery_settled_at on webhooks.delivery (settled_at) where settled_at is not null;

-- Writes one delivery for each enabled endpoint of a client that wants the type; a message that an endpoint has
-- already is passed over. Returns how many were written.
create function webhooks.announce(messages jsonb) returns bigint
    language sql security definer set search_path = webhooks, pg_temp
as $$
    with added as (
        insert into delivery (endpoint_id, message_id, event_type, subject_id, body, next_at, created_at)
        select e.id, m.message_id, m.event_type, m.subject_id, m.body, m.at, m.at
        from jsonb_to_recordset(messages) as m (
            client_id text, message_id text, event_type text, subject_id text, body text, at timestamptz
        )
        join endpoint e on e.client_id = m.client_id
        where e.disabled_reason is null and m.event_type = any (e.event_types)
        order by e.id, m.message_id
        on conflict do nothing
        returning 1
    )
    select count(*) from added;
$$;

revoke all on all functions in schema webhooks from public;
grant usage on schema webhooks to faregate_app;
grant execute on function webhooks.announce(jsonb) to faregate_app;
reset role;
