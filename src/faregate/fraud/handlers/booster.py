"""A LightGBM model that scores one row at a time, without the library's Python layer.

That layer checks and copies for some 100 µs around a prediction of 20 µs. The C interface takes a prepared
configuration and two buffers that are made once. A booster belongs to one thread; what it gives depends on content
and row only, to the last bit.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from faregate.kernel.errors import InvalidError, UnavailableError

_FLOAT64: Final = 1
_SCORE, _CONTRIBUTIONS = 0, 3
_PARAMETERS: Final = b"num_threads=1 predict_disable_shape_check=false"


class BoosterUnreadable(InvalidError):
    """The content is no LightGBM model, or one that reads another number of inputs."""


class LibraryMissing(UnavailableError):
    """LightGBM's library cannot be loaded."""


@cache
def _library() -> ctypes.PyDLL:
    """Load the library that comes with the package, without importing the package, which takes half a second.

    PyDLL keeps the interpreter's lock: giving it up and taking it back costs more than a score.
    """
    spec = find_spec("lightgbm")
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = [file for place in places for file in sorted(Path(place).rglob("lib_lightgbm.*"))]
    if not found:
        raise LibraryMissing("the package lightgbm is not installed")
    try:
        library = ctypes.PyDLL(str(found[0]))
    except OSError as error:
        raise LibraryMissing(f"LightGBM cannot be loaded: {error}") from error
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library


class Booster:
    """A model in memory. `inputs` is how many numbers a row has; NaN stands for one that is missing."""

    def __init__(self, content: bytes, *, inputs: int) -> None:
        self._library, self.inputs = _library(), inputs
        self._handle = ctypes.c_void_p()
        self._configurations: list[ctypes.c_void_p] = []
        iterations = ctypes.c_int()
        self._do(
            "LGBM_BoosterLoadModelFromString", content, ctypes.byref(iterations), ctypes.byref(self._handle)
        )
        found = ctypes.c_int()
        self._do("LGBM_BoosterGetNumFeature", self._handle, ctypes.byref(found))
        if found.value != inputs:
            raise BoosterUnreadable(f"the model reads {found.value} inputs, not {inputs}")
        self._row = (ctypes.c_double * inputs)()
        self._out = (ctypes.c_double * (inputs + 1))()
        self._length = ctypes.c_int64()
        self._score = self._prepared(_SCORE)
        self._contributions = self._prepared(_CONTRIBUTIONS)
        self._predict = self._library.LGBM_BoosterPredictForMatSingleRowFast
        self._arguments = (self._row, ctypes.byref(self._length), self._out)

    def score(self, row: list[float]) -> float:
        """Return the probability of fraud."""
        self._row[:] = row  # type: ignore[assignment] # it is copied: what it could hold besides does not matter
        self._require(self._predict(self._score, *self._arguments))
        return self._out[0]

    def contributions(self, row: list[float]) -> list[float]:
        """Return what each input adds to the log-odds. It costs some fifty times a score."""
        self._row[:] = row  # type: ignore[assignment] # it is copied: what it could hold besides does not matter
        self._require(self._predict(self._contributions, *self._arguments))
        return self._out[: self.inputs]

    def close(self) -> None:
        """Give its memory back; it must not be used any more."""
        for configuration in self._configurations:
            self._do("LGBM_FastConfigFree", configuration)
        self._configurations = []
        if self._handle:
            self._do("LGBM_BoosterFree", self._handle)
            self._handle = ctypes.c_void_p()

    def __del__(self) -> None:
        if getattr(self, "_library", None) is not None:
            self.close()

    def _prepared(self, kind: int) -> ctypes.c_void_p:
        configuration = ctypes.c_void_p()
        self._do(
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            self._handle,
            ctypes.c_int(kind),
            ctypes.c_int(0),
            ctypes.c_int(-1),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(self.inputs),
            _PARAMETERS,
            ctypes.byref(configuration),
        )
        self._configurations.append(configuration)
        return configuration

    def _do(self, name: str, *arguments: object) -> None:
        self._require(getattr(self._library, name)(*arguments))

    def _require(self, status: int) -> None:
        if status:
            raise BoosterUnreadable(f"LightGBM: {self._library.LGBM_GetLastError().decode(errors='replace')}")
