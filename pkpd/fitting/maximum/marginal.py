"""The likelihood of a data set with the random effects integrated out, by five approximations.

With ``q(u)`` minus the log density of a subject's data and standardised random effects, ``u*`` its
mode and ``H`` its Hessian there, Laplace's approximation is ``-2 log L = 2 q(u*) + log det H``
(without ``R log 2 pi`` on both sides).

``"laplace"``
    ``H`` exact.
``"laplace-nointer"``
    The same with the residual variance at the prediction of ``u = 0`` (NONMEM's LAPLACIAN without
    INTERACTION).
``"focei"``
    ``H = I + sum a a' (1/B + (dB/df)^2 / (2 B^2))`` with ``a = df/du`` and ``B`` the residual
    variance at the individual prediction: first-order conditional estimation with interaction
    (Almquist, Leander and Jirstrand 2015, J Pharmacokinet Pharmacodyn 42:191-209).
``"foce"``
    The same with ``B`` at the prediction of ``u = 0`` (Wang 2007, J Pharmacokinet Pharmacodyn
    34:575-93).
``"fo"``
    Predictions linearised at ``u = 0``; ``B`` there.

Values are ``-2 log L`` without the constant ``n log 2 pi`` of the measured values, as NONMEM prints
them; `MarginalLikelihood.constant` is that constant. A joint prior of the model adds its penalty. A
log-normal error is a density of the measurement itself: the objective contains twice the sum of its
logarithms, unlike that of a fit to logarithms.

Values below or above a limit (M3) and Student's t have no place in FO and FOCE. In FOCE-I censored
values enter ``H`` with the curvature of their log probability by the prediction; second
derivatives of the prediction are left out, as everywhere in FOCE-I. NONMEM asks for LAPLACIAN with
M3; ``"laplace"`` is that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from pkpd.arrays import FloatArray
from pkpd.errors import PkpdError
from pkpd.fitting.maximum.conditional import DIFFERENCE, ConditionalDensity
from pkpd.fitting.maximum.densities import conditional_density
from pkpd.fitting.maximum.individual_modes import find_modes
from pkpd.fitting.maximum.mode_steps import corrected
from pkpd.fitting.maximum.modes import Modes, chosen
from pkpd.fitting.maximum.other_modes import LOWER, better_modes
from pkpd.fitting.maximum.own_error import OwnErrorDensity
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.serial import SerialLikelihood
from pkpd.small_systems import solve_each

Method = Literal["fo", "foce", "focei", "laplace", "laplace-nointer"]

_ROUNDS = 8  # of solving for the movement of the modes
_LEFT = 1e-12  # squared norm of what a solution may leave, in posterior standard deviations
_SECOND_DIFFERENCE = 3e-3  # rounding grows with its inverse square, truncation with its square


@dataclass(eq=False)
class Evaluated:
    """The approximate likelihood at one ``x``.

    Attributes
    ----------
    x : float[P]
        Parameters.
    by_subject : float[B]
        Contributions to the objective, constant left out.
    modes
        Individual modes; those of the linearised model for ``"fo"``.
    predictions : float[K, M]
        Predictions at the points of the approximation, those at the modes first.
    prior
        Penalty of the model's joint prior.
    """

    x: FloatArray
    by_subject: FloatArray
    modes: Modes
    predictions: FloatArray
    prior: float = 0.0

    @property
    def value(self) -> float:
        """Objective: infinite where a subject has none."""
        total = float(np.sum(self.by_subject)) + self.prior
        return total if np.isfinite(total) else np.inf


@dataclass(frozen=True, eq=False)
class MarginalLikelihood:
    """Approximate marginal likelihood of a population model bound to data.

    Attributes
    ----------
    likelihood
        Model and data.
    method
        ``"fo"``, ``"foce"``, ``"focei"``, ``"laplace"`` or ``"laplace-nointer"``.
    """

    likelihood: PopulationLikelihood
    method: Method = "focei"

    def __post_init__(self) -> None:
        """Refuse a method that is none, and data that those without interaction cannot take."""
        if self.method not in get_args(Method):
            raise PkpdError(
                where="maximum likelihood",
                what=f"method {self.method!r}",
                allowed=", ".join(get_args(Method)),
            )
        if not self._interaction:
            if isinstance(self.likelihood, SerialLikelihood):
                raise PkpdError(
                    where=f"maximum likelihood, method {self.method!r}",
                    what="a residual error has processes in time or a scale of each subject",
                    allowed="independent residual errors",
                    remedy='use method="focei" or method="laplace"',
                )
            # a structure that gives likelihoods itself has them in second differences, too
            if self._second and isinstance(self.density, OwnErrorDensity):
                return
            rows = self.density.rows
            for word, count in (
                ("beyond a limit", int(np.sum(rows["beyond"]))),
                ("with a Student-t error", int(np.sum(rows["student"]))),
            ):
                if count:
                    raise PkpdError(
                        where=f"maximum likelihood, method {self.method!r}",
                        what=f"the data have {count} values {word}",
                        allowed="measured values with a normal error",
                        remedy='use method="focei" or method="laplace"',
                    )

    @property
    def _interaction(self) -> bool:
        """Whether the residual variance follows the individual prediction."""
        return self.method in ("focei", "laplace")

    @property
    def _second(self) -> bool:
        """Whether the Hessian has second derivatives of predictions."""
        return self.method in ("laplace", "laplace-nointer")

    @cached_property
    def density(self) -> ConditionalDensity:
        """Conditional density whose modes are found."""
        return conditional_density(self.likelihood, self._interaction)

    @property
    def free(self) -> FreeParameters:
        """The estimated parameters as a vector."""
        return self.density.free

    @cached_property
    def constant(self) -> float:
        """``n log 2 pi`` with ``n`` measured values: add it to an objective for ``-2 log L``."""
        return float(np.sum(self.density.rows["measured"]) * np.log(2 * np.pi))

    @cached_property
    def _joint(self) -> Any:
        joint = self.likelihood.model.joint
        if joint is None:
            return None
        penalty = jax.value_and_grad(lambda x: jnp.asarray(joint.penalty(self.free.natural(x))))
        return jax.jit(penalty)

    def prior(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Penalty of the model's joint prior, and its gradient ``[P]``."""
        if self._joint is None:
            return 0.0, np.zeros(len(x))
        value, slope = self._joint(x)
        return float(value), np.asarray(slope)

    @cached_property
    def _moves(self) -> FloatArray:
        """Points of an evaluation relative to the modes in units of their step, ``[K, R]``.

        The modes, a step either way along each random effect, and for Laplace's approximation along
        the sum of each pair.
        """
        size = self.density.shape[1]
        unit = np.eye(size)
        moves = [np.zeros((1, size)), unit, -unit]
        if self._second:
            first, second = np.triu_indices(size, 1)
            moves += [sign * (unit[first] + unit[second]) for sign in (1.0, -1.0)]
        return np.concatenate(moves)

    @property
    def _step(self) -> float:
        return _SECOND_DIFFERENCE if self._second else DIFFERENCE

    def _points(self, u: FloatArray) -> FloatArray:
        """Where an evaluation predicts, ``[K, B, R]``; without interaction last at ``u = 0``."""
        points = u + self._step * self._moves[:, None, :]
        if self.method == "fo":
            return points - u
        return points if self._interaction else np.concatenate([points, 0.0 * u[None]])

    @cached_property
    def _measured(self) -> np.ndarray:
        subject = self.density.subject[self.density.rows["measured"]]
        return np.bincount(subject, minlength=self.likelihood.n_subjects)

    def _objective(self, x: Array, f: Array, u: Array, y: Array) -> tuple[Array, Array]:
        """Contributions ``[B]``, predictions ``f[K, M]``, values ``y[M]``; modes for ``"fo"``."""
        density, size = self.density, self.density.shape[1]
        constant = self._measured * np.log(2 * np.pi)
        if self._second:
            return self._laplace(x, f, u, y) - constant, u
        central = {"fo": f[0], "foce": f[-1]}.get(self.method)
        value = -2.0 * density.sums(density.by_observation(x, f[0], central, y)) - constant
        if size == 0:
            return value, u
        jacobian = (f[1 : size + 1] - f[size + 1 : 2 * size + 1]).T / (2 * self._step)
        weight = density.information(x, f[0], central, y)
        outer = weight[:, None, None] * jacobian[:, :, None] * jacobian[:, None, :]
        hessian = density.sums(outer) + jnp.eye(size)
        determinant = _log_determinant(hessian)
        if self.method != "fo":
            return value + jnp.sum(u**2, axis=1) + determinant, u
        _, back = jax.vjp(lambda v: density.by_observation(x, v, central, y), f[0])
        slope = back(jnp.ones_like(f[0]))[0]
        pulled = density.sums(jacobian * slope[:, None])
        mode = jnp.linalg.solve(hessian, pulled[..., None])[..., 0]
        return value - jnp.sum(pulled * mode, axis=1) + determinant, mode

    def _laplace(self, x: Array, f: Array, u: Array, y: Array) -> Array:
        """``2 q + log det H`` with ``H`` from second differences of ``q``."""
        density, (n, size), h = self.density, self.density.shape, self._step
        central = None if self._interaction else f[-1]
        f = f if self._interaction else f[:-1]
        rows = jax.vmap(lambda v: density.sums(density.by_observation(x, v, central, y)))(f)
        moved = u + h * self._moves[:, None, :]
        q = 0.5 * jnp.sum(moved**2, axis=2) - rows
        if size == 0:
            return 2.0 * q[0]
        first, second = np.triu_indices(size, 1)
        centre, up, down = q[0], q[1 : size + 1], q[size + 1 : 2 * size + 1]
        both = q[2 * size + 1 :]
        along = np.arange(size)
        hessian = jnp.zeros((n, size, size))
        hessian = hessian.at[:, along, along].set((up - 2 * centre + down).T / h**2)
        mixed = both[: len(first)] + both[len(first) :] + 2 * centre
        mixed = (mixed - up[first] - down[first] - up[second] - down[second]).T / (2 * h**2)
        hessian = hessian.at[:, first, second].set(mixed).at[:, second, first].set(mixed)
        return 2.0 * centre + _log_determinant(hessian)

    @cached_property
    def _value(self) -> Any:
        return self.density.program_of_values(f"{self.method}: value", self._objective)

    @cached_property
    def _slopes(self) -> Any:
        def total(x: Array, f: Array, u: Array, weights: Array, y: Array) -> Array:
            return jnp.sum(weights * self._objective(x, f, u, y)[0])

        slopes = jax.grad(total, argnums=(0, 1, 2))
        return self.density.program_of_values(f"{self.method}: slopes", slopes)

    def evaluate(
        self,
        x: FloatArray,
        near: Evaluated | None = None,
        *,
        start: FloatArray | None = None,
        restarts: int = 0,
        wanted: NDArray[np.bool_] | None = None,
    ) -> Evaluated:
        """Find the modes and evaluate the objective.

        Parameters
        ----------
        x : float[P]
            Parameters, see `pkpd.fitting.maximum.scales.FreeParameters`.
        near
            What was evaluated at nearby parameters.
        start : float[B, R]
            Standardised random effects to begin from; those of ``near`` if left out.
        restarts
            Further starts for subjects that do not converge.
        wanted : bool[B]
            Whose modes are searched; the contributions of others have no meaning.
        """
        x = np.asarray(x, dtype=float)
        zero = np.zeros(self.density.shape)
        if self.method == "fo":
            f = self.density.predict_at(x, self._points(zero))
            value, u = (np.asarray(a) for a in self._value(x, f, zero))
            hessian = np.broadcast_to(np.eye(zero.shape[1]), (*zero.shape, zero.shape[1]))
            modes = Modes(u, value, hessian, np.zeros(len(u)), np.isfinite(value), len(f))
            return Evaluated(x, value, modes, f, self.prior(x)[0])
        hessian = None
        if near is not None:
            start = near.modes.u if start is None else start
            hessian = self._moved_hessian(near, x)
        modes = find_modes(
            self.density, x, start, hessian=hessian, restarts=restarts, exact=False, wanted=wanted
        )
        f = self.density.predict_at(x, self._points(modes.u))
        value = np.asarray(self._value(x, f, modes.u)[0])
        return Evaluated(x, value, modes, f, self.prior(x)[0])

    def renewed(
        self, at: Evaluated, *, wide: bool = True, seed: int = 0
    ) -> tuple[Evaluated, NDArray[np.bool_]]:
        """Search all modes anew, and take another where the objective is lower there.

        Parameters
        ----------
        at
            What was evaluated with the modes at hand.
        wide, seed
            See `pkpd.fitting.maximum.other_modes.better_modes`.

        Returns
        -------
        tuple
            The same parameters evaluated with the better modes, and who has another one, ``[B]``.
        """
        if self.method == "fo":
            return at, np.zeros(len(at.by_subject), bool)
        modes, found = better_modes(self.density, at.x, at.modes, wide=wide, seed=seed)
        if not found.any():
            return replace(at, modes=modes), found
        f = self.density.predict_at(at.x, self._points(modes.u))
        value = np.asarray(self._value(at.x, f, modes.u)[0])
        before = np.where(np.isfinite(at.by_subject), at.by_subject, np.inf)
        found &= value < before - 0.5 * LOWER
        rows = found[self.density.subject]
        merged = Evaluated(
            at.x,
            np.where(found, value, at.by_subject),
            chosen(at.modes, modes, found),
            np.where(rows, f, at.predictions),
            at.prior,
        )
        return merged, found

    def _moved_hessian(self, at: Evaluated, x: FloatArray) -> FloatArray:
        """Hessian of ``q`` at ``at``, with the unit of ``u`` changed to that at ``x``."""
        old, new = (self.free.cholesky(v, np) for v in (at.x, x))
        ratio = solve_each(np.broadcast_to(old, (len(old), *old.shape)), new.T).T
        unit = np.eye(len(ratio))
        return unit + np.einsum("rp,brs,sq->bpq", ratio, at.modes.hessian - unit, ratio)

    def gradient(self, at: Evaluated, weights: FloatArray | None = None) -> FloatArray:
        """Gradient of the objective, ``[P]``, contributions times ``weights [B]`` if given.

        The modes move with the parameters: ``du*/dx = -H^-1 d^2q/du dx``. That of ``2 q`` cancels,
        as it is stationary; that of the log determinant is taken by one directional derivative.
        """
        density, u = self.density, at.modes.u
        weights = np.ones(len(u)) if weights is None else weights
        slopes = self._slopes(at.x, at.predictions, u, weights)
        by_x, by_f, by_u = (np.asarray(a) for a in slopes)
        by_x, by_u = by_x + self.prior(at.x)[1], by_u.copy()
        more_x, more_u = density.pull_at(at.x, self._points(u), by_f)
        by_x += more_x.sum(axis=0)
        by_u += more_u[: len(self._moves)].sum(axis=0)
        if self.method == "fo" or u.shape[1] == 0:
            return by_x
        return by_x - self._implicit(at, by_u)

    def _implicit(self, at: Evaluated, pulled: FloatArray) -> FloatArray:
        """Form ``pulled' H^-1 d^2q/du dx``, ``[P]``.

        ``H v = pulled`` is solved for each subject with the Hessian at hand: what its solution
        leaves is solved again, and the product ``H v`` of every round also corrects that Hessian
        (symmetric rank one), for this and later use.
        """
        model, left, out = at.modes.hessian, pulled, np.zeros_like(at.x)
        for _ in range(_ROUNDS):
            v = solve_each(model, left)
            if not np.all(np.isfinite(v)):
                return np.full_like(out, np.nan)  # a subject without a mode: no gradient
            if np.max(np.einsum("br,br->b", v, left), initial=0.0) < _LEFT:
                break
            by_x, by_u = self._along(at.x, at.modes.u, v)
            out, left = out + by_x, left - by_u
            if at.modes.fresh:
                break
            model = corrected(model, v, by_u)
        at.modes = replace(at.modes, hessian=model)
        return out

    def _along(
        self, x: FloatArray, u: FloatArray, direction: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Differentiate ``sum(direction * dq/du)`` by ``x [P]`` and by ``u [B, R]``."""
        density, zero = self.density, np.zeros(self.density.shape)
        h = DIFFERENCE / max(float(np.max(np.abs(direction))), 1e-300)
        central = density.central(x)

        def slopes(sign: float) -> tuple[FloatArray, FloatArray]:
            point = u + sign * h * direction
            f = density.predict(x, point)
            by_x, by_f, by_central = (np.asarray(a) for a in density.row_slopes(x, f, central))
            more_x, by_u = density.pull(x, point, by_f)
            by_x = by_x + more_x
            if not density.interaction:
                by_x = by_x + density.pull(x, zero, by_central)[0]
            return by_x, by_u

        (up_x, up_u), (down_x, down_u) = density.each("along", slopes, (1.0, -1.0))
        return (down_x - up_x) / (2 * h), direction + (down_u - up_u) / (2 * h)


def _log_determinant(matrices: Array) -> Array:
    """Log determinants ``[B]`` of positive definite matrices; NaN for others."""
    lower = jnp.linalg.cholesky(matrices)
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)), axis=-1)
