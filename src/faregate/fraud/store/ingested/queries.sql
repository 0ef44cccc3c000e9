-- name: remember
-- Remembers events under their ids, but for those that are there; returns the ids that are new.
-- In the order of ids, so that two writers of the same ones wait for each other and never in a circle.
insert into fraud.ingested (client_id, id, content, received_at)
select %(client_id)s, new.id, new.content, %(now)s
from unnest(%(ids)s::text[], %(contents)s::bytea[]) as new (id, content)
order by new.id
on conflict do nothing
returning id

-- name: contents
-- What was said under some ids.
select id, content from fraud.ingested where client_id = %(client_id)s and id = any (%(ids)s)

-- name: forget
-- Forgets some of the events that are too old to be reported again.
delete from fraud.ingested
where ctid = any (array(
    select ctid from fraud.ingested where received_at < %(before)s order by received_at limit %(limit)s
    for update skip locked
))
