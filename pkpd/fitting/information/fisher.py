"""Expected information of choices of observations, from the quantities of a linearised model.

With the derivatives ``m_i`` of the means and ``V_i`` of the covariance of the measurements of one
subject, its information is ``m_i' V^-1 m_j + tr(V^-1 V_i V^-1 V_j) / 2``. The reduced matrix has
the first part alone for the parameters of the means, the second for variances and residual errors,
and nothing between them; it foretells standard errors better than the full one of first-order
linearisation does (Nyberg et al. 2015, Br J Clin Pharmacol 79:6-17).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.fitting.information.quantities import Process, Quantities


def informations(
    quantities: Quantities, rows: Any, valid: Any, fixed: np.ndarray, full: bool
) -> Any:
    """Information of one subject for each choice of observations, on the scale of ``x``.

    Parameters
    ----------
    quantities
        Of all observations.
    rows : int[K, N]
        Observations of each choice.
    valid : bool[K, N]
        Which of them count; the others are padding.
    fixed : bool[P]
        Parameters of the means.
    full
        The full matrix in place of the reduced one.

    Returns
    -------
    float[K, P, P]
    """
    made = _compiled(key_of(quantities.processes), full)
    return made(
        quantities.arrays(), rows, valid, np.asarray(fixed, dtype=float), numbers_of(quantities)
    )


def key_of(processes: tuple[Process, ...]) -> tuple[tuple[int, int, int], ...]:
    """Line of each process, and the places of its deviation and hours in ``x``, -1 if held."""
    return tuple(
        (p.line, -1 if p.sd_at is None else p.sd_at, -1 if p.tau_at is None else p.tau_at)
        for p in processes
    )


def numbers_of(quantities: Quantities) -> np.ndarray:
    """Deviation and hours of each process, ``[K, 2]``."""
    return np.array([[p.sd, p.tau] for p in quantities.processes]).reshape(-1, 2)


@lru_cache(maxsize=64)
def _compiled(processes: tuple[tuple[int, int, int], ...], full: bool) -> Any:
    def one(arrays: Any, rows: Array, valid: Array, fixed: Array, numbers: Array) -> Array:
        return information(arrays, rows, valid, fixed, numbers, processes, full)

    return jax.jit(jax.vmap(one, in_axes=(None, 0, 0, None, None)))


def information(
    arrays: tuple[Any, ...],
    rows: Array,
    valid: Array,
    fixed: Array,
    numbers: Array,
    processes: tuple[tuple[int, int, int], ...],
    full: bool,
) -> Array:
    """Information of one choice, ``[P, P]``; see `informations`."""
    mean, jacobian, bend, variance, variance_slope, omega, omega_slope, time, line = arrays
    taken = (a[rows] for a in (mean, jacobian, bend, variance, variance_slope, time, line))
    return of_rows(tuple(taken), omega, omega_slope, valid, fixed, numbers, processes, full)


def of_rows(
    taken: tuple[Any, ...],
    omega: Array,
    omega_slope: Array,
    valid: Array,
    fixed: Array,
    numbers: Array,
    processes: tuple[tuple[int, int, int], ...],
    full: bool,
) -> Array:
    """Information of observations that are taken already, ``[P, P]``."""
    mean, j, bend, variance, variance_slope, time, line = taken
    n = j.shape[0]
    apart = jnp.abs(time[:, None] - time[None, :])
    covariance = j @ omega @ j.T + jnp.diag(variance)
    along = jnp.einsum("arp,rs,bs->abp", bend, omega, j)
    slopes = along + along.transpose(1, 0, 2) if full else 0.0
    slopes = slopes + jnp.einsum("ar,rsp,bs->abp", j, omega_slope, j)
    slopes = slopes + jnp.eye(n)[:, :, None] * variance_slope[:, None, :]
    for k, (of, sd_at, tau_at) in enumerate(processes):
        same = ((line == of)[:, None] & (line == of)[None, :]).astype(float)
        part = same * numbers[k, 0] ** 2 * jnp.exp(-apart / numbers[k, 1])
        covariance = covariance + part
        # deviations and hours are logarithms in x
        if sd_at >= 0:
            slopes = slopes.at[:, :, sd_at].add(2.0 * part)
        if tau_at >= 0:
            slopes = slopes.at[:, :, tau_at].add(part * apart / numbers[k, 1])
    both = valid[:, None] & valid[None, :]
    covariance = jnp.where(both, covariance, jnp.eye(n))
    slopes = jnp.where(both[:, :, None], slopes, 0.0)
    mean = jnp.where(valid[:, None], mean, 0.0)
    # unit diagonal: a prediction of 0 has next to no variance beside others
    scale = jnp.sqrt(jnp.diagonal(covariance))
    lower = jnp.linalg.cholesky(covariance / (scale[:, None] * scale[None, :]))
    inverse = jax.scipy.linalg.cho_solve((lower, True), jnp.eye(n))
    inverse = inverse / (scale[:, None] * scale[None, :])
    of_mean = mean.T @ inverse @ mean
    moved = jnp.einsum("ab,bcp->acp", inverse, slopes)
    of_variance = 0.5 * jnp.einsum("abp,baq->pq", moved, moved)
    if full:
        return of_mean + of_variance
    rest = 1.0 - fixed
    return of_mean * jnp.outer(fixed, fixed) + of_variance * jnp.outer(rest, rest)
