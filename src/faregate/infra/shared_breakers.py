"""Circuit breakers that all processes share through Valkey, and who those processes are.

Each process decides by itself that calls fail; what it then opens is open for all. How a breaker comes back is counted
once, for all: of the probes of a round each has a lease, so that a prober that was killed keeps nobody waiting for
ever. All time is the server's. What a breaker stands before is the caller's business, as is going on without Valkey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glide import Script

from faregate.infra.cache import Cache

# Returns the state, its generation, the milliseconds that it stays open, the server's time in microseconds, whether
# this call changed it, and how many of the asked leases were granted. Every change of state is a new generation.
_ACT = Script(  # type: ignore[no-untyped-call]
    """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local found = redis.call('HMGET', KEYS[1], 'state', 'generation', 'open_until', 'good', 'bad')
local state, generation = found[1] or 'closed', tonumber(found[2] or '0')
local open_until, good, bad = tonumber(found[3] or '0'), tonumber(found[4] or '0'), tonumber(found[5] or '0')
local changed, granted = 0, 0
local function become(next_state, till)
  state, generation, open_until, good, bad, changed = next_state, generation + 1, till, 0, 0, 1
  redis.call('DEL', KEYS[2])
end
local verb = ARGV[1]
if verb == 'open' then
  local seen = tonumber(ARGV[2])
  if state == 'closed' and seen >= generation then
    generation = seen
    become('open', now + tonumber(ARGV[3]))
  end
elseif verb == 'probe' then
  if state == 'open' and now >= open_until then become('half_open', 0) end
  if state == 'half_open' then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
    local free = tonumber(ARGV[2]) - good - bad - redis.call('ZCARD', KEYS[2])
    for place = 4, #ARGV do
      if granted < free then
        redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[place])
        granted = granted + 1
      end
    end
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
  end
elseif verb == 'report' then
  local probes, successes = tonumber(ARGV[5]), tonumber(ARGV[6])
  if state == 'half_open' and generation == tonumber(ARGV[2]) and redis.call('ZREM', KEYS[2], ARGV[3]) == 1 then
    if ARGV[4] == '1' then good = good + 1 else bad = bad + 1 end
    if good >= successes then
      become('closed', 0)
    elseif bad > probes - successes then
      become('open', now + tonumber(ARGV[7]))
    end
  end
elseif verb == 'release' then
  for place = 2, #ARGV do redis.call('ZREM', KEYS[2], ARGV[place]) end
end
redis.call('HSET', KEYS[1], 'state', state, 'generation', generation, 'open_until', string.format('%.0f', open_until),
  'good', good, 'bad', bad)
redis.call('PEXPIRE', KEYS[1], 86400000)
return {state, generation, math.max(0, open_until - now), clock[1] * 1000000 + clock[2], changed, granted}
"""
)

# Says that a process lives, keeps what it shows, and returns how many live and where each breaker stands.
_BEAT = Script(  # type: ignore[no-untyped-call]
    """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lives = tonumber(ARGV[2])
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now + lives, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], 86400000)
  redis.call('SET', KEYS[2], ARGV[3], 'PX', lives)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local answer = {redis.call('ZCARD', KEYS[1])}
for place = 3, #KEYS do
  local found = redis.call('HMGET', KEYS[place], 'state', 'generation', 'open_until')
  answer[#answer + 1] = {found[1] or 'closed', tonumber(found[2] or '0'),
    math.max(0, tonumber(found[3] or '0') - now), clock[1] * 1000000 + clock[2]}
end
return answer
"""
)

_SHOWN = Script(  # type: ignore[no-untyped-call]
    """
local answer = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local shown = redis.call('GET', KEYS[1] .. ':' .. member)
  if shown then answer[#answer + 1] = member; answer[#answer + 1] = shown end
end
return answer
"""
)


@dataclass(frozen=True, slots=True)
class SharedView:
    """Where a shared breaker stood at `at_us`, the server's time in microseconds, and for how long it stays open.

    Answers may overtake each other; the newest is the one with the latest time. `is_changed`: by the call that this
    answers. `granted`: the first so many of the asked leases are ours.
    """

    state: str
    generation: int
    open_for_s: float
    at_us: int
    is_changed: bool = False
    granted: int = 0


@dataclass(frozen=True, slots=True)
class Census:
    """How many processes live, and where each of the asked breakers stands."""

    processes: int
    views: tuple[SharedView, ...]


class SharedBreakers:
    """The breakers of one kind of process by key. Every method raises CacheUnavailable while Valkey is down."""

    def __init__(self, *, cache: Cache, name: str) -> None:
        self._cache = cache
        self._members = f"processes:{{{name}}}"
        self._prefix = f"breaker:{{{name}}}:"

    async def open(self, key: str, *, seen_generation: int, for_s: float) -> SharedView:
        """Open a breaker that is closed, unless it was changed after the generation that the caller knows."""
        return await self._act(key, "open", str(seen_generation), _ms(for_s))

    async def probe(self, key: str, *, leases: Sequence[str], probes: int, lease_s: float) -> SharedView:
        """Ask for leases of a round's probes; the first caller after the open time begins the round.

        At most `probes` are out or answered in a round, whoever asks; one whose lease ended is given out again.
        """
        return await self._act(key, "probe", str(probes), _ms(lease_s), *leases)

    async def report(
        self,
        key: str,
        *,
        generation: int,
        lease: str,
        is_good: bool,
        probes: int,
        successes: int,
        open_s: float,
    ) -> SharedView:
        """Count a probe's answer; enough good ones close, and too few left to be enough open again."""
        answer = (str(generation), lease, "1" if is_good else "0")
        return await self._act(key, "report", *answer, str(probes), str(successes), _ms(open_s))

    async def release(self, key: str, *, leases: Sequence[str]) -> SharedView:
        """Give leases back under which nothing was sent."""
        return await self._act(key, "release", *leases)

    async def beat(self, member: str, *, lives_s: float, shows: str, keys: Sequence[str]) -> Census:
        """Say that a process lives for `lives_s` more seconds, and see who else does and where breakers stand."""
        return await self._census(member, lives_s, shows, keys)

    async def census(self, *, keys: Sequence[str]) -> Census:
        """See the same as a bystander."""
        return await self._census("", 0.0, "", keys)

    async def shown(self) -> dict[str, bytes]:
        """Return what each living process shows, by its name."""
        answer = await self._cache.run_script(_SHOWN, keys=[self._members], arguments=[])
        return {member.decode(): shown for member, shown in zip(answer[::2], answer[1::2], strict=True)}

    async def _census(self, member: str, lives_s: float, shows: str, keys: Sequence[str]) -> Census:
        own = [self._members, f"{self._members}:{member}"]
        processes, *views = await self._cache.run_script(
            _BEAT, keys=[*own, *(self._prefix + key for key in keys)], arguments=[member, _ms(lives_s), shows]
        )
        return Census(processes, tuple(SharedView(v[0].decode(), v[1], v[2] / 1000, v[3]) for v in views))

    async def _act(self, key: str, *arguments: str) -> SharedView:
        keys = [self._prefix + key, f"{self._prefix}{key}:probes"]
        state, generation, open_ms, at_us, changed, granted = await self._cache.run_script(
            _ACT, keys=keys, arguments=arguments
        )
        return SharedView(state.decode(), generation, open_ms / 1000, at_us, bool(changed), granted)


def _ms(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))
