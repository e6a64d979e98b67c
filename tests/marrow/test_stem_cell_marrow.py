"""Marrow with an exhaustible stem pool: limits, and what it was made for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkpd.errors import PkpdError
from pkpd.marrow.friberg import Friberg, relaxation_rate
from pkpd.marrow.stem_cell import StemCellMarrow

# starting values of a published transcription for platelets in lymphoma
P = {
    "baseline": jnp.array([270.0]),
    "set_point": jnp.array([270.0]),
    "MTT": jnp.array([195.0]),
    "gamma": jnp.array([0.316]),
    "ftr": jnp.array([0.7]),
    "k_circ": jnp.array([0.01]),
}


def course(line, p, effect_of, hours, start=None, rtol=1e-9):
    """Counts every 24 h by an independent solver; piecewise over days."""
    slope = jax.jit(lambda y, e: line.derivative(y[:, None], e, 0.0, p)[:, 0])
    y = np.asarray(line.initial(p))[:, 0] if start is None else start
    counts = []
    for day in range(int(hours / 24)):
        counts.append(float(np.exp(line.log_count(jnp.array(y)[:, None], p)[0])))
        effect = jnp.array([effect_of(day)])

        def right(_, x, effect=effect):
            return np.asarray(slope(x, effect))

        y = solve_ivp(right, (0.0, 24.0), y, method="DOP853", rtol=rtol, atol=1e-12).y[:, -1]
    return np.array(counts)


def test_derivative_is_the_published_one_in_counts():
    line = StemCellMarrow(circulation="own")
    rng = np.random.default_rng(3)
    y = jnp.asarray(rng.uniform(0.2, 1.5, (6, 1)))
    effect, kill = 0.4, 0.01
    ktr = 4.0 / 195.0
    steady = 270.0 * 0.01 / ktr  # of stem, proliferating and transit cells
    stem, (t1, t2, t3) = steady * np.exp(float(y[0, 0])), steady * np.asarray(y[2:5, 0])
    prol = stem * float(y[1, 0])
    circ = 270.0 * float(y[5, 0])
    f = (270.0 / circ) ** 0.316
    k_stem, k_prol = 0.3 * ktr, 0.7 * ktr
    d_stem = k_stem * stem * ((1 - effect) * f - 1) - kill * stem
    d_prol = k_prol * prol * (1 - effect) * f + k_stem * stem - ktr * prol - kill * prol
    published = np.array(
        [
            d_stem / stem,
            d_prol / stem - prol * d_stem / stem**2,
            ktr * (prol - t1) / steady,
            ktr * (t1 - t2) / steady,
            ktr * (t2 - t3) / steady,
            (ktr * t3 - 0.01 * circ) / 270.0,
        ]
    )
    got = line.derivative(y, jnp.array([effect]), kill, P)[:, 0]
    np.testing.assert_allclose(got, published, rtol=1e-12)


def test_no_drug_is_a_steady_state_that_is_stable():
    line = StemCellMarrow()
    slope = line.derivative(line.initial(P), jnp.zeros(1), 0.0, P)
    np.testing.assert_allclose(slope, 0.0, atol=1e-15)
    assert relaxation_rate(line, P)[0] < 0.0
    slope = jax.jit(lambda y: line.derivative(y[:, None], jnp.zeros(1), 0.0, P)[:, 0])
    start = np.asarray(line.initial(P))[:, 0]
    end = solve_ivp(
        lambda _, y: np.asarray(slope(y)), (0.0, 365 * 24.0), start, method="LSODA", rtol=1e-8
    ).y
    np.testing.assert_allclose(270.0 * end[-1], 270.0, rtol=1e-9)


def test_without_a_share_of_stem_cells_it_is_fribergs_model():
    p = {**P, "ftr": jnp.array([1.0])}
    effect = lambda day: 1.4 if day < 5 else 0.0  # noqa: E731
    got = course(StemCellMarrow(), p, effect, 40 * 24)
    expected = course(Friberg(), p, effect, 40 * 24)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_the_stem_pool_alone_brings_a_marrow_back_that_lost_its_dividing_cells():
    line = StemCellMarrow()
    y = np.asarray(line.initial(P))[:, 0].copy()
    y[1:5] = 0.0  # no proliferating cell left, nor any on its way
    counts = course(line, P, lambda _: 0.0, 120 * 24, start=y)
    assert counts.min() < 0.15 * 270.0
    assert counts[-1] == pytest.approx(270.0, rel=0.1)
    friberg = Friberg()
    gone = np.asarray(friberg.initial(P))[:, 0].copy()
    gone[0], gone[1:4] = -27.0, 0.0  # log of 1e-12, as good as none
    assert course(friberg, P, lambda _: 0.0, 60 * 24, start=gone).min() < 0.001 * 270.0


def test_nadirs_deepen_from_course_to_course():
    """What the model was published for: cumulative toxicity. Friberg's nadirs recover."""

    def effect(day):
        return 1.2 if day % 21 < 3 else 0.0

    def nadirs(line):
        counts = course(line, P, effect, 4 * 21 * 24)
        return counts.reshape(4, 21).min(axis=1)

    stem, friberg = nadirs(StemCellMarrow()), nadirs(Friberg())
    assert (np.diff(stem[1:]) < 0.0).all()
    assert stem[3] / stem[1] < friberg[3] / friberg[1]


@pytest.mark.parametrize(
    "options", [{"transits": 0}, {"circulation": "x"}, {"feedback_rule": "x"}, {"saturation": 1.0}]
)
def test_refusals(options):
    with pytest.raises(PkpdError, match="marrow with stem cells"):
        StemCellMarrow(**options)
