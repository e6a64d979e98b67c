"""What is kept of a cohort's lanes: matrices [draws, patients], filled block by block."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.comparison.lanes import LaneEndpoints

Key = TypeVar("Key", bound=Hashable)


class Matrices(Mapping[Key, Floats]):
    """Matrices [draws, patients] by key, in half the memory where no digit is lost by it.

    Days, grades and verdicts are small whole numbers, which single precision holds exactly; counts
    are kept in double precision. What is read is in double precision, a copy each time.

    Parameters
    ----------
    shape
        Draws and patients. What is never written is NaN.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._kept: dict[Key, NDArray[np.float32] | Floats] = {}

    def write(
        self, key: Key, draws: NDArray[np.int64], lanes: Floats | NDArray[np.float32]
    ) -> None:
        """Write some draws of a matrix, ``[draws * patients]``, as `narrowed` gives them."""
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = np.full(self._shape, np.nan, np.float32)
        if lanes.dtype != np.float32 and kept.dtype == np.float32:
            kept = self._kept[key] = kept.astype(np.float64)
        kept[draws] = lanes.reshape(len(draws), -1)

    def __getitem__(self, key: Key) -> Floats:
        return self._kept[key].astype(np.float64)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def kept_bytes(self) -> int:
        """Bytes of all matrices as they are kept."""
        return sum(one.nbytes for one in self._kept.values())


def narrowed(values: NDArray[Any]) -> Floats | NDArray[np.float32]:
    """Return values in single precision where that holds them to the last digit."""
    with np.errstate(over="ignore"):  # what is too large for it is infinite there
        narrow = values.astype(np.float32)
    same = narrow == values
    same |= np.isnan(narrow)
    return narrow if same.all() else values.astype(np.float64, copy=False)


def to_keep(endpoints: LaneEndpoints) -> LaneEndpoints:
    """Return what a `Store` keeps of endpoints, as it keeps it: less to send, and to check."""
    return replace(
        endpoints,
        values={key: narrowed(lanes) for key, lanes in endpoints.values.items()},
        recovered_on={key: narrowed(lanes) for key, lanes in endpoints.recovered_on.items()},
        dlt={key: narrowed(lanes) for key, lanes in endpoints.dlt.items()},
        reasons={key: narrowed(lanes) for key, lanes in endpoints.reasons.items()},
        split=endpoints.split[:0],
    )


class Store:
    """Endpoints of a cohort's lanes.

    Parameters
    ----------
    draws, patients
        How many there are.

    Attributes
    ----------
    values, recovered_on, dlt, reasons
        As of `pkpd.comparison.lanes.LaneEndpoints`.
    sensitivity : float[..., draws, patients]
        Likewise, in single precision.
    """

    def __init__(self, draws: int, patients: int) -> None:
        shape = draws, patients
        self._shape = shape
        self.values: Matrices[tuple[str, str, str]] = Matrices(shape)
        self.recovered_on: Matrices[tuple[str, float]] = Matrices(shape)
        self.dlt: Matrices[str] = Matrices(shape)
        self.reasons: Matrices[str] = Matrices(shape)
        self.sensitivity = np.empty(0, np.float32)

    def add(self, draws: NDArray[np.int64], endpoints: LaneEndpoints) -> None:
        """Keep the endpoints of some draws, which `to_keep` made ready."""
        for name in ("values", "recovered_on", "dlt", "reasons"):
            matrices: Matrices[Hashable] = getattr(self, name)
            for key, lanes in getattr(endpoints, name).items():
                matrices.write(key, draws, lanes)
        found = endpoints.sensitivity
        if not found.size:
            return
        if not self.sensitivity.size:
            self.sensitivity = np.full((*found.shape[:3], *self._shape), np.nan, np.float32)
        self.sensitivity[..., draws, :] = found.reshape(*found.shape[:3], len(draws), -1)
