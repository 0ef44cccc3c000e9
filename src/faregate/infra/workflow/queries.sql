-- name: start_runs
-- Starts the runs that were never started, in the caller's transaction.
select workflow.start_runs(%(workflow)s, %(runs)s::jsonb)

-- name: send_signals
-- Stores the signals that are new, in the caller's transaction; the notification leaves with its commit.
select workflow.send_signals(%(signals)s::jsonb)

-- name: runs
-- The runs in some states, oldest first.
select id, workflow, state, attempts, started_at, error from workflow.runs(%(states)s, %(rows_max)s)

-- name: failed_among
-- Those of some runs that ended without success.
select failed as id from workflow.failed_among(%(ids)s::text[]) as failed

-- name: enter
-- A new lease; its number is the worker's fence.
insert into workflow.worker (host, pid, expires_at)
values (%(host)s, %(pid)s, clock_timestamp() + %(lease)s) returning id

-- name: beat
-- Renews the lease and declares dead whoever did not renew his.
select workflow.beat(%(worker)s, %(lease)s) as alive

-- name: ensure_queue
-- The engine polls a workflow's queue this often, and claims a run only while fewer than so many are in flight.
select workflow.ensure_queue(%(workflow)s, %(poll_s)s, %(in_flight_max)s::integer)

-- name: requeue_orphans
-- Gives the runs of dead workers back to the queue.
select workflow.requeue_orphans() as runs

-- name: requeue_lost
-- Gives runs back that were claimed for this worker and never reached it.
select workflow.requeue_lost(%(worker)s, %(held)s, %(lost_after)s, %(is_quiet)s) as runs

-- name: leave
-- Ends the lease and gives the worker's runs back.
select workflow.leave(%(worker)s)

-- name: begin_step
-- Takes a slot for this transaction; returns what the run did before, if asked.
select verdict, history from workflow.begin_step(
    %(worker)s, %(run)s, %(with_history)s, %(slot_class)s, %(slots)s, %(first_slot)s, %(idle_ms)s
)

-- name: record_steps
-- Records a step's result, behind the fence, in the step's own transaction.
select workflow.record_steps(%(worker)s, %(run)s, %(results)s::jsonb)

-- name: history
-- What a run did before.
select workflow.history(%(run)s) as history

-- name: signals_of
-- The signals that some runs have got, in the order in which they were sent.
select run_id, name, signal_id, payload from workflow.signal where run_id = any(%(runs)s) order by ord

-- name: waiting_for_a_worker
-- Open runs that a worker could take further now: not begun, or signalled. For the workflow's own role.
select count(*) as runs
from dbos.workflow_status w
where w.status in ('ENQUEUED', 'PENDING') and (
    not exists (select from workflow.step s where s.run_id = w.workflow_uuid)
    or exists (select from workflow.signal g where g.run_id = w.workflow_uuid)
)
