"""Training from files: reads the table, writes the artefacts. Loading them for decisions is `artefacts`.

Apart from that module because training imports scikit-learn, which a running system never needs.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from faregate.credit.domain.training import rows_of, train, train_cross_fitted
from faregate.kernel.errors import InvalidError

SAMPLE: Final = Path(str(files("faregate") / "sample_data" / "german_credit.csv"))
ARTEFACTS: Final = Path(str(files("faregate") / "credit" / "artefacts" / "scorecards"))


class TableUnreadable(InvalidError):
    """The file is no table that cards can be trained from."""


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file with the columns of `german_credit.csv`."""
    return _lines(path.read_bytes(), path=path)


def train_from_csv(csv_path: Path, *, out_dir: Path, name: str = "german-1") -> list[dict[str, Any]]:
    """Train the card on all rows and the cross-fitted one, write both to `out_dir`, and return them."""
    content = csv_path.read_bytes()
    rows = rows_of(_lines(content, path=csv_path))
    digest = hashlib.sha256(content).hexdigest()
    artefacts = [
        train(rows, name=name, data_sha256=digest),
        train_cross_fitted(rows, name=f"{name}-cross-fitted", data_sha256=digest),
    ]
    out_dir.mkdir(parents=True, exist_ok=True)
    for artefact in artefacts:
        (out_dir / f"{artefact['name']}.json").write_text(artefact_text(artefact), encoding="utf-8")
    return artefacts


def artefact_text(artefact: Mapping[str, Any]) -> str:
    """Return an artefact as it is written: the same artefact is the same text."""
    return json.dumps(artefact, indent=2, ensure_ascii=False) + "\n"


def _lines(content: bytes, *, path: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(content.decode("utf-8"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableUnreadable(f"{path} is no CSV file: {error}", path=str(path)) from error
