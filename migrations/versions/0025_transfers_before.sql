-- Points that members turn into a partner's currency: taken from the ledger, told to the partner in a daily file, and
-- given back where the partner refuses.
set local role faregate_travel;

create sequence travel.transfer_file_no;

create table travel.transfer (
    id text primary key,
    member_id text not null,
    partner text not null,
    account_encrypted bytea not null,   -- the member's number at the partner
    points bigint not null check (points > 0),
    units bigint not null default 0,
    operation bigint,                   -- of the ledger, which took the points
    status text not null check (status in
        ('requested', 'refused', 'converted', 'filed', 'accepted', 'rejected', 'returned')),
    file text,
    reason text,
    created_at timestamptz not null,
    updated_at timestamptz not null
) with (fillfactor = 70);
create index transfer_under_way on travel.transfer (status, created_at)
    where status in ('requested', 'converted', 'filed', 'rejected');
create index transfer_of_member on travel.transfer (member_id, created_at desc);
reset role;
