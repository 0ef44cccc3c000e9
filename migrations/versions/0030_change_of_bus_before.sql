-- A group that changes its bus goes on where it stood, however long ago that was: the inbox alone forgets in 30 days.
-- What the log calls a partition has all keys of the parts that it has on Kafka.
set local role faregate_eventlog;

-- Up to here everything was handled while the group read the log itself. It is passed over on Kafka.
alter table eventlog.bus_position add column passed_seq bigint not null default 0;
-- Where the group stood in each partition of the log when it went over to Kafka: for parts that a member is given later.
alter table eventlog.consumer_group add column left_log_at jsonb;

-- Up to where a group that reads Kafka has handled the log, by partition of the log.
create function eventlog.handled_on_bus(p_group text, p_bus jsonb)
returns table (partition smallint, "position" bigint)
language sql stable security definer set search_path = eventlog, pg_temp as $$
    with stands as materialized (
        -- What has handled nothing yet may have its place from a sibling, for the lag: it proves nothing.
        select b.topic, b.partition, case when b.position is null then b.passed_seq else b.seq end as seq
        from bus_position b
        where b.consumer_group = p_group and b.topic not like '%outbox.retry'
    ), head as materialized (
        select coalesce(max(e.seq), 0) as seq from event e
    ), unhandled as materialized (
        select e.partition, min(e.seq) as seq
        from consumer_group g
        cross join head h
        join event e on e.seq > coalesce((select min(s.seq) from stands s), 0) and e.seq <= h.seq
            and (g.types is null or e.type = any (g.types))
        left join stands s on s.topic = coalesce(p_bus -> 'topics' ->> e.type, (p_bus ->> 'other') || e.aggregatetype)
            and s.partition = get_byte(sha256(convert_to(e.aggregateid, 'UTF8')), 0) % (p_bus ->> 'partitions')::int
        where g.name = p_group and coalesce(s.seq, 0) < e.seq
        group by e.partition
    )
    select n::smallint, coalesce(u.seq - 1, h.seq)
    from generate_series(0, 15) n cross join head h left join unhandled u on u.partition = n
$$;

-- As before; a group that read Kafka begins in each partition with the first event that it did not handle there.
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
    was_on jsonb;
begin
    insert into consumer_group (name, types) values (p_group, p_types) on conflict (name) do nothing;
    select g.bus into was_on from consumer_group g where g.name = p_group for update;
    update consumer_group set types = p_types, bus = null
        where name = p_group and (types is distinct from p_types or bus is not null);
    if not exists (select from assignment where consumer_group = p_group) then
        -- A new group begins with the oldest event that is not in cold storage.
        perform pg_advisory_xact_lock_shared(eventlog.border_lock());
        insert into assignment (consumer_group, partition, position)
            select p_group, n, (select min(s.from_seq) from segment s where s.archived_at is null) - 1
            from generate_series(0, 15) n;
        if was_on is not null then
            update assignment a set position = greatest(a.position, o.position)
            from eventlog.handled_on_bus(p_group, was_on) o
            where a.consumer_group = p_group and a.partition = o.partition;
            -- Its places there may be deleted when it comes back; what it has handled meanwhile is passed over then.
            update bus_position set position = null where consumer_group = p_group and topic not like '%outbox.retry';
        end if;
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


-- Registers a group and the partitions that a member was given; returns where the group stands in each, and up to which
-- place of the log it needs nothing more. A part that a topic got later begins where the part stood that had its keys.
drop function eventlog.bus_join(text, text[], jsonb, text[], integer[]);
create function eventlog.bus_join(p_group text, p_types text[], p_bus jsonb, p_topics text[], p_partitions integer[])
returns table (topic text, partition integer, "position" bigint, passed_seq bigint)
language plpgsql security definer set search_path = eventlog, pg_temp as $$
#variable_conflict use_column
begin
    insert into consumer_group as g (name, types, bus) values (p_group, p_types, p_bus)
        on conflict (name) do update set types = excluded.types, bus = excluded.bus
        where (g.types, g.bus) is distinct from (excluded.types, excluded.bus);
    perform from consumer_group where name = p_group for update;
    insert into bus_position (consumer_group, topic, partition, seq)
        select p_group, t.topic, t.partition, coalesce((
            select min(b.seq) from bus_position b
            where b.consumer_group = p_group and b.topic = t.topic and b.partition % 16 = t.partition % 16
        ), 0)
        from unnest(p_topics, p_partitions) as t (topic, partition)
        order by t.topic, t.partition
        on conflict do nothing;
    if exists (select from assignment where consumer_group = p_group) then
        update bus_position b
            set passed_seq = greatest(b.passed_seq, a.position), seq = greatest(b.seq, a.position)
            from assignment a
            where b.consumer_group = p_group and a.consumer_group = p_group and a.partition = b.partition % 16
                and b.topic not like '%outbox.retry';
        update consumer_group set left_log_at = (
            select jsonb_object_agg(a.partition, a.position) from assignment a where a.consumer_group = p_group
        ) where name = p_group;
        delete from assignment where consumer_group = p_group;
    else
        update bus_position b
            set passed_seq = greatest(b.passed_seq, (g.left_log_at ->> (b.partition % 16)::text)::bigint),
                seq = greatest(b.seq, (g.left_log_at ->> (b.partition % 16)::text)::bigint)
            from consumer_group g
            where b.consumer_group = p_group and g.name = p_group and g.left_log_at is not null and b.position is null
                and b.topic not like '%outbox.retry'
                and b.passed_seq < (g.left_log_at ->> (b.partition % 16)::text)::bigint;
    end if;
    return query
    select b.topic, b.partition, b.position, b.passed_seq
    from bus_position b
    join unnest(p_topics, p_partitions) as t (topic, partition) using (topic, partition)
    where b.consumer_group = p_group;
end
$$;

-- Where a group stands in some partitions.
create function eventlog.bus_positions(p_group text, p_topics text[], p_partitions integer[])
returns table (topic text, partition integer, "position" bigint)
language sql stable security definer set search_path = eventlog, pg_temp as $$
    select b.topic, b.partition, b.position
    from bus_position b
    join unnest(p_topics, p_partitions) as t (topic, partition) using (topic, partition)
    where b.consumer_group = p_group
$$;

-- Whether the log holds an event of some types after a place that has stood there for longer than a time.
create function eventlog.has_older(p_after bigint, p_types text[], p_age interval) returns boolean
language sql stable security definer set search_path = eventlog, pg_temp as $$
    select exists (
        select from event e
        where e.seq > p_after and e.sequenced_at < now() - p_age and (p_types is null or e.type = any (p_types)))
$$;

revoke execute on function
    eventlog.bus_join(text, text[], jsonb, text[], integer[]), eventlog.handled_on_bus(text, jsonb),
    eventlog.bus_positions(text, text[], integer[]), eventlog.has_older(bigint, text[], interval)
from public;
grant execute on function
    eventlog.bus_join(text, text[], jsonb, text[], integer[]),
    eventlog.bus_positions(text, text[], integer[]),
    eventlog.has_older(bigint, text[], interval)
to faregate_app;
reset role;
