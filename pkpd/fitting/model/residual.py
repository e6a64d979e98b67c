"""Residual error: how a measurement scatters around its prediction, and below its limit.

Forms, for a prediction ``f``:

``additive``
    ``y ~ N(f, a)``
``proportional``
    ``y ~ N(f, b |f|)``
``combined``
    ``y ~ N(f, sqrt(a^2 + b^2 f^2))``
``combined_linear``
    ``y ~ N(f, a + b |f|)``
``lognormal``
    ``log y ~ N(log f, a)``
``own``
    The structure knows the error of what it predicts (`pkpd.fitting.model.own_error`).

With ``nu`` the normal distribution becomes Student's t with ``nu`` degrees of freedom and the same
scale. ``scale`` names an individual parameter that multiplies the scale: a noise of each subject's
own. ``processes`` are Ornstein-Uhlenbeck processes in time that are added to an additive or
log-normal error (`pkpd.fitting.model.processes`). A value below its limit contributes the
probability of lying there (method M3 of Beal 2001, J Pharmacokinet Pharmacodyn 28:481-504); if it
is known to lie above ``lower``, that of lying between (Beal's M4, with ``lower`` 0, divides every
value's part by the probability of lying above 0, too; here nothing is divided).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.scipy.special import gammaln, log_ndtr

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.arguments import NONE, TEXT, Kind, a, check_arguments, several
from pkpd.data.dataset import ABOVE, BELOW, NOT_CENSORED
from pkpd.errors import PkpdError
from pkpd.fitting.model.priors import Estimate, Prior, estimate
from pkpd.fitting.model.processes import OrnsteinUhlenbeck, ornstein_uhlenbeck

__all__ = [
    "Form",
    "OrnsteinUhlenbeck",
    "ResidualError",
    "additive",
    "combined",
    "lognormal",
    "ornstein_uhlenbeck",
    "proportional",
]

Form = Literal["additive", "proportional", "combined", "combined_linear", "lognormal", "own"]

_COEFFICIENTS: dict[str, tuple[str, ...]] = {
    "additive": ("additive",),
    "proportional": ("proportional",),
    "combined": ("additive", "proportional"),
    "combined_linear": ("additive", "proportional"),
    "lognormal": ("log",),
    "own": (),
}
_SMALLEST_SD = 1e-12  # a prediction of 0 under a proportional error has no density otherwise
_LARGEST = 1e100  # a prediction beyond it has no density that can be computed
_NODES, _WEIGHTS = (0.5 * x for x in np.polynomial.legendre.leggauss(64))
_NODES = _NODES + 0.5  # on (0, 1)


@dataclass(frozen=True)
class ResidualError:
    """Residual error of one line.

    Attributes
    ----------
    form
        See the module.
    coefficients
        Start and prior of each coefficient, in the order of the form: additive before
        proportional.
    nu
        Degrees of freedom of Student's t; ``None`` for the normal distribution.
    processes
        Processes in time that are added, quickest first.
    scale
        Individual parameter that multiplies the scale, processes included; ``None`` for none.
    """

    form: Form
    coefficients: tuple[Estimate, ...]
    nu: Estimate | None = None
    processes: tuple[OrnsteinUhlenbeck, ...] = ()
    scale: str | None = None

    @property
    def serial(self) -> bool:
        """Whether it has processes in time, or a scale of each subject's own."""
        return bool(self.processes) or self.scale is not None

    @property
    def logarithmic(self) -> bool:
        """Whether the error is on the scale of the logarithm."""
        return self.form == "lognormal"

    def estimates(self, line: str) -> dict[str, Estimate]:
        """Return coefficients by name: ``sigma_<line>``, with ``_additive`` if there are two."""
        parts = _COEFFICIENTS[self.form]
        names = [f"sigma_{line}" + (f"_{part}" if len(parts) > 1 else "") for part in parts]
        out = dict(zip(names, self.coefficients, strict=True))
        if self.nu is not None:
            out[f"nu_{line}"] = self.nu
        for k, process in enumerate(self.processes):
            number = str(k + 1) if len(self.processes) > 1 else ""
            out[f"sigma_process{number}_{line}"] = process.sd
            out[f"tau{number}_{line}"] = process.tau_h
        return out

    def with_estimates(self, given: Sequence[Estimate]) -> ResidualError:
        """Put others in the place of `estimates`, in their order."""
        rest = list(given)
        coefficients = tuple(rest.pop(0) for _ in self.coefficients)
        nu = None if self.nu is None else rest.pop(0)
        processes = tuple(OrnsteinUhlenbeck(rest.pop(0), rest.pop(0)) for _ in self.processes)
        return replace(self, coefficients=coefficients, nu=nu, processes=processes)

    def read(self, line: str, values: Any) -> tuple[list[Any], Any, list[Any], list[Any]]:
        """Coefficients, degrees of freedom, and deviations and time scales of the processes.

        Parameters
        ----------
        line
            Name of the line.
        values
            Population parameters by name.
        """
        named = [values[name] for name in self.estimates(line)]
        coefficients, rest = named[: len(self.coefficients)], named[len(self.coefficients) :]
        nu = rest.pop(0) if self.nu is not None else None
        return coefficients, nu, rest[::2], rest[1::2]

    def sd(self, prediction: Any, coefficients: Any, xp: Any = jnp) -> Any:
        """Scale of the residual, on the log scale for ``lognormal``.

        Parameters
        ----------
        prediction
            ``f``, any shape.
        coefficients
            Values in the order of the form.
        xp
            Array module.
        """
        f = xp.abs(prediction)
        if self.form in ("additive", "lognormal"):
            return coefficients[0] + 0.0 * f
        if self.form == "proportional":
            return coefficients[0] * f + _SMALLEST_SD
        if self.form == "combined":
            return xp.sqrt(coefficients[0] ** 2 + (coefficients[1] * f) ** 2 + _SMALLEST_SD**2)
        return coefficients[0] + coefficients[1] * f

    def log_density(
        self,
        prediction: Array,
        coefficients: Any,
        nu: Any,
        value: Any,
        censored: Any,
        lower: np.ndarray,
    ) -> Array:
        """Log density of measurements, log probability of censored ones.

        Parameters
        ----------
        prediction : float[K]
            Predictions.
        coefficients, nu
            Values; ``nu`` is not read for the normal distribution.
        value, censored, lower
            As in `pkpd.data.dataset.Observations`; values and codes may be traced.

        Returns
        -------
        float[K]
            NaN where the prediction has no density: not finite, or not positive on the log scale.
            There a prediction of 0 is below every limit, with a log probability of 0.
        """
        # a prediction without a density is put aside before it meets the coefficients, which all
        # observations share: its NaN must not reach their derivatives
        usable = jnp.abs(prediction) < _LARGEST
        certain = False
        if self.logarithmic:
            usable = usable & (prediction > 0)
            certain = (prediction == 0) & (censored == BELOW) & np.logical_not(lower > 0)
        prediction = jnp.where(usable, prediction, 1.0)
        scale = self.sd(prediction, coefficients)
        centre = prediction
        jacobian = 0.0
        if self.logarithmic:
            centre = jnp.log(prediction)
            xp: Any = jnp if isinstance(value, jax.Array) else np
            with np.errstate(divide="ignore", invalid="ignore"):
                value, lower = xp.log(value), np.log(np.maximum(lower, 0.0))
            jacobian = xp.where(censored == NOT_CENSORED, value, 0.0)
        z = (value - centre) / scale
        low = (jnp.where(np.isfinite(lower), lower, value - 1.0) - centre) / scale
        out = self.standardised(z, low, nu, censored, lower) - jacobian
        out = out - jnp.where(censored == NOT_CENSORED, jnp.log(scale), 0.0)
        return jnp.where(usable, out, jnp.where(certain, 0.0, jnp.nan))

    def standardised(self, z: Array, low: Any, nu: Any, censored: Any, lower: Any) -> Array:
        """Log density of standardised values, log probability of censored ones, ``[K]``.

        Parameters
        ----------
        z, low : float[K]
            Value (or limit) and lower bound less their centre, in units of the scale; a number
            where there is no bound.
        nu
            Degrees of freedom; not read for the normal distribution.
        censored : int[K]
            Codes of `pkpd.data.dataset`; may be traced.
        lower : float[K]
            Lower bounds on any scale, -inf for none: numbers.
        """
        out = self._log_pdf(z, nu)
        known = isinstance(censored, np.ndarray) and censored.ndim > 0
        if known and censored.shape == jnp.shape(z) == lower.shape:
            # probabilities cost far more than densities: only where they are asked for
            at = np.nonzero(censored != NOT_CENSORED)
            if not at[0].size:
                return out
            own = nu if nu is None or jnp.ndim(nu) == 0 else nu[at]
            return out.at[at].set(self._mass(z[at], low[at], own, censored[at], lower[at]))
        mass = self._mass(z, low, nu, censored, lower)
        return jnp.where(censored == NOT_CENSORED, out, mass)

    def _mass(self, z: Array, low: Any, nu: Any, censored: Any, lower: Any) -> Array:
        """Log probabilities of censored values; of others anything, ``[K]``."""
        below, above = censored == BELOW, censored == ABOVE
        out = z
        if _possible(below):
            out = self._log_cdf(z, nu)
            bounded = below & np.isfinite(lower)
            if np.any(np.isfinite(lower)) and _possible(bounded):
                near = jnp.where(bounded, low, z - 1.0)
                out = jnp.where(bounded, self._log_between(near, z, nu), out)
        if _possible(above):
            out = jnp.where(above, self._log_cdf(-z, nu), out)
        return out

    def _log_between(self, low: Array, high: Array, nu: Any) -> Array:
        """Log probability of lying between two standardised limits."""
        # taken in the tail where both limits lie, so that the difference keeps its digits
        upper = low + high > 0
        far, near = jnp.where(upper, -low, high), jnp.where(upper, -high, low)
        mass = self._log_cdf(far, nu)
        rest = jnp.minimum(self._log_cdf(near, nu) - mass, -1e-14)
        return mass + jnp.log(-jnp.expm1(rest))

    def _log_pdf(self, z: Array, nu: Any) -> Array:
        if self.nu is None:
            return -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
        const = gammaln(0.5 * (nu + 1)) - gammaln(0.5 * nu) - 0.5 * jnp.log(nu * np.pi)
        return const - 0.5 * (nu + 1) * jnp.log1p(z**2 / nu)

    def _log_cdf(self, z: Array, nu: Any) -> Array:
        return log_ndtr(z) if self.nu is None else _student_log_cdf(z, nu)

    def simulate(
        self, prediction: np.ndarray, coefficients: Any, nu: Any, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw measurements around predictions, any shape."""
        scale = self.sd(prediction, coefficients, np)
        if self.nu is None:
            z = rng.standard_normal(np.shape(prediction))
        else:
            z = rng.standard_t(np.broadcast_to(nu, np.shape(prediction)))
        if self.logarithmic:
            return prediction * np.exp(scale * z)
        return prediction + scale * z


def _possible(mask: Any) -> bool:
    """Whether any entry may be true; unknown where it is traced."""
    return isinstance(mask, Tracer) or bool(np.any(mask))


def _student_log_cdf(z: Array, nu: Any) -> Array:
    """Log distribution function of Student's t, differentiable by ``nu`` too.

    With ``t = sqrt(nu) tan(a)`` the density is proportional to ``cos(a)^(nu - 1)``. Its integral
    from ``-pi/2`` over a width ``w`` is taken by 64 Gauss-Legendre nodes ``s`` placed at
    ``w s^(8/d)``, ``d`` being about how fast the integrand falls from its end: relative error
    below 1e-12 for ``nu`` from 0.5 to 1e4, in both tails, where the symmetry keeps the digits.
    """
    nu = nu * jnp.ones_like(z)
    tail = jnp.where(z < 0, z, -z)
    # angle from -pi/2, written so that it does not cancel in the far tail
    width = jnp.arctan2(jnp.sqrt(nu), -tail)
    fall = 1.0 - jnp.maximum(nu - 1.0, 0.0) * width * tail / jnp.sqrt(nu) + 0.5 * jnp.sqrt(nu)
    stretch = (8.0 / fall)[..., None]
    nodes = width[..., None] * _NODES**stretch
    end = jnp.log(jnp.sin(width))
    log_inside = (nu - 1.0)[..., None] * (jnp.log(jnp.sin(nodes)) - end[..., None])
    weights = _WEIGHTS * stretch * _NODES ** (stretch - 1.0)
    inside = jnp.sum(weights * jnp.exp(log_inside), axis=-1)
    log_const = gammaln(0.5 * (nu + 1)) - gammaln(0.5 * nu) - 0.5 * np.log(np.pi)
    log_tail = log_const + jnp.log(width * inside) + (nu - 1.0) * end
    return jnp.where(z < 0, log_tail, jnp.log1p(-jnp.exp(jnp.minimum(log_tail, -0.6))))


def _made(
    form: Form,
    values: tuple[Any, ...],
    nu: Any,
    priors: tuple[Prior | None, ...],
    scale: str | None,
    processes: Sequence[OrnsteinUhlenbeck] = (),
) -> ResidualError:
    one_each = several(a(Prior) | NONE, "a Prior or None for each coefficient")
    fits = Kind(one_each.words, lambda p: one_each.holds(p) and len(p) == len(values))
    check_arguments(f"{form} residual error", scale=(scale, TEXT | NONE), priors=(priors, fits))
    estimates = []
    given = tuple(processes)
    if not all(isinstance(one, OrnsteinUhlenbeck) for one in given):
        raise PkpdError(
            where=f"{form} residual error, processes",
            what="something is no process in time",
            allowed="a list of what residual.ornstein_uhlenbeck(...) gives",
        )
    for value, prior in zip(values, priors, strict=True):
        one = estimate(value)
        if prior is not None:
            one = Estimate(one.value, prior, one.fixed)
        if not 0 <= one.value < np.inf or (one.value == 0 and not one.fixed):
            raise PkpdError(
                where=f"{form} residual error",
                what=f"a coefficient of {one.value:g}",
                allowed="more than 0",
            )
        estimates.append(one)
    degrees = None if nu is None else estimate(nu)
    if degrees is not None and not degrees.value > 0:
        raise PkpdError(
            where=f"{form} residual error", what=f"nu = {degrees.value:g}", allowed="more than 0"
        )
    return ResidualError(form, tuple(estimates), degrees, given, scale)


def additive(
    sd: float | Estimate,
    *,
    nu: float | Estimate | None = None,
    prior: Prior | None = None,
    scale: str | None = None,
    processes: Sequence[OrnsteinUhlenbeck] = (),
) -> ResidualError:
    """Additive error with this standard deviation, in the unit of the line.

    ``nu``: degrees of freedom of Student's t. ``scale``: individual parameter that multiplies the
    deviation. ``processes``: what `ornstein_uhlenbeck` gives, added in the unit of the line.

    Examples
    --------
    >>> float(additive(0.7).sd(10.0, (0.7,)))
    0.7
    """
    return _made("additive", (sd,), nu, (prior,), scale, processes)


def proportional(
    cv: float | Estimate,
    *,
    nu: float | Estimate | None = None,
    prior: Prior | None = None,
    scale: str | None = None,
) -> ResidualError:
    """Proportional error with this coefficient of variation.

    Examples
    --------
    >>> round(float(proportional(0.1).sd(10.0, (0.1,))), 6)
    1.0
    """
    return _made("proportional", (cv,), nu, (prior,), scale)


def combined(
    sd: float | Estimate,
    cv: float | Estimate,
    *,
    nu: float | Estimate | None = None,
    linear: bool = False,
    scale: str | None = None,
    priors: tuple[Prior | None, Prior | None] = (None, None),
) -> ResidualError:
    """Additive and proportional error: variances add, or with ``linear`` standard deviations.

    Examples
    --------
    >>> float(combined(3.0, 0.4).sd(10.0, (3.0, 0.4)))
    5.0
    >>> float(combined(3.0, 0.4, linear=True).sd(10.0, (3.0, 0.4)))
    7.0
    """
    return _made("combined_linear" if linear else "combined", (sd, cv), nu, priors, scale)


def lognormal(
    sd: float | Estimate,
    *,
    nu: float | Estimate | None = None,
    prior: Prior | None = None,
    scale: str | None = None,
    processes: Sequence[OrnsteinUhlenbeck] = (),
) -> ResidualError:
    """Error on the log scale with this standard deviation.

    ``nu``: degrees of freedom of Student's t. ``scale``: individual parameter that multiplies the
    deviation. ``processes``: what `ornstein_uhlenbeck` gives, added on the log scale.

    Examples
    --------
    >>> list(lognormal(0.3, nu=4.0).estimates("neutrophils"))
    ['sigma_neutrophils', 'nu_neutrophils']

    Counts that drift around their course and come back within two weeks:

    >>> drifting = lognormal(0.2, processes=[ornstein_uhlenbeck(0.3, tau_h=14 * 24)])
    >>> list(drifting.estimates("neutrophils"))
    ['sigma_neutrophils', 'sigma_process_neutrophils', 'tau_neutrophils']
    """
    return _made("lognormal", (sd,), nu, (prior,), scale, processes)
