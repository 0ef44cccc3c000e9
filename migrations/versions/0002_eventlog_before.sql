-- The event log: an outbox that every context appends to in its own transaction, the sequenced log that
-- consumers read, and the bookkeeping of consumer groups. All tables belong to faregate_eventlog; other
-- roles come in through the SECURITY DEFINER functions at the end.
set local role faregate_eventlog;

-- Debezium's outbox columns (id, aggregatetype, aggregateid, type, payload), so that change data capture can
-- replace the sequencer without a migration. Rows live for milliseconds, hence the eager autovacuum.
create table eventlog.outbox (
    ord bigint generated always as identity (cache 1) primary key,
    id uuid not null,
    aggregatetype text not null,
    aggregateid text not null,
    type text not null,
    payload jsonb not null,
    time timestamptz not null,
    traceparent text
) with (
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_analyze_threshold = 50000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0
);

-- The log. `seq` has no gaps and becomes visible in order, because one fenced sequencer at a time writes it and
-- counts on from the last row; whoever moves old events elsewhere leaves the last one here.
create table eventlog.event (
    seq bigint primary key,
    id uuid not null unique,
    partition smallint not null check (partition between 0 and 15),
    aggregatetype text not null,
    aggregateid text not null,
    type text not null,
    payload jsonb not null,
    time timestamptz not null,
    traceparent text,
    sequenced_at timestamptz not null
) with (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

create function eventlog.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'eventlog.event is append-only: % refused', tg_op using errcode = 'insufficient_privilege';
end
$$;

create trigger event_is_append_only before update or delete or truncate on eventlog.event
    for each statement execute function eventlog.refuse_change();

-- The one lease of the sequencer. Whoever lacks its fence cannot write into the log. The row changes about once a
-- second only, so that a forgotten transaction, which keeps old row versions alive, does not slow the log down.
create table eventlog.sequencer (
    only_row boolean primary key default true check (only_row),
    holder text,
    fence bigint not null default 0,
    expires_at timestamptz not null default '-infinity'
) with (fillfactor = 10);
insert into eventlog.sequencer default values;

create table eventlog.consumer_group (
    name text primary key,
    types text[]            -- null: every type
) with (fillfactor = 50);

create table eventlog.member (
    consumer_group text not null references eventlog.consumer_group (name),
    member text not null,
    expires_at timestamptz not null,
    primary key (consumer_group, member)
) with (fillfactor = 50);

-- Who handles a partition for a group, and how far. The fence grows with every change of hands.
create table eventlog.assignment (
    consumer_group text not null references eventlog.consumer_group (name),
    partition smallint not null check (partition between 0 and 15),
    member text,
    fence bigint not null default 0,
    position bigint not null default 0,
    primary key (consumer_group, partition)
) with (fillfactor = 20, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- Which events a group has handled: written in the transaction of the handler's effect.
create table eventlog.inbox (
    consumer_group text not null,
    event_id uuid not null,
    handled_at timestamptz not null default now(),
    primary key (consumer_group, event_id)
) with (autovacuum_vacuum_insert_scale_factor = 0.05);
create index inbox_handled_at on eventlog.inbox using brin (handled_at);

-- Stable for ever and easy to repeat in another language, unlike hashtext().
create function eventlog.partition_of(aggregateid text) returns smallint
    language sql immutable strict parallel safe
return (get_byte(sha256(convert_to(aggregateid, 'UTF8')), 0) & 15)::smallint;

-- Appends a JSON array of events in the caller's transaction. The transaction id is drawn before any `ord`:
-- the sequencer concludes from it that a missing `ord` of a finished transaction never comes.
create function eventlog.append(events jsonb) returns void
    language sql security definer set search_path = eventlog, pg_temp
as $$
    select pg_current_xact_id();
    insert into outbox (id, aggregatetype, aggregateid, type, payload, time, traceparent)
    select e.id, e.aggregatetype, e.aggregateid, e.type, e.payload, e.time, e.traceparent
    from rows from (
        jsonb_to_recordset(events) as (
            id uuid, aggregatetype text, aggregateid text, type text, payload jsonb,
            time timestamptz, traceparent text
        )
    ) with ordinality as e (id, aggregatetype, aggregateid, type, payload, time, traceparent, position)
    order by e.position;
$$;

-- Moves committed outbox rows into the log, waiting up to `p_wait` for some to appear. Every statement in it
-- has a snapshot of its own, so it sees commits while it waits, and an idle wait writes nothing.
create function eventlog.sequence(
    p_fence bigint, p_after bigint, p_missing bigint[], p_limit int, p_pause interval, p_wait interval
) returns table (
    held boolean, top bigint, xmin text, xmax text, ords bigint[], written bigint
) language plpgsql as $$
declare
    deadline constant timestamptz := clock_timestamp() + p_wait;
    pause double precision := extract(epoch from p_pause);
    base bigint;
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

    -- Read before the snapshot below: every `ord` up to here was drawn by a transaction that it knows of.
    top := coalesce(pg_sequence_last_value('eventlog.outbox_ord_seq'), 0);
    select pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text, array(
        (select o.ord from eventlog.outbox o where o.ord = any (p_missing) order by o.ord limit p_limit)
        union
        (select o.ord from eventlog.outbox o where o.ord > p_after order by o.ord limit p_limit)
        order by ord limit p_limit
    ) into xmin, xmax, ords from pg_current_snapshot() s;
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
    base := coalesce((select max(e.seq) from eventlog.event e), 0);
    with taken as (
        delete from eventlog.outbox o where o.ord = any (ords) returning o.*
    ), once as (
        -- An id enters the log once, whoever appends it again; the caller learns how many did.
        select distinct on (t.id) t.* from taken t
        where not exists (select from eventlog.event e where e.id = t.id)
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

-- Keeps a member alive while a long handler runs; false when the member was already given up.
create function eventlog.heartbeat(p_group text, p_member text, p_lease interval) returns boolean
    language sql security definer set search_path = eventlog, pg_temp
as $$
    with kept as (
        update member set expires_at = clock_timestamp() + p_lease
        where consumer_group = p_group and member = p_member
        returning 1
    )
    select exists (select from kept);
$$;

-- Joins a group or stays in it, and answers with the partitions that the member holds from now on. Members
-- give up what exceeds their share themselves, between two batches; only a dead member's partitions are taken.
-- Lock order: the group, then its assignments by partition.
create function eventlog.rebalance(p_group text, p_member text, p_types text[], p_lease interval)
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
        insert into assignment (consumer_group, partition)
            select p_group, n from generate_series(0, 15) n;
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

-- Leaves a group: its partitions are free at once.
create function eventlog.leave(p_group text, p_member text) returns void
    language sql security definer set search_path = eventlog, pg_temp
as $$
    select from consumer_group where name = p_group for update;
    delete from member where consumer_group = p_group and member = p_member;
    update assignment set member = null, fence = fence + 1
        where consumer_group = p_group and member = p_member;
$$;

-- Reads the next events of some partitions and enters them in the inbox, in the handler's transaction. It looks
-- at the range (p_after, p_upto]; `head` is the end of the log, also when no event is found: then it stands in
-- one row alone. `fresh` is false for events that the group has handled before. A
-- client that freezes inside the transaction is cut off after `p_lease_ms`.
create function eventlog.take(
    p_group text, p_partitions smallint[], p_after bigint, p_upto bigint, p_types text[], p_limit int,
    p_lease_ms int
) returns table (
    head bigint, seq bigint, id uuid, aggregatetype text, aggregateid text, type text, payload text,
    "time" timestamptz, traceparent text, "partition" smallint, fresh boolean
) language plpgsql security definer set search_path = eventlog, pg_temp
as $$
#variable_conflict use_column
begin
    perform set_config('idle_in_transaction_session_timeout', p_lease_ms::text, true);
    return query
    with last as materialized (
        select coalesce(max(e.seq), 0) as seq from event e
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

-- Moves the positions of partitions, if the member still holds every one under the fence that it knows. The
-- caller rolls back when fewer rows than partitions come back.
create function eventlog.advance(
    p_group text, p_member text, p_partitions smallint[], p_fences bigint[], p_position bigint
) returns int language plpgsql security definer set search_path = eventlog, pg_temp
as $$
declare
    moved int;
begin
    perform from assignment a
        where a.consumer_group = p_group and a.partition = any (p_partitions)
        order by a.partition for update;
    update assignment a set position = p_position
        from unnest(p_partitions, p_fences) as held (partition, fence)
        where a.consumer_group = p_group and a.partition = held.partition
            and a.member = p_member and a.fence = held.fence;
    get diagnostics moved = row_count;
    return moved;
end
$$;

revoke all on all functions in schema eventlog from public;
grant usage on schema eventlog to faregate_app;
grant execute on function eventlog.append(jsonb) to faregate_app;
grant execute on function eventlog.heartbeat(text, text, interval) to faregate_app;
grant execute on function eventlog.rebalance(text, text, text[], interval) to faregate_app;
grant execute on function eventlog.leave(text, text) to faregate_app;
grant execute on function eventlog.take(text, smallint[], bigint, bigint, text[], int, int) to faregate_app;
grant execute on function eventlog.advance(text, text, smallint[], bigint[], bigint) to faregate_app;
reset role;
