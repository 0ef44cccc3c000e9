-- Redemptions that are locked, with their steps as they stand once they are: one question instead of two. The second
-- statement of the function sees what whoever held the lock before has committed.
set local role faregate_travel;

create function travel.locked(wanted text[])
returns table (redemption travel.redemption, steps jsonb)
language plpgsql
as $$
begin
    perform from travel.redemption r where r.id = any (wanted) order by r.id for update;
    return query
    select r, coalesce((select jsonb_agg(to_jsonb(s) order by s.place) from travel.step s where s.redemption_id = r.id),
                       '[]')
    from travel.redemption r where r.id = any (wanted) order by r.id;
end;
$$;
reset role;
