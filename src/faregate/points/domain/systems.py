"""The accounts of the programme, by their numbers in entries."""

from __future__ import annotations

from faregate.points.contracts.ledger import SYSTEM_NUMBERS, System

ISSUED = SYSTEM_NUMBERS[System.ISSUED]
SPENT = SYSTEM_NUMBERS[System.SPENT]
EXPIRED = SYSTEM_NUMBERS[System.EXPIRED]
ADJUSTED = SYSTEM_NUMBERS[System.ADJUSTED]
CONVERTED = SYSTEM_NUMBERS[System.CONVERTED]
WITHHELD = SYSTEM_NUMBERS[System.WITHHELD]
