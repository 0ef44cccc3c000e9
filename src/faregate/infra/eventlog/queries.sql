-- name: append
-- Appends a JSON array of events in the caller's transaction.
select eventlog.append(%(events)s::jsonb)

-- name: acquire_lease
-- Takes the sequencer's lease when it is free, expired or ours; the new fence shuts out whoever held it.
update eventlog.sequencer
set holder = %(holder)s, fence = fence + 1, expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
where holder is null or holder = %(holder)s or expires_at < clock_timestamp()
returning fence

-- name: renew_lease
-- Extends the lease of whoever holds the fence.
update eventlog.sequencer set expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
where fence = %(fence)s
returning fence

-- name: release_lease
-- Gives the lease back, so that another sequencer need not wait for its end.
update eventlog.sequencer set holder = null, expires_at = '-infinity' where fence = %(fence)s

-- name: sequence
-- Waits for committed outbox rows and moves them into the log.
select held, top, xmin, xmax, ords, written
from eventlog.sequence(
    %(fence)s::bigint, %(after)s::bigint, %(missing)s::bigint[], %(limit)s::int,
    make_interval(secs => %(pause_s)s), make_interval(secs => %(wait_s)s)
)

-- name: rebalance
-- Joins a consumer group or stays in it; returns the partitions that the member holds.
select partition, fence, position
from eventlog.rebalance(%(group)s, %(member)s, %(types)s::text[], make_interval(secs => %(lease_s)s))

-- name: heartbeat
-- Keeps a member of a consumer group alive.
select eventlog.heartbeat(%(group)s, %(member)s, make_interval(secs => %(lease_s)s)) as alive

-- name: leave
-- Leaves a consumer group and frees its partitions at once.
select eventlog.leave(%(group)s, %(member)s)

-- name: take
-- Reads the next events of some partitions and enters them in the inbox.
select head, seq, id, aggregatetype, aggregateid, type, payload, time, traceparent, partition, fresh
from eventlog.take(
    %(group)s, %(partitions)s::smallint[], %(after)s::bigint, %(upto)s::bigint, %(types)s::text[],
    %(limit)s::int, %(lease_ms)s::int
)

-- name: advance
-- Moves the positions of partitions that the member still holds; returns how many those were.
select eventlog.advance(
    %(group)s, %(member)s, %(partitions)s::smallint[], %(fences)s::bigint[], %(position)s::bigint
) as moved

-- name: lag
-- How far each group is behind: its own types only, and since when the oldest of them waits.
select g.name as "group", behind.events, behind.seconds
from eventlog.consumer_group g
cross join lateral (
    select min(a.position) as position from eventlog.assignment a where a.consumer_group = g.name
) lowest
cross join lateral (
    select count(*) as events,
        coalesce(extract(epoch from clock_timestamp() - min(e.sequenced_at)), 0)::float8 as seconds
    from eventlog.event e
    join eventlog.assignment a
        on a.consumer_group = g.name and a.partition = e.partition and a.position < e.seq
    where e.seq > lowest.position and (g.types is null or e.type = any (g.types))
) behind
order by g.name

-- name: unsequenced
-- Committed events that do not stand in the log yet.
select count(*) as events, coalesce(extract(epoch from clock_timestamp() - min(time)), 0)::float8 as seconds
from eventlog.outbox

-- name: rewind
-- Moves a group to just before an event and shuts out batches that are being handled.
update eventlog.assignment set position = %(from_seq)s - 1, fence = fence + 1
where consumer_group = %(group)s
returning partition

-- name: forget_handled
-- Removes the inbox rows of a range, so that the handler runs again for these events.
delete from eventlog.inbox i using eventlog.event e
where i.consumer_group = %(group)s and e.id = i.event_id and e.seq >= %(from_seq)s

-- name: skip
-- Marks an event as handled without handling it.
insert into eventlog.inbox (consumer_group, event_id)
select g.name, e.id from eventlog.consumer_group g, eventlog.event e
where g.name = %(group)s and e.id = %(event_id)s
on conflict do nothing
returning event_id

-- name: prune_inbox
-- Removes a portion of the inbox rows older than an instant.
delete from eventlog.inbox
where ctid = any (array(
    select i.ctid from eventlog.inbox i where i.handled_at < %(before)s limit %(limit)s
))
