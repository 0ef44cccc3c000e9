-- Who may call us (API keys), and what we answered them (idempotency keys).
-- Lock order: the advisory locks of idempotency_check are only ever tried, never waited for.

set local role faregate_access;

-- A client's credential. The secret is 256 random bits, so that one SHA-256 is enough: there is nothing to guess.
create table access.api_key (
    id          text        primary key check (id ~ '^[0-9a-z]{8,32}$'),
    client_id   text        not null check (client_id <> ''),
    secret_hash bytea       not null check (octet_length(secret_hash) = 32),
    scopes      text[]      not null,
    note        text        not null default '',
    created_at  timestamptz not null,
    revoked_at  timestamptz
);

create index api_key_client on access.api_key (client_id);

-- The finished answer of a request, under the key that its client chose. Only a hash of the request is kept.
create table access.idempotency_key (
    client_id   text        not null,
    method      text        not null,
    route       text        not null,
    key         text        not null check (length(key) between 1 and 255),
    fingerprint bytea       not null check (octet_length(fingerprint) = 32),
    status      smallint    not null check (status between 200 and 499),
    headers     json        not null,
    body        text        not null,
    created_at  timestamptz not null,
    primary key (client_id, method, route, key)
);

-- Rows arrive in the order of their age, so that a block range index finds the old ones at almost no cost on insert.
create index idempotency_key_age on access.idempotency_key using brin (created_at);

-- For each attempt {client_id, method, route, key, fingerprint (hex)}, in order: `fresh` (its scope is now locked until
-- the transaction ends), `in_flight` (another transaction holds it), `replay` (with the stored answer) or `reused`
-- (known with another fingerprint; the stored answer is not given out).
-- Two statements on purpose: the second one's snapshot is taken after the locks, so that it sees what their last
-- holders committed. A scope that stands twice in one batch is fresh once and in flight afterwards.
create function access.idempotency_check(attempts json)
returns table (outcome text, status smallint, headers json, body text)
language plpgsql
volatile
security definer
set search_path = access, pg_temp
-- A plan made while the table was still empty would scan it whole, and stay until the next ANALYZE.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    locked boolean[];
begin
    select array_agg(
               a.nth = 1
               and pg_try_advisory_xact_lock(
                   hashtextextended(json_build_array(a.client_id, a.method, a.route, a.key)::text, 0))
               order by a.ord)
      into locked
      from (select r.*, row_number() over (partition by r.client_id, r.method, r.route, r.key order by r.ord) as nth
              from rows from (json_to_recordset(attempts)
                   as (client_id text, method text, route text, key text))
                   with ordinality as r (client_id, method, route, key, ord)) a;

    return query
    select case
               when k.key is null and locked[r.ord] then 'fresh'
               when k.key is null then 'in_flight'
               when k.fingerprint = decode(r.fingerprint, 'hex') then 'replay'
               else 'reused'
           end,
           case when k.fingerprint = decode(r.fingerprint, 'hex') then k.status end,
           case when k.fingerprint = decode(r.fingerprint, 'hex') then k.headers end,
           case when k.fingerprint = decode(r.fingerprint, 'hex') then k.body end
      from rows from (json_to_recordset(attempts)
           as (client_id text, method text, route text, key text, fingerprint text))
           with ordinality as r (client_id, method, route, key, fingerprint, ord)
      left join access.idempotency_key k
        on (k.client_id, k.method, k.route, k.key) = (r.client_id, r.method, r.route, r.key)
     order by r.ord;
end
$$;

-- Keeps the answers of finished attempts. A key that exists already is an error: its writer held no lock.
create function access.idempotency_save(finished json, now timestamptz)
returns void
language sql
volatile
security definer
set search_path = access, pg_temp
as $$
    insert into access.idempotency_key
           (client_id, method, route, key, fingerprint, status, headers, body, created_at)
    select f.client_id, f.method, f.route, f.key, decode(f.fingerprint, 'hex'), f.status, f.headers, f.body, now
      from json_to_recordset(finished)
           as f (client_id text, method text, route text, key text, fingerprint text,
                 status smallint, headers json, body text)
$$;

-- Forgets what is older than the published retention and returns how many keys that were.
create function access.idempotency_prune(older_than timestamptz)
returns bigint
language sql
volatile
security definer
set search_path = access, pg_temp
as $$
    with gone as (delete from access.idempotency_key where created_at < older_than returning 1)
    select count(*) from gone
$$;

revoke all on function access.idempotency_check(json), access.idempotency_save(json, timestamptz),
    access.idempotency_prune(timestamptz) from public;
grant usage on schema access to faregate_app;
grant execute on function access.idempotency_check(json), access.idempotency_save(json, timestamptz),
    access.idempotency_prune(timestamptz) to faregate_app;

reset role;
