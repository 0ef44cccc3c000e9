-- The points ledger: double entry in whole points. What happened (operation, entry, lot, cut) is only ever inserted; what
-- follows from it (balance, bucket, reservation, reversal) is kept beside it and can be computed again.
-- Lock order: balances by account number, then operations by key. Accounts of the programme have negative numbers and
-- no balance that every posting would wait for.
do $$
begin
    perform pg_advisory_xact_lock(7233173); -- roles belong to the whole server: see 0001
    if not exists (select from pg_roles where rolname = 'faregate_points') then
        begin
            create role faregate_points nologin noinherit;
        exception when duplicate_object or unique_violation then
            null; -- another database's migration was faster
        end;
    end if;
    if not pg_has_role(current_user, 'faregate_points', 'set') then
        execute 'grant faregate_points to current_user';
    end if;
    if not pg_has_role('faregate_points', 'faregate_app', 'usage') then
        execute 'grant faregate_app to faregate_points with inherit true';
    end if;
    create schema if not exists points authorization faregate_points;
end
$$;

set local role faregate_points;

create type points.kind as enum (
    'set_status', 'set_floor', 'earn', 'earn_pending', 'confirm', 'cancel', 'burn', 'adjust', 'hold', 'post', 'void',
    'reverse', 'transfer', 'convert', 'receive', 'expire', 'time_out'
);
create type points.layer as enum ('posted', 'pending', 'held', 'owed');
create type points.account_status as enum ('open', 'frozen', 'closed');

create table points.account (
    no bigint generated always as identity primary key,
    member_id text not null unique check (member_id <> ''),
    opened_at timestamptz not null
);

-- How an account stands: one row a member. `frontier_*`: the place up to which its lots are spent, but for `gaps`;
-- from there on they are there, but for `holes` (see points/domain/lots.py). A range is [day, bucket, begin, end].
create table points.balance (
    account_no bigint primary key references points.account,
    status points.account_status not null default 'open',
    floor bigint not null default 0 check (floor >= 0),
    posted bigint not null default 0 check (posted >= 0),
    pending bigint not null default 0 check (pending >= 0),
    held bigint not null default 0 check (held between 0 and posted),
    owed bigint not null default 0 check (owed >= 0),
    version bigint not null default 0,
    last_at timestamptz,
    frontier_on date not null default '0001-01-01',
    frontier_bucket int not null default 0,
    frontier_offset bigint not null default 0,
    newest_bucket int not null default 0,
    newest_behind int not null default 0,
    closed_bucket int not null default 0,
    rolling_offset bigint not null default 0,
    rolling_until date,
    gaps jsonb,
    holes jsonb,
    check (owed = 0 or posted = held)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- What was asked under a key, and what came of it; a refusal too stays for ever. The balances are those of right after it.
create table points.operation (
    no bigint primary key,
    account_no bigint references points.account, -- null: there is no such member
    amount bigint not null,
    subject_no bigint,
    at timestamptz not null,
    posted bigint,
    pending bigint,
    held bigint,
    owed bigint,
    kind points.kind not null,
    key text not null unique,
    asked_by text not null,
    refusal text,
    details jsonb,
    check ((refusal is null) = (posted is not null))
);
create index operation_of_account on points.operation (account_no, at);
create sequence points.operation_no owned by points.operation.no;

create table points.entry (
    operation_no bigint not null references points.operation,
    debit_no bigint not null,
    credit_no bigint not null,
    amount bigint not null check (amount > 0),
    line smallint not null,
    layer points.layer not null,
    primary key (operation_no, line),
    check (debit_no <> credit_no)
);

-- The points that expire on one day, in the order in which they were earned. 0001-01-01: with the member's activity;
-- 9999-12-31: never. A bucket that the frontier has passed never grows.
create table points.bucket (
    account_no bigint not null references points.account,
    amount bigint not null check (amount > 0),
    expires_on date not null,
    no int not null,
    primary key (account_no, expires_on, no)
) with (fillfactor = 70);
create index bucket_expires_on on points.bucket (expires_on);

-- What an operation earned: a range of offsets in a bucket.
create table points.lot (
    operation_no bigint not null references points.operation,
    account_no bigint not null,
    first bigint not null check (first >= 0),
    amount bigint not null check (amount > 0),
    expires_on date not null,
    bucket int not null,
    primary key (account_no, expires_on, bucket, first)
);
create index lot_of_operation on points.lot (operation_no);

-- What an operation took out of the lots: all buckets from one place to another that are not newer than `newest`.
create table points.cut (
    operation_no bigint not null references points.operation,
    amount bigint not null check (amount > 0),
    from_offset bigint not null,
    to_offset bigint not null,
    from_on date not null,
    from_bucket int not null,
    to_on date not null,
    to_bucket int not null,
    newest int not null,
    line smallint not null,
    primary key (operation_no, line)
);

-- Holds and pending earns, until something resolves them.
create table points.reservation (
    operation_no bigint primary key references points.operation,
    account_no bigint not null,
    amount bigint not null check (amount > 0),
    posted bigint not null default 0 check (posted between 0 and amount),
    expires_at timestamptz, -- null: a pending earn
    layer points.layer not null,
    resolved_by points.kind
) with (fillfactor = 70);
create index reservation_due on points.reservation (expires_at) where resolved_by is null and expires_at is not null;
create index reservation_of_account on points.reservation (account_no) where resolved_by is null;

-- How much of an operation was reversed.
create table points.reversal (
    subject_no bigint primary key references points.operation,
    amount bigint not null check (amount > 0)
);

-- The last day whose points have been let expire. Whoever needs an account on a later day does it for that one at once.
create table points.due (
    only_row boolean primary key default true check (only_row),
    expired_until date not null default '0001-01-02'
);
insert into points.due default values;

create function points.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'points.% is only ever added to: % refused', tg_table_name, lower(tg_op)
        using errcode = 'insufficient_privilege';
end
$$;

do $$
declare
    name text;
begin
    foreach name in array array['operation', 'entry', 'lot', 'cut'] loop
        execute format(
            'create trigger only_added before update or delete or truncate on points.%I'
            ' for each statement execute function points.refuse_change()', name);
    end loop;
end
$$;
-- Locks the accounts of a batch in the order of their numbers and says all that is needed to decide it, in one document:
-- how they stand, their lots from the frontier on (those that end before `load_until`, and as many more as hold what may be
-- cut), the newest bucket of each day on which something is earned, what was decided under the keys before, reservations
-- that are referred to or over, the time, and numbers for the operations to come. The transaction gets its id before it
-- draws numbers: the sealer of the chain concludes from it that a number never comes.
create function points.open_batch(
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
                    select json_agg(expires_on) filter (where is_kept) as days,
                      json_agg(no) filter (where is_kept) as numbers,
                      json_agg(amount) filter (where is_kept) as amounts, coalesce(bool_and(is_kept), true) as is_complete
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
                          and expires_on > '0001-01-01'
                        order by expires_on, no
                    ) as lots
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

-- Writes what was decided of a batch: one document, each list of rows in its table. Operations go in the order of their
-- keys, which is the same for everybody.
create function points.write_batch(batch json) returns void
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
        on conflict (operation_no) do update set posted = excluded.posted, resolved_by = excluded.resolved_by;
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

revoke all on all functions in schema points from public;
reset role;
