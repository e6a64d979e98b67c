"""Operating characteristics under true risks, exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pkpd.arguments import NONE, NUMBER, a, check_arguments
from pkpd.designs.data import Why
from pkpd.designs.exact.courses import Courses, enumerate_courses
from pkpd.designs.kinds import aimed_at, check_risks
from pkpd.designs.protocol import Design

_CELLS = 20_000_000  # probabilities held at once
_ALIKE = 1e-12  # risks that differ by no more are as close to the target


def characteristics(
    design: Design,
    risks: Sequence[float] | np.ndarray,
    *,
    target: float | None = None,
    courses: Courses | None = None,
) -> xr.Dataset:
    """Exact operating characteristics of a design in which each cohort is assessed in turn.

    Parameters
    ----------
    design
        The design.
    risks
        True risks of a DLT at each dose, shape ``(levels,)``, or many such vectors, as the draws
        of a posterior are, shape ``(draws, levels)``.
    target
        Risk aimed at, by which doses count as right or too high; the design's own if it has one.
    courses
        Of `enumerate_courses`, where several calls share them.

    Returns
    -------
    xarray.Dataset
        ``selected`` and ``none``: probability that each dose, or none, is selected; ``treated`` and
        ``dlts``: expected numbers at each dose; ``patients`` and ``all_dlts``: in all; ``stopped``:
        probability of each reason to stop; with a target ``correct``: probability that a dose
        with the risk closest to it is selected (all doses as close as that count), ``too_high``:
        that one with a risk above it by more is, ``overdosed``: share of patients treated at
        doses with such a risk, and ``right``: the closest dose, of equals the lowest. Each by
        ``draw`` where `risks` has draws.

    Raises
    ------
    PkpdError
        If a risk is no probability, or there is not one for each dose.

    Examples
    --------
    >>> from pkpd.designs import ThreePlusThree
    >>> found = characteristics(ThreePlusThree(levels=1, de_escalate=False), [0.12])
    >>> round(float(found.none), 6)
    0.128545
    """
    check_arguments(
        "characteristics",
        design=(design, a(Design)),
        target=(target, NUMBER | NONE),
        courses=(courses, a(Courses, words="what enumerate_courses gives") | NONE),
    )
    values, aimed = check_risks(risks, design.levels), aimed_at(design, target)
    ends = courses or enumerate_courses(design)
    reasons = [why for why in Why if why != Why.GOES_ON]
    picks = np.stack([ends.selected == level for level in range(design.levels + 1)], axis=1)
    stops = np.stack([ends.why == why for why in reasons], axis=1)
    per_end = np.concatenate([picks, ends.treated, ends.dlts, stops], axis=1).astype(float)
    step = max(1, _CELLS // len(ends.ways))
    rows = [
        ends.probabilities(values[start : start + step]) @ per_end
        for start in range(0, len(values), step)
    ]
    found = np.concatenate(rows)
    k = design.levels
    cuts = np.cumsum([k + 1, k, k])
    selected, treated, dlts, stopped = np.split(found, cuts, axis=1)
    made = dataset(selected, treated, dlts, stopped, values, aimed)
    return made.isel(draw=0, drop=True) if np.ndim(risks) == 1 else made


def dataset(
    selected: np.ndarray,
    treated: np.ndarray,
    dlts: np.ndarray,
    stopped: np.ndarray,
    risks: np.ndarray,
    target: float | None,
) -> xr.Dataset:
    """Characteristics as one data set: what exact and simulated ones share.

    Parameters
    ----------
    selected
        Probability of none and of each dose, shape ``(draws, levels + 1)``.
    treated, dlts
        Expected numbers, shape ``(draws, levels)``.
    stopped
        Probability of each reason, shape ``(draws, reasons)``.
    risks
        True ones, shape ``(draws, levels)``.
    target
        Risk aimed at; ``None`` for none.
    """
    levels = np.arange(1, risks.shape[1] + 1)
    by_level = ("draw", "level")
    made = {
        "selected": (by_level, selected[:, 1:]),
        "none": ("draw", selected[:, 0]),
        "treated": (by_level, treated),
        "dlts": (by_level, dlts),
        "patients": ("draw", treated.sum(axis=1)),
        "all_dlts": ("draw", dlts.sum(axis=1)),
        "stopped": (("draw", "why"), stopped),
        "risk": (by_level, risks),
    }
    if target is not None:
        sides = sides_of(risks, target)
        above = sides > 0
        made["right"] = ("draw", right_dose(sides))
        made["correct"] = ("draw", (selected[:, 1:] * (sides == 0)).sum(axis=1))
        made["too_high"] = ("draw", (selected[:, 1:] * above).sum(axis=1))
        made["overdosed"] = ("draw", (treated * above).sum(axis=1) / treated.sum(axis=1))
    words = [why.words for why in Why if why != Why.GOES_ON]
    coords = {"draw": np.arange(len(risks)), "level": levels, "why": words}
    return xr.Dataset(made, coords=coords, attrs={} if target is None else {"target": target})


def sides_of(risks: np.ndarray, target: float) -> np.ndarray:
    """On which side of the risks closest to a target each dose's risk lies.

    Returns
    -------
    int[draws, levels]
        0 where no dose is closer, 1 where the risk is above the target by more than the closest
        is away from it, -1 where it is below by more.

    Examples
    --------
    >>> sides_of(np.array([[0.1, 0.3, 0.3, 0.5], [0.6, 0.2, 0.4, 0.1]]), 0.3).tolist()
    [[-1, 0, 0, 1], [1, 0, 0, -1]]
    """
    away = risks - target
    closest = np.abs(away).min(axis=1, keepdims=True)
    return np.where(np.abs(away) <= closest + _ALIKE, 0, np.sign(away)).astype(int)


def right_dose(sides: np.ndarray) -> np.ndarray:
    """Lowest of the doses that `sides_of` says are closest, shape ``(draws,)``."""
    return np.argmax(sides == 0, axis=1) + 1
