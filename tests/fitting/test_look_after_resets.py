"""Data whose clock starts again at a reset (EVID 4): overviews and pictures period by period."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import pkpd
from pkpd.checks import look_at_data, look_before_fit
from pkpd.fitting.checks.curves import individual_curves
from pkpd.fitting.checks.replicates import time_after_dose
from pkpd.fitting.checks.residuals import residuals
from pkpd.fitting.draws import single_draw
from pkpd.fitting.model.likelihood import bind
from pkpd.models import PopulationModel, compartments, parameter, residual
from pkpd.plots import plot_data, plot_individual, plot_subjects

TIMES = (1, 2, 4, 8)


def crossover(first=100.0, second=50.0, subjects=4):
    rows = []
    for subject in range(1, subjects + 1):
        for evid, dose in ((1, first), (4, second)):
            rows.append((subject, 0, dose, None, evid))
            values = [
                dose / 10 * np.exp(-0.2 * t) * (1 + 0.05 * np.sin(subject + t)) for t in TIMES
            ]
            rows += [(subject, t, 0, v, 0) for t, v in zip(TIMES, values, strict=True)]
    return pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "EVID"])


@pytest.fixture(scope="module")
def data():
    return pkpd.read_nonmem(crossover())


def lines(ax):
    return [line.get_xydata() for line in ax.lines if line.get_linestyle() == "-"]


def test_every_dose_of_both_periods_is_counted(data):
    found = look_at_data(data)
    (dose,) = found.dosing.itertuples()
    assert (dose.doses, dose.subjects, dose.fewest, dose.most) == (8, 4, 2, 2)
    assert (dose.minimum, dose.median_amount, dose.maximum) == (50.0, 75.0, 100.0)
    # there is no interval between doses that a reset parts
    assert np.isnan(dose.interval_h)
    assert found.doubtful.empty


def test_doses_at_one_time_are_two():
    rows = [(1, 0, 50, None), (1, 0, 30, None), (1, 1, 0, 5.0), (2, 0, 80, None), (2, 1, 0, 4.0)]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV"])
    (dose,) = look_at_data(pkpd.read_nonmem(table)).dosing.itertuples()
    assert (dose.doses, dose.minimum, dose.median_amount, dose.most) == (3, 30.0, 50.0, 2)
    assert np.isnan(dose.interval_h)
    # a dose at steady state is one
    steady = table.assign(SS=[1, 0, 0, 0, 0], II=[12, 0, 0, 0, 0])
    (dose,) = look_at_data(pkpd.read_nonmem(steady)).dosing.itertuples()
    assert dose.doses == 3


def test_rows_are_doubtful_within_their_period_alone():
    table = crossover(subjects=1)
    # a thousandth of the value before it, which is of another period
    far = table.assign(DV=table["DV"] * np.where(table.index >= 5, 1e-3, 1.0))
    assert look_at_data(pkpd.read_nonmem(far)).doubtful.empty
    # what is measured after a reset and before its dose follows no dose
    row = pd.DataFrame({"ID": [1], "TIME": [0], "AMT": [0], "DV": [3.0], "EVID": [0]})
    reset = row.assign(EVID=3, DV=None)
    late = pd.concat([table[:5], reset, row, table[5:].replace({"EVID": {4: 1}})])
    (found,) = look_at_data(pkpd.read_nonmem(late)).doubtful.itertuples()
    assert (found.value, found.why) == (3.0, "above zero before the first dose")
    zero = late.assign(DV=late["DV"].replace(3.0, 0.0))
    assert look_at_data(pkpd.read_nonmem(zero)).doubtful.empty


def test_hours_after_a_dose_and_amounts_by_dose_begin_again():
    table = crossover(subjects=1)
    more = pd.DataFrame({"ID": [1], "TIME": [6], "AMT": [200], "DV": [None], "EVID": [1]})
    data = pkpd.read_nonmem(pd.concat([table[:4], more, table[4:]]))
    np.testing.assert_allclose(time_after_dose(data), [1, 2, 4, 2, 1, 2, 4, 8])
    ax = plot_data(data, per_dose=True).axes[0]
    drawn = np.concatenate([one[:, 1] for one in lines(ax)])
    given = np.array([100, 100, 100, 200, 50, 50, 50, 50])
    np.testing.assert_allclose(drawn, data.observations.value / given)


def test_no_outlier_is_seen_where_periods_meet():
    rows = []
    for subject in range(1, 9):
        times = np.arange(0.5, 8, 0.5)
        rows.append((subject, 0, 100, None, 1))
        rows += [(subject, t, 0, 10 * np.exp(-0.2 * t), 0) for t in times]
        if subject == 1:  # twenty times as high as the dose would tell, at times between
            rows.append((subject, 0, 100, None, 4))
            rows += [(subject, t, 0, 200 * np.exp(-0.2 * t), 0) for t in (3.1, 5.1)]
    data = pkpd.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "EVID"]))
    values = [parameter("CL", 2.0, iiv=0.2), parameter("V", 10.0, iiv=0.1)]
    model = PopulationModel(compartments(1), values, residual.proportional(0.1))
    assert "outlier" not in [one.kind for one in look_before_fit(data, model).findings]


def test_lines_end_at_a_reset(data):
    figure = plot_data(data)
    assert isinstance(figure, Figure)
    drawn = lines(figure.axes[0])
    assert [len(one) for one in drawn if len(one)] == [4] * 8
    assert all(np.all(np.diff(one[:, 0]) > 0) for one in drawn)
    for ax in plot_subjects(data).axes:
        curves = [one for one in lines(ax) if len(one) > 1]
        assert [one[:, 0].tolist() for one in curves] == [list(TIMES)] * 2


def test_individual_curves_end_at_a_reset(data):
    values = [parameter("CL", 2.0, iiv=0.2), parameter("V", 10.0)]
    likelihood = bind(PopulationModel(compartments(1), values, residual.proportional(0.1)), data)
    draws = single_draw(likelihood, {}, np.zeros((4, 1)))
    curves = individual_curves(draws, residuals(draws), points=20)
    ax = plot_individual(curves, 1)
    for line in ax.lines:
        assert np.all(np.diff(line.get_xdata()) >= 0)
    assert len(ax.lines) == 4  # typical and individual, in two periods
