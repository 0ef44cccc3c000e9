"""What can stand on a list, and which facts of rules come of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from faregate.fraud.contracts.lists import ListKind, ListName
from faregate.kernel.errors import InvalidError

_WORDS: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ufffe\uffff]{1,64}")
_CARD_NUMBER: Final = re.compile(r"[\d -]{12,}")
_FORMS: Final[Mapping[ListKind, tuple[re.Pattern[str], str]]] = {
    ListKind.CARD: (
        re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}"),
        "a card is listed by its token, such as crd_01J3R2J7F1TQ0K6W6N8A4X9V7R",
    ),
    ListKind.MEMBER: (_WORDS, "a member is listed by an id of 1 to 64 characters"),
    ListKind.MERCHANT: (_WORDS, "a merchant is listed by an id of 1 to 64 characters"),
    ListKind.IP_TOKEN: (
        re.compile(r"ip_[0-9a-f]{24}"),
        "an address is listed by its pseudonym: ip_ and 24 hexadecimal digits",
    ),
    ListKind.DEVICE: (_WORDS, "a device is listed by an id of 1 to 64 characters"),
    ListKind.COUNTRY: (re.compile(r"[A-Z]{2}"), "a country is two capital letters, as in ISO 3166"),
}

NAMES: Final = frozenset(
    {name.value for name in ListName} | {f"{name}_{kind}" for name in ListName for kind in ListKind}
)
"""The facts of lists: `block` if anything of a payment is on that list, `block_card` if the card is."""


class ListValueInvalid(InvalidError):
    """Nothing of this kind has such a value."""


def require_value(kind: ListKind, value: str) -> None:
    """Raise ListValueInvalid for a value that nothing of this kind can have; it is not repeated."""
    form, says = _FORMS[kind]
    if kind in (ListKind.CARD, ListKind.MEMBER, ListKind.DEVICE) and _CARD_NUMBER.fullmatch(value):
        raise ListValueInvalid("nothing is listed by the number of a card, only by its token")
    if form.fullmatch(value) is None:
        raise ListValueInvalid(says)


def facts_of_lists(found: Mapping[ListKind, frozenset[str]]) -> dict[str, bool]:
    """Return all facts of lists, from the lists on which each part of a payment stands."""
    facts = dict.fromkeys(NAMES, False)
    for kind, names in found.items():
        for name in names:
            facts[name] = facts[f"{name}_{kind}"] = True
    return facts
