-- Appending an event costs the transaction of the fact less, spending many lots too; what a link covers is said once.

set local role faregate_eventlog;

-- As before: the transaction id is drawn before any `ord`. Bound to its tables, and so to no search path.
create or replace function eventlog.append(events jsonb) returns void
    language sql security definer
begin atomic
    insert into eventlog.outbox (id, aggregatetype, aggregateid, type, payload, time, traceparent)
    select (event ->> 'id')::uuid, event ->> 'aggregatetype', event ->> 'aggregateid', event ->> 'type',
      event -> 'payload', (event ->> 'time')::timestamptz, event ->> 'traceparent'
    from jsonb_array_elements(events) with ordinality as given (event, place)
    where pg_current_xact_id() is not null
    order by place;
end;
reset role;

set local role faregate_points;

-- Operations as the chain covers them: with their entries, lots and cuts, hashed whole, and eight bytes for each part.
create function points.sealed_form(numbers bigint[])
returns table (no bigint, parts text[], sha256 bytea, column_sums bytea) language sql stable as $$
    with page as (
        select given.no from unnest(numbers) as given (no)
    ),
    part as (
        select o.no, 0 as place, 'operation' as part, json_strip_nulls(row_to_json(o))::text as content
        from page join points.operation o on o.no = page.no
        union all
        select e.operation_no, 1, 'entry ' || e.line, json_strip_nulls(row_to_json(e))::text
        from page join points.entry e on e.operation_no = page.no
        union all
        select l.operation_no, 2, concat('lot ', l.expires_on, '/', l.bucket, '/', l.first),
          json_strip_nulls(row_to_json(l))::text
        from page join points.lot l on l.operation_no = page.no
        union all
        select c.operation_no, 3, 'cut ' || c.line, json_strip_nulls(row_to_json(c))::text
        from page join points.cut c on c.operation_no = page.no
    )
    select p.no, array_agg(p.part order by place, p.part collate "C"),
      sha256(string_agg(convert_to(p.part || '=' || content, 'UTF8'), '\x0a' order by place, p.part collate "C")),
      string_agg(substr(sha256(convert_to(content, 'UTF8')), 1, 8), '' order by place, p.part collate "C")
    from part p group by p.no
$$;

-- As before; the lots of an account of which all may be spent are read without counting how many are needed.
create or replace function points.open_batch(
    accounts bigint[], wanted bigint[], keys text[], subjects bigint[], earned_by bigint[], earned_on date[], draws int,
    at timestamptz, load_until date
) returns json language plpgsql set plan_cache_mode = force_generic_plan as $$
begin
    perform pg_current_xact_id();
    perform from points.balance where account_no = any(accounts) order by account_no for update;
    return json_build_object(
        'now', coalesce(at, clock_timestamp()),
        'numbers', (select json_agg(nextval('points.operation_no')) from generate_series(1, draws)),
        'accounts', (
            select json_agg(row_to_json(standing)) from (
                select a.member_id, b.*, ahead.*,
                  (select amount from points.bucket r
                   where r.account_no = b.account_no and r.expires_on = '0001-01-01') as rolling
                from unnest(accounts, wanted) as given (account_no, wanted)
                join points.balance b on b.account_no = given.account_no
                join points.account a on a.no = b.account_no
                cross join lateral (
                    -- All of them when all points may be cut, else no more than are needed: to know how many costs, too.
                    select array_agg(expires_on) as days, array_agg(no) as numbers, array_agg(amount) as amounts,
                      true as is_complete
                    from (
                        select expires_on, no, amount from points.bucket k
                        where k.account_no = b.account_no and (expires_on, no) >= (b.frontier_on, b.frontier_bucket)
                          and expires_on > '0001-01-01' and given.wanted >= b.posted - b.held
                        order by expires_on, no
                    ) as lots
                    having given.wanted >= b.posted - b.held
                    union all
                    select array_agg(expires_on) filter (where is_kept), array_agg(no) filter (where is_kept),
                      array_agg(amount) filter (where is_kept), coalesce(bool_and(is_kept), true)
                    from (
                        select expires_on, no, amount, expires_on < load_until
                          or given.wanted + b.owed + b.frontier_offset + coalesce((
                              select sum((hole ->> 3)::bigint - (hole ->> 2)::bigint)
                              from jsonb_array_elements(b.holes) as hole), 0)
                            > coalesce(sum(amount) filter (where expires_on >= load_until)
                                over (order by expires_on, no rows between unbounded preceding and 1 preceding), 0)
                          as is_kept
                        from points.bucket k
                        where k.account_no = b.account_no and (expires_on, no) >= (b.frontier_on, b.frontier_bucket)
                          and expires_on > '0001-01-01' and given.wanted < b.posted - b.held
                        order by expires_on, no
                    ) as lots
                    having given.wanted < b.posted - b.held
                ) as ahead
            ) as standing
        ),
        'newest', case when cardinality(earned_by) > 0 then (
            select json_agg(json_build_array(account_no, expires_on, no, amount)) from (
                select distinct on (b.account_no, b.expires_on) b.account_no, b.expires_on, b.no, b.amount
                from unnest(earned_by, earned_on) as given (account_no, day)
                join points.bucket b on b.account_no = given.account_no and b.expires_on = given.day
                order by b.account_no, b.expires_on, b.no desc
            ) as newest
        ) end,
        'known', (
            select json_agg(row_to_json(done)) from (
                select o.no, o.key, o.kind, o.amount, o.subject_no, o.at, o.refusal, o.details, o.posted, o.pending, o.held,
                  o.owed, a.member_id
                from points.operation o left join points.account a on a.no = o.account_no
                where o.key = any(keys)
            ) as done
        ),
        'reservations', (
            select json_agg(row_to_json(reserved)) from (
                select r.operation_no, r.account_no, a.member_id, r.amount, r.posted, r.expires_at, r.layer, r.resolved_by
                from points.reservation r join points.account a on a.no = r.account_no
                where r.operation_no = any(subjects)
                union
                select r.operation_no, r.account_no, a.member_id, r.amount, r.posted, r.expires_at, r.layer, r.resolved_by
                from points.reservation r join points.account a on a.no = r.account_no
                where r.account_no = any(accounts) and r.resolved_by is null
                  and r.expires_at <= coalesce(at, clock_timestamp())
            ) as reserved
        )
    );
end
$$;

revoke all on function points.sealed_form from public;
reset role;
