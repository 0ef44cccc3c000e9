-- What each promotion gave for a payment, by name, so that its cap can count it. Null: none gave anything.
set local role faregate_points;
alter table points.payment add column promoted jsonb;
reset role;
