-- One role and one schema a part: a part cannot read another's tables. Roles belong to the whole server and may
-- exist already, from another database or from another migration that runs at this moment.
do $$
declare
    wanted text;
begin
    perform pg_advisory_xact_lock(7233173);
    foreach wanted in array array[
        'faregate_app', 'faregate_credit', 'faregate_eventlog', 'faregate_workflow', 'faregate_gateway',
        'faregate_rules', 'faregate_access'
    ] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin noinherit', wanted);
            exception when duplicate_object or unique_violation then
                null; -- another database's migration was faster
            end;
        end if;
    end loop;

    foreach wanted in array array['credit', 'eventlog', 'workflow', 'gateway', 'rules', 'access'] loop
        if not pg_has_role(current_user, 'faregate_' || wanted, 'set') then
            execute format('grant %I to current_user', 'faregate_' || wanted);
        end if;
        if not pg_has_role('faregate_' || wanted, 'faregate_app', 'usage') then
            execute format('grant faregate_app to %I with inherit true', 'faregate_' || wanted);
        end if;
        execute format('create schema if not exists %I authorization %I', wanted, 'faregate_' || wanted);
    end loop;
    create schema if not exists dbos authorization faregate_workflow;

    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to faregate_app', current_database());
end
$$;

revoke create on schema public from public;
grant select on public.alembic_version to faregate_app;
