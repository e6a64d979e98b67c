"""Lags before the first measurement: other coordinates, the same posterior."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import arviz as az
import jax.numpy as jnp
import numpy as np
import pytest

import pkpd
from pkpd.fitting.bayes import posterior
from pkpd.fitting.bayes.centring import by_information, non_centred
from pkpd.fitting.bayes.density import build_model
from pkpd.fitting.bayes.posterior import begin
from pkpd.fitting.bayes.program import compile_density
from pkpd.fitting.bayes.start import StartingPoint, bent, flat_start, named_start
from pkpd.fitting.bayes.wall_modes import bent_modes, evened
from pkpd.fitting.bayes.walls import Walls, bend, find_walls
from pkpd.fitting.calibration import one_fit
from pkpd.fitting.maximum.estimate import maximum_of
from pkpd.fitting.maximum.marginal import MarginalLikelihood
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_likelihood import Observed
from pkpd.fitting.model.population_parameters import start_values
from pkpd.models import PopulationModel, compartments, parameter, residual

TIMES = {1: (0.5, 1.0, 2.0, 6.0, 24.0), 2: (24.0, 48.0), 3: (1.5, 3.0, 9.0)}
VALUES = {
    1: (0.0, 1.9, 3.3, 9.1, 5.6),
    2: (9.2, 6.4),
    3: (0.6, 2.8, 15.0),
}

TWO = (0.5, 1.0, 2.0, 3.0, 6.0, 24.0), (0.0, 1.2, 4.0, 9.4, 11.2, 8.4)  # times and values

# near the modes: log of ka, CL, V and lag relative to the model's
NEAR = np.zeros((3, 4))
NEAR[0, [0, 3]] = np.log([0.28, 0.5 / 0.9])
NEAR[2, [0, 3]] = np.log([0.6, 2.7 / 0.9])


def late_absorption(lag=True):
    import pandas as pd

    rows = []
    for subject, times in TIMES.items():
        rows.append((subject, 0.0, 100.0, None, 1))
        rows += [(subject, t, 0.0, y, 0) for t, y in zip(times, VALUES[subject], strict=True)]
    data = pkpd.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "EVID"]))
    parameters = [
        parameter("ka", 1.0, iiv=0.8),
        parameter("CL", 0.13, iiv=0.3),
        parameter("V", 8.0, iiv=0.2),
    ]
    if lag:
        parameters.append(parameter("ALAG1", 0.9, iiv=0.5))
    structure = compartments(1, absorption="first_order", dosing=("ALAG1",) if lag else ())
    return bind(PopulationModel(structure, parameters, residual.combined(0.3, 0.1)), data)


@pytest.fixture(scope="module")
def likelihood():
    return late_absorption()


@pytest.fixture(scope="module")
def walls(likelihood):
    return find_walls(likelihood, start_values(likelihood.model), NEAR)


def test_the_first_measurement_that_excludes_a_longer_lag_is_the_wall(walls):
    """0 and 0.6, two standard deviations above zero, may come before the drug; 1.9 does not."""
    np.testing.assert_allclose(np.exp(walls.ends[:, 3]), [1.0, 24.0, 3.0])
    assert np.all(walls.ends[:, :3] == 60.0)


def test_the_last_measurement_before_it_is_where_shorter_lags_are_stretched(likelihood, walls):
    """Odds of 0.5 h before 1 h, and of 1.5 h before 3 h; the error of 0.3 is left in 0.1 h."""
    np.testing.assert_allclose(np.exp(walls.begins[[0, 2], 3]), [1.0, 1.0])
    kas, odds = np.exp(NEAR[[0, 2], 0]), 1.0
    per_hour = 100.0 / 8.0 * kas
    width = 0.3 / per_hour / np.array([0.5, 1.5]) * (1.0 + odds)
    np.testing.assert_allclose(walls.share[[0, 2], 3], np.minimum(width / 0.4, 1.0), rtol=0.1)
    assert walls.share[1, 3] == 1.0
    assert np.all(walls.share[:, :3] == 1.0)


def test_a_model_without_a_lag_has_no_walls():
    none = late_absorption(lag=False)
    assert find_walls(none, start_values(none.model), np.zeros((3, 3))) is None


def repeated(walls, times, subject=0):
    """The walls of one subject, many times: for many effects at once."""
    parts = {f.name: getattr(walls, f.name) for f in dataclasses.fields(walls)}
    return Walls(**{name: np.repeat(at[[subject]], times, axis=0) for name, at in parts.items()})


def test_lags_go_from_all_positive_numbers_to_all_positive_numbers(likelihood, walls):
    values = start_values(likelihood.model)
    share = walls.share.copy()
    share[:, 3] = [1.0, 1.0, 0.05]
    walls = dataclasses.replace(walls, share=share)
    sampled = np.linspace(-40, 60, 40_001)
    lags, slopes = np.empty((sampled.size, 3)), np.empty((sampled.size, 3))
    for b in range(3):
        effects = np.zeros((sampled.size, 4))
        effects[:, 3] = sampled
        random, slope = bend(likelihood, repeated(walls, sampled.size, b), values, effects, np)
        np.testing.assert_array_equal(random[:, :3], 0.0)
        lags[:, b], slopes[:, b] = np.log(0.9) + random[:, 3], slope
    assert np.all(np.diff(lags, axis=0) > 0)
    assert np.all(lags[0, :2] < -35)
    assert np.all(lags[-1] > 30)
    # far below the wall nothing is changed, near it odds take the place of lags
    np.testing.assert_allclose(lags[0, 1], np.log(0.9) + sampled[0], atol=1e-12)
    effects = np.zeros((3, 4))
    effects[:, 3] = walls.ends[:, 3] + 2.0 - np.log(0.9)
    lag = 0.9 * np.exp(bend(likelihood, walls, values, effects, np)[0][:, 3])
    odds = lag / (np.exp(walls.ends[:, 3]) - lag)
    np.testing.assert_allclose(np.log(odds), 2.0, atol=1e-6)
    # the derivative is that of differences
    middle = 0.5 * (slopes[1:] + slopes[:-1])
    by_difference = np.log(np.diff(lags, axis=0) / np.diff(sampled)[:, None])
    np.testing.assert_allclose(middle, by_difference, atol=2e-4)


@pytest.mark.long
def test_the_density_is_that_of_the_model_with_the_derivative_of_the_coordinates(likelihood, walls):
    """The posterior of random effects is the same, whatever is sampled in their place."""
    values = start_values(likelihood.model) | {"omega_ALAG1": 0.7, "ALAG1": 0.8}
    rng = np.random.default_rng(4)
    point = StartingPoint(values, 0.3 * rng.standard_normal((3, 4)))
    made = by_information(likelihood, values, np.zeros((3, 4)))
    centring, at_modes = bent(likelihood, made, point, walls)
    sampled = point.random + at_modes.random
    plain = build_model(likelihood, non_centred(likelihood))
    ours = build_model(likelihood, centring)
    random, slope = bend(likelihood, walls, values, sampled, np)
    lower = np.asarray(likelihood.random_effects.cholesky(values, np))

    def flat(model, coordinates, effects):
        start = StartingPoint(values, effects)
        return flat_start(model, named_start(likelihood, start, coordinates))

    programs = compile_density(plain), compile_density(ours)
    here = flat(ours, centring, sampled)
    unbent = programs[0].at(flat(plain, non_centred(likelihood), random))[0]
    density, gradient = programs[1].at(here)
    # x = mean + factor z in ours and z in the other: the determinant of d x / d z
    zero = flat(ours, centring, np.zeros((3, 4)))[-12:]
    moved = [flat(ours, centring, np.tile(lower[:, k], (3, 1)))[-12:] - zero for k in range(4)]
    factor = np.stack(moved, axis=1).reshape(3, 4, 4)
    scale = np.linalg.slogdet(factor)[1].sum()
    assert density == pytest.approx(unbent + slope.sum() - scale, rel=1e-10)
    step = 1e-6
    differences = [
        (programs[1].at(here + step * e)[0] - programs[1].at(here - step * e)[0]) / (2 * step)
        for e in np.eye(len(here))
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        programs[1].variables_at(here)["eta"], random, rtol=1e-10, atol=1e-12
    )


def test_of_several_modes_the_one_with_the_most_probability_is_taken(likelihood, walls):
    """Subject 3: a lag short of 1.5 h with a value of 0.6 there, or a long one."""
    values = start_values(likelihood.model)
    found = bent_modes(likelihood, walls, values, [np.zeros((3, 4))])
    assert np.all(np.linalg.eigvalsh(found.curvature) > 0)
    lower = np.asarray(likelihood.random_effects.cholesky(values, np))
    random, _ = bend(likelihood, walls, values, found.z @ lower.T, np)
    better = np.asarray(likelihood.by_subject(likelihood.fixed(values), jnp.asarray(random)))
    assert np.all(
        better > np.asarray(likelihood.by_subject(likelihood.fixed(values), jnp.zeros((3, 4))))
    )


def profile_by_sums(lag):
    """Log density of the study by lag (h), summed over a grid of ka, CL and V; by closed form."""
    grids = [np.linspace(-3.5, 3.5, n) for n in (41, 15, 21)]
    z = np.stack([g.ravel() for g in np.meshgrid(*grids, indexing="ij")], axis=1)
    ka, cl, v = (np.array([1.0, 0.13, 8.0]) * np.exp(z * [0.8, 0.3, 0.2])).T[:, :, None]
    k = cl / v
    out = []
    for one in lag:
        after = np.maximum(np.array(TWO[0]) - one, 0.0)
        mean = 100.0 / v * ka / (ka - k) * (np.exp(-k * after) - np.exp(-ka * after))
        sd = np.hypot(0.3, 0.1 * mean)
        loss = (0.5 * ((np.array(TWO[1]) - mean) / sd) ** 2 + np.log(sd)).sum(axis=1)
        loss += 0.5 * (z**2).sum(axis=1)
        out.append(np.log(np.exp(loss.min() - loss).sum()) - loss.min())
    return np.array(out) - 0.5 * (np.log(lag / 0.9) / 0.5) ** 2


def deepest_valley(height):
    """How far a density falls below the lower of the highest on either side, in logarithms.

    The density is averaged over 0.16 of what is sampled: a step leaps over what is narrower.
    """
    height = np.log(np.convolve(np.exp(height - height.max()), np.full(16, 1 / 16), "valid"))
    left, right = np.maximum.accumulate(height), np.maximum.accumulate(height[::-1])[::-1]
    return (np.minimum(left, right) - height).max()


@pytest.mark.long
def test_a_valley_between_two_explanations_of_a_value_is_evened_out():
    """1.2 at 1 h is drug, or an error of four deviations: two modes of the lag become one."""
    import pandas as pd

    rows = [(1, 0.0, 100.0, None, 1)]
    rows += [(1, t, 0.0, y, 0) for t, y in zip(*TWO, strict=True)]
    data = pkpd.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "EVID"]))
    likelihood = bind(late_absorption().model, data)
    values = start_values(likelihood.model)
    walls = find_walls(likelihood, values, np.log([[0.6, 1.0, 1.0, 1.5 / 0.9]]))
    assert np.exp(walls.ends[0, 3]) == pytest.approx(2.0)
    mode = bent_modes(likelihood, walls, values, [np.zeros((1, 4))]).z
    depth = []
    for each in (walls, evened(likelihood, walls, values, mode)):
        sampled = np.arange(-4.0, 3.0, 0.01) + each.ends[0, 3] + each.begins[0, 3]
        effects = np.zeros((sampled.size, 4))
        effects[:, 3] = sampled - np.log(0.9)
        random, slopes = bend(likelihood, repeated(each, sampled.size), values, effects, np)
        lags = 0.9 * np.exp(random[:, 3])
        by_difference = np.log(np.diff(np.log(lags)) / np.diff(sampled))
        np.testing.assert_allclose(0.5 * (slopes[1:] + slopes[:-1]), by_difference, atol=0.05)
        depth.append(deepest_valley(profile_by_sums(lags) + slopes))
    assert depth[0] > 2.0
    assert depth[1] < 0.4


@pytest.mark.slow
def test_one_explanation_is_left_as_it_is(likelihood, walls):
    """Only a subject with two modes has its coordinate changed."""
    values = start_values(likelihood.model)
    mode = bent_modes(likelihood, walls, values, [np.zeros((3, 4))]).z
    assert evened(likelihood, walls, values, mode) is None


def simulated(subjects=12):
    """A study of one compartment with a lag, sampled early."""
    import pandas as pd

    rng, rows = np.random.default_rng(4), []
    times = np.array([0.5, 1.0, 1.5, 2.0, 4.0, 8.0, 24.0, 48.0])
    for subject in range(1, subjects + 1):
        ka, cl, v, lag = np.array([1.0, 0.13, 8.0, 0.9]) * np.exp(
            np.array([0.6, 0.25, 0.2, 0.4]) * rng.standard_normal(4)
        )
        after, k = np.maximum(times - lag, 0.0), cl / v
        exact = 100.0 / v * ka / (ka - k) * (np.exp(-k * after) - np.exp(-ka * after))
        seen = exact + np.hypot(0.2, 0.1 * exact) * rng.standard_normal(times.size)
        rows.append((subject, 0.0, 100.0, None, 1))
        rows += [(subject, t, 0.0, y, 0) for t, y in zip(times, seen, strict=True)]
    return pkpd.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "EVID"]))


@pytest.mark.long  # that such chains are of the same density the quick tests hold
def test_chains_before_walls_seldom_diverge(likelihood):
    data = simulated(8)
    short = MarginalLikelihood(bind(likelihood.model, data))
    start = maximum_of(short, iterations=5, covariance=None, priors=True)
    fit = pkpd.fit(
        likelihood.model, data, draws=200, tune=300, chains=2, start=start, progress=False
    )
    settings = fit.record["settings"]
    assert (settings["target_accept"], settings["low_rank"]) == (0.9, True)
    assert float(fit.idata.sample_stats.diverging.mean()) < 0.03
    assert 0.5 < float(fit.idata.posterior["ALAG1"].median()) < 1.4


def test_weights_that_are_given_leave_lags_as_they_are(likelihood):
    begun = begin(likelihood, "nuts", "non-centred", "model", walls=True)
    assert begun.centring.walls is None


def test_a_fit_of_a_calibration_is_sampled_before_walls_as_that_of_its_users(
    likelihood, monkeypatch
):
    """The same short run, and after it chains at the same points with the same settings."""
    calls, values = [], start_values(likelihood.model) | {"ALAG1": 0.8}

    def chains(begun, made):
        def draws(settings, *_, **__):
            calls.append((begun.point, begun.centring, settings))
            return az.from_dict({name: np.full((2, 3), value) for name, value in values.items()})

        return SimpleNamespace(draws=draws)

    def moved(likelihood, made, point, found, *, even=False):
        random = np.asarray(point.random) + (2.0 if even else 1.0)
        return dataclasses.replace(made, walls=found), dataclasses.replace(point, random=random)

    monkeypatch.setattr(posterior.Beginning, "chains", chains)
    monkeypatch.setattr(posterior, "bent", moved)
    point = StartingPoint({}, NEAR)
    monkeypatch.setattr(posterior, "_starting_point", lambda *_: (None, point, ""))
    monkeypatch.setattr(one_fit, "compile_density", lambda *_: None)
    for module in (posterior, one_fit):
        empty = SimpleNamespace(free_RVs=(), deterministics=())
        monkeypatch.setattr(module, "build_model", lambda *_, empty=empty: empty)
    parts = likelihood.model, likelihood.model, likelihood.dataset, None, "nuts"
    made = one_fit.CalibrationFit(one_fit.Trial(*parts, 7, 9, 9, "auto", None, {}, 1))
    settings = made.settings(0)
    posterior.run(likelihood, "nuts", settings, "auto", "auto", None, given={"draws"})
    theirs = calls[:]
    calls.clear()
    seen = likelihood.dataset.observations
    draws = made.chains(Observed(seen.value, seen.censored, seen.lower))
    draws(settings)
    for (mine, centring, asked), (other, theirs_, same) in zip(calls, theirs, strict=True):
        np.testing.assert_array_equal(mine.random, other.random)
        np.testing.assert_array_equal(centring.walls.ends, theirs_.walls.ends)
        assert mine.population == other.population
        assert asked == same
    assert [one.draws for *_, one in calls] == [150, 7]
    assert calls[1][0].population["ALAG1"] == 0.8
    assert (calls[1][2].target_accept, calls[1][2].low_rank) == (0.9, True)
    draws(dataclasses.replace(settings, draws=14))  # longer, without a short run
    assert (calls[2][2].draws, calls[2][2].low_rank) == (14, True)
