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
reset role;
