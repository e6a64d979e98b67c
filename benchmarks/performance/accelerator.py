"""The JAX engine on an accelerator, beside the compiled one on the processor's cores.

An accelerator pays where many patients are solved at once: it steps through a schedule in about the
same time for a thousand patients as for some ten thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.performance import workloads
from benchmarks.performance.fitting import fitting_problem
from pkpd.solve.population.problem import PopulationProblem, prepare

SIZES = (1_000, 16_384, 131_072)
FIT_SIZES = (200, 4_000, 16_000)

Timer = Callable[[Callable[[], Any]], float]


def name() -> str:
    """Kind of the device that JAX computes on."""
    return jax.devices()[0].device_kind


def simulation(work: workloads.Workload, reference: np.ndarray, timer: Timer) -> list[dict]:
    """Patients a second of both engines for populations of growing size.

    Parameters
    ----------
    work
        The workload with its thousand patients, repeated for larger populations.
    reference : float[L, T]
        Counts of the thousand.
    timer
        Median seconds of a call.
    """
    device = prepare(work.structure, work.doses, work.times_h, engine="scan")
    host = prepare(work.structure, work.doses, work.times_h, engine="compiled")
    solve = jax.jit(device.log_counts)
    rows = []
    for n in SIZES:
        theta = work.theta[:, np.arange(n) % work.theta.shape[1]]
        there = jax.device_put(theta)
        counts = np.exp(np.asarray(solve(there))[0])
        first = min(n, reference.shape[0])
        seconds = timer(lambda at=there: solve(at).block_until_ready())
        on_host = timer(lambda at=theta: host.log_counts(at))
        rows.append(
            {
                "patients": n,
                "patients_per_s": n / seconds,
                "patients_per_s_compiled": n / on_host,
                "error": float(np.max(np.abs(counts[:first] / reference[:first] - 1.0))),
            }
        )
    return rows


def likelihood(timer: Timer) -> list[dict]:
    """Milliseconds of a value with gradient, and how far the engines are apart."""
    rows = []
    for n in FIT_SIZES:
        structure, theta, doses, times = fitting_problem(n)
        host = prepare(structure, doses, times, engine="compiled")
        device = prepare(structure, doses, times, engine="scan")
        counts = host.log_counts(theta)
        observed = counts + 0.3 * np.random.default_rng(5).standard_normal(counts.shape)
        weight = np.full(counts.shape, 1.0 / 0.09)
        both = jax.jit(jax.value_and_grad(total(device, observed, weight)))
        there = jax.device_put(theta)
        gradient = np.asarray(both(there)[1])
        own = host.value_and_gradient(theta, observed, weight)[1]
        apart = np.max(np.abs(gradient - own), axis=1) / np.max(np.abs(own), axis=1)
        rows.append(
            {
                "patients": n,
                "value_and_gradient_ms": 1e3
                * timer(lambda at=there, f=both: jax.block_until_ready(f(at))),
                "compiled_ms": 1e3
                * timer(lambda p=host, a=(theta, observed, weight): p.value_and_gradient(*a)),
                "gradients_apart": float(np.max(apart)),
            }
        )
    return rows


def total(
    problem: PopulationProblem, observed: np.ndarray, weight: np.ndarray
) -> Callable[[jax.Array], jax.Array]:
    """Sum over lanes of the log-likelihood."""
    return lambda theta: problem.log_likelihood(theta, observed, weight).sum()
