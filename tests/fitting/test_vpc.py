"""Visual predictive checks: percentiles by hand, coverage, correction, limits."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marginal_cases import data, decay_model

import pkpd
from pkpd.errors import PkpdError
from pkpd.fitting.checks.replicates import limits, simulate_replicates, strata, time_after_dose
from pkpd.fitting.checks.vpc import percentile, vpc
from pkpd.fitting.checks.vpc_bins import bin_edges, natural_breaks, place
from pkpd.fitting.draws import single_draw
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.fitting.plots.vpc import plot_vpc
from pkpd.predict.pk import compartments

TIMES = np.array([0.5, 1.0, 2.0, 4.0, 8.0])
N = 40
SD = 0.4


def values(seed=1):
    rng = np.random.default_rng(seed)
    A, k = (m * np.exp(s * rng.standard_normal((N, 1))) for m, s in ((10.0, 0.3), (0.3, 0.4)))
    return A * np.exp(-k * TIMES) + SD * rng.standard_normal((N, len(TIMES)))


def simulations_of(dataset, n=200, seed=7, **options):
    likelihood = bind(decay_model(additive(SD)), dataset)
    draws = single_draw(likelihood, {}, np.zeros((likelihood.n_subjects, 2)))
    return simulate_replicates(draws, n, seed=seed, **options)


@pytest.fixture(scope="module")
def plain():
    return simulations_of(data(TIMES, values()))


@pytest.fixture(scope="module")
def hidden():
    y, limit = values(), 2.0
    return simulations_of(data(TIMES, np.maximum(y, limit), CENS=(y < limit).astype(int).ravel()))


def test_percentiles_of_a_bin_are_those_of_numpy(plain):
    panel = vpc(plain, quantiles=(0.1, 0.5), level=0.8).panels[0]
    seen = plain.dataset.observations
    np.testing.assert_array_equal(panel.centre, TIMES)
    np.testing.assert_array_equal(panel.count, N)
    for j, t in enumerate(TIMES):
        here = seen.time == t
        np.testing.assert_allclose(
            panel.observed[:, j], np.quantile(seen.value[here], [0.1, 0.5]), rtol=1e-12
        )
        each = np.quantile(plain.values[:, here], 0.1, axis=1)
        expected = np.quantile(each, [0.1, 0.5, 0.9])
        found = [panel.lower[0, j], panel.middle[0, j], panel.upper[0, j]]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_bands_cover_data_of_the_model(plain):
    inside = []
    others = simulations_of(plain.dataset, n=60, seed=99)
    for row in others.values:
        # the measurements are looked up once: put those of another replicate in their place
        plain.__dict__["observed"] = row
        out, total = vpc(plain).panels[0].outside
        inside.append(1 - out / total)
    del plain.__dict__["observed"]
    # 60 data sets of 15 correlated percentiles; the standard error of their mean is about 0.015
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)


def test_correction_changes_nothing_where_the_design_is_the_same_for_all(plain):
    one, other = vpc(plain), vpc(plain, prediction_corrected=True)
    for name in ("observed", "lower", "middle", "upper"):
        # PRED is the same number in each bin up to rounding of its median
        np.testing.assert_allclose(
            getattr(one.panels[0], name), getattr(other.panels[0], name), rtol=1e-12
        )


def test_correction_by_hand(plain):
    found = vpc(plain, bins=[0.0, 3.0, 10.0], prediction_corrected=True, quantiles=(0.5,))
    seen = plain.dataset.observations
    pred = 10.0 * np.exp(-0.3 * seen.time)
    early = seen.time < 3.0
    corrected = seen.value[early] * np.median(pred[early]) / pred[early]
    np.testing.assert_allclose(found.panels[0].observed[0, 0], np.median(corrected), rtol=1e-10)
    # the uncorrected median mixes times; the corrected one is that of one prediction
    np.testing.assert_allclose(np.sort(found.panels[0].y[early]), np.sort(corrected), rtol=1e-10)
    assert "rediction-corrected" in found.sentences[0]


def test_logarithms_are_corrected_by_differences(plain):
    """Bergstrand and others (2011): ln Y + (median ln PRED of the bin - ln PRED)."""
    seen = plain.dataset.observations
    early = seen.time < 3.0
    how = {"bins": [0.0, 3.0, 10.0], "quantiles": (0.5,)}
    pred = 10.0 * np.exp(-0.3 * seen.time)
    asked = vpc(plain, prediction_corrected="difference", **how).panels[0]
    moved = seen.value[early] + np.median(pred[early]) - pred[early]
    np.testing.assert_allclose(np.sort(asked.y[early]), np.sort(moved), rtol=1e-10)
    # predictions on both sides of 0 can only be such
    plain.__dict__["typical"] = pred - 5.0  # looked up once
    found = vpc(plain, prediction_corrected=True, **how)
    plain.__dict__["typical"] = pred
    np.testing.assert_allclose(np.sort(found.panels[0].y[early]), np.sort(moved), rtol=1e-10)
    assert "predictions below 0" in found.notes[0]
    with pytest.raises(PkpdError, match="prediction_corrected 'log'; allowed: \"ratio\""):
        vpc(plain, prediction_corrected="log")


def test_correction_leaves_out_predictions_of_zero():
    rows = [(i, t, 100 * (t == 0.0), int(t == 0.0)) for i in (1, 2) for t in (-1.0, 0.0, 1.0, 2.0)]
    frame = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID"])
    frame["DV"] = np.where(frame.EVID == 1, np.nan, 1.5 + frame.TIME)
    dataset = pkpd.read_nonmem(frame)
    model = PopulationModel(
        compartments(1), [parameter("CL", 3.0, iiv=0.3), parameter("V", 30.0)], additive(0.1)
    )
    made = simulate_replicates(single_draw(bind(model, dataset), {}, np.zeros((2, 1))), 20)
    found = vpc(made, bins=[-1, 5], prediction_corrected=True)
    assert "2 values" in found.notes[0]
    assert np.isnan(found.panels[0].y).sum() == 2


def test_share_below_the_limit(hidden):
    panel = vpc(hidden).panels[0]
    seen = hidden.dataset.observations
    assert panel.below is not None
    for j, t in enumerate(TIMES):
        here = seen.time == t
        assert panel.below[0, j] == np.mean(seen.censored[here] == 1)
        share = np.mean(hidden.values[:, here] < 2.0, axis=1)
        np.testing.assert_allclose(panel.below[1:, j], np.quantile(share, [0.05, 0.5, 0.95]))
    assert panel.below[0, -1] > 0.5
    # more than half are hidden at the last time: its median is not known
    assert panel.observed[1, -1] == -np.inf
    assert panel.below[1, -1] <= panel.below[0, -1] <= panel.below[3, -1]


def test_a_limit_that_is_given_holds_of_what_was_measured_too():
    """Replicates were censored below it, the data were not."""
    made = simulations_of(data(TIMES, values()), lloq=2.0)
    panel, y = vpc(made).panels[0], values()
    assert panel.below is not None
    np.testing.assert_allclose(panel.below[0], np.mean(y < 2.0, axis=0))
    assert panel.below[1, -1] <= panel.below[0, -1] <= panel.below[3, -1]


def test_subjects_that_could_not_be_solved_are_not_above_the_limit(hidden):
    values = hidden.values.copy()
    values[:, hidden.dataset.observations.subject < N // 2] = np.nan
    half, (panel,) = replace(hidden, values=values), vpc(replace(hidden, values=values)).panels
    for j, t in enumerate(TIMES):
        drawn = half.censored[:, half.dataset.observations.time == t][:, N // 2 :]
        np.testing.assert_allclose(panel.below[2, j], np.median(np.mean(drawn == -np.inf, axis=1)))


def test_hidden_values_do_not_move_percentiles_above_the_limit(hidden, plain):
    one, other = vpc(hidden).panels[0], vpc(plain).panels[0]
    known = one.observed > 2.0
    assert known.sum() > 6
    np.testing.assert_allclose(one.observed[known], other.observed[known], rtol=1e-12)


def test_every_observation_has_its_own_limit():
    frame = pd.DataFrame(
        {
            "ID": [1, 1, 1, 2, 2, 2, 3],
            "TIME": [1, 2, 3, 1, 2, 3, 1],
            "DV": [5.0, 1.0, 0.4, 3.0, 0.2, 0.9, 0.1],
            "CENS": [0, 1, 0, 0, 1, 0, 0],
            "EVID": 0,
        }
    )
    lower, upper = limits(pkpd.read_nonmem(frame))
    # subject 1: limit 1, but 0.4 was measured under another, the 0.2 of subject 2; 0.1 under none
    np.testing.assert_array_equal(lower, [1.0, 1.0, 0.2, 0.2, 0.2, 0.2, -np.inf])
    assert np.all(upper == np.inf)
    given_, _ = limits(pkpd.read_nonmem(frame), 0.05)
    np.testing.assert_array_equal(given_, [0.05, 1.0, 0.05, 0.05, 0.2, 0.05, 0.05])
    with pytest.raises(PkpdError, match="no such line"):
        limits(pkpd.read_nonmem(frame), {"platelets": 1.0})


def test_of_two_limits_of_a_subject_that_of_the_nearest_time_counts():
    """Another assay from hour 10 on: measurements of 3 and of 1.5 there have the same limit."""
    frame = pd.DataFrame(
        {
            "ID": 1,
            "TIME": [1, 2, 3, 11, 12, 13],
            "DV": [5.0, 2.0, 1.5, 3.0, 1.0, 1.5],
            "CENS": [0, 1, 0, 0, 1, 0],
            "EVID": 0,
        }
    )
    lower, _ = limits(pkpd.read_nonmem(frame))
    # 1.5 at hour 3 was measured under another limit than 2
    np.testing.assert_array_equal(lower, [2.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    _, upper = limits(pkpd.read_nonmem(frame.assign(DV=-frame["DV"], CENS=-frame["CENS"])))
    np.testing.assert_array_equal(upper, -lower)


def test_strata():
    y = values()[:6]
    weight = np.repeat([50, 60, 70, 80, 90, 100], 5)
    frame = pd.DataFrame(
        {
            "ID": np.repeat(np.arange(6), 5),
            "TIME": np.tile(TIMES, 6),
            "DV": y.ravel(),
            "EVID": 0,
            "WT": weight,
            "SEX": np.repeat([0, 1, 0, 1, 0, 1], 5),
            "OCC": np.tile([1, 1, 2, 2, 2], 6),
        }
    )
    dataset = pkpd.read_nonmem(frame, covariates=["WT", "SEX"])
    index, names = strata(dataset, "SEX")
    assert names == ("SEX 0", "SEX 1")
    np.testing.assert_array_equal(index, frame.SEX)
    index, names = strata(dataset, "WT")
    np.testing.assert_array_equal(index, weight > 75)
    index, names = strata(dataset, "occasion")
    np.testing.assert_array_equal(index, frame.OCC - 1)
    made = simulations_of(dataset, n=30)
    assert [p.title for p in vpc(made, stratify="SEX").panels] == ["DV, SEX 0", "DV, SEX 1"]
    assert sum(len(p.x) for p in vpc(made, stratify="occasion").panels) == 30
    with pytest.raises(PkpdError, match=r"'AGE'.*occasion, WT, SEX"):
        strata(dataset, "AGE")


def test_panels_share_the_unit_of_time(plain):
    check = vpc(plain)
    (panel,) = check.panels
    later = replace(panel, x=100 * panel.x, centre=100 * panel.centre, stratum="later")
    figure = plot_vpc(replace(check, panels=(panel, later)))
    labels = {ax.get_xlabel() for ax in figure.axes if ax.get_xlabel()}
    assert labels == {"time (days)"}


def test_time_after_dose_counts_additional_doses():
    frame = pd.DataFrame(
        {
            "ID": [1] * 6,
            "TIME": [0.0, 1.0, 10.0, 24.0, 30.0, 61.0],
            "AMT": [0, 100, 0, 0, 0, 0],
            "II": [0, 12, 0, 0, 0, 0],
            "ADDL": [0, 2, 0, 0, 0, 0],
            "DV": [0.5, 0, 1, 1, 1, 1],
            "EVID": [0, 1, 0, 0, 0, 0],
        }
    )
    # doses at 1, 13 and 25 h
    np.testing.assert_allclose(time_after_dose(pkpd.read_nonmem(frame)), [-1, 9, 11, 5, 36])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=4, max_size=14),
    st.integers(2, 4),
)
def test_natural_breaks_are_the_best_there_are(numbers, n):
    distinct, weight = np.unique(np.array(numbers, dtype=float), return_counts=True)
    n = min(n, len(distinct))
    x = np.repeat(distinct, weight)

    def cost(edges):
        at = place(x, edges)
        return sum(np.sum((x[at == j] - x[at == j].mean()) ** 2) for j in np.unique(at))

    best = min(
        cost(np.array([distinct[0], *(distinct[i] for i in cuts), distinct[-1] + 1]))
        for cuts in combinations(range(1, len(distinct)), n - 1)
    )
    edges = natural_breaks(distinct, weight, n)
    assert len(edges) == n + 1
    assert cost(edges) == pytest.approx(best, abs=1e-9)


def test_equal_counts_and_edges():
    x = np.arange(100.0)
    counts = np.bincount(place(x, bin_edges(x, ("equal", 4))))
    np.testing.assert_array_equal(counts, 25)
    np.testing.assert_array_equal(bin_edges(x, [0, 50, 99]), [0, 50, 99])
    assert len(np.unique(place(TIMES, bin_edges(np.repeat(TIMES, 30))))) == len(TIMES)
    # visits that scatter around nominal times stay together
    rng = np.random.default_rng(1)
    nominal = np.array([0.5, 1, 2, 4, 8, 24])
    x = np.concatenate([t * (1 + 0.03 * rng.standard_normal(14)) for t in nominal])
    at = place(x, bin_edges(x))
    assert np.array_equal(at, np.repeat(np.arange(6), 14)) or len(np.unique(at)) > 6
    for bad, words in (([0, 50], "outside"), ([5, 1], "rising"), (0, "number"), ("jenks", "auto")):
        with pytest.raises(PkpdError, match=words):
            bin_edges(x if words != "outside" else np.arange(100.0), bad)


def test_percentile_with_values_that_are_not_known():
    x = np.array([-np.inf, -np.inf, 1.0, 2.0, 3.0])
    assert percentile(x, 0.5) == 1.0
    assert percentile(x, 0.4) == -np.inf
    assert percentile(x, 0.75) == 2.0
    assert percentile(np.array([1.0, np.nan, 3.0]), 0.5) == 2.0
    assert percentile(np.array([1.0, np.inf]), 0.5) == np.inf
    assert np.isnan(percentile(np.array([np.nan]), 0.5))


def test_refusals(plain):
    for options, words in (
        ({"quantiles": (0.5, 1.5)}, "between 0 and 1"),
        ({"level": 95}, "between 0 and 1"),
        ({"x": "hours"}, "time, time_after_dose"),
        ({"x": [1, 2]}, "one number for each observation"),
        ({"stratify": "occasion"}, "no occasions"),
    ):
        with pytest.raises(PkpdError, match=words):
            vpc(plain, **options)


@pytest.mark.parametrize(("options", "match"), [
    ({"bins": {"platelets": 3}}, r"vpc, bins of 'platelets': .*no such line; allowed: DV"),
    ({"x": np.append(np.arange(N * len(TIMES) - 1.0), np.nan)}, r"vpc, x: is nan at.* 199"),
    ({"bins": 2.5}, r"bins: 2\.5; allowed"),
    ({"bins": ["a", "b"]}, r"bins: \['a', 'b'\]; allowed"),
    ({"bins": ("equal", "x")}, r"bins: \('equal', 'x'\); allowed"),
    ({"bins": ("equal", 2.5)}, r"bins: \('equal', 2\.5\); allowed"),
    ({"bins": iter([0.0, 3.0, 10.0])}, "bins: <list_iterator"),
])  # fmt: skip
def test_bins_and_axes_without_meaning_are_refused(plain, options, match):
    with pytest.raises(PkpdError, match=match):
        vpc(plain, **options)


def test_edges_hold_all_values_and_rise():
    x = np.concatenate([np.zeros(3), np.linspace(1.0, 100.0, 700)])
    edges = bin_edges(x, 5)
    assert (edges[0], edges[-1]) == (0.0, 100.0)
    assert bin_edges(x, pd.Series([0.0, 50.0, 100.0])).tolist() == [0.0, 50.0, 100.0]
    with pytest.raises(PkpdError, match="rising edges"):
        bin_edges(x, [0.0, np.nan, 200.0])
