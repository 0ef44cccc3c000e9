-- name: check
-- Tries the locks of a batch of attempts and says of each, in order, whether it is fresh, in flight, known or reused.
select outcome, status, headers, body from access.idempotency_check(%(attempts)s::json);

-- name: save
-- Keeps the answers of a batch of finished attempts, in the transaction that made them.
select access.idempotency_save(%(finished)s::json, %(now)s);

-- name: prune
-- Forgets the keys that are older than the published retention.
select access.idempotency_prune(%(older_than)s) as pruned;

-- name: create_key
-- Adds a client's key; only the hash of its secret is kept.
insert into access.api_key (id, client_id, secret_hash, scopes, note, created_at)
values (%(id)s, %(client_id)s, %(secret_hash)s, %(scopes)s, %(note)s, %(now)s);

-- name: keep_key
-- Adds a key whose token was made elsewhere; one that is known stays as it is.
insert into access.api_key (id, client_id, secret_hash, scopes, note, created_at)
values (%(id)s, %(client_id)s, %(secret_hash)s, %(scopes)s, %(note)s, %(now)s)
on conflict (id) do nothing;

-- name: revoke_key
-- Ends a key for ever. A second call changes nothing and keeps the first instant.
update access.api_key
   set revoked_at = coalesce(revoked_at, %(now)s)
 where id = %(id)s
returning revoked_at;

-- name: list_keys
-- Every key ever made, oldest first, without its secret hash.
select id, client_id, scopes, note, created_at, revoked_at
  from access.api_key
 order by created_at, id;

-- name: find_key
-- The live key of an id with its client's own limits, for authentication.
select k.client_id, k.secret_hash, k.scopes,
       (select coalesce(json_object_agg(l.policy, json_build_object('per_s', l.rate_per_s, 'burst', l.burst)), '{}')
          from access.client_limit l where l.client_id = k.client_id) as limits
  from access.api_key k
 where k.id = %(id)s and k.revoked_at is null;

-- name: set_limit
-- Gives a client a limit of its own, or another one.
insert into access.client_limit (client_id, policy, rate_per_s, burst, changed_at)
values (%(client_id)s, %(policy)s, %(rate_per_s)s, %(burst)s, %(now)s)
on conflict (client_id, policy) do update
   set rate_per_s = excluded.rate_per_s, burst = excluded.burst, changed_at = excluded.changed_at;

-- name: drop_limit
-- Lets the settings count again for a client.
delete from access.client_limit where client_id = %(client_id)s and policy = %(policy)s;

-- name: list_limits
-- A client's own limits.
select policy, rate_per_s, burst, changed_at
  from access.client_limit
 where client_id = %(client_id)s
 order by policy;
