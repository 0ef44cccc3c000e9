-- The audit chain over everything that decisions were made from, and the notices that are due after a denial.
set local role faregate_credit;

-- One row of numbers for all rows that the chain covers. The transaction id is drawn before any number: the sealer
-- concludes from it that a missing number of a finished transaction never comes.
create sequence credit.audit_ord;
select setval('credit.audit_ord', coalesce(max(id), 0) + 1, false) from credit.audit_entry;

create function credit.next_audit_ord() returns bigint language plpgsql set search_path = credit, pg_temp as $$
declare
  drawn_first constant xid8 := pg_current_xact_id();
begin
  return nextval('credit.audit_ord');
end $$;

alter table credit.audit_entry alter column id drop identity;
alter table credit.audit_entry alter column id set default credit.next_audit_ord();
alter sequence credit.audit_ord owned by credit.audit_entry.id;

alter table credit.decision add column ord bigint not null default credit.next_audit_ord();
alter table credit.decision add constraint decision_ord unique (ord);
-- Which set of reason codes named the reasons. Null: decided before this was recorded.
alter table credit.decision add column code_set_version text;
alter table credit.decision add constraint a_denial_names_its_reasons
  check (outcome <> 'denied' or jsonb_array_length(adverse_action_reasons) > 0);

-- One link a covered row, in the order in which they were sealed. `sha256` covers all that stands before it and the
-- link before; `row_sha256` is of the row's columns, `column_sums` are eight bytes a column, to name the changed one.
create table credit.audit_link (
  seq bigint primary key check (seq > 0),
  subject text not null check (subject in ('audit_entry', 'decision')),
  ord bigint not null unique,
  key text not null,
  row_sha256 bytea not null check (octet_length(row_sha256) = 32),
  column_sums bytea not null,
  sealed_at timestamptz not null,
  sha256 bytea not null check (octet_length(sha256) = 32)
);

-- The lease of the sealer and the end of the chain. Whoever lacks the fence cannot add a link. Every row with a number
-- up to `settled_ord` is sealed, or its transaction was rolled back.
create table credit.audit_sealer (
  only_row boolean primary key default true check (only_row),
  holder text,
  fence bigint not null default 0,
  expires_at timestamptz not null default '-infinity',
  seq bigint not null default 0,
  sha256 bytea not null default decode(repeat('00', 32), 'hex') check (octet_length(sha256) = 32),
  settled_ord bigint not null default 0
) with (fillfactor = 10);
insert into credit.audit_sealer default values;

-- What `faregate audit verify` found, each time.
create table credit.audit_verification (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  links bigint not null,
  broken jsonb
);

-- Applicants who must be told of a denial, and by when. What was decided and what was sent stands in audit entries.
create table credit.adverse_action_notice (
  application_id text not null,
  decision_version integer not null,
  due_at timestamptz not null,
  sent_at timestamptz,
  sent_by text,
  primary key (application_id, decision_version),
  foreign key (application_id, decision_version) references credit.decision (application_id, version),
  check ((sent_at is null) = (sent_by is null))
);
create index adverse_action_notice_open on credit.adverse_action_notice (due_at) where sent_at is null;

insert into credit.adverse_action_notice (application_id, decision_version, due_at)
select a.id, a.decision_version, coalesce(a.ready_at, d.decided_at) + interval '30 days'
from credit.application a
join credit.decision d on d.application_id = a.id and d.version = a.decision_version and d.outcome = 'denied';

create trigger audit_link_is_append_only before update or delete on credit.audit_link
  for each row execute function credit.refuse_change();
create trigger audit_link_is_not_truncated before truncate on credit.audit_link
  for each statement execute function credit.refuse_change();
create trigger audit_verification_is_append_only before update or delete on credit.audit_verification
  for each row execute function credit.refuse_change();
create trigger audit_verification_is_not_truncated before truncate on credit.audit_verification
  for each statement execute function credit.refuse_change();
create trigger notice_is_sent_once before update on credit.adverse_action_notice
  for each row when (old.sent_at is not null
    or (old.application_id, old.decision_version, old.due_at)
       is distinct from (new.application_id, new.decision_version, new.due_at))
  execute function credit.refuse_change();
create trigger notice_is_kept before delete on credit.adverse_action_notice
  for each row execute function credit.refuse_change();
create trigger notice_is_not_truncated before truncate on credit.adverse_action_notice
  for each statement execute function credit.refuse_change();
