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
-- The live key of an id, for authentication.
select client_id, secret_hash, scopes
  from access.api_key
 where id = %(id)s and revoked_at is null;
