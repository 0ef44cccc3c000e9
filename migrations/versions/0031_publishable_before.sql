-- Nothing enters the log that a bus could not carry: it would hold up all that comes after it. `infra/eventlog/limits.py`
-- says the same with names; this holds every writer to it. What stands in the outbox already is let pass.
set local role faregate_eventlog;

alter table eventlog.outbox add constraint outbox_is_publishable check (
    -- Only what is long in its binary form is written out to know how long it is as text: it grows 64 times at most.
    (pg_column_size(payload) < 65536 or octet_length(payload::text) <= 7340032)
    and aggregatetype ~ '^[A-Za-z0-9._-]{1,100}$' and type ~ '^[A-Za-z0-9._-]{1,100}$'
    and octet_length(aggregateid) <= 1024 and coalesce(octet_length(traceparent), 0) <= 256
) not valid;
reset role;
