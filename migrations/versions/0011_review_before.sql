-- Manual review, and further versions of decisions.
set local role faregate_credit;

-- Requests to decide again that were carried out: the same key for the same application does nothing the second time.
create table credit.reevaluation (
  application_id text not null,
  request_key text not null,
  version integer not null,
  primary key (application_id, request_key)
);
