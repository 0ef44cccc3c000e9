-- name: note_originals
-- The applications that are copied, and the people who made them; none whose run has still something to do.
create temp table original as
select a.id, a.applicant_id as person
from credit.application a join dbos.workflow_status w on w.workflow_uuid = a.id
where a.id = any (%(ids)s::text[]) and w.status = 'SUCCESS'

-- name: make_copies_table
-- Who each copy is: the ids of a copy look like real ones, and sort beside those of their original.
create temp table copy (o_id text, o_person text, n integer, id text, person text)

-- name: name_copies
-- The copies first … last of every original.
insert into pg_temp.copy
select o.id, o.person, n, left(o.id, 14) || upper(left(md5(o.id || n), 16)),
       left(o.person, 14) || upper(left(md5(o.person || n), 16))
from pg_temp.original o cross join generate_series(%(first)s::int, %(last)s::int) n

-- name: make_copier
-- Copies the rows of one table that belong to an application. In text and JSON the ids of application and person become
-- the copy's, other ids and UUIDs become new ones, and counted columns get their next value; what else must be unique
-- is told.
create function pg_temp.copy_rows(target regclass, joined text, told jsonb default '{}') returns void
language plpgsql as $$
declare
    names text;
    expressions text;
begin
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum),
        string_agg(coalesce(told ->> a.attname::text, case
            when a.attname = 'id' and t.typname = 'text' then
                'case s.id when c.o_id then c.id when c.o_person then c.person '
                'else left(s.id, 14) || upper(left(md5(s.id || c.n), 16)) end'
            when t.typname in ('text', 'varchar', 'json', 'jsonb') then format(
                'replace(replace(s.%1$I::text, c.o_id, c.id), c.o_person, c.person)::%2$s', a.attname, t.typname)
            when t.typname = 'uuid' then format('md5(s.%I::text || c.n)::uuid', a.attname)
            else format('s.%I', a.attname) end), ', ' order by a.attnum)
    into names, expressions
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = target and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
        and (told ? a.attname::text or t.typname <> 'int8' or (a.attidentity = '' and d.adbin is null));
    execute format('insert into %s (%s) select %s from %s s %s', target, names, expressions, target, joined);
end
$$

-- name: make_copy_of_everything
-- Copies all that the system keeps of an application: journal, signals, decisions, audit, events, runs, stored answers.
create function pg_temp.copy_everything() returns void language plpgsql as $$
declare
    about_applications regclass;
    wanted constant bigint := (select count(*) from eventlog.event e join pg_temp.copy c on c.o_id = e.aggregateid);
begin
    for about_applications in
        select a.attrelid from pg_attribute a join pg_class t on t.oid = a.attrelid
        where t.relnamespace = 'credit'::regnamespace and t.relkind = 'r' and a.attname = 'application_id'
    loop
        perform pg_temp.copy_rows(about_applications, 'join pg_temp.copy c on c.o_id = s.application_id');
    end loop;
    perform pg_temp.copy_rows('credit.applicant', 'join pg_temp.copy c on c.o_person = s.id',
        '{"blind_index": "sha256(s.blind_index || int4send(c.n))"}');
    perform pg_temp.copy_rows('credit.application', 'join pg_temp.copy c on c.o_id = s.id');
    perform pg_temp.copy_rows('gateway.intent', 'join pg_temp.copy c on c.o_id = s.subject_id');
    perform pg_temp.copy_rows('gateway.callback',
        'join pg_temp.copy c on c.o_id = split_part(s.provider_request_id, '':'', 1)',
        '{"dedupe_key": "s.dedupe_key || ''-'' || c.n"}');
    perform pg_temp.copy_rows('eventlog.inbox',
        'join eventlog.event e on e.id = s.event_id join pg_temp.copy c on c.o_id = e.aggregateid');
    set local role faregate_eventlog; -- whose tables the new segments must be
    perform eventlog.open_segment(eventlog.last_seq() + wanted);
    reset role;
    perform pg_temp.copy_rows('eventlog.event', 'join pg_temp.copy c on c.o_id = s.aggregateid', jsonb_build_object(
        'seq', '(select eventlog.last_seq()) + row_number() over ()',
        'partition', 'eventlog.partition_of(c.id)'));
    perform pg_temp.copy_rows('workflow.run', 'join pg_temp.copy c on c.o_id = s.id');
    perform pg_temp.copy_rows('workflow.step', 'join pg_temp.copy c on c.o_id = s.run_id');
    perform pg_temp.copy_rows('workflow.signal', 'join pg_temp.copy c on c.o_id = s.run_id');
    perform pg_temp.copy_rows('dbos.workflow_status', 'join pg_temp.copy c on c.o_id = s.workflow_uuid');
    perform pg_temp.copy_rows('dbos.workflow_input', 'join pg_temp.copy c on c.o_id = s.workflow_uuid');
    perform pg_temp.copy_rows('dbos.workflow_output', 'join pg_temp.copy c on c.o_id = s.workflow_uuid');
    perform pg_temp.copy_rows('access.idempotency_key',
        'join pg_temp.copy c on c.o_id = s.body::json ->> ''application_id''', '{"key": "s.key || ''-'' || c.n"}');
end
$$

-- name: without_triggers
-- Rows that are copies of valid ones need no checks of their own.
set session_replication_role = replica

-- name: copy_everything
-- One batch of copies.
select pg_temp.copy_everything()

-- name: forget_copies
-- Make room for the names of the next batch.
truncate pg_temp.copy

-- name: consumers_have_read_everything
-- The copies of events were handled, by the copies of the inbox: no group need read them.
update eventlog.assignment set position = (select max(seq) from eventlog.event)

-- name: the_chain_goes_on_after_the_copies
-- The audit chain has no links for copies: what comes after them is sealed, and nobody waits until they are.
update credit.audit_sealer set settled_ord = coalesce(pg_sequence_last_value('credit.audit_ord'), settled_ord)

-- name: tidy
-- What autovacuum would do over the next minutes, at once.
vacuum (analyze)

-- name: write_everything_out
-- So that no checkpoint falls into a measurement.
checkpoint

-- name: stored
-- How many applications there are.
select count(*) as applications from credit.application

-- name: settling_times
-- How long each check of these applications took from its first request to its end, and whether it was answered.
select check_name, extract(epoch from max(settled_at) - min(created_at))::float8 as seconds,
       bool_or(settled = 'done') as is_done
from gateway.intent
where subject_id = any (%(ids)s::text[])
group by subject_id, check_name

-- name: redemption_times
-- How long each of these redemptions took until it ended, and how; null while it goes on.
select id, status,
    case when status in ('booked', 'failed', 'cancelled', 'needs_attention')
        then extract(epoch from updated_at - created_at)::float8 end as seconds
from travel.redemption where id = any(%(ids)s::text[])

-- name: stranded
-- What each undecided application waits for: where its run stands, and the calls that are not settled.
select a.id as application_id, a.latest_step, round(extract(epoch from now() - a.submitted_at), 1)::float8 as age_s,
       w.status as run,
       coalesce((select jsonb_agg(jsonb_build_object('check', i.check_name, 'provider', i.provider, 'state', i.state,
               'sends', i.sends, 'looks', i.looks, 'reason', i.reason, 'settled', i.settled,
               'due_in_s', round(extract(epoch from i.next_at - now()), 1)) order by i.provider_request_id)
           from gateway.intent i where i.subject_id = a.id and i.state <> 'done'), '[]') as calls
from credit.application a left join dbos.workflow_status w on w.workflow_uuid = a.id
where a.status = 'processing'
order by a.id
