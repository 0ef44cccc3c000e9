-- name: lock
-- Lets one change come after the other, until the end of the transaction.
select version from fraud.list_state for update

-- name: forget_expired
-- Takes off what ended before an instant; it ended by itself, so nobody did it.
delete from fraud.list_entry where expires_at < %(before)s

-- name: count
-- How many entries there are besides those about to be added.
select count(*) as entries from fraud.list_entry e
where not (e.list = %(list)s and (e.kind, e.value) in (select * from unnest(%(kinds)s::text[], %(values)s::text[])))

-- name: add
-- Puts entries on a list, or gives those that are there a new end and a new reason.
with given as (
    select kind, value, expires_at, %(version)s + ordinality as version
    from unnest(%(kinds)s::text[], %(values)s::text[], %(expires_at)s::timestamptz[])
        with ordinality as g (kind, value, expires_at, ordinality)
),
change as (
    insert into fraud.list_change (version, act, list, kind, value, expires_at, at, by, reason)
    select version, 'added', %(list)s, kind, value, expires_at, %(at)s, %(by)s, %(reason)s from given
    returning version
),
entry as (
    insert into fraud.list_entry (list, kind, value, expires_at, added_at, added_by, reason, version)
    select %(list)s, kind, value, expires_at, %(at)s, %(by)s, %(reason)s, version from given
    on conflict (list, kind, value) do update set
        expires_at = excluded.expires_at, added_at = excluded.added_at, added_by = excluded.added_by,
        reason = excluded.reason, version = excluded.version
)
update fraud.list_state set version = (select max(version) from change)

-- name: remove
-- Takes entries off a list; says which were there.
with given as (
    select kind, value from unnest(%(kinds)s::text[], %(values)s::text[]) as g (kind, value)
),
gone as (
    delete from fraud.list_entry e using given g
    where e.list = %(list)s and e.kind = g.kind and e.value = g.value
    returning e.kind, e.value
),
numbered as (
    select kind, value, %(version)s + row_number() over (order by kind, value) as version from gone
),
change as (
    insert into fraud.list_change (version, act, list, kind, value, at, by, reason)
    select version, 'removed', %(list)s, kind, value, %(at)s, %(by)s, %(reason)s from numbered
),
state as (
    update fraud.list_state set version = %(version)s + (select count(*) from gone)
)
select kind, value from gone

-- name: entries
-- A page of what stands on the lists at an instant.
select list, kind, value, expires_at, added_at, added_by, reason
from fraud.list_entry
where (%(list)s::text is null or list = %(list)s) and (%(kind)s::text is null or kind = %(kind)s)
  and (%(value)s::text is null or value = %(value)s) and (expires_at is null or expires_at > %(at)s)
  and (list, kind, value) > (%(after_list)s, %(after_kind)s, %(after_value)s)
order by list, kind, value
limit %(limit)s

-- name: history
-- What was done, the newest first.
select version, act, list, kind, value, expires_at, at, by, reason
from fraud.list_change
where (%(list)s::text is null or list = %(list)s) and (%(kind)s::text is null or kind = %(kind)s)
  and (%(value)s::text is null or value = %(value)s) and (%(before)s::bigint is null or version < %(before)s)
order by version desc
limit %(limit)s

-- name: everything
-- All that stands on the lists, with the number of the last change.
select s.version, e.list, e.kind, e.value, e.expires_at
from fraud.list_state s left join fraud.list_entry e on true

-- name: changes
-- What was done after a change that is known.
select version, act, list, kind, value, expires_at from fraud.list_change
where version > %(after)s order by version limit %(limit)s
