"""What became of each lane: a code, a sentence, and a capsule that reproduces it.

A lane that cannot be solved never stops the others and is never passed over in silence: it is
counted, said in a sentence, and can be written down and solved again from a file.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.errors import DataError, sentence
from pkpd.files import write_text
from pkpd.solve.grid.grid import Doses
from pkpd.solve.grid.structure import Drug, Line, PopulationStructure

if TYPE_CHECKING:
    from pkpd.solve.population.problem import PopulationProblem

FloatArray = NDArray[np.float64]

PENALTY = -1e8
"""Log-likelihood of a lane that cannot be solved: finite, so that a sampler rejects and goes on."""

LARGEST_LOG_COUNT = 30.0
"""A count of e^30 x 10^9/L has left physiology; the lane counts as exploded."""


class LaneStatus(IntEnum):
    """What became of a lane."""

    OK = 0
    SOLVED_AGAIN = 1
    BAD_PARAMETER = 2
    EXPLODED = 3
    OVER_TOLERANCE = 4


_SENTENCES = {
    LaneStatus.OK: "solved",
    LaneStatus.SOLVED_AGAIN: "over the tolerance on fixed steps and solved again by the general "
    "engine",
    LaneStatus.BAD_PARAMETER: "a parameter is not a finite number or has the wrong sign",
    LaneStatus.EXPLODED: "the counts are not finite or left all bounds",
    LaneStatus.OVER_TOLERANCE: "the estimated error is over the tolerance",
}

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
    error: FloatArray
    detail: Mapping[int, str]

    @property
    def solved(self) -> NDArray[np.bool_]:
        """Lanes whose counts may be used."""
        return self.code <= LaneStatus.SOLVED_AGAIN

    def summary(self) -> str:
        """Tell in one sentence how many lanes ended how."""
        parts = [
            f"{int((self.code == status).sum())} {_SENTENCES[status]}"
            for status in LaneStatus
            if (self.code == status).any()
        ]
        return f"Of {self.code.size} lanes: " + "; ".join(parts) + "."


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
def limits_of(structure: PopulationStructure) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Lower limits of the parameters ``[P, 1]``, and where the limit itself is out."""
    limits = [_allowed(name, structure) for name in structure.layout]
    low = np.array([[limit] for limit, _, _ in limits])
    return low, np.array([[strict] for _, strict, _ in limits])


def unusable(structure: PopulationStructure, theta: FloatArray) -> NDArray[np.bool_]:
    """Parameters that are not finite or have the wrong sign, ``[P, L]``.

    A slope or a largest effect may be negative (a drug that stimulates); bioavailability, flows
    between compartments, feedback and kill may be zero; clearances, volumes, times and counts must
    be above zero.
    """
    low, strict = limits_of(structure)
    with np.errstate(invalid="ignore"):
        return ~np.isfinite(theta) | (theta < low) | (strict & (theta == low))


def parameter_problems(structure: PopulationStructure, theta: FloatArray) -> dict[int, str]:
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
    theta: FloatArray,
    log_count: FloatArray,
    missing: NDArray[np.bool_],
    error: FloatArray | None = None,
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
            what = f"the {line} count is not finite or above e^{LARGEST_LOG_COUNT:.0f}"
            remedy = "look at its parameters (a capsule reproduces the lane)"
        else:
            what = f"estimated relative error {known[lane]:.1e}"
            remedy = f"shorten the cells or accept more than {tolerance:.0e}"
        detail[lane] = sentence(where=f"lane {lane}", what=what, remedy=remedy)
    return PopulationStatus(code, known, detail)


def _describe(thing: Any) -> Any:
    if is_dataclass(thing) and not isinstance(thing, type):
        kind = type(thing)
        own = {f.name: _describe(getattr(thing, f.name)) for f in fields(thing) if f.init}
        return {"type": f"{kind.__module__}:{kind.__qualname__}", **own}
    if isinstance(thing, tuple | list):
        return [_describe(item) for item in thing]
    return thing


def _rebuild(told: Any) -> Any:
    if isinstance(told, list):
        return tuple(_rebuild(item) for item in told)
    if not isinstance(told, dict):
        return told
    module, _, name = told["type"].partition(":")
    if not module.startswith("pkpd."):
        raise DataError(
            sentence(
                where="capsule",
                what=f"type {told['type']!r}",
                allowed="types of this package",
                remedy="rebuild the structure by hand and pass it with the numbers",
            )
        )
    kind = getattr(importlib.import_module(module), name)
    return kind(**{key: _rebuild(value) for key, value in told.items() if key != "type"})


def capsule(problem: PopulationProblem, theta: FloatArray, lane: int) -> dict[str, Any]:
    """All that is needed to solve one lane again, as plain numbers and names.

    Parameters
    ----------
    problem
        The problem.
    theta : float[P, L]
        Parameters of all lanes.
    lane
        The lane.
    """
    g = int(problem.schedule_of(theta.shape[1])[lane])
    doses = problem.doses
    real = doses.drug[g] >= 0
    times = problem.times_h[g]
    return {
        "lane": lane,
        "structure": _describe(problem.structure),
        "parameters": [
            [*name, float(v)]
            for name, v in zip(problem.structure.layout, theta[:, lane], strict=True)
        ],
        "doses": [
            [float(t), float(a), float(d), int(k)]
            for t, a, d, k in zip(
                doses.time_h[g][real],
                doses.amount[g][real],
                doses.duration_h[g][real],
                doses.drug[g][real],
                strict=True,
            )
        ],
        "times_h": times[~np.isnan(times)].tolist(),
        "max_step_h": problem.max_step_h,
    }


def write_capsule(path: Path, told: Mapping[str, Any]) -> None:
    """Write a capsule as JSON; numbers keep all their digits."""
    write_text(path, json.dumps(told, indent=1))


def open_capsule(
    told: Mapping[str, Any] | Path,
) -> tuple[PopulationStructure, FloatArray, Doses, FloatArray, float]:
    """Structure, ``theta[P, 1]``, doses, times and longest step of a capsule or its file."""
    read = json.loads(told.read_text(encoding="utf-8")) if isinstance(told, Path) else dict(told)
    made = _rebuild(read["structure"])
    structure = PopulationStructure(
        tuple(Drug(d.name, d.pk) for d in made.drugs),
        tuple(Line(x.name, x.marrow, tuple(x.effects)) for x in made.lines),
    )
    rows: Sequence[Sequence[Any]] = read["parameters"]
    given = {tuple(row[:-1]): float(row[-1]) for row in rows}
    theta = np.array([[given[name]] for name in structure.layout])
    doses = Doses.of([[(t, a, d, int(k)) for t, a, d, k in read["doses"]]])
    return structure, theta, doses, np.asarray(read["times_h"]), float(read["max_step_h"])
