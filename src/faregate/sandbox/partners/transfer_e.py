"""Transfer partner E: no API, but a folder. It credits what a file tells it, each transfer once, and acknowledges.

An account that ends with `X` is none of its own. A file whose last line does not add up is left alone until it does.
Its faults strike a file: `malformed` acknowledges with half a file at first, `hang_before` not at all for a while.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from faregate.sandbox.faults import Fault, Faults, Stage
from faregate.sandbox.journal import Journal

NAME: Final = "transfer_e"
LOOK_S: Final = 0.2
UNKNOWN_SUFFIX: Final = "X"


class TransferE:
    """Watches its folder. `credited` is what it really gave, by transfer."""

    def __init__(
        self,
        folder: Path,
        *,
        journal: Journal,
        records: Iterable[Mapping[str, Any]],
        faults: Callable[[], Faults],
    ) -> None:
        self._outgoing, self._answers = folder / "outgoing", folder / "acknowledged"
        self._journal = journal
        self._faults = faults
        self._halved: set[str] = set()
        self.credited: dict[str, int] = {
            record["transfer_id"]: record["units"] for record in records if record["type"] == "credited"
        }

    async def watch(self) -> None:
        """Answer files until cancelled."""
        while True:
            for path in sorted(self._outgoing.glob("*.csv")):
                if not self._is_answered(path.stem):
                    await self._answer(path)
            await asyncio.sleep(LOOK_S)

    def _is_answered(self, name: str) -> bool:
        file = f"{name}.ack.csv"
        is_there = (self._answers / file).exists() or (self._answers / "done" / file).exists()
        return is_there and name not in self._halved

    async def _answer(self, path: Path) -> None:
        rows = _read(await asyncio.to_thread(path.read_text, encoding="utf-8"))
        fault = self._faults().draw(Stage.SUBMIT, provider=NAME, reference=path.stem)
        if rows is None or fault is Fault.HANG_BEFORE:
            return
        lines = [["transfer_id", "status", "reason"]]
        for transfer_id, account, units in rows:
            if account.endswith(UNKNOWN_SUFFIX):
                lines.append([transfer_id, "rejected", "unknown_account"])
                continue
            if transfer_id not in self.credited:
                self.credited[transfer_id] = units
                await self._journal.append({"type": "credited", "transfer_id": transfer_id, "units": units})
            lines.append([transfer_id, "accepted", ""])
        is_half = fault is Fault.MALFORMED
        (self._halved.add if is_half else self._halved.discard)(path.stem)
        self._write(path.stem, lines if is_half else [*lines, ["END", str(len(rows)), ""]])

    def _write(self, name: str, lines: list[list[str]]) -> None:
        self._answers.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        part = self._answers / f"{name}.part"
        part.write_text(text.getvalue(), encoding="utf-8")
        with suppress(FileNotFoundError):
            part.replace(self._answers / f"{name}.ack.csv")


def _read(text: str) -> list[tuple[str, str, int]] | None:
    """Return the rows of a file, None for one that is not whole."""
    lines = list(csv.reader(io.StringIO(text)))
    if len(lines) < 2 or lines[0] != ["transfer_id", "account", "units"]:
        return None
    rows = [(id_, account, int(units)) for id_, account, units in lines[1:-1]]
    total = ["END", str(len(rows)), str(sum(units for _, _, units in rows))]
    return rows if lines[-1] == total else None
