"""Whether a schema of an event may take the place of one that was released.

Events are kept for years and their readers are deployed apart. So both must hold:

- backward: a reader of the new schema reads all data that was written after the old one;
- forward: a reader of the old schema reads all data that is written after the new one.

A writer writes the fields that its schema declares and no others; a reader ignores fields that it does not know.
Optional fields may therefore come and go, and nothing else about a type may change. Which versions there are, and what
to do about a break, does not belong here (`released`).
"""

from __future__ import annotations

from faregate.events.compatibility.reading import Gap, unread
from faregate.events.identity import Schema

__all__ = ["Gap", "backward_gaps", "forward_gaps"]


def backward_gaps(*, released: Schema, current: Schema) -> list[Gap]:
    """Return why a reader of the current schema may refuse or misread data that was written after the released one."""
    return unread(written=released, read=current, is_with_defaults=True)


def forward_gaps(*, released: Schema, current: Schema) -> list[Gap]:
    """Return why a reader of the released schema may refuse data that is written after the current one.

    Defaults are left to the other direction: a default that changed is one break, not two.
    """
    return unread(written=current, read=released, is_with_defaults=False)
