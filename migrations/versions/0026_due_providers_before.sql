-- One question for the pools of many providers, instead of one each: which of these have something to do?
set local role faregate_gateway;

create function gateway.due_providers(wanted text[]) returns setof text
language plpgsql stable security definer set search_path = gateway, pg_temp set enable_seqscan = off
as $$
declare
    began constant timestamptz := statement_timestamp();
    caller constant text := gateway.caller();
begin
    return query
    select p from unnest(wanted) p
    where exists (select from gateway.intent d
                  where d.owner = caller and d.provider = p and d.state = 'declared' and d.next_at <= began)
       or exists (select from gateway.intent d
                  where d.owner = caller and d.provider = p and d.state <> 'declared' and d.next_at <= began);
end;
$$;
revoke execute on function gateway.due_providers from public;
grant execute on function gateway.due_providers to faregate_app;
reset role;
