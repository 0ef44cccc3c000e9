-- A transfer can be reversed: what its receiver gives back is an operation of its own.
alter type points.kind add value 'give_back';
