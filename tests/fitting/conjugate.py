"""A linear model with normal errors, whose posterior is known in closed form."""

from __future__ import annotations

import numpy as np
from small_data import Straight, dataset_of

from pkpd.fitting.model.priors import Prior, fixed
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, parameter

OMEGA, SIGMA, TIMES = 0.8, 0.5, (0.0, 1.0, 2.0, 4.0)
MEANS, SPREADS = np.array([1.0, 0.0]), np.array([1.0, 0.5])


LEVEL = Prior("Normal", mu=MEANS[0], sigma=SPREADS[0])


def model(level=LEVEL, sigma=SIGMA):
    return PopulationModel(
        Straight(),
        [
            parameter("level", 1.0, scale="identity", iiv=fixed(OMEGA), prior=level),
            parameter(
                "slope", 0.2, scale="identity", prior=Prior("Normal", mu=MEANS[1], sigma=SPREADS[1])
            ),
        ],
        additive(fixed(sigma)),
    )


def data(n=6, seed=4):
    rng = np.random.default_rng(seed)
    rows = []
    for b in range(n):
        level = 1.5 + OMEGA * rng.standard_normal()
        rows += [(b, t, None, level + 0.3 * t + SIGMA * rng.standard_normal()) for t in TIMES]
    return dataset_of(rows, lines=("height",), source="conjugate data")


def posterior(data):
    """Mean and covariance of (level, slope, eta of every subject)."""
    seen = data.observations
    n = len(data.subjects)
    design = np.zeros((len(seen), 2 + n))
    design[:, 0], design[:, 1] = 1.0, seen.time
    design[np.arange(len(seen)), 2 + seen.subject] = 1.0
    precision = design.T @ design / SIGMA**2
    precision += np.diag(np.concatenate([SPREADS**-2, np.full(n, OMEGA**-2)]))
    covariance = np.linalg.inv(precision)
    pull = design.T @ seen.value / SIGMA**2
    pull[:2] += MEANS / SPREADS**2
    return covariance @ pull, covariance
