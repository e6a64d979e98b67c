"""Coordinates of a lag that cannot pass a measurement.

Where a value clearly above zero was measured at time ``t`` after the first dose, the lag is below
``t``: the likelihood falls there like a cliff, and before it the lag goes with the rate of
absorption along a curve that ends in the cliff. What is sampled in the place of the lag ``l`` is
``l'``, with

    ``l / t = s(v) + exp(v - 24)``,   ``v = log(l' / t)``,   ``s(v) = 1 / (1 + exp(-v))``.

Far below ``t`` the two are equal; towards ``t`` the odds ``l / (t - l)`` take the place of ``l``,
whose logarithm goes with that of the rate of absorption along a straight line. The last term,
below 1e-5 up to ``l = (1 - 1e-5) t``, leads on to lags of any length.

A measurement near zero at an earlier time ``a`` bounds the lag from below, within the time in which
a concentration leaves the error: hundredths or thousandths of an hour where absorption is quick. A
lag that passes ``a`` comes from a cell as wide as the distance of two measurements to one a hundred
times as narrow, and steps that suit both are that short. There ``v`` is stretched: with ``v_a`` of
``l = a``, and ``e`` the share of the narrow width,

    ``v = v_a + e (w - v_a) + (1 - e) c log(1 + exp((w - v_a) / c))``

and ``w`` is ``v`` after ``a`` and moves ``1 / e`` times as far before.

A measurement above zero that may be the drug or an error gives a subject two modes with a valley
between them, which chains seldom cross. Its lag is sampled by ``u``, along which the profile of
its density is a normal one (`pkpd.fitting.bayes.wall_modes.evened`),

    ``w = u + sum_k (d_k - d_(k-1)) h log(1 + exp((u_k - u) / h))``

with slope ``d_k`` between knots ``u_k``: valleys are narrow there and as high as the modes. Else
``u`` is ``w``.

All this is smooth and goes from all positive numbers to all positive numbers, and with its
derivative in the density the posterior is the same, walls or none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pkpd.fitting.model.individuals import to_scale
from pkpd.fitting.model.population_likelihood import PopulationLikelihood

FloatArray = NDArray[np.floating[Any]]

_BEYOND = 24.0  # chosen: twice the logarithm of the odds from which on a lag grows past its wall
NO_WALL = 60.0
"""Logarithm of the time (h) of a wall that nothing reaches."""

PROFILE = np.arange(-4.0, 5.01, 0.25)
"""Places ``w - v_a`` of profiles; chosen."""

_EXCLUDED = 18.0  # log likelihood that a measurement loses without any drug: odds of 1e-8
_LONG = 1e6  # h: no drug has come in
_BEND = 0.1  # chosen: ``c``, in logarithms of odds
_WIDTH = 0.4  # chosen: width in ``w`` that the narrow one is stretched to
_LEAST_SHARE = 0.01  # chosen: of the width
_EARLIER = 0.01  # of a time: lags by which the narrow width is measured
_LAG = re.compile(r"ALAG[1-9][0-9]*")
_SOFT = 0.02  # chosen: ``h``


@dataclass(frozen=True, eq=False)
class Walls:
    """Measurements between which lags lie, by subject and parameter that varies.

    Attributes
    ----------
    ends : float[B, E]
        Logarithm of the time ``t`` (h) that the lag does not pass; 60 where there is none.
    begins : float[B, E]
        Logarithm of the odds ``a / (t - a)`` of the last measurement before.
    share : float[B, E]
        ``e``; 1 where nothing is stretched.
    knots : float[B, E, K]
        ``u_k - v_a``.
    levels : float[B, E, K + 1]
        ``d_k``; the last is 1, and all where nothing is evened.
    """

    ends: FloatArray
    begins: FloatArray
    share: FloatArray
    knots: FloatArray
    levels: FloatArray

    @property
    def parameters(self) -> np.ndarray:
        """Which parameters have walls in any subject, bool[E]."""
        return np.any(self.ends < NO_WALL, axis=0)

    @property
    def subjects(self) -> np.ndarray:
        """Which subjects have a wall, bool[B]."""
        return np.any(self.ends < NO_WALL, axis=1)


def bend(
    likelihood: PopulationLikelihood, walls: Walls, values: Any, effects: Any, xp: Any
) -> tuple[Any, Any]:
    """From effects as sampled to random effects.

    Parameters
    ----------
    likelihood
        Model and data.
    walls
        From `find_walls`.
    values
        Typical values by name.
    effects : float[B, R]
        Effects as sampled.
    xp
        ``numpy``, ``jax.numpy`` or ``pytensor.tensor``.

    Returns
    -------
    random : float[B, R]
    slope : float[B]
        Logarithm of the determinant of the derivative.
    """
    columns = [effects[:, i] for i in range(likelihood.random_effects.size)]
    slope: Any = 0.0
    for i in np.flatnonzero(walls.parameters):
        name, share = likelihood.model.varying[i], walls.share[:, i]
        typical = to_scale(likelihood.model[name], values[name], xp)
        past = typical + columns[i] - walls.ends[:, i] - walls.begins[:, i]
        past, evened = _evened(past, walls.knots[:, i], walls.levels[:, i], xp)
        slope = slope + evened
        softly = xp.logaddexp(0.0, past / _BEND)
        v = walls.begins[:, i] + share * past + (1.0 - share) * _BEND * softly
        slope = slope + xp.log(share + (1.0 - share) * xp.exp(past / _BEND - softly))
        below, above = -xp.logaddexp(0.0, -v), -xp.logaddexp(0.0, v)
        place = xp.logaddexp(below, v - _BEYOND)
        columns[i] = place + walls.ends[:, i] - typical
        slope = slope + xp.logaddexp(below + above, v - _BEYOND) - place
    return xp.stack(columns, 1), slope


def _evened(u: Any, knots: FloatArray, levels: FloatArray, xp: Any) -> tuple[Any, Any]:
    """From ``u`` to ``w - v_a``, and the logarithm of the slope."""
    steps = np.diff(levels, axis=1)
    if not np.any(steps):
        return u, 0.0
    softly = xp.logaddexp(0.0, (knots - u[:, None]) / _SOFT)
    share = xp.exp((knots - u[:, None]) / _SOFT - softly)
    return u + _SOFT * (steps * softly).sum(axis=1), xp.log(1.0 - (steps * share).sum(axis=1))


def find_walls(likelihood: PopulationLikelihood, values: Any, random: FloatArray) -> Walls | None:
    """Find the first measurement that excludes a longer lag, and the last before it.

    ``None`` where there are none: lags that vary between subjects, on a log scale, without
    covariates, occasions, Box-Cox shape or a weight of their own alone have walls.

    Parameters
    ----------
    likelihood
        Model and data.
    values
        Population parameters by name.
    random : float[B, R]
        Random effects near their modes.
    """
    model, seen = likelihood.model, likelihood.dataset.observations
    events = likelihood.dataset.events
    shape = (likelihood.n_subjects, len(model.varying))
    walls = Walls(
        np.full(shape, NO_WALL),
        np.zeros(shape),
        np.ones(shape),
        np.zeros((*shape, PROFILE.size)),
        np.ones((*shape, PROFILE.size + 1)),
    )
    given = events.is_dose & events.valid
    first = np.min(np.where(given, events.time, np.inf), axis=1)
    after = seen.time - first[seen.subject]
    fixed = likelihood.fixed(values)
    for i, name in enumerate(model.varying):
        p = model[name]
        plain = p.scale == "log" and not p.effects and p.boxcox is None and p.centring is None
        if not (_LAG.fullmatch(name) and plain) or name in model.occasional:
            continue

        def by_lag(lag: FloatArray | float, i: int = i, name: str = name) -> FloatArray:
            moved = np.array(random)
            moved[:, i] = np.log(lag / values[name])
            return np.asarray(likelihood.by_observation(fixed, jnp.asarray(moved)))

        here = np.asarray(likelihood.by_observation(fixed, jnp.asarray(random)))
        lost = ~(here - by_lag(_LONG) < _EXCLUDED) & np.isfinite(here) & (after > 0)
        ends, last = np.full(shape[0], np.inf), np.zeros(shape[0])
        np.minimum.at(ends, seen.subject[lost], after[lost])
        earlier = (after > 0) & (after < ends[seen.subject]) & np.isfinite(ends[seen.subject])
        np.maximum.at(last, seen.subject[earlier], after[earlier])
        walls.ends[:, i] = np.where(np.isfinite(ends), np.log(ends), NO_WALL)
        at = np.flatnonzero(earlier & (after == last[seen.subject]))
        subject = seen.subject[at]
        lags = np.where(last > 0, last, 1.0)
        losses = [by_lag(lags * (1.0 - k * _EARLIER))[at] for k in range(3)]
        # a concentration that grows evenly loses with the square of the time
        bent = np.zeros(shape[0])
        np.add.at(bent, subject, 2.0 * losses[1] - losses[0] - losses[2])
        odds = last[subject] / (ends[subject] - last[subject])
        walls.begins[subject, i] = np.log(odds)
        with np.errstate(divide="ignore", invalid="ignore"):
            width = _EARLIER / np.sqrt(bent[subject]) * (1.0 + odds)
        width = np.where(np.isfinite(width), width, np.inf)
        walls.share[subject, i] = np.clip(width / _WIDTH, _LEAST_SHARE, 1.0)
    return walls if np.any(walls.subjects) else None
