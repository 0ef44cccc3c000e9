-- Nothing enters the log that a bus could not carry: it would hold up all that comes after it. `infra/eventlog/limits.py`
-- says the same with names, and refuses names that make no topic; this holds every writer to the length. What stands in the
-- outbox already is let pass.
set local role faregate_eventlog;

alter table eventlog.outbox add constraint outbox_is_publishable check (
    -- Only what is long in its binary form is written out to know how long it is as text: it grows 64 times at most.
    (pg_column_size(payload) < 65536 or octet_length(payload::text) <= 7340032)
) not valid;
reset role;
