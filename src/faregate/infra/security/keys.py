"""Sets of secret keys that rotate, and the private file in which a fresh installation keeps its own.

What the keys are used for stands in `encryption` and `blind_index`. Where servers have a secret store,
settings give the same `KeySet` and no file is made: such keys change when the processes start again.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from faregate.kernel.errors import ConflictError, InvalidError, UnavailableError

KEY_BYTES = 32
PURPOSES = ("encryption", "blind_index")
NOTICED_WITHIN_S = 1.0
"""A running process uses a new key at most this long after the rotation."""
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_NUMBERED = re.compile(r"k([0-9]{1,9})")

Random = Callable[[int], bytes]
"""Gives that many random bytes; `os.urandom` in production."""


class KeySetInvalid(InvalidError):
    """A key set lacks its current key, or holds a key of the wrong length or with a bad id."""


class KeyIdTaken(ConflictError):
    """A new key was given the id of another one, which it would overwrite."""


class KeyFileExposed(UnavailableError):
    """The key file can be read by other users of the machine, so that its keys count as lost."""


class KeyFileDamaged(UnavailableError):
    """The key file cannot be understood; without its keys the encrypted data cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """Keys by id, each of 32 bytes. New values use `current`; the others still read what is there."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if self.current not in self.keys:
            raise KeySetInvalid("the current key is not in the set", current=self.current)
        for key_id, key in self.keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise KeySetInvalid("a key id is 1 to 32 letters, digits, '_', '.' or '-'", key_id=key_id)
            if len(key) != KEY_BYTES:
                raise KeySetInvalid(f"a key has {KEY_BYTES} bytes", key_id=key_id, bytes=len(key))

    def with_new(self, key_id: str, key: bytes) -> KeySet:
        """Return the set with one more key, which is the current one. Raises KeyIdTaken."""
        if key_id in self.keys:
            raise KeyIdTaken("there is a key of that id already", key_id=key_id)
        return KeySet(current=key_id, keys={**self.keys, key_id: key})


class KeyRing:
    """Gives the newest key set to whoever uses keys, and so lets keys rotate under running processes.

    It looks at the version at most once in NOTICED_WITHIN_S and loads again when that changed. Where loading
    fails, the process goes on with the keys that it has, logs it, and tries again at the next look.
    """

    def __init__(
        self,
        *,
        load: Callable[[], KeySet],
        version: Callable[[], Hashable],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._version, self._monotonic = load, version, monotonic
        self._seen = version()  # before loading: a change in between is then noticed at the next look
        self._keys = load()
        self._next_look = monotonic() + NOTICED_WITHIN_S

    @classmethod
    def fixed(cls, keys: KeySet) -> KeyRing:
        """Return a ring that never changes."""
        return cls(load=lambda: keys, version=lambda: None)

    @classmethod
    def from_file(
        cls, path: Path, *, purpose: str, monotonic: Callable[[], float] = time.monotonic
    ) -> KeyRing:
        """Return the ring of one purpose that follows the key file; make the file if it is not there.

        It is made only now: one that disappears later is never replaced by one with other keys.
        """
        key_sets_from_file(path)
        return cls(load=lambda: _keys_for(path, purpose), version=lambda: _version(path), monotonic=monotonic)

    def newest(self) -> KeySet:
        """Return the key set as it was at most NOTICED_WITHIN_S ago."""
        if self._monotonic() >= self._next_look:
            return self.look()
        return self._keys

    def look(self) -> KeySet:
        """Return the key set as it is now."""
        self._next_look = self._monotonic() + NOTICED_WITHIN_S
        try:
            version = self._version()
            if version != self._seen:
                self._keys = self._load()
                self._seen = version
        except (OSError, UnavailableError, InvalidError) as error:
            structlog.get_logger().error("keys not reloaded", exc_info=error)
        return self._keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A rotation under way: the key that values move to, and whether an interrupted rotation goes on."""

    key_id: str
    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """What the file says for one purpose: its keys, the highest number given out, values still to move."""

    keys: KeySet
    highest: int = 0
    unfinished: bool = False

    def rotated(self, random: Random) -> _Entry:
        """Return the entry with a fresh current key, whose number none had before it, not even a retired one."""
        numbers = (int(found[1]) for key_id in self.keys.keys if (found := _NUMBERED.fullmatch(key_id)))
        number = max(self.highest, *numbers, 0) + 1
        return replace(self, keys=self.keys.with_new(f"k{number}", random(KEY_BYTES)), highest=number)


def key_sets_from_file(
    path: Path, *, purposes: Sequence[str] = PURPOSES, random: Random = os.urandom
) -> Mapping[str, KeySet]:
    """Read the key sets of the file by purpose; make it (mode 0600) with fresh keys if it is not there.

    Several processes may do so at once: one file wins, and all read that one.
    """
    if not path.exists():
        fresh = {
            purpose: _Entry(keys=KeySet(current="k1", keys={"k1": random(KEY_BYTES)}), highest=1)
            for purpose in purposes
        }
        with contextlib.suppress(FileExistsError):
            _write(path, fresh, overwrite=False)
    return {purpose: entry.keys for purpose, entry in _read(path).items()}


def rotate_key(path: Path, *, purpose: str, random: Random = os.urandom) -> str:
    """Add a fresh key for the purpose, make it the current one, and return its id. The old keys stay."""
    with _changing(path) as entries:
        entries[purpose] = entries[purpose].rotated(random)
        return entries[purpose].keys.current


def begin_rotation(path: Path, *, purpose: str, random: Random = os.urandom) -> Rotation:
    """Add a fresh key as `rotate_key` does, or take up the rotation that was begun and never finished.

    The caller moves the stored values to the key and then calls `finish_rotation`. Running processes may
    still use the key before it for NOTICED_WITHIN_S.
    """
    with _changing(path) as entries:
        entry = entries[purpose]
        if not entry.unfinished:
            entries[purpose] = replace(entry.rotated(random), unfinished=True)
        return Rotation(key_id=entries[purpose].keys.current, resumed=entry.unfinished)


def finish_rotation(path: Path, *, purpose: str, key_id: str) -> None:
    """Record that every stored value is under the key; nothing happens if another key came after it."""
    with _changing(path) as entries:
        entry = entries[purpose]
        if entry.keys.current == key_id:
            entries[purpose] = replace(entry, unfinished=False)


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[dict[str, _Entry]]:
    """Give the entries to change and write them back; one process at a time, or a key would be lost."""
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries = _read(path)
        before = dict(entries)
        yield entries
        if entries != before:
            _write(path, entries, overwrite=True)
    finally:
        os.close(lock)


def _keys_for(path: Path, purpose: str) -> KeySet:
    entry = _read(path).get(purpose)
    if entry is None:
        raise KeyFileDamaged(f"{path} has no keys for {purpose}")
    return entry.keys


def _version(path: Path) -> Hashable:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read(path: Path) -> dict[str, _Entry]:
    if path.stat().st_mode & 0o077:
        raise KeyFileExposed(f"{path} must be readable by its owner only (chmod 600)")
    try:
        return {purpose: _entry(stored) for purpose, stored in orjson.loads(path.read_bytes()).items()}
    except (ValueError, KeyError, TypeError, AttributeError, KeySetInvalid) as error:
        raise KeyFileDamaged(f"{path} is not a key file") from error


def _entry(stored: Mapping[str, Any]) -> _Entry:
    keys = {key_id: base64.b64decode(key, validate=True) for key_id, key in stored["keys"].items()}
    return _Entry(
        keys=KeySet(current=stored["current"], keys=keys),
        highest=int(stored.get("highest", 0)),  # files of the first version have neither of these
        unfinished=bool(stored.get("unfinished", False)),
    )


def _document(entry: _Entry) -> dict[str, Any]:
    return {
        "current": entry.keys.current,
        "keys": {key_id: base64.b64encode(key).decode() for key_id, key in entry.keys.keys.items()},
        "highest": entry.highest,
        "unfinished": entry.unfinished,
    }


def _write(path: Path, entries: Mapping[str, _Entry], *, overwrite: bool) -> None:
    document = {purpose: _document(entry) for purpose, entry in entries.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".keys-")  # mkstemp makes it 0600
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            draft.replace(path)
        else:
            path.hardlink_to(draft)  # unlike rename, it fails if somebody else was faster
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # A key whose name in the folder is lost with the power takes everything encrypted under it along.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
