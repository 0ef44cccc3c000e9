-- A set of reason codes keeps its words under its version: what a decision recorded must go on to mean the same.
set local role faregate_rules;

-- The first published version whose codes have this version and say something else. Holds off other publishers of it.
create function rules.other_code_set(p_version text, p_code_set jsonb) returns text
language plpgsql security definer set search_path = rules, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('rules.code_set:' || p_version, 0));
  return (
    select v.name || '-' || v.version from rules.ruleset_version v
    where v.content::jsonb -> 'code_set' ->> 'version' = p_version and v.content::jsonb -> 'code_set' <> p_code_set
    order by v.published_at, v.name, v.version limit 1);
end $$;
revoke execute on function rules.other_code_set from public;
grant execute on function rules.other_code_set to faregate_app;
reset role;
