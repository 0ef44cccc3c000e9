-- Events that clients reported to fraud, each under an id of the client's own: the same one again has no second effect.
set local role faregate_fraud;

create table fraud.ingested (
    client_id text not null,
    id text not null,
    content bytea not null, -- SHA-256 of what was said; another content under the id is refused
    received_at timestamptz not null,
    primary key (client_id, id)
);
create index ingested_by_age on fraud.ingested (received_at);

reset role;
