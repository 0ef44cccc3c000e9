"""What every provider of the sandbox has in common: a statement of what it promises, and the shape of a call.

A provider reads a request, works it out and words the answer. It never meets a fault, the disk or a socket:
`routes` and `callbacks` do that for all of them alike.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import orjson

from faregate.kernel.errors import ForbiddenError, InvalidError
from faregate.sandbox.executions import Execution, Order
from faregate.sandbox.people import Identity, Record


class Unauthorised(ForbiddenError):
    """The caller does not prove who it is."""


class OrderNotUnderstood(InvalidError):
    """The body of a request breaks the provider's own schema."""


class NotOffered(InvalidError):
    """The provider does not do this for anybody; its statement says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a provider promises. `look_up_lag_s_max`: a look-up sees an executed call after it worked for that long.

    `signs_time`: the signature of its callbacks covers the time of the signing.
    """

    name: str
    check: str
    protocol: str
    authentication: str
    asynchronous: bool
    deduplicates: bool
    callback: bool
    polls: bool
    submit_path: str
    look_up_path: str
    look_up_lag_s_max: float = 2.0
    signs_time: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as it arrived. `path` as sent, `now` in Unix seconds."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer before it is sent."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Provider(ABC):
    """One provider of the world."""

    statement: ClassVar[Statement]

    @abstractmethod
    def authenticate(self, call: Call) -> None:
        """Raise `Unauthorised` unless the caller proves who it is."""

    @abstractmethod
    def read_order(self, body: bytes) -> tuple[Order, Identity]:
        """Return what is asked and about whom. Raises `OrderNotUnderstood`."""

    @abstractmethod
    def work(self, record: Record) -> dict[str, Any]:
        """Return what this provider knows, in its own words."""

    @abstractmethod
    def result(self, execution: Execution) -> Reply:
        """Word the result of the work."""

    def pending(self, execution: Execution) -> Reply:
        """Word that the work goes on. Raises `NotOffered` where it is done at once."""
        raise NotOffered(f"{self.statement.name} answers at once", reference=execution.reference)

    def answer(self, execution: Execution) -> Reply:
        """Word the answer to the call that asked for the work."""
        return replace(self.pending(execution), status=202) if self._asynchronous else self.result(execution)

    def look_up_answer(self, execution: Execution, *, now: float) -> Reply:
        """Word the answer to a look-up by reference at an instant."""
        waiting = self._asynchronous and now < execution.ready_at
        return self.pending(execution) if waiting else self.result(execution)

    def callback(self, execution: Execution, *, now: float, genuine: bool = True) -> Reply:  # noqa: ARG002
        """Word the message to the caller's own address; `genuine` False signs it with a wrong key.

        Raises `NotOffered`.
        """
        raise NotOffered(f"{self.statement.name} never calls back", reference=execution.reference)

    @property
    def _asynchronous(self) -> bool:
        return self.statement.asynchronous

    def problem(self, status: int, *, code: str, reference: str = "") -> Reply:
        """Word a refusal."""
        return json_reply({"error": code, "reference": reference}, status=status)

    def nonsense(self) -> Reply:
        """Word a success of another shape than documented."""
        return json_reply({"ok": True, "data": [1, 2, 3]})


def json_reply(body: Mapping[str, Any], *, status: int = 200) -> Reply:
    """Return a JSON answer."""
    return Reply(status=status, body=orjson.dumps(body))


def read_json(body: bytes) -> Mapping[str, Any]:
    """Return the object in a body. Raises `OrderNotUnderstood`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise OrderNotUnderstood("the body is no JSON") from error
    if not isinstance(value, dict):
        raise OrderNotUnderstood("the body is no JSON object")
    return value


def text(body: Mapping[str, Any], name: str) -> str:
    """Return a required text of a body. Raises `OrderNotUnderstood`."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise OrderNotUnderstood(f"{name} is missing or no text", field=name)
    return value


def number(body: Mapping[str, Any], name: str) -> int:
    """Return a required whole number of a body. Raises `OrderNotUnderstood`."""
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise OrderNotUnderstood(f"{name} is missing or no whole number", field=name)
    return value


def same(given: str | None, expected: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest((given or "").encode(), expected.encode())
