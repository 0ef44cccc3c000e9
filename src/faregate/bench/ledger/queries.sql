-- name: make_tables
-- What both rivals keep: balances, an idempotency record, holds, and transfers that are only added.
create schema if not exists rival;
drop table if exists rival.account, rival.operation, rival.hold, rival.transfer;
create table rival.account (
    id text primary key, posted bigint not null default 0 check (posted >= 0),
    held bigint not null default 0 check (held between 0 and posted)
) with (fillfactor = 50);
create table rival.operation (
    key text primary key, fingerprint text not null, answer text not null, at timestamptz not null default now()
);
create table rival.hold (
    key text primary key, account text not null, amount bigint not null, state text not null default 'open'
) with (fillfactor = 70);
create table rival.transfer (
    id bigint generated always as identity primary key, key text not null, debit text not null, credit text not null,
    amount bigint not null, at timestamptz not null default now()
)

-- name: open_accounts
-- Opens accounts.
insert into rival.account (id) select unnest(%(accounts)s::text[])

-- name: known
-- What was answered under a key.
select fingerprint, answer from rival.operation where key = %(key)s

-- name: remember
-- Remembers an answer under its key.
insert into rival.operation (key, fingerprint, answer) values (%(key)s, %(fingerprint)s, %(answer)s)

-- name: claim
-- Takes a key, unless it is known.
insert into rival.operation (key, fingerprint, answer) values (%(key)s, %(fingerprint)s, 'done')
on conflict (key) do nothing returning key

-- name: answer_claimed
-- Says what came of a key that was taken.
update rival.operation set answer = %(answer)s where key = %(key)s

-- name: lock_account
-- Locks an account, and says what it has.
select posted, held from rival.account where id = %(account)s for update

-- name: change_account
-- Changes what an account has.
update rival.account set posted = posted + %(posted)s, held = held + %(held)s where id = %(account)s

-- name: hold_if_available
-- Reserves points, if there are as many.
update rival.account set held = held + %(amount)s where id = %(account)s and posted - held >= %(amount)s
returning id

-- name: insert_hold
-- Makes a hold.
insert into rival.hold (key, account, amount) values (%(key)s, %(account)s, %(amount)s)

-- name: lock_hold
-- Locks a hold.
select amount, state from rival.hold where key = %(hold)s for update

-- name: end_hold
-- Ends a hold.
update rival.hold set state = %(state)s where key = %(hold)s

-- name: end_open_hold
-- Ends a hold, if it is open.
update rival.hold set state = %(state)s where key = %(hold)s and state = 'open' returning amount

-- name: insert_transfer
-- Adds a transfer.
insert into rival.transfer (key, debit, credit, amount) values (%(key)s, %(debit)s, %(credit)s, %(amount)s)

-- name: balance
-- What an account has.
select posted, held from rival.account where id = %(account)s

-- name: bytes
-- How much disk a schema takes.
select sum(pg_total_relation_size(c.oid))::bigint as bytes
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = %(schema)s and c.relkind = 'r'

-- name: deadlocks
-- How many deadlocks there were in this database.
select deadlocks from pg_stat_database where datname = current_database()

-- name: fill
-- Gives accounts a past: so many earns of one point each, with their entries and lots, as the ledger would have written.
with account as (
    select no, row_number() over (order by no) - 1 as place from points.account
    where member_id = any(%(members)s::text[])
),
made as (
    insert into points.operation (no, account_no, amount, at, posted, pending, held, owed, kind, key, asked_by)
    select nextval('points.operation_no'), a.no, 1,
      timestamptz '2020-01-01' + make_interval(secs => (%(done)s + n) * 0.001), %(done)s + n, 0, 0, 0, 'earn',
      concat('fill-', a.no, '-', %(done)s + n), 'fill'
    from account a cross join generate_series(1, %(each)s) n
    order by n, a.no
    returning no, account_no, posted
),
entered as (
    insert into points.entry (operation_no, line, debit_no, credit_no, amount, layer)
    select no, 0, -1, account_no, 1, 'posted' from made
),
lots as (
    insert into points.lot (operation_no, account_no, expires_on, bucket, first, amount)
    select no, account_no, '9999-12-31', 1, posted - 1, 1 from made
),
buckets as (
    insert into points.bucket (account_no, expires_on, no, amount)
    select no, '9999-12-31', 1, %(each)s from account
    on conflict (account_no, expires_on, no) do update set amount = points.bucket.amount + excluded.amount
)
update points.balance b
set posted = posted + %(each)s, version = version + %(each)s, newest_bucket = 1,
  last_at = timestamptz '2020-01-01' + make_interval(secs => (%(done)s + %(each)s) * 0.001)
from account a where b.account_no = a.no

-- name: entries
-- How many entries there are.
select count(*) as entries from points.entry
