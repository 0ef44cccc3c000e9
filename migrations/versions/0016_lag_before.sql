-- How far consumers are behind may be asked by every part: a process that consumes for credit need not be able to
-- become the event log to know whether it has caught up.
set local role faregate_eventlog;

-- Its own types only, and since when the oldest of them waits. Null: every group.
create function eventlog.lag(p_groups text[]) returns table ("group" text, events bigint, seconds float8)
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
    where p_groups is null or g.name = any (p_groups)
    order by g.name
$$;

-- Committed events that do not stand in the log yet.
create function eventlog.unsequenced() returns table (events bigint, seconds float8)
    language sql stable security definer set search_path = eventlog, pg_temp
as $$
    select count(*), coalesce(extract(epoch from clock_timestamp() - min(time)), 0)::float8 from outbox
$$;

revoke all on function eventlog.lag(text[]), eventlog.unsequenced() from public;
grant execute on function eventlog.lag(text[]), eventlog.unsequenced() to faregate_app;
reset role;
