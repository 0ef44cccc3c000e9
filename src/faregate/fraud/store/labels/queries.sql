-- name: add
-- Takes labels in, each once; says how many were new.
with given as (
    select * from unnest(%(payment_ids)s::text[], %(sources)s::text[], %(known_at)s::timestamptz[], %(frauds)s::bool[])
        as g (payment_id, source, known_at, is_fraud)
),
added as (
    insert into fraud.label (payment_id, source, known_at, is_fraud, received_at, received_by)
    select payment_id, source, known_at, is_fraud, %(at)s, %(by)s from given
    order by payment_id, known_at, source
    on conflict do nothing
    returning 1
)
select count(*) as labels from added

-- name: contradictions
-- The first payment of which a source said something else at the same instant.
select l.payment_id, l.source
from fraud.label l
join unnest(%(payment_ids)s::text[], %(sources)s::text[], %(known_at)s::timestamptz[], %(frauds)s::bool[])
    as g (payment_id, source, known_at, is_fraud)
    using (payment_id, source, known_at)
where l.is_fraud <> g.is_fraud
order by l.payment_id limit 1

-- name: of_payment
-- What is known of a payment, the newest first.
select payment_id, is_fraud, source, known_at from fraud.label
where payment_id = %(payment_id)s order by known_at desc, source
