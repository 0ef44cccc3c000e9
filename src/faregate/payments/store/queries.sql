-- name: look
-- What decisions begin with, in their order: the card, its limit in the currency of the payment, and which policy counts.
select p.version as policy_version, c.*, l.currency as limit_currency, l.transaction_minor_max, l.day_minor_max, l.spent_on,
       l.spent_minor
from (select max(version) as version from payments.policy) p
cross join unnest(%(tokens)s::text[], %(currencies)s::text[]) with ordinality as w (token, currency, n)
left join payments.card c on c.token = w.token
left join payments.card_limit l on l.card_token = c.token and l.currency = w.currency
order by w.n;

-- name: find_card
-- The card that has a number with one of these keyed hashes, and the key of the hash that was found.
select c.token, c.number_key_id
from unnest(%(key_ids)s::text[], %(digests)s::bytea[]) as w (key_id, digest)
join payments.card c on c.number_key_id = w.key_id and c.number_digest = w.digest
limit 1;

-- name: rehash_card
-- The same number under a newer key, unless somebody was faster.
update payments.card set number_key_id = %(key_id)s, number_digest = %(digest)s
where token = %(token)s and number_key_id = %(old_key_id)s;

-- name: lock_limits
-- Locks the limits of the cards of a batch in one order.
select from payments.card_limit l
where (l.card_token, l.currency) in (
    select token, currency from unnest(%(tokens)s::text[], %(currencies)s::text[]) as w (token, currency))
order by l.card_token, l.currency for no key update;

-- name: locked_limits
-- The cards of a batch and their limits as they are under the locks. A statement after the locks': it sees what they waited for.
select c.*, w.currency as wanted_currency, l.currency as limit_currency, l.transaction_minor_max, l.day_minor_max,
       l.spent_on, l.spent_minor
from (select distinct token, currency from unnest(%(tokens)s::text[], %(currencies)s::text[]) as g (token, currency)) w
join payments.card c on c.token = w.token
left join payments.card_limit l on l.card_token = w.token and l.currency = w.currency;

-- name: save_spending
-- What the locked cards spent.
update payments.card_limit l
set spent_on = w.spent_on, spent_minor = w.spent_minor
from unnest(%(tokens)s::text[], %(currencies)s::text[], %(days)s::date[], %(amounts)s::bigint[])
    as w (token, currency, spent_on, spent_minor)
where l.card_token = w.token and l.currency = w.currency;

-- name: give_back_spending
-- Gives a day's limit back what was not paid after all, if the day is still the one that is counted.
update payments.card_limit
set spent_minor = greatest(0, spent_minor - %(amount_minor)s)
where card_token = %(token)s and currency = %(currency)s and spent_on = %(day)s;

-- name: insert_payments
-- Decided payments. One whose id is known is passed over: its key was used before, longer ago than keys are kept.
insert into payments.payment (
    id, client_id, card_token, member_id, amount_minor, currency, merchant, merchant_category, channel, country, terminal_id,
    device_id, ip_token, occurred_at, status, is_flagged, decision, decided_at, expires_at, updated_at)
select id, client_id, card_token, member_id, amount_minor, currency, merchant, merchant_category, channel, country, terminal_id,
    device_id, ip_token, occurred_at, status, is_flagged, decision, decided_at, expires_at, decided_at
from jsonb_to_recordset(%(payments)s::jsonb) as w (
    id text, client_id text, card_token text, member_id text, amount_minor bigint, currency text, merchant text,
    merchant_category integer, channel text, country text, terminal_id text, device_id text, ip_token text,
    occurred_at timestamptz, status text, is_flagged boolean, decision jsonb, decided_at timestamptz, expires_at timestamptz)
on conflict (id) do nothing
returning id;

-- name: known_payments
-- Which of these payments there are.
select id from payments.payment where id = any(%(ids)s::text[]);

-- name: insert_degraded
-- Decisions that were made without a whole answer of the scorer.
insert into payments.degraded (
    payment_id, at, states, missing, why, waited_us, policy_version, cell, action, outcome, is_flagged, amount_minor, currency,
    merchant_category, channel)
select payment_id, at, states, missing, why, waited_us, policy_version, cell, action, outcome, is_flagged, amount_minor, currency,
    merchant_category, channel
from jsonb_to_recordset(%(degraded)s::jsonb) as w (
    payment_id text, at timestamptz, states text[], missing text[], why text, waited_us integer, policy_version integer,
    cell text, action text, outcome text, is_flagged boolean, amount_minor bigint, currency text, merchant_category integer,
    channel text);

-- name: payment
-- A payment as it stands; null for a client: any client's.
select * from payments.payment where id = %(id)s and client_id = coalesce(%(client_id)s, client_id);

-- name: lock_payment
-- The same, locked to the end of the transaction: its events are appended in the order of this lock.
select * from payments.payment where id = %(id)s and client_id = coalesce(%(client_id)s, client_id) for no key update;

-- name: save_standing
-- How a locked payment stands.
update payments.payment
set status = %(status)s, captured_minor = %(captured_minor)s, refunded_minor = %(refunded_minor)s, updated_at = %(now)s
where id = %(id)s;

-- name: insert_refund
-- Something that was given back.
insert into payments.refund (id, payment_id, amount_minor, by, at)
values (%(id)s, %(payment_id)s, %(amount_minor)s, %(by)s, %(now)s);

-- name: expired
-- Authorisations whose time is over, locked; those that somebody else works on are left to the next turn.
select * from payments.payment
where status = 'authorised' and expires_at <= %(now)s
order by expires_at limit %(limit)s for no key update skip locked;

-- name: newest_payments
-- The newest payments, of one card or member if that is asked for.
select * from payments.payment
where (%(card_token)s::text is null or card_token = %(card_token)s)
  and (%(member_id)s::text is null or member_id = %(member_id)s)
  and (not %(flagged)s or is_flagged)
order by decided_at desc, id limit %(limit)s;

-- name: degraded_since
-- Decisions that were made without a whole answer of the scorer, oldest first.
select * from payments.degraded where at >= %(since)s order by at, payment_id limit %(limit)s;

-- name: degraded_counts
-- How many of them there are by state and cell.
select cell, action, outcome, coalesce(why, '') as why, count(*) as decisions, sum(amount_minor) as amount_minor
from payments.degraded where at >= %(since)s group by 1, 2, 3, 4 order by 1, 2, 3, 4;

-- name: card
-- A card.
select * from payments.card where token = %(token)s;

-- name: lock_card
-- A card, locked with its limits: no payment of it is decided meanwhile.
with limits as (
    select from payments.card_limit where card_token = %(token)s order by currency for no key update
), counted as (select count(*) from limits)
select c.* from counted, payments.card c where c.token = %(token)s for no key update of c;

-- name: limits_of
-- The limits of cards.
select card_token, currency, transaction_minor_max, day_minor_max from payments.card_limit
where card_token = any(%(tokens)s::text[]) order by card_token, currency;

-- name: cards_of
-- The cards of a member, or the newest of all, oldest first.
select * from (
    select * from payments.card where %(member_id)s::text is null or member_id = %(member_id)s
    order by issued_at desc, token limit %(limit)s
) newest order by issued_at, token;

-- name: paying_card
-- The active card of a member that was issued first and pays in a currency.
select c.token from payments.card c join payments.card_limit l on l.card_token = c.token and l.currency = %(currency)s
where c.member_id = %(member_id)s and c.status = 'active' order by c.issued_at, c.token limit 1;

-- name: insert_cards
-- New cards. One of an application that has one already is passed over.
insert into payments.card (token, member_id, application_id, product, status, issued_at, updated_at)
select token, member_id, application_id, product, 'active', %(now)s, %(now)s
from jsonb_to_recordset(%(cards)s::jsonb) as w (token text, member_id text, application_id text, product text)
order by application_id
on conflict (application_id) do nothing
returning token;

-- name: insert_limits
-- Limits of cards; a limit that is known gets other amounts.
insert into payments.card_limit as l (card_token, currency, transaction_minor_max, day_minor_max)
select card_token, currency, transaction_minor_max, day_minor_max
from jsonb_to_recordset(%(limits)s::jsonb) as w (
    card_token text, currency text, transaction_minor_max bigint, day_minor_max bigint)
order by card_token, currency
on conflict (card_token, currency) do update
set transaction_minor_max = excluded.transaction_minor_max, day_minor_max = excluded.day_minor_max;

-- name: delete_other_limits
-- Takes a card the currencies that are not among these.
delete from payments.card_limit where card_token = %(token)s and currency <> all(%(currencies)s::text[]);

-- name: save_card_status
-- A locked card's status.
update payments.card set status = %(status)s, updated_at = %(now)s where token = %(token)s;

-- name: save_card_number
-- The number of a locked card, as its keyed hash and its last four digits.
update payments.card
set number_key_id = %(key_id)s, number_digest = %(digest)s, last4 = %(last4)s, updated_at = %(now)s
where token = %(token)s;

-- name: insert_card_records
-- What was done to cards.
insert into payments.card_record (card_token, at, by, act, details)
select card_token, %(now)s, by, act, details
from jsonb_to_recordset(%(entries)s::jsonb) as w (card_token text, by text, act text, details jsonb);

-- name: card_record
-- What was done to a card, oldest first.
select at, by, act, details from payments.card_record where card_token = %(token)s order by no;

-- name: insert_issuances
-- Approved applications, which wait for their card; one that is known stays as it is.
insert into payments.issuance (application_id, traceparent, approved_at, next_at)
select application_id, traceparent, %(now)s, %(now)s
from unnest(%(application_ids)s::text[], %(traceparents)s::text[]) as w (application_id, traceparent)
order by application_id
on conflict do nothing;

-- name: waiting_issuances
-- Applications that wait for their card, locked; those that somebody else works on are left to them.
select application_id, traceparent from payments.issuance where card_token is null and next_at <= %(now)s
order by next_at limit %(limit)s for update skip locked;

-- name: postpone_issuances
-- Applications without a member yet: asked again after a tenth of the time that they waited, a minute at most.
update payments.issuance set next_at = %(now)s + least((%(now)s - approved_at) / 10, interval '1 minute')
where application_id = any(%(application_ids)s::text[]) and card_token is null;

-- name: drop_issuances
-- Applications that are not approved any more wait for nothing.
delete from payments.issuance where application_id = any(%(application_ids)s::text[]) and card_token is null;

-- name: save_issuances
-- Applications that have their card now.
update payments.issuance i set card_token = c.token
from payments.card c where c.application_id = i.application_id and i.application_id = any(%(application_ids)s::text[]);

-- name: lock_policy
-- Lets one change to the policy be made at a time.
select pg_advisory_xact_lock(hashtextextended('payments.policy', 0));

-- name: policy
-- A version of the policy; null: the newest.
select * from payments.policy
where version = coalesce(%(version)s, (select max(version) from payments.policy));

-- name: policy_history
-- The versions of the policy, the newest first.
select version, sha256, back_to, by, reason, set_at from payments.policy order by version desc limit %(limit)s;

-- name: insert_policy
-- A further version of the policy. The change is made under its lock.
insert into payments.policy (version, document, sha256, back_to, by, reason, set_at)
select coalesce(max(version), 0) + 1, %(document)s::jsonb, %(sha256)s, %(back_to)s, %(by)s, %(reason)s, %(now)s
from payments.policy
returning version;
