"""The libraries that our policies are compared with, set up with the features and thresholds of each row.

pyresilience 0.4, interlock-cb 2.8 and pybreaker 1.4, by the interfaces that their own documentation names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any

from faregate.kernel.errors import UnavailableError

WINDOW_CALLS, WINDOW_S, CALLS_MIN = 100, 10, 20
SLOW_S, TIMEOUT_S = 60.0, 30.0
IN_FLIGHT_MAX = 64
RATE_PER_S = 1_000_000_000
"""So many that the bucket is asked and charged, and never empty."""
INTERLOCK, PYRESILIENCE, PYBREAKER = "interlock-cb", "pyresilience", "pybreaker"

Call = Callable[[], Awaitable[None]]


class PeersMissing(UnavailableError):
    """The libraries that the gateway is compared with are not installed."""


def require_peers() -> None:
    """Raise PeersMissing, with what to do about it, unless the extra `[bench]` is installed."""
    missing = [name for name in ("interlock", "pybreaker", "pyresilience") if find_spec(name) is None]
    if missing:
        raise PeersMissing(
            f"not installed: {', '.join(missing)}; the extra [bench] has them, as `make bench` does"
        )


def by_count(call: Call) -> dict[str, Call]:
    """Return the call behind a breaker over the last calls, which also counts the slow ones."""
    breaker = _interlock_breaker(time_window=False)
    return {INTERLOCK: lambda: breaker.call_async(call), PYRESILIENCE: _resilient(call)}


def by_time(call: Call) -> dict[str, Call]:
    """Return the call behind a breaker over the last seconds. pyresilience has no such window."""
    breaker = _interlock_breaker(time_window=True)
    return {INTERLOCK: lambda: breaker.call_async(call)}


def plain(call: Callable[[], None]) -> dict[str, Callable[[], object]]:
    """Return a plain function behind a breaker over the last calls; pybreaker counts failures in a row only."""
    import pybreaker

    breaker = _interlock_breaker(time_window=False)
    return {
        INTERLOCK: lambda: breaker.call_sync(call),
        PYRESILIENCE: _resilient(call),
        PYBREAKER: pybreaker.CircuitBreaker(fail_max=CALLS_MIN)(call),
    }


def in_part(call: Call) -> dict[str, Call]:
    """Return the call behind a breaker, a bulkhead and a time-out. interlock-cb has no rate limit."""
    from interlock import BulkheadStrategy, CircuitBreakerStrategy, Pipeline, TimeoutStrategy
    from pyresilience import BulkheadConfig, TimeoutConfig

    pipeline = Pipeline(
        CircuitBreakerStrategy(_interlock_breaker(time_window=False)),
        BulkheadStrategy(IN_FLIGHT_MAX),
        TimeoutStrategy(TIMEOUT_S),
    )
    limits = {"bulkhead": BulkheadConfig(IN_FLIGHT_MAX), "timeout": TimeoutConfig(TIMEOUT_S)}
    return {INTERLOCK: pipeline(call), PYRESILIENCE: _resilient(call, **limits)}


def everything(call: Call) -> dict[str, Call]:
    """Return the call behind all of it; only pyresilience has all."""
    from pyresilience import BulkheadConfig, RateLimiterConfig, RetryBudgetConfig, RetryConfig, TimeoutConfig

    return {
        PYRESILIENCE: _resilient(
            call,
            bulkhead=BulkheadConfig(IN_FLIGHT_MAX),
            rate_limiter=RateLimiterConfig(max_calls=RATE_PER_S, period=1.0),
            retry=RetryConfig(),
            retry_budget=RetryBudgetConfig(),
            timeout=TimeoutConfig(TIMEOUT_S),
        )
    }


def _resilient(call: Callable[[], Any], **further: Any) -> Callable[[], Any]:
    from pyresilience import CircuitBreakerConfig, resilient

    breaker = CircuitBreakerConfig(
        sliding_window_size=WINDOW_CALLS,
        minimum_calls=CALLS_MIN,
        failure_rate_threshold=0.5,
        slow_call_duration=SLOW_S,
    )
    protected: Callable[[], Any] = resilient(circuit_breaker=breaker, **further)(call)
    return protected


def _interlock_breaker(*, time_window: bool) -> Any:
    from interlock import CircuitBreaker, Config, WindowType

    config = Config(
        minimum_number_of_calls=CALLS_MIN,
        failure_rate_threshold=0.5,
        slow_call_duration_threshold=SLOW_S,
        window_type=WindowType.TIME_BASED if time_window else WindowType.COUNT_BASED,
        window_size=WINDOW_S if time_window else WINDOW_CALLS,
    )
    return CircuitBreaker(name="bench", config=config)
