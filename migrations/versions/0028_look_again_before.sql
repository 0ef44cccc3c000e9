-- An outcome that nobody could learn in time is asked about once more when a person wants it.
set local role faregate_gateway;

create function gateway.look_again(subjects text[]) returns integer
language sql security definer set search_path = gateway, pg_temp
as $$
    with reopened as (
        update gateway.intent
        set next_at = now(), updated_at = now()
        where owner = gateway.caller() and subject_id = any (subjects)
          and state in ('unknown', 'accepted') and next_at is null
        returning 1)
    select count(*)::integer from reopened
$$;
revoke execute on function gateway.look_again from public;
grant execute on function gateway.look_again to faregate_app;
reset role;
