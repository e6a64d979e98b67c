"""Kinetics that change within a lane: laws, derivatives, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from population_cases import STRUCTURE, parameters, schedules, times

from pkpd.errors import PkpdError
from pkpd.kinetics.linear import Disposition
from pkpd.marrow.effects import LinearEffect
from pkpd.marrow.friberg import Friberg, PlateletChain
from pkpd.solve.grid.grid import Doses, population_grid, refine
from pkpd.solve.grid.structure import Drug, Line, PopulationStructure
from pkpd.solve.grid.versions import Versions, n_kinetic, of_version
from pkpd.solve.population.problem import prepare

LANES = 5
SCHEDULE = np.array([0, 1, 2, 1, 0])
KINETIC = n_kinetic(STRUCTURE)
ROWS = len(STRUCTURE.layout)
INFINITE = np.inf


def versions(begins) -> Versions:
    """Versions by time, doses at a change taking the version before it."""
    doses, begins = schedules(), np.asarray(begins, dtype=float)
    of_dose = [np.searchsorted(b, t) for b, t in zip(begins, doses.time_h, strict=True)]
    return Versions(begins, np.array(of_dose, dtype=np.int32))


# schedule 0 changes twice, at times that are no edge of a cell, 1 once, 2 not at all
UNEVEN = versions([[13.7, 80.3], [60.0, INFINITE], [INFINITE, INFINITE]])


def problem(given: Versions | None, **options):
    return prepare(STRUCTURE, schedules(), times(), schedule=SCHEDULE, versions=given, **options)


def repeated(theta: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([theta, *[theta[:KINETIC]] * (count - 1)])


def differing(seed: int = 3) -> np.ndarray:
    """Three versions that differ by 30 %."""
    theta = repeated(parameters(LANES), 3)
    theta[ROWS:] *= np.exp(0.3 * np.random.default_rng(seed).standard_normal(theta[ROWS:].shape))
    return theta


def test_equal_versions_are_no_versions():
    """At edges that the grid has anyway, nothing but rounding may differ."""
    plain = problem(None)
    cut = problem(versions(plain.grid.start_h[[4, 8, 12]].T))
    assert cut.grid.n_cells == plain.grid.n_cells
    theta = parameters(LANES)
    many = repeated(theta, 4)
    bar = np.random.default_rng(0).standard_normal((2, LANES, 8))
    bar[:, plain.missing(LANES)] = 0.0
    np.testing.assert_allclose(cut.log_counts(many), plain.log_counts(theta), rtol=1e-12)

    def slopes(of, at):
        value = lambda x: jnp.nansum(bar * of.log_counts(x))  # noqa: E731
        return np.array(jax.grad(value)(jnp.asarray(at)))

    found, expected = slopes(cut, many), slopes(plain, theta)
    for version in range(1, 4):
        start = ROWS + (version - 1) * KINETIC
        found[:KINETIC] += found[start : start + KINETIC]
    np.testing.assert_allclose(found[:ROWS], expected, rtol=1e-9, atol=1e-11)


def test_lanes_with_fewer_versions_are_solved_as_alone():
    """A lane's counts do not depend on its neighbours; versions it lacks are not read."""
    theta = differing()
    whole = problem(UNEVEN, max_step_h=1.0)
    found = whole.log_counts(theta)
    for g, count in ((0, 3), (1, 2), (2, 1)):
        lanes = np.flatnonzero(g == SCHEDULE)
        doses = schedules()
        own = Doses(doses.time_h[[g]], doses.amount[[g]], doses.duration_h[[g]], doses.drug[[g]])
        mine = Versions(UNEVEN.begins_h[[g], : count - 1], UNEVEN.of_dose[[g]])
        alone = prepare(STRUCTURE, own, times()[[g]], versions=mine, max_step_h=1.0)
        rows = theta[: ROWS + (count - 1) * KINETIC, lanes]
        # edges of the grid's gaps differ, so do the cells: what the scheme leaves at 1 h
        np.testing.assert_allclose(found[:, lanes], alone.log_counts(rows), atol=3e-6)
    other = theta.copy()
    other[ROWS + KINETIC :, [1, 3]] *= 1.5
    other[ROWS:, 2] *= 1.5
    np.testing.assert_array_equal(whole.log_counts(other), found)


@pytest.mark.slow
def test_derivatives_by_every_version_match_differences():
    theta = differing()
    found = problem(UNEVEN)
    bar = np.random.default_rng(0).standard_normal((2, LANES, 8))

    def value(x):
        out = jnp.where(found.missing(LANES), 0.0, found.log_counts(x))
        return jnp.sum(bar * out, axis=(0, 2))

    slopes = np.asarray(jax.grad(lambda x: jnp.sum(value(x)))(jnp.asarray(theta)))
    step = 1e-5
    for row in range(theta.shape[0]):
        up, down = theta.copy(), theta.copy()
        up[row] *= 1.0 + step
        down[row] *= 1.0 - step
        difference = (np.asarray(value(jnp.asarray(up))) - np.asarray(value(jnp.asarray(down)))) / (
            2 * step * theta[row]
        )
        # central differences: 1e-10 of truncation, 1e-11 of rounding over the step
        np.testing.assert_allclose(slopes[row] * theta[row], difference * theta[row], atol=3e-7)
    lacking = np.concatenate([slopes[ROWS + KINETIC :, [1, 3]].ravel(), slopes[ROWS:, 2].ravel()])
    assert np.all(lacking == 0.0)
    assert np.all(np.abs(slopes[ROWS : ROWS + 5, [0, 1]]) > 1e-9)


def test_likelihood_and_batches_give_the_same_derivatives():
    theta = differing()
    found = problem(UNEVEN)
    counts = found.log_counts(theta)
    observed = np.where(np.isnan(counts), 0.0, counts + 0.1)
    weight = np.where(np.isnan(counts), 0.0, 4.0)
    value, bar = found.value_and_gradient(theta, observed, weight)
    np.testing.assert_allclose(value, -0.5 * (weight * 0.01).sum(axis=(0, 2)), rtol=1e-10)

    def total(x):
        out = jnp.where(weight > 0, found.log_counts(x), 0.0)
        return -0.5 * jnp.sum(weight * (observed - out) ** 2)

    batch = jnp.stack([jnp.asarray(theta)] * 2)
    for slopes in np.asarray(jax.vmap(jax.grad(total))(batch)):
        np.testing.assert_allclose(slopes, bar, rtol=1e-9, atol=1e-12)


def test_an_unusable_version_spoils_its_own_lane_only():
    theta = differing()
    found = problem(UNEVEN)
    good = found.log_counts(theta)
    theta[ROWS + KINETIC, 0] = -1.0  # clearance of the third version
    assert STRUCTURE.layout[0][-1] == "CL"
    out = found.log_counts(theta)
    assert np.isnan(out[:, 0]).all()
    # lanes share numbers of terms, which moves the last digit
    np.testing.assert_allclose(out[:, 1:], good[:, 1:], rtol=1e-12, atol=1e-14)
    assert float(of_version(STRUCTURE, theta, 2)[0, 0]) == -1.0


def test_counts_of_a_change_match_the_closed_form():
    """Without feedback (``gamma`` 0) the log count falls by ``ktr slope`` times the drug's area.

    That is what is lost at each clearance over the clearance; the volume does not matter.
    """
    structure = PopulationStructure(
        (Drug("drug", Disposition(1)),),
        (Line("neutrophils", Friberg(), (LinearEffect(),)),),
    )
    change, last = 20.0, 4000.0
    given = Versions(np.array([[change]]), np.zeros((1, 1), dtype=np.int32))
    found = prepare(structure, Doses.of([[(0.0, 100.0, 0.0, 0)]]), [last], versions=given)
    assert [name[-1] for name in structure.layout] == [
        "CL", "V1", "F", "slope", "baseline", "set_point", "MTT", "gamma",
    ]  # fmt: skip
    slope, mtt = 0.05, 40.0
    theta = np.array([[2.0, 50.0, 0.9, slope, 5.0, 5.0, mtt, 0.0, 5.0, 25.0, 0.9]]).T
    amount, left = 90.0, 90.0 * np.exp(-2.0 / 50.0 * change)
    area = (amount - left) / 2.0 + left / 5.0
    expected = np.log(5.0) - 4.0 / mtt * slope * area
    # the area is exact on any cells
    np.testing.assert_allclose(found.log_counts(theta)[0, 0, 0], expected, atol=1e-7)


def test_grid_cuts_at_changes_and_names_the_version_of_every_cell():
    doses = Doses.of([[(0.0, 9.0, 30.0, 0)], [(0.0, 9.0, 0.0, 0), (10.0, 9.0, 0.0, 0)]])
    given = Versions(np.array([[13.0, 30.0], [10.0, INFINITE]]), np.array([[0, 0], [0, 1]]))
    grid = population_grid(doses, [48.0], n_drugs=1, versions=given)
    found = grid.versions
    assert found is not None
    for g in range(2):
        edges = grid.start_h[:, g]
        real = np.diff(edges) > 0
        own = found.sets[found.of_length[grid.length_index], g][real]
        expected = np.searchsorted(given.begins_h[g], edges[:-1][real] + 1e-6)
        np.testing.assert_array_equal(own, expected)
        for begin in given.begins_h[g][np.isfinite(given.begins_h[g])]:
            assert np.min(np.abs(edges - begin)) < 1e-9
    # the bolus at 10 h takes the version of its dose; version 0 everywhere is set 0
    at = np.flatnonzero(grid.bolus[:, 0, 1] > 0)
    np.testing.assert_array_equal(found.sets[found.of_dose[at, 0], 1], [0, 1])
    assert not found.sets[0].any()
    assert refine(grid).versions is found


def test_the_other_engine_and_too_few_rows_are_refused():
    with pytest.raises(PkpdError, match='"scan" for kinetics that change'):
        problem(UNEVEN, engine="scan")
    aged = replace(STRUCTURE.lines[1], marrow=PlateletChain(ageing=2))
    other = replace(STRUCTURE, lines=(aged,))
    with pytest.raises(PkpdError, match="not in the family"):
        prepare(other, schedules(), times(), versions=UNEVEN)
    with pytest.raises(PkpdError, match="rows"):
        problem(UNEVEN).log_counts(parameters(LANES))
