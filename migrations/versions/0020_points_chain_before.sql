-- The hash chain over the points ledger. Writers know nothing of it: a sealer links what was committed.
set local role faregate_points;

-- One link an operation, which covers it with its entries, lots and cuts. `sealed_at` rises strictly along the chain: it
-- is the one order of everything in the ledger. `sha256` covers all that stands before it and the link before.
create table points.link (
    seq bigint primary key check (seq > 0),
    operation_no bigint not null unique,
    sealed_at timestamptz not null,
    row_sha256 bytea not null check (octet_length(row_sha256) = 32),
    column_sums bytea not null, -- eight bytes for the operation, each entry, each lot and each cut
    sha256 bytea not null check (octet_length(sha256) = 32)
);

-- The lease of the sealer and the end of the chain. Whoever lacks the fence cannot add a link. Every operation with a
-- number up to `settled_ord` is sealed, or its number was drawn in vain.
create table points.sealer (
    only_row boolean primary key default true check (only_row),
    holder text,
    fence bigint not null default 0,
    expires_at timestamptz not null default '-infinity',
    seq bigint not null default 0,
    sha256 bytea not null default decode(repeat('00', 32), 'hex') check (octet_length(sha256) = 32),
    settled_ord bigint not null default 0,
    sealed_at timestamptz
) with (fillfactor = 10);
insert into points.sealer default values;

create trigger only_added before update or delete or truncate on points.link
    for each statement execute function points.refuse_change();
reset role;
