"""Runs under Feast's own interpreter, and imports nothing of ours: fills its online store, or reads from it directly.

python feast_script.py fill FOLDER       views and rows stand in FOLDER/wanted.json
python feast_script.py read FOLDER N     prints the seconds that each of N reads took, as JSON
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64

SERVICE = "payments"
KINDS = {"int": Int64, "float": Float64}


def main(arguments: list[str]) -> None:
    """Do what is asked for."""
    act, folder = arguments[0], Path(arguments[1])
    wanted = json.loads((folder / "wanted.json").read_text())
    if act == "fill":
        fill(folder, wanted)
    else:
        sys.stdout.write(json.dumps(read(folder, wanted, int(arguments[2]))))


def fill(folder: Path, wanted: dict[str, Any]) -> None:
    """Register a view an entity, and write its rows into the online store."""
    store = FeatureStore(repo_path=str(folder))
    views = {name: view_of(name, features, folder) for name, features in wanted["views"].items()}
    entities = [Entity(name=name, join_keys=[name], value_type=ValueType.STRING) for name in views]
    service = FeatureService(name=SERVICE, features=list(views.values()))
    store.apply([*entities, *views.values(), service])
    now = datetime.now(UTC)
    for name in views:
        rows = pd.DataFrame(wanted["rows"][name])
        rows["at"] = now
        for feature, kind in wanted["views"][name].items():
            rows[feature] = rows[feature].astype("Int64" if kind == "int" else "float64")
        store.write_to_online_store(feature_view_name=name, df=rows)


def view_of(name: str, features: dict[str, str], folder: Path) -> FeatureView:
    """Return the view of one entity."""
    source = FileSource(name=f"{name}_source", path=str(folder / f"{name}.parquet"), timestamp_field="at")
    return FeatureView(
        name=name,
        entities=[Entity(name=name, join_keys=[name], value_type=ValueType.STRING)],
        ttl=None,
        schema=[Field(name=feature, dtype=KINDS[kind]) for feature, kind in features.items()],
        source=source,
        online=True,
    )


def read(folder: Path, wanted: dict[str, Any], count: int) -> list[float]:
    """Read the features of one payment after the other."""
    store = FeatureStore(repo_path=str(folder))
    service, payments = store.get_feature_service(SERVICE), wanted["payments"]
    taken = []
    for number in range(count):
        began = time.perf_counter()
        store.get_online_features(features=service, entity_rows=[payments[number % len(payments)]]).to_dict()
        taken.append(time.perf_counter() - began)
    return taken


if __name__ == "__main__":
    main(sys.argv[1:])
