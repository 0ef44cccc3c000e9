-- A run keeps the check plan that it began with: which checks were asked, and which of them are mandatory.
set local role faregate_credit;

alter table credit.workflow_execution
  add column check_plan_version text not null default 'checks-1',
  add column asked_checks text[] not null default '{bureau,kyc,fraud,income}',
  add column mandatory_checks text[] not null default '{bureau,kyc,fraud,income}';
alter table credit.workflow_execution
  alter column check_plan_version drop default,
  alter column asked_checks drop default,
  alter column mandatory_checks drop default,
  add constraint mandatory_checks_are_asked check (mandatory_checks <@ asked_checks),
  add constraint something_is_mandatory check (cardinality(mandatory_checks) > 0);
