"""Residuals that are alike when they are close in time: Ornstein-Uhlenbeck processes.

A measurement, on the scale of its residual error, is ``y = f + sum_j z_j(t) + e`` with ``f`` the
prediction. Each ``z_j`` is stationary with standard deviation ``s_j`` and goes back to 0 with time
scale ``tau_j``: ``cov(z_j(t), z_j(t')) = s_j^2 exp(-|t - t'| / tau_j)``; ``e`` is independent from
one measurement to the next. A scale of the subject multiplies all of them.

The density of a series is the product of those of each measurement given the ones before, whatever
the times between them. These follow from a filter with one state for each process. With ``p`` the
density (or probability, below a limit) of a measurement given the past as a function of its
location ``m``, the state moves by its covariance with ``y`` times ``d log p / dm``, and its
covariance falls by the information (Masreliez 1975, IEEE Trans Autom Control 20:107-110).

* Normal error: the Kalman filter; the product is the multivariate normal density.
* Student's t: each measurement given the past is Student t with the filter's scale, and one far out
  moves the state little. The joint density is defined by these.
* Below or above a limit: the state gets the mean and variance that it has given that the value lies
  there (exact for one such value; the distribution is then taken as normal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.data.dataset import ABOVE, BELOW, NOT_CENSORED
from pkpd.errors import PkpdError
from pkpd.fitting.model.priors import Estimate, estimate

if TYPE_CHECKING:
    from pkpd.fitting.model.residual import ResidualError

NO_PAST_H = 1e12
"""Hours after which nothing is left of the state: before a first measurement, after a reset."""


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """A stationary process that returns to 0.

    Attributes
    ----------
    sd
        Standard deviation.
    tau_h
        Time scale in hours: after it the correlation is ``exp(-1)``.
    """

    sd: Estimate
    tau_h: Estimate


def ornstein_uhlenbeck(sd: float | Estimate, tau_h: float | Estimate) -> OrnsteinUhlenbeck:
    """Make a process for ``processes=`` of a residual error.

    Parameters
    ----------
    sd
        Stationary standard deviation to start from, on the scale of the error.
    tau_h
        Time scale to start from, hours.

    Raises
    ------
    PkpdError
        If one is not above 0.

    Examples
    --------
    >>> ornstein_uhlenbeck(0.3, tau_h=14 * 24).tau_h.value
    336.0
    """
    made = OrnsteinUhlenbeck(estimate(sd), estimate(tau_h))
    for name, one in (("sd", made.sd), ("tau_h", made.tau_h)):
        if not one.value > 0:
            raise PkpdError(
                where=f"ornstein_uhlenbeck, {name}",
                what=f"value {one.value:g}",
                allowed="more than 0",
            )
    return made


class Series(NamedTuple):
    """Measurements of ``L`` lanes in order of time, ``[T, L]`` each, padded at the end.

    Attributes
    ----------
    since_h
        Hours since the measurement before; `NO_PAST_H` for the first.
    value
        Measurement or limit, on the scale of the error.
    censored
        Codes of `pkpd.data.dataset`.
    lower
        Lower bound of a value below a limit, -inf for none.
    given
        False for padding.
    """

    since_h: Any
    value: Any
    censored: Any
    lower: Any
    given: Any


class Spread(NamedTuple):
    """Numbers of the scatter: each a number or ``[L]``, ``sd`` and ``tau_h`` one for each process.

    ``white [T, L]`` or ``[L]`` is the scale of the independent part, ``scale`` multiplies all.
    """

    white: Any
    sd: Sequence[Any]
    tau_h: Sequence[Any]
    scale: Any = 1.0
    nu: Any = None


class Filtered(NamedTuple):
    """Location less prediction and scale of each measurement given the past, ``[T, L]``.

    ``mean [T, L, J]`` and ``covariance [T, L, J, J]`` are those of the processes after it.
    """

    shift: Array
    scale: Array
    mean: Array
    covariance: Array


def ahead(mean: Any, covariance: Any, hours: Any, spread: Spread) -> tuple[Array, Array]:
    """State of the processes some hours later, nothing being measured.

    Parameters
    ----------
    mean, covariance : float[L, J], float[L, J, J]
        State.
    hours : float[L] or float
        How much later.
    spread
        Numbers.
    """
    if not spread.sd:
        return mean, covariance
    shape = mean.shape[:1]
    left = jnp.stack(
        [jnp.broadcast_to(jnp.exp(-hours / tau), shape) for tau in spread.tau_h], axis=-1
    )
    stationary = jnp.stack(
        [jnp.broadcast_to((spread.scale * sd) ** 2, shape) for sd in spread.sd], axis=-1
    )
    gained = (1.0 - left**2) * stationary
    kept = left[:, :, None] * left[:, None, :] * covariance
    return left * mean, kept + gained[:, :, None] * jnp.eye(len(spread.sd))


def scatter(covariance: Any, white: Any, spread: Spread) -> Array:
    """Scale of a measurement whose processes have this covariance, ``[L]``."""
    return jnp.sqrt(jnp.sum(covariance, axis=(-2, -1)) + (spread.scale * white) ** 2)


def filtered(error: ResidualError, series: Series, centre: Any, spread: Spread) -> Filtered:
    """Location and scale of every measurement given those before it.

    Parameters
    ----------
    error
        The residual error: normal or Student's t.
    series
        Measurements.
    centre : float[T, L]
        Predictions on the scale of the error.
    spread
        Numbers.
    """
    shape, size = jnp.shape(centre), len(spread.sd)
    codes = series.censored
    measured = not isinstance(codes, Tracer) and bool(np.all(codes == NOT_CENSORED))
    between = np.isfinite(np.asarray(series.lower))
    # a bound that is none must not reach a derivative
    low = np.where(between, series.lower, 0.0)

    def step(state: tuple[Array, Array], row: Any) -> tuple[tuple[Array, Array], Any]:
        since, value, own_low, has_low, code, given, middle, white = row
        mean, covariance = ahead(*state, since, spread)
        shift = jnp.sum(mean, axis=-1)
        scale = scatter(covariance, white, spread)
        z, z_low = ((v - middle - shift) / scale for v in (value, own_low))
        if measured:
            slope, information = _of_measured(error, z, spread.nu)
        else:
            # probabilities cost far more than densities: they are asked for where there are some,
            # and worked out anew for a derivative rather than kept
            numbers = z, z_low, spread.nu, code, has_low
            slope, information = jax.lax.cond(
                jnp.any(code != NOT_CENSORED),
                lambda: jax.checkpoint(partial(_of_any, error))(*numbers),
                lambda: _of_measured(error, z, spread.nu),
            )
        through = jnp.sum(covariance, axis=-1)
        mean = mean + through * jnp.where(given, slope / scale, 0.0)[:, None]
        fall = jnp.where(given, information / scale**2, 0.0)
        outer = through[:, :, None] * through[:, None, :]
        state = mean, covariance - outer * fall[:, None, None]
        return state, (shift, scale, *state)

    start = jnp.zeros((shape[1], size)), jnp.zeros((shape[1], size, size))
    given = (series.since_h, series.value, low, between, codes, series.given, centre, spread.white)
    rows = tuple(jnp.broadcast_to(jnp.asarray(a), shape) for a in given)
    return Filtered(*jax.lax.scan(step, start, rows)[1])


def _of_measured(error: ResidualError, z: Array, nu: Any) -> tuple[Array, Array]:
    """Slope of the log density by the location in units of the scale, and its information.

    Of Student's t the information that is expected, ``(nu + 1) / (nu + 3)``.
    """
    if error.nu is None:
        return z, jnp.ones_like(z)
    return (nu + 1.0) / (nu + z**2) * z, (nu + 1.0) / (nu + 3.0) * jnp.ones_like(z)


def _of_any(
    error: ResidualError, z: Array, z_low: Array, nu: Any, code: Array, has_low: Array
) -> tuple[Array, Array]:
    """`_of_measured`, with the observed information of log probabilities where censored."""
    slope, information = _of_measured(error, z, nu)
    above = code == ABOVE
    inside = (code == BELOW) & has_low
    edge = jnp.where(inside, z_low, z - 1.0)
    mass = jnp.where(above, error._log_cdf(-z, nu), error._log_cdf(z, nu))
    mass = jnp.where(inside, error._log_between(edge, z, nu), mass)
    sign = jnp.where(above, -1.0, 1.0)
    # density over probability at the limit and at the lower bound, and their relative slopes
    at, at_low = (jnp.exp(error._log_pdf(v, nu) - mass) for v in (z, edge))
    rise, rise_low = (-v if error.nu is None else -(nu + 1.0) / (nu + v**2) * v for v in (z, edge))
    at, at_low = sign * at, jnp.where(inside, at_low, 0.0)
    first, second = at_low - at, at * rise - at_low * rise_low
    beyond = code != NOT_CENSORED
    return (
        jnp.where(beyond, first, slope),
        jnp.where(beyond, jnp.maximum(first**2 - second, 0.0), information),
    )
