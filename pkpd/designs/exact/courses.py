"""Every course of a trial that ends in the same counts, counted once.

The probability of a course depends on the risks only by the counts it ends in: a patient at dose j
has a DLT with probability ``p[j]``. So the graph of states is built once, with the number of ways
to each end, and any number of risk vectors is then a matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import comb

from pkpd.arguments import a, check_arguments, from_to
from pkpd.designs.data import Action, Trials
from pkpd.designs.merging import merged
from pkpd.designs.protocol import Design
from pkpd.errors import PkpdError

_STEPS = 1000


@dataclass(frozen=True)
class Courses:
    """Ends of all courses of a trial.

    Attributes
    ----------
    treated, dlts
        Counts at the end, shape ``(ends, levels)``.
    ways
        Sequences of outcomes of single patients that lead there, shape ``(ends,)``.
    selected
        Dose that is selected, shape ``(ends,)``; 0 for none.
    why
        Of `pkpd.designs.Why`, shape ``(ends,)``.
    states
        States that were visited.
    """

    treated: np.ndarray
    dlts: np.ndarray
    ways: np.ndarray
    selected: np.ndarray
    why: np.ndarray
    states: int

    def probabilities(self, risks: np.ndarray) -> np.ndarray:
        """Probability of each end under each risk vector.

        Parameters
        ----------
        risks
            Shape ``(draws, levels)``.

        Returns
        -------
        array
            Shape ``(draws, ends)``; rows sum to 1.
        """
        with np.errstate(divide="ignore"):
            yes, no = np.log(risks), np.log1p(-risks)
        # 0 times the logarithm of 0 is 0, and anything else times it is impossible
        yes, no = np.maximum(yes, -1e300), np.maximum(no, -1e300)
        spared = (self.treated - self.dlts).astype(float)
        log_p = yes @ self.dlts.T.astype(float) + no @ spared.T
        return np.exp(log_p) * self.ways


def enumerate_courses(design: Design, most_states: int = 3_000_000) -> Courses:
    """All courses of a trial in which each cohort is assessed before the next one.

    Parameters
    ----------
    design
        Any design; one that can decide with pending patients has none here.
    most_states
        Refuse to go on beyond so many states.

    Returns
    -------
    Courses
        Their ends.

    Raises
    ------
    PkpdError
        If there are more states, or the design never stops.
    """
    check_arguments(
        "enumerate_courses", design=(design, a(Design)), most_states=(most_states, from_to(1))
    )
    empty = np.zeros((1, design.levels), np.int64)
    one = np.zeros(1, np.int64)
    layer = Trials(treated=empty, dlts=empty, current=one, last_treated=one, last_dlts=one)
    ways = np.ones(1)
    ends: list[tuple] = []
    visited = 0
    for _ in range(_STEPS):
        visited += len(ways)
        if visited > most_states:
            raise PkpdError(
                where=design.name,
                what=f"the trial has more than {most_states:,} states",
                remedy="simulate it (pkpd.designs.simulate_trials), or take larger cohorts",
            )
        found = design.decide(layer)
        stops = found.action == Action.STOP
        if stops.any():
            rows = np.flatnonzero(stops)
            done = layer.take(rows)
            chosen = replace(
                found, level=found.level[rows], action=found.action[rows], why=found.why[rows]
            )
            selected = design.recommend(done, chosen)
            ends.append((done.treated, done.dlts, ways[rows], selected, chosen.why))
        rows = np.flatnonzero(~stops)
        if not len(rows):
            break
        layer, ways = _after_cohort(design, layer.take(rows), found.level[rows], ways[rows])
    else:
        what, remedy = f"it does not stop within {_STEPS} cohorts", "set most_patients"
        raise PkpdError(where=design.name, what=what, remedy=remedy)
    joined = [np.concatenate(parts) for parts in zip(*ends, strict=True)]
    return Courses(*joined, states=visited)


def _after_cohort(
    design: Design, layer: Trials, level: np.ndarray, ways: np.ndarray
) -> tuple[Trials, np.ndarray]:
    """States after one more cohort at these levels, merged."""
    size = design.size(layer, level)
    parts = []
    for count in np.unique(size):
        rows = np.flatnonzero(size == count)
        for dlts in range(count + 1):
            treated, seen = layer.treated[rows], layer.dlts[rows]
            place = (np.arange(len(rows)), level[rows] - 1)
            treated[place] += count
            seen[place] += dlts
            last = np.broadcast_to([count, dlts], (len(rows), 2))
            new = np.concatenate([treated, seen, level[rows, None], last], axis=1)
            parts.append((new, ways[rows] * comb(count, dlts)))
    states = np.concatenate([part[0] for part in parts])
    if not design.uses_last_cohort:
        states[:, -2:] = 0
    first, back = merged(states)
    total = np.bincount(back, weights=np.concatenate([part[1] for part in parts]))
    states, k = states[first], design.levels
    return (
        Trials(
            treated=states[:, :k],
            dlts=states[:, k : 2 * k],
            current=states[:, 2 * k],
            last_treated=states[:, -2],
            last_dlts=states[:, -1],
        ),
        total,
    )
