-- What a group on Kafka has still to handle is counted from its lowest position in the log. A partition to which nothing
-- comes kept that at its beginning, and each look at the lag walked over all of the log.
set local role faregate_eventlog;

-- The place in the log of the last event in each partition of each topic, as the relay published it.
create table eventlog.bus_end (
    topic text not null,
    partition integer not null check (partition >= 0),
    seq bigint not null,
    primary key (topic, partition)
) with (fillfactor = 20, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- What was published before: found in the log, once.
insert into eventlog.bus_end (topic, partition, seq)
    select coalesce(known.bus -> 'topics' ->> e.type, (known.bus ->> 'other') || e.aggregatetype) as topic,
        get_byte(sha256(convert_to(e.aggregateid, 'UTF8')), 0) % (known.bus ->> 'partitions')::int as partition, max(e.seq)
    from (select distinct g.bus from eventlog.consumer_group g where g.bus is not null) known
    cross join eventlog.event e
    where e.seq <= (select min(a.position) from eventlog.assignment a where a.consumer_group = 'kafka.relay')
    group by 1, 2;

-- Up to which place of the log `bus_end` knows everything: a relay of an older version marks what it published without.
alter table eventlog.relay add column ends_upto bigint not null default 0;
update eventlog.relay set ends_upto = coalesce(
    (select min(a.position) from eventlog.assignment a where a.consumer_group = 'kafka.relay'), 0);

-- Moves the places of groups in partitions that hold nothing more for them to where the relay is, once those are
-- `p_behind` events old. Where a member is at work it is passed over: that one moves its place itself.
create function eventlog.settle_silent(p_upto bigint, p_behind bigint) returns bigint
    language sql
as $$
    with silent as (
        select b.consumer_group, b.topic, b.partition
        from eventlog.bus_position b
        where b.seq < p_upto - p_behind and b.seq >= coalesce((
            select x.seq from eventlog.bus_end x where x.topic = b.topic and x.partition = b.partition
        ), 0)
        order by b.consumer_group, b.topic, b.partition
        for update of b skip locked
    ), settled as (
        update eventlog.bus_position b set seq = p_upto
        from silent s
        where b.consumer_group = s.consumer_group and b.topic = s.topic and b.partition = s.partition
        returning 1
    )
    select count(*) from settled
$$;

revoke all on function eventlog.settle_silent(bigint, bigint) from public;
reset role;
