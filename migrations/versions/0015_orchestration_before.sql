-- A run keeps the check plan that it began with: which checks were asked, and which of them are mandatory.
set local role faregate_credit;

alter table credit.workflow_execution
  add column check_plan_version text not null default 'checks-1',
  add column asked_checks text[] not null default '{bureau,kyc,fraud,income}',
  add column mandatory_checks text[] not null default '{bureau,kyc,fraud,income}';
alter table credit.workflow_execution
  alter column check_plan_version drop default,
  alter column asked_checks drop default,
  alter column mandatory_checks drop default,
  add constraint mandatory_checks_are_asked check (mandatory_checks <@ asked_checks),
  add constraint something_is_mandatory check (cardinality(mandatory_checks) > 0);

-- A workflow's queue: how often the engine polls it, and how many of its runs may be in flight, waiting ones included.
set local role faregate_workflow;

drop function workflow.ensure_queue(text, double precision);
create function workflow.ensure_queue(workflow_name text, poll_s double precision, in_flight_max integer) returns void
language plpgsql security definer set search_path = workflow, pg_temp as $$
begin
    insert into dbos.queues (name, polling_interval_sec, priority_enabled, application_name, concurrency)
    values (workflow_name, poll_s, true, 'faregate', in_flight_max)
    on conflict (name) do update
    set polling_interval_sec = excluded.polling_interval_sec, concurrency = excluded.concurrency;
end
$$;
revoke execute on function workflow.ensure_queue(text, double precision, integer) from public;

-- Gives back the runs that the engine claimed for this worker without ever executing them: a claim whose commit was
-- answered by a broken connection. A run that waits for its turn to be executed is none of those, however long it
-- waits: runs are executed in the order of their claims. So a run is lost once one that was claimed `lost_after` later
-- is executed, or once nothing was executed anew for so long (`is_quiet`).
drop function workflow.requeue_lost(integer, text[], interval);
create function workflow.requeue_lost(worker_id integer, held text[], lost_after interval, is_quiet boolean)
returns bigint
language plpgsql security definer set search_path = workflow, pg_temp as $$
declare
    newest_ms bigint;
    given_back bigint;
begin
    if is_quiet then
        newest_ms := (extract(epoch from clock_timestamp()) * 1000)::bigint;
    else
        select max(w.started_at_epoch_ms) into newest_ms
        from dbos.workflow_status w where w.workflow_uuid = any (held);
    end if;
    update dbos.workflow_status w
    set status = 'ENQUEUED', owner_xid = null, started_at_epoch_ms = null,
        updated_at = (extract(epoch from clock_timestamp()) * 1000)::bigint
    where w.status = 'PENDING' and w.executor_id = worker_id::text and w.workflow_uuid <> all (held)
        and w.started_at_epoch_ms < newest_ms - extract(epoch from lost_after) * 1000;
    get diagnostics given_back = row_count;
    return given_back;
end
$$;
revoke execute on function workflow.requeue_lost(integer, text[], interval, boolean) from public;
