-- Kafka carries the log to consumers: who relays it, and how far each group has handled each partition of each topic.
set local role faregate_eventlog;

-- The one lease of the relay. How far it came stands where that of every reader of the log stands: in the assignments
-- of its group, so that lag and archive know it.
create table eventlog.relay (
    only_row boolean primary key default true check (only_row),
    holder text,
    fence bigint not null default 0,
    expires_at timestamptz not null default '-infinity'
) with (fillfactor = 10);
insert into eventlog.relay default values;

-- The next offset to handle, written in the transaction of the handler's effect; `seq` is the place in the log of the
-- last event that was handled.
create table eventlog.bus_position (
    consumer_group text not null references eventlog.consumer_group (name),
    topic text not null,
    partition integer not null check (partition >= 0),
    position bigint,                    -- null: nothing was handled yet
    seq bigint not null default 0,
    primary key (consumer_group, topic, partition)
) with (fillfactor = 20, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- How a group that reads Kafka finds events there: `{"topics": {type: topic}, "other": beginning, "partitions": n}`.
-- Null: the group reads the log itself.
alter table eventlog.consumer_group add column bus jsonb;

-- Registers a group and the partitions that a member was given; returns where the group stands in each. What it was
-- given of the log itself is given up: the inbox keeps what was handled from being handled again.
create function eventlog.bus_join(p_group text, p_types text[], p_bus jsonb, p_topics text[], p_partitions integer[])
returns table (topic text, partition integer, "position" bigint)
language plpgsql security definer set search_path = eventlog, pg_temp as $$
#variable_conflict use_column
begin
    insert into consumer_group as g (name, types, bus) values (p_group, p_types, p_bus)
        on conflict (name) do update set types = excluded.types, bus = excluded.bus
        where (g.types, g.bus) is distinct from (excluded.types, excluded.bus);
    delete from assignment where consumer_group = p_group;
    insert into bus_position (consumer_group, topic, partition)
        select p_group, t.topic, t.partition
        from unnest(p_topics, p_partitions) as t (topic, partition)
        order by 1, 2, 3
        on conflict do nothing;
    return query
    select b.topic, b.partition, b.position
    from bus_position b
    join unnest(p_topics, p_partitions) as t (topic, partition) using (topic, partition)
    where b.consumer_group = p_group;
end
$$;

-- Locks the positions of a batch until the end of the transaction, and enters its events in the inbox. `moved` holds
-- the partitions whose position is not the one that the member knows: somebody else handles them now, or they were
-- set back. Then nothing was entered. `fresh` are the events that the group had not handled.
create function eventlog.bus_take(
    p_group text, p_topics text[], p_partitions integer[], p_known bigint[], p_ids uuid[], p_lease_ms integer
) returns table (moved integer, fresh uuid[])
language plpgsql security definer set search_path = eventlog, pg_temp set enable_seqscan = off as $$
begin
    perform set_config('idle_in_transaction_session_timeout', p_lease_ms::text, true);
    perform from bus_position b
        join unnest(p_topics, p_partitions) as t (topic, partition) using (topic, partition)
        where b.consumer_group = p_group
        order by b.topic, b.partition
        for update of b;
    select count(*) into moved
    from unnest(p_topics, p_partitions, p_known) as t (topic, partition, known)
    left join bus_position b
        on b.consumer_group = p_group and b.topic = t.topic and b.partition = t.partition
    where b.position is distinct from t.known;
    fresh := '{}';
    if moved = 0 then
        with entered as (
            insert into inbox (consumer_group, event_id)
            select p_group, i.id from unnest(p_ids) as i (id)
            on conflict do nothing
            returning event_id
        )
        select coalesce(array_agg(e.event_id), '{}') into fresh from entered e;
    end if;
    return next;
end
$$;

-- Moves the positions of a batch that `bus_take` locked.
create function eventlog.bus_advance(
    p_group text, p_topics text[], p_partitions integer[], p_positions bigint[], p_seqs bigint[]
) returns void
language sql security definer set search_path = eventlog, pg_temp as $$
    update bus_position b set position = t.position, seq = greatest(b.seq, t.seq)
    from unnest(p_topics, p_partitions, p_positions, p_seqs) as t (topic, partition, position, seq)
    where b.consumer_group = p_group and b.topic = t.topic and b.partition = t.partition;
$$;

-- As before; a group that reads the log again no longer reads Kafka.
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
        on conflict (name) do update set types = excluded.types, bus = null
        where g.types is distinct from excluded.types or g.bus is not null;
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

-- As before for groups that read the log. A group that reads Kafka is behind by the events of the log that its
-- positions have not passed: a part of a topic has the keys of one partition of the log.
create or replace function eventlog.lag(p_groups text[]) returns table ("group" text, events bigint, seconds float8)
    language sql stable security definer set search_path = eventlog, pg_temp
as $$
    select g.name, behind.events, behind.seconds
    from consumer_group g
    cross join lateral (
        select min(a.position) as position from assignment a where a.consumer_group = g.name
    ) lowest
    cross join lateral (
        select count(*) as events,
            coalesce(extract(epoch from clock_timestamp() - min(e.sequenced_at)), 0)::float8 as seconds
        from event e
        join assignment a on a.consumer_group = g.name and a.partition = e.partition and a.position < e.seq
        where e.seq > lowest.position and (g.types is null or e.type = any (g.types))
    ) behind
    where g.bus is null and (p_groups is null or g.name = any (p_groups))
    union all
    select g.name, behind.events, behind.seconds
    from consumer_group g
    cross join lateral (
        select count(*) as events,
            coalesce(extract(epoch from clock_timestamp() - min(e.sequenced_at)), 0)::float8 as seconds
        from event e
        left join bus_position b on b.consumer_group = g.name
            and b.topic = coalesce(g.bus -> 'topics' ->> e.type, (g.bus ->> 'other') || e.aggregatetype)
            and b.partition = get_byte(sha256(convert_to(e.aggregateid, 'UTF8')), 0) % (g.bus ->> 'partitions')::int
        where e.seq > coalesce((
                select min(s.seq) from bus_position s where s.consumer_group = g.name and s.topic not like '%outbox.retry'
            ), 0)
            and (g.types is null or e.type = any (g.types)) and coalesce(b.seq, 0) < e.seq
    ) behind
    where g.bus is not null and (p_groups is null or g.name = any (p_groups))
    order by 1
$$;

revoke all on all functions in schema eventlog from public;
grant execute on function
    eventlog.bus_join(text, text[], jsonb, text[], integer[]),
    eventlog.bus_take(text, text[], integer[], bigint[], uuid[], integer),
    eventlog.bus_advance(text, text[], integer[], bigint[], bigint[])
to faregate_app;
reset role;
