"""Simulated studies: their distribution, their limits, what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pkpd
from pkpd.checks import simulate_replicates
from pkpd.fitting.draws import single_draw
from pkpd.fitting.model.likelihood import bind
from pkpd.models import PopulationModel, compartments, parameter, residual, simulate_data


def design(n):
    rows = [(b, 0.0, 1, 100.0, np.nan) for b in range(n)]
    rows += [(b, t, 0, 0.0, 1.0) for b in range(n) for t in (1.0, 12.0)]
    frame = pd.DataFrame(rows, columns=["ID", "TIME", "EVID", "AMT", "DV"])
    return pkpd.read_nonmem(frame.sort_values(["ID", "TIME"]))


MODEL = PopulationModel(
    compartments(1),
    [parameter("CL", 2.0, iiv=0.3), parameter("V", 20.0)],
    residual.lognormal(0.1),
)


def test_a_bolus_has_its_closed_distribution():
    data = simulate_data(MODEL, design(400), seed=3)
    seen = data.observations
    at_1 = np.log(seen.value[seen.time == 1.0])
    # C(1 h) = 5 exp(-0.1 e^eta); eta N(0, 0.3^2) moves its log by little, the error is 0.1
    eta = 0.3 * np.random.default_rng(0).standard_normal(200_000)
    log_c = (
        np.log(5.0) - 0.1 * np.exp(eta) + 0.1 * np.random.default_rng(1).standard_normal(200_000)
    )
    assert stats.ks_2samp(at_1, log_c).pvalue > 0.001
    # the two times of a subject share its clearance
    late = np.log(seen.value[seen.time == 12.0])
    assert np.corrcoef(at_1, late)[0, 1] > 0.15


def test_values_limits_and_seed():
    place = design(50)
    data = simulate_data(MODEL, place, {"CL": 4.0}, seed=5, lloq={"DV": 1.0})
    seen, free = data.observations, simulate_data(MODEL, place, {"CL": 4.0}, seed=5)
    below = free.observations.value < 1.0
    assert 0 < below.sum() < len(below)
    np.testing.assert_array_equal(seen.censored == 1, below)
    np.testing.assert_array_equal(seen.value, np.where(below, 1.0, free.observations.value))
    other = simulate_data(MODEL, place, {"CL": 4.0}, seed=6)
    assert not np.array_equal(other.observations.value, free.observations.value)
    # what was measured in the design does not matter
    again = simulate_data(MODEL, data, {"CL": 4.0}, seed=5)
    np.testing.assert_array_equal(again.observations.value, free.observations.value)


def test_replicates_with_the_seed_of_the_data_are_others():
    """A check of simulated data with default seeds has none of their random effects and errors."""
    data = simulate_data(MODEL, design(200))
    draws = single_draw(bind(MODEL, data), {}, np.zeros((200, 1)))
    simulations = simulate_replicates(draws, 20)
    away = np.log(simulations.values / simulations.typical)
    mine = np.log(data.observations.value / simulations.typical)
    # 200 subjects: standard error 0.07 of each correlation
    assert np.abs([np.corrcoef(mine, one)[0, 1] for one in away]).max() < 0.35
    again = simulate_replicates(draws, 20, seed=1)
    np.testing.assert_array_equal(again.values, simulations.values)


def test_unknown_parameters_and_lines_are_refused():
    with pytest.raises(pkpd.PkpdError, match=r"'CLL': is not one of the model's \(did you mean"):
        simulate_data(MODEL, design(2), {"CLL": 1.0})
    with pytest.raises(pkpd.PkpdError, match="'CL': 'x' is given; allowed: a number from 0"):
        simulate_data(MODEL, design(2), {"CL": "x"})
    with pytest.raises(pkpd.PkpdError, match="limit of quantification, lloq: 'x' is a str"):
        simulate_data(MODEL, design(2), lloq="x")
    with pytest.raises(pkpd.PkpdError, match="no such line"):
        simulate_data(MODEL, design(2), lloq={"platelets": 1.0})
