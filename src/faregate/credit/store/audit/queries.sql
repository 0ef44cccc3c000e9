-- name: read_exactly
-- For this transaction: one text form of every value, whatever the server's or the role's settings are.
select set_config('TimeZone', 'UTC', true), set_config('bytea_output', 'hex', true),
       set_config('extra_float_digits', '1', true);

-- name: acquire_lease
-- Takes the sealer's lease when it is free, expired or ours; the new fence shuts out whoever held it.
update credit.audit_sealer
set holder = %(holder)s, fence = fence + 1, expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
where holder is null or holder = %(holder)s or expires_at < clock_timestamp()
returning fence, settled_ord;

-- name: renew_lease
-- Extends the lease of whoever holds the fence.
update credit.audit_sealer set expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
where fence = %(fence)s
returning fence;

-- name: release_lease
-- Gives the lease back, so that another sealer need not wait for its end.
update credit.audit_sealer set holder = null, expires_at = '-infinity' where fence = %(fence)s;

-- name: last_ord
-- The last number that was drawn. Read before the rows are: the transaction that drew it is known to their snapshot.
select coalesce(pg_sequence_last_value('credit.audit_ord'), 0) as top;

-- name: numbers_without_link
-- Numbers in a range that no link stands for.
select n as ord from generate_series(%(after)s::bigint + 1, %(upto)s::bigint) as n
where not exists (select from credit.audit_link l where l.ord = n) limit %(limit)s;

-- name: unsealed_rows
-- Committed rows without a link, in the order of their numbers, with the oldest transaction that ran and our own, whose
-- id is above that of everybody who drew a number before (a snapshot's xmax may lie below one that still runs). Their
-- hash is of the lines `name=value` of all columns that have a value, by name, each value as JSON text.
with entry as (
  select ord from (
    select e.id as ord from credit.audit_entry e where e.id = any(%(missing)s)
    union all
    (select e.id from credit.audit_entry e
     where e.id > %(after)s and not exists (select from credit.audit_link l where l.ord = e.id)
     order by e.id limit %(limit)s)) as seen
  where not exists (select from credit.audit_link l where l.ord = seen.ord)
  order by ord limit %(limit)s),
decided as (
  select ord from (
    select d.ord from credit.decision d where d.ord = any(%(missing)s)
    union all
    (select d.ord from credit.decision d
     where d.ord > %(after)s and not exists (select from credit.audit_link l where l.ord = d.ord)
     order by d.ord limit %(limit)s)) as seen
  where not exists (select from credit.audit_link l where l.ord = seen.ord)
  order by ord limit %(limit)s),
content as (
  select 'audit_entry' as subject, e.id as ord, e.id::text as key, row_to_json(e) as content
  from credit.audit_entry e where e.id in (select ord from entry)
  union all
  select 'decision', d.ord, d.application_id || '/' || d.version, row_to_json(d)
  from credit.decision d where d.ord in (select ord from decided)
  order by ord limit %(limit)s)
select bounds.xmin, bounds.xmax, c.subject, c.ord, c.key, digest.sha256, digest.column_sums
from (select pg_snapshot_xmin(s)::text as xmin, pg_current_xact_id()::text as xmax
      from pg_current_snapshot() as s) as bounds
left join content c on true
left join lateral (
  select sha256(string_agg(convert_to(v.key || '=' || v.value, 'UTF8'), '\x0a' order by v.key collate "C")
                filter (where v.value <> 'null')) as sha256,
         string_agg(case when v.value = 'null' then '\x0000000000000000'
                         else substr(sha256(convert_to(v.value, 'UTF8')), 1, 8) end, '' order by v.place) as column_sums
  from (select j.key, j.value::text as value, j.place
        from json_each(c.content) with ordinality as j (key, value, place)) as v) as digest on true
order by c.ord;

-- name: lock_head
-- The end of the chain, locked for whoever holds the fence.
select seq, sha256, settled_ord from credit.audit_sealer where fence = %(fence)s for update;

-- name: insert_links
-- Links, in the order of their numbers.
insert into credit.audit_link (seq, subject, ord, key, row_sha256, column_sums, sealed_at, sha256)
select w.seq, w.subject, w.ord, w.key, w.row_sha256, w.column_sums, w.sealed_at, w.sha256
from unnest(%(seqs)s::bigint[], %(subjects)s::text[], %(ords)s::bigint[], %(keys)s::text[],
            %(row_sha256s)s::bytea[], %(column_sums)s::bytea[], %(sha256s)s::bytea[], %(sealed_ats)s::timestamptz[])
  as w (seq, subject, ord, key, row_sha256, column_sums, sha256, sealed_at)
order by w.seq;

-- name: move_head
-- The new end of the chain, and up to where nothing can come any more that is not sealed.
update credit.audit_sealer set seq = %(seq)s, sha256 = %(sha256)s, settled_ord = %(settled_ord)s
where fence = %(fence)s;

-- name: head
-- The end of the chain as the sealer recorded it.
select seq, sha256, settled_ord from credit.audit_sealer;

-- name: columns
-- The columns of the tables that the chain covers, in their order.
select c.relname as table, array_agg(a.attname::text order by a.attnum) as columns
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.oid in ('credit.audit_entry'::regclass, 'credit.decision'::regclass)
group by c.relname;

-- name: links
-- A page of the chain with the rows as they are now, hashed as when they were sealed.
select l.seq, l.subject, l.ord, l.key, l.row_sha256, l.column_sums, l.sealed_at, l.sha256,
       c.key as key_now, digest.sha256 as row_sha256_now, digest.column_sums as column_sums_now
from (select * from credit.audit_link where seq > %(after)s order by seq limit %(limit)s) as l
left join lateral (
  select e.id::text as key, row_to_json(e) as content
  from credit.audit_entry e where l.subject = 'audit_entry' and e.id = l.ord
  union all
  select d.application_id || '/' || d.version, row_to_json(d)
  from credit.decision d where l.subject = 'decision' and d.ord = l.ord) as c on true
left join lateral (
  select sha256(string_agg(convert_to(v.key || '=' || v.value, 'UTF8'), '\x0a' order by v.key collate "C")
                filter (where v.value <> 'null')) as sha256,
         string_agg(case when v.value = 'null' then '\x0000000000000000'
                         else substr(sha256(convert_to(v.value, 'UTF8')), 1, 8) end, '' order by v.place) as column_sums
  from (select j.key, j.value::text as value, j.place
        from json_each(c.content) with ordinality as j (key, value, place)) as v) as digest on true
order by l.seq;

-- name: strangers
-- The first row that should be in the chain by now and is not.
select subject, key from (
  (select 'audit_entry' as subject, e.id as ord, e.id::text as key from credit.audit_entry e
   where e.id <= %(settled_ord)s and not exists (select from credit.audit_link l where l.ord = e.id)
   order by e.id limit 1)
  union all
  (select 'decision', d.ord, d.application_id || '/' || d.version from credit.decision d
   where d.ord <= %(settled_ord)s and not exists (select from credit.audit_link l where l.ord = d.ord)
   order by d.ord limit 1)) as found
order by ord limit 1;

-- name: waiting
-- How many rows are not in the chain yet, and for how long the oldest of them has waited.
select count(*) as rows, coalesce(extract(epoch from clock_timestamp() - min(at)), 0)::float8 as seconds
from (
  select e.at from credit.audit_entry e, credit.audit_sealer s
  where e.id > s.settled_ord and not exists (select from credit.audit_link l where l.ord = e.id)
  union all
  select d.decided_at from credit.decision d, credit.audit_sealer s
  where d.ord > s.settled_ord and not exists (select from credit.audit_link l where l.ord = d.ord)) as unsealed;

-- name: insert_verification
-- What a verification of the whole chain found.
insert into credit.audit_verification (at, links, broken) values (%(at)s, %(links)s, %(broken)s);

-- name: last_verification
-- The newest verification.
select at, links, broken from credit.audit_verification order by id desc limit 1;

-- name: one_snapshot
-- Everything that follows in this transaction is read as of one instant.
set transaction isolation level repeatable read, read only;

-- name: trace_application
-- One application without the person's identity.
select id as application_id, client_id, product_type, status, latest_step, decision_version, submitted_at, ready_at,
       deadline_at, updated_at
from credit.application where id = %(id)s;

-- name: trace_entries
-- What happened to one application, oldest first, with the links that seal it.
select l.seq, e.at, e.actor, e.action, e.details
from credit.audit_entry e left join credit.audit_link l on l.ord = e.id
where e.application_id = %(id)s order by e.id;

-- name: trace_decisions
-- Every version of one application's decision with all that it was made from, and the links that seal it.
select l.seq, d.version, d.outcome, d.risk_score, d.reason_codes, d.adverse_action_reasons, d.ruleset_version,
       d.scorecard_version, d.code_set_version, d.decided_at, d.inputs, encode(d.inputs_sha256, 'hex') as inputs_sha256,
       d.result
from credit.decision d left join credit.audit_link l on l.ord = d.ord
where d.application_id = %(id)s order by d.version;

-- name: trace_notices
-- The notices that one application's denials made due.
select decision_version, due_at, sent_at, sent_by
from credit.adverse_action_notice where application_id = %(id)s order by decision_version;

-- name: notice
-- The notice of one version, or of the newest denial, with what was decided.
select n.application_id, n.decision_version as version, a.decision_version as newest_version, n.due_at, n.sent_at,
       n.sent_by, d.decided_at, d.ruleset_version, d.scorecard_version, d.code_set_version,
       d.adverse_action_reasons as reasons, d.inputs, (d.result #>> '{trace,scorecard,points}')::int as points
from credit.adverse_action_notice n
join credit.decision d on d.application_id = n.application_id and d.version = n.decision_version
join credit.application a on a.id = n.application_id
where n.application_id = %(id)s and n.decision_version = coalesce(%(version)s::int, n.decision_version)
order by n.decision_version desc limit 1;

-- name: open_notices
-- Notices that were not sent, the most urgent first; one whose denial does not stand any more need not be sent.
select n.application_id, n.decision_version, n.due_at
from credit.adverse_action_notice n
join credit.application a on a.id = n.application_id and a.decision_version = n.decision_version
where n.sent_at is null and n.due_at <= coalesce(%(due_before)s::timestamptz, 'infinity')
order by n.due_at, n.application_id limit %(limit)s;

-- name: count_open_notices
-- How many notices wait to be sent, and how many of them are late.
select count(*) as open, count(*) filter (where n.due_at < %(now)s) as overdue
from credit.adverse_action_notice n
join credit.application a on a.id = n.application_id and a.decision_version = n.decision_version
where n.sent_at is null;

-- name: mark_notice_sent
-- A notice went out: when, by whom, and what it said.
with sent as (
  update credit.adverse_action_notice set sent_at = %(now)s, sent_by = %(by)s
  where application_id = %(id)s and decision_version = %(version)s and sent_at is null
  returning application_id)
insert into credit.audit_entry (application_id, at, actor, action, details)
select application_id, %(now)s, %(by)s, 'adverse_action.notice_sent',
       jsonb_build_object('version', %(version)s::int, 'notice', %(document)s::jsonb)
from sent;

-- name: segment_counts
-- How many applications of each segment stand where; bands are numbered from 0.
select coalesce(s.segment, 'not given') as segment,
       count(*) filter (where s.status = 'approved') as approved,
       count(*) filter (where s.status = 'denied') as denied,
       count(*) filter (where s.status not in ('approved', 'denied')) as undecided
from (
  select status, case %(by)s::text
      when 'age' then width_bucket(age_years::int, %(edges)s::int[])::text
      when 'income' then width_bucket(annual_income::numeric, %(edges)s::numeric[])::text
      when 'product_type' then product_type
      when 'purpose' then purpose end as segment
  from credit.application
  where submitted_at >= coalesce(%(since)s::timestamptz, '-infinity')) as s
group by s.segment order by length(s.segment), s.segment;
