"""What became of each lane: a code and a sentence.

A lane that cannot be solved never stops the others and is never passed over in silence: it is
counted and said in a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.errors import sentence
from pkpd.solve.grid.structure import PopulationStructure

PENALTY = -1e8
"""Log-likelihood of a lane that cannot be solved: finite, so that a sampler rejects and goes on."""

LARGEST_LOG_COUNT = 30.0
"""A count of e^30 or e^-30 x 10^9/L has left physiology; the lane counts as exploded."""

TOLERANCE = 1e-4
"""Largest estimated relative error of a count that is accepted."""


class LaneStatus(IntEnum):
    """What became of a lane."""

    OK = 0
    SOLVED_AGAIN = 1
    BAD_PARAMETER = 2
    EXPLODED = 3
    OVER_TOLERANCE = 4


_MAY_BE_ZERO = frozenset({"Q", "Q3", "k_in", "F", "slope", "Emax", "gamma", "kill", "ks", "k_circ"})


@dataclass(frozen=True, eq=False)
class PopulationStatus:
    """Status of all lanes.

    Attributes
    ----------
    code : int8[L]
        `LaneStatus`.
    error : float[L]
        Estimated largest relative error of the counts, NaN where not estimated.
    detail : dict
        A sentence for every lane whose code is not 0.
    """

    code: NDArray[np.int8]
    error: Floats
    detail: Mapping[int, str]


def _allowed(name: tuple[str, ...], structure: PopulationStructure) -> tuple[float, bool, str]:
    """Lower limit of a parameter, whether the limit itself is out, and both in words."""
    whole = structure.whole
    if whole is not None and len(name) == 2 and name[1] in whole.may_be_zero:
        return 0.0, False, "0 or more"
    if name[-1] in ("slope", "Emax"):
        return -np.inf, True, "a finite number"
    if name[-1] in _MAY_BE_ZERO or name[-1].startswith("flow_"):
        return 0.0, False, "0 or more"
    return 0.0, True, "a number above 0"


@lru_cache(maxsize=64)
def limits_of(structure: PopulationStructure) -> tuple[Floats, NDArray[np.bool_]]:
    """Lower limits of the parameters ``[P, 1]``, and where the limit itself is out."""
    limits = [_allowed(name, structure) for name in structure.layout]
    low = np.array([[limit] for limit, _, _ in limits])
    return low, np.array([[strict] for _, strict, _ in limits])


def unusable(structure: PopulationStructure, theta: Floats) -> NDArray[np.bool_]:
    """Parameters that are not finite or have the wrong sign, ``[P, L]``.

    A slope or a largest effect may be negative (a drug that stimulates); bioavailability, flows
    between compartments, feedback and kill may be zero; clearances, volumes, times and counts must
    be above zero.
    """
    low, strict = limits_of(structure)
    with np.errstate(invalid="ignore"):
        return ~np.isfinite(theta) | (theta < low) | (strict & (theta == low))


def parameter_problems(structure: PopulationStructure, theta: Floats) -> dict[int, str]:
    """Tell for each lane with an unusable parameter the first of them."""
    bad = unusable(structure, theta)
    out: dict[int, str] = {}
    for lane in np.flatnonzero(bad.any(axis=0)).tolist():
        row = int(bad[:, lane].argmax())
        name = structure.layout[row]
        out[lane] = sentence(
            where=f"lane {lane}, {' '.join(name)}",
            what=f"value {float(theta[row, lane])!r}",
            allowed=_allowed(name, structure)[2],
        )
    return out


def assess(
    structure: PopulationStructure,
    theta: Floats,
    log_count: Floats,
    missing: NDArray[np.bool_],
    error: Floats | None = None,
    tolerance: float = np.inf,
) -> PopulationStatus:
    """Status of all lanes from their parameters and counts.

    Parameters
    ----------
    theta : float[P, L]
        Parameters.
    log_count : float[lines, L, T]
        Log counts.
    missing : bool[L, T]
        Observations that were not asked for.
    error : float[L]
        Estimated relative error of the counts, if there is an estimate.
    tolerance
        Largest error that is accepted.
    """
    n = theta.shape[1]
    code = np.zeros(n, dtype=np.int8)
    detail = parameter_problems(structure, theta)
    known = np.full(n, np.nan) if error is None else error
    code[known > tolerance] = LaneStatus.OVER_TOLERANCE
    with np.errstate(invalid="ignore"):
        lost = ~(np.abs(log_count) < LARGEST_LOG_COUNT) & ~missing
    code[lost.any(axis=(0, 2))] = LaneStatus.EXPLODED
    code[list(detail)] = LaneStatus.BAD_PARAMETER
    for lane in np.flatnonzero(code).tolist():
        if lane in detail:
            continue
        if code[lane] == LaneStatus.EXPLODED:
            line = structure.line_names[int(lost[:, lane].any(axis=1).argmax())]
            most = f"{LARGEST_LOG_COUNT:.0f}"
            what = f"the {line} count is not a number between e^-{most} and e^{most}"
            remedy = "look at its parameters"
        else:
            what = f"estimated relative error {known[lane]:.1e}"
            remedy = f"shorten the cells or accept more than {tolerance:.0e}"
        detail[lane] = sentence(where=f"lane {lane}", what=what, remedy=remedy)
    return PopulationStatus(code, known, detail)
