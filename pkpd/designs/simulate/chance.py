"""Random numbers by trial and place, so that trials of any two designs meet the same patients.

A generator that is asked in turn gives a patient other numbers as soon as one design asks earlier
than another. Here a number is a function of the seed, of what it is for, of the trial and of the
place of the patient in the queue: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014;
doi:10.1145/2660193.2660195), whose state is scrambled once for each of these.
"""

from __future__ import annotations

import numpy as np

GAP, DLT, RESPONSE = 1, 2, 3
"""What a number is for: the time to the next patient, his toxicity, his response."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def uniforms(seed: int, kind: int, trial: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Give uniform numbers, above 0 and below 1, that depend on their arguments alone.

    Parameters
    ----------
    seed
        Of all random numbers.
    kind
        What they are for.
    trial, place
        Whole numbers from 0; same shape.

    Examples
    --------
    >>> one = uniforms(1, GAP, np.arange(3), np.array([0, 0, 5]))
    >>> bool((uniforms(1, GAP, np.array([2]), np.array([5])) == one[2]).all())
    True
    """
    shape = np.shape(trial)
    state = np.full(shape, seed, np.uint64)
    for number in (
        np.full(shape, kind, np.uint64),
        trial.astype(np.uint64),
        place.astype(np.uint64),
    ):
        state = _scrambled(state + (number + np.uint64(1)) * _STEP)
    return ((state >> np.uint64(11)).astype(float) + 0.5) * 2.0**-53


def _scrambled(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
