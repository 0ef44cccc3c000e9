"""The six kinds of expected error. A context names its own situations by subclassing one of them.

HTTP statuses do not belong here: `infra/http/problems.py` maps the kinds to statuses in one table.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, ClassVar


class ErrorKind(StrEnum):
    """What kind of situation an error is; decides the HTTP status and nothing else."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    FORBIDDEN = "forbidden"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"


class FaregateError(Exception):
    """A named, expected situation: `detail` is a sentence for people, `facts` are for machines."""

    kind: ClassVar[ErrorKind]

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts

    @classmethod
    def slug(cls) -> str:
        """The class name in kebab case, the last part of the problem type: `idempotency-key-reused`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def title(cls) -> str:
        """The class name as words: `Idempotency key reused`."""
        return cls.slug().replace("-", " ").capitalize()


class InvalidError(FaregateError):
    """The request cannot be understood or breaks a stated rule."""

    kind = ErrorKind.INVALID


class NotFoundError(FaregateError):
    """The thing does not exist, or not for this caller."""

    kind = ErrorKind.NOT_FOUND


class ConflictError(FaregateError):
    """The request contradicts the present state."""

    kind = ErrorKind.CONFLICT


class ForbiddenError(FaregateError):
    """The caller may not do this."""

    kind = ErrorKind.FORBIDDEN


class LimitedError(FaregateError):
    """The caller exceeded a limit and may try again later."""

    kind = ErrorKind.LIMITED


class UnavailableError(FaregateError):
    """Something that we depend on is not there now; trying again later may help."""

    kind = ErrorKind.UNAVAILABLE
