"""Card numbers come in and go no further: not into tables, events, Valkey, logs, nor back to whoever sent them."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from faregate.infra.security.keys import rotate_key
from faregate.payments.domain.cards import luhn_digit
from tests.credit_world import Reply
from tests.payments_world import ATTEMPT, PaymentsWorld, payments_of_module, shared_payments  # noqa: F401
from tests.valkey import asked

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("F14")]

NUMBER = "4111111111111111"
UNKNOWN = "5555555555554444"
BROKEN = "4111111111111112"
LONG = "411111111111111111111111"
NUMBERS = (NUMBER, UNKNOWN, BROKEN, LONG)


def forms_of(number: str) -> list[bytes]:
    """Return the bytes by which a number would be found: as text, in hexadecimal, in base64, as an integer."""
    text = number.encode()
    found = [text, text.hex().encode(), base64.b64encode(text)[:20]]
    return [*found, int(number).to_bytes(8, "little")] if int(number) < 2**63 else found


def numbers_in(data: bytes) -> list[str]:
    return [number for number in NUMBERS if any(form in data for form in forms_of(number))]


async def everything_stored(shared: PaymentsWorld) -> bytes:
    """Return every row of every table as text."""
    tables = await shared.world.sql(
        "select format('%I.%I', schemaname, tablename) as name from pg_tables "
        "where schemaname not in ('pg_catalog', 'information_schema')"
    )
    parts = []
    for table in tables:
        rows = await shared.world.sql(f"select t::text as text from {table['name']} t")
        parts += [row["text"] for row in rows]
    return "\n".join(parts).encode()


async def everything_cached(socket: Path) -> bytes:
    """Return every key of Valkey with its value."""
    keys = await asked(socket, "KEYS", "*")
    dumps = [await asked(socket, "DUMP", key) for key in keys]
    return b"\n".join([*keys, *(dump for dump in dumps if dump)])


async def send_numbers_everywhere(shared: PaymentsWorld) -> list[Reply]:
    """Send numbers wherever one may come in, and wherever somebody might put one by mistake."""
    card = await shared.card()
    number = f"/cards/{card}/number"
    replies = [await shared.post(number, {"card_number": NUMBER}, key="the-number")]
    replies += [await shared.post(number, {"card_number": NUMBER}, key="the-number")]
    replies += [await shared.post(number, {"card_number": n}) for n in (BROKEN, LONG)]
    replies += [await shared.post(number, {"card_number": int(NUMBER)})]
    replies += [await shared.post(f"/cards/{await shared.card()}/number", {"card_number": NUMBER})]
    for given in NUMBERS:
        replies += [await shared.attempt(card_number=given, key=f"pays-{given[:6]}{given[-2:]}")]
        replies += [
            await shared.attempt(card_token=given),
            await shared.attempt(card_token=card, card_number=given),
        ]
        replies += [await shared.attempt(card_number=[given]), await shared.attempt(member_id=given)]
        replies += [await shared.post("/authorizations", f'{{"card_number": "{given}", broken'.encode())]
        replies += [await shared.get(f"/cards/{given}"), await shared.get(f"/cards?member_id={given}")]
        replies += [
            await shared.get(f"/authorizations/{given}"),
            await shared.post(f"/cards/{given}/status", {}),
        ]
    return replies


async def test_no_number_is_stored_cached_logged_announced_or_answered(
    shared: PaymentsWorld, valkey_socket: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    replies = await send_numbers_everywhere(shared)
    assert {reply.status for reply in replies} <= {200, 201, 400, 404, 409, 422}
    paid = [reply.json for reply in replies if reply.status == 201]
    assert [one["status"] for one in paid] == ["authorised", "declined"]
    assert paid[1]["reasons"][0]["code"] == "CARD_UNKNOWN"
    assert shared.scorer.asked[0]["card_token"] == paid[0]["card_token"]
    answers = b"\n".join(reply.body + repr(dict(reply.headers)).encode() for reply in replies)
    assert numbers_in(answers) == []
    assert numbers_in(await everything_stored(shared)) == []
    assert numbers_in(await everything_cached(valkey_socket)) == []
    assert numbers_in(b"\n".join([*shared.scorer.heads, repr(shared.scorer.asked).encode()])) == []
    out, err = capfd.readouterr()
    assert "/api/payments/authorizations" in out + err, "nothing was logged, so nothing was shown"
    assert numbers_in((out + err).encode()) == []


async def test_what_finds_numbers_would_find_one(shared: PaymentsWorld, valkey_socket: Path) -> None:
    await shared.world.sql(
        "create table public.leak (n text); insert into public.leak values ('" + NUMBER + "')"
    )
    await asked(valkey_socket, "SET", "leak", NUMBER)
    assert numbers_in(await everything_stored(shared)) == [NUMBER]
    assert numbers_in(await everything_cached(valkey_socket)) == [NUMBER]
    await shared.world.sql("drop table public.leak")
    await asked(valkey_socket, "DEL", "leak")


async def numbered(shared: PaymentsWorld, digits: str) -> tuple[str, str]:
    """Return a new card and its number."""
    number = digits + luhn_digit(digits)
    card = await shared.card()
    assert (await shared.post(f"/cards/{card}/number", {"card_number": number})).status == 200
    return card, number


async def paid_with(shared: PaymentsWorld, number: str) -> Any:
    return (await shared.post("/authorizations", {**ATTEMPT, "card_number": number})).json["card_token"]


async def key_of(shared: PaymentsWorld, card: str) -> str:
    [row] = await shared.world.sql(
        "select number_key_id from payments.card where token = %(card)s", card=card
    )
    return str(row["number_key_id"])


async def test_a_number_is_found_after_its_key_rotated_and_is_kept_under_the_new_one(
    shared: PaymentsWorld,
) -> None:
    card, number = await numbered(shared, "99999900000100")
    old = await key_of(shared, card)
    new = rotate_key(shared.world.settings.home / "keys.json", purpose="blind_index")
    async with asyncio.timeout(30):
        while await paid_with(shared, number) == card and await key_of(shared, card) == old:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # each try is a payment, which is what notices the new key
    assert await key_of(shared, card) == new
    assert await paid_with(shared, number) == card


async def test_a_card_gets_another_number_and_the_old_one_pays_no_more(shared: PaymentsWorld) -> None:
    card, old = await numbered(shared, "99999900000200")
    new = "99999900000300" + luhn_digit("99999900000300")
    reply = await shared.post(f"/cards/{card}/number", {"card_number": new})
    assert reply.json["last4"] == new[-4:]
    assert await paid_with(shared, new) == card
    assert await paid_with(shared, old) is None


async def test_the_same_number_pays_once_a_key_by_number_as_by_token(shared: PaymentsWorld) -> None:
    _, number = await numbered(shared, "99999900000400")
    body = {**ATTEMPT, "card_number": number}
    first = await shared.post("/authorizations", body, key="by-number")
    again = await shared.post("/authorizations", body, key="by-number")
    assert again.body == first.body
    _, other = await numbered(shared, "99999900000500")
    refused = await shared.post("/authorizations", {**body, "card_number": other}, key="by-number")
    assert refused.problem == (422, "idempotency-key-reused")
