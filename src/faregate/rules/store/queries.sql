-- name: publish
-- Stores a version unless its place is taken; returns what stands there.
select name, version, sha256, published_at, published_by
from rules.publish(%(name)s, %(version)s, %(content)s, %(sha256)s, %(at)s, %(by)s, %(reason)s);

-- name: other_code_set
-- A published version whose codes have the same version and say something else, if there is one.
select rules.other_code_set(%(version)s, %(code_set)s) as label;

-- name: activate
-- Appends an activation; false if a later one exists.
select rules.activate(%(name)s, %(version)s, %(at)s, %(by)s, %(reason)s) as activated;

-- name: active
-- The version of a name that was active at an instant.
select name, version, sha256, published_at, published_by from rules.active(%(name)s, %(at)s);

-- name: version
-- One published version with its content.
select name, version, sha256, published_at, published_by, content from rules.version(%(name)s, %(version)s);

-- name: activations
-- Every activation of a name, oldest first.
select version, activated_at, activated_by, reason, is_rollback from rules.activations(%(name)s);

-- name: roll_back
-- Makes the version before the active one active again; no row if another than the expected one is active.
select from_version, since, to_version, rolled_back_at
from rules.roll_back(%(name)s, %(expected_version)s, %(at)s, %(by)s, %(reason)s);

-- name: plan
-- What decides, watches and challenges at an instant.
select version, shadow_version, challenger_version, challenger_basis_points from rules.plan(%(name)s, %(at)s);

-- name: set_shadow
-- Sets or ends what watches.
select rules.set_shadow(%(name)s, %(version)s, %(at)s, %(by)s, %(reason)s);

-- name: set_split
-- Sets or ends what challenges.
select rules.set_split(%(name)s, %(version)s, %(basis_points)s, %(at)s, %(by)s, %(reason)s);

-- name: versions
-- Published versions, newest first.
select name, version, sha256, published_at, published_by, active_since from rules.versions(%(name)s);

-- name: audit_trail
-- A page of what was done under a name, newest first.
select id, version, action, at, actor, reason, details from rules.audit_trail(%(name)s, %(before)s, %(limit)s);

-- name: note
-- Appends an act to the audit trail of a name.
select rules.note(%(name)s, %(version)s, %(action)s, %(at)s, %(by)s, %(reason)s, %(details)s);
