-- name: write_decisions
-- Writes decisions whose payments have none yet, and others too if they were answered already; says which were written.
with given as (
    select g.*, decode(hex, 'hex') as digest from json_to_recordset(%(rows)s::json) as g (
        id text, decided_at timestamptz, payment_id text, hex text, action text, score float8, amount_minor bigint,
        currency text, card_token text, degraded text, record json
    )
),
first as (
    insert into fraud.scored_payment (payment_id, decision_id, digest)
    select payment_id, id, digest from given order by payment_id, id
    on conflict (payment_id) do nothing
    returning decision_id
)
insert into fraud.decision (
    id, decided_at, payment_id, is_first, action, score, amount_minor, currency, card_token, degraded, record
)
select id, decided_at, payment_id, decision_id is not null, action, score, amount_minor, currency, card_token,
    string_to_array(degraded, ','), record
from given left join first on decision_id = id
where decision_id is not null or %(were_answered)s
on conflict (id, decided_at) do nothing
returning id

-- name: make_months
-- Makes the tables of the months of these instants.
select fraud.make_months(%(from)s, %(until)s)

-- name: decided
-- The decisions that count for payments.
select p.payment_id, p.digest, d.id, (d.record->'answer')::text as answer
from fraud.scored_payment p join fraud.decision d on d.id = p.decision_id
where p.payment_id = any(%(payment_ids)s::text[])

-- name: decision
-- One decision, by its id.
select id, decided_at, payment_id, is_first, record::text as record from fraud.decision where id = %(id)s

-- name: decision_of_payment
-- The decision that counts for a payment.
select d.id, d.decided_at, d.payment_id, d.is_first, d.record::text as record
from fraud.scored_payment p join fraud.decision d on d.id = p.decision_id
where p.payment_id = %(payment_id)s

-- name: decisions
-- A page of decisions, the newest first.
select id, decided_at, payment_id, action, score, amount_minor, currency, card_token, degraded, is_first
from fraud.decision
where (%(action)s::text is null or action = %(action)s)
  and (%(card_token)s::text is null or card_token = %(card_token)s)
  and (%(since)s::timestamptz is null or decided_at >= %(since)s)
  and (%(until)s::timestamptz is null or decided_at < %(until)s)
  and (%(before)s::text is null or id < %(before)s)
order by id desc
limit %(limit)s

-- name: newest_decisions
-- The ids of the newest decisions.
select id from fraud.decision order by id desc limit %(limit)s

-- name: tally
-- All decisions, counted.
select action, degraded, count(*) as decisions, count(score) as scored from fraud.decision group by action, degraded

-- name: records_of
-- What was recorded of decisions.
select id, record::text as record from fraud.decision where id = any(%(ids)s::text[]) order by id

-- name: register_model
-- Registers a version, the next of its name; the same content and release twice is one.
insert into fraud.model (name, version, sha256, content, release, registered_at, registered_by)
select %(name)s, coalesce(max(version), 0) + 1, %(sha256)s, %(content)s, %(release)s::json, %(at)s, %(by)s
from fraud.model where name = %(name)s
on conflict (sha256) do nothing

-- name: models
-- The versions of the registry, the newest first, without their content.
select name, version, sha256, length(content) as size, release, registered_at, registered_by
from fraud.model
where (%(name)s::text is null or name = %(name)s) and (%(version)s::int is null or version = %(version)s)
  and (%(sha256)s::text is null or sha256 = %(sha256)s)
order by name, version desc

-- name: model_content
-- A version with its content, by its hash.
select name, version, sha256, length(content) as size, release, registered_at, registered_by, content
from fraud.model where sha256 = %(sha256)s

-- name: note_model_act
-- Notes what was done with a version.
insert into fraud.model_act (kind, name, version, at, by, reason)
values (%(kind)s, %(name)s, %(version)s, %(at)s, %(by)s, %(reason)s)

-- name: lock_model_acts
-- Lets one act come after the other.
select pg_advisory_xact_lock(7233178)

-- name: models_in_force
-- Which versions decide and watch now.
select
    (select m.sha256 from fraud.model_act a join fraud.model m using (name, version)
     where a.kind in ('activated', 'rolled_back') order by a.no desc limit 1) as active,
    (select m.sha256 from fraud.model_act a left join fraud.model m using (name, version)
     where a.kind = 'shadowed' order by a.no desc limit 1) as shadow

-- name: model_acts
-- What was done with versions, the newest first.
select no, kind, name, version, at, by, reason from fraud.model_act order by no desc limit %(limit)s

-- name: model_activations
-- Which versions decided, oldest first.
select kind, name, version from fraud.model_act where kind in ('activated', 'rolled_back') order by no
