"""Where the draws of divergent trajectories lie: which parameter, which subject's random effect.

Of every scalar of the posterior the ranks of the divergent draws among all are compared with those
of draws taken at random, whose mean rank is one half with a variance of ``1/(12 k)`` for ``k`` of
them. A place is named where the chance of a mean so far out is below one in a hundred for all
scalars together (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

FEWEST = 5
"""Divergent draws below which no place is looked for."""
CHANCE = 0.01
"""Of naming a place where there is none."""


@dataclass(frozen=True)
class Place:
    """Where divergent draws lie.

    Attributes
    ----------
    parameter
        Population parameter, or that whose random effect it is.
    subject
        Of the random effect; empty for a population parameter.
    divergent, every
        Median of the divergent draws, and of all.
    standard_errors
        Of the mean rank of the divergent draws from one half.
    """

    parameter: str
    subject: str
    divergent: float
    every: float
    standard_errors: float

    def __str__(self) -> str:
        """Say it: ``omega_ka is small (median 0.08, of all draws 0.3)``."""
        what = f"the random effect of {self.parameter} in subject {self.subject}"
        size = "small" if self.standard_errors < 0 else "large"
        return (
            f"{what if self.subject else self.parameter} is {size} (median {self.divergent:.2g}, "
            f"of all draws {self.every:.2g})"
        )


def places_of_divergence(idata: Any, names: Sequence[str]) -> tuple[Place, ...]:
    """Name the population parameter and the random effect by which divergent draws differ most.

    Parameters
    ----------
    idata
        ``arviz.InferenceData`` with ``posterior`` and ``sample_stats`` with ``diverging``.
    names
        Population parameters; random effects are those of ``eta`` and ``kappa``.

    Returns
    -------
    tuple of Place
        At most one of each kind, the parameter first; empty with few divergent draws, or where
        they lie as others do.
    """
    diverged = np.asarray(idata.sample_stats["diverging"]).ravel().astype(bool)
    count = int(diverged.sum())
    if not FEWEST <= count <= diverged.size - FEWEST:
        return ()
    population = [(name, "", idata.posterior[name].values.ravel()) for name in names]
    effects = [
        one for name in ("eta", "kappa") if name in idata.posterior
        for one in _scalars(idata.posterior[name])
    ]  # fmt: skip
    found = []
    for group in (population, effects):
        places = [_place(*one, diverged) for one in group]
        if not places:
            continue
        far = max(places, key=lambda place: abs(place.standard_errors))
        chance = 2.0 * ndtr(-abs(far.standard_errors)) * (len(population) + len(effects))
        if chance < CHANCE:
            found.append(far)
    return tuple(found)


def _scalars(values: Any) -> Iterable[tuple[str, str, np.ndarray]]:
    """Parameter, subject (and occasion) and draws of each random effect."""
    inner = [dim for dim in values.dims if dim not in ("chain", "draw")]
    flat = values.stack(place=inner).transpose("chain", "draw", "place")
    draws = flat.values.reshape(-1, flat.sizes["place"])
    for k, labels in enumerate(flat["place"].values):
        subject, *occasion, parameter = (str(part) for part in labels)
        yield parameter, " occasion ".join([subject, *occasion]), draws[:, k]


def _place(parameter: str, subject: str, draws: np.ndarray, diverged: np.ndarray) -> Place:
    ranks = (np.argsort(np.argsort(draws)) + 0.5) / draws.size
    away = (ranks[diverged].mean() - 0.5) * np.sqrt(12.0 * diverged.sum())
    middle = float(np.median(draws))
    return Place(parameter, subject, float(np.median(draws[diverged])), middle, float(away))
