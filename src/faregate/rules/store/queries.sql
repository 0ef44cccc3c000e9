-- name: publish
-- Stores a version unless its place is taken; returns what stands there.
select name, version, sha256, published_at, published_by
from rules.publish(%(name)s, %(version)s, %(content)s, %(sha256)s, %(at)s, %(by)s);

-- name: activate
-- Appends an activation; false if a later one exists.
select rules.activate(%(name)s, %(version)s, %(at)s, %(by)s) as activated;

-- name: active
-- The version of a name that was active at an instant.
select name, version, sha256, published_at, published_by from rules.active(%(name)s, %(at)s);

-- name: version
-- One published version with its content.
select name, version, sha256, published_at, published_by, content from rules.version(%(name)s, %(version)s);

-- name: activations
-- Every activation of a name, oldest first.
select version, activated_at, activated_by from rules.activations(%(name)s);
