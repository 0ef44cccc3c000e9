-- Appending an event costs the transaction of the fact less, and what a link of the points chain covers is said once.

set local role faregate_eventlog;

-- As before: the transaction id is drawn before any `ord`. Bound to its tables, and so to no search path.
create or replace function eventlog.append(events jsonb) returns void
    language sql security definer
begin atomic
    insert into eventlog.outbox (id, aggregatetype, aggregateid, type, payload, time, traceparent)
    select (event ->> 'id')::uuid, event ->> 'aggregatetype', event ->> 'aggregateid', event ->> 'type',
      event -> 'payload', (event ->> 'time')::timestamptz, event ->> 'traceparent'
    from jsonb_array_elements(events) with ordinality as given (event, place)
    where pg_current_xact_id() is not null
    order by place;
end;
reset role;

set local role faregate_points;

-- Operations as the chain covers them: with their entries, lots and cuts, hashed whole, and eight bytes for each part.
create function points.sealed_form(numbers bigint[])
returns table (no bigint, parts text[], sha256 bytea, column_sums bytea) language sql stable as $$
    with page as (
        select given.no from unnest(numbers) as given (no)
    ),
    part as (
        select o.no, 0 as place, 'operation' as part, json_strip_nulls(row_to_json(o))::text as content
        from page join points.operation o on o.no = page.no
        union all
        select e.operation_no, 1, 'entry ' || e.line, json_strip_nulls(row_to_json(e))::text
        from page join points.entry e on e.operation_no = page.no
        union all
        select l.operation_no, 2, concat('lot ', l.expires_on, '/', l.bucket, '/', l.first),
          json_strip_nulls(row_to_json(l))::text
        from page join points.lot l on l.operation_no = page.no
        union all
        select c.operation_no, 3, 'cut ' || c.line, json_strip_nulls(row_to_json(c))::text
        from page join points.cut c on c.operation_no = page.no
    )
    select p.no, array_agg(p.part order by place, p.part collate "C"),
      sha256(string_agg(convert_to(p.part || '=' || content, 'UTF8'), '\x0a' order by place, p.part collate "C")),
      string_agg(substr(sha256(convert_to(content, 'UTF8')), 1, 8), '' order by place, p.part collate "C")
    from part p group by p.no
$$;
revoke all on function points.sealed_form from public;
reset role;
