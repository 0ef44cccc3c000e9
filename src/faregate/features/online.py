"""The features of a transaction from Valkey, updated by it and read in one round trip.

    features = OnlineFeatures(cache, PAYMENTS)
    observed = await features.observe(event)      # a status, and the values as of the event

All of one call happens at once: nobody sees half of an event. What is kept stands in `online_runs.lua`. The event log
stays the record: an empty Valkey is filled again from it, and until then its values are too low.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib.resources import files
from math import isnan
from typing import Final

from faregate.features.declarations import Aggregate, Feature, Value
from faregate.features.facts import (
    Fact,
    FeatureEvent,
    Reversal,
    ReversalById,
    Status,
    code_of,
    source_of,
    timeliness,
)
from faregate.features.feature_set import FeatureSet
from faregate.features.plan import plan_of
from faregate.infra.cache import Cache, FunctionMissing

REMEMBERED_S: Final = 900
"""So long an event that comes again gets the answer of the first time, and another one under its id is refused."""

FILL_S: Final = 60
"""So long the right to fill is kept without a sign of life."""

Finish = Callable[[Sequence[float], FeatureEvent], Value]
Call = tuple[str, Sequence[str | bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How many events stand together; values do not depend on it.

    A run of more than `tail_max` has `cut` of them cut off into a block; a block of more than `block_max` is halved.
    Each event writes the tail anew. Of a run with `few` blocks or more the last block is filled before the next one
    begins; of a smaller one, blocks are small, so that what is old is soon forgotten. A full block of running totals
    fits a size that Valkey's allocator has: 272 times 15 bytes, and a head, in 4,096.
    """

    tail_max: int = 100
    cut: int = 68
    block_max: int = 272
    few: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What came of an event, and the values as of it: none for one without effect, or of a source that does not ask."""

    status: Status
    values: Mapping[str, Value] | None


class OnlineFeatures:
    """One set of features in one Valkey. Sets and versions of them do not meet: each has keys of its own."""

    def __init__(
        self,
        cache: Cache,
        declared: FeatureSet,
        *,
        remembered_s: int = REMEMBERED_S,
        reversible_s: int = 0,
        layout: Layout = Layout(),
    ) -> None:
        """Keep answers for `remembered_s`, and events for `reversible_s`: so long an id is enough to reverse one."""
        self.declared = declared
        self.prefix = f"f:{declared.version[:8]}:"
        self._cache = cache
        self._remembered_s = remembered_s
        self._reversible_s = reversible_s
        self._layout = layout
        self._plan = plan_of(declared)
        self._observe = f"faregate_features_{declared.version}_observe"
        self._reverse = f"faregate_features_{declared.version}_reverse"
        self._reverse_by_id = f"faregate_features_{declared.version}_reverse_by_id"
        self._fill = f"faregate_features_{declared.version}_fill"
        self._numbers = {source.name: str(number) for number, source in enumerate(declared.sources, start=1)}
        self._format = struct.Struct(f"<{2 * len(self._plan.readings)}d")
        self._finish = [
            (feature.name, _finish(feature, self._plan.reading_of))
            for feature in declared.features
            if feature.aggregate is not Aggregate.RATIO
        ]
        self._ratios = [feature for feature in declared.features if feature.aggregate is Aggregate.RATIO]

    async def load(self) -> None:
        """Bring the functions into Valkey. A call does it by itself when they are not there."""
        await self._cache.load_functions(self.library())

    def library(self) -> str:
        """Return the functions' text, made for this set."""
        parts = files("faregate.features")
        text = "".join(
            (parts / name).read_text(encoding="utf-8") for name in ("online_runs.lua", "online_calls.lua")
        )
        given = {
            "@PLAN@": _lua(self._plan.document),
            "@PREFIX@": self.prefix,
            "@LAYOUT@": ", ".join(map(str, astuple(self._layout))),
            "@OBSERVE@": self._observe,
            "@REVERSE@": self._reverse,
            "@FILL@": self._fill,
            "@REVERSE_BY_ID@": self._reverse_by_id,
        }
        for place, filling in given.items():
            text = text.replace(place, filling)
        return f"#!lua name=faregate_features_{self.declared.version}\n{text}"

    async def observe(self, event: FeatureEvent) -> Observed:
        """Let an event have its effect, and return the values as of it.

        Raises FeatureEventInvalid, FunctionFailed and CacheUnavailable.
        """
        [observed] = await self.apply([event])
        return observed

    async def reverse(self, reversal: Reversal | ReversalById) -> Status:
        """Let an event count as if it had never happened; REVERSED if it is not there (yet)."""
        [observed] = await self.apply([reversal])
        return observed.status

    async def apply(self, facts: Sequence[Fact]) -> Sequence[Observed]:
        """Do that for many, one after the other in one round trip. Doing it again changes nothing."""
        answers: list[Observed | None] = []
        calls: list[Call] = []
        for fact in facts:
            call = self._call(fact)
            answers.append(call if isinstance(call, Observed) else None)
            if not isinstance(call, Observed):
                calls.append(call)
        told = iter(await self._told(calls) if calls else ())
        return [
            self._observed(next(told), fact) if answer is None else answer
            for fact, answer in zip(facts, answers, strict=True)
        ]

    async def begin_to_fill(self, holder: str, *, by_force: bool) -> bool:
        """Take the right to fill what is kept, which is cold from now on; false if somebody else has it.

        It ends by itself after `FILL_S` unless it is kept up. `by_force` takes it from whoever has it.
        """
        await self.load()
        return await self._told_to_fill("begin", holder, str(FILL_S), "force" if by_force else "")

    async def go_on_filling(self, holder: str) -> bool:
        """Keep the right up; false if it is lost."""
        return await self._told_to_fill("go on", holder, str(FILL_S))

    async def end_filling(self, holder: str, incarnation: str) -> bool:
        """Say that everything was applied in this run of Valkey, and give the right back; false if it is lost."""
        return await self._told_to_fill("end", holder, incarnation)

    async def is_warm(self) -> bool:
        """Return whether everything was applied since Valkey was started."""
        filled_in = await self._cache.get_plain(f"w:{self.prefix}warm")
        return filled_in is not None and filled_in.decode() == await self._cache.incarnation()

    async def forget(self) -> int:
        """Forget everything of this set and version, and return how many keys that was."""
        return await self._cache.delete_prefix(self.prefix)

    async def _told_to_fill(self, *arguments: str) -> bool:
        return bool(await self._cache.call_function(self._fill, arguments))

    async def _told(self, calls: Sequence[Call]) -> Sequence[bytes]:
        try:
            return await self._cache.call_functions(calls)
        except FunctionMissing:
            await self.load()
            return await self._cache.call_functions(calls)

    def _call(self, fact: Fact) -> Call | Observed:
        if isinstance(fact, ReversalById):
            return self._reverse_by_id, [self._numbers[fact.source], fact.id]
        event = fact.event if isinstance(fact, Reversal) else fact
        source = source_of(event, self.declared)
        is_reversal = isinstance(fact, Reversal)
        if not is_reversal and (status := timeliness(event, source)) is not Status.APPLIED:
            return Observed(status=status, values=None)
        # Of an event that does not ask there is no answer to remember, and its place tells whether it came before.
        remembered_s = self._remembered_s if source is self.declared.asked_by and not is_reversal else 0
        arguments: list[str | bytes] = [
            self._numbers[event.source],
            event.id,
            str(event.second),
            str(event.within_second),
            str(fact.observed_ms // 1_000),
            _digest(event) if remembered_s else b"",
            str(remembered_s),
            str(0 if is_reversal or source.is_final else self._reversible_s),
            *(event.entities.get(entity, "") for entity in source.entities),
            *(str(event.values[name]) for name in source.numbers),
            *(code_of(event.values[name]) if name in event.values else b"" for name in source.texts),
            *(code_of(event.values[name]) for name in source.numbers),
        ]
        return self._reverse if is_reversal else self._observe, arguments

    def _observed(self, answer: bytes, fact: Fact) -> Observed:
        status, numbers = Status(answer[0]), answer[1:]
        if not numbers or not isinstance(fact, FeatureEvent):
            return Observed(status=status, values=None)
        read = self._format.unpack(numbers)
        values: dict[str, Value] = {name: finish(read, fact) for name, finish in self._finish}
        for ratio in self._ratios:
            above, below = values[ratio.numerator or ""], values[ratio.denominator or ""]
            values[ratio.name] = ratio.default if above is None or not below else above / below
        return Observed(status=status, values={name: values[name] for name in self.declared.feature_named})


def _lua(value: object) -> str:
    """Return a value as Lua writes it."""
    match value:
        case bool():
            return str(value).lower()
        case Mapping():
            return "{" + ", ".join(f"{key} = {_lua(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "{" + ", ".join(map(_lua, value)) + "}"
        case str():
            return f"'{value}'"
    return str(value)


def _digest(event: FeatureEvent) -> bytes:
    """Return what tells this event from another under its id; that it was observed later makes no difference."""
    content = repr((event.at_ms, sorted(event.entities.items()), sorted(event.values.items())))
    return hashlib.blake2b(content.encode(), digest_size=8).digest()


def _finish(feature: Feature, reading_of: Mapping[str, int]) -> Finish:
    """Return what makes the value of two numbers of the reading; they are whole, or NaN where there is nothing."""
    default, field = feature.default, feature.field or ""
    match feature.aggregate:
        case Aggregate.OWN:
            return lambda _, event: int(event.values[field])
        case Aggregate.IS_WEEKEND:
            return lambda _, event: int((event.second // 86_400 + 3) % 7 >= 5)
        case Aggregate.IS_NIGHT:
            return lambda _, event: int(event.second % 86_400 // 3_600 <= 6)
    first = 2 * reading_of[feature.name]
    second = first + 1
    match feature.aggregate:
        case Aggregate.COUNT | Aggregate.DISTINCT:
            return lambda read, _: int(read[first]) if read[first] > 0 else default
        case Aggregate.SUM:
            return lambda read, _: int(read[second]) if read[first] > 0 else default
        case Aggregate.MEAN:
            return lambda read, _: read[second] / read[first] if read[first] > 0 else default
        case Aggregate.MAX:
            return lambda read, _: _whole(read[second], default)
        case Aggregate.TIME_SINCE | Aggregate.TIME_SINCE_FIRST:
            return lambda read, event: _since(event.second, read[second], default)
    return lambda read, _: _whole(read[first], default)


def _whole(number: float, default: Value) -> Value:
    return default if isnan(number) else int(number)


def _since(now: int, second: float, default: Value) -> Value:
    return default if isnan(second) else now - int(second)
