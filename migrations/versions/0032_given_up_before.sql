-- Dead letters are kept without end, and the inbox forgets in 30 days: an event given back once more after that would be
-- handled a second time. What a group gave up is noted here, and stays in its inbox once it was handled.
set local role faregate_eventlog;

create table eventlog.given_up (
    consumer_group text not null,
    event_id uuid not null,
    primary key (consumer_group, event_id)
);

create function eventlog.bus_give_up(p_group text, p_event_id uuid) returns void
    language sql security definer
begin atomic
    insert into eventlog.given_up (consumer_group, event_id) values (p_group, p_event_id) on conflict do nothing;
end;

revoke all on function eventlog.bus_give_up(text, uuid) from public;
grant execute on function eventlog.bus_give_up(text, uuid) to faregate_app;
reset role;
