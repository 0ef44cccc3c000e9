-- What a batch reads under its locks costs less: only the first few lots of an account are looked at where they are enough,
-- and each part is a query of its own, so that what a batch has no use for costs it nothing.
set local role faregate_points;

-- The buckets of an account from its frontier on, until they hold `needed` points beyond those that end before
-- `load_until`; all of them if `needed` is null. `is_complete`: there are no others.
create function points.lots_ahead(
    p_account_no bigint, since_on date, since_bucket int, needed bigint, load_until date,
    out days date[], out numbers int[], out amounts bigint[], out is_complete boolean
) language plpgsql stable set plan_cache_mode = force_generic_plan as $$
declare
    most int := 8; -- mostly enough; to add up all of them costs as much as they are many
    seen int;
begin
    if needed is null then
        select array_agg(expires_on), array_agg(no), array_agg(amount), true
        into days, numbers, amounts, is_complete
        from (
            select expires_on, no, amount from points.bucket
            where account_no = p_account_no and (expires_on, no) >= (since_on, since_bucket) and expires_on > '0001-01-01'
            order by expires_on, no
        ) as lots;
        return;
    end if;
    loop
        select count(*), array_agg(expires_on) filter (where is_kept), array_agg(no) filter (where is_kept),
          array_agg(amount) filter (where is_kept), coalesce(bool_and(is_kept), true)
        into seen, days, numbers, amounts, is_complete
        from (
            select expires_on, no, amount, expires_on < load_until
              or needed > coalesce(sum(amount) filter (where expires_on >= load_until)
                    over (order by expires_on, no rows between unbounded preceding and 1 preceding), 0) as is_kept
            from (
                select expires_on, no, amount from points.bucket
                where account_no = p_account_no and (expires_on, no) >= (since_on, since_bucket)
                  and expires_on > '0001-01-01'
                order by expires_on, no
                limit most
            ) as ahead
        ) as lots;
        exit when most is null or seen < most or not is_complete;
        most := null;
    end loop;
end
$$;

-- As before.
create or replace function points.open_batch(
    accounts bigint[], wanted bigint[], keys text[], subjects bigint[], earned_by bigint[], earned_on date[], draws int,
    at timestamptz, load_until date
) returns json language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    standing json;
    newest json;
    known json;
    reserved json;
    drawn json;
begin
    perform pg_current_xact_id();
    perform from points.balance where account_no = any(accounts) order by account_no for update;
    select json_agg(row_to_json(s)) into standing from (
        select a.member_id, b.*, ahead.*, r.amount as rolling
        from unnest(accounts, wanted) as given (account_no, wanted)
        join points.balance b on b.account_no = given.account_no
        join points.account a on a.no = b.account_no
        left join points.bucket r on r.account_no = b.account_no and r.expires_on = '0001-01-01'
        cross join lateral points.lots_ahead(
            b.account_no, b.frontier_on, b.frontier_bucket,
            -- All of them when all points may be cut, else no more than are needed: to know how many costs, too.
            case when given.wanted < b.posted - b.held then
                (given.wanted + b.owed + b.frontier_offset + case when b.holes is null then 0 else (
                    select coalesce(sum((hole ->> 3)::bigint - (hole ->> 2)::bigint), 0)
                    from jsonb_array_elements(b.holes) as hole
                ) end)::bigint
            end,
            load_until
        ) as ahead
    ) as s;
    if cardinality(earned_by) > 0 then
        select json_agg(json_build_array(account_no, expires_on, no, amount)) into newest from (
            select distinct on (b.account_no, b.expires_on) b.account_no, b.expires_on, b.no, b.amount
            from unnest(earned_by, earned_on) as given (account_no, day)
            join points.bucket b on b.account_no = given.account_no and b.expires_on = given.day
            order by b.account_no, b.expires_on, b.no desc
        ) as n;
    end if;
    select json_agg(row_to_json(done)) into known from (
        select o.no, o.key, o.kind, o.amount, o.subject_no, o.at, o.refusal, o.details, o.posted, o.pending, o.held,
          o.owed, a.member_id
        from points.operation o left join points.account a on a.no = o.account_no
        where o.key = any(keys)
    ) as done;
    select json_agg(row_to_json(r)) into reserved from (
        select r.operation_no, r.account_no, a.member_id, r.amount, r.posted, r.expires_at, r.layer, r.resolved_by
        from points.reservation r join points.account a on a.no = r.account_no
        where r.operation_no = any(subjects)
        union
        select r.operation_no, r.account_no, a.member_id, r.amount, r.posted, r.expires_at, r.layer, r.resolved_by
        from points.reservation r join points.account a on a.no = r.account_no
        where r.account_no = any(accounts) and r.resolved_by is null
          and r.expires_at <= coalesce(at, clock_timestamp())
    ) as r;
    select json_agg(nextval('points.operation_no')) into drawn from generate_series(1, draws);
    return json_build_object(
        'now', coalesce(at, clock_timestamp()), 'numbers', drawn, 'accounts', standing, 'newest', newest, 'known', known,
        'reservations', reserved
    );
end
$$;
revoke all on function points.lots_ahead from public;
reset role;
