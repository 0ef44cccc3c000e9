-- name: declare
-- Declare intents in the caller's transaction; the answer holds the new ones.
select * from gateway.declare(%(intents)s)

-- name: declare_anew
-- Begin a new epoch of checks in the caller's transaction; the answer leaves out those that may not.
select * from gateway.declare_anew(%(intents)s)

-- name: claim
-- Claim due intents of one provider under a lease.
select * from gateway.claim_work(
    %(provider)s, %(holder)s, %(token)s, %(lease_s)s, %(sends)s, %(diverts)s, %(looks)s)

-- name: due_providers
-- Which of these providers have something to do.
select provider from gateway.due_providers(%(wanted)s) as due (provider)

-- name: look_again
-- Ask once more about outcomes that nobody could learn in time.
select gateway.look_again(%(subjects)s) as reopened

-- name: record
-- Write what became of intents; the answer holds the ids of those that were still ours to write.
select provider_request_id from gateway.record(%(changes)s) as recorded (provider_request_id)

-- name: accept_callback
-- Keep a provider's message before it is answered.
select known, fresh
from gateway.accept_callback(%(provider)s, %(provider_request_id)s, %(dedupe_key)s, %(outcome)s, %(response)s)

-- name: claim_callbacks
-- Lock unprocessed callbacks and their intents until the end of the transaction.
select ord, outcome, response, received_at, (intent).* from gateway.claim_callbacks(%(most)s)

-- name: close_callbacks
-- Mark callbacks as processed, or put them off.
select gateway.close_callbacks(%(closed)s)

-- name: history
-- Everything that was asked about one subject.
select * from gateway.history(%(subject_id)s)

-- name: summary
-- How many intents stand where, a row for each provider and state.
select * from gateway.summary()

-- name: sealed_answers
-- A page of encrypted raw answers, of intents and of callbacks.
select provider_request_id, ord, response
from gateway.sealed_answers(%(after_request)s, %(after_ord)s, %(most)s)

-- name: reseal_answer
-- One answer under another key.
select gateway.reseal_answer(%(provider_request_id)s, %(ord)s, %(old)s, %(new)s) as resealed

-- name: due
-- How many intents of all owners wait for somebody now. For the gateway's own role. Two counts, as there are two
-- indexes of what is open.
select (select count(*) from gateway.intent where state = 'declared' and next_at <= now()
            and not provider = any (%(held_back)s))
     + (select count(*) from gateway.intent where state <> 'declared' and next_at <= now()) as intents

-- name: change_provider
-- Append an operator's change; null when somebody else's came between.
select gateway.change_provider(
    %(provider)s, %(kind)s, %(seen_version)s, %(content)s, %(reason)s, %(changed_by)s) as version

-- name: provider_changes
-- The newest change of each provider and kind.
select version, provider, kind, content, reason, changed_by, changed_at from gateway.provider_changes()

-- name: provider_history
-- Every change of one provider, the newest first.
select version, kind, content, reason, changed_by, changed_at
from gateway.provider_history(%(provider)s, %(most)s)
