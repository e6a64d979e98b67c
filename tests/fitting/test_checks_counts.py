"""Nadir and recovery taken from counts, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from marginal_cases import Curve

import pkpd
from pkpd.errors import PkpdError
from pkpd.fitting.checks.counts import CountCheck, count_checks, nadir_and_recovery
from pkpd.fitting.checks.replicates import simulate_replicates
from pkpd.fitting.draws import single_draw
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.residual import lognormal
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.fitting.plots.counts import plot_count_statistic

DAYS = np.array([0.0, 5.0, 10.0, 15.0, 20.0, 25.0])


def test_nadir_and_recovery_by_hand():
    counts = np.array(
        [
            [4.0, 1.0, 0.2, 0.4, 0.5, 3.0],
            [4.0, 0.9, 0.8, 0.9, 1.0, 2.0],
            [4.0, 1.0, 0.4, 0.3, 0.2, 0.1],
            [4.0, -np.inf, -np.inf, 0.6, 0.4, 2.0],
            [4.0, np.nan, 0.2, 0.4, 0.5, 3.0],
        ]
    )
    found = nadir_and_recovery(DAYS, counts, 0.5, np.full(6, 0.1))
    np.testing.assert_array_equal(found["nadir"], [0.2, 0.8, 0.1, 0.1, np.nan])
    np.testing.assert_array_equal(found["nadir_time"], [10, 10, 25, 5, np.nan])
    # never low: recovered at the nadir itself; never back: infinite
    np.testing.assert_array_equal(found["recovery_time"], [20, 10, np.inf, 15, np.nan])


def test_recovery_is_looked_for_up_to_a_reset():
    counts = np.array([4.0, 0.2, 0.3, 4.0, 1.0, 3.0])
    time = np.array([0.0, 10.0, 20.0, 0.0, 8.0, 25.0])
    found = nadir_and_recovery(time, counts, 0.5, np.full(6, 0.1), np.array([0, 0, 0, 1, 1, 1]))
    assert (found["nadir_time"], found["recovery_time"]) == (10.0, np.inf)


def test_counts_of_two_periods_are_not_laid_over_each_other():
    rows = [(t, 0, y) for t, y in zip(DAYS, [4, 1, 0.2, 0.4, 0.45, 3], strict=True)]
    rows += [(0.0, 3, np.nan)]
    rows += [(t + 1, 0, y) for t, y in zip(DAYS, [4, 3, 2, 2, 3, 4], strict=True)]
    table = pd.DataFrame(rows, columns=["TIME", "EVID", "DV"]).assign(ID=1, DVID=1)
    dataset = pkpd.read_nonmem(table, lines={1: "neutrophils"})
    likelihood = bind(counts_likelihood().model, dataset)
    (found,) = count_checks(simulate_replicates(single_draw(likelihood, {}, np.zeros((1, 2))), 20))
    # not the 2 of day 11 after the reset
    assert found.observed["recovery_time"].tolist() == [25.0]


def test_subjects_that_could_not_be_solved_are_not_those_that_never_recovered():
    times = np.full((20, 4), 300.0)
    times[:, 0], times[:10, 1] = np.nan, np.inf
    seen = {name: np.full(4, 300.0) for name in ("nadir", "nadir_time", "recovery_time")}
    drawn = dict.fromkeys(seen, times)
    found = CountCheck("neutrophils", 0.5, np.arange(4), seen, drawn, False, {})
    row = found.table().loc["never_recovered"]
    assert (row["lower"], row["upper"]) == (0.0, pytest.approx(1 / 3))
    times = np.where(np.arange(20) < 10, np.nan, 400.0)[:, None]
    seen = {name: one[:1] for name, one in seen.items()}
    found = CountCheck(
        "neutrophils", 0.5, np.arange(1), seen, dict.fromkeys(seen, times), False, {}
    )
    assert found.table()["p"].tolist() == [1.0, 1.0, 1.0, 0.5]


def course(t, base, depth):
    import jax.numpy as jnp

    return base * jnp.exp(-depth * jnp.exp(-(((t - 240.0) / 120.0) ** 2)))


def counts_likelihood(depth=3.0, n=24, seed=2):
    rng = np.random.default_rng(seed)
    t = DAYS * 24
    base = 4.0 * np.exp(0.2 * rng.standard_normal((n, 1)))
    deep = 3.0 * np.exp(0.2 * rng.standard_normal((n, 1)))
    y = base * np.exp(-deep * np.exp(-(((t - 240) / 120) ** 2)))
    y = y * np.exp(0.15 * rng.standard_normal(y.shape))
    frame = pd.DataFrame(
        {
            "ID": np.repeat(np.arange(n), 6),
            "TIME": np.tile(t, n),
            "DV": y.ravel(),
            "EVID": 0,
            "DVID": 1,
        }
    )
    dataset = pkpd.read_nonmem(frame, lines={1: "neutrophils"})
    model = PopulationModel(
        Curve(course, ("base", "depth"), ("neutrophils",)),
        [parameter("base", 4.0, iiv=0.2), parameter("depth", depth, iiv=0.2)],
        lognormal(0.15),
    )
    return bind(model, dataset)


@pytest.mark.parametrize(("depth", "agrees"), [(3.0, True), (1.5, False)])
def test_the_true_model_agrees_and_a_shallow_one_does_not(depth, agrees):
    likelihood = counts_likelihood(depth)
    draws = single_draw(likelihood, {}, np.zeros((24, 2)))
    (found,) = count_checks(simulate_replicates(draws, 200, seed=3))
    table = found.table()
    row = table.loc["nadir"]
    seen = likelihood.dataset.observations.value.reshape(24, 6).min(axis=1)
    assert row["observed"] == pytest.approx(np.median(seen))
    assert (row["lower"] <= row["observed"] <= row["upper"]) == agrees
    assert (0.01 < row["p"] < 0.99) == agrees
    assert (" agrees with the model" in found.sentences[0]) == agrees
    assert table.loc["never_recovered", "observed"] == 0
    (of_fit,) = count_checks(draws)  # 500 replicates
    assert of_fit.table().loc["nadir", "observed"] == row["observed"]


def test_lines_and_thresholds():
    draws = single_draw(counts_likelihood(), {}, np.zeros((24, 2)))
    simulations = simulate_replicates(draws, 20)
    (found,) = count_checks(simulations, thresholds={"neutrophils": 50.0})
    assert np.isinf(found.observed["recovery_time"]).all()
    assert "never" in found.sentences[2]
    # a threshold below every nadir asks for no recovery
    (high,) = count_checks(simulations, thresholds={"neutrophils": 1e-6})
    assert len(high.sentences) == 2
    with pytest.raises(PkpdError, match=r"'platelets'.*neutrophils"):
        count_checks(simulations, thresholds={"platelets": 20.0})
    with pytest.raises(PkpdError, match=r"name: 'nadirs' is given \(did you mean 'nadir'\?\)"):
        plot_count_statistic(found, "nadirs")
