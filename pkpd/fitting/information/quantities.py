"""A population model linearised in its random effects at the observations of a design.

With ``f(x, eta)`` the predictions on the scale of their error (logarithms where it is log-normal),
``x`` the estimated parameters and ``eta`` the random effects of a subject, the measurements of one
subject are about normal with

    mean        ``f(x, e) - J e``
    covariance  ``J Omega J' + diag(s^2)``,  ``J = df / d eta``

at a point ``e`` of the random effects, 0 in first-order linearisation (FO). Derivatives of both by
``x`` give the expected information (Retout, Mentre and Bruno 2002, Stat Med 21:2623-39). They are
JAX's in forward mode where the structural model has it, else central differences of the fourth
order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.arrays import FloatArray
from pkpd.errors import PkpdError
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.fitting.model.population_likelihood import PopulationLikelihood

_STEP = 4e-3  # of differences: on logarithmic scales, and in standard deviations
_APART_H = 1e9  # between what is seen before and after a reset; seconds of it still count


@dataclass(frozen=True, eq=False)
class Process:
    """A process in time of a residual error: its line, deviation, hours, and places in ``x``."""

    line: int
    sd: float
    tau: float
    sd_at: int | None
    tau_at: int | None


@dataclass(frozen=True, eq=False)
class Quantities:
    """What the information of any choice of observations is made of.

    Attributes
    ----------
    mean : float[M, P]
        Derivatives of the means by ``x``.
    jacobian : float[M, R]
        ``J``.
    bend : float[M, R, P]
        Derivatives of ``J`` by ``x``; zero where they are not asked for.
    variance : float[M]
        ``s^2``.
    variance_slope : float[M, P]
        Its derivatives.
    omega : float[R, R]
        Covariance of the random effects.
    omega_slope : float[R, R, P]
        Its derivatives.
    time, line : [M]
        Hours and line of each observation; what follows a reset is far from what was before.
    processes
        Those of the residual errors.
    """

    mean: Any
    jacobian: Any
    bend: Any
    variance: Any
    variance_slope: Any
    omega: Any
    omega_slope: Any
    time: Any
    line: Any
    processes: tuple[Process, ...] = ()

    def arrays(self) -> tuple[Any, ...]:
        """All of them but the processes."""
        return (
            self.mean, self.jacobian, self.bend, self.variance, self.variance_slope, self.omega,
            self.omega_slope, self.time, self.line,
        )  # fmt: skip


def refuse_what_has_no_moments(likelihood: PopulationLikelihood) -> None:
    """Refuse residual errors whose information this linearisation does not give.

    Raises
    ------
    PkpdError
        For Student's t, a scale of each subject's own, and structures that know their error.
    """
    what, remedy = None, "leave nu and scale out of the residual error of the design's model"
    if isinstance(likelihood, OwnErrorLikelihood):
        what = "the structure has an error of its own"
        remedy = "write its kinetics as a model with a residual error of pkpd.models.residual"
    for line, error in likelihood.model.residual.items():
        if error.nu is not None:
            what = f"the error of {line} is Student's t"
        elif error.scale is not None:
            what = f"the error of {line} is scaled by subject"
    if what:
        allowed = "normal and log-normal errors"
        raise PkpdError(where="expected information", what=what, allowed=allowed, remedy=remedy)


@dataclass(frozen=True, eq=False)
class Linearised:
    """A likelihood whose moments are worked out at any ``x`` and random effects.

    Attributes
    ----------
    likelihood
        Model and data set of a design.
    bent
        Whether derivatives of ``J`` are wanted.
    """

    likelihood: PopulationLikelihood
    bent: bool = False

    @cached_property
    def free(self) -> FreeParameters:
        """The estimated parameters as a vector."""
        return FreeParameters(self.likelihood)

    @cached_property
    def located(self) -> np.ndarray:
        """Places in ``x`` of what predictions depend on."""
        return self.free.where("typical", "effect")

    @cached_property
    def _logarithmic(self) -> np.ndarray:
        out = np.zeros(len(self.likelihood.dataset.observations), dtype=bool)
        for _, error, mine in self.likelihood._lines:
            out[mine] = error.logarithmic
        return out

    def _predictions(self, z: Array, x: Array) -> Array:
        """Predictions on the scale of their error from located parameters and random effects."""
        n = len(self.located)
        x = x.at[self.located].set(z[:n])
        shape = (self.likelihood.n_subjects, self.likelihood.random_effects.size)
        random = jnp.broadcast_to(z[n:], shape)
        found = self.likelihood.predictions(self.free.fixed(x), random)
        rows = self._logarithmic
        return jnp.where(rows, jnp.log(jnp.where(rows, found, 1.0)), found)

    @cached_property
    def _forward(self) -> bool:
        """Whether the predictor has forward mode."""
        known = getattr(self.likelihood.predictor, "forward", None)
        if known is not None:
            return bool(known)
        x = jnp.asarray(self.free.start())
        z = jnp.zeros(len(self.located) + self.likelihood.random_effects.size)

        def along(unit: Array) -> Array:
            return jax.jvp(lambda v: self._predictions(v, x), (z,), (unit,))[1]

        # asked of JAX without a number worked out; several directions at once: of one alone, what
        # has no forward mode is found later. Errors of the predictor's own are raised first: both
        # that are caught are JAX's "no rule for forward mode"
        jax.eval_shape(lambda v: self._predictions(v, x), z)
        try:
            jax.eval_shape(jax.vmap(along), jnp.eye(len(z)))
        except (TypeError, NotImplementedError):
            return False
        return True

    @cached_property
    def _compiled(self) -> Any:
        n, m = len(self.located), len(self.located) + self.likelihood.random_effects.size
        if not self._forward:
            return jax.jit(self._predictions)
        units = jnp.eye(m)

        def first(z: Array, x: Array) -> tuple[Array, Array]:
            def along(unit: Array) -> tuple[Array, Array]:
                return jax.jvp(lambda v: self._predictions(v, x), (z,), (unit,))

            return jax.vmap(along, out_axes=(None, 1))(units)

        def all_of(z: Array, x: Array) -> tuple[Array, Array, Array]:
            f, slopes = first(z, x)
            if not self.bent:
                return f, slopes, jnp.zeros((len(f), m - n, n))

            def along(unit: Array) -> Array:
                return jax.jvp(lambda v: first(v, x)[1][:, n:], (z,), (unit,))[1]

            return f, slopes, jax.vmap(along, out_axes=2)(units[:n])

        return jax.jit(all_of)

    def _steps(self, x: FloatArray, deviation: FloatArray) -> FloatArray:
        """Give steps of differences of located parameters and random effects."""
        kinds = self.free.kinds
        model = self.likelihood.model
        out = []
        for i in self.located:
            name = self.free.names[i]
            plain = kinds[i] == "effect" or model[name].scale == "identity"
            out.append(_STEP * (max(abs(x[i]), 0.1) if plain else 1.0))
        return np.concatenate([out, _STEP * np.maximum(deviation, 1e-3)])

    def _differences(self, z: FloatArray, x: FloatArray, steps: FloatArray) -> tuple[Any, Any, Any]:
        n, m = len(self.located), len(z)

        def at(*moves: tuple[int, float]) -> FloatArray:
            moved = z.copy()
            for i, times in moves:
                moved[i] += times * steps[i]
            return np.asarray(self._compiled(moved, x))

        f = at()
        slopes = np.stack(
            [
                (8.0 * (at((i, 1)) - at((i, -1))) - (at((i, 2)) - at((i, -2)))) / (12.0 * steps[i])
                for i in range(m)
            ],
            axis=1,
        )
        bend = np.zeros((len(f), m - n, n))
        if self.bent:
            for i in range(n):
                for k in range(n, m):
                    plus = at((i, 1), (k, 1)) - at((i, 1), (k, -1))
                    minus = at((i, -1), (k, 1)) - at((i, -1), (k, -1))
                    bend[:, k - n, i] = (plus - minus) / (4.0 * steps[i] * steps[k])
        return f, slopes, bend

    def at(self, x: FloatArray, point: FloatArray | None = None) -> Quantities:
        """Work out the quantities.

        Parameters
        ----------
        x : float[P]
            Estimated parameters.
        point : float[R]
            Random effects at which predictions are linearised; 0 by default.

        Raises
        ------
        PkpdError
            If a prediction is not finite, or not positive under a log-normal error.
        """
        x = np.asarray(x, dtype=float)
        size = self.likelihood.random_effects.size
        point = np.zeros(size) if point is None else np.asarray(point, dtype=float)
        omega, omega_slope = (np.asarray(a) for a in self._omega(x))
        z = np.concatenate([x[self.located], point])
        n = len(self.located)
        if self._forward:
            f, slopes, bend = (np.asarray(a) for a in self._compiled(z, x))
        else:
            f, slopes, bend = self._differences(z, x, self._steps(x, np.sqrt(np.diag(omega))))
        self._check(f, slopes)
        whole = np.zeros((len(f), len(x)))
        whole[:, self.located] = slopes[:, :n]
        bent = np.zeros((len(f), size, len(x)))
        bent[:, :, self.located] = bend
        variance, variance_slope = self._residual(x, f, whole)
        seen, events = self.likelihood.dataset.observations, self.likelihood.dataset.events
        time = seen.time + _APART_H * events.period[seen.subject, seen.record]
        return Quantities(
            whole - bent.transpose(0, 2, 1) @ point, slopes[:, n:], bent, variance, variance_slope,
            omega, omega_slope, time, seen.line, self._processes(x),
        )  # fmt: skip

    @cached_property
    def _omega(self) -> Any:
        """Compiled ``x -> Omega [R, R], its derivatives [R, R, P]``."""

        def covariance(x: Array) -> Array:
            if not self.likelihood.random_effects.size:
                return jnp.zeros((0, 0))
            lower = self.free.cholesky(x)
            return lower @ lower.T

        return jax.jit(lambda x: (covariance(x), jax.jacfwd(covariance)(x)))

    @cached_property
    def _scatter(self) -> Any:
        """Compiled ``x, f, df/dx -> variances of residuals [M], their derivatives [M, P]``."""

        def variance(x: Array, at: Array, f: Array, slopes: Array) -> Array:
            follow = jnp.where(self._logarithmic, 1.0, f + slopes @ (x - at))
            return self.likelihood.residual_sd(self.free.fixed(x), follow) ** 2

        return jax.jit(
            lambda x, f, slopes: (
                variance(x, x, f, slopes), jax.jacfwd(variance)(x, x, f, slopes),
            )
        )  # fmt: skip

    def _residual(
        self, x: FloatArray, f: FloatArray, slopes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Variances of independent residuals and their derivatives, predictions following ``x``."""
        value, slope = (np.array(a) for a in self._scatter(x, f, slopes))
        for process in self._processes(x):  # it is in the total, and not independent
            mine = self.likelihood.dataset.observations.line == process.line
            value[mine] -= process.sd**2
            if process.sd_at is not None:
                slope[mine, process.sd_at] = 0.0
        return value, slope

    def _processes(self, x: FloatArray) -> tuple[Process, ...]:
        values, names = self.free.values(x), list(self.free.names)
        out = []
        for line, error in self.likelihood.model.residual.items():
            if line not in self.likelihood.dataset.lines or not error.processes:
                continue
            _, _, sds, taus = error.read(line, {name: name for name in error.estimates(line)})
            for sd, tau in zip(sds, taus, strict=True):
                out.append(
                    Process(
                        self.likelihood.dataset.lines.index(line), values[sd], values[tau],
                        names.index(sd) if sd in names else None,
                        names.index(tau) if tau in names else None,
                    )
                )  # fmt: skip
        return tuple(out)

    def _check(self, f: FloatArray, slopes: FloatArray) -> None:
        bad = np.flatnonzero(~(np.isfinite(f) & np.all(np.isfinite(slopes), axis=1)))
        if not bad.size:
            return
        seen = self.likelihood.dataset.observations
        m = bad[0]
        line = self.likelihood.dataset.lines[seen.line[m]]
        what = f"the prediction of {line} at {seen.time[m]:g} h is not finite"
        remedy = "look at the values of the parameters"
        if self._logarithmic[m]:
            what = f"the prediction of {line} at {seen.time[m]:g} h has no logarithm"
            remedy = "sample later, or use an error that is not log-normal"
        raise PkpdError(where="expected information", what=what, remedy=remedy)
