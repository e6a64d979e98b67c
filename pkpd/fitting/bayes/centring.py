"""How each random effect is sampled: by itself, as a standard normal, or in between.

Around a reference point a subject's data say ``h' eta - eta' I eta / 2`` about its random effects
``eta``: ``I`` is their information, ``h`` their pull. Where the typical values move by ``d`` on the
scale of the parameters, the data see ``eta + d``, so that the pull is ``h - I d``. Random effects
with covariance ``Omega = L L'`` then have precision ``Omega^-1 + I``, and ``z = L^-1 eta`` has
precision ``M = 1 + L' I L`` and mean ``M^-1 L' (h - I d)``. What is sampled is ``z`` standardised
by these two: with ``U`` the upper triangular root of ``M = U U'``,

    ``x = U' z - U^-1 L' (h - I d)``.

``x`` is nearly standard normal and nearly independent of the population's parameters where the data
are as informative as ``I`` says, whatever the subject, the effect, and the value of ``Omega``.
Correlated effects are treated together. This is the partially centred parameterisation
(Papaspiliopoulos, Roberts and Skoeld 2003, Bayesian Statistics 7:307-26) with the matrix of weights
``W = (Omega^-1 + I)^-1 I``, one of each subject: for a single effect the information over the sum
of information and prior precision. ``I = 0`` is the non-centred, a large ``I`` the centred
parameterisation. Given the population's parameters ``x`` is an affine function of ``eta``, so that
the posterior is the same whatever ``I`` and ``h`` are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.fitting.bayes.wall_modes import BentModes
from pkpd.fitting.bayes.walls import Walls
from pkpd.fitting.maximum.densities import conditional_density
from pkpd.fitting.model.individuals import to_scale
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.specification import PopulationModel
from pkpd.small_systems import inverse_each

FloatArray = NDArray[np.floating[Any]]

_CENTRED = 1.0 - 1e-6  # largest weight: 1 stands for it


@dataclass(frozen=True, eq=False)
class Centring:
    """What the data of each subject say about its random effects, for the sampler's coordinates.

    Attributes
    ----------
    information : float[B, R, R]
        ``I``, positive semi-definite.
    pull : float[B, R]
        ``h``.
    typical : float[E]
        Typical values, on the scale of their parameters, at which ``h`` was taken.
    unit : float[B, R]
        Size of ``x`` in its own standard deviations, so that centred effects, which hardly move in
        them, move by about the standard deviation between patients.
    walls
        Measurements between which lags lie (`pkpd.fitting.bayes.walls`): ``eta`` above is then the
        effect as sampled, which lags bend.
    """

    information: FloatArray
    pull: FloatArray
    typical: FloatArray
    unit: FloatArray
    walls: Walls | None = None

    def covariance(self, lower: FloatArray) -> FloatArray:
        """Covariance of the random effects given the data, ``L M^-1 L'``, ``[B, R, R]``.

        Parameters
        ----------
        lower : float[R, R]
            ``L``.
        """
        inner = np.eye(len(lower)) + lower.T @ self.information @ lower
        return lower @ inverse_each(inner) @ lower.T

    def weights(self, covariance: FloatArray) -> FloatArray:
        """Diagonal of the weights ``W`` under a covariance of the random effects, ``[B, R]``."""
        size = len(covariance)
        inner = np.eye(size) + covariance @ self.information
        inverse = np.diagonal(inverse_each(inner), axis1=1, axis2=2)
        # beside information that large the unit matrix is lost: all is known
        return 1.0 - np.where(np.isfinite(inverse), inverse, 0.0)


def non_centred(likelihood: PopulationLikelihood) -> Centring:
    """Sample random effects as standard normals."""
    n, size = likelihood.n_subjects, likelihood.random_effects.size
    typical = np.zeros(len(likelihood.model.varying))
    return Centring(np.zeros((n, size, size)), np.zeros((n, size)), typical, np.ones((n, size)))


def by_weights(
    likelihood: PopulationLikelihood,
    weights: Mapping[str, Any],
    values: Mapping[str, float] | None = None,
) -> Centring:
    """Centre random effects by given weights.

    Parameters
    ----------
    likelihood
        Model and data.
    weights
        Weight by parameter, 0 non-centred to 1 centred, one number or one for each subject. Those
        of the model's parameters come first; 0 where neither is given, for effects of occasions,
        and for Box-Cox effects, which are no distance from the typical value.
    values
        Population parameters at which the information has these weights; the model's own if left
        out.
    """
    model, made = likelihood.model, non_centred(likelihood)
    values = start_values(model) | dict(values or {})
    names = model.varying
    chosen = np.zeros(made.pull.shape)
    for i, name in enumerate(names):
        own = model[name].centring
        if model[name].boxcox is None:
            chosen[:, i] = own if own is not None else weights.get(name, 0.0)
    chosen = np.minimum(chosen, _CENTRED)
    lower = np.asarray(likelihood.random_effects.cholesky(values, np))
    precision = 1.0 / np.sum(lower**2, axis=1)
    information = np.zeros_like(made.information)
    each = np.arange(information.shape[1])
    information[:, each, each] = chosen / (1.0 - chosen) * precision
    return Centring(information, made.pull, _typical(model, values), np.sqrt(1.0 - chosen))


def by_information(
    likelihood: PopulationLikelihood, values: Mapping[str, float], random: FloatArray
) -> Centring:
    """Centre random effects by the information of each subject's data at a point.

    The information is the curvature of minus the log-likelihood, first-order as in FOCE-I, so that
    it is positive semi-definite; that of a subject without finite likelihood is zero. A model's own
    weights (`pkpd.fitting.model.specification.IndividualParameter.centring`) replace it for their
    parameters.

    Parameters
    ----------
    likelihood
        Model and data.
    values
        Population parameters by name; those left out are the model's. Standard deviations are not
        zero.
    random : float[B, R]
        Random effects, as a rule the modes.
    """
    model, effects = likelihood.model, likelihood.random_effects
    values = start_values(model) | dict(values)
    density = conditional_density(likelihood)
    x = density.free.of(values)
    lower = density.free.cholesky(x, np)
    inverse = np.linalg.inv(lower)
    u = random @ inverse.T
    _, slope, hessian = density.approximate(x, u, density.central(x))
    information = inverse.T @ (hessian - np.eye(effects.size)) @ inverse
    pull = (u - slope) @ inverse + np.einsum("brs,bs->br", information, random)
    lost = ~(np.isfinite(pull).all(axis=1) & np.isfinite(information).all(axis=(1, 2)))
    information[lost], pull[lost] = 0.0, 0.0
    made = by_weights(likelihood, {}, values)
    own = np.array([model[name].centring is not None for name in model.varying], dtype=bool)
    own = np.flatnonzero(np.concatenate([own, np.zeros(effects.size - len(own), dtype=bool)]))
    information[:, own, :], information[:, :, own], pull[:, own] = 0.0, 0.0, 0.0
    return Centring(information + made.information, pull, made.typical, made.unit)


def by_walls(
    likelihood: PopulationLikelihood,
    made: Centring,
    values: Mapping[str, float],
    walls: Walls,
    modes: BentModes,
) -> Centring:
    """Centre the effects of subjects with walls by the curvature at modes of what is sampled.

    Parameters
    ----------
    likelihood
        Model and data.
    made
        Centring of the other subjects.
    values
        All population parameters at which modes were searched.
    walls, modes
        From `pkpd.fitting.bayes.walls`.
    """
    lower = np.asarray(likelihood.random_effects.cholesky(values, np))
    inverse = np.linalg.inv(lower)
    sizes, axes = np.linalg.eigh(modes.curvature - np.eye(len(lower)))
    # a bent prior may be wider than the normal one: such data say nothing
    known = (axes * np.maximum(sizes, 0.0)[:, None, :]) @ np.swapaxes(axes, 1, 2)
    own = walls.subjects & np.isfinite(known).all(axis=(1, 2))
    information, pull = made.information.copy(), made.pull.copy()
    information[own] = (inverse.T @ known @ inverse)[own]
    pull[own] = ((modes.z + np.einsum("brs,bs->br", known, modes.z)) @ inverse)[own]
    moved = _typical(likelihood.model, values) - made.typical
    pull[own] += np.einsum("brs,s->br", information[own][:, :, : len(moved)], moved)
    return dataclasses.replace(made, information=information, pull=pull, walls=walls)


def _typical(model: PopulationModel, values: Mapping[str, float]) -> FloatArray:
    return np.array([to_scale(model[name], values[name], np) for name in model.varying])


def standardisation(
    likelihood: PopulationLikelihood,
    centring: Any,
    values: Mapping[str, Any],
    xp: Any,
    solve: Callable[[Any, Any], Any],
) -> tuple[Any, Any, Any]:
    """From population parameters to the affine function between ``x`` and random effects.

    Parameters
    ----------
    likelihood
        Model and data.
    centring
        A `Centring`, or one of variables of a graph.
    values
        Population parameters by name: numbers, or variables of a graph.
    xp
        ``numpy`` or ``pytensor.tensor``.
    solve
        Solves lower triangular systems ``[B, R, R]`` and ``[B, R]``.

    Returns
    -------
    lower : float[R, R]
        ``eta = L z``.
    mean : float[B, R]
    factor : float[B, R, R]
        ``x = mean + factor z``, lower triangular.
    """
    effects, unit = likelihood.random_effects, centring.unit
    lower = effects.cholesky(values, xp)
    # the upper triangular root is the lower one of the matrix turned about; a product with this
    # matrix turns, as XLA fails on some graphs with reversed arrays
    turn = np.eye(effects.size)[::-1]
    turned = lower @ turn
    root = xp.linalg.cholesky(np.eye(effects.size) + turned.T @ centring.information @ turned)
    moved = _displaced(likelihood.model, centring.typical, values, xp)
    data = centring.pull
    if moved is not None:
        data = data - (centring.information[:, :, : len(likelihood.model.varying)] * moved).sum(-1)
    mean = -unit * (solve(root, data @ turned) @ turn)
    return lower, mean, unit[:, :, None] * (turn @ xp.swapaxes(root, 1, 2) @ turn)


def _displaced(model: PopulationModel, typical: Any, values: Mapping[str, Any], xp: Any) -> Any:
    """How far typical values are from where the pull was taken, ``d [E]``; ``None`` if ``E = 0``.

    Box-Cox effects are no distance from the typical value: theirs is zero.
    """
    out = [
        to_scale(model[name], values[name], xp) - typical[i]
        if model[name].boxcox is None
        else 0.0 * typical[i]
        for i, name in enumerate(model.varying)
    ]
    return xp.stack(out) if out else None


def standardised(
    likelihood: PopulationLikelihood,
    centring: Centring,
    values: Mapping[str, float],
    random: FloatArray,
) -> FloatArray:
    """Return ``x [B, R]`` of random effects ``[B, R]`` under population parameters by name."""
    lower, mean, factor = standardisation(
        likelihood,
        centring,
        values,
        np,
        lambda a, b: np.linalg.solve(a, b[..., None])[..., 0],
    )
    z = np.linalg.solve(lower, random.T).T
    return mean + np.einsum("brs,bs->br", factor, z)
