-- Cards, payments, and what is done when the scorer cannot say. A card's number is in no column: a keyed hash finds the card,
-- four digits show it to people. Lock order: idempotency scopes (only tried), limits by card and currency, payments by id.
set local role faregate_payments;

create table payments.card (
    token text primary key check (token ~ '^crd_[0-9A-Z]{26}$'),
    member_id text not null,
    application_id text unique,
    product text not null,
    status text not null check (status in ('active', 'blocked', 'closed')),
    number_key_id text,
    number_digest bytea check (octet_length(number_digest) = 32),
    last4 text check (last4 ~ '^[0-9]{4}$'),
    issued_at timestamptz not null,
    updated_at timestamptz not null,
    unique (number_key_id, number_digest),
    check ((number_digest is null) = (number_key_id is null) and (number_digest is null) = (last4 is null))
);
create index card_of_member on payments.card (member_id, issued_at);

-- What a card may do in a currency, and what it did on the last day on which it did anything. A currency without a row: nothing.
create table payments.card_limit (
    card_token text not null references payments.card (token),
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    transaction_minor_max bigint not null check (transaction_minor_max >= 0),
    day_minor_max bigint not null check (day_minor_max >= 0),
    spent_on date not null default '1970-01-01',
    spent_minor bigint not null default 0 check (spent_minor >= 0),
    primary key (card_token, currency)
) with (fillfactor = 60);

-- What was done to cards, and why.
create table payments.card_record (
    no bigint generated always as identity primary key,
    card_token text not null references payments.card (token),
    at timestamptz not null,
    by text not null,
    act text not null,
    details jsonb not null default '{}'
);
create index card_record_of_card on payments.card_record (card_token, no);

-- Approved applications: each leads to one card, once its applicant is a member.
create table payments.issuance (
    application_id text primary key,
    traceparent text,
    approved_at timestamptz not null,
    next_at timestamptz not null, -- when it is asked again who its member is; the longer it waited, the later
    card_token text references payments.card (token)
);
create index issuance_waiting on payments.issuance (next_at) where card_token is null;

-- Versions of the payment policy: a version never changes, the newest counts. Going back is a further version.
create table payments.policy (
    version integer primary key check (version > 0),
    document jsonb not null,
    sha256 bytea not null check (octet_length(sha256) = 32),
    back_to integer references payments.policy (version),
    by text not null,
    reason text not null,
    set_at timestamptz not null
);

create table payments.payment (
    id text primary key check (id ~ '^pay_[0-9A-Z]{26}$'),
    client_id text not null,
    card_token text references payments.card (token), -- null: no such card
    member_id text,
    amount_minor bigint not null check (amount_minor >= 0),
    currency text not null,
    merchant text not null,
    merchant_category integer not null,
    channel text not null,
    country text not null,
    terminal_id text,
    device_id text,
    ip_token text,
    occurred_at timestamptz not null,
    status text not null check (status in ('authorised', 'declined', 'captured', 'reversed')),
    captured_minor bigint not null default 0,
    refunded_minor bigint not null default 0,
    is_flagged boolean not null,
    decision jsonb not null,    -- reasons, message, what was missing, the policy and the cell that decided, what the scorer said
    decided_at timestamptz not null,
    expires_at timestamptz not null,
    updated_at timestamptz not null,
    check (captured_minor between 0 and amount_minor),
    check (refunded_minor between 0 and captured_minor),
    check (status = 'captured' or captured_minor = 0)
) with (fillfactor = 80);
create index payment_of_card on payments.payment (card_token, decided_at desc);
create index payment_of_member on payments.payment (member_id, decided_at desc);
create index payment_open on payments.payment (expires_at) where status = 'authorised';
create index payment_flagged on payments.payment (decided_at) where is_flagged;

create table payments.refund (
    id text primary key,
    payment_id text not null references payments.payment (id),
    amount_minor bigint not null check (amount_minor > 0),
    by text not null,
    at timestamptz not null
);
create index refund_of_payment on payments.refund (payment_id, at);

-- Every decision that was made without a whole answer of the scorer, for analysis: what was missing, and which cell decided.
create table payments.degraded (
    payment_id text primary key references payments.payment (id),
    at timestamptz not null,
    states text[] not null check (cardinality(states) > 0),
    missing text[] not null,
    why text,                   -- how the call ended, if there was no answer
    waited_us integer not null,
    policy_version integer not null references payments.policy (version),
    cell text not null,
    action text not null,
    outcome text not null check (outcome in ('authorised', 'declined')),
    is_flagged boolean not null,
    amount_minor bigint not null,
    currency text not null,
    merchant_category integer not null,
    channel text not null
);
create index degraded_at on payments.degraded (at);

create function payments.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'payments.% is only ever added to: % refused', tg_table_name, lower(tg_op)
        using errcode = 'insufficient_privilege';
end
$$;
create trigger only_added before update or delete or truncate on payments.card_record
    for each statement execute function payments.refuse_change();
create trigger only_added before update or delete or truncate on payments.policy
    for each statement execute function payments.refuse_change();
create trigger only_added before update or delete or truncate on payments.refund
    for each statement execute function payments.refuse_change();
create trigger only_added before update or delete or truncate on payments.degraded
    for each statement execute function payments.refuse_change();
reset role;
