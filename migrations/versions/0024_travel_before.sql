-- Redemptions: what a member books with points, and every step that was taken for it. Bookings themselves are the partners',
-- points the ledger's; here stands who was asked for what, and what came of it. Lock order: redemptions by id.
do $$
begin
    perform pg_advisory_xact_lock(7233173); -- roles belong to the whole server: see 0001
    if not exists (select from pg_roles where rolname = 'faregate_travel') then
        begin
            create role faregate_travel nologin noinherit;
        exception when duplicate_object or unique_violation then
            null; -- another database's migration was faster
        end;
    end if;
    if not pg_has_role(current_user, 'faregate_travel', 'set') then
        execute 'grant faregate_travel to current_user';
    end if;
    if not pg_has_role('faregate_travel', 'faregate_app', 'usage') then
        execute 'grant faregate_app to faregate_travel with inherit true';
    end if;
    create schema if not exists travel authorization faregate_travel;
end
$$;

set local role faregate_travel;

create table travel.redemption (
    id text primary key,
    member_id text not null,
    status text not null check (status in
        ('started', 'awaiting_consent', 'needs_attention', 'cancelling', 'booked', 'failed', 'cancelled')),
    legs jsonb not null,
    traveller_encrypted bytea not null,
    cash_minor bigint not null check (cash_minor >= 0),
    currency text not null,
    deadline timestamptz not null,
    failing text,                   -- why it goes back; null while it goes forward
    needs text,                     -- what a person must look at
    is_cancelled boolean not null default false,
    is_booked boolean not null default false,
    runs integer not null default 1, -- the first run books; a further one for each cancellation of what was booked
    signals integer not null default 0,
    traceparent text,
    created_at timestamptz not null,
    updated_at timestamptz not null
) with (fillfactor = 60);
create index redemption_of_member on travel.redemption (member_id, created_at desc, id);
create index redemption_for_people on travel.redemption (updated_at) where status = 'needs_attention';

-- The steps of a redemption, in their order. A step that ended stays as it is; a further try is a further step.
create table travel.step (
    redemption_id text not null references travel.redemption (id),
    place smallint not null,
    action text not null,
    leg smallint not null,          -- 0: the whole redemption
    number smallint not null,       -- counts the tries of an action on a leg
    state text not null check (state in ('asked', 'unknown', 'done', 'not_done', 'superseded')),
    open_until timestamptz not null,
    asked jsonb not null,
    facts jsonb not null,
    reason text,
    began_at timestamptz not null,
    ended_at timestamptz,
    primary key (redemption_id, place),
    unique (redemption_id, action, leg, number)
) with (fillfactor = 70);

create function travel.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'a step that ended is not changed: %', old.action using errcode = 'integrity_constraint_violation';
end
$$;
create trigger ended_step_stays before update on travel.step
    for each row when (old.state in ('done', 'superseded')) execute function travel.refuse_change();
create trigger step_stays before delete on travel.step
    for each row execute function travel.refuse_change();
reset role;
