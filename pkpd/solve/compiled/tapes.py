"""Tapes of the latest solutions, found again by their parameters.

JAX asks for a value and later, in another call, for the derivative there. What the value left
behind waits here in between. It is found by the parameters themselves, so nothing is wrong if the
derivative is never asked for, is asked for twice, or other threads come in between: then it is
solved again.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from pkpd.solve.compiled.run import Tape

LARGEST_BYTES = 512 * 2**20
"""Memory for the tapes of one population, at most."""

MOST = 4
"""Tapes at a time: one for each thread that is between a value and its derivative."""


class Tapes:
    """Tapes of one population problem; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Tape] = []
        self._spare: list[Tape] = []

    def spare(self) -> Tape | None:
        """Tape whose memory may be written over, or ``None``."""
        with self._lock:
            if self._spare:
                return self._spare.pop()
            return self._kept.pop(0) if len(self._kept) >= MOST else None

    def keep(self, tape: Tape) -> None:
        """Keep a tape for its derivative, if it is not too large."""
        with self._lock:
            self._kept.append(tape)
            most = min(MOST, LARGEST_BYTES // max(1, tape.store.nbytes))
            while len(self._kept) + len(self._spare) > most:
                (self._spare or self._kept).pop(0)

    def take(self, theta: NDArray[np.float64], schedule: NDArray[np.int64]) -> Tape | None:
        """Take out the tape of these lanes and parameters, if it is still there."""
        with self._lock:
            for i, tape in enumerate(self._kept):
                same = np.array_equal(tape.call.schedule, schedule)
                if same and np.array_equal(tape.theta, theta):
                    return self._kept.pop(i)
        return None

    def give_back(self, tape: Tape) -> None:
        """Leave the memory of a tape that was read for the next solution."""
        with self._lock:
            if len(self._kept) + len(self._spare) < MOST:
                self._spare.append(tape)
