"""Saturable elimination step by step, against a closed form and DOP853."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import lambertw

from pkpd.cards.population_cards import load_population
from pkpd.kinetics.quadrature import NODES
from pkpd.kinetics.saturable import SaturableIV, moments
from pkpd.model.individuals import individual_parameters
from pkpd.model.joint import load_model
from pkpd.model.parameters import typical
from pkpd.subjects import sample_population

PK = SaturableIV()
MOULD = {"Vmax": 1.02, "Km": 0.338, "V1": 11.3, "Q": 1.05, "V2": 41.5, "per_umol": 1.0}
ATTEMPT = jax.jit(PK.attempt)


@jax.jit
def all_attempts(y, p, flow, left, pace):
    """Repeat attempts until all lanes have arrived; how many it took."""

    def step(now):
        y, n, left, pace = now
        y, left, pace = PK.attempt(y, p, flow, left, pace)
        return y, n + 1, left, pace

    def on(now):
        return (now[2] > 0.0).any() & (now[1] < 4000)

    y, attempts, left, _ = jax.lax.while_loop(on, step, (y, 0, left, pace))
    return y, attempts, left


EDGES = np.array([0.0, 2.0, 8.0, 16.0, 24.0])
DAYS = 21
DOSES = {0: 3.0, 1: 10.0, 2: 30.0, 4: 30.0, 7: 30.0, 9: 30.0}
"""mg over two hours by day."""


def solve(p, amounts, flow, hours):
    """Amounts and integrals after hours, and the largest number of attempts."""
    lanes = jnp.shape(p["V1"])
    y = [np.broadcast_to(np.asarray(a, float), lanes) for a in (*amounts, 0.0, 0.0)]
    left, pace, flow = np.full(lanes, hours), np.full(lanes, hours), np.full(lanes, flow)
    y, attempts, left = all_attempts(y, p, flow, left, pace)
    assert not (left > 0.0).any()
    return y, int(attempts)


def patients(n, seed):
    """Kinetics of alemtuzumab, from the slowest to the fastest elimination of 500 patients."""
    model, population = load_model(drugs=["alemtuzumab"]), load_population("rr_all_adult")
    sample = sample_population(population, 500, seed)
    values = individual_parameters(model, typical(model, population), sample)
    p = {name: values[f"alemtuzumab.{name}"][0] for name in ("Vmax", "Km", "V1", "Q", "V2")}
    order = np.argsort(p["Vmax"] / (p["Km"] * p["V1"]))[np.linspace(0, 499, n).astype(int)]
    return {name: v[order] for name, v in p.items()} | {"per_umol": jnp.ones(n)}


def test_one_compartment_is_the_lambert_function():
    p = {name: jnp.array([v]) for name, v in MOULD.items()} | {"Q": jnp.zeros(1)}
    c0, rate = 30.0 / 11.3, 1.02 / 11.3
    for hours in (1.0, 8.0, 60.0):
        y, _ = solve(p, (30.0, 0.0), 0.0, hours)
        exact = 0.338 * lambertw(c0 / 0.338 * np.exp((c0 - rate * hours) / 0.338)).real
        assert abs(float(y[0][0]) / 11.3 - exact) < 2e-8 * c0
        # what was eliminated has passed the concentration's own rate
        t = np.linspace(0.0, hours, 4001)
        c = 0.338 * lambertw(c0 / 0.338 * np.exp((c0 - rate * t) / 0.338)).real
        assert abs(float(y[2][0]) - np.trapezoid(c, t)) < 1e-6 * float(y[2][0])


@pytest.mark.slow
def test_a_population_agrees_with_dop853_in_every_cell_of_a_course():
    """Means, first moments and nodes within 1e-6 of each patient's largest mean concentration."""
    n = 8
    p = patients(n, 3)
    rate = np.asarray(p["Vmax"] / (p["Km"] * p["V1"]))
    assert rate.max() / rate.min() > 500.0
    found, x = [], (np.zeros(n), np.zeros(n))
    for day in range(DAYS):
        for a, b in pairwise(EDGES):
            flow = DOSES.get(day, 0.0) / 2.0 if b <= 2.0 else 0.0
            y, _ = solve(p, x, flow, b - a)
            nodes = [solve(p, x, flow, (b - a) * at)[0][0] / p["V1"] for at in NODES]
            found.append([*moments(y[2], y[3], b - a), *nodes])
            x = (y[0], y[1])
    found = np.array(found)
    worst = np.zeros(3)
    for i in range(n):
        q = {name: float(v[i]) for name, v in p.items()}
        expected, state = [], np.zeros(2)
        for day in range(DAYS):
            for a, b in pairwise(EDGES):
                flow, h = DOSES.get(day, 0.0) / 2.0 if b <= 2.0 else 0.0, b - a

                def rhs(t, y, q=q, flow=flow):
                    c = y[0] / q["V1"]
                    exchange = q["Q"] * (c - y[1] / q["V2"])
                    lost = q["Vmax"] * c / (q["Km"] + c)
                    return [flow - lost - exchange, exchange, c, t * c]

                y = solve_ivp(
                    rhs, (0.0, h), [*state, 0.0, 0.0], method="DOP853", rtol=1e-11, atol=1e-13,
                    t_eval=[*(NODES * h), h],
                ).y  # fmt: skip
                first = 12.0 / h**2 * (y[3, -1] - 0.5 * h * y[2, -1])
                expected.append([y[2, -1] / h, first, *(y[0, :4] / q["V1"])])
                state = y[:2, -1]
        expected = np.array(expected)
        error = np.abs(found[:, :, i] - expected).max(axis=0) / expected[:, 0].max()
        worst = np.maximum(worst, [error[0], error[1], error[2:].max()])
    # measured: 9e-9, 2e-7, 4e-9
    assert (worst < 1e-6).all()


def test_a_patient_does_not_depend_on_those_beside_it():
    p = patients(12, 7)
    together, attempts = solve(p, (20.0, 5.0), 0.0, 8.0)
    for i in (0, 5, 11):
        alone, own = solve({k: v[i : i + 1] for k, v in p.items()}, (20.0, 5.0), 0.0, 8.0)
        assert own <= attempts
        for a, b in zip(alone, together, strict=True):
            # the same steps; compilations of other lengths differ in the last digit
            assert float(a[0]) == float(b[i]) or abs(float(a[0] / b[i]) - 1.0) < 1e-12


def test_after_the_end_nothing_changes():
    p = {name: jnp.array([v]) for name, v in MOULD.items()}
    y, _ = solve(p, (20.0, 5.0), 1.0, 6.0)
    again, left, _ = ATTEMPT(y, p, jnp.ones(1), jnp.zeros(1), jnp.ones(1))
    np.testing.assert_array_equal(np.array(again), np.array(y))
    assert float(left[0]) == 0.0
