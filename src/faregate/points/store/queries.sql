-- name: open_accounts
-- Opens accounts with nothing on them; those that are there already stay as they are.
with opened as (
    insert into points.account (member_id, opened_at)
    select member_id, %(at)s from unnest(%(member_ids)s::text[]) as given (member_id)
    order by member_id
    on conflict do nothing
    returning no
)
insert into points.balance (account_no) select no from opened

-- name: account_numbers
-- The account numbers of members.
select no, member_id from points.account where member_id = any(%(member_ids)s::text[])

-- name: subjects
-- What operations refer to, as far as it never changes.
select o.no, o.kind::text, o.account_no, a.member_id, o.amount, o.details, o.subject_no
from points.operation o join points.account a on a.no = o.account_no
where o.no = any(%(numbers)s::bigint[]) and o.refusal is null

-- name: receipts
-- What transfers brought their receivers.
select r.no, r.kind::text, r.account_no, a.member_id, r.amount, r.details, r.subject_no
from points.operation o
join points.operation r on r.key = 'receive:' || o.key and r.subject_no = o.no
join points.account a on a.no = r.account_no
where o.no = any(%(numbers)s::bigint[])

-- name: open_batch
-- Locks the accounts of a batch, and says all that is needed to decide it.
select points.open_batch(
    %(accounts)s::bigint[], %(wanted)s::bigint[], %(keys)s::text[], %(subjects)s::bigint[], %(earned_by)s::bigint[],
    %(earned_on)s::date[], %(draws)s::int, %(at)s::timestamptz, %(load_until)s::date
)::text as found

-- name: write_batch
-- Writes what was decided of a batch.
select points.write_batch(%(batch)s::json)

-- name: operation_of_key
-- What stands under a key.
select o.no, o.key, o.kind::text, o.amount, o.subject_no, o.at, o.refusal, o.details, o.posted, o.pending, o.held,
  o.owed, a.member_id
from points.operation o left join points.account a on a.no = o.account_no
where o.key = %(key)s

-- name: draw_numbers
-- The numbers of as many operations. Drawn under the locks, so that they rise along each account.
select nextval('points.operation_no') as no from generate_series(1, %(count)s)

-- name: buckets
-- The dated buckets of an account from the frontier on.
select array_agg(expires_on) as days, array_agg(no) as numbers, array_agg(amount) as amounts, true as is_complete
from (
    select expires_on, no, amount from points.bucket
    where account_no = %(account_no)s and (expires_on, no) >= (%(since_on)s, %(since_bucket)s)
      and expires_on > '0001-01-01'
    order by expires_on, no
) as ahead

-- name: cuts
-- What operations took out of the lots.
select operation_no, amount, from_on, from_bucket, from_offset, to_on, to_bucket, to_offset, newest
from points.cut where operation_no = any(%(numbers)s::bigint[])
order by operation_no, line

-- name: cut_buckets
-- The dated buckets of which cuts took more than one.
select distinct b.account_no, b.expires_on, b.no, b.amount
from points.cut c
join points.operation o on o.no = c.operation_no
join points.bucket b on b.account_no = o.account_no and b.expires_on > '0001-01-01'
  and (b.expires_on, b.no) between (c.from_on, c.from_bucket) and (c.to_on, c.to_bucket)
where c.operation_no = any(%(numbers)s::bigint[]) and (c.from_on, c.from_bucket) <> (c.to_on, c.to_bucket)

-- name: lots
-- Where lie what operations earned.
select operation_no, expires_on, bucket, first, amount
from points.lot where operation_no = any(%(numbers)s::bigint[])
order by operation_no, expires_on, bucket, first

-- name: reversals
-- How much was reversed of operations.
select subject_no, amount from points.reversal where subject_no = any(%(numbers)s::bigint[])

-- name: accounts_after
-- Accounts in the order of their numbers, as they stand.
select a.member_id, b.*,
  (select amount from points.bucket r where r.account_no = b.account_no and expires_on = '0001-01-01') as rolling
from points.balance b join points.account a on a.no = b.account_no
where b.account_no > %(after)s and (%(member_ids)s::text[] is null or a.member_id = any(%(member_ids)s::text[]))
order by b.account_no
limit %(limit)s

-- name: buckets_of
-- All buckets of accounts.
select account_no, expires_on, no, amount from points.bucket
where account_no = any(%(numbers)s::bigint[]) order by account_no, expires_on, no

-- name: done_by
-- The operations of accounts that were done, in their order.
select no, account_no, kind::text, amount, at, subject_no, posted, pending, held, owed,
  (details ->> 'active_until')::date as active_until
from points.operation where account_no = any(%(numbers)s::bigint[]) and refusal is null
order by account_no, at

-- name: entries_of
-- What entries moved of accounts. What comes in is positive; held and owed count the other way round.
select account_no, operation_no, layer::text, sum(amount) as amount
from (
    select o.account_no, e.operation_no, e.layer,
      case when (e.credit_no = o.account_no) = (e.layer in ('posted', 'pending')) then e.amount else -e.amount end
        as amount
    from points.operation o join points.entry e on e.operation_no = o.no
    where o.account_no = any(%(numbers)s::bigint[])
    union all -- what a transfer brought its receiver
    select o.account_no, o.no, e.layer, e.amount
    from points.operation o join points.entry e on e.operation_no = o.subject_no and e.credit_no = o.account_no
    where o.account_no = any(%(numbers)s::bigint[]) and o.kind = 'receive'
) as moved
group by account_no, operation_no, layer

-- name: reservations_of
-- The reservations of accounts.
select operation_no, account_no, amount, posted, expires_at, layer::text, resolved_by::text
from points.reservation where account_no = any(%(numbers)s::bigint[])

-- name: reversals_of
-- How much was reversed of the operations of accounts.
select r.subject_no, o.account_no, r.amount
from points.reversal r join points.operation o on o.no = r.subject_no
where o.account_no = any(%(numbers)s::bigint[])

-- name: reversed_transfers_of
-- Transfers of accounts that were reversed, in full or in part, with what both sides say.
select t.account_no, t.no, t.amount, r.amount as arrived, sum(v.amount)::bigint as reversed,
  coalesce(sum(g.amount), 0)::bigint as given
from points.operation v
join points.operation t on t.no = v.subject_no and t.kind = 'transfer'
join points.operation r on r.key = 'receive:' || t.key and r.subject_no = t.no
left join points.operation g on g.key = 'give_back:' || v.key and g.subject_no = v.no
where v.account_no = any(%(numbers)s::bigint[]) and v.kind = 'reverse' and v.refusal is null
group by t.account_no, t.no, r.amount

-- name: cuts_of
-- What accounts had cut out of their lots.
select o.account_no, c.operation_no, c.amount, from_on, from_bucket, from_offset, to_on, to_bucket, to_offset, newest
from points.cut c join points.operation o on o.no = c.operation_no
where o.account_no = any(%(numbers)s::bigint[])
order by c.operation_no, c.line

-- name: lots_of
-- The lots of accounts.
select account_no, operation_no, expires_on, bucket, first, amount
from points.lot where account_no = any(%(numbers)s::bigint[])
order by operation_no, expires_on, bucket, first

-- name: entry_sums
-- What all entries add up to, by layer: nothing.
select layer::text, sum(change) as amount from (
    select layer, credit_no as no, sum(amount) as change from points.entry group by 1, 2
    union all
    select layer, debit_no, -sum(amount) from points.entry group by 1, 2
) as moved
group by layer

-- name: account_state
-- How an account stands, without a lock.
select a.member_id, b.*, clock_timestamp() as now,
  (select amount from points.bucket r where r.account_no = b.account_no and expires_on = '0001-01-01') as rolling
from points.balance b join points.account a on a.no = b.account_no
where a.member_id = %(member_id)s

-- name: open_reservations
-- What is reserved of an account.
select r.operation_no, r.account_no, %(member_id)s as member_id, r.amount, r.posted, r.expires_at, r.layer::text,
  r.resolved_by::text
from points.reservation r
where r.account_no = %(account_no)s and r.resolved_by is null
order by r.operation_no

-- name: balance_at
-- The balances after the last operation up to an instant.
select posted, pending, held, owed
from points.operation
where account_no = %(account_no)s and at <= %(at)s and refusal is null
order by at desc
limit 1

-- name: statuses
-- The status of accounts, and of those that are not open who set it.
select a.member_id, b.status, s.asked_by as set_by
from points.account a
join points.balance b on b.account_no = a.no
left join lateral (
    select o.asked_by from points.operation o
    where o.account_no = a.no and o.kind = 'set_status' and o.refusal is null
    order by o.at desc limit 1
) as s on b.status <> 'open'
where a.member_id = any(%(member_ids)s::text[])

-- name: first_after
-- What happened first after an instant.
select kind::text from points.operation
where account_no = %(account_no)s and at > %(at)s and refusal is null
order by at
limit 1

-- name: account_of_member
-- The account of a member.
select no, opened_at from points.account where member_id = %(member_id)s

-- name: operation
-- One operation.
select o.asked_by, o.no, o.key, o.kind::text, o.amount, o.subject_no, o.at, o.refusal, o.details, o.posted, o.pending, o.held,
  o.owed, a.member_id
from points.operation o left join points.account a on a.no = o.account_no
where o.no = %(no)s

-- name: operation_of_account
-- When an operation of an account happened.
select at from points.operation where no = %(no)s and account_no = %(account_no)s

-- name: operations_before
-- The operations of an account, the newest first, before one that happened at an instant.
select o.no, o.key, o.kind::text, o.amount, o.subject_no, o.at, o.refusal, o.details, o.posted, o.pending, o.held,
  o.owed, a.member_id
from points.operation o join points.account a on a.no = o.account_no
where o.account_no = %(account_no)s
  and (o.at, o.no) < (%(at)s::timestamptz, %(before)s)
order by o.at desc, o.no desc
limit %(limit)s

-- name: members_of_due_holds
-- Members with holds whose time is over, those first that are longest over.
select distinct member_id
from (
    select account_no from points.reservation
    where resolved_by is null and expires_at <= coalesce(%(now)s, clock_timestamp())
    order by expires_at
    limit %(limit)s
) as due join points.account a on a.no = due.account_no

-- name: expired_until
-- The last day whose points have been let expire.
select expired_until, coalesce(%(now)s, clock_timestamp()) as now from points.due

-- name: note_expired_until
-- Remembers that the points of all days up to one have been let expire.
update points.due set expired_until = greatest(expired_until, %(day)s)

-- name: members_with_expiring
-- Members after an account who may have points that are over: of a day since `since`, or with their activity.
select no, member_id from points.account where no in (
    (select distinct e.account_no from points.bucket e
     where e.expires_on > %(since)s and e.expires_on < %(today)s and e.account_no > %(after)s
     order by e.account_no limit %(limit)s)
    union
    (select r.account_no from points.bucket r join points.balance b using (account_no)
     where r.expires_on = '0001-01-01' and r.amount > b.rolling_offset and b.rolling_until < %(today)s
       and r.account_no > %(after)s
     order by r.account_no limit %(limit)s)
)
order by no
limit %(limit)s

-- name: operations_between
-- What was done on an account in a period.
select no, kind::text, amount, at, subject_no, details, posted, pending, held, owed
from points.operation
where account_no = %(account_no)s and at >= %(since)s and at < %(until)s and refusal is null
order by at

-- name: lots_in_buckets
-- The lots of some buckets of an account, and when they were earned.
select l.operation_no, l.expires_on, l.bucket, l.first, l.amount, o.at
from unnest(%(days)s::date[], %(numbers)s::int[]) as given (day, number)
join points.lot l on l.account_no = %(account_no)s and l.expires_on = given.day and l.bucket = given.number
join points.operation o on o.no = l.operation_no

-- name: outstanding
-- Points that were not spent, by the day on which they expire; null: those that live with their member's activity and have
-- no day yet, and those that never expire.
select case when expires_on = '9999-12-31' then null else expires_on end as expires_on, sum(points)::bigint as points
from (
    -- what lies from the frontier on
    select case when b.expires_on = '0001-01-01' then f.rolling_until else b.expires_on end as expires_on,
      case when b.expires_on = '0001-01-01' then b.amount - f.rolling_offset
           when (b.expires_on, b.no) = (f.frontier_on, f.frontier_bucket) then b.amount - f.frontier_offset
           else b.amount end as points
    from points.bucket b join points.balance f using (account_no)
    where b.expires_on = '0001-01-01' or (b.expires_on, b.no) >= (f.frontier_on, f.frontier_bucket)
    union all -- what came back before it, and what was taken out of turn after it
    select case when (range ->> 0)::date = '0001-01-01' then f.rolling_until else (range ->> 0)::date end,
      sign * ((range ->> 3)::bigint - (range ->> 2)::bigint)
    from points.balance f
    cross join lateral (
        select value as range, 1 as sign from jsonb_array_elements(f.gaps) where f.gaps is not null
        union all
        select value, -1 from jsonb_array_elements(f.holes) where f.holes is not null
    ) as piece
    union all -- what is held
    select case when b.expires_on = '0001-01-01' then f.rolling_until else b.expires_on end,
      case when (b.expires_on, b.no) = (c.to_on, c.to_bucket) then c.to_offset else b.amount end
      - case when (b.expires_on, b.no) = (c.from_on, c.from_bucket) then c.from_offset else 0 end
    from points.reservation r
    join points.balance f using (account_no)
    join points.cut c using (operation_no)
    join points.bucket b on b.account_no = r.account_no and b.no <= c.newest
      and (b.expires_on, b.no) between (c.from_on, c.from_bucket) and (c.to_on, c.to_bucket)
      and (b.expires_on > '0001-01-01' or c.to_on = '0001-01-01')
    where r.layer = 'held' and r.resolved_by is null
) as found
group by 1
having sum(points) <> 0
order by 1

-- name: posted_total
-- What all members have.
select coalesce(sum(posted), 0)::bigint as posted from points.balance

-- name: cohorts
-- Points earned and expired, by the month in which they were earned; those of the last months are left out, since they
-- may still be spent.
select earned.month, earned.points, coalesce(gone.points, 0)::bigint as expired
from (
    select date_trunc('month', o.at)::date as month, sum(l.amount)::bigint as points
    from points.lot l join points.operation o on o.no = l.operation_no
    where l.expires_on > '0001-01-01' and l.expires_on < %(today)s
    group by 1
) as earned
left join (
    select date_trunc('month', made.at)::date as month,
      sum(least(l.first + l.amount, piece.high) - greatest(l.first, piece.low))::bigint as points
    from points.operation o
    join points.cut c on c.operation_no = o.no
    join points.bucket b on b.account_no = o.account_no and b.no <= c.newest and b.expires_on > '0001-01-01'
      and (b.expires_on, b.no) between (c.from_on, c.from_bucket) and (c.to_on, c.to_bucket)
    cross join lateral (
        select case when (b.expires_on, b.no) = (c.from_on, c.from_bucket) then c.from_offset else 0 end as low,
          case when (b.expires_on, b.no) = (c.to_on, c.to_bucket) then c.to_offset else b.amount end as high
    ) as piece
    join points.lot l on l.account_no = o.account_no and l.expires_on = b.expires_on and l.bucket = b.no
      and l.first < piece.high and l.first + l.amount > piece.low
    join points.operation made on made.no = l.operation_no
    where o.kind = 'expire'
    group by 1
) as gone using (month)
order by 1

-- name: payments
-- What is known of payments.
select payment_id, member_id, amount_minor, earned, promised_no, captured_minor, confirmed, confirmed_no, refunded_minor,
  refunds, occurred_at, promoted
from points.payment where payment_id = any(%(payment_ids)s::text[])

-- name: save_payments
-- Remembers what became of payments.
insert into points.payment (
    payment_id, member_id, amount_minor, earned, promised_no, captured_minor, confirmed, confirmed_no, refunded_minor,
    refunds, occurred_at, promoted
)
select payment_id, member_id, amount_minor, earned, promised_no, captured_minor, confirmed, confirmed_no,
  refunded_minor, refunds, occurred_at, promoted
from json_to_recordset(%(rows)s::json) as given (
    payment_id text, member_id text, amount_minor bigint, earned bigint, promised_no bigint, captured_minor bigint,
    confirmed bigint, confirmed_no bigint, refunded_minor bigint, refunds text[], occurred_at timestamptz,
    promoted jsonb
)
on conflict (payment_id) do update
set earned = excluded.earned, captured_minor = excluded.captured_minor, confirmed = excluded.confirmed, confirmed_no = excluded.confirmed_no,
  refunded_minor = excluded.refunded_minor, refunds = excluded.refunds, promoted = excluded.promoted

-- name: earners
-- What a member has earned by payments in a day and in a month, and which tier holds.
select given.member_id, t.tier,
  coalesce(sum(p.earned) filter (where p.occurred_at >= %(day)s and p.occurred_at < %(day_end)s), 0)::bigint as today,
  coalesce(sum(p.earned), 0)::bigint as this_month,
  not exists (select from points.payment e where e.member_id = given.member_id) as is_first
from unnest(%(member_ids)s::text[]) as given (member_id)
left join points.tier t on t.member_id = given.member_id
left join points.payment p on p.member_id = given.member_id and p.occurred_at >= %(month)s
  and p.occurred_at < %(month_end)s
where exists (select from points.account a where a.member_id = given.member_id)
group by given.member_id, t.tier

-- name: promoted
-- What promotions gave members in a day, in its month, and in all since an instant.
select p.member_id, given.name,
  coalesce(sum(given.points::bigint) filter (where p.occurred_at >= %(day)s and p.occurred_at < %(day_end)s), 0)::bigint
    as day,
  coalesce(sum(given.points::bigint) filter (where p.occurred_at >= %(month)s and p.occurred_at < %(month_end)s), 0)::bigint
    as month,
  coalesce(sum(given.points::bigint), 0)::bigint as promotion
from points.payment p cross join lateral jsonb_each_text(p.promoted) as given (name, points)
where p.member_id = any(%(member_ids)s::text[]) and p.promoted is not null and given.name = any(%(names)s::text[])
  and (%(since)s::timestamptz is null or p.occurred_at >= %(since)s)
group by p.member_id, given.name

-- name: qualifying
-- The qualifying points of members in a period: of what was reversed the same share does not count.
select a.member_id, coalesce(sum(floor(q.qualifying * (o.amount - coalesce(r.amount, 0)) / o.amount)), 0)::bigint as points
from points.account a
join points.operation o on o.account_no = a.no and o.at >= %(since)s and o.at < %(until)s and o.refusal is null
  and o.kind in ('earn', 'confirm')
left join points.operation s on o.kind = 'confirm' and s.no = o.subject_no
left join points.reversal r on r.subject_no = o.no
cross join lateral (
    select coalesce((coalesce(s.details, o.details) ->> 'qualifying')::numeric, 0) * o.amount
      / coalesce(s.amount, o.amount) as qualifying
) as q
where a.member_id = any(%(member_ids)s::text[])
group by a.member_id

-- name: lock_tiers
-- The tiers of members, locked in the order of their ids.
select member_id, tier, valid_until from points.tier
where member_id = any(%(member_ids)s::text[]) order by member_id for update

-- name: save_tiers
-- Writes tiers.
insert into points.tier (member_id, tier, valid_until)
select member_id, tier, valid_until
from json_to_recordset(%(rows)s::json) as given (member_id text, tier text, valid_until date)
order by member_id
on conflict (member_id) do update set tier = excluded.tier, valid_until = excluded.valid_until

-- name: overdue_tiers
-- Members whose tier does not hold any more.
select member_id from points.tier where valid_until < %(today)s and tier <> %(lowest)s
order by member_id limit %(limit)s
