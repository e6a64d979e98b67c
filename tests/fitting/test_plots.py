"""Figures hold what they should, and dense predictions those of the model."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from marginal_cases import data, decay_data, decay_model
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import pkpd
from pkpd.data.events import INSERTED
from pkpd.errors import PkpdError
from pkpd.fitting.checks.curves import dense_dataset, individual_curves
from pkpd.fitting.checks.npde import prediction_errors
from pkpd.fitting.checks.replicates import simulate_replicates
from pkpd.fitting.checks.residuals import residuals
from pkpd.fitting.checks.vpc import vpc
from pkpd.fitting.draws import Draws, single_draw
from pkpd.fitting.model.covariate_effects import power
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.priors import fixed
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.fitting.plots.forest import _label
from pkpd.fitting.plots.goodness import (
    plot_dv_ipred,
    plot_dv_pred,
    plot_goodness,
    plot_qq,
    plot_residuals,
)
from pkpd.fitting.plots.individuals import plot_individual, plot_individuals
from pkpd.fitting.plots.random_effects import (
    plot_eta_covariate,
    plot_eta_histogram,
    plot_eta_pairs,
    plot_etas_covariates,
)
from pkpd.fitting.plots.style import smooth
from pkpd.fitting.plots.vpc import plot_below_limit, plot_vpc, plot_vpc_panel
from pkpd.predict.pk import compartments
from pkpd.solve.events.timeline import EventOptions


def made(dataset):
    likelihood = bind(decay_model(additive(0.5)), dataset)
    rng = np.random.default_rng(1)
    random = rng.standard_normal((likelihood.n_subjects, 2)) * [0.3, 0.4]
    draws = single_draw(likelihood, {}, random)
    return draws, residuals(draws), simulate_replicates(draws, 60)


@pytest.fixture(scope="module")
def decay():
    return made(decay_data(n=9, limit=1.0))


def marks(ax, marker_points=None):
    """Number of points drawn by scatter."""
    return sum(len(c.get_offsets()) for c in ax.collections if len(c.get_offsets()) > 1)


def test_measured_and_censored_points_are_all_drawn(decay):
    _, found, simulations = decay
    hidden = simulations.dataset.observations.censored == 1
    assert hidden.any()
    for plot in (plot_dv_pred, plot_dv_ipred):
        ax = plot(found)
        assert isinstance(ax, Axes)
        assert marks(ax) == len(hidden)
    ax = plot_residuals(found, kind="cwres")
    assert marks(ax) == np.sum(~hidden)
    errors = prediction_errors(simulations)
    ax = plot_residuals(found, errors=errors, kind="npde", against="pred")
    assert marks(ax) == len(hidden)
    assert ax.get_ylabel() == "NPDE"
    assert marks(plot_qq(found, errors=errors, kind="npde")) == len(hidden)


def test_axes_given_are_used_and_settings_left_alone(decay):
    _, found, _ = decay
    ax = Figure().add_subplot()
    before = mpl.rcParams["axes.spines.top"]
    assert plot_dv_pred(found, ax, log=True) is ax
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert mpl.rcParams["axes.spines.top"] == before


def test_pages(decay):
    draws, found, simulations = decay
    assert len(plot_goodness(found, prediction_errors(simulations)).axes) == 9
    assert len(plot_goodness(found).axes) == 6
    curves = individual_curves(draws, found, points=20)
    pages = list(plot_individuals(curves, columns=2, rows=2))
    assert [sum(ax.get_visible() for ax in p.axes) for p in pages] == [4, 4, 1]
    assert plot_individual(curves, 2, log=True).get_title(loc="left") == "3"
    assert len(plot_eta_pairs(draws, {"A": 0.1, "k": 0.2}).axes) == 4
    assert plot_etas_covariates(draws) is None


def test_pages_are_drawn_of_a_fit(decay):
    fit = SimpleNamespace(draws=decay[0])  # of whatever method
    residual_marks = marks(plot_goodness(decay[1]).axes[0])
    assert marks(plot_goodness(fit).axes[0]) == residual_marks
    assert len(list(plot_individuals(fit, columns=3, rows=2))) == 2
    with pytest.raises(PkpdError, match="is no fit"):
        plot_goodness("fit.nc")


def test_vpc_has_a_panel_for_the_limit(decay):
    _, _, simulations = decay
    check = vpc(simulations)
    assert len(plot_vpc(check).axes) == 2
    share = plot_below_limit(check, check.panels[0])
    drawn = share.lines[-1].get_ydata()
    np.testing.assert_allclose(drawn, 100 * check.panels[0].below[0])
    ax = plot_vpc_panel(check, check.panels[0], log=True)
    assert ax.get_yscale() == "log"
    # what is below the limit is not drawn as a percentile
    for line in ax.lines:
        y = np.asarray(line.get_ydata(), dtype=float)
        assert np.all(np.isnan(y) | (y >= 1.0) | (len(y) <= 2))
    for figure in (
        plot_vpc(check, log=True),
        plot_vpc(vpc(simulations, prediction_corrected=True)),
    ):
        figure.canvas.draw()


def test_covariates_as_groups_and_numbers():
    y = np.random.default_rng(1).uniform(1, 9, (12, 4))
    frame = data(
        [0.0, 1.0, 2.0, 4.0], y, WT=np.repeat(np.linspace(50, 90, 12), 4), SEX=[0] * 24 + [1] * 24
    )
    assert frame.covariates == {}
    table = pd.DataFrame(
        {
            "ID": np.repeat(np.arange(12), 4),
            "TIME": np.tile([0.0, 1.0, 2.0, 4.0], 12),
            "DV": y.ravel(),
            "EVID": 0,
            "WT": np.repeat(np.linspace(50, 90, 12), 4),
            "SEX": [0] * 24 + [1] * 24,
        }
    )
    draws, _, _ = made(pkpd.read_nonmem(table, covariates=["WT", "SEX"]))
    groups = plot_eta_covariate(draws, "k", "SEX")
    assert [t.get_text() for t in groups.get_xticklabels()] == ["0\nn=6", "1\nn=6"]
    assert "rank correlation" in plot_eta_covariate(draws, "k", "WT").get_title(loc="left")
    assert len(plot_etas_covariates(draws).axes) == 4
    assert "shrinkage 20 %" in plot_eta_histogram(draws, "A", shrinkage=0.2).get_title(loc="left")
    with pytest.raises(PkpdError, match=r"'AGE'.*WT, SEX"):
        plot_eta_covariate(draws, "k", "AGE")
    with pytest.raises(PkpdError, match="does not vary"):
        plot_eta_covariate(draws, "V", "WT")


def test_groups_of_covariates_in_words_keep_them():
    table = pd.DataFrame(
        {
            "ID": np.repeat(np.arange(12), 2),
            "TIME": [1.0, 2.0] * 12,
            "DV": np.linspace(1.0, 9.0, 24),
            "EVID": 0,
            "SEX": ["F"] * 8 + ["M"] * 16,
        }
    )
    draws, _, _ = made(pkpd.read_nonmem(table, covariates=["SEX"]))
    groups = plot_eta_covariate(draws, "k", "SEX")
    assert [t.get_text() for t in groups.get_xticklabels()] == ["F\nn=4", "M\nn=8"]
    row = SimpleNamespace(parameter="k", covariate="SEX", value=1.0)
    assert _label(row, draws.likelihood.dataset) == "k: SEX M"


def test_refusals(decay):
    draws, found, _ = decay
    for place in (9, -1):
        with pytest.raises(PkpdError, match=f"subject {place}; allowed: 0 to 8"):
            plot_individual(draws, place)
    with pytest.raises(PkpdError, match="no line 'platelets'"):
        plot_dv_pred(found, line="platelets")
    with pytest.raises(PkpdError, match="errors=prediction_errors"):
        plot_residuals(found, kind="npde")
    with pytest.raises(PkpdError, match="cwres, iwres"):
        plot_residuals(found, kind="res")
    with pytest.raises(PkpdError, match="individual_curves, level: 90 is given"):
        individual_curves(draws, found, level=90)


def test_smooth_of_a_line_is_the_line():
    x = np.linspace(0, 10, 30)
    at, middle = smooth(x, 2 + 3 * x)
    # a local linear fit reproduces a line exactly
    np.testing.assert_allclose(middle, 2 + 3 * at, rtol=1e-9)
    assert len(smooth(np.array([1.0, 1.0, 2.0]), np.ones(3))[0]) == 0


@pytest.fixture(scope="module")
def oral():
    """Two doses by ADDL, a weight that changes, one occasion after the other."""
    frame = pd.DataFrame(
        {
            "ID": [1] * 5 + [2] * 4,
            "TIME": [0.0, 2.0, 8.0, 26.0, 40.0, 0.0, 3.0, 3.0, 12.0],
            "AMT": [100, 0, 0, 0, 0, 100, 0, 50, 0],
            "II": [12, 0, 0, 0, 0, 0, 0, 0, 0],
            "ADDL": [2, 0, 0, 0, 0, 0, 0, 0, 0],
            "EVID": [1, 0, 0, 0, 0, 1, 0, 1, 0],
            "DV": [0, 3.0, 2.0, 4.0, 1.0, 0, 2.0, 0, 3.0],
            "WT": [50, 50, 60, 70, 80, 60, 60, 60, 60],
            "OCC": [1, 1, 1, 2, 2, 1, 1, 1, 1],
        }
    )
    dataset = pkpd.read_nonmem(frame, covariates=["WT"])
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [
            parameter("ka", 1.0),
            parameter("CL", 3.0, iiv=0.3, iov=0.2, effects=power("WT", 70, 0.75)),
            parameter("V", 30.0, iiv=0.2),
        ],
        additive(0.1),
    )
    return bind(model, dataset)


@pytest.mark.slow
def test_dense_predictions_are_those_of_the_model(oral):
    rng = np.random.default_rng(2)
    random = 0.2 * rng.standard_normal((2, oral.random_effects.size))
    draws = single_draw(oral, {}, random)
    found = residuals(draws)
    curves = individual_curves(draws, found, points=30)
    seen = oral.dataset.observations
    for m in range(len(seen)):
        mine = (curves.subject == seen.subject[m]) & (curves.time == seen.time[m])
        # records inserted between do not change what is predicted (closed forms: rounding)
        assert np.any(np.isclose(curves.ipred[mine], found.ipred[m], rtol=1e-9))
    # closed form of the second subject after its first dose, before the second
    fixed = oral.individual_parameters(oral.fixed(found.values), random)
    cl, v = float(fixed["CL"][1, 0]), float(fixed["V"][1])
    mine = (curves.subject == 1) & (curves.time < 3.0)
    t = curves.time[mine]
    k = cl / v
    exact = 100 / v / (1 - k) * (np.exp(-k * t) - np.exp(-t))
    np.testing.assert_allclose(curves.ipred[mine], exact, rtol=1e-7, atol=1e-10)
    assert np.all(np.diff(t) >= 0)


def test_inserted_records_take_what_holds_at_the_next_record(oral):
    dense = dense_dataset(oral.dataset, 21)
    events = dense.events
    new = events.row[0] == INSERTED
    weight, time = dense.covariates["WT"][0], events.time[0]
    assert set(weight[new & (time > 8) & (time < 26)]) == {70.0}
    assert set(dense.occasion[0][new & (time > 8)]) == {1}
    # no dose is given twice
    assert events.is_dose.sum() == oral.dataset.events.is_dose.sum()
    assert events.addl.sum() == 2


def test_a_clock_that_starts_again_is_left_as_it_is():
    names = ["ID", "TIME", "EVID", "AMT", "DV", "WT"]
    rows = [
        (1, 0, 1, 100, None, 50), (1, 2, 0, 0, 4.0, 50), (1, 10, 0, 0, 2.0, 60),
        (1, 0, 4, 100, None, 60), (1, 3, 0, 0, 1.0, 65),
        (2, 0, 1, 100, None, 70), (2, 10, 0, 0, 5.0, 80),
    ]  # fmt: skip
    data = pkpd.read_nonmem(pd.DataFrame(rows, columns=names), covariates=["WT"])
    dense = dense_dataset(data, 5)
    for name in ("time", "evid", "amt"):
        kept = getattr(data.events, name)[0, :5]
        np.testing.assert_array_equal(getattr(dense.events, name)[0, :5], kept)
    assert dense.events.valid.sum(axis=1)[0] == 5
    assert dense.events.valid.sum(axis=1)[1] > 5
    np.testing.assert_array_equal(dense.covariates["WT"][0, :5], data.covariates["WT"][0, :5])
    # asked of the other alone
    asked = data.at_times({2: [4.0, 5.0]})
    np.testing.assert_array_equal(asked.events.time[0, :5], data.events.time[0, :5])
    assert set(asked.observations.subject) == {1}


def test_curves_go_through_predictions_where_records_hold_forward():
    rows = [(1, 0, 100, None, 50), (1, 2, 0, 4.0, 50), (1, 10, 0, 2.0, 100), (1, 30, 0, 0.1, 100)]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "WT"])
    data = pkpd.read_nonmem(table, covariates=["WT"])
    effect = power("WT", 50.0, fixed(1.0))
    for carry, cl in (("backward", 4.0), ("forward", 2.0)):
        drug = compartments(1, options=EventOptions(carry=carry))
        values = [parameter("CL", 2.0, effects=effect), parameter("V", 20.0)]
        likelihood = bind(PopulationModel(drug, values, additive(0.3)), data)
        draws = single_draw(likelihood, {}, np.zeros((1, 0)))
        found = residuals(draws)
        curves = individual_curves(draws, found, points=31)
        at = [np.flatnonzero(curves.time == t)[0] for t in (6.0, 10.0, 30.0)]
        exact = 5 * np.exp(-0.2) * np.exp(-cl / 20.0 * 4.0)
        np.testing.assert_allclose(curves.ipred[at], [exact, *found.ipred[1:]], rtol=1e-9)


@pytest.mark.slow
def test_interval_of_a_posterior(oral):
    rng = np.random.default_rng(3)
    one = single_draw(oral, {}, np.zeros((2, oral.random_effects.size)))
    population = {
        name: np.repeat(v, 20) * np.exp(0.05 * rng.standard_normal(20))
        for name, v in one.population.items()
    }
    draws = Draws(oral, population, 0.05 * rng.standard_normal((20, 2, oral.random_effects.size)))
    curves = individual_curves(draws, residuals(draws), points=10)
    assert curves.lower is not None
    # after the first dose predictions differ between draws
    late = curves.ipred > 1e-6
    assert np.all(curves.lower[late] < curves.upper[late])
    inside = (curves.lower < curves.pred) & (curves.pred < curves.upper)
    assert np.mean(inside[late]) > 0.8


@pytest.fixture(scope="module")
def saturated():
    """Values above 8 and below 1 are told as beyond a limit."""
    y = np.random.default_rng(2).uniform(0.2, 11.0, (9, 5))
    code = (np.where(y < 1.0, 1, 0) - (y > 8.0)).ravel()
    return made(data([0.5, 1.0, 2.0, 4.0, 8.0], np.clip(y, 1.0, 8.0), CENS=code))


def scatters(ax):
    """Heights of the marks, those that point up last."""
    drawn = [
        np.asarray(c.get_offsets())
        for c in ax.collections
        if c.get_paths() and len(c.get_offsets())
    ]
    return [xy[:, 1] for xy in drawn if len(xy) > 1]


def test_values_above_a_limit_are_marked_in_plots_of_a_fit(saturated):
    draws, found, simulations = saturated
    seen = found.dataset.observations
    above = int(np.sum(seen.censored == -1))
    assert above > 2
    errors = prediction_errors(simulations)
    curves = individual_curves(draws, found, points=20)
    b = int(np.argmax(np.bincount(seen.subject[seen.censored == -1])))
    own = int(np.sum((seen.censored == -1) & (seen.subject == b)))
    check = vpc(simulations)
    for ax, count in (
        (plot_dv_pred(found), above),
        (plot_dv_ipred(found, log=True), above),
        (plot_residuals(found, errors=errors, kind="npde"), above),
        (plot_vpc_panel(check, check.panels[0]), above),
        (plot_vpc_panel(check, check.panels[0], log=True), above),
        (plot_individual(curves, b), own),
    ):
        up = ax.collections[[len(c.get_offsets()) for c in ax.collections].index(count)]
        (triangle,) = {tuple(map(tuple, p.vertices.round(6))) for p in up.get_paths()}
        assert triangle[0][1] > max(y for _, y in triangle[1:3])  # it points up
    words = [t.get_text() for t in next(plot_individuals(curves)).legends[0].get_texts()]
    assert words[:3] == ["measured", "below the limit", "above the limit"]


def test_bands_of_percentiles_above_a_limit_end_at_it(saturated):
    check = vpc(saturated[2])
    (panel,) = check.panels
    high = panel.upper[2]
    assert np.isposinf(high).any()
    assert not np.isposinf(panel.lower[2]).all()
    ax = plot_vpc_panel(check, panel)
    bands = [p.vertices[:, 1] for c in ax.collections for p in c.get_paths() if len(p) > 8]
    assert max(float(b.max()) for b in bands if len(b) < 30) == 8.0


def test_nothing_to_draw_on_a_logarithmic_axis_is_an_empty_plot():
    draws, found, _ = made(data([1.0, 2.0], np.zeros((3, 2))))
    for plot in (plot_dv_pred, plot_dv_ipred):
        ax = plot(found, log=True)
        assert (ax.get_xscale(), marks(ax)) == ("log", 0)
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["6 values of 0 not drawn"]
        assert plot(found).get_legend() is None
    (page,) = plot_individuals(draws, log=True)
    assert page.legends[0].get_texts()[-1].get_text() == "6 values of 0 not drawn"
    check = vpc(made(data([1.0, 2.0], [[0.0, 1.0], [2.0, 3.0], [0.0, 2.0]]))[2])
    ax = plot_vpc_panel(check, check.panels[0], log=True)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["2 values of 0 not drawn"]
    assert plot_vpc_panel(check, check.panels[0]).get_legend() is None


def test_the_legend_of_individual_fits_tells_their_level(decay):
    draws, found, _ = decay
    many = Draws(
        draws.likelihood,
        {name: np.repeat(value, 3) for name, value in draws.population.items()},
        np.concatenate([draws.random * s for s in (0.9, 1.0, 1.1)]),
    )
    curves = individual_curves(many, found, points=20, level=0.5)
    words = [t.get_text() for t in next(plot_individuals(curves)).legends[0].get_texts()]
    assert "its 50 % interval" in words


def test_a_check_over_numbers_keeps_them_and_calls_no_other_percentile_the_median(decay):
    _, _, simulations = decay
    amounts = np.linspace(0.0, 900.0, len(simulations.dataset.observations))
    check = vpc(simulations, x=amounts, quantiles=(0.1, 0.9), level=0.975)
    figure = plot_vpc(check)
    assert figure.axes[0].get_xlabel() == ""
    drawn = np.concatenate([c.get_offsets()[:, 0] for c in figure.axes[0].collections])
    assert drawn.max() == pytest.approx(900.0)
    assert np.nanmax(figure.axes[1].lines[-1].get_xdata()) == pytest.approx(
        check.panels[0].centre[-1]
    )
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert words == ["observed 10, 90 %", "10, 90 %, 97.5 % interval of the model"]
    assert "97.5 % intervals" in check.sentences[0]
    assert {line.get_linestyle() for line in figure.axes[0].lines} >= {"--"}
    words = [
        t.get_text() for t in plot_vpc(vpc(simulations, quantiles=[0.5])).legends[0].get_texts()
    ]
    assert words == ["observed median", "median, 90 % interval of the model"]
