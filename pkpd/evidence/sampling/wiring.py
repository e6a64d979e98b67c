"""Which parameters act on which simulated arm, found by moving each of them.

A parameter acts on an arm if anything that happens to the arm's patients, or a summary of it,
changes when it alone is moved. Most act on few arms: a drug's on those that get it, a disease's on
those who have it. What happens is compared, not only what is printed: few patients who respond
show by no count that a parameter moves the day of their recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.evidence.likelihood.cells import Cells
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.summaries import Summaries, summarise
from pkpd.evidence.likelihood.total import Simulator
from pkpd.evidence.sampling.emulator import Wiring
from pkpd.evidence.table.arms import ArmSeen
from pkpd.files import whole

PATIENTS = 16
"""Of an arm: enough, since any change in any of them counts."""
DRAWS = 3
"""Draws of the prior at each of which each parameter is moved: one may act only where another is
not zero."""
MOVED = 1.5
"""By so many standard deviations of its prior."""
FILE = "wiring.npz"


def wiring(
    make: Callable[[int], Simulator],
    cells: Cells,
    prior: Prior,
    inputs: Sequence[int],
    *,
    seed: int,
    folder: Path | None = None,
) -> Wiring:
    """Find which inputs act on which arm.

    Parameters
    ----------
    make
        From a seed to a simulator whose arms tell their course.
    cells
        Whose arms and summaries are asked.
    prior
        From scores to parameters.
    inputs
        Which of the scores can act.
    seed
        Of draws and patients.
    folder
        Where the answer is kept; what is there is not asked again.
    """
    keys = sorted({one.arm for one in (*cells.shares, *cells.days)})
    arm = np.array([keys.index(one.arm) for one in (*cells.shares, *cells.days)], dtype=np.int64)
    kept = _kept(folder, (len(keys), len(inputs)))
    if kept is not None:
        return Wiring(kept, arm)
    run = make(seed)
    acts = np.zeros((len(keys), len(inputs)), bool)
    for base in np.random.default_rng(seed).standard_normal((DRAWS, prior.size)):
        before = _happened(run, cells, prior, base, keys, arm)
        for place, score in enumerate(inputs):
            moved = base.copy()
            moved[score] -= MOVED * np.copysign(1.0, moved[score])
            after = _happened(run, cells, prior, moved, keys, arm)
            acts[:, place] |= [
                not np.array_equal(a, b, equal_nan=True) for a, b in zip(before, after, strict=True)
            ]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / FILE) as part, part.open("wb") as out:
            np.savez(out, acts=acts)
    return Wiring(acts, arm)


def _happened(
    run: Simulator,
    cells: Cells,
    prior: Prior,
    point: Floats,
    keys: Sequence[str],
    arm: NDArray[np.int64],
) -> list[Floats]:
    """All numbers of each arm: the course of its patients, and its summaries."""
    theta = prior.theta(point)
    seen = run(theta)
    own = _by_arm(summarise(cells.shares, cells.days, seen, theta), arm, len(keys))
    return [np.concatenate([_course(seen[key]), own[i]]) for i, key in enumerate(keys)]


def _course(seen: ArmSeen) -> Floats:
    return np.ravel(np.asarray(seen.trace(), dtype=np.float64))


def _by_arm(found: Summaries, arm: NDArray[np.int64], arms: int) -> list[Floats]:
    s = len(found.share)
    return [
        np.concatenate(
            [
                found.share[arm[:s] == i], found.size[arm[:s] == i],
                found.days[arm[s:] == i].ravel(), found.days_size[arm[s:] == i],
            ]
        )
        for i in range(arms)
    ]  # fmt: skip


def _kept(folder: Path | None, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    if folder is None or not (folder / FILE).is_file():
        return None
    with np.load(folder / FILE, allow_pickle=False) as data:
        acts = np.asarray(data["acts"], dtype=bool)
    return acts if acts.shape == shape else None
