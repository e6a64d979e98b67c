"""Data before a model: overviews, doubtful rows, and pictures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

import pkpd
from pkpd.checks import look_at_data
from pkpd.errors import PkpdError
from pkpd.plots import plot_covariates, plot_data, plot_subjects

ROWS = """ID,TIME,AMT,DV,CENS,WT,AGE,SEX
1,0,100,.,0,70,40,0
1,1,.,9,0,70,40,0
1,2,.,8,0,70,40,0
1,12,50,.,0,70,40,0
1,13,.,4,0,70,40,0
1,24,.,0.5,1,70,40,0
2,0,.,0.2,0,60,50,1
2,0,100,.,0,60,50,1
2,1,.,0.05,0,60,50,1
2,2,.,7,0,60,50,1
2,2,.,7.5,0,60,50,1
2,8,.,-0.1,0,60,50,1
2,10,.,0,0,60,50,1
3,0,10000,.,0,80000,60,1
3,1,.,900,0,80000,60,1
3,12,100,.,0,80000,60,1
3,13,.,8,0,80000,60,1
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("look") / "study.csv"
    path.write_text(ROWS)
    return pkpd.read_nonmem(
        path,
        covariates=["WT", "AGE", "SEX"],
        units={"AMT": "mg", "DV": "mg/L"},
        allow_replicates=True,
    )


def test_doubtful_rows_are_listed_with_their_place_and_reason(data):
    found = look_at_data(data).doubtful
    told = [(r.row, r.what, r.why) for r in found.itertuples()]
    assert told == [
        (8, "DV", "above zero before the first dose"),
        (11, "DV", "another value at the same time"),
        (11, "DV", "140 times above the value 1 h before"),
        (12, "DV", "another value at the same time"),
        (13, "DV", "below zero"),
        (14, "DV", "zero after a dose"),
        (15, "dose", "100 times above the median dose"),
        (15, "WT", "1.14e+03 times above the median of the subjects"),
        (18, "DV", "112 times below the value 12 h before"),
    ]
    assert found["subject"].tolist()[0] == 2
    assert found["value"].tolist()[4] == pytest.approx(-0.1)
    # a line of counts may be anything before a dose, and zero after it
    counts = look_at_data(data, concentration=[]).doubtful["why"]
    assert not counts.str.contains("zero").any()
    assert (look_at_data(data, jump=2000.0).doubtful["what"] == "DV").all()


def test_sampling_dosing_and_covariates_are_summed_up(data):
    found = look_at_data(data)
    line = found.sampling.loc["DV"]
    assert (line.observations, line.below, line.subjects) == (12, 1, 3)
    assert (line.fewest, line.most, line.last_h) == (2, 6, 24.0)
    assert line.longest_after_dose_h == 12.0
    without = look_at_data(pkpd.read_nonmem(pd.DataFrame({"ID": 1, "TIME": [5.0, 9.0], "DV": 1.0})))
    assert np.isnan(without.sampling.loc["DV", "longest_after_dose_h"])
    # two counts before the dose, one of them at its hour, and one after it
    early = pd.DataFrame(
        {"ID": 1, "TIME": [-168.0, 0.0, 0.0, 6.0], "AMT": [0, 0, 100, 0], "DV": [4.0, 5.0, 0, 3.0],
         "EVID": [0, 0, 1, 0]}
    )  # fmt: skip
    one = look_at_data(pkpd.read_nonmem(early)).sampling.loc["DV"]
    assert (one.median_after_dose_h, one.longest_after_dose_h) == (6.0, 6.0)
    (nobody,) = look_at_data(pkpd.read_nonmem(early[:3])).sampling.itertuples()
    assert np.isnan([nobody.median_after_dose_h, nobody.longest_after_dose_h]).all()
    (dose,) = found.dosing.itertuples()
    assert (dose.doses, dose.subjects, dose.minimum, dose.maximum) == (5, 3, 50.0, 10000.0)
    assert dose.interval_h == 12.0
    weight = found.covariates.loc["WT"]
    assert (weight["median"], weight["maximum"], weight["values"]) == (70.0, 80000.0, 3)
    assert found.covariates.loc["SEX", "levels"] == "0: 1, 1: 2"
    assert not weight["changes"]
    wanted = stats.spearmanr([40, 50, 60], [0, 1, 1]).statistic
    assert found.correlations.loc["AGE", "SEX"] == pytest.approx(wanted)
    assert ("AGE", "SEX", pytest.approx(wanted)) in found.close
    told = found.summary()
    assert "AGE and SEX go together" in told
    assert "9 doubtful rows" in told


def test_nothing_is_swallowed_at_the_time_of_a_dose():
    # zeros at the time of an oral dose are as they should be
    theophylline = pkpd.read_nonmem("fits/data/theophylline.csv", covariates=["WT"])
    assert look_at_data(theophylline).doubtful.empty


def test_additional_doses_and_data_without_doses_are_counted():
    table = pd.DataFrame(
        {"ID": [1, 1], "TIME": [0.0, 30.0], "AMT": [10.0, 0.0], "II": [12.0, 0.0]}
        | {"ADDL": [4, 0], "DV": [0.0, 2.0], "EVID": [1, 0]}
    )
    (dose,) = look_at_data(pkpd.read_nonmem(table)).dosing.itertuples()
    # two of the four further doses come before the last record
    assert (dose.doses, dose.interval_h) == (3, 12.0)
    table = pd.DataFrame({"ID": [1, 1], "TIME": [0.0, 1.0], "DV": [5.0, 0.0], "EVID": 0})
    found = look_at_data(pkpd.read_nonmem(table))
    assert "No doses" in found.summary()
    assert found.doubtful.empty


def test_arguments_without_meaning_are_refused(data):
    with pytest.raises(PkpdError, match=r"'cp' is no line of the data.*allowed: DV"):
        look_at_data(data, concentration=["cp"])
    with pytest.raises(PkpdError, match="jump: 1 is given; allowed: a factor above 1"):
        look_at_data(data, jump=1)
    with pytest.raises(PkpdError, match="no line 'cp'; allowed: DV"):
        plot_data(data, line="cp")
    with pytest.raises(PkpdError, match="there is no subject 9; allowed: 1, 2, 3"):
        plot_subjects(data, [9])
    with pytest.raises(PkpdError, match="'BMI' is not a covariate of the data"):
        plot_covariates(data, ["BMI"])
    with pytest.raises(PkpdError, match="by= makes a figure of its own"):
        plot_data(data, Figure().add_subplot(), by="SEX")


def test_pictures_show_every_value_and_mark_limits(data):
    seen = data.observations

    def marks(ax):
        return [c.get_offsets().data for c in ax.collections if len(c.get_offsets())]

    ax = plot_data(data).axes[0]
    measured, below = marks(ax)
    assert len(measured) == 11
    np.testing.assert_allclose(below, [[24.0, 0.5]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "measured",
        "below the limit",
    ]
    ax = Figure().add_subplot()
    assert plot_data(data, ax, per_dose=True, log=True) is ax
    values = np.concatenate([one[:, 1] for one in marks(ax)])
    # the value before any dose, zero and the negative one are not there
    assert len(values) == len(seen) - 3
    assert 4 / 50 in values
    assert 0.5 / 50 in values
    assert 900 / 10000 in values
    assert "per mg of the last dose" in ax.get_ylabel()
    figure = plot_data(data, by="SEX", x="time_after_dose")
    assert isinstance(figure, Figure)
    titles = [ax.get_title("left") for ax in figure.axes]
    assert titles == ["SEX 0 (n = 1)", "SEX 1 (n = 2)"]
    assert len(plot_subjects(data, log=True).axes) == 3
    assert len(plot_covariates(data).axes) == 9
