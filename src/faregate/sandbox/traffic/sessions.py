"""Members online and in shops, and accounts that are taken over: payments, what surrounds them, and who did it.

    story = tell(Plot(seed=7, members=50, payments=500, takeovers=5))

A member comes with one of a few devices from the same address, clicks, pays, leaves, and pays in shops besides. Whoever
takes an account over tries many passwords from one address, gets in with a device that nobody knows, changes the
password, clicks little and pays much. The same plot is the same story on every machine.

The simulator of the benchmark is not touched by any of this: its figures stay comparable (`benchmark.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from faregate.kernel.errors import InvalidError

DURATION_S: Final = 3_000
"""A story lasts so long, as it happens: what is told afterwards is not too late for a payment yet."""
MERCHANTS: Final = tuple(
    (f"mer_{n:04d}", (5411, 5812, 5732, 5541, 5311, 5942, 4111)[n % 7]) for n in range(60)
)
SPOILS: Final = tuple((f"mer_9{n:03d}", (5732, 5944, 6051, 5816)[n % 4]) for n in range(8))
"""Where whoever took an account over buys: what can be sold again."""
HOME_COUNTRIES: Final = ("DE", "DE", "DE", "FR", "AT", "NL")
FAR_COUNTRIES: Final = ("RO", "BR", "VN")
PAGES: Final = ("home", "account", "offers", "cart", "checkout", "rewards")
TRIES: Final = range(4, 12)
"""So many passwords are tried before one fits."""
STRIKES: Final = range(2, 6)
"""So many payments are made before somebody notices."""
CHANGED: Final = 0.7
"""In so many accounts the password is changed before anything is bought."""
FORGETFUL: Final = 0.08
IN_SHOPS: Final = 0.4


class PlotInvalid(InvalidError):
    """There are more accounts to take over than members, or more thefts than payments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """What a story is about. The payments of those who take accounts over are among the payments."""

    seed: int = 0
    members: int = 50
    payments: int = 500
    takeovers: int = 5

    def __post_init__(self) -> None:
        """Refuse what cannot be told."""
        if self.members < 1 or self.payments < 1 or self.takeovers < 0:
            raise PlotInvalid("a story has a member and a payment at least")
        if self.takeovers > self.members or self.takeovers * STRIKES.stop > self.payments:
            raise PlotInvalid(
                f"{self.takeovers} accounts cannot be taken over with {self.members} members, {self.payments} payments"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that a member, or somebody in a member's name, does `at_s` seconds into the story.

    `kind` is `payment`, or what a reported event is called; `says` is its body but for who and when.
    """

    at_s: float
    member: int
    kind: str
    says: Mapping[str, Any]
    is_fraud: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Somebody with habits. The mean amount is in minor units."""

    number: int
    country: str
    ip: str
    devices: Sequence[str]
    mean_minor: int
    merchants: Sequence[tuple[str, int]]


@dataclass(kw_only=True)
class _Scene:
    """Acts of one member that follow each other."""

    member: int
    at_s: float
    acts: list[Act] = field(default_factory=list)

    def act(
        self, kind: str, says: Mapping[str, Any], *, after_s: float = 0.0, is_fraud: bool = False
    ) -> None:
        self.at_s += after_s
        self.acts.append(
            Act(at_s=round(self.at_s, 3), member=self.member, kind=kind, says=says, is_fraud=is_fraud)
        )


def tell(plot: Plot) -> Sequence[Act]:
    """Return the story in the order in which it happens."""
    draw = random.Random(f"faregate/sessions/{plot.seed}")  # noqa: S311 - a story, not a secret
    members = [_member(number, draw) for number in range(plot.members)]
    victims = draw.sample(members, plot.takeovers)
    strikes = [draw.choice(STRIKES) for _ in victims]
    acts: list[Act] = []
    for victim, count in zip(victims, strikes, strict=True):
        acts += _takeover(victim, draw, payments=count)
    left = plot.payments - sum(strikes)
    while left:
        scene = _visit(draw.choice(members), draw, payments_max=left)
        left -= sum(act.kind == "payment" for act in scene)
        acts += scene
    return sorted(acts, key=lambda act: (act.at_s, act.member, act.kind))


def _member(number: int, draw: random.Random) -> Member:
    """Somebody lives at one address, of the shared space of RFC 6598 or of the documentation of IPv6."""
    home = f"100.{64 + number // 62_500 % 64}.{number // 250 % 250}.{1 + number % 250}"
    return Member(
        number=number,
        country=draw.choice(HOME_COUNTRIES),
        ip=home if draw.random() < 0.7 else f"2001:db8:{number // 65_536:x}:{number % 65_536:x}::7",
        devices=[f"dev_{draw.getrandbits(48):012x}" for _ in range(draw.choice((1, 1, 2)))],
        mean_minor=round(draw.lognormvariate(8.0, 0.5)),
        merchants=draw.sample(MERCHANTS, 8),
    )


def _visit(member: Member, draw: random.Random, *, payments_max: int) -> Sequence[Act]:
    """A member pays in a shop, or comes online and perhaps pays."""
    scene = _Scene(member=member.number, at_s=draw.uniform(0, DURATION_S - 300))
    if draw.random() < IN_SHOPS:
        merchant, category = draw.choice(member.merchants)
        where = {"channel": "in_store", "terminal_id": f"ter_{merchant[4:]}", "device_id": None, "ip": None}
        scene.act("payment", _payment(member, draw, merchant, category) | where)
        return scene.acts
    device = draw.choice(member.devices)
    here = {"device_id": device, "ip": member.ip, "session_id": f"ses_{draw.getrandbits(48):012x}"}
    if draw.random() < FORGETFUL:
        scene.act("login", {**here, "succeeded": False})
    scene.act("login", {**here, "succeeded": True}, after_s=draw.uniform(2, 20))
    scene.act("device", here, after_s=0.2)
    begins_s, clicks = scene.at_s, draw.randint(3, 12)
    for _ in range(clicks):
        after_s = draw.expovariate(1 / 9)
        scene.act("click", {**here, "page": draw.choice(PAGES)}, after_s=after_s)
    for _ in range(min(payments_max, draw.choice((0, 1, 1, 1, 2)))):
        merchant, category = draw.choice(member.merchants)
        after_s = draw.uniform(5, 40)
        paid = _payment(member, draw, merchant, category) | _online(device, member.ip)
        scene.act("payment", paid, after_s=after_s)
    lasted = {"duration_s": round(scene.at_s + 5 - begins_s), "clicks": clicks}
    scene.act("session", {**here, **lasted}, after_s=5)
    return scene.acts


def _takeover(victim: Member, draw: random.Random, *, payments: int) -> Sequence[Act]:
    """Somebody gets into a member's account and pays with it; the middle of the story, so that habits are known."""
    scene = _Scene(member=victim.number, at_s=draw.uniform(DURATION_S / 2, DURATION_S - 900))
    device, ip = f"dev_{draw.getrandbits(48):012x}", f"203.0.113.{draw.randint(1, 20)}"
    here = {"device_id": device, "ip": ip, "session_id": f"ses_{draw.getrandbits(48):012x}"}
    for _ in range(draw.choice(TRIES)):
        scene.act("login", {**here, "succeeded": False}, after_s=draw.uniform(0.5, 3))
    scene.act("login", {**here, "succeeded": True}, after_s=1)
    scene.act("device", here, after_s=0.2)
    begins_s = scene.at_s
    scene.act("click", {**here, "page": "account"}, after_s=2)
    if draw.random() < CHANGED:
        scene.act("password_change", here, after_s=draw.uniform(5, 20))
    country = draw.choice(FAR_COUNTRIES)
    for _ in range(payments):
        merchant, category = draw.choice(SPOILS)
        much = {"amount_minor": round(victim.mean_minor * draw.uniform(4, 15)), "country": country}
        paid = _payment(victim, draw, merchant, category) | much | _online(device, ip)
        scene.act("payment", paid, after_s=draw.uniform(10, 60), is_fraud=True)
    lasted = {"duration_s": round(scene.at_s + 2 - begins_s), "clicks": 1}
    scene.act("session", {**here, **lasted}, after_s=2)
    return scene.acts


def _online(device: str, ip: str) -> dict[str, Any]:
    return {"channel": "online", "terminal_id": None, "device_id": device, "ip": ip}


def _payment(member: Member, draw: random.Random, merchant: str, category: int) -> dict[str, Any]:
    return {
        "amount_minor": max(50, round(draw.lognormvariate(0, 0.6) * member.mean_minor)),
        "currency": "EUR",
        "merchant": merchant,
        "merchant_category": category,
        "country": member.country,
    }


def frauds(story: Sequence[Act]) -> Iterator[Act]:
    """Yield the payments of those who took an account over."""
    return (act for act in story if act.is_fraud)
