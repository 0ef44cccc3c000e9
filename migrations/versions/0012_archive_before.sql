-- The log in segments: the table of events becomes partitions by `seq`, so that old ones can leave in one piece.
-- Segments lie side by side without gaps: cold ones (in Delta tables) first, then hot ones, the last of them open.
-- Whether a segment is hot or cold is said by its row alone.
set local role faregate_eventlog;

create table eventlog.segment (
    from_seq bigint primary key check (from_seq > 0),
    end_seq bigint not null check (end_seq > from_seq),  -- the first that is not in it
    opened_at timestamptz not null default clock_timestamp(),
    archived_at timestamptz,    -- null: hot
    kept_until timestamptz,     -- restored: not moved away again before
    rows bigint,                -- what the cold copy holds; known once it was made
    sha256 bytea check (octet_length(sha256) = 32),
    bytes bigint,
    first_at timestamptz,
    last_at timestamptz
);

-- How many events a segment takes. One that fills faster than `fill_min` is followed by one of twice the size, one
-- that takes longer than `fill_max` by one of half the size, between the bounds: few segments under load, and none
-- that stays open for months without.
create table eventlog.segment_policy (
    only_row boolean primary key default true check (only_row),
    rows_min bigint not null default 16384 check (rows_min > 0),
    rows_max bigint not null default 8388608 check (rows_max >= rows_min),
    fill_min interval not null default '12 hours',
    fill_max interval not null default '48 hours'
);
insert into eventlog.segment_policy default values;

-- Held by whoever moves the border between cold and hot, shared by whoever must not see it move.
create function eventlog.border_lock() returns bigint language sql immutable parallel safe return 7233174;

alter table eventlog.event rename to event_1;
alter index eventlog.event_pkey rename to event_1_pkey;
alter index eventlog.event_id_key rename to event_1_id_key;
create table eventlog.event (like eventlog.event_1 including defaults including constraints)
    partition by range (seq);
alter table eventlog.event add primary key (seq);
-- For people who look for the events of one key. Keys begin with the time at which they were made, so that blocks of
-- the log hold keys of about one age: enough for a block range index, which costs an append next to nothing.
create index event_by_key on eventlog.event using brin (aggregateid) with (pages_per_range = 32, autosummarize = on);
create trigger event_is_append_only before update or delete or truncate on eventlog.event
    for each statement execute function eventlog.refuse_change();

insert into eventlog.segment (from_seq, end_seq)
    select 1, coalesce(max(seq), 0) + 16384 + 1 from eventlog.event_1;
do $$
begin
    execute format(
        'alter table eventlog.event attach partition eventlog.event_1 for values from (1) to (%s)',
        (select end_seq from eventlog.segment)
    );
end
$$;

-- Makes an empty table for the events of a segment and hangs it into the log. Readers and writers go on meanwhile.
create function eventlog.make_partition(p_from bigint, p_end bigint) returns void language plpgsql as $$
declare
    name constant text := 'event_' || p_from;
begin
    if to_regclass('eventlog.' || name) is not null then
        return; -- a restoration that died before it loaded the events
    end if;
    execute format(
        'create table eventlog.%I (like eventlog.event including defaults including constraints, '
        'check (seq >= %s and seq < %s)) with '
        '(autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)', name, p_from, p_end);
    execute format('alter table eventlog.%I add primary key (seq), add unique (id)', name);
    execute format(
        'create trigger event_is_append_only before update or delete or truncate on eventlog.%I '
        'for each statement execute function eventlog.refuse_change()', name);
    execute format(
        'alter table eventlog.event attach partition eventlog.%I for values from (%s) to (%s)', name, p_from, p_end);
end
$$;

-- Opens segments after the last one until there is one that ends after `p_seq`.
create function eventlog.open_segment(p_seq bigint) returns void language plpgsql as $$
declare
    newest eventlog.segment;
    policy eventlog.segment_policy;
    size bigint;
    age interval;
begin
    perform pg_advisory_xact_lock(eventlog.border_lock() + 1); -- the sequencer and housekeeping, one at a time
    select * into policy from eventlog.segment_policy;
    loop
        select * into newest from eventlog.segment order by from_seq desc limit 1;
        exit when newest.end_seq > p_seq;
        age := clock_timestamp() - newest.opened_at;
        size := newest.end_seq - newest.from_seq;
        size := case when age < policy.fill_min then size * 2 when age > policy.fill_max then size / 2 else size end;
        size := least(greatest(size, policy.rows_min), policy.rows_max);
        perform eventlog.make_partition(newest.end_seq, newest.end_seq + size);
        insert into eventlog.segment (from_seq, end_seq) values (newest.end_seq, newest.end_seq + size);
    end loop;
end
$$;

-- The place of the last event in the log. Looks at the newest segments only: at most one of them is empty.
create function eventlog.last_seq() returns bigint language plpgsql stable
set plan_cache_mode = force_generic_plan
as $$
declare
    lower bigint;
begin
    select min(s.from_seq) into lower
    from (select n.from_seq from eventlog.segment n where n.archived_at is null order by n.from_seq desc limit 3) s;
    return coalesce((select max(e.seq) from eventlog.event e where e.seq >= lower), lower - 1);
end
$$;

-- Opens the next segment before it is needed: once the last one is half full.
create function eventlog.open_segment_ahead() returns void language plpgsql as $$
declare
    newest eventlog.segment;
begin
    select * into newest from eventlog.segment order by from_seq desc limit 1;
    if eventlog.last_seq() >= (newest.from_seq + newest.end_seq) / 2 then
        perform eventlog.open_segment(newest.end_seq);
    end if;
end
$$;

-- Ends the hot life of the oldest hot segment, whose cold copy was verified: its table goes and its row says so, at one
-- instant. The caller limits how long it waits for those who read.
create function eventlog.close_segment(
    p_from bigint, p_rows bigint, p_sha256 bytea, p_bytes bigint, p_first_at timestamptz, p_last_at timestamptz
) returns void language plpgsql as $$
declare
    oldest eventlog.segment;
begin
    perform pg_advisory_xact_lock(eventlog.border_lock());
    select * into strict oldest from eventlog.segment where archived_at is null order by from_seq limit 1;
    if oldest.from_seq <> p_from or oldest.end_seq - oldest.from_seq <> p_rows or eventlog.last_seq() < oldest.end_seq - 1
        or exists (select from eventlog.assignment a where a.position < oldest.end_seq - 1) then
        raise exception 'segment % cannot be closed', p_from using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform eventlog.open_segment(oldest.end_seq); -- one segment at least is always hot
    execute format('drop table eventlog.%I', 'event_' || p_from);
    update eventlog.segment
    set archived_at = clock_timestamp(), kept_until = null, rows = p_rows, sha256 = p_sha256, bytes = p_bytes,
        first_at = p_first_at, last_at = p_last_at
    where from_seq = p_from;
end
$$;

-- What 0002 says of these functions holds; they know segments now.
create or replace function eventlog.sequence(
    p_fence bigint, p_after bigint, p_missing bigint[], p_limit int, p_pause interval, p_wait interval
) returns table (
    held boolean, top bigint, xmin text, xmax text, ords bigint[], written bigint
) language plpgsql
-- One plan for all calls: partitions that are of no concern are left out when it begins to run. It may be made while
-- they are empty, and must not scan them when they are not.
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    deadline constant timestamptz := clock_timestamp() + p_wait;
    pause double precision := extract(epoch from p_pause);
    base bigint;
    dedupe_after bigint;
begin
    loop
        perform pg_sleep(pause);
        exit when exists (select from eventlog.outbox where ord > p_after)
            or (cardinality(p_missing) > 0 and exists (select from eventlog.outbox where ord = any (p_missing)))
            or clock_timestamp() >= deadline;
        pause := least(greatest(pause, 0.005) * 1.25, 0.012);
    end loop;

    if not exists (select from eventlog.sequencer s where s.fence = p_fence) then
        return query select false, 0::bigint, '0', '0', '{}'::bigint[], 0::bigint;
        return;
    end if;

    -- Our transaction gets its id after `top` was read: whoever drew an `ord` up to `top` has a lower one. The xmax of
    -- a snapshot would not do: it is one past the highest that has ended, and one that runs may lie above it.
    top := coalesce(pg_sequence_last_value('eventlog.outbox_ord_seq'), 0);
    xmax := pg_current_xact_id()::text;
    select pg_snapshot_xmin(s)::text, array(
        (select o.ord from eventlog.outbox o where o.ord = any (p_missing) order by o.ord limit p_limit)
        union
        (select o.ord from eventlog.outbox o where o.ord > p_after order by o.ord limit p_limit)
        order by ord limit p_limit
    ) into xmin, ords from pg_current_snapshot() s;
    held := true;
    written := 0;
    if cardinality(ords) = 0 then
        return next;
        return;
    end if;

    perform from eventlog.sequencer s where s.fence = p_fence for update;
    if not found then
        return query select false, 0::bigint, '0', '0', '{}'::bigint[], 0::bigint;
        return;
    end if;
    base := eventlog.last_seq();
    if base + cardinality(ords) >= (select max(s.end_seq) from eventlog.segment s) then
        perform eventlog.open_segment(base + cardinality(ords));
    end if;
    select min(n.from_seq) - 1 into dedupe_after
    from (select s.from_seq from eventlog.segment s where s.archived_at is null order by s.from_seq desc limit 9) n;
    with taken as (
        delete from eventlog.outbox o where o.ord = any (ords) returning o.*
    ), once as (
        -- An id that stands in one of the newest segments does not enter again; the caller learns how many did not.
        select distinct on (t.id) t.* from taken t
        where not exists (select from eventlog.event e where e.id = t.id and e.seq > dedupe_after)
        order by t.id, t.ord
    ), added as (
        insert into eventlog.event
            (seq, id, partition, aggregatetype, aggregateid, type, payload, time, traceparent, sequenced_at)
        select base + row_number() over (order by o.ord), o.id, eventlog.partition_of(o.aggregateid),
            o.aggregatetype, o.aggregateid, o.type, o.payload, o.time, o.traceparent, clock_timestamp()
        from once o
        order by o.ord
        returning 1
    )
    select count(*) into written from added;
    perform pg_notify('eventlog', (base + written)::text);
    return next;
end
$$;

create or replace function eventlog.take(
    p_group text, p_partitions smallint[], p_after bigint, p_upto bigint, p_types text[], p_limit int,
    p_lease_ms int
) returns table (
    head bigint, seq bigint, id uuid, aggregatetype text, aggregateid text, type text, payload text,
    "time" timestamptz, traceparent text, "partition" smallint, fresh boolean
) language plpgsql security definer set search_path = eventlog, pg_temp
-- One plan for all calls: partitions that the range does not touch are left out when it begins to run.
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
#variable_conflict use_column
begin
    if p_after < (select s.from_seq from segment s where s.archived_at is null order by s.from_seq limit 1) - 1 then
        raise exception 'events after % are in cold storage: restore them before a group reads them', p_after;
    end if;
    perform set_config('idle_in_transaction_session_timeout', p_lease_ms::text, true);
    return query
    with last as materialized (
        select coalesce(max(e.seq), p_after) as seq from event e where e.seq > p_after
    ), found as materialized (
        select e.* from event e
        where e.seq > p_after and e.seq <= p_upto
            and e.partition = any (p_partitions) and (p_types is null or e.type = any (p_types))
        order by e.seq limit p_limit
    ), entered as (
        insert into inbox (consumer_group, event_id) select p_group, f.id from found f
        on conflict do nothing returning event_id
    )
    select l.seq, f.seq, f.id, f.aggregatetype, f.aggregateid, f.type, f.payload::text, f.time, f.traceparent,
        f.partition, f.id in (select n.event_id from entered n)
    from last l left join found f on true
    order by f.seq;
end
$$;

create or replace function eventlog.rebalance(p_group text, p_member text, p_types text[], p_lease interval)
    returns table (partition smallint, fence bigint, "position" bigint)
    language plpgsql security definer set search_path = eventlog, pg_temp
as $$
#variable_conflict use_column
declare
    live int;
    rank int;
    share int;
    owned int;
begin
    insert into consumer_group as g (name, types) values (p_group, p_types)
        on conflict (name) do update set types = excluded.types
        where g.types is distinct from excluded.types;
    perform from consumer_group where name = p_group for update;
    if not exists (select from assignment where consumer_group = p_group) then
        -- A new group begins with the oldest event that is not in cold storage.
        perform pg_advisory_xact_lock_shared(eventlog.border_lock());
        insert into assignment (consumer_group, partition, position)
            select p_group, n, (select min(s.from_seq) from segment s where s.archived_at is null) - 1
            from generate_series(0, 15) n;
    end if;
    insert into member (consumer_group, member, expires_at)
        values (p_group, p_member, clock_timestamp() + p_lease)
        on conflict (consumer_group, member) do update set expires_at = excluded.expires_at;
    delete from member where consumer_group = p_group and expires_at < clock_timestamp();
    update assignment set member = null, fence = fence + 1
        where consumer_group = p_group and partition in (
            select a.partition from assignment a
            where a.consumer_group = p_group and a.member is not null
                and not exists (
                    select from member m where m.consumer_group = p_group and m.member = a.member
                )
            order by a.partition for update
        );
    select count(*), count(*) filter (where m.member < p_member) into live, rank
        from member m where m.consumer_group = p_group;
    share := 16 / live + case when rank < 16 % live then 1 else 0 end;
    select count(*) into owned from assignment a where a.consumer_group = p_group and a.member = p_member;
    if owned > share then
        update assignment set member = null, fence = fence + 1
            where consumer_group = p_group and partition in (
                select a.partition from assignment a
                where a.consumer_group = p_group and a.member = p_member
                order by a.partition desc limit owned - share
            );
    elsif owned < share then
        update assignment set member = p_member, fence = fence + 1
            where consumer_group = p_group and partition in (
                select a.partition from assignment a
                where a.consumer_group = p_group and a.member is null
                order by a.partition limit share - owned for update
            );
    end if;
    return query select a.partition, a.fence, a.position from assignment a
        where a.consumer_group = p_group and a.member = p_member order by a.partition;
end
$$;

revoke all on all functions in schema eventlog from public;
reset role;
