"""Cheap steps towards the maximum likelihood estimate, and a guess of the curvature there.

Predictions are linearised at the individual modes, by random effects and by the fixed effects that
enter them; what remains is a linear mixed model (Lindstrom and Bates 1990, Biometrics 46:673-87).
Its fixed effects have a closed form, covariances of random effects and residual coefficients are
updated by expectation-maximisation. Neither calls the predictor.

Rows that are not normal enter by their score ``g`` and information ``w``: the working residual is
``g / w`` with variance ``1 / w``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.arrays import FloatArray
from pkpd.fitting.maximum.conditional import DIFFERENCE
from pkpd.fitting.maximum.marginal import Evaluated, MarginalLikelihood
from pkpd.fitting.maximum.scales import LIFTED
from pkpd.small_systems import cholesky_each, inverse_each, solve_each

_DIFFERENCE = 1e-4  # step of central differences by fixed effects
_EXPECTATIONS = 30  # updates of the covariance within one linearisation
_LONGEST = 1.0  # longest step of a fixed effect on a log scale


@dataclass(frozen=True, eq=False)
class Linearised:
    """Sums over the observations of each subject, at given parameters and random effects ``eta``.

    ``X`` and ``Z`` are derivatives of predictions by located fixed effects ``[K]`` and random
    effects ``[R]``.

    Attributes
    ----------
    f, x, z
        Predictions ``[M]``, ``X[M, K]`` and ``Z[M, R]``.
    xx, xz, zz
        ``X'wX [B, K, K]``, ``X'wZ [B, K, R]``, ``Z'wZ [B, R, R]``.
    xg, zg
        ``X'g [B, K]``, ``Z'g [B, R]``.
    eta : float[B, R]
        Where.
    """

    f: FloatArray
    x: FloatArray
    z: FloatArray
    xx: FloatArray
    xz: FloatArray
    zz: FloatArray
    xg: FloatArray
    zg: FloatArray
    eta: FloatArray


@dataclass(frozen=True, eq=False)
class MixedModel:
    """Steps of the linearised model.

    Attributes
    ----------
    marginal
        What is to be maximised.
    """

    marginal: MarginalLikelihood

    @cached_property
    def located(self) -> np.ndarray:
        """Parameters that the quantities depend on; degrees of freedom are left to the search."""
        free = self.marginal.free
        places = free.where(*self.marginal.density.located)
        return places[[not free.names[i].startswith("nu_") for i in places]]

    @cached_property
    def _residual(self) -> np.ndarray:
        """Residual coefficients; degrees of freedom are left to the later search."""
        free = self.marginal.free
        if "residual" in self.marginal.density.located:
            return np.zeros(0, dtype=int)
        places = free.where("residual")
        return places[[not free.names[i].startswith("nu_") for i in places]]

    def linearise(self, at: Evaluated) -> Linearised:
        """Linearise at the modes (at ``u = 0`` for the method FO)."""
        density, x = self.marginal.density, at.x
        u = 0.0 * at.modes.u if self.marginal.method == "fo" else at.modes.u
        size = u.shape[1]
        f = density.predict_at(x, density.around(u))
        by_u = (f[1 : size + 1] - f[size + 1 :]).T / (2 * DIFFERENCE)
        lower = cholesky_each(self.covariance(x))
        # derivatives by u are C' times those by eta
        z = by_u @ inverse_each(lower)
        columns = np.zeros((f.shape[1], len(self.located)))
        for k, i in enumerate(self.located):
            h = np.zeros_like(x)
            h[i] = _DIFFERENCE * max(1.0, abs(x[i]))
            # located parameters do not enter C, so the same u is the same eta
            up, down = density.predict(x + h, u), density.predict(x - h, u)
            columns[:, k] = (up - down) / (2 * h[i])
        central = f[0] if self.marginal.method == "fo" else density.central(x)
        _, g, w = (np.asarray(a) for a in density.row_values(x, f[0], central))
        g, w = g[:, None], w[:, None]

        def summed(a: FloatArray, b: FloatArray) -> FloatArray:
            return density.summed(a[:, :, None] * b[:, None, :])

        return Linearised(
            f[0],
            columns,
            z,
            summed(columns * w, columns),
            summed(columns * w, z),
            summed(z * w, z),
            density.summed(columns * g),
            density.summed(z * g),
            u @ lower.T,
        )

    @cached_property
    def _spread(self) -> Any:
        """Compiled expected ``-2 log`` density over residual coefficients, with derivatives."""
        density, places = self.marginal.density, jnp.asarray(self._residual)

        def value(part: Array, x: Array, f: Array, sd: Array, y: Array) -> Array:
            new = jnp.asarray(x).at[places].set(part)
            # two points with the mean and variance of the prediction; positive where logs are taken
            half = jnp.where(density.rows["logarithmic"], jnp.minimum(sd, 0.5 * jnp.abs(f)), sd)
            up, down = (density.by_observation(new, f + s * half, f, y) for s in (1.0, -1.0))
            return -jnp.sum(up + down)

        def both(
            part: Array, x: Array, f: Array, sd: Array, y: Array
        ) -> tuple[Array, Array, Array]:
            def slope(p: Array) -> Array:
                return jax.grad(value)(p, x, f, sd, y)

            unit = jnp.eye(part.size)
            rows = jax.vmap(lambda t: jax.jvp(slope, (part,), (t,))[1])(unit)
            return value(part, x, f, sd, y), slope(part), rows

        return density.program_of_values(f"{self.marginal.method}: spread", both)

    def step(self, at: Evaluated) -> tuple[FloatArray, FloatArray]:
        """One step: new parameters ``x[P]`` and a guess of the modes ``u[B, R]``."""
        linear, x = self.linearise(at), at.x.copy()
        omega = self.covariance(x)
        moved = np.zeros(len(self.located))
        eta, left = linear.eta, np.zeros_like(linear.zz)
        for _ in range(_EXPECTATIONS):
            inverse = inverse_each(omega)
            left = inverse_each(linear.zz + inverse)
            pull = linear.zg - linear.eta @ inverse
            moved = self._fixed_step(linear, left, pull)
            behind = pull - np.einsum("bkr,k->br", linear.xz, moved)
            eta = linear.eta + np.einsum("brs,bs->br", left, behind)
            second = (eta[:, :, None] * eta[:, None, :] + left).mean(axis=0)
            omega = self._structured(x, second)
        x[self.located] += moved
        x = self._with_covariance(x, omega)
        x = self._residual_step(x, linear, left)
        u = eta @ inverse_each(cholesky_each(self.covariance(x))).T
        if np.all(np.isfinite(x)) and np.all(np.isfinite(u)):
            return x, u
        return at.x.copy(), at.modes.u  # a singular covariance: no step

    def _fixed_step(self, linear: Linearised, left: FloatArray, pull: FloatArray) -> FloatArray:
        if len(self.located) == 0:
            return np.zeros(0)
        through = np.einsum("bkr,brs->bks", linear.xz, left)
        matrix = (linear.xx - np.einsum("bks,bls->bkl", through, linear.xz)).sum(axis=0)
        target = (linear.xg - np.einsum("bks,bs->bk", through, pull)).sum(axis=0)
        scale = np.sqrt(np.maximum(np.diag(matrix), 1e-12))
        # a ridge far below the information keeps parameters in place that the data do not inform
        scaled = matrix / np.outer(scale, scale) + 1e-8 * np.eye(len(scale))
        step = solve_each(scaled, target / scale) / scale
        capped = self.longest[self.located]
        return step * min(1.0, float(np.min(capped / np.maximum(np.abs(step), 1e-300))))

    @cached_property
    def longest(self) -> FloatArray:
        """Longest step of each parameter: 1 on log, logit and correlation scales, else none."""
        free = self.marginal.free
        without = free.natural_units | (np.array(free.kinds) == "effect")
        return np.where(without, np.inf, _LONGEST)

    def covariance(self, x: FloatArray) -> FloatArray:
        """Covariance of the random effects, ``[R, R]``."""
        values = self.marginal.free.values(x)
        return np.asarray(self.marginal.likelihood.random_effects.covariance(values, np))

    def _structured(self, x: FloatArray, second: FloatArray) -> FloatArray:
        """Nearest covariance the model has; held standard deviations stay."""
        return self.covariance(self._with_covariance(x, second))

    def _with_covariance(self, x: FloatArray, omega: FloatArray) -> FloatArray:
        """Return ``x`` with standard deviations and partial correlations of a covariance."""
        free = self.marginal.free
        model, n_occasions = free.likelihood.model, free.likelihood.random_effects.n_occasions
        values, at = free.values(x), 0
        variance = np.maximum(np.diag(omega), 1e-300)
        for name in model.varying:
            values[f"omega_{name}"] = float(np.sqrt(variance[at]))
            at += 1
        many = variance[at:].reshape(n_occasions, -1) if n_occasions else variance[at:]
        for k, name in enumerate(model.occasional):
            values[f"omega_occasion_{name}"] = float(np.sqrt(many[:, k].mean()))
        at = 0
        for block in model.correlated:
            part = omega[at : at + len(block), at : at + len(block)]
            sd = np.sqrt(variance[at : at + len(block)])
            correlation = part / np.outer(sd, sd)
            np.fill_diagonal(correlation, 1.0 + 1e-9)
            lower = cholesky_each(correlation)
            for i in range(1, len(block)):
                rest = 1.0
                for j in range(i):
                    partial = lower[i, j] / np.sqrt(max(rest, 1e-12))
                    values[f"partial_{block[j]}_{block[i]}"] = float(np.clip(partial, -0.99, 0.99))
                    rest -= lower[i, j] ** 2
            at += len(block)
        new = free.of(values)
        spread = free.where("deviation", "correlation")
        out, deviation = x.copy(), free.where("deviation")
        # at zero the slope of the objective vanishes and no search would leave
        new[deviation] = np.maximum(new[deviation], LIFTED)
        out[spread] = new[spread]
        return out

    def _residual_step(self, x: FloatArray, linear: Linearised, left: FloatArray) -> FloatArray:
        if len(self._residual) == 0:
            return x
        subject = self.marginal.likelihood.dataset.observations.subject
        variance = np.einsum("mr,mrs,ms->m", linear.z, left[subject], linear.z)
        sd = np.sqrt(np.maximum(variance, 0.0))
        part = x[self._residual]
        for _ in range(4):
            _, slope, matrix = (np.asarray(a) for a in self._spread(part, x, linear.f, sd))
            if not (np.all(np.isfinite(slope)) and np.all(np.isfinite(matrix))):
                break
            curve, axes = np.linalg.eigh(matrix)
            curve = np.maximum(np.abs(curve), 1e-3 * np.abs(curve).max() + 1e-12)
            step = -axes @ ((axes.T @ slope) / curve)
            part = part + np.clip(step, -0.5, 0.5)
        out = x.copy()
        out[self._residual] = part
        return out

    def curvature(self, at: Evaluated) -> FloatArray:
        """Guess of the Hessian of the objective, ``[P, P]``: twice the information.

        Fixed effects as in generalised least squares; variances as in a linear mixed model,
        ``sum tr(A dO_i A dO_j)`` with ``A = Z'V^-1 Z`` of each subject and ``dO`` the derivative of
        the covariance of random effects; residual coefficients as if random effects were known.
        """
        linear, x = self.linearise(at), at.x
        n_parameters = len(x)
        out = np.zeros((n_parameters, n_parameters))
        if linear.eta.shape[1]:
            omega = self.covariance(x)
            left = inverse_each(linear.zz + inverse_each(omega))
            left = np.where(np.isfinite(left), left, 0.0)
            through = np.einsum("bkr,brs->bks", linear.xz, left)
            fixed = linear.xx - np.einsum("bks,bls->bkl", through, linear.xz)
            seen = linear.zz - linear.zz @ left @ linear.zz
            spread = self.marginal.free.where("deviation", "correlation")
            slopes = []
            for i in spread:
                h = 1e-4 * np.eye(n_parameters)[i]
                slopes.append((self.covariance(x + h) - self.covariance(x - h)) / 2e-4)
            for a, i in enumerate(spread):
                first = seen @ slopes[a]
                for b, j in enumerate(spread[: a + 1]):
                    out[i, j] = out[j, i] = np.einsum("brs,bsr->", first, seen @ slopes[b])
        else:
            fixed = linear.xx
        out[np.ix_(self.located, self.located)] = 2 * fixed.sum(axis=0)
        if len(self._residual):
            sd = np.zeros_like(linear.f)
            matrix = np.asarray(self._spread(x[self._residual], x, linear.f, sd)[2])
            size = np.maximum(np.abs(np.diag(matrix)), 1.0)
            out[np.ix_(self._residual, self._residual)] = np.diag(size)
        empty = np.flatnonzero(np.diag(out) <= 0)
        out[empty, empty] = 1.0
        return out + self._of_prior(x)

    def _of_prior(self, x: FloatArray) -> FloatArray:
        """Curvature of the joint prior along axes where it is not negative, ``[P, P]``."""
        prior, h = self.marginal.prior, 1e-4
        if self.marginal.likelihood.model.joint is None:
            return np.zeros((len(x), len(x)))
        unit = h * np.eye(len(x))
        rows = np.array([(prior(x + e)[1] - prior(x - e)[1]) / (2 * h) for e in unit])
        curve, axes = np.linalg.eigh(0.5 * (rows + rows.T))
        return (axes * np.maximum(curve, 0.0)) @ axes.T


def approach(
    marginal: MarginalLikelihood,
    begin: Evaluated,
    mixed: MixedModel,
    *,
    iterations: int = 12,
    report: Callable[[int, float], None] | None = None,
) -> Evaluated:
    """Take steps of the linearised model as long as the objective falls clearly.

    Parameters
    ----------
    marginal
        The objective.
    begin
        Where to start; its objective is finite.
    mixed
        The linearised model.
    iterations
        Most steps.
    report
        Called with the iteration and the objective.
    """
    at = begin
    for k in range(iterations):
        if report is not None:
            report(k, at.value)
        x, u = mixed.step(at)
        new, share = at, 1.0
        for _ in range(4):
            point = at.x + share * (x - at.x)
            new = marginal.evaluate(point, at, start=u if share == 1.0 else None)
            if new.value < at.value:
                break
            share *= 0.4
        if not new.value < at.value - 0.05:
            return new if new.value < at.value else at
        at = new
    return at
