"""Lanes that fail: counted, told, reproducible, and harmless to the others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from population_cases import STRUCTURE, nested, parameters, schedules, times

from pkpd.errors import DataError, PkpdError
from pkpd.solve.population.population import population_counts
from pkpd.solve.population.problem import prepare
from pkpd.solve.population.status import (
    PENALTY,
    LaneStatus,
    capsule,
    open_capsule,
    write_capsule,
)

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
    result = population_counts(
        STRUCTURE, nested(theta), schedules(), times(), schedule=SCHEDULE, engine=engine
    )
    code = result.status.code
    assert code[1] == LaneStatus.BAD_PARAMETER
    assert "infused CL" in result.status.detail[1]
    assert code[2] == LaneStatus.EXPLODED
    assert np.isnan(result.log_count[:, [1, 2]]).all()
    good = population_counts(
        STRUCTURE,
        nested(parameters(LANES)),
        schedules(),
        times(),
        schedule=SCHEDULE,
        engine=engine,
    )
    np.testing.assert_allclose(
        result.log_count[:, [0, 3]], good.log_count[:, [0, 3]], rtol=0, atol=1e-12
    )
    assert result.status.summary().startswith("Of 4 lanes: 2 solved")


@pytest.mark.slow
def test_a_stiff_lane_is_solved_again_by_the_general_engine():
    theta = spoiled()
    result = population_counts(
        STRUCTURE, nested(theta), schedules(), times(), schedule=SCHEDULE, check="error"
    )
    assert result.status.code[2] == LaneStatus.SOLVED_AGAIN
    assert result.status.error[0] < 1e-4
    fine = prepare(STRUCTURE, schedules(), times(), schedule=SCHEDULE, max_step_h=0.05)
    exact = fine.log_counts(theta)
    missing = fine.missing(LANES)[2]
    # the general engine runs at a relative tolerance of 1e-8 per step
    np.testing.assert_allclose(
        result.log_count[:, 2][:, ~missing], exact[:, 2][:, ~missing], rtol=0, atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["compiled", "scan"])
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


def test_capsule_solves_the_same_lane(tmp_path):
    theta = parameters(LANES)
    found = prepare(STRUCTURE, schedules(), times(), schedule=SCHEDULE)
    path = tmp_path / "lane.json"
    write_capsule(path, capsule(found, theta, 3))
    structure, own, doses, asked, step = open_capsule(path)
    assert structure == STRUCTURE
    again = prepare(structure, doses, asked, max_step_h=step).log_counts(own)[:, 0]
    kept = found.log_counts(theta)[:, 3][:, ~found.missing(LANES)[3]]
    # alone, the lane has its own cells: the same answer within the promise of the step
    np.testing.assert_allclose(again, kept, rtol=0, atol=1e-5)


def test_capsule_builds_only_types_of_this_package(tmp_path):
    found = prepare(STRUCTURE, schedules(), times(), schedule=SCHEDULE)
    told = capsule(found, parameters(LANES), 0)
    told["structure"]["drugs"][0]["pk"] = {"type": "os:system"}
    with pytest.raises(DataError, match="types of this package"):
        open_capsule(told)


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
        population_counts(STRUCTURE, tree, schedules(), times(), schedule=SCHEDULE)


def test_lanes_without_a_schedule_are_refused():
    with pytest.raises(PkpdError, match="one schedule index per lane"):
        prepare(STRUCTURE, schedules(), times()).log_counts(parameters(7))
    with pytest.raises(PkpdError, match="out of range"):
        prepare(STRUCTURE, schedules(), times(), schedule=[0, 3])


def test_a_first_lane_that_is_none_does_not_reach_its_neighbours():
    theta = parameters(LANES)
    good = prepare(STRUCTURE, schedules(), times(), schedule=SCHEDULE)
    expected = good.log_counts(theta)
    theta[:, 0] = np.nan
    found = good.log_counts(theta)
    assert np.isnan(found[:, 0]).all()
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=0, atol=1e-12)
