"""Ways to run a trial compared in the same patients, in the same order, at the same intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from pkpd.arguments import Kind, check_arguments
from pkpd.cluster import workers
from pkpd.designs.exact.characteristics import right_dose, sides_of
from pkpd.designs.kinds import aimed_at
from pkpd.designs.protocol import Design
from pkpd.designs.simulate.patients import Accrual, EventTimes, Outcomes, Responses
from pkpd.designs.simulate.trials import Ended, check_simulation, outcomes_of, run_trials
from pkpd.designs.weights import WeightFunction, linear_weight
from pkpd.errors import PkpdError
from pkpd.machine import cores

MEASURES = {
    "correct": "a right dose is selected",
    "too_high": "a dose of a higher risk than the right ones is selected",
    "patients_above": "patients treated at a higher risk than that of the right doses",
    "patients_at": "patients treated at a right dose",
    "patients_below": "patients treated at a lower risk than that of the right doses",
    "patients": "patients",
    "dlts": "patients with a DLT",
    "duration": "days",
    "suspended": "days on which accrual was suspended",
}
"""What is compared, in words; probabilities or means of one trial. Right are the doses whose risk
is closest to the target."""


def compare_trials(
    ways: Mapping[str, tuple[Design, Sequence[float] | np.ndarray | Outcomes]],
    *,
    accrual: Accrual,
    times: EventTimes | None = None,
    weight: WeightFunction = linear_weight,
    responses: Responses | None = None,
    trials: int = 1000,
    seed: int = 1,
    target: float | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
) -> xr.Dataset:
    """Compare ways to run a trial, each trial's patients being the same in all of them.

    Parameters
    ----------
    ways
        By name, a design and the risks or outcomes it is simulated with. The true risks must be
        the same; designs, and weights of pending patients, may differ.
    accrual, times, weight, responses, trials, seed, cluster, jobs
        As of `simulate_trials`.
    target
        Risk that makes a dose right; that of the first design if not given.

    Returns
    -------
    xarray.Dataset
        ``value`` of each `way`, `measure` and `draw` of the risks; its mean over the draws,
        ``mean``; ``difference`` of `way` less `other` in that mean. ``value_se``, ``mean_se`` and
        ``difference_se`` are Monte Carlo standard errors; those of differences are paired.
        ``right`` is the right dose by draw, of several the lowest.

    Raises
    ------
    PkpdError
        If the true risks differ, there is no target, or an input cannot be used.

    Examples
    --------
    >>> from pkpd.designs import BOIN, Accrual, EventTimes, TiteBOIN
    >>> risks = [0.1, 0.3, 0.5]
    >>> ways = {
    ...     "waits": (BOIN(levels=3, target=0.3), risks),
    ...     "goes on": (TiteBOIN(levels=3, target=0.3), risks),
    ... }
    >>> found = compare_trials(ways, accrual=Accrual(10), times=EventTimes(28), trials=100)
    >>> gap = found.difference.sel(way="goes on", other="waits", measure="duration")
    >>> bool(gap < 0)
    True
    """
    pairs = Kind(
        "names, each with a pair of design and risks",
        lambda v: isinstance(v, Mapping) and all(_is_way(one) for one in v.values()),
    )
    check_arguments("compare_trials", ways=(ways, pairs))
    for design, _ in ways.values():
        check_simulation(
            "compare_trials",
            *(design, accrual, times, weight, responses, trials, seed, target, cluster),
        )
    if not ways:
        raise PkpdError(where="ways", what="there is none", remedy="name one")
    made = {
        name: (design, outcomes_of(design, risks, times, weight)[0])
        for name, (design, risks) in ways.items()
    }
    first, (design, outcomes) = next(iter(made.items()))
    true = outcomes.risks()
    for name, (_, other) in made.items():
        if other.risks().shape != true.shape or not np.allclose(other.risks(), true):
            what, remedy = f"its risks are not those of {first!r}", "give the same to all"
            raise PkpdError(where=f"way {name!r}", what=what, remedy=remedy)
    aimed = aimed_at(design, target)
    if aimed is None:
        what = f"{design.name} has none, and no dose is right without one"
        raise PkpdError(where="target", what=what, remedy="give it")
    sides = sides_of(true, aimed)
    with workers(cluster, jobs or cores()) as spread:
        ended = [
            run_trials(one, out, accrual, responses, trials, seed, spread)
            for one, out in made.values()
        ]
    each = np.stack([_measured(one, sides, trials) for one in ended])
    return _dataset(each, list(made), right_dose(sides), true)


def _is_way(one: object) -> bool:
    return isinstance(one, tuple | list) and len(one) == 2 and isinstance(one[0], Design)


def _measured(ended: Ended, sides: np.ndarray, trials: int) -> np.ndarray:
    """Measures of every trial, shape ``(measures, draws, trials)``."""
    side = np.repeat(sides, trials, axis=0)
    picked = ended.selected[:, None] == np.arange(1, side.shape[1] + 1)
    values = {
        "correct": (picked & (side == 0)).any(axis=1),
        "too_high": (picked & (side > 0)).any(axis=1),
        "patients_above": (ended.treated * (side > 0)).sum(axis=1),
        "patients_at": (ended.treated * (side == 0)).sum(axis=1),
        "patients_below": (ended.treated * (side < 0)).sum(axis=1),
        "patients": ended.treated.sum(axis=1),
        "dlts": ended.dlts.sum(axis=1),
        "duration": ended.duration,
        "suspended": ended.suspended,
    }
    return np.stack([values[name].astype(float).reshape(-1, trials) for name in MEASURES])


def _dataset(each: np.ndarray, names: list[str], right: np.ndarray, true: np.ndarray) -> xr.Dataset:
    """From measures ``(ways, measures, draws, trials)`` to means, differences and errors."""
    draws, trials = each.shape[2:]
    variance = each.var(axis=3, ddof=1) / trials
    pairs = each[:, None] - each[None]
    paired = pairs.var(axis=4, ddof=1) / trials
    made = {
        "value": (("way", "measure", "draw"), each.mean(axis=3)),
        "value_se": (("way", "measure", "draw"), np.sqrt(variance)),
        "mean": (("way", "measure"), each.mean(axis=(2, 3))),
        "mean_se": (("way", "measure"), np.sqrt(variance.sum(axis=2)) / draws),
        "difference": (("way", "other", "measure"), pairs.mean(axis=(3, 4))),
        "difference_se": (("way", "other", "measure"), np.sqrt(paired.sum(axis=3)) / draws),
        "right": ("draw", right),
        "risk": (("draw", "level"), true),
    }
    coords = {
        "way": names,
        "other": names,
        "measure": list(MEASURES),
        "draw": np.arange(draws),
        "level": np.arange(1, true.shape[1] + 1),
    }
    return xr.Dataset(made, coords=coords, attrs={"trials": trials})
