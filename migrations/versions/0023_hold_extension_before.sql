-- A hold of points can be made longer.
alter type points.kind add value 'extend';

set local role faregate_points;
-- As before; a reservation may end later.
create or replace function points.write_batch(batch json) returns void
    language plpgsql set plan_cache_mode = force_generic_plan as $$
begin
    insert into points.operation
      (no, account_no, amount, subject_no, at, posted, pending, held, owed, kind, key, asked_by, refusal, details)
    select no, account_no, amount, subject_no, at, posted, pending, held, owed, kind, key, asked_by, refusal, details
    from json_to_recordset(batch -> 'operations') as given (
        no bigint, account_no bigint, amount bigint, subject_no bigint, at timestamptz, posted bigint, pending bigint,
        held bigint, owed bigint, kind points.kind, key text, asked_by text, refusal text, details jsonb
    )
    order by key;
    if batch -> 'entries' is not null then
        insert into points.entry (operation_no, line, debit_no, credit_no, amount, layer)
        select operation_no, line, debit_no, credit_no, amount, layer
        from json_to_recordset(batch -> 'entries') as given (
            operation_no bigint, line smallint, debit_no bigint, credit_no bigint, amount bigint, layer points.layer
        );
    end if;
    if batch -> 'lots' is not null then
        insert into points.lot (operation_no, account_no, expires_on, bucket, first, amount)
        select operation_no, account_no, expires_on, bucket, first, amount
        from json_to_recordset(batch -> 'lots') as given (
            operation_no bigint, account_no bigint, expires_on date, bucket int, first bigint, amount bigint
        );
        insert into points.bucket (account_no, expires_on, no, amount)
        select account_no, expires_on, no, amount
        from json_to_recordset(batch -> 'buckets') as given (
            account_no bigint, expires_on date, no int, amount bigint
        )
        on conflict (account_no, expires_on, no) do update set amount = excluded.amount;
    end if;
    if batch -> 'cuts' is not null then
        insert into points.cut (
            operation_no, line, amount, from_on, from_bucket, from_offset, to_on, to_bucket, to_offset, newest
        )
        select operation_no, line, amount, from_on, from_bucket, from_offset, to_on, to_bucket, to_offset, newest
        from json_to_recordset(batch -> 'cuts') as given (
            operation_no bigint, line smallint, amount bigint, from_on date, from_bucket int, from_offset bigint,
            to_on date, to_bucket int, to_offset bigint, newest int
        );
    end if;
    if batch -> 'reservations' is not null then
        insert into points.reservation (operation_no, account_no, amount, posted, expires_at, layer, resolved_by)
        select operation_no, account_no, amount, posted, expires_at, layer, resolved_by
        from json_to_recordset(batch -> 'reservations') as given (
            operation_no bigint, account_no bigint, amount bigint, posted bigint, expires_at timestamptz,
            layer points.layer, resolved_by points.kind
        )
        on conflict (operation_no) do update set posted = excluded.posted, resolved_by = excluded.resolved_by,
          expires_at = excluded.expires_at;
    end if;
    if batch -> 'reversals' is not null then
        insert into points.reversal (subject_no, amount)
        select subject_no, amount
        from json_to_recordset(batch -> 'reversals') as given (subject_no bigint, amount bigint)
        on conflict (subject_no) do update set amount = excluded.amount;
    end if;
    if batch -> 'balances' is not null then
        update points.balance b
        set status = given.status, floor = given.floor, posted = given.posted, pending = given.pending,
          held = given.held, owed = given.owed, version = given.version, last_at = given.last_at,
          frontier_on = given.frontier_on, frontier_bucket = given.frontier_bucket,
          frontier_offset = given.frontier_offset, newest_bucket = given.newest_bucket,
          newest_behind = given.newest_behind, closed_bucket = given.closed_bucket,
          rolling_offset = given.rolling_offset,
          rolling_until = given.rolling_until, gaps = given.gaps, holes = given.holes
        from json_to_recordset(batch -> 'balances') as given (
            account_no bigint, status points.account_status, floor bigint, posted bigint, pending bigint, held bigint,
            owed bigint, version bigint, last_at timestamptz, frontier_on date, frontier_bucket int,
            frontier_offset bigint, newest_bucket int, newest_behind int, closed_bucket int, rolling_offset bigint,
            rolling_until date, gaps jsonb, holes jsonb
        )
        where b.account_no = given.account_no;
    end if;
end
$$;
reset role;
