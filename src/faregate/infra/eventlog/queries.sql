-- name: append
-- Appends a JSON array of events in the caller's transaction.
select eventlog.append(%(events)s::jsonb)

-- name: bytes_of
-- How long some JSON is as PostgreSQL writes it.
select octet_length((%(data)s::jsonb)::text) as bytes

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
-- How far each group, or each of these, is behind.
select "group", events, seconds from eventlog.lag(%(groups)s::text[])

-- name: unsequenced
-- Committed events that do not stand in the log yet.
select events, seconds from eventlog.unsequenced()

-- name: rewind
-- Moves a group to just before an event, never forwards, and shuts out batches that are being handled.
update eventlog.assignment set position = least(position, %(from_seq)s - 1), fence = fence + 1
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
-- Removes a portion of the inbox rows older than an instant; dead letters may come back at any time, and theirs stay.
delete from eventlog.inbox
where ctid = any (array(
    select i.ctid from eventlog.inbox i
    where i.handled_at < %(before)s and not exists (
        select from eventlog.given_up d where d.consumer_group = i.consumer_group and d.event_id = i.event_id
    )
    limit %(limit)s
))

-- name: open_segment_ahead
-- Opens the next segment of the log once the last one is half full.
select eventlog.open_segment_ahead()

-- name: segments
-- Every segment of the log, oldest first. `filled` is false for the one that is being filled and those after it.
select s.from_seq, s.end_seq, s.opened_at, s.archived_at, s.kept_until, s.rows, s.sha256, s.bytes, s.first_at,
    s.last_at, s.end_seq - 1 <= eventlog.last_seq() as filled
from eventlog.segment s order by s.from_seq

-- name: segment_of
-- The segment that holds a place of the log.
select s.from_seq, s.end_seq, s.opened_at, s.archived_at, s.kept_until, s.rows, s.sha256, s.bytes, s.first_at,
    s.last_at, s.end_seq - 1 <= eventlog.last_seq() as filled
from eventlog.segment s
where s.from_seq <= %(seq)s and s.end_seq > %(seq)s

-- name: hold_border
-- Keeps events from moving into cold storage until the end of the transaction.
select pg_advisory_xact_lock_shared(eventlog.border_lock())

-- name: hot_from
-- The place of the first event that is not in cold storage.
select min(from_seq) as seq from eventlog.segment where archived_at is null

-- name: hot
-- How many events are in PostgreSQL, by places, and since when the oldest of them is there.
select coalesce(eventlog.last_seq() - min(s.from_seq) + 1, 0) as rows, (
    select e.sequenced_at from eventlog.event e where e.seq >= min(s.from_seq) order by e.seq limit 1
) as oldest_at
from eventlog.segment s where s.archived_at is null

-- name: page
-- Events of one hot segment, of one key if one is given, in the order of the log.
select seq, id, aggregatetype, aggregateid, type, payload::text as payload, time, traceparent
from eventlog.event
where seq > %(after)s and seq < %(end)s
    and (%(key)s::text is null or (partition = eventlog.partition_of(%(key)s) and aggregateid = %(key)s))
order by seq limit %(limit)s

-- name: rows_of_segment
-- Every row of a segment, for its cold copy; instants as microseconds since 1970.
select seq, id::text, partition, aggregatetype, aggregateid, type, payload::text,
    (extract(epoch from time) * 1000000)::bigint, traceparent, (extract(epoch from sequenced_at) * 1000000)::bigint
from eventlog.event where seq >= %(from)s and seq < %(end)s order by seq

-- name: behind
-- The groups that have not handled everything before a place of the log, and how far they came.
select consumer_group as "group", min(position) as position from eventlog.assignment
group by consumer_group having min(position) < %(end)s - 1 order by consumer_group

-- name: close_segment
-- Drops the table of a segment whose cold copy was verified, and records where its events are.
select eventlog.close_segment(
    %(from)s::bigint, %(rows)s::bigint, %(sha256)s::bytea, %(bytes)s::bigint, %(first_at)s, %(last_at)s
)

-- name: make_partition
-- Makes the table of a segment anew, unless it is there.
select eventlog.make_partition(%(from)s::bigint, %(end)s::bigint)

-- name: reopen_segment
-- Records that the events of a segment are in PostgreSQL again, and until when they stay.
update eventlog.segment set archived_at = null, kept_until = %(kept_until)s
where from_seq = %(from)s and archived_at is not null

-- name: load_events
-- Loads the events of a cold segment again.
copy eventlog.event (
    seq, id, partition, aggregatetype, aggregateid, type, payload, time, traceparent, sequenced_at
) from stdin

-- name: try_archive_lock
-- Makes sure that one process at a time moves events; held until the connection ends.
select pg_try_advisory_lock(eventlog.border_lock() + 2) as held

-- name: leave_archive_lock
-- Lets another process move events.
select pg_advisory_unlock(eventlog.border_lock() + 2)

-- name: limit_lock_wait
-- Gives up soon when readers hold what a change needs: those who come after us wait behind us.
set local lock_timeout = '500ms'

-- name: sequenced_at
-- When an event was sequenced.
select sequenced_at from eventlog.event where seq = %(seq)s

-- name: forget_group
-- Removes a consumer group that no code uses any more; its inbox is pruned with age.
with members as (
    delete from eventlog.member where consumer_group = %(group)s
), places as (
    delete from eventlog.assignment where consumer_group = %(group)s
), places_on_kafka as (
    delete from eventlog.bus_position where consumer_group = %(group)s
)
delete from eventlog.consumer_group where name = %(group)s returning name

-- name: group
-- A consumer group, if there is one of this name.
select name from eventlog.consumer_group where name = %(group)s

-- name: log_end
-- The place of the newest event, 0 where there is none.
select coalesce(max(seq), 0) as seq from eventlog.event

-- name: newest
-- The newest events, or those after a place of the log, of some types if any are given; oldest first.
select seq, time, type, id, aggregateid as key, payload as data from (
    select e.seq, e.time, e.type, e.id, e.aggregateid, e.payload from eventlog.event e
    where (%(after)s::bigint is null or e.seq > %(after)s)
        and (%(types)s::text[] is null or e.type = any (%(types)s))
    order by e.seq desc limit case when %(after)s::bigint is null then %(count)s else 100000 end
) found order by seq
