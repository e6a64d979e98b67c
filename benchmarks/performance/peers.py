"""The same workloads on other solvers, restarted at every event; those not installed are left out.

Tolerances are 1e-6 relative and 1e-9 absolute, the usual setting in this field. A peer's compile
time is not counted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numba as nb
import numpy as np
from scipy.integrate import solve_ivp

from benchmarks.performance import workloads as w

# the Fortran runtime would keep its remarks and print them at the end, past `_silent`
os.environ.setdefault("GFORTRAN_UNBUFFERED_PRECONNECTED", "y")

RTOL, ATOL = 1e-6, 1e-9
Run = Callable[[], np.ndarray]


def available() -> list[str]:
    """Names of the peers that can run here."""
    return [name for name in ("numbalsoda", "diffrax", "scipy") if find_spec(name)]


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the Fortran solver from writing a line per patient on the standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


@nb.njit(inline="always")
def _right_hand_side(y, d, p):
    cl, v1, q, v2, half, infusion = p[0], p[1], p[2], p[3], p[4], p[5]
    d[0] = infusion - (cl / v1 + q / v1) * y[0] + q / v2 * y[1]
    d[1] = q / v1 * y[0] - q / v2 * y[1]
    d[2] = w.K_IN * w.PER_UMOL_CLO * y[0] / v1 - w.K_OUT * y[2]
    effect = w.EMAX * y[2] / (half + y[2])
    if p[6] > 0:
        effect += w.SLOPE * w.PER_UMOL_LEN / w.V_LEN * y[16]
        d[8] = -w.KTR * y[8]
        for i in range(9, 16):
            d[i] = w.KTR * (y[i - 1] - y[i])
        d[16] = w.KTR * y[15] - w.CL_LEN / w.V_LEN * y[16]
    k = 4.0 / w.MTT
    d[3] = k * y[3] * ((1.0 - effect) * (w.BASELINE / y[7]) ** w.GAMMA - 1.0)
    for i in range(4, 8):
        d[i] = k * (y[i - 1] - y[i])


def _parameters(work: w.Workload) -> np.ndarray:
    columns = [work.parameters[name] for name in ("CL", "V1", "Q", "V2", "EC50")]
    both = np.full_like(columns[0], float(work.name == "W2"))
    return np.stack([*columns, np.zeros_like(both), both], axis=1)


def numbalsoda(work: w.Workload, threads: int) -> Run:
    """DOP853 of numbalsoda, the whole population in one compiled parallel loop."""
    from numbalsoda import dop853, lsoda_sig

    @nb.cfunc(lsoda_sig)
    def function(t, y, d, p):
        _right_hand_side(y, d, p)

    address, segments = function.address, w.segments(work)
    start, table, n_days = w.initial_state(work), _parameters(work), work.times_h.size

    @nb.njit(parallel=True)
    def population(address, table, segments, start, n_days):
        out = np.empty((table.shape[0], n_days))
        for i in nb.prange(table.shape[0]):
            p = table[i].copy()
            y = start.copy()
            out[i, 0] = y[7]
            for s in range(segments.shape[0]):
                left, right = segments[s, 0], segments[s, 1]
                p[5] = segments[s, 2]
                if segments[s, 3] > 0:
                    y[8] += segments[s, 3]
                first, last = int(left // 24) + 1, int(right // 24)
                inner = max(last - first + 1, 0)
                on_day = inner > 0 and last * 24.0 == right
                times = np.empty(inner + (1 if on_day else 2))
                times[0] = left
                for j in range(inner):
                    times[1 + j] = (first + j) * 24.0
                times[-1] = right
                solved, _ = dop853(address, y, times, p, rtol=RTOL, atol=ATOL, mxstep=100000)
                for j in range(inner):
                    out[i, first + j] = solved[1 + j, 7]
                y = solved[-1].copy()
        return out

    def run() -> np.ndarray:
        nb.set_num_threads(min(threads, nb.config.NUMBA_NUM_THREADS))
        with _silent():
            return population(address, table, segments, start, n_days)

    run.keep = function  # the machine code lives as long as this object
    return run


def scipy(work: w.Workload, threads: int) -> Run:
    """DOP853 of scipy with a compiled right-hand side, one patient after another."""
    table, segments = _parameters(work), w.segments(work)

    @nb.njit
    def function(t, y, p):
        d = np.empty_like(y)
        _right_hand_side(y, d, p)
        return d

    def run() -> np.ndarray:
        out = np.empty((table.shape[0], work.times_h.size))
        for i, p in enumerate(table):
            y = w.initial_state(work)
            out[i, 0] = y[7]
            for left, right, infusion, oral in segments:
                p[5] = infusion
                if oral:
                    y[8] += oral
                inside = np.flatnonzero((work.times_h > left) & (work.times_h <= right))
                solved = solve_ivp(
                    function,
                    (left, right),
                    y,
                    method="DOP853",
                    rtol=RTOL,
                    atol=ATOL,
                    args=(p,),
                    t_eval=np.unique(np.append(work.times_h[inside], right)),
                )
                out[i, inside] = solved.y[7, : inside.size]
                y = solved.y[:, -1].copy()
        return out

    return run


def diffrax(work: w.Workload, threads: int) -> Run:
    """Tsit5 of diffrax over the batch with vmap; a scan over the stretches between events."""
    import diffrax as dfx
    import jax
    import jax.numpy as jnp

    both = work.name == "W2"
    segments, days = w.segments(work), work.times_h.size
    saved = [work.times_h[(work.times_h > a) & (work.times_h <= b)] for a, b, *_ in segments]
    width = max(map(len, saved))
    at = np.array(
        [np.append(s, [b] * (width - len(s))) for s, b in zip(saved, segments[:, 1], strict=True)]
    )
    slot = np.array([np.append(s / 24, [days] * (width - len(s))) for s in saved]).astype(int)

    def rhs(t, y, args):
        p, infusion = args
        cl, v1, q, v2, half = p
        effect = w.EMAX * y[2] / (half + y[2])
        k = 4.0 / w.MTT
        d = [
            infusion - (cl / v1 + q / v1) * y[0] + q / v2 * y[1],
            q / v1 * y[0] - q / v2 * y[1],
            w.K_IN * w.PER_UMOL_CLO * y[0] / v1 - w.K_OUT * y[2],
        ]
        if both:
            effect = effect + w.SLOPE * w.PER_UMOL_LEN / w.V_LEN * y[16]
        d.append(k * y[3] * ((1.0 - effect) * (w.BASELINE / y[7]) ** w.GAMMA - 1.0))
        d += [k * (y[i - 1] - y[i]) for i in range(4, 8)]
        if both:
            d.append(-w.KTR * y[8])
            d += [w.KTR * (y[i - 1] - y[i]) for i in range(9, 16)]
            d.append(w.KTR * y[15] - w.CL_LEN / w.V_LEN * y[16])
        return jnp.stack(d)

    def patient(p):
        def stretch(y, given):
            row, times = given
            y = y.at[8].add(row[3]) if both else y
            solved = dfx.diffeqsolve(
                dfx.ODETerm(rhs),
                dfx.Tsit5(),
                row[0],
                row[1],
                jnp.minimum(0.1, row[1] - row[0]),
                y,
                (p, row[2]),
                saveat=dfx.SaveAt(ts=times, t1=True),
                stepsize_controller=dfx.PIDController(rtol=RTOL, atol=ATOL),
                max_steps=100_000,
            )
            return solved.ys[-1], solved.ys[:-1, 7]

        start = jnp.asarray(w.initial_state(work))
        _, counts = jax.lax.scan(stretch, start, (jnp.asarray(segments), jnp.asarray(at)))
        out = jnp.full(days + 1, w.BASELINE)
        return out.at[slot.ravel()].set(counts.ravel())[:days]

    solve = jax.jit(jax.vmap(patient))
    table = jnp.asarray(_parameters(work)[:, :5])
    return lambda: np.asarray(solve(table))
