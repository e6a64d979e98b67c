"""Pictures of data say what they leave out, and their dashed line follows the data."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import pkpd
from pkpd.checks import look_at_data
from pkpd.errors import PkpdError
from pkpd.fitting.plots.style import own_span, smooth
from pkpd.plots import plot_covariates, plot_data, plot_subjects

TIMES = np.array([0.5, 1, 1.5, 2, 3, 6, 9, 12, 24, 36, 48, 72, 96, 120])


def absorbed(subjects=32, seed=1):
    """Warfarin's way: few early samples, and many late ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for subject in range(1, subjects + 1):
        rows.append((subject, 0.0, 100.0, np.nan, "male" if subject % 4 else "female"))
        for t in TIMES if subject % 4 == 1 else TIMES[-6:]:
            value = 14 * (np.exp(-0.016 * t) - np.exp(-0.8 * t)) * np.exp(0.2 * rng.normal())
            value = 0.0 if t == 0.5 else value
            rows.append((subject, t, 0.0, value, rows[-1][-1]))
    return pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "SEX"])


@pytest.fixture(scope="module")
def data():
    return pkpd.read_nonmem(absorbed(), covariates=["SEX"])


def legends(figure):
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


def test_the_dashed_line_begins_where_the_data_do(data):
    seen = data.observations
    span = own_span(seen.time, seen.value)
    assert span < 0.3
    ax = plot_data(data).axes[0]
    (dashed,) = (line for line in ax.lines if line.get_linestyle() == "--")
    when, level = dashed.get_data()
    assert when[0] == 0.5
    assert level[0] < 3.0  # where all values are 0
    # the wide one of residuals would begin near the peak
    assert smooth(seen.time, seen.value)[1][0] > 8.0
    middle = np.median(seen.value[seen.time == 48])
    assert level[when == 48] == pytest.approx(middle, rel=0.1)


def test_values_that_scatter_keep_a_wide_line():
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 10, 200)
    assert own_span(x, rng.normal(size=200)) >= 0.5
    assert own_span(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.7
    assert (
        len(smooth(np.arange(4.0), np.arange(4.0), own_span(np.arange(4.0), np.arange(4.0)))[0])
        == 0
    )


def test_plots_are_figures_unless_axes_are_given(data, tmp_path):
    for options in ({}, {"by": "SEX"}):
        figure = plot_data(data, **options)
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "data.png")
    ax = Figure().add_subplot()
    assert plot_data(data, ax) is ax


def test_subjects_and_zeros_that_are_not_drawn_are_told(data):
    figure = plot_subjects(data, log=True)
    assert len(figure.axes) == 20
    assert legends(figure)[-1] == "20 of 32 subjects; 5 values of 0 not drawn"
    assert legends(plot_subjects(data, data.subjects[20:]))[-1] == "12 of 32 subjects"
    few = data.subset(data.subjects[:8])
    assert legends(plot_subjects(few)) == ["measured", "dose"]
    with pytest.raises(PkpdError, match="plot_subjects: no subject is given"):
        plot_subjects(few, [])
    (note,) = plot_data(data, log=True).axes[0].get_legend().get_texts()
    assert note.get_text() == "8 values of 0 not drawn"
    assert plot_data(data).axes[0].get_legend() is None
    table = absorbed(subjects=1)
    table["DV"] = table["DV"].replace(0.0, -0.1)
    (note,) = plot_data(pkpd.read_nonmem(table), log=True).axes[0].get_legend().get_texts()
    assert note.get_text() == "1 value of 0 or less not drawn"


def test_covariates_given_in_words_keep_them(data):
    assert data.words == {"SEX": ("female", "male")}
    panels = plot_data(data, by="SEX").axes
    assert [ax.get_title("left") for ax in panels] == ["SEX female (n = 8)", "SEX male (n = 24)"]
    assert look_at_data(data).covariates.loc["SEX", "levels"] == "female: 8, male: 24"
    ticks = plot_covariates(data).axes[0].get_xticklabels()
    assert [one.get_text() for one in ticks] == ["female", "male"]
    assert data.subset([1, 2]).at_times([1.0]).words == data.words
    numbers = pkpd.read_nonmem(
        absorbed().assign(SEX=lambda t: (t["SEX"] == "male") * 1), covariates=["SEX"]
    )
    assert numbers.words == {}
    assert plot_data(numbers, by="SEX").axes[1].get_title("left") == "SEX 1 (n = 24)"
