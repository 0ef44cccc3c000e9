-- What earns points, and who has which tier. Both follow from events and from the ledger, and can be made again.
set local role faregate_points;

-- A payment that earns. `earned` points were promised for `amount_minor` when it was authorised; the ledger's keys are made
-- of the payment's id, so that an event that comes again does nothing again.
create table points.payment (
    payment_id text primary key,
    member_id text not null,
    amount_minor bigint not null check (amount_minor >= 0),
    earned bigint not null check (earned >= 0),
    promised_no bigint,  -- the operation that promised, null: nothing was earned
    captured_minor bigint,
    confirmed bigint,    -- points that were given for what was captured
    confirmed_no bigint,
    refunded_minor bigint not null default 0 check (refunded_minor >= 0),
    refunds text[] not null default '{}', -- which refunds that was, so that each counts once
    occurred_at timestamptz not null
) with (fillfactor = 70);
create index payment_of_member on points.payment (member_id, occurred_at);

create table points.tier (
    member_id text primary key,
    tier text not null,
    valid_until date not null
);
create index tier_valid_until on points.tier (valid_until);
reset role;
