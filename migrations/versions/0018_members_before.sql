-- Members of the loyalty programme. What identifies a person is encrypted field by field and destroyed by an erasure,
-- which the constraint of `member` holds everybody to; the id stays for whoever keeps books under it.
-- Lock order: members by id, then their household.
do $$
begin
    perform pg_advisory_xact_lock(7233173); -- roles belong to the whole server: see 0001
    if not exists (select from pg_roles where rolname = 'faregate_members') then
        begin
            create role faregate_members nologin noinherit;
        exception when duplicate_object or unique_violation then
            null; -- another database's migration was faster
        end;
    end if;
    if not pg_has_role(current_user, 'faregate_members', 'set') then
        execute 'grant faregate_members to current_user';
    end if;
    if not pg_has_role('faregate_members', 'faregate_app', 'usage') then
        execute 'grant faregate_app to faregate_members with inherit true';
    end if;
    create schema if not exists members authorization faregate_members;
end
$$;

set local role faregate_members;

create function members.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % refused', tg_table_name, tg_op
        using errcode = 'integrity_constraint_violation';
end $$;

create table members.member (
    id text primary key,
    applicant_id text,          -- whom a card was approved for, under credit's surrogate id; null: not enrolled, or erased
    name_encrypted bytea,
    email_encrypted bytea,
    phone_encrypted bytea,
    date_of_birth_encrypted bytea,
    preferences_encrypted bytea, -- what somebody eats may tell what they believe
    email_key_id text,
    email_digest bytea,
    home_airports text[] not null default '{}' check (cardinality(home_airports) <= 5),
    tier text,                  -- null: the programme has told none yet
    tier_changed_at timestamptz,
    status text not null default 'active' check (status in ('active', 'frozen', 'closed')),
    version integer not null default 1, -- counts every change that readers see
    registered_at timestamptz not null,
    updated_at timestamptz not null,
    erased_at timestamptz,
    constraint one_member_per_applicant unique (applicant_id),
    constraint one_member_per_email unique (email_key_id, email_digest),
    constraint an_email_can_be_found check (
        (email_encrypted is null) = (email_digest is null) and (email_key_id is null) = (email_digest is null)),
    constraint nothing_personal_survives_erasure check (
        erased_at is null or (
            status = 'closed' and home_airports = '{}' and applicant_id is null and email_digest is null
            and num_nonnulls(name_encrypted, email_encrypted, phone_encrypted, date_of_birth_encrypted,
                             preferences_encrypted) = 0)),
    constraint somebody_has_a_name check (erased_at is not null or name_encrypted is not null)
) with (fillfactor = 80);

-- What a member agreed to and when, to which version of which text. The newest row of a purpose is what holds.
create table members.consent (
    no bigint generated always as identity primary key,
    member_id text not null references members.member (id),
    purpose text not null,
    given boolean not null,
    text_version text not null,
    at timestamptz not null,
    by text not null
);
create index consent_of_member on members.consent (member_id, purpose, no desc);

-- Who did what to a member, when and why: names of fields and states, never their personal content.
create table members.record (
    no bigint generated always as identity primary key,
    member_id text not null references members.member (id),
    at timestamptz not null,
    by text not null,
    act text not null,
    details jsonb not null
);
create index record_of_member on members.record (member_id, no);

-- The approved applications that were dealt with. Erasure takes the member out; the row stays, so that an event that
-- comes again never brings back who was forgotten.
create table members.enrolment (
    application_id text primary key,
    member_id text references members.member (id),
    at timestamptz not null
);
create index enrolment_of_member on members.enrolment (member_id) where member_id is not null;

create table members.household (
    id text primary key,
    head_id text not null references members.member (id),
    created_at timestamptz not null
);

-- The key is the member: nobody is in two households.
create table members.household_member (
    member_id text primary key references members.member (id),
    household_id text not null references members.household (id) on delete cascade,
    joined_at timestamptz not null
);
create index household_member_of on members.household_member (household_id, joined_at);

create table members.household_invitation (
    household_id text not null references members.household (id) on delete cascade,
    member_id text not null references members.member (id),
    ends_at timestamptz not null,
    primary key (household_id, member_id)
);
create index household_invitation_of on members.household_invitation (member_id);

create trigger consent_is_append_only before update or delete on members.consent
    for each row execute function members.refuse_change();
create trigger record_is_append_only before update or delete on members.record
    for each row execute function members.refuse_change();
create trigger consent_is_not_truncated before truncate on members.consent
    for each statement execute function members.refuse_change();
create trigger record_is_not_truncated before truncate on members.record
    for each statement execute function members.refuse_change();
reset role;
