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
