-- Durable workflows. The tables here decide; the engine (schema dbos, which the same role owns) only schedules.
set local role faregate_workflow;

-- The versions of the engine whose tables stand in the schema dbos.
create table workflow.engine (
    version text primary key
);

-- A run starts once by its id, for ever: the row outlives whatever the engine keeps of the run.
create table workflow.run (
    id text primary key check (length(id) between 1 and 64 and position(',' in id) = 0),
    workflow text not null,
    requested_at timestamptz not null default clock_timestamp()
);

-- A living worker process. Its id is its fence: a process declared dead loses the row and never gets the id back.
create table workflow.worker (
    id integer primary key generated always as identity,
    host text not null,
    pid integer not null,
    entered_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null
);

-- What a run did, in the transaction that did it: the primary key is why a step takes effect once.
create table workflow.step (
    run_id text not null,
    name text not null,
    result jsonb not null,
    worker_id integer not null,
    done_at timestamptz not null default clock_timestamp(),
    primary key (run_id, name)
);

-- The inbox of every run, started or not, finished or not.
create table workflow.signal (
    run_id text not null check (length(run_id) between 1 and 64 and position(',' in run_id) = 0),
    name text not null,
    signal_id text not null,
    payload jsonb not null,
    ord bigint not null generated always as identity,
    sent_at timestamptz not null default clock_timestamp(),
    primary key (run_id, name, signal_id)
);

-- Starts those of `runs` ([{id, input}]) that were never started. Sorted, so that two batches cannot deadlock.
create function workflow.start_runs(workflow_name text, runs jsonb) returns void
language plpgsql security definer set search_path = workflow, pg_temp as $$
begin
    if to_regclass('dbos.workflow_status') is null then
        raise exception 'the workflow engine has no tables yet: call faregate.infra.workflow.prepare.prepare';
    end if;
    perform dbos.enqueue_workflow(
        workflow_name => workflow_name, queue_name => workflow_name, workflow_id => fresh.id,
        positional_args => array[fresh.input], app_version => '1', application_name => 'faregate'
    )
    from workflow.claim_run_ids(workflow_name, runs) as fresh;
end
$$;

create function workflow.claim_run_ids(workflow_name text, runs jsonb) returns table (id text, input json)
language sql security definer set search_path = workflow, pg_temp as $$
    with wanted as (
        select distinct on (r.id) r.id, r.input from jsonb_to_recordset(runs) as r (id text, input json) order by r.id
    ), fresh as (
        insert into workflow.run (id, workflow)
        select w.id, workflow_name from wanted w order by w.id
        on conflict do nothing
        returning run.id
    )
    select w.id, w.input from wanted w join fresh using (id)
$$;

-- Stores those of `signals` ([{run_id, name, signal_id, payload}]) that are new, and wakes the processes that wait
-- for them: a notification carries as many run ids as fit.
create function workflow.send_signals(signals jsonb) returns void
language sql security definer set search_path = workflow, pg_temp as $$
    with sent as (
        insert into workflow.signal (run_id, name, signal_id, payload)
        select s.run_id, s.name, s.signal_id, coalesce(s.payload, 'null')
        from jsonb_to_recordset(signals) as s (run_id text, name text, signal_id text, payload jsonb)
        order by s.run_id, s.name, s.signal_id
        on conflict do nothing
        returning run_id
    ), numbered as (
        select run_id, row_number() over () / 100 as page from (select distinct run_id from sent) as runs
    ), pages as (
        select string_agg(run_id, ',') as run_ids from numbered group by page
    )
    select pg_notify('faregate_signal', run_ids) from pages
$$;

-- The key under which a worker's commits (shared) and its declaration of death (exclusive) exclude each other.
create function workflow.fence_class() returns integer
language sql immutable parallel safe as $$ select 1718906723 $$;

-- Opens a step inside the caller's transaction: takes one of the workflow's slots until that transaction ends, sees
-- to it that a process which stops in the middle frees its locks, and returns what the run has done before.
create function workflow.begin_step(
    worker_id integer, run text, with_history boolean, slot_class integer, slots integer, first_slot integer,
    idle_ms integer, out verdict text, out history jsonb
) language plpgsql security definer set search_path = workflow, pg_temp as $$
begin
    perform set_config('idle_in_transaction_session_timeout', idle_ms::text, true);
    if not exists (select from workflow.worker e where e.id = worker_id) then
        verdict := 'fenced';
        return;
    end if;
    verdict := 'full';
    for offered in 0 .. slots - 1 loop
        if pg_try_advisory_xact_lock(slot_class, (first_slot + offered) % slots) then
            verdict := 'go';
            exit;
        end if;
    end loop;
    if verdict = 'go' and with_history then
        select coalesce(jsonb_object_agg(s.name, s.result), '{}') into history
        from workflow.step s where s.run_id = run;
    end if;
end
$$;

-- Records results ({name: result}) as the last act of a step's transaction. FW001: this worker was declared dead;
-- a unique violation: the step is done already.
-- The lock comes before the look, each with a snapshot of its own: whoever declares the worker dead waits for this
-- commit, or this commit sees the declaration.
create function workflow.record_steps(worker_id integer, run text, results jsonb) returns void
language plpgsql security definer set search_path = workflow, pg_temp as $$
begin
    perform pg_advisory_xact_lock_shared(workflow.fence_class(), worker_id);
    if not exists (select from workflow.worker e where e.id = worker_id) then
        raise exception 'worker % was declared dead', worker_id using errcode = 'FW001';
    end if;
    insert into workflow.step (run_id, name, result, worker_id)
    select run, r.key, r.value, worker_id from jsonb_each(results) as r;
end
$$;

create function workflow.history(run text) returns jsonb
language sql stable security definer set search_path = workflow, pg_temp as $$
    select coalesce(jsonb_object_agg(s.name, s.result), '{}') from workflow.step s where s.run_id = run
$$;

-- Renews a worker's lease (false: it was declared dead) and declares those dead whose lease has run out.
create function workflow.beat(worker_id integer, lease interval) returns boolean
language plpgsql security definer set search_path = workflow, pg_temp as $$
declare
    expired integer;
begin
    update workflow.worker set expires_at = clock_timestamp() + lease where id = worker_id;
    if not found then
        return false;
    end if;
    for expired in select e.id from workflow.worker e where e.expires_at < clock_timestamp() order by e.id loop
        perform pg_advisory_xact_lock(workflow.fence_class(), expired);
        delete from workflow.worker e where e.id = expired and e.expires_at < clock_timestamp();
    end loop;
    return true;
end
$$;

-- Gives back the runs that a worker which is not alive had claimed: DBOS's own re-enqueueing for recovery
-- (`reenqueue_for_recovery`), for all runs at once. The dead are named before the update, so that a run which a
-- living worker claims meanwhile does not match when its row is looked at again.
create function workflow.requeue_orphans() returns bigint
language plpgsql security definer set search_path = workflow, pg_temp as $$
declare
    dead text[];
    given_back bigint := 0;
begin
    dead := array(
        select distinct w.executor_id from dbos.workflow_status w where w.status = 'PENDING'
        except select e.id::text from workflow.worker e
    );
    if cardinality(dead) > 0 then
        update dbos.workflow_status w
        set status = 'ENQUEUED', owner_xid = null, started_at_epoch_ms = null,
            updated_at = (extract(epoch from clock_timestamp()) * 1000)::bigint
        where w.status = 'PENDING' and w.executor_id = any (dead);
        get diagnostics given_back = row_count;
    end if;
    return given_back;
end
$$;

-- Gives back the runs that the engine claimed for this worker without ever executing them: a claim whose commit was
-- answered by a broken connection.
create function workflow.requeue_lost(worker_id integer, held text[], lost_after interval) returns bigint
language plpgsql security definer set search_path = workflow, pg_temp as $$
declare
    given_back bigint;
begin
    update dbos.workflow_status w
    set status = 'ENQUEUED', owner_xid = null, started_at_epoch_ms = null,
        updated_at = (extract(epoch from clock_timestamp()) * 1000)::bigint
    where w.status = 'PENDING' and w.executor_id = worker_id::text and w.workflow_uuid <> all (held)
        and w.started_at_epoch_ms < extract(epoch from clock_timestamp() - lost_after) * 1000;
    get diagnostics given_back = row_count;
    return given_back;
end
$$;

-- Ends a worker's lease and gives its runs back. It was no crash, so it does not count against the runs.
create function workflow.leave(worker_id integer) returns void
language plpgsql security definer set search_path = workflow, pg_temp as $$
begin
    perform pg_advisory_xact_lock(workflow.fence_class(), worker_id);
    delete from workflow.worker e where e.id = worker_id;
    update dbos.workflow_status w
    set status = 'ENQUEUED', owner_xid = null, started_at_epoch_ms = null, recovery_attempts = 0,
        updated_at = (extract(epoch from clock_timestamp()) * 1000)::bigint
    where w.status = 'PENDING' and w.executor_id = worker_id::text;
end
$$;

-- Where each run stands that is in one of `states`: queued, running, done, failed.
create function workflow.runs(states text[], rows_max integer)
returns table (id text, workflow text, state text, attempts integer, started_at timestamptz, error text)
language plpgsql stable security definer set search_path = workflow, pg_temp as $$
begin
    return query
    select r.id, r.workflow, s.state, w.recovery_attempts::integer, r.requested_at,
        case
            when w.status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' then 'its workers died again and again'
            else o.error::json ->> 'message'
        end
    from dbos.workflow_status w
    join workflow.run r on r.id = w.workflow_uuid
    left join dbos.workflow_output o on o.workflow_uuid = w.workflow_uuid
    cross join lateral (select case
        when w.status in ('ENQUEUED', 'DELAYED') then 'queued'
        when w.status = 'PENDING' then 'running'
        when w.status = 'SUCCESS' then 'done'
        else 'failed'
    end as state) s
    where s.state = any (states)
    order by r.requested_at
    limit rows_max;
end
$$;

-- Those of the runs that ended without success.
create function workflow.failed_among(ids text[]) returns setof text
language plpgsql stable security definer set search_path = workflow, pg_temp as $$
begin
    return query
    select w.workflow_uuid from dbos.workflow_status w
    where w.workflow_uuid = any (ids) and w.status not in ('ENQUEUED', 'DELAYED', 'PENDING', 'SUCCESS');
end
$$;

-- The queue that the engine's claims of one workflow go through.
create function workflow.ensure_queue(workflow_name text, poll_s double precision) returns void
language plpgsql security definer set search_path = workflow, pg_temp as $$
begin
    insert into dbos.queues (name, polling_interval_sec, priority_enabled, application_name)
    values (workflow_name, poll_s, true, 'faregate')
    on conflict (name) do update set polling_interval_sec = excluded.polling_interval_sec;
end
$$;

-- The living workers.
create function workflow.workers()
returns table (id integer, host text, pid integer, entered_at timestamptz, expires_at timestamptz)
language sql stable security definer set search_path = workflow, pg_temp as $$
    select e.id, e.host, e.pid, e.entered_at, e.expires_at from workflow.worker e
$$;

revoke execute on all functions in schema workflow from public;
grant usage on schema workflow to faregate_app;
grant execute on function workflow.start_runs, workflow.send_signals, workflow.begin_step, workflow.record_steps,
    workflow.history, workflow.runs, workflow.failed_among, workflow.workers to faregate_app;
