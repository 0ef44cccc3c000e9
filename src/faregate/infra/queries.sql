-- name: primary_position
-- How far the primary has written its log.
select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint as position;

-- name: replica_position
-- How far a streaming replica has replayed that log; null on a server that is none.
select pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint as position;
