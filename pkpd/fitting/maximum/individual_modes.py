"""Individual modes: the most probable random effects of every subject given its data.

Random effects are written ``eta = C u`` with ``C`` the Cholesky factor of their covariance and
``u`` standard normal. A mode minimises ``q(u) = -log p(y | u) + u'u / 2``; its curvature is that of
a unit matrix plus information of the data, so a variance that goes to zero does no harm. All
subjects are solved at once, each with its own damping and its own end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax import Array
from numpy.typing import NDArray

from pkpd.data.dataset import NOT_CENSORED
from pkpd.fitting.maximum.mode_steps import COARSE, approach_modes, capped, corrected, shortened
from pkpd.fitting.maximum.modes import Modes, better
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.likelihood import PopulationLikelihood
from pkpd.small_systems import solve_each

FloatArray = NDArray[np.floating[Any]]

DIFFERENCE = 1e-3
"""Step of central differences of predictions and gradients, in units of ``u``."""
FINE = 1e-10
"""Newton decrement ``g' H^-1 g`` at which a search ends."""
_OVERFLOWS = np.errstate(invalid="ignore", over="ignore")
"""Predictions far from the data may overflow; the searches go no further that way."""


@dataclass(frozen=True, eq=False)
class ConditionalDensity:
    """Log density of data and random effects of each subject, with its derivatives.

    Two functions of the predictor are compiled, its value and its vector-Jacobian product; all else
    is arithmetic on predictions. A shift of one random effect serves all subjects at once, so ``R``
    directional derivatives give the Jacobian ``[M, R]`` of any predictor: in forward mode of one
    that has it (``forward``), which costs few predictions as all directions share the steps of a
    solver, else by ``2 R`` central differences.

    Attributes
    ----------
    likelihood
        Model and data: ``B`` subjects, ``M`` observations, ``R`` random effects.
    interaction
        Whether the residual variance follows the individual prediction (true), or that of
        ``u = 0``.
    """

    likelihood: PopulationLikelihood
    interaction: bool = True

    @cached_property
    def free(self) -> FreeParameters:
        """The estimated parameters as a vector ``x[P]``."""
        return FreeParameters(self.likelihood)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of subjects and of random effects."""
        return self.likelihood.n_subjects, self.likelihood.random_effects.size

    @property
    def subject(self) -> np.ndarray:
        """Subject of each observation, ``[M]``."""
        return self.likelihood.dataset.observations.subject

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """Masks of observations ``[M]``: ``logarithmic``, ``student``, ``measured``, ``beyond``."""
        seen = self.likelihood.dataset.observations
        out = {word: np.zeros(len(seen), bool) for word in ("logarithmic", "student")}
        for _, error, mine in self.likelihood._lines:
            out["logarithmic"][mine] = error.logarithmic
            out["student"][mine] = error.nu is not None
        measured = np.asarray(seen.censored == NOT_CENSORED)
        return out | {"measured": measured, "beyond": ~measured}

    @property
    def located(self) -> tuple[str, ...]:
        """Kinds of parameters that the quantities depend on."""
        return ("typical", "effect")

    # The predictor --------------------------------------------------------------------------------

    def _predictions(self, x: Array, u: Array) -> Array:
        fixed, lower = self.free.fixed(x), self.free.cholesky(x)
        return self.likelihood.quantities(fixed, u @ lower.T)

    @cached_property
    def _predict(self) -> Any:
        return jax.jit(self._predictions)

    @cached_property
    def _pull(self) -> Any:
        def pull(x: Array, u: Array, bar: Array) -> tuple[Array, Array]:
            return jax.vjp(self._predictions, x, u)[1](bar)

        return jax.jit(pull)

    def predict(self, x: FloatArray, u: FloatArray) -> FloatArray:
        """Predictions ``[M]``, NaN for subjects that cannot be solved."""
        return np.asarray(self._predict(x, u))

    def predict_at(self, x: FloatArray, points: FloatArray) -> FloatArray:
        """Predictions ``[K, M]`` at several points ``u[K, B, R]``."""
        return np.stack([self.predict(x, u) for u in points])

    def pull(self, x: FloatArray, u: FloatArray, bar: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Differentiate ``sum(bar * predictions)`` by ``x [P]`` and ``u [B, R]``.

        Where ``bar`` is not finite it counts as zero.
        """
        by_x, by_u = self._pull(x, u, np.where(np.isfinite(bar), bar, 0.0))
        return np.asarray(by_x), np.asarray(by_u)

    @property
    def forward(self) -> bool:
        """Whether the predictor can be differentiated in forward mode."""
        return bool(getattr(self.likelihood.predictor, "forward", False))

    @cached_property
    def _linearised(self) -> Any:
        size = self.shape[1]

        def both(x: Array, u: Array) -> tuple[Array, Array]:
            def along(unit: Array) -> tuple[Array, Array]:
                turn = jnp.broadcast_to(unit, u.shape)
                return jax.jvp(lambda v: self._predictions(x, v), (u,), (turn,))

            return jax.vmap(along, out_axes=(None, 1))(jnp.eye(size))

        return jax.jit(both)

    def linearised(self, x: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Predictions ``[M]`` and their Jacobian by the random effects ``[M, R]``."""
        if self.forward:
            f, jacobian = self._linearised(x, u)
            return np.asarray(f), np.asarray(jacobian)
        size, f = self.shape[1], self.predict_at(x, self.around(u))
        return f[0], (f[1 : size + 1] - f[size + 1 :]).T / (2 * DIFFERENCE)

    def around(self, u: FloatArray, step: float = DIFFERENCE) -> FloatArray:
        """Points ``u``, ``u + h e_r`` and ``u - h e_r``: ``[2 R + 1, B, R]``."""
        size = self.shape[1]
        moves = np.concatenate([np.zeros((1, size)), np.eye(size), -np.eye(size)])
        return u + step * moves[:, None, :]

    # Rows -----------------------------------------------------------------------------------------

    def by_observation(self, x: Any, predictions: Any, central: Any = None) -> Array:
        """Log density of every observation, ``[M]``.

        Parameters
        ----------
        x : float[P]
            Parameters.
        predictions, central : float[M]
            Individual predictions; and, without interaction, those at ``u = 0``.
        """
        fixed = self.free.fixed(x)
        if self.interaction:
            return self.likelihood.density_of(fixed, predictions)
        scale = self.likelihood.residual_sd(fixed, central)
        value, log_rows = self.likelihood.dataset.observations.value, self.rows["logarithmic"]
        logs = np.log(np.where(log_rows, value, 1.0))
        centre = jnp.where(log_rows, jnp.log(jnp.where(log_rows, predictions, 1.0)), predictions)
        z = (np.where(log_rows, logs, value) - centre) / scale
        return -0.5 * z**2 - jnp.log(scale) - 0.5 * np.log(2 * np.pi) - logs

    def information(self, x: Any, predictions: Any, central: Any = None) -> Array:
        """Information of each observation on its prediction, ``[M]``.

        Expected information for measured values: ``1/s^2 + 2 (s'/s)^2`` for a normal error with
        standard deviation ``s(f)``, and for Student's t (Lange, Little and Taylor 1989, J Am Stat
        Assoc 84:881-96) ``((nu + 1)/s^2 + 2 nu (s'/s)^2) / (nu + 3)``. For a censored value, whose
        expected information is not at hand, minus the second derivative of its log probability.
        """
        f, fixed = jnp.asarray(predictions), self.free.fixed(x)
        ones = jnp.ones_like(f)
        if self.interaction:
            scale, slope = jax.jvp(lambda v: self.likelihood.residual_sd(fixed, v), (f,), (ones,))
        else:
            scale, slope = self.likelihood.residual_sd(fixed, central), jnp.zeros_like(f)
        student = self.rows["student"]
        nu = jnp.where(student, self._degrees(x), 1.0)
        by_place = jnp.where(student, (nu + 1) / (nu + 3), 1.0)
        by_scale = jnp.where(student, 2 * nu / (nu + 3), 2.0)
        # d log f: the error of these rows is on the log scale
        stretch = jnp.where(self.rows["logarithmic"], jnp.where(f > 0, f, 1.0), 1.0)
        out = by_place / (scale * stretch) ** 2 + by_scale * (slope / scale) ** 2
        if np.all(self.rows["measured"]):
            return out

        def score(v: Array) -> Array:
            return jax.jvp(lambda w: self.by_observation(x, w), (v,), (ones,))[1]

        second = jax.jvp(score, (f,), (ones,))[1]
        return jnp.where(self.rows["measured"], out, jnp.maximum(-second, 0.0))

    def _degrees(self, x: Any) -> Array:
        values, out = self.free.natural(x), jnp.ones(len(self.rows["student"]))
        for line, error, mine in self.likelihood._lines:
            if error.nu is not None:
                out = out.at[mine].set(values[f"nu_{line}"])
        return out

    @cached_property
    def row_values(self) -> Any:
        """Compiled ``(x, f, central) -> log density, slope by f, information``, each ``[M]``."""

        def rows(x: Array, f: Array, central: Array) -> tuple[Array, Array, Array]:
            each, back = jax.vjp(lambda v: self.by_observation(x, v, central), f)
            return each, back(jnp.ones_like(f))[0], self.information(x, f, central)

        return jax.jit(rows)

    @cached_property
    def row_slopes(self) -> Any:
        """Compiled ``(x, f, central) -> derivatives of the sum of log densities`` by all three."""

        def total(x: Array, f: Array, central: Array) -> Array:
            return jnp.sum(self.by_observation(x, f, central))

        return jax.jit(jax.grad(total, argnums=(0, 1, 2)))

    def sums(self, rows: Any) -> Any:
        """Sum over the observations of each subject, traced, ``[B, ...]``."""
        return jax.ops.segment_sum(rows, self.subject, self.likelihood.n_subjects)

    @cached_property
    def _membership(self) -> scipy.sparse.csr_array:
        n = len(self.subject)
        entries = (np.ones(n), (self.subject, np.arange(n)))
        return scipy.sparse.csr_array(entries, shape=(self.shape[0], n))

    def summed(self, rows: FloatArray) -> FloatArray:
        """Sum over the observations of each subject as numbers, ``[B, ...]``."""
        rows = np.asarray(rows)
        flat = self._membership @ rows.reshape(len(rows), -1)
        return flat.reshape(self.shape[0], *rows.shape[1:])

    # Subjects -------------------------------------------------------------------------------------

    def central(self, x: FloatArray) -> FloatArray:
        """Predictions at ``u = 0`` that set the residual variance; not read with interaction."""
        if self.interaction:
            return np.zeros(len(self.subject))
        return self.predict(x, np.zeros(self.shape))

    def value(self, x: FloatArray, u: FloatArray, central: FloatArray) -> FloatArray:
        """``q(u)`` of every subject, ``[B]``: not finite where the likelihood is not."""
        each = np.asarray(self.row_values(x, self.predict(x, u), central)[0])
        return 0.5 * np.sum(u**2, axis=1) - self.summed(each)

    def slope(
        self, x: FloatArray, u: FloatArray, central: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """``q [B]`` and its gradient ``[B, R]``."""
        if self.forward:
            return self.approximate(x, u, central)[:2]
        each, slope, _ = self.row_values(x, self.predict(x, u), central)
        value = 0.5 * np.sum(u**2, axis=1) - self.summed(np.asarray(each))
        return value, u - self.pull(x, u, np.asarray(slope))[1]

    @_OVERFLOWS
    def approximate(
        self, x: FloatArray, u: FloatArray, central: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``q [B]``, its gradient ``[B, R]`` and its Gauss-Newton Hessian ``[B, R, R]``."""
        size = self.shape[1]
        f, jacobian = self.linearised(x, u)
        each, slope, weight = (np.asarray(a) for a in self.row_values(x, f, central))
        outer = jacobian[:, :, None] * (weight[:, None] * jacobian)[:, None, :]
        value = 0.5 * np.sum(u**2, axis=1) - self.summed(each)
        return value, u - self.summed(jacobian * slope[:, None]), self.summed(outer) + np.eye(size)

    @_OVERFLOWS
    def exact(
        self, x: FloatArray, u: FloatArray, central: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``q [B]``, its gradient ``[B, R]`` and its Hessian ``[B, R, R]``.

        The Hessian comes from central differences of gradients.
        """
        size = self.shape[1]
        values, gradients = zip(
            *(self.slope(x, point, central) for point in self.around(u)), strict=True
        )
        value, moved = values[0], np.stack(gradients[1:])
        hessian = (moved[:size] - moved[size:]).swapaxes(0, 1) / (2 * DIFFERENCE)
        return value, gradients[0], 0.5 * (hessian + hessian.swapaxes(1, 2))


def conditional_density(
    likelihood: PopulationLikelihood, interaction: bool = True
) -> ConditionalDensity:
    """Return the conditional density of a likelihood of any kind.

    Parameters
    ----------
    likelihood, interaction
        See `ConditionalDensity`.
    """
    from pkpd.fitting.maximum.own_error import OwnErrorDensity
    from pkpd.fitting.maximum.serial import SerialDensity
    from pkpd.fitting.model.own_error import OwnErrorLikelihood
    from pkpd.fitting.model.serial import SerialLikelihood

    kind = ConditionalDensity
    if isinstance(likelihood, OwnErrorLikelihood):
        kind = OwnErrorDensity
    elif isinstance(likelihood, SerialLikelihood):
        kind = SerialDensity
    return kind(likelihood, interaction)


def find_modes(
    density: ConditionalDensity,
    x: FloatArray,
    start: FloatArray | None = None,
    *,
    tolerance: float = FINE,
    hessian: FloatArray | None = None,
    restarts: int = 0,
    seed: int = 0,
    exact: bool = True,
) -> Modes:
    """Find the modes of all subjects.

    Damped Gauss-Newton steps first, then Newton steps with the exact Hessian. With a Hessian from
    close by, its steps are tried before that: they need gradients alone.

    Parameters
    ----------
    density
        What to maximise.
    x : float[P]
        Parameters.
    start : float[B, R]
        Where to begin; zero if left out.
    tolerance
        Newton decrement at which a subject ends.
    hessian : float[B, R, R]
        Hessian of ``q`` at nearby parameters.
    restarts
        Further starts (zero, then random) for subjects that did not converge.
    seed
        Of random starts.
    exact
        Whether the exact Hessian at the modes is wanted. Without it, steps with that of
        Gauss-Newton, corrected as they go, are tried first.
    """
    x = np.asarray(x, dtype=float)
    n, size = density.shape
    u = np.zeros((n, size)) if start is None else np.array(start, dtype=float)
    if size == 0:
        value = density.value(x, u, density.central(x))
        good = np.isfinite(value)
        return Modes(u, value, np.zeros((n, 0, 0)), np.zeros(n), good, 1)
    polished, calls = None, 0
    if hessian is not None:
        polished, calls = _polished(density, x, u, hessian, tolerance)
    best = polished or _search(density, x, u, tolerance, exact)
    best = replace(best, evaluations=best.evaluations + calls)
    rng = np.random.default_rng(seed)
    for k in range(restarts):
        if np.all(best.converged):
            break
        fresh = np.zeros((n, size)) if k == 0 else rng.standard_normal((n, size))
        begin = np.where(best.converged[:, None], best.u, fresh)
        again = _search(density, x, begin, tolerance, exact)
        best = better(best, again)
    return best


def _polished(
    density: ConditionalDensity,
    x: FloatArray,
    u: FloatArray,
    hessian: FloatArray,
    tolerance: float,
) -> tuple[Modes | None, int]:
    """Take steps with a given Hessian; no modes if a subject does not come closer fast.

    What a step finds of the curvature corrects the Hessian (symmetric rank one).
    """
    central = density.central(x)
    before, calls = np.full(len(u), np.inf), 0
    step = last = np.zeros_like(u)
    for k in range(10):
        value, gradient = density.slope(x, u, central)
        calls += 2
        if k > 0:
            hessian = corrected(hessian, step, gradient - last)
        last = gradient
        step = -solve_each(hessian, gradient)
        decrement = -np.einsum("br,br->b", gradient, step)
        slow = (decrement > 0.3 * before) & (decrement > tolerance)
        finite = np.isfinite(value) & np.isfinite(decrement)
        if not np.all(finite) or np.any(slow | (decrement < 0)):
            return None, calls
        step = capped(step)
        if np.all(decrement < tolerance):
            u = u + step
            good = np.ones(len(u), bool)
            return Modes(u, value, hessian, decrement, good, 0, fresh=False), calls
        u, before = u + step, decrement
    return None, calls


def _search(
    density: ConditionalDensity, x: FloatArray, u: FloatArray, tolerance: float, exact: bool
) -> Modes:
    central = density.central(x)
    u, value, hessian, calls = approach_modes(density, x, u, central)
    n, size = u.shape
    if not exact and np.all(np.isfinite(value)):
        polished, more = _polished(density, x, u, hessian, tolerance)
        calls += more
        if polished is not None:
            return replace(polished, evaluations=calls)
    previous = np.full(n, np.inf)
    for _ in range(15):
        value, gradient, hessian = density.exact(x, u, central)
        calls += 2 * size + 1
        good = np.isfinite(value) & np.all(np.isfinite(hessian), axis=(1, 2))
        hessian = np.where(good[:, None, None], hessian, np.eye(size))
        curve, axes = np.linalg.eigh(hessian)
        positive = good & (curve[:, 0] > 0)
        # away from a minimum the step follows the axes downhill
        along = np.einsum("brs,br->bs", axes, gradient) / np.maximum(np.abs(curve), 0.1)
        step = -np.einsum("brs,bs->br", axes, along)
        decrement = np.where(good, -np.einsum("br,br->b", gradient, step), np.inf)
        done = positive & (decrement < tolerance)
        # rounding: a decrement that small and no longer falling is at its end
        stalled = positive & (decrement < COARSE) & (decrement > 0.5 * previous)
        step, tried = shortened(density, x, u, central, value, capped(step), done | ~good)
        u, calls = u + step, calls + tried
        if np.all(done | stalled | ~good):
            break
        previous = decrement
    value = density.value(x, u, central)
    converged = positive & ((decrement < 1e3 * tolerance) | stalled) & np.isfinite(value)
    return Modes(u, value, hessian, decrement, converged, calls + 1)
