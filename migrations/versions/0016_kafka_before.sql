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

-- Registers a group and the partitions that a member was given; returns where the group stands in each.
create function eventlog.bus_join(p_group text, p_types text[], p_topics text[], p_partitions integer[])
returns table (topic text, partition integer, "position" bigint)
language plpgsql security definer set search_path = eventlog, pg_temp as $$
#variable_conflict use_column
begin
    insert into consumer_group as g (name, types) values (p_group, p_types)
        on conflict (name) do update set types = excluded.types
        where g.types is distinct from excluded.types;
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

revoke all on all functions in schema eventlog from public;
grant execute on function
    eventlog.bus_join(text, text[], text[], integer[]),
    eventlog.bus_take(text, text[], integer[], bigint[], uuid[], integer),
    eventlog.bus_advance(text, text[], integer[], bigint[], bigint[])
to faregate_app;
reset role;
