-- name: shadowed
-- What the rules that decided and a shadow made of the same payments, and how many of each.
select record->'answer'->'ruleset'->>'version' as version, (record->'rules'->'fired')::text as fired,
    (record->'shadow'->'ruleset'->'fired')::text as shadow_fired, currency,
    count(*) as payments, sum(amount_minor) as amount_minor, max(id) as example
from fraud.decision
where is_first and decided_at >= %(since)s and decided_at < %(until)s
    and record->'shadow'->'ruleset'->>'name' = %(name)s and record->'shadow'->'ruleset'->>'version' = %(version)s
group by 1, 2, 3, 4

-- name: by_version
-- What each version decided, and what is known of those payments since.
select (d.record->'answer'->'ruleset'->>'version')::int as version, d.action, d.currency, l.is_fraud,
    count(*) as payments, sum(d.amount_minor) as amount_minor
from fraud.decision d
left join lateral (
    select is_fraud from fraud.label where payment_id = d.payment_id order by known_at desc, source limit 1
) as l on true
where d.is_first and d.decided_at >= %(since)s and d.decided_at < %(until)s
    and d.record->'answer'->'ruleset'->>'name' = %(name)s
group by 1, 2, 3, 4
order by 1, 2, 3, 4

-- name: judged
-- A page of decided payments, with what was recorded and what is known of them since.
select d.id, d.record->'payment' as payment, d.record->'features' as features, d.record->'lists' as lists, l.is_fraud
from fraud.decision d
left join lateral (
    select is_fraud from fraud.label where payment_id = d.payment_id order by known_at desc, source limit 1
) as l on true
where d.is_first and d.decided_at >= %(since)s and d.decided_at < %(until)s and d.id > %(after)s
    and (not %(only_labelled)s or l.is_fraud is not null)
order by d.id
limit %(limit)s
