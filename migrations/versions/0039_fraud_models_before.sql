-- The registry of fraud models: versions that never change, and what was done with them.
set local role faregate_fraud;

create table fraud.model (
    name text not null check (name ~ '^[a-z][a-z0-9-]{1,62}$'),
    version int not null check (version > 0),
    sha256 text not null unique check (sha256 ~ '^[0-9a-f]{64}$'), -- of content and release
    content bytea not null,       -- the model as the library writes it
    release json not null,        -- inputs, thresholds, metrics, what it was trained on
    registered_at timestamptz not null,
    registered_by text not null,
    primary key (name, version)
);
create trigger model_is_append_only before update or delete or truncate on fraud.model
    for each statement execute function fraud.refuse_change();

-- What was done, the newest counts: `activated` and `rolled_back` say which version decides, `shadowed` which one
-- watches (null: none any more).
create table fraud.model_act (
    no bigint generated always as identity primary key,
    kind text not null check (kind in ('activated', 'rolled_back', 'shadowed')),
    name text,
    version int,
    at timestamptz not null,
    by text not null,
    reason text,
    foreign key (name, version) references fraud.model,
    check ((name is null) = (version is null)),
    check (kind = 'shadowed' or name is not null)
);
create trigger model_act_is_append_only before update or delete or truncate on fraud.model_act
    for each statement execute function fraud.refuse_change();
