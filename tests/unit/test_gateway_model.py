"""Whatever crashes, time-outs, lags and callbacks do: at most one executed pull, and every check ends.

The journal here is a dict that claims and records as the SQL does; the provider is a model whose requests may
be executed without our hearing of it, and become visible to a look-up as late as it may.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from faregate.gateway.contracts import Capabilities
from faregate.gateway.intent import Intent, NewIntent, State, Status
from faregate.gateway.policies.refusals import Reason, Refusal
from faregate.gateway.policy import Policies, ProviderPolicy, RetryPolicy, Route, Rules
from faregate.gateway.settlement import (
    Change,
    Moment,
    Step,
    after_callback,
    after_look_up,
    after_refusal,
    after_send,
    at_deadline,
    look_up_refused,
    next_step,
)
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown

START = datetime(2026, 3, 1, tzinfo=UTC)
BUDGET_S, TIMEOUT_S, LEASE_S, LAG_S = 30.0, 1.0, 3.0, 2.0
RETRY = RetryPolicy(sends_max=3, look_up_s=0.2, reconcile_s=60.0)

RETRY_AFTER_S = st.sampled_from([0.0, 0.5, 20.0])
FATES = ("done", "accepted", "taken_on", "executed_but_lost", "lost", "busy", "refused")


@dataclass(frozen=True)
class Work:
    """What one process does with one claim, in which times, and how far the provider's look-up lags."""

    fate: str
    pause_s: float
    call_s: float
    ending: str
    lag: float
    chance: float


WORK = st.builds(
    Work,
    fate=st.sampled_from(FATES),
    pause_s=st.sampled_from([0.0, 0.0, 0.0, 1.0, 4.0]),
    call_s=st.sampled_from([0.01, 0.5, TIMEOUT_S]),
    ending=st.sampled_from(["recorded", "recorded", "recorded", "crashed", "stopped"]),
    lag=st.sampled_from([0.0, 0.5, 1.0]),
    chance=st.sampled_from([0.0, 0.5, 1.0]),
)


def capabilities(provider: str, deduplicates: bool) -> Capabilities:
    return Capabilities(
        provider=provider,
        asynchronous=True,
        deduplicates=deduplicates,
        look_up_lag_s_max=LAG_S,
        timeout_s=TIMEOUT_S,
        callback=True,
        polls=False,
    )


@dataclass
class Call:
    """A claimed intent on its way: claimed, perhaps sent, perhaps answered, not yet recorded."""

    intent: Intent
    token: int
    lease_end: datetime
    started_at: datetime | None = None
    outcome: Outcome | None = None


@dataclass
class Provider:
    """Executes requests; each becomes visible to look-ups at some time, None while its send has not ended.

    What it took on without executing it ends in a refusal, told by callback and look-up.
    """

    deduplicates: bool
    taken_on: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    executed: list[str] = field(default_factory=list)
    visible_at: dict[str, datetime | None] = field(default_factory=dict)
    working: set[str] = field(default_factory=set)

    def execute(self, request_id: str) -> None:
        if not (self.deduplicates and request_id in self.executed):
            self.executed.append(request_id)
            self.visible_at[request_id] = None

    def take_on(self, request_id: str) -> None:
        """Begin without executing; whoever deduplicates goes on with what it has."""
        if request_id not in self.visible_at:
            self.taken_on.add(request_id)
            self.working.add(request_id)
            self.visible_at[request_id] = None

    def refuse(self, request_id: str) -> NotDone:
        self.taken_on.discard(request_id)
        self.working.discard(request_id)
        self.refused.add(request_id)
        return NotDone("refused")

    def send_ended(self, request_id: str, at: datetime, lag: float) -> None:
        if request_id in self.visible_at and self.visible_at[request_id] is None:
            self.visible_at[request_id] = at + timedelta(seconds=lag * LAG_S)

    def look_up(self, request_id: str, now: datetime) -> Outcome:
        visible_at = self.visible_at.get(request_id)
        if visible_at is None or visible_at > now:
            return NotDone("not_found")
        if request_id in self.refused:
            return NotDone("refused")
        return Accepted(1.0) if request_id in self.working else Done({"id": request_id})


class Checks(RuleBasedStateMachine):
    """Checks on a route of two providers, served by any number of processes that crash at will."""

    @initialize(deduplicates=st.booleans())
    def start(self, deduplicates: bool) -> None:
        self.now = START
        self.provider = Provider(deduplicates)
        both = {name: capabilities(name, deduplicates) for name in ("bureau", "bureau_alt")}
        route = Route(check="bureau", providers=tuple(both))
        providers = dict.fromkeys(both, ProviderPolicy(retry=RETRY))
        self.policies = Policies(routes={"bureau": route}, capabilities=both, providers=providers)
        self.rows: dict[str, Intent] = {}
        self.tokens: dict[str, int | None] = {}
        self.claims = 0
        self.told: dict[str, list[str]] = {}
        self.stopped: list[Call] = []
        self.frozen_until = START

    @rule(seconds=st.sampled_from([1.0, 4.0, 8.0]))
    def the_provider_stands_still(self, seconds: float) -> None:
        """What comes meanwhile waits in its buffers: it answers nothing, and executes what it got only afterwards."""
        self.frozen_until = self.now + timedelta(seconds=seconds)

    def declare(self) -> None:
        subject_id = f"app_{len(self.told)}"
        self.told[subject_id] = []
        deadline = self.now + timedelta(seconds=BUDGET_S)
        self.insert(NewIntent(subject_id=subject_id, check="bureau", provider="bureau", deadline=deadline))

    def insert(self, new: NewIntent) -> None:
        others = [row for row in self.rows.values() if row.subject_id == new.subject_id]
        assert all(row.state is State.NOT_DONE for row in others), "the index intent_one_pull"
        self.rows[new.provider_request_id] = Intent(
            provider_request_id=new.provider_request_id,
            subject_id=new.subject_id,
            check=new.check,
            provider=new.provider,
            attempt=new.attempt,
            state=State.DECLARED,
            deadline=new.deadline,
            next_at=self.now + timedelta(seconds=new.delay_s),
            sends=new.sends,
        )
        self.tokens[new.provider_request_id] = None

    def claim_one(self, *, to_divert: bool = False) -> Call | None:
        due = [row for row in self.rows.values() if row.next_at is not None and row.next_at <= self.now]
        if not due:
            return None
        is_diverted = to_divert and due[0].state is State.DECLARED
        claimed = due[0] if is_diverted else as_claimed(due[0], self.now)
        self.claims += 1
        lease_end = self.now + timedelta(seconds=LEASE_S)
        self.rows[claimed.provider_request_id] = replace(claimed, next_at=lease_end)
        self.tokens[claimed.provider_request_id] = self.claims
        return Call(intent=replace(claimed, next_at=lease_end), token=self.claims, lease_end=lease_end)

    @rule(work=st.lists(WORK, min_size=2, max_size=8))
    def processes_work(self, work: list[Work]) -> None:
        for one in work:
            self.a_process_works(one)

    def a_process_works(self, work: Work) -> None:
        """It claims what is due next, calls, and then records, dies, or is stopped and records much later."""
        if not any(row.next_at and row.settled is None for row in self.rows.values()):
            self.declare()
        self.now = max(self.now, min(row.next_at for row in self.rows.values() if row.next_at))
        call = self.claim_one()
        assert call is not None
        self.now += timedelta(seconds=work.pause_s)
        self.it_calls(call, work.fate)
        self.now += timedelta(seconds=work.call_s if call.started_at else 0)
        if work.ending == "recorded":
            self.it_records(call, work.lag, work.chance)
            return
        self.it_is_gone(call, work.lag)
        if work.ending == "stopped":
            self.stopped.append(call)

    @rule(
        refusals=st.lists(st.builds(Refusal, st.sampled_from(Reason), RETRY_AFTER_S), min_size=1, max_size=4),
        pause_s=st.sampled_from([0.0, 1.0, 4.0]),
        to_divert=st.booleans(),
    )
    def policies_refuse(self, refusals: list[Refusal], pause_s: float, to_divert: bool) -> None:
        """What a policy does not let through is put back, at once or after its lease, and never was sent."""
        for refusal in refusals:
            due_at = [row.next_at for row in self.rows.values() if row.next_at]
            if not due_at:
                return
            self.now = max(self.now, min(due_at))
            call = self.claim_one(to_divert=to_divert)
            assert call is not None
            self.now += timedelta(seconds=pause_s)
            if self.tokens[call.intent.provider_request_id] == call.token:
                self.write(self.refused(call.intent, refusal))

    def refused(self, intent: Intent, refusal: Refusal) -> Change:
        at, rules = Moment(now=self.now, started_at=self.now, chance=0.5), self.rules_of(intent)
        if next_step(intent, now=self.now, rules=rules) is Step.EXPIRE:
            return at_deadline(intent, at=at, rules=rules)
        is_unsent = intent.state in (State.SENDING, State.DECLARED)
        return (after_refusal if is_unsent else look_up_refused)(intent, refusal, at=at, rules=rules)

    @rule(lag=st.sampled_from([0.0, 0.5, 1.0]), chance=st.sampled_from([0.0, 0.5, 1.0]))
    def a_stopped_process_wakes(self, lag: float, chance: float) -> None:
        for call in self.stopped:
            self.it_records(call, lag, chance)
        self.stopped.clear()

    def it_calls(self, call: Call, fate: str) -> None:
        step = self.step(call)
        if step is Step.EXPIRE or self.now + timedelta(seconds=TIMEOUT_S) > call.lease_end:
            return
        call.started_at = self.now
        if step is Step.SEND:
            call.outcome = self.send(call.intent.provider_request_id, fate)
            if self.now < self.frozen_until:
                self.provider.send_ended(call.intent.provider_request_id, self.frozen_until, lag=1.0)
                call.outcome = Unknown("timeout")

    def send(self, request_id: str, fate: str) -> Outcome:
        if request_id in self.provider.refused:
            return NotDone("refused")
        if request_id in self.provider.taken_on:
            return Accepted(1.0)
        if fate == "taken_on":
            self.provider.take_on(request_id)
        if fate in ("done", "accepted", "executed_but_lost"):
            self.provider.execute(request_id)
        if fate == "accepted":
            self.provider.working.add(request_id)
        answers: dict[str, Outcome] = {
            "done": Done({}),
            "accepted": Accepted(1.0),
            "taken_on": Accepted(1.0),
            "busy": NotDone("busy", retryable=True),
            "refused": NotDone("refused"),
        }
        return answers.get(fate, Unknown("timeout"))

    def it_records(self, call: Call, lag: float, chance: float) -> None:
        if call.started_at or self.step(call) is Step.EXPIRE:
            self.finish(call, lag, chance)

    def it_is_gone(self, call: Call, lag: float) -> None:
        """What it sent had left it by the end of its lease at the latest."""
        if call.outcome:
            self.provider.send_ended(call.intent.provider_request_id, call.lease_end, lag)

    @rule(recent=st.integers(1, 4))
    def the_provider_calls_back(self, recent: int) -> None:
        """Early, late, for the second time or in time."""
        for request_id in self.provider.executed[-recent:][:1]:
            self.provider.working.discard(request_id)
            row = self.rows[request_id]
            moment = Moment(now=self.now, started_at=self.now, chance=0.5)
            if change := after_callback(row, Done({}), at=moment, rules=self.rules_of(row)):
                self.write(change)

    @rule(recent=st.integers(1, 4), times=st.integers(1, 2))
    def the_provider_gives_up(self, recent: int, times: int) -> None:
        """It says by callback, perhaps twice, early or after the deadline, that it has not done what it took on."""
        for request_id in sorted(self.provider.taken_on)[-recent:][:1]:
            refusal = self.provider.refuse(request_id)
            for _ in range(times):
                row = self.rows[request_id]
                moment = Moment(now=self.now, started_at=self.now, chance=0.5)
                if change := after_callback(row, refusal, at=moment, rules=self.rules_of(row)):
                    self.write(change)

    def step(self, call: Call) -> Step:
        return next_step(call.intent, now=self.now, rules=self.rules_of(call.intent))

    def rules_of(self, intent: Intent) -> Rules:
        return self.policies.rules(check=intent.check, provider=intent.provider)

    def finish(self, call: Call, lag: float, chance: float) -> None:
        """The answer is judged when it arrives; it is written only under a claim that still holds."""
        request_id, rules = call.intent.provider_request_id, self.rules_of(call.intent)
        ended = min(self.now, call.lease_end)
        moment = Moment(now=ended, started_at=call.started_at or ended, chance=chance)
        if call.outcome:
            self.provider.send_ended(request_id, ended, lag)
            change = after_send(call.intent, call.outcome, at=moment, rules=rules)
        elif call.started_at:
            found = self.looked_up(request_id, call.started_at, ended)
            change = after_look_up(call.intent, found, at=moment, rules=rules)
        else:
            change = at_deadline(call.intent, at=moment, rules=rules)
        if self.tokens[request_id] == call.token:
            self.write(change)

    def looked_up(self, request_id: str, started_at: datetime, ended: datetime) -> Outcome:
        answered_at = max(started_at, self.frozen_until)
        return Unknown("timeout") if answered_at > ended else self.provider.look_up(request_id, answered_at)

    def write(self, change: Change) -> None:
        self.rows[change.intent.provider_request_id] = change.intent
        self.tokens[change.intent.provider_request_id] = None
        if change.tell:
            self.told[change.intent.subject_id].append(change.tell)
        if change.successor:
            self.insert(change.successor)

    @invariant()
    def at_most_one_pull_was_executed(self) -> None:
        subjects = [self.rows[request_id].subject_id for request_id in self.provider.executed]
        assert len(subjects) == len(set(subjects))

    @invariant()
    def the_owner_is_told_once_or_unknown_and_then_done(self) -> None:
        for told in self.told.values():
            assert told in ([], ["done"], ["not_done"], ["unknown"], ["unknown", "done"])

    @invariant()
    def what_is_called_not_done_was_not_executed(self) -> None:
        not_done = {key for key, row in self.rows.items() if row.state is State.NOT_DONE}
        assert not not_done & set(self.provider.executed)

    def teardown(self) -> None:
        """With no more faults, everything comes to rest, and an executed pull is found."""
        if not hasattr(self, "rows"):
            return
        self.a_stopped_process_wakes(1.0, 1.0)
        for request_id in sorted(self.provider.taken_on):
            self.provider.refuse(request_id)  # without a word: a look-up finds out
        self.provider.working.clear()
        self.now += timedelta(seconds=LEASE_S)
        while due := [row.next_at for row in self.rows.values() if row.next_at]:
            self.now = max(self.now, min(due))
            call = self.claim_one()
            assert call is not None
            self.it_calls(call, "done")
            self.it_records(call, 0.0, 0.5)
        assert all(self.told.values())
        found = {row.provider_request_id for row in self.rows.values() if row.state is State.DONE}
        missed = set(self.provider.executed) - found
        assert found <= set(self.provider.executed)
        assert all(self.rows[request_id].settled is Status.UNKNOWN for request_id in missed)


def as_claimed(row: Intent, now: datetime) -> Intent:
    """What `gateway.claim` does to a row."""
    if row.state is State.SENDING:
        return replace(row, state=State.UNKNOWN, doubtful=True, looks=0, sent_end=row.next_at)
    if row.state is State.DECLARED and row.deadline > now:
        return replace(row, state=State.SENDING, sends=row.sends + 1)
    return row


@pytest.mark.requirement("C5")
@pytest.mark.requirement("C23")
def test_no_schedule_of_faults_executes_a_pull_twice_or_leaves_a_check_open() -> None:
    run_state_machine_as_test(
        Checks,
        settings=settings(
            max_examples=60,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
