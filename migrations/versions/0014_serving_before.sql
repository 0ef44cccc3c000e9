-- Limits of single clients, and the way to a client's own applications.

set local role faregate_access;

-- What holds for a client instead of the settings: a token bucket for each policy.
create table access.client_limit (
    client_id  text             not null check (client_id <> ''),
    policy     text             not null check (policy <> ''),
    rate_per_s double precision not null check (rate_per_s > 0),
    burst      integer          not null check (burst > 0),
    changed_at timestamptz      not null,
    primary key (client_id, policy)
);

reset role;
set local role faregate_credit;

-- A client's list in order of age: with a state from one place of the index, without one merged from each state's.
create index application_of_client on credit.application (client_id, status, id);

reset role;
