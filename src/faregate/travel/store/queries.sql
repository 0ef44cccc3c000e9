-- name: insert_redemption
-- A redemption that begins.
insert into travel.redemption (id, member_id, status, legs, traveller_encrypted, cash_minor, currency, deadline,
  traceparent, created_at, updated_at)
values (%(id)s, %(member_id)s, 'started', %(legs)s, %(traveller_encrypted)s, %(cash_minor)s, %(currency)s, %(deadline)s,
  %(traceparent)s, %(now)s, %(now)s)

-- name: lock
-- Locks redemptions, in the order of their ids; each with its steps.
select (redemption).*, steps from travel.locked(%(ids)s)

-- name: redemptions
-- Redemptions, as they stand.
select * from travel.redemption where id = any(%(ids)s::text[])

-- name: steps
-- The steps of redemptions, in their order.
select redemption_id as id, jsonb_agg(to_jsonb(s) order by place) as steps
from travel.step s where redemption_id = any(%(ids)s::text[]) group by redemption_id

-- name: save
-- What changed of a redemption.
update travel.redemption
set status = %(status)s, failing = %(failing)s, needs = %(needs)s, is_cancelled = %(is_cancelled)s,
  is_booked = %(is_booked)s, runs = %(runs)s, signals = %(signals)s, updated_at = %(now)s
where id = %(id)s

-- name: save_steps
-- New steps, and what became of those before.
insert into travel.step (redemption_id, place, action, leg, number, state, open_until, asked, facts, reason, began_at,
  ended_at)
select %(id)s, given.place, given.action, given.leg, given.number, given.state, given.open_until, given.asked, given.facts,
  given.reason, %(now)s, given.ended_at
from jsonb_to_recordset(%(steps)s::jsonb) as given (
    place smallint, action text, leg smallint, number smallint, state text, open_until timestamptz, asked jsonb,
    facts jsonb, reason text, ended_at timestamptz
)
on conflict (redemption_id, place) do update
set state = excluded.state, open_until = excluded.open_until, facts = excluded.facts, reason = excluded.reason,
  ended_at = excluded.ended_at

-- name: of_member
-- The redemptions of a member, the newest first, after one that was seen.
select * from travel.redemption
where member_id = %(member_id)s and (created_at, id) < (coalesce(
    (select created_at from travel.redemption where id = %(before)s), 'infinity'), coalesce(%(before)s, ''))
order by created_at desc, id desc
limit %(limit)s

-- name: under_way
-- How many redemptions have not ended.
select count(*) as redemptions from travel.redemption where status not in ('booked', 'failed', 'cancelled')

-- name: accounts
-- What each redemption came to: how it stands, and how many points were held for it.
select r.id, r.status, r.is_booked as was_booked, jsonb_array_length(r.legs) as legs, coalesce((
    select sum((s.facts ->> 'amount')::bigint) from travel.step s
    where s.redemption_id = r.id and s.action = 'hold_points' and s.state = 'done'), 0)::bigint as points_held
from travel.redemption r

-- name: sealed_after
-- A page of encrypted travellers.
select id, traveller_encrypted from travel.redemption where id > %(after_id)s order by id limit %(limit)s

-- name: reseal
-- A traveller under another key.
update travel.redemption set traveller_encrypted = %(sealed)s where id = %(id)s

-- name: for_people
-- The redemptions that wait for a person, the longest first.
select * from travel.redemption where status = 'needs_attention' order by updated_at limit %(limit)s

-- name: insert_transfer
-- A transfer that is wanted.
insert into travel.transfer (id, member_id, partner, account_encrypted, points, status, created_at, updated_at)
values (%(id)s, %(member_id)s, %(partner)s, %(account_encrypted)s, %(points)s, 'requested', %(now)s, %(now)s)

-- name: transfer
-- One transfer.
select * from travel.transfer where id = %(id)s

-- name: transfers_to_move
-- Transfers of a status, oldest first, for whoever takes them first.
select * from travel.transfer where status = %(status)s order by created_at, id limit %(limit)s for update skip locked

-- name: move_transfer
-- What became of a transfer that had a status.
update travel.transfer
set status = %(status)s, points = coalesce(%(points)s, points), units = coalesce(%(units)s, units),
  operation = coalesce(%(operation)s, operation), reason = coalesce(%(reason)s, reason), updated_at = %(now)s
where id = %(id)s and status = %(had)s
returning id

-- name: file_transfers
-- Gives a file its transfers: those of a partner that are converted.
update travel.transfer set status = 'filed', file = %(file)s, updated_at = %(now)s
where id = any(%(ids)s::text[]) and status = 'converted'

-- name: transfer_file_no
-- The number of the next file.
select nextval('travel.transfer_file_no') as no

-- name: files_without_answer
-- The transfers of files that the partner has not answered, by file.
select * from travel.transfer where status = 'filed' order by file, id

-- name: transfers_of_file
-- The transfers of a file that wait for an answer, locked.
select * from travel.transfer where file = %(file)s and status = 'filed' order by id for update

-- name: sealed_accounts_after
-- A page of encrypted accounts at partners.
select id, account_encrypted from travel.transfer where id > %(after_id)s order by id limit %(limit)s

-- name: reseal_account
-- An account at a partner under another key.
update travel.transfer set account_encrypted = %(sealed)s where id = %(id)s
