"""Two solvers of one course of treatment: the package's scheme, and an independent one.

The independent one is SciPy's DOP853 at 1e-12 on the equations written out here in amounts and
counts (not scaled, not logged), restarted at every dose and infusion end. It shares no code with
the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicHermiteSpline

from pkpd.kinetics.linear import LinearPK, of_length
from pkpd.marrow.actions import LineEffects, combined
from pkpd.marrow.effects import Effect
from pkpd.marrow.line_marrow import LineMarrow
from pkpd.solve.grid.cells import cells, distinct_lengths


@dataclass(frozen=True)
class Drug:
    """One drug with its doses: times (h), amounts (mg), durations (h; 0 for bolus and oral)."""

    pk: LinearPK
    p: dict
    effect: Effect
    effect_p: dict
    times: tuple = ()
    amounts: tuple = ()
    durations: tuple = ()

    def events(self):
        return [*self.times, *(t + d for t, d in zip(self.times, self.durations, strict=True))]


@dataclass(frozen=True)
class Course:
    """Drugs, a marrow line and its parameters, and a constant kill rate (1/h)."""

    drugs: tuple
    line: object
    p: dict
    horizon: float
    kill: float = 0.0
    rule: str = "additive"

    def edges(self, max_step):
        events = [t for drug in self.drugs for t in drug.events()]
        return cells(events, self.horizon, max_step)


@lru_cache
def propagator_of(pk, nodes):
    """One compilation for all courses with this structure and number of lengths."""
    return jax.jit(partial(pk.propagator, nodes=nodes))


def tables(drug, edges):
    """Amount entering at the start of each cell, and rate during it."""
    n = edges.size - 1
    bolus, rate = np.zeros(n), np.zeros(n)
    for t, a, d in zip(drug.times, drug.amounts, drug.durations, strict=True):
        i = int(np.argmin(np.abs(edges[:-1] - t)))
        if d == 0:
            bolus[i] += a
        else:
            rate[i : int(np.argmin(np.abs(edges - t - d)))] += a / d
    return jnp.asarray(bolus), jnp.asarray(rate)


def scheme(course, max_step, scale=None):
    """Log count and its slope at the edges by the package: ``(edges, log_count, slope)``.

    ``scale`` multiplies every dose amount (a traced number, for gradients).
    """
    edges = course.edges(max_step)
    lengths, index = distinct_lengths(edges)
    # every marrow has both lines; the other one is left alone
    lines = (("neutrophils", course.line), ("platelets", course.line))
    marrow = LineMarrow(lines, care=False, combination=course.rule)
    actions = [
        LineEffects(f"{k}.", (("neutrophils", d.effect),), course.rule)
        for k, d in enumerate(course.drugs)
    ]
    by_nodes = [action.driver == "level" for action in actions]
    column = jnp.asarray(lengths)[:, None]
    props = [
        propagator_of(d.pk, at)(d.p, column) for d, at in zip(course.drugs, by_nodes, strict=True)
    ]
    given = [tables(d, edges) for d in course.drugs]
    if scale is not None:
        given = [(b * scale, r * scale) for b, r in given]
    lanes = jnp.broadcast_shapes(
        *(jnp.shape(v) for v in course.p.values()),
        *(jnp.shape(v) for d in course.drugs for v in (*d.p.values(), *d.effect_p.values())),
        (1,),
    )[0]
    full = {f"{n}.{k}": v for n, _ in lines for k, v in course.p.items()}
    for k, drug in enumerate(course.drugs):
        full |= {f"{k}.{name}_neutrophils": v for name, v in drug.effect_p.items()}
    full = {k: jnp.broadcast_to(v, (lanes,)) for k, v in full.items()}

    def seen(y):
        slopes = marrow.derivative(y, full, marrow.rest())
        value, slope = jax.jvp(
            lambda z: jnp.log(marrow.observe(z, full)["neutrophils"]), (y,), (slopes,)
        )
        return value, slope / 24.0

    def step(carry, cell):
        states, y = carry
        i, doses = cell
        h = jnp.asarray(lengths)[i]
        drivers, ends = [], []
        for k, drug in enumerate(course.drugs):
            prop = of_length(props[k], i)
            bolus, rate = doses[k]
            x = drug.pk.dose(states[k], bolus)
            mean, slope = drug.pk.moments(prop, x, rate)
            drivers.append(drug.pk.at_nodes(prop, x, rate) if by_nodes[k] else (mean, slope * h))
            ends.append(drug.pk.advance(prop, x, rate))
        u = combined(marrow, actions, drivers, full)
        u |= {"kill_neutrophils": 24.0 * course.kill}
        new = marrow.step(y, full, u, h / 24.0)
        return (tuple(ends), new), seen(new)

    y0 = marrow.start(full)
    start = (tuple(d.pk.zero(lanes) for d in course.drugs), y0)
    _, (log_count, slope) = jax.lax.scan(step, start, (jnp.asarray(index), given))
    first = seen(y0)
    return (
        edges,
        jnp.concatenate([first[0][None], log_count]),
        jnp.concatenate([first[1][None], slope]),
    )


class Interpolant:
    """Cubic Hermite interpolant of the log count of one lane."""

    def __init__(self, edges, log_count, slope):
        self.f = CubicHermiteSpline(edges, np.asarray(log_count), np.asarray(slope))

    def __call__(self, t):
        return np.exp(self.f(t))


def scheme_count(course, max_step, lane=0):
    """Count of one lane as a function of time, by the package."""
    edges, log_count, slope = scheme(course, max_step)
    return Interpolant(edges, log_count[:, lane], slope[:, lane])


def _value(v, lane):
    v = np.asarray(v)
    return float(v if v.ndim == 0 else v[lane if v.size > 1 else 0])


def reference_count(course, lane=0, rtol=1e-12):
    """Count of one lane as a function of time, by DOP853 on the written-out equations."""
    q = {k: _value(v, lane) for k, v in course.p.items()}
    line = course.line
    platelets = hasattr(line, "ageing")
    n_transit = line.transits
    n_blood = line.ageing if platelets else 1
    ktr = (n_transit + 1) / q["MTT"]
    loss = ktr + q["ks"] if platelets else q["k_circ"] if line.circulation == "own" else ktr
    n_marrow = 1 + n_transit + n_blood
    specs, start = [], n_marrow
    for drug in course.drugs:
        a = {k: _value(v, lane) for k, v in drug.p.items()}
        e = {k: _value(v, lane) for k, v in drug.effect_p.items()}
        specs.append((drug, a, e, start))
        start += drug.pk.n_states

    def effect_of(drug, e, c):
        name = type(drug.effect).__name__
        if name == "NoEffect":
            return 0.0
        if name == "LinearEffect":
            return e["slope"] * c
        hill = e.get("hill", 1.0)
        c = max(c, 0.0)
        return e["Emax"] * c**hill / (e["EC50"] ** hill + c**hill)

    def rhs(t, y, rates):
        d = np.empty_like(y)
        effects = []
        for (drug, a, e, s), rate in zip(specs, rates, strict=True):
            pk, x = drug.pk, y[s : s + drug.pk.n_states]
            m = pk.n_absorption
            inflow = rate
            if m:
                k = a["KTR"] if pk.absorption else a["ka"]
                d[s] = rate - k * x[0]
                for i in range(1, m):
                    d[s + i] = k * (x[i - 1] - x[i])
                inflow = k * x[m - 1]
            c = x[m] / a["V1"]
            d[s + m] = inflow - a["CL"] * c
            if pk.compartments > 1:
                flow = a["Q"] * (c - x[m + 1] / a["V2"])
                d[s + m] -= flow
                d[s + m + 1] = flow
            if pk.compartments > 2:
                flow = a["Q3"] * (c - x[m + 2] / a["V3"])
                d[s + m] -= flow
                d[s + m + 2] = flow
            if pk.effect_site:
                last = s + pk.n_states - 1
                d[last] = a["k_in"] * c * a["per_umol"] - a["k_out"] * y[last]
                driver = y[last]
            else:
                driver = c * (a["per_umol"] if pk.unit == "umol/L" else 1.0)
            effects.append(effect_of(drug, e, driver))
        total = sum(effects)
        if course.rule == "bliss":
            total = 1.0 - np.prod([1.0 - e for e in effects])
        blood = y[1 + n_transit : n_marrow]
        feedback = (q["set_point"] / blood.sum()) ** q["gamma"]
        rest = 1.0 - total
        if line.feedback_rule == "off" and rest < 0:
            feedback = 1.0
        if line.feedback_rule == "capped":
            rest = max(rest, 0.0)
        d[0] = ktr * y[0] * (rest * feedback - 1.0) - course.kill * y[0]
        for i in range(1, n_transit + 1):
            d[i] = ktr * (y[i - 1] - y[i])
        d[1 + n_transit] = ktr * y[n_transit] - loss * blood[0]
        for i in range(1, n_blood):
            d[1 + n_transit + i] = ktr * blood[i - 1] - loss * blood[i]
        return d

    shares = np.array([(ktr / loss) ** i for i in range(n_blood)]) if platelets else np.ones(1)
    first = q["baseline"] / shares.sum() * shares
    y = np.zeros(start)
    y[: 1 + n_transit] = first[0] * loss / ktr
    y[1 + n_transit : n_marrow] = first
    stops = np.unique(
        np.concatenate([[0.0, course.horizon], [t for d in course.drugs for t in d.events()]])
    )
    stops = stops[stops <= course.horizon]
    pieces = []
    for left, right in pairwise(stops):
        rates = np.zeros(len(specs))
        for k, (drug, _, _, s) in enumerate(specs):
            for t, amount, dur in zip(drug.times, drug.amounts, drug.durations, strict=True):
                if dur == 0 and abs(t - left) < 1e-9:
                    y[s] += amount
                if dur > 0 and t - 1e-9 <= left < t + dur - 1e-9:
                    rates[k] += amount / dur
        solution = solve_ivp(
            rhs,
            (left, right),
            y,
            method="DOP853",
            rtol=rtol,
            atol=1e-14,
            args=(rates,),
            dense_output=True,
        )
        assert solution.success
        pieces.append((left, right, solution.sol))
        y = solution.y[:, -1].copy()

    def count(t):
        t = np.atleast_1d(np.asarray(t, dtype=float))
        out = np.empty_like(t)
        for left, right, sol in pieces:
            inside = (t >= left) & (t <= right)
            if inside.any():
                out[inside] = sol(t[inside])[1 + n_transit : n_marrow].sum(axis=0)
        return out

    return count
