"""The key file: made once, private, refused when it is not, and never without a key that it once had."""

from __future__ import annotations

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.infra.security.keys import (
    KeyFileDamaged,
    KeyFileExposed,
    KeyIdTaken,
    KeyRing,
    KeySet,
    KeySetInvalid,
    Rotation,
    begin_rotation,
    finish_rotation,
    key_sets_from_file,
    rotate_key,
)


def test_the_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "home" / "keys.json"
    first = key_sets_from_file(path)
    assert set(first) == {"encryption", "blind_index"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert key_sets_from_file(path) == first
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_processes_that_start_at_once_share_one_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: key_sets_from_file(tmp_path / "keys.json"), range(16)))
    assert all(sets == made[0] for sets in made)


@pytest.mark.requirement("P3")
def test_rotation_adds_a_key_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = key_sets_from_file(path)["encryption"]
    assert rotate_key(path, purpose="encryption") == "k2"
    after = key_sets_from_file(path)["encryption"]
    assert after.current == "k2"
    assert after.keys["k1"] == before.keys["k1"]
    assert path.stat().st_mode & 0o777 == 0o600


_ROTATES_TEN_TIMES = """
import sys
from pathlib import Path
from faregate.infra.security.keys import rotate_key
print("ready", flush=True)
sys.stdin.read()
print(*[rotate_key(Path(sys.argv[1]), purpose="encryption") for _ in range(10)])
"""


@pytest.mark.requirement("P3")
def test_processes_that_rotate_at_once_keep_every_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = key_sets_from_file(path)["encryption"].keys["k1"]
    command = [sys.executable, "-c", _ROTATES_TEN_TIMES, str(path)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [process.stdout.readline() for process in processes if process.stdout] == ["ready\n"] * 4
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    made = [key_id for process in processes if process.stdout for key_id in process.stdout.read().split()]
    assert [process.wait() for process in processes] == [0] * 4
    after = key_sets_from_file(path)["encryption"]
    assert sorted(after.keys) == sorted(["k1", *made])
    assert (len(after.keys), after.current, after.keys["k1"]) == (41, "k41", first)


def edit(path: Path, **changes: Any) -> None:
    """Change the encryption entry as an operator does by hand."""
    document = orjson.loads(path.read_bytes())
    document["encryption"].update(changes)
    path.write_bytes(orjson.dumps(document))


def retire(path: Path, *key_ids: str) -> None:
    keys = orjson.loads(path.read_bytes())["encryption"]["keys"]
    left = {key_id: key for key_id, key in keys.items() if key_id not in key_ids}
    edit(path, keys=left, current=max(left))


@pytest.mark.requirement("P3")
@pytest.mark.parametrize("retired", [["k1"], ["k2"], ["k1", "k2"], ["k3"], ["k2", "k3"]])
def test_a_new_key_never_takes_the_id_of_one_that_is_or_was_there(tmp_path: Path, retired: list[str]) -> None:
    path = tmp_path / "keys.json"
    key_sets_from_file(path)
    rotate_key(path, purpose="encryption")
    rotate_key(path, purpose="encryption")
    retire(path, *retired)
    before = key_sets_from_file(path)["encryption"]
    assert rotate_key(path, purpose="encryption") == "k4"
    after = key_sets_from_file(path)["encryption"]
    assert {**after.keys, **before.keys} == after.keys


def test_a_file_of_the_first_version_rotates_past_its_highest_number(tmp_path: Path) -> None:
    path, key = tmp_path / "keys.json", "A" * 43 + "="
    path.touch(mode=0o600)
    path.write_bytes(
        orjson.dumps({"encryption": {"current": "k9", "keys": {"k2": key, "k9": key, "x12": key}}})
    )
    assert rotate_key(path, purpose="encryption") == "k10"


@given(st.lists(st.integers(1, 5).map("k{}".format), unique=True, min_size=1), st.integers(1, 5))
def test_a_key_is_never_overwritten_by_a_new_one(key_ids: list[str], number: int) -> None:
    keys = KeySet(current=key_ids[0], keys={key_id: bytes(32) for key_id in key_ids})
    if (new := f"k{number}") in key_ids:
        with pytest.raises(KeyIdTaken):
            keys.with_new(new, b"1" * 32)
    else:
        assert keys.with_new(new, b"1" * 32).keys == {**keys.keys, new: b"1" * 32}


@pytest.mark.requirement("P3")
def test_an_interrupted_rotation_goes_on_with_the_key_that_it_made(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key_sets_from_file(path)
    assert begin_rotation(path, purpose="encryption") == Rotation(key_id="k2", resumed=False)
    assert begin_rotation(path, purpose="encryption") == Rotation(key_id="k2", resumed=True)
    finish_rotation(path, purpose="encryption", key_id="k2")
    assert begin_rotation(path, purpose="encryption") == Rotation(key_id="k3", resumed=False)
    assert set(key_sets_from_file(path)["encryption"].keys) == {"k1", "k2", "k3"}


def test_a_rotation_is_not_finished_by_one_to_an_older_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key_sets_from_file(path)
    begin_rotation(path, purpose="encryption")
    rotate_key(path, purpose="encryption")
    finish_rotation(path, purpose="encryption", key_id="k2")
    assert begin_rotation(path, purpose="encryption") == Rotation(key_id="k3", resumed=True)


def test_a_ring_looks_for_another_version_at_most_once_a_second() -> None:
    seconds, versions = [0.0], itertools.count()
    keys = {f"k{n}": bytes(32) for n in range(9)}
    loads = itertools.count()
    ring = KeyRing(
        load=lambda: KeySet(current=f"k{next(loads)}", keys=keys),
        version=lambda: next(versions),
        monotonic=lambda: seconds[-1],
    )

    def at(second: float) -> str:
        seconds.append(second)
        return ring.newest().current

    assert [at(s) for s in (0.5, 0.999, 1.0, 1.999, 2.0)] == ["k0", "k0", "k1", "k1", "k2"]


@pytest.mark.parametrize("harm", ["gone", "damaged", "exposed", "purpose missing"])
def test_a_running_process_keeps_its_keys_while_the_file_is_no_good(tmp_path: Path, harm: str) -> None:
    path, aside = tmp_path / "keys.json", tmp_path / "aside.json"
    ring = KeyRing.from_file(path, purpose="encryption")
    before = ring.look()
    rotate_key(path, purpose="encryption")
    path.rename(aside)
    if harm != "gone":
        path.touch(mode=0o640 if harm == "exposed" else 0o600)
        path.write_text("{}" if harm == "purpose missing" else "{")
    assert ring.look() is before
    aside.replace(path)
    assert ring.look().current == "k2"


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key_sets_from_file(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileExposed):
        key_sets_from_file(path)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}x", '{"encryption": {"current": "k1", "keys": {"k1": "AAAA"}}}']
)
def test_a_damaged_file_is_named_and_not_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(KeyFileDamaged):
        key_sets_from_file(path)
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("current", "keys"), [("k2", {"k1": bytes(32)}), ("k1", {"k1": bytes(16)}), ("", {"": bytes(32)})]
)
def test_a_key_set_that_cannot_work_is_refused(current: str, keys: dict[str, bytes]) -> None:
    with pytest.raises(KeySetInvalid):
        KeySet(current=current, keys=keys)


def test_keys_do_not_show_themselves() -> None:
    assert repr(KeySet(current="k1", keys={"k1": bytes(32)})) == "KeySet(current='k1')"
