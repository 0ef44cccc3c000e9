-- name: insert_members
-- New members. One whose address or applicant is known already is passed over.
with wanted as (
  select * from jsonb_to_recordset(%(members)s::jsonb) as w (
    id text, applicant_id text, name text, email text, phone text, date_of_birth text, email_key_id text,
    email_digest text)
  order by applicant_id, id),
added as (
  insert into members.member (
    id, applicant_id, name_encrypted, email_encrypted, phone_encrypted, date_of_birth_encrypted, email_key_id,
    email_digest, registered_at, updated_at)
  select id, applicant_id, decode(name, 'base64'), decode(email, 'base64'), decode(phone, 'base64'),
         decode(date_of_birth, 'base64'), email_key_id, decode(email_digest, 'hex'), %(now)s, %(now)s
  from wanted
  on conflict do nothing
  returning id, applicant_id)
select id, applicant_id from added

-- name: find_by_digest
-- The member with an address, under whichever key it was stored.
select id from members.member
where (email_key_id, email_digest) in (select * from unnest(%(key_ids)s::text[], %(digests)s::bytea[]))

-- name: members
-- Members with what they agreed to and their household, in the order of their ids.
select m.id, m.status, m.version, m.tier, m.name_encrypted, m.email_encrypted, m.phone_encrypted,
       m.date_of_birth_encrypted, m.preferences_encrypted, m.home_airports, m.registered_at, m.updated_at, m.erased_at,
       h.household_id, coalesce(c.consents, '[]') as consents
from members.member m
left join members.household_member h on h.member_id = m.id
left join lateral (
  select jsonb_agg(jsonb_build_object('purpose', purpose, 'given', given, 'text_version', text_version, 'at', at))
    as consents
  from (select distinct on (purpose) purpose, given, text_version, at from members.consent
        where member_id = m.id order by purpose, no desc) newest) c on true
where m.id = any(%(ids)s::text[])
order by m.id

-- name: standings
-- How members stand, without anything personal.
select id as member_id, status, tier from members.member where id = any(%(ids)s::text[]) order by id

-- name: active_ids
-- The first members that are active.
select id from members.member where status = 'active' order by id limit %(limit)s

-- name: home_airports
-- The home airports of a member.
select home_airports from members.member where id = %(id)s

-- name: lock_member
-- A member, locked to the end of the transaction: its events are appended in the order of this lock.
select id, status, version, name_encrypted, email_encrypted, phone_encrypted, date_of_birth_encrypted,
       preferences_encrypted, home_airports, erased_at
from members.member where id = %(id)s for no key update

-- name: save_profile
-- The personal fields of a locked member, and the hash that finds its address.
update members.member
set name_encrypted = %(name)s, email_encrypted = %(email)s, phone_encrypted = %(phone)s,
    date_of_birth_encrypted = %(date_of_birth)s, email_key_id = %(email_key_id)s, email_digest = %(email_digest)s,
    version = version + 1, updated_at = %(now)s
where id = %(id)s

-- name: save_preferences
-- The preferences of a locked member.
update members.member set preferences_encrypted = %(sealed)s, version = version + 1, updated_at = %(now)s
where id = %(id)s

-- name: save_home_airports
-- The home airports of a locked member.
update members.member set home_airports = %(codes)s, version = version + 1, updated_at = %(now)s where id = %(id)s

-- name: save_status
-- The status of a locked member.
update members.member set status = %(status)s, version = version + 1, updated_at = %(now)s where id = %(id)s

-- name: newest_consent
-- What a member said last to a purpose.
select given, text_version from members.consent
where member_id = %(id)s and purpose = %(purpose)s order by no desc limit 1

-- name: insert_consent
-- A consent that was given or withdrawn; the member's version counts it.
with said as (
  insert into members.consent (member_id, purpose, given, text_version, at, by)
  values (%(id)s, %(purpose)s, %(given)s, %(text_version)s, %(now)s, %(by)s))
update members.member set version = version + 1, updated_at = %(now)s where id = %(id)s

-- name: consents
-- Everything that a member ever said to any purpose, oldest first.
select purpose, given, text_version, at from members.consent where member_id = %(id)s order by no

-- name: save_tiers
-- The tiers that the programme told, for members who are not erased; news older than what is known is passed over.
update members.member m
set tier = w.tier, tier_changed_at = w.changed_at, version = version + 1, updated_at = %(now)s
from unnest(%(ids)s::text[], %(tiers)s::text[], %(instants)s::timestamptz[]) as w (id, tier, changed_at)
where m.id = w.id and m.erased_at is null and (m.tier_changed_at is null or m.tier_changed_at < w.changed_at)
returning m.id

-- name: erase
-- Destroys what is personal of a locked member. The row stays, with its id.
update members.member
set applicant_id = null, name_encrypted = null, email_encrypted = null, phone_encrypted = null,
    date_of_birth_encrypted = null, preferences_encrypted = null, email_key_id = null, email_digest = null,
    home_airports = '{}', status = 'closed', erased_at = %(now)s, version = version + 1, updated_at = %(now)s
where id = %(id)s

-- name: forget_enrolments
-- Takes an erased member out of the applications that were dealt with.
update members.enrolment set member_id = null where member_id = %(id)s

-- name: insert_records
-- What was done to members.
insert into members.record (member_id, at, by, act, details)
select member_id, %(now)s, by, act, details
from jsonb_to_recordset(%(entries)s::jsonb) as w (member_id text, by text, act text, details jsonb)

-- name: record
-- What was done to a member, oldest first.
select at, by, act, details from members.record where member_id = %(id)s order by no

-- name: not_enrolled
-- Those of the applications that nobody dealt with yet.
select w.id from unnest(%(ids)s::text[]) as w (id)
where not exists (select from members.enrolment e where e.application_id = w.id)

-- name: members_of_applications
-- The members that applications led to and who are active.
select e.application_id, e.member_id from members.enrolment e join members.member m on m.id = e.member_id
where e.application_id = any(%(ids)s::text[]) and m.status = 'active';

-- name: members_of_applicants
-- The members that people are already, by the id that their applications have in common.
select id, applicant_id from members.member where applicant_id = any(%(applicant_ids)s::text[])

-- name: insert_enrolments
-- Applications that were dealt with; one that is known stays as it is.
insert into members.enrolment (application_id, member_id, at)
select application_id, member_id, %(now)s
from unnest(%(application_ids)s::text[], %(member_ids)s::text[]) as w (application_id, member_id)
order by application_id
on conflict do nothing

-- name: sealed_after
-- A page of encrypted fields in the order of the members' ids, locked for their re-encryption.
select id, name_encrypted, email_encrypted, phone_encrypted, date_of_birth_encrypted, preferences_encrypted
from members.member where id > %(after_id)s and erased_at is null order by id limit %(limit)s for no key update

-- name: reseal
-- The same fields of a locked member under another key. Nothing that readers see changes.
update members.member
set name_encrypted = %(name)s, email_encrypted = %(email)s, phone_encrypted = %(phone)s,
    date_of_birth_encrypted = %(date_of_birth)s, preferences_encrypted = %(preferences)s
where id = %(id)s

-- name: household_of
-- The household that a member is in.
select household_id from members.household_member where member_id = %(id)s

-- name: lock_household
-- A household, locked to the end of the transaction: its events are appended in the order of this lock.
select id, head_id, created_at from members.household where id = %(id)s for no key update

-- name: household
-- A household as it stands.
select id, head_id, created_at from members.household where id = %(id)s

-- name: people_of_household
-- Who is in a household, the longest-standing first, and who is invited. A statement after the lock's.
select (select coalesce(array_agg(member_id order by joined_at, member_id), '{}') from members.household_member
        where household_id = %(id)s) as members,
       (select coalesce(jsonb_object_agg(member_id, ends_at), '{}') from members.household_invitation
        where household_id = %(id)s) as invitations

-- name: insert_household
-- A new household, still empty.
insert into members.household (id, head_id, created_at) values (%(id)s, %(head_id)s, %(now)s)

-- name: insert_household_member
-- A member of a household, unless the member is in one already.
insert into members.household_member (member_id, household_id, joined_at) values (%(member_id)s, %(id)s, %(now)s)
on conflict do nothing
returning member_id

-- name: delete_household_member
-- Takes a member out of a household.
delete from members.household_member where member_id = %(member_id)s and household_id = %(id)s

-- name: save_invitation
-- An invitation, or its renewal.
insert into members.household_invitation (household_id, member_id, ends_at) values (%(id)s, %(member_id)s, %(ends_at)s)
on conflict (household_id, member_id) do update set ends_at = excluded.ends_at

-- name: delete_invitations_of
-- Ends every invitation of a member.
delete from members.household_invitation where member_id = %(member_id)s

-- name: save_head
-- The head of a locked household.
update members.household set head_id = %(head_id)s where id = %(id)s

-- name: delete_household
-- Ends an empty household with its invitations.
delete from members.household where id = %(id)s
