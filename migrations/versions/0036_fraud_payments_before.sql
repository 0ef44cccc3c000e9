-- Two contexts: who decides whether a payment is fraud, and who owns cards and payments. Each has a role and a schema of its own.
do $$
begin
    perform pg_advisory_xact_lock(7233173); -- roles belong to the whole server: see 0001
    if not exists (select from pg_roles where rolname = 'faregate_fraud') then
        begin
            create role faregate_fraud nologin noinherit;
        exception when duplicate_object or unique_violation then
            null; -- another database's migration was faster
        end;
    end if;
    if not pg_has_role(current_user, 'faregate_fraud', 'set') then
        execute 'grant faregate_fraud to current_user';
    end if;
    if not pg_has_role('faregate_fraud', 'faregate_app', 'usage') then
        execute 'grant faregate_app to faregate_fraud with inherit true';
    end if;
    create schema if not exists fraud authorization faregate_fraud;
end
$$;

do $$
begin
    perform pg_advisory_xact_lock(7233173); -- roles belong to the whole server: see 0001
    if not exists (select from pg_roles where rolname = 'faregate_payments') then
        begin
            create role faregate_payments nologin noinherit;
        exception when duplicate_object or unique_violation then
            null; -- another database's migration was faster
        end;
    end if;
    if not pg_has_role(current_user, 'faregate_payments', 'set') then
        execute 'grant faregate_payments to current_user';
    end if;
    if not pg_has_role('faregate_payments', 'faregate_app', 'usage') then
        execute 'grant faregate_app to faregate_payments with inherit true';
    end if;
    create schema if not exists payments authorization faregate_payments;
end
$$;
