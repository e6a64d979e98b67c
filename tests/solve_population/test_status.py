"""Lanes that fail: counted, reported, and harmless to the others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from population_cases import STRUCTURE, nested, parameters, schedules, times

from pkpd.errors import PkpdError
from pkpd.solve.population.problem import prepare
from pkpd.solve.population.status import PENALTY, LaneStatus, assess

LANES = 4
SCHEDULE = np.array([0, 1, 2, 0])


def spoiled() -> np.ndarray:
    """Lane 1 has no clearance; lane 2 has a marrow far too fast for the cells."""
    theta = parameters(LANES)
    theta[STRUCTURE.row[("pk", "infused", "CL")], 1] = np.nan
    theta[STRUCTURE.row[("marrow", "neutrophils", "MTT")], 2] = 3.0
    return theta


@pytest.mark.parametrize("engine", ["compiled", "scan"])
def test_failed_lanes_are_counted_and_leave_the_others_alone(engine):
    theta = spoiled()
    found = prepare(STRUCTURE, schedules(), times(), schedule=SCHEDULE, engine=engine)
    log_count = found.log_counts(theta)
    status = assess(STRUCTURE, theta, log_count, found.missing(LANES))
    assert status.code.tolist() == [0, LaneStatus.BAD_PARAMETER, LaneStatus.EXPLODED, 0]
    assert "infused CL" in status.detail[1]
    assert np.isnan(log_count[:, 1]).all()
    good = found.log_counts(parameters(LANES))
    np.testing.assert_allclose(log_count[:, [0, 3]], good[:, [0, 3]], rtol=0, atol=1e-12)


def test_a_count_next_to_nothing_is_told_as_one():
    theta = parameters(LANES)
    log_count = np.zeros((2, LANES, 3))
    log_count[1, 2, 1] = -31.0
    status = assess(STRUCTURE, theta, log_count, np.zeros((LANES, 3), dtype=bool))
    assert status.code.tolist() == [0, 0, LaneStatus.EXPLODED, 0]
    line = STRUCTURE.line_names[1]
    assert f"the {line} count is not a number between e^-30 and e^30" in status.detail[2]


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("compiled", marks=pytest.mark.slow),
        pytest.param("scan", marks=pytest.mark.long),
    ],
)
def test_likelihood_of_a_failed_lane_is_finite_and_has_no_gradient(engine):
    theta = spoiled()
    found = prepare(STRUCTURE, schedules(), times(), schedule=SCHEDULE, engine=engine)
    missing = found.missing(LANES)
    shape = (2, LANES, missing.shape[1])
    weight = np.where(missing, 0.0, 2.0) * np.ones(shape)
    value, gradient = jax.value_and_grad(
        lambda t: jnp.sum(found.log_likelihood(t, np.ones(shape), weight))
    )(jnp.asarray(theta))
    assert np.isfinite(value)
    assert value < 1.9 * PENALTY
    assert np.isfinite(gradient).all()
    assert not gradient[:, [1, 2]].any()
    assert gradient[:, [0, 3]].any()


@pytest.mark.parametrize("engine", ["compiled", "scan"])
def test_a_failed_lane_has_the_penalty_itself_and_what_is_missing_is_not_judged(engine):
    theta = spoiled()
    rows = [STRUCTURE.row["marrow", "platelets", name] for name in ("baseline", "set_point")]
    theta[rows, 3] = np.exp(31.0)
    found = prepare(STRUCTURE, schedules(), times(), schedule=SCHEDULE, engine=engine)
    log_count = found.log_counts(theta)
    assert np.isnan(log_count[0, 2, -2])
    missing = found.missing(LANES)
    weight = np.where(missing, 0.0, 2.0) * np.ones(log_count.shape)
    weight[1, 3] = 0.0
    each = found.log_likelihood(theta, np.ones(log_count.shape), weight)
    assert (each > PENALTY).tolist() == [True, False, False, True]
    np.testing.assert_array_equal(each[1:3], PENALTY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: tree["pk"]["infused"].pop("CL"), "'CL' is missing"),
        (lambda tree: tree["marrow"]["platelets"].update(mtt=1.0), "nothing in the model reads it"),
    ],
)
def test_parameters_that_do_not_fit_are_named(change, words):
    tree = nested(parameters(LANES))
    change(tree)
    with pytest.raises(PkpdError, match=words):
        STRUCTURE.values(tree)


def test_lanes_without_a_schedule_are_refused():
    with pytest.raises(PkpdError, match="one schedule index per lane"):
        prepare(STRUCTURE, schedules(), times()).log_counts(parameters(7))
    with pytest.raises(PkpdError, match="out of range"):
        prepare(STRUCTURE, schedules(), times(), schedule=[0, 3])
    for index in (0.9, np.nan):
        with pytest.raises(PkpdError, match="no whole number; allowed: one number from 0 to"):
            prepare(STRUCTURE, schedules(), times(), schedule=[0, index])


def test_a_first_lane_that_is_none_does_not_reach_its_neighbours():
    theta = parameters(LANES)
    good = prepare(STRUCTURE, schedules(), times(), schedule=SCHEDULE)
    expected = good.log_counts(theta)
    theta[:, 0] = np.nan
    found = good.log_counts(theta)
    assert np.isnan(found[:, 0]).all()
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=0, atol=1e-12)
