-- name: acquire_relay
-- Takes the relay's lease when it is free, expired or ours, and registers the relay as a reader of the log.
with taken as (
    update eventlog.relay
    set holder = %(holder)s, fence = fence + 1,
        expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
    where holder is null or holder = %(holder)s or expires_at < clock_timestamp()
    returning fence, ends_upto
), registered as (
    insert into eventlog.consumer_group (name, types)
    select %(group)s, null from taken
    on conflict do nothing
), begun as (
    insert into eventlog.assignment (consumer_group, partition, position)
    select %(group)s, n, (select min(s.from_seq) from eventlog.segment s where s.archived_at is null) - 1
    from taken, generate_series(0, 15) n
    on conflict do nothing
    returning position
)
select t.fence, t.ends_upto, coalesce(
    (select min(a.position) from eventlog.assignment a where a.consumer_group = %(group)s),
    (select min(b.position) from begun b)
) as position
from taken t

-- name: renew_relay
-- Extends the lease of whoever holds the fence.
update eventlog.relay set expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
where fence = %(fence)s
returning fence

-- name: release_relay
-- Gives the lease back, so that another relay need not wait for its end.
update eventlog.relay set holder = null, expires_at = '-infinity' where fence = %(fence)s

-- name: next_events
-- The next events of the log.
select seq, id, aggregatetype, aggregateid, type, payload::text as payload, time, traceparent
from eventlog.event where seq > %(after)s order by seq limit %(limit)s

-- name: mark_published
-- Notes up to which place of the log everything was published, and where partitions end now, behind the fence.
with marked as (
    update eventlog.assignment a set position = greatest(a.position, %(position)s)
    from eventlog.relay r
    where a.consumer_group = %(group)s and r.fence = %(fence)s
    returning 1
), ended as (
    insert into eventlog.bus_end as e (topic, partition, seq)
    select t.topic, t.partition, t.seq
    from unnest(%(topics)s::text[], %(partitions)s::integer[], %(seqs)s::bigint[]) as t (topic, partition, seq)
    where exists (select from marked)
    on conflict (topic, partition) do update set seq = greatest(e.seq, excluded.seq)
), known as (
    update eventlog.relay set ends_upto = %(position)s where fence = %(fence)s
)
select count(*) as marked from marked

-- name: settle_silent
-- Moves the places of groups on in partitions to which nothing comes.
select eventlog.settle_silent(%(upto)s::bigint, %(behind)s::bigint)

-- name: bus_join
-- Registers a group and the partitions that a member was given; returns where the group stands in each.
select topic, partition, position, passed_seq
from eventlog.bus_join(
    %(group)s, %(types)s::text[], %(bus)s::jsonb, %(topics)s::text[], %(partitions)s::integer[]
)

-- name: bus_take
-- Locks the positions of a batch and enters its events in the inbox.
select moved, fresh from eventlog.bus_take(
    %(group)s, %(topics)s::text[], %(partitions)s::integer[], %(known)s::bigint[], %(ids)s::uuid[], %(lease_ms)s
)

-- name: bus_advance
-- Moves the positions of a batch.
select eventlog.bus_advance(
    %(group)s, %(topics)s::text[], %(partitions)s::integer[], %(positions)s::bigint[], %(seqs)s::bigint[]
)

-- name: bus_give_up
-- Notes an event that goes to the dead letters, so that the inbox never forgets it.
select eventlog.bus_give_up(%(group)s, %(event_id)s)

-- name: bus_places
-- The partitions that a group has handled, locked.
select topic, partition, position from eventlog.bus_position
where consumer_group = %(group)s order by topic, partition for update

-- name: bus_set_back
-- Sets the positions of a group; its members notice with their next batch.
with no_floor as (
    update eventlog.consumer_group set left_log_at = null where name = %(group)s
)
update eventlog.bus_position b
set position = least(b.position, t.position), seq = least(b.seq, %(from_seq)s - 1),
    passed_seq = least(b.passed_seq, %(from_seq)s - 1)
from unnest(%(topics)s::text[], %(partitions)s::integer[], %(positions)s::bigint[]) as t (topic, partition, position)
where b.consumer_group = %(group)s and b.topic = t.topic and b.partition = t.partition

-- name: bus_positions
-- Where a group stands in some partitions.
select topic, partition, position
from eventlog.bus_positions(%(group)s, %(topics)s::text[], %(partitions)s::integer[])

-- name: has_older
-- Whether the log holds something after a place that is older than Kafka keeps its records.
select eventlog.has_older(
    %(after)s, %(types)s::text[], make_interval(secs => %(retention_s)s)) as is_gone
