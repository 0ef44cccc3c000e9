set local role faregate_eventlog;

-- The notification of a batch names the types of its events: a group that handles none of them need not look.
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
    types text;
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
        insert into eventlog.event as e
            (seq, id, partition, aggregatetype, aggregateid, type, payload, time, traceparent, sequenced_at)
        select base + row_number() over (order by o.ord), o.id, eventlog.partition_of(o.aggregateid),
            o.aggregatetype, o.aggregateid, o.type, o.payload, o.time, o.traceparent, clock_timestamp()
        from once o
        order by o.ord
        returning e.type
    )
    select count(*), string_agg(distinct a.type, ' ') into written, types from added a;
    -- Whoever listens for none of these sleeps on. Too many to be named: everybody looks.
    perform pg_notify('eventlog', case when length(types) < 7000 then types else '' end);
    return next;
end
$$;
