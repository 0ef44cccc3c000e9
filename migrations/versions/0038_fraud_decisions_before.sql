-- Every decision about a payment, as it was answered and with all that is needed to compute it again. Nothing is ever
-- changed; a month that need not be kept any more is dropped whole.
set local role faregate_fraud;

create or replace function fraud.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % refused', tg_table_name, tg_op
        using errcode = 'integrity_constraint_violation';
end $$;

-- Which decision counts for a payment: the first that was written. `digest` tells its content from another under the id.
create table fraud.scored_payment (
    payment_id text primary key,
    decision_id text not null,
    digest bytea not null
);
create trigger scored_payment_is_append_only before update or delete or truncate on fraud.scored_payment
    for each statement execute function fraud.refuse_change();

-- The ids begin with the time, so that their order is that of the decisions within a millisecond.
create table fraud.decision (
    id text not null,
    decided_at timestamptz not null,
    payment_id text not null,
    is_first boolean not null,   -- false: another process decided the payment, too, while none could look here
    action text not null check (action in ('approve', 'decline', 'review')),
    score double precision check (score between 0 and 1),
    amount_minor bigint not null,
    currency text not null,
    card_token text not null,
    degraded text[] not null,
    record json not null,        -- json and not jsonb: it is given back byte for byte
    primary key (id, decided_at)
) partition by range (decided_at);
create index decision_to_look_at on fraud.decision (action, id) where action <> 'approve';
create index decision_by_card on fraud.decision (card_token, id);
create trigger decision_is_append_only before update or delete or truncate on fraud.decision
    for each statement execute function fraud.refuse_change();

-- Makes the tables of the months between two instants, as far as there are none yet.
create function fraud.make_months(p_from timestamptz, p_until timestamptz) returns void language plpgsql as $$
declare
    month timestamp := date_trunc('month', p_from at time zone 'UTC');
    name text;
begin
    perform pg_advisory_xact_lock(7233177);
    while month <= p_until at time zone 'UTC' loop
        name := 'decision_' || to_char(month, 'YYYY_MM');
        if to_regclass('fraud.' || name) is null then
            execute format('create table fraud.%I partition of fraud.decision for values from (%L) to (%L)',
                name, month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
            execute format('create trigger decision_is_append_only before update or delete or truncate on fraud.%I '
                'for each statement execute function fraud.refuse_change()', name);
        end if;
        month := month + interval '1 month';
    end loop;
end
$$;
