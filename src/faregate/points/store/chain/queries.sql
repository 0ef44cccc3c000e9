-- name: read_exactly
-- For this transaction: one text form of every value, whatever the server's or the role's settings are.
select set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true)

-- name: acquire_lease
-- Takes the sealer's lease when it is free, expired or ours; the new fence shuts out whoever held it.
update points.sealer
set holder = %(holder)s, fence = fence + 1, expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
where holder is null or holder = %(holder)s or expires_at < clock_timestamp()
returning fence, settled_ord

-- name: renew_lease
-- Extends the lease of whoever holds the fence.
update points.sealer set expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
where fence = %(fence)s
returning fence

-- name: release_lease
-- Gives the lease back, so that another sealer need not wait for its end.
update points.sealer set holder = null, expires_at = '-infinity' where fence = %(fence)s

-- name: last_ord
-- The last number that was drawn. Read before the rows are: the transaction that drew it is known to their snapshot.
select coalesce(pg_sequence_last_value('points.operation_no'), 0) as top

-- name: numbers_without_link
-- Numbers in a range that no link stands for.
select n as ord from generate_series(%(after)s::bigint + 1, %(upto)s::bigint) as n
where not exists (select from points.link l where l.operation_no = n) limit %(limit)s

-- name: unsealed_rows
-- Committed operations without a link, in the order of their numbers, with the oldest transaction that ran and our own,
-- whose id is above that of everybody who drew a number before (a snapshot's xmax may lie below one that still runs).
with page as (
    select no from (
        select o.no from points.operation o where o.no = any(%(missing)s)
        union all
        (select o.no from points.operation o
         where o.no > %(after)s and not exists (select from points.link l where l.operation_no = o.no)
         order by o.no limit %(limit)s)
    ) as seen
    where not exists (select from points.link l where l.operation_no = seen.no)
    order by no limit %(limit)s
)
select bounds.xmin, bounds.xmax, 'operation' as subject, d.no as ord, d.no::text as key, d.sha256, d.column_sums, d.parts
from (select pg_snapshot_xmin(s)::text as xmin, pg_current_xact_id()::text as xmax from pg_current_snapshot() as s) as bounds
left join points.sealed_form((select array_agg(no) from page)) as d on true
order by d.no

-- name: lock_head
-- The end of the chain, locked for whoever holds the fence.
select seq, sha256, settled_ord, sealed_at from points.sealer where fence = %(fence)s for update

-- name: insert_links
-- Links, in the order of their numbers.
insert into points.link (seq, operation_no, row_sha256, column_sums, sealed_at, sha256)
select w.seq, w.ord, w.row_sha256, w.column_sums, w.sealed_at, w.sha256
from unnest(%(seqs)s::bigint[], %(ords)s::bigint[], %(row_sha256s)s::bytea[], %(column_sums)s::bytea[],
            %(sha256s)s::bytea[], %(sealed_ats)s::timestamptz[])
  as w (seq, ord, row_sha256, column_sums, sha256, sealed_at)
order by w.seq

-- name: move_head
-- The new end of the chain, and up to where nothing can come any more that is not sealed.
update points.sealer
set seq = %(seq)s, sha256 = %(sha256)s, settled_ord = %(settled_ord)s,
  sealed_at = coalesce((select l.sealed_at from points.link l where l.seq = %(seq)s), sealed_at)
where fence = %(fence)s

-- name: head
-- The end of the chain as the sealer recorded it.
select seq, sha256, settled_ord, sealed_at from points.sealer

-- name: columns
-- What a link covers has names of its own.
select 'operation' as table, array[]::text[] as columns

-- name: links
-- A page of the chain with the operations as they are now, hashed as when they were sealed.
with linked as (select * from points.link where seq > %(after)s order by seq limit %(limit)s)
select l.seq, 'operation' as subject, l.operation_no as ord, l.operation_no::text as key, l.row_sha256, l.column_sums,
  l.sealed_at, l.sha256, case when d.parts[1] = 'operation' then d.no::text end as key_now, d.sha256 as row_sha256_now,
  d.column_sums as column_sums_now, d.parts as parts_now
from linked l
left join points.sealed_form((select array_agg(operation_no) from linked)) as d on d.no = l.operation_no
order by l.seq

-- name: strangers
-- The first row that should be in the chain by now and is not.
select subject, key from (
    (select 'operation' as subject, o.no as ord, o.no::text as key from points.operation o
     where o.no <= %(settled_ord)s and not exists (select from points.link l where l.operation_no = o.no)
     order by o.no limit 1)
    union all
    (select 'entry', e.operation_no, e.operation_no || '/' || e.line from points.entry e
     where not exists (select from points.operation o where o.no = e.operation_no)
     order by e.operation_no limit 1)
    union all
    (select 'lot', t.operation_no, t.operation_no::text from points.lot t
     where not exists (select from points.operation o where o.no = t.operation_no)
     order by t.operation_no limit 1)
    union all
    (select 'cut', c.operation_no, c.operation_no || '/' || c.line from points.cut c
     where not exists (select from points.operation o where o.no = c.operation_no)
     order by c.operation_no limit 1)
) as found
order by ord limit 1

-- name: waiting
-- How many operations are not in the chain yet, and for how long the oldest of them has waited.
select count(*) as rows, coalesce(extract(epoch from clock_timestamp() - min(o.at)), 0)::float8 as seconds
from points.operation o, points.sealer s
where o.no > s.settled_ord and not exists (select from points.link l where l.operation_no = o.no)
