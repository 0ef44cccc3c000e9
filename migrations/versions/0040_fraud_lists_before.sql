-- Who is let pass and who is not, with an end where there is one; and which payments turned out to be frauds.
set local role faregate_fraud;

create or replace function fraud.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % refused', tg_table_name, tg_op
        using errcode = 'integrity_constraint_violation';
end $$;

-- The one row that whoever changes a list locks, so that changes are committed in the order of their numbers.
create table fraud.list_state (
    is_only boolean primary key default true check (is_only),
    version bigint not null
);
insert into fraud.list_state (version) values (0);

-- What was done, by whom and why. Every process reads on from the last one that it knows.
create table fraud.list_change (
    version bigint primary key,
    act text not null check (act in ('added', 'removed')),
    list text not null check (list in ('allow', 'block')),
    kind text not null check (kind in ('card', 'member', 'merchant', 'ip_token', 'device', 'country')),
    value text not null check (length(value) between 1 and 64),
    expires_at timestamptz,
    at timestamptz not null,
    by text not null,
    reason text not null,
    check (act = 'added' or expires_at is null)
);
create index list_change_by_value on fraud.list_change (list, kind, value, version);
create trigger list_change_is_append_only before update or delete or truncate on fraud.list_change
    for each statement execute function fraud.refuse_change();

-- What stands on the lists now. `version` is that of the change which put it there.
create table fraud.list_entry (
    list text not null,
    kind text not null,
    value text not null,
    expires_at timestamptz,
    added_at timestamptz not null,
    added_by text not null,
    reason text not null,
    version bigint not null unique references fraud.list_change,
    primary key (list, kind, value)
);
create index list_entry_by_expiry on fraud.list_entry (expires_at) where expires_at is not null;

-- What a source said of a payment, and when that was known. The newest counts; an earlier one is never changed.
create table fraud.label (
    payment_id text not null check (length(payment_id) between 1 and 64),
    source text not null check (source ~ '^[a-z][a-z0-9_]{0,31}$'),
    known_at timestamptz not null,
    is_fraud boolean not null,
    received_at timestamptz not null,
    received_by text not null,
    primary key (payment_id, known_at, source)
);
create trigger label_is_append_only before update or delete or truncate on fraud.label
    for each statement execute function fraud.refuse_change();
