-- name: announce
-- Writes a delivery for each endpoint that wants a message, in the announcer's transaction and role.
select webhooks.announce(%(messages)s::jsonb) as written

-- name: lock_client
-- Makes the endpoints of one client change one after the other, so that their number can be limited.
select pg_advisory_xact_lock(hashtextextended('webhooks.client:' || %(client_id)s, 0))

-- name: count_endpoints
-- How many endpoints a client has.
select count(*) as endpoints from webhooks.endpoint where client_id = %(client_id)s

-- name: insert_endpoint
-- Adds an endpoint.
insert into webhooks.endpoint (id, client_id, url, event_types, description, created_at, updated_at)
values (%(id)s, %(client_id)s, %(url)s, %(event_types)s, %(description)s, %(now)s, %(now)s)
returning id, client_id, url, event_types, description, disabled_reason, failing_since, paused_until, created_at,
    updated_at

-- name: endpoints
-- The endpoints of a client, or all of them, oldest first.
select id, client_id, url, event_types, description, disabled_reason, failing_since, paused_until, created_at,
    updated_at
from webhooks.endpoint
where %(client_id)s::text is null or client_id = %(client_id)s
order by created_at, id

-- name: endpoint
-- One endpoint; of any client when none is given.
select id, client_id, url, event_types, description, disabled_reason, failing_since, paused_until, created_at,
    updated_at
from webhooks.endpoint
where id = %(id)s and (%(client_id)s::text is null or client_id = %(client_id)s)

-- name: lock_endpoint
-- The same, locked until the transaction ends.
select id, client_id, url, event_types, description, disabled_reason, failing_since, paused_until, created_at,
    updated_at
from webhooks.endpoint
where id = %(id)s and (%(client_id)s::text is null or client_id = %(client_id)s)
for no key update

-- name: change_endpoint
-- Changes what is given. Enabling forgets past failures; a new URL owes nothing to the pauses of the old one.
update webhooks.endpoint
set url = coalesce(%(url)s, url),
    event_types = coalesce(%(event_types)s::text[], event_types),
    description = coalesce(%(description)s, description),
    disabled_reason = case %(enabled)s::boolean
        when true then null when false then coalesce(disabled_reason, 'client') else disabled_reason end,
    failing_since = case when %(enabled)s::boolean or %(url)s <> url then null else failing_since end,
    paused_until = case when %(enabled)s::boolean or %(url)s <> url then null else paused_until end,
    updated_at = %(now)s
where id = %(id)s
returning id, client_id, url, event_types, description, disabled_reason, failing_since, paused_until, created_at,
    updated_at

-- name: delete_endpoint
-- Removes an endpoint with its secrets and deliveries.
delete from webhooks.endpoint where id = %(id)s

-- name: insert_secret
-- Adds the secret that signs from now on.
insert into webhooks.secret (id, endpoint_id, sealed, created_at)
values (%(id)s, %(endpoint_id)s, %(sealed)s, %(now)s)

-- name: end_secrets
-- Lets the secrets of an endpoint sign until an instant and no longer; those that end sooner stay as they are.
update webhooks.secret set ends_at = least(ends_at, %(ends_at)s) where endpoint_id = %(endpoint_id)s

-- name: secrets_after
-- Secrets in the order of their ids, for the rotation of the keys that they are sealed with.
select id, sealed from webhooks.secret where id > %(after)s order by id limit %(limit)s

-- name: reseal_secret
-- Replaces the ciphertext of a secret, unless another did meanwhile.
update webhooks.secret set sealed = %(sealed)s where id = %(id)s and sealed = %(was)s

-- name: insert_delivery
-- Adds one delivery to one endpoint.
insert into webhooks.delivery (endpoint_id, message_id, event_type, subject_id, body, next_at, created_at)
values (%(endpoint_id)s, %(message_id)s, %(event_type)s, %(subject_id)s, %(body)s, %(now)s, %(now)s)
returning message_id, event_type, subject_id, state, attempts, next_at, last_status, last_error, created_at,
    settled_at

-- name: deliveries
-- A page of an endpoint's deliveries, newest first, after a given message.
select d.message_id, d.event_type, d.subject_id, d.state, d.attempts, d.next_at, d.last_status, d.last_error,
    d.created_at, d.settled_at
from webhooks.delivery d
left join webhooks.delivery last on last.endpoint_id = d.endpoint_id and last.message_id = %(after)s
where d.endpoint_id = %(endpoint_id)s
    and (%(state)s::text is null or d.state = %(state)s)
    and (%(after)s::text is null or (d.created_at, d.message_id) < (last.created_at, last.message_id))
order by d.created_at desc, d.message_id desc
limit %(limit)s

-- name: resend
-- Begins the schedule of a settled delivery anew; one that is pending is tried at once.
update webhooks.delivery
set state = 'pending', attempts = 0, next_at = %(now)s, settled_at = null, claim_token = null
where endpoint_id = %(endpoint_id)s and message_id = %(message_id)s and (claim_token is null or state = 'dead')
returning message_id, event_type, subject_id, state, attempts, next_at, last_status, last_error, created_at,
    settled_at

-- name: delivery
-- One delivery of an endpoint.
select message_id, event_type, subject_id, state, attempts, next_at, last_status, last_error, created_at,
    settled_at
from webhooks.delivery
where endpoint_id = %(endpoint_id)s and message_id = %(message_id)s

-- name: resend_dead
-- Begins the schedule of every given-up delivery of an endpoint anew; returns how many those were.
with again as (
    update webhooks.delivery
    set state = 'pending', attempts = 0, next_at = %(now)s, settled_at = null, claim_token = null
    where endpoint_id = %(endpoint_id)s and state = 'dead'
    returning 1
)
select count(*) as resent from again

-- name: give_up_pending
-- Gives up what waits for a disabled endpoint. What is in flight may still arrive: its outcome is recorded then.
update webhooks.delivery
set state = 'dead', next_at = null, settled_at = %(now)s, last_error = 'endpoint_disabled'
where endpoint_id = any (%(endpoint_ids)s) and state = 'pending'

-- name: lock_due
-- Locks enabled endpoints that have something due, those whose turn was longest ago first. Nobody waits for a lock.
select e.id from webhooks.endpoint e
where e.disabled_reason is null
    and (e.paused_until is null or e.paused_until <= %(now)s)
    and exists (select from webhooks.delivery d where d.endpoint_id = e.id and d.next_at <= %(now)s)
order by e.claimed_at nulls first
limit %(limit)s
for no key update of e skip locked

-- name: claim
-- Claims due deliveries of locked endpoints under a lease: so many an endpoint that no more than its share is in flight
-- (one, while it fails), dealt out in rounds. A statement of its own: it must see what the locks' last holders did.
with room as (
    select e.id, e.url, e.failing_since,
        (case when e.failing_since is null then %(most_each)s else 1 end) - (
            select count(*) from webhooks.delivery f
            where f.endpoint_id = e.id and f.claim_token is not null and f.next_at > %(now)s
        ) as places
    from webhooks.endpoint e where e.id = any (%(endpoint_ids)s)
), due as (
    select r.id as endpoint_id, d.message_id, row_number() over (partition by r.id order by d.next_at) as turn
    from room r
    cross join lateral (
        select p.message_id, p.next_at from webhooks.delivery p
        where p.endpoint_id = r.id and p.next_at <= %(now)s
        order by p.next_at, p.created_at limit greatest(r.places, 0)
    ) d
    order by turn, r.id limit %(most)s
), claimed as (
    update webhooks.delivery d
    set attempts = d.attempts + 1, claim_token = %(token)s, next_at = %(lease_ends_at)s
    from due where d.endpoint_id = due.endpoint_id and d.message_id = due.message_id
    returning d.endpoint_id, d.message_id, d.body, d.attempts
), turned as (
    update webhooks.endpoint set claimed_at = %(now)s where id = any (%(endpoint_ids)s)
)
select c.endpoint_id, c.message_id, c.body, c.attempts, r.url, r.failing_since
from claimed c join room r on r.id = c.endpoint_id

-- name: signing_secrets
-- The secrets that sign now, newest first.
select endpoint_id, id, sealed from webhooks.secret
where endpoint_id = any (%(endpoint_ids)s) and (ends_at is null or ends_at > %(now)s)
order by endpoint_id, created_at desc, id desc

-- name: lock_endpoints
-- Locks endpoints in the order of their ids, before their deliveries: two batches never wait for each other.
select from webhooks.endpoint where id = any (%(ids)s) order by id for no key update

-- name: record
-- Records a batch of outcomes; one whose claim was lost changes nothing. What was given up meanwhile stays so,
-- unless it has arrived.
update webhooks.delivery d
set state = case when d.state = 'dead' and o.state = 'pending' then 'dead' else o.state end,
    next_at = case when d.state = 'dead' then null else o.next_at end,
    settled_at = case when o.state = 'pending' then d.settled_at else %(now)s end,
    claim_token = null, last_status = o.status, last_error = o.error
from unnest(
    %(endpoint_ids)s::text[], %(message_ids)s::text[], %(tokens)s::uuid[], %(states)s::text[],
    %(next_ats)s::timestamptz[], %(statuses)s::smallint[], %(errors)s::text[]
) as o (endpoint_id, message_id, token, state, next_at, status, error)
where d.endpoint_id = o.endpoint_id and d.message_id = o.message_id and d.claim_token = o.token

-- name: record_health
-- Notes how endpoints do: a success ends a failure, a failure begins one, a pause is kept if it is the longer one.
update webhooks.endpoint e
set failing_since = case when h.arrived then null else coalesce(e.failing_since, %(now)s) end,
    paused_until = greatest(e.paused_until, h.paused_until)
from unnest(%(endpoint_ids)s::text[], %(arrived)s::boolean[], %(paused_untils)s::timestamptz[])
    as h (id, arrived, paused_until)
where e.id = h.id and (h.arrived = (e.failing_since is not null) or h.paused_until is not null)

-- name: disable
-- Disables an enabled endpoint; no row if somebody did before, or if it has moved to another address.
update webhooks.endpoint set disabled_reason = %(reason)s, updated_at = %(now)s
where id = %(id)s and url = %(url)s and disabled_reason is null
returning client_id

-- name: backlog
-- What is due and for how long, and what was given up.
select
    count(*) filter (where state = 'pending' and next_at <= %(now)s) as due,
    coalesce(
        extract(epoch from %(now)s - min(next_at) filter (where state = 'pending' and next_at <= %(now)s)), 0
    )::float8 as oldest_s,
    count(*) filter (where state = 'dead') as dead
from webhooks.delivery where state <> 'delivered'

-- name: prune_deliveries
-- Forgets a portion of what was settled before an instant.
delete from webhooks.delivery
where ctid = any (array(
    select d.ctid from webhooks.delivery d where d.settled_at < %(before)s limit %(limit)s
))

-- name: prune_secrets
-- Forgets secrets that no longer sign.
delete from webhooks.secret where ends_at < %(before)s
