"""Every panel is drawn on the axes it is given, with units on both axes and without collisions."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from pkpd.endpoints.split import STATES, STATES_WITHOUT_BLASTS
from pkpd.report.comparison import figures, pages, split_figure, split_words, style

RESULT = synthetic.make_trial_result(4)
PANELS = {
    "counts": (lambda ax: figures.counts_panel(RESULT, "14d-10", "platelets", ax), "day", "10⁹/L"),
    "recovery": (
        lambda ax: figures.recovery_panel(RESULT, "14d-10", "platelets", ax),
        "day",
        "% of patients",
    ),
    "dlt": (lambda ax: figures.dlt_risk(RESULT, ax=ax), "% of patients", "cohort"),
    "sensitivity": (lambda ax: figures.sensitivity_panel(RESULT, "14d-5", ax), "day", "10⁹/L"),
    "split": (lambda ax: split_figure.split_panel(RESULT, "14d-5", ax), "day", "% of patients"),
    "dosing": (lambda ax: figures.dosing_strip(RESULT, "10d-5", ax), "day", ""),
}


@pytest.mark.parametrize("name", PANELS)
def test_panels_return_the_axes_with_units(name):
    draw, x_unit, y_unit = PANELS[name]
    given_ax = Figure().add_subplot()
    assert draw(given_ax) is given_ax
    own = draw(None)
    for ax in (given_ax, own):
        assert x_unit in ax.get_xlabel()
        assert y_unit in ax.get_ylabel()
        FigureCanvasAgg(ax.figure).draw()


def test_dosing_strip_names_its_drugs_and_days():
    ax = figures.dosing_strip(RESULT, "10d-5")
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "lenalidomide",
        "mitoxantrone",
        "etoposide",
        "cytarabine",
    ]
    corners = [v for p in ax.patches for v in p.get_path().vertices]
    days = {round(x + 0.4) for x, y in corners if y < 0 and x % 1 > 0.5}
    assert days == {*range(1, 11), *range(29, 39)}
    # all patients get the first doses, about half of them the later ones: paler
    shades = {round(float(x) + 0.4): p.get_facecolor()[0] for p in ax.patches
              for x, y in p.get_path().vertices if y < 0 and x % 1 > 0.5}  # fmt: skip
    assert shades[29] > shades[1] + 0.2


def test_counts_panel_shows_the_median_bands_and_thresholds():
    ax = figures.counts_panel(RESULT, "14d-10", "neutrophils")
    assert ax.get_yscale() == "log"
    assert len(ax.collections) == 2  # 90 % and 50 % bands
    levels = [line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1]
    assert {0.5, 1.0} <= set(levels)
    assert "14d-10" in ax.get_title(loc="left")


def test_days_are_those_of_the_protocol_where_no_dose_is_given_on_day_1():
    assert figures.dosing_strip(RESULT, "10d-5").get_xlabel() == figures.DAY_LABEL
    given = RESULT.curves["dose_given"]
    later = RESULT.curves.assign(dose_given=given.where(given["day"] > 2, 0.0))
    ax = figures.dosing_strip(replace(RESULT, curves=later), "10d-5")
    assert ax.get_xlabel() == "protocol day"


def test_missing_quartiles_leave_the_outer_band():
    few = synthetic.make_trial_result(1)
    few = type(few)(few.trial, few.rows, few.pairs, few.curves.sel(quantile=[0.05, 0.5, 0.95]))
    assert len(figures.counts_panel(few, "14d-10", "platelets").collections) == 1


def test_dlt_risk_draws_the_predicted_and_the_published_figure():
    ax = figures.dlt_risk(RESULT)
    texts = [t.get_text() for t in ax.texts]
    assert "predicted 24 % (7 to 50 %)" in texts
    assert "published 2/6 = 33 % (4 to 78 %)" in texts
    assert "nothing published" in texts
    marks = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
    assert marks == pytest.approx([2 / 6, 0.0, 0.0])


def test_sensitivity_panel_outlines_the_rule_itself():
    ax = figures.sensitivity_panel(RESULT, "14d-10")
    assert [p.get_xy() for p in ax.patches] == [(0.5, -0.5)]  # day 45, thresholds 0.5 and 20
    assert len(ax.texts) == 2 * 8 * 4


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6, unique=True), st.floats(0.01, 0.15))
def test_spread_labels_keep_distance_and_order(positions, gap):
    placed = style.spread_labels(positions, gap)
    order = sorted(range(len(positions)), key=positions.__getitem__)
    for a, b in pairwise(order):
        assert placed[b] - placed[a] >= gap - 1e-9
    if all(b - a >= gap for a, b in pairwise(sorted(positions))):
        assert placed == pytest.approx(positions)


# a line of it is as long as lines get, of wide letters
FOOTER = (
    "Simulation of 1000 patients x 200 parameter draws. Marrow with leukaemia, posterior "
    "0f38fb437b57 of 2026-11-20, converged. DLT rule: len_mec_2018: by day 45 from the first dose "
    "not all of these have recovered: neutrophils >= 0.5 and platelets >= 20 x 10^9/L."
)


def untitled(figure):
    """Leave out titles that stand above a whole row of panels."""
    for ax in figure.axes:
        ax.set_title("", loc="left")
    return figure


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow), 6])
def test_pages_keep_their_panels_apart_and_on_the_page(n):
    result = synthetic.make_trial_result(n)
    for draw in (
        lambda r: pages.counts_figure(r, "platelets", FOOTER),
        lambda r: pages.dlt_figure(r, FOOTER),
        lambda r: pages.sensitivity_figure(r, FOOTER),
        lambda r: untitled(pages.recovery_figure(r, FOOTER)),
        lambda r: split_figure.split_figure(r, FOOTER),
    ):
        figure = draw(result)
        figure.set_dpi(60)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        boxes = [
            box
            for ax in figure.axes
            if ax.get_visible() and (box := ax.get_tightbbox(renderer)) is not None
        ]
        page = figure.bbox
        words = [text.get_window_extent(renderer) for text in figure.texts]
        for box in [*boxes, *words]:
            assert min(box.x0 - page.x0, page.x1 - box.x1) >= -2
            assert min(box.y0 - page.y0, page.y1 - box.y1) >= -2
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                wide = min(a.x1, b.x1) - max(a.x0, b.x0)
                high = min(a.y1, b.y1) - max(a.y0, b.y0)
                assert wide <= 2 or high <= 2  # pixels at 60 dpi: touching at most


def test_every_page_tells_its_content_in_words():
    told = {p.name.removeprefix("nct01681537_"): p for p in pages.trial_pages(RESULT)}
    assert list(told) == [
        "dlt",
        "split",
        "counts_neutrophils",
        "counts_platelets",
        "recovery",
        "sensitivity",
    ]
    assert "14d-10 predicted 24 % (7 to 50 %), published 2/6" in told["dlt"].alt
    assert all(len(p.alt) > 60 and p.caption for p in told.values())


def test_pages_without_data_are_left_out():
    bare = synthetic.without(RESULT, "counts", "recovered", "dlt_sensitivity", "split")
    assert [p.name for p in pages.trial_pages(bare)] == ["nct01681537_dlt"]


def test_split_stacks_the_states_to_all_patients():
    ax = split_figure.split_panel(RESULT, "14d-10")
    assert len(ax.collections) == len(synthetic.STATES)
    written = [int(text.get_text()[:-2]) for text in ax.texts if "%" in text.get_text()]
    assert abs(sum(written) - 100) <= 0.5 * len(written)  # whole percents
    tops = [max(p.vertices[:, 1].max() for p in area.get_paths()) for area in ax.collections]
    assert tops[-1] == pytest.approx(1.0)


def test_colours_of_states_are_told_apart_in_grey():
    # relative luminance of sRGB (IEC 61966-2-1); the contrast from one to the next is over 1.5
    def luminance(colour):
        channels = np.array(to_rgb(colour))
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722] + 0.05

    for states in (STATES, STATES_WITHOUT_BLASTS):
        steps = [luminance(split_figure.COLOURS[state]) for state in states]
        assert all(light / dark > 1.5 for light, dark in pairwise(steps))


@pytest.mark.parametrize(("attr", "day"), [({}, 45), ({"rule_protocol_day": 52}, 52),
                                           ({"rule_protocol_day": np.nan}, None)])  # fmt: skip
def test_the_rules_day_is_counted_from_the_first_dose_of_the_treatment(attr, day):
    """A prephase of seven days moves the look to protocol day 52; cohorts may differ in it.

    The rule judges by the end of its day, which is the next morning (`pkpd.endpoints`).
    """
    result = replace(RESULT, curves=RESULT.curves.assign_attrs(attr))
    ax = figures.own_axes(None)
    figures.rule_day(ax, result)
    assert [line.get_xdata()[0] for line in ax.lines] == ([] if day is None else [day + 1])
    assert [t.get_text() for t in ax.texts] == ([] if day is None else [f"end of day {day}"])
    told = f"At the end of day {day}" if day else "the last simulated"
    assert told in split_words.split_alt(result)


def test_split_in_a_sentence_is_that_of_the_end_of_the_rules_day():
    split = RESULT.curves["split"].sel(day=46)  # the morning after day 45
    low, high = (100 * float(end) for end in (split[:, 0].min(), split[:, 0].max()))
    assert round(low) == round(high)
    told = split_words.split_sentence(RESULT)
    start = "At the end of day 45, in this model and over the 4 cohorts,"
    assert told.startswith(f"{start} {low:.0f} % have recovered without leukaemia, ")
    assert "% have recovered with leukaemia, " in told
    assert "% have low counts with leukaemia and 8 % have died." in told
    later = RESULT.curves.assign_attrs(rule_clock="consolidation")
    told = split_words.split_sentence(replace(RESULT, curves=later))
    assert told.startswith("On the morning of day 90, the last simulated,")


def test_a_marrow_without_blasts_has_three_states():
    curves = RESULT.curves.drop_vars("split").drop_dims("state")
    two = RESULT.curves["split"].values
    shares = np.stack([two[:, 0], two[:, 1] + two[:, 2], two[:, 3]], axis=1)
    curves = curves.assign(split=(("cohort", "state", "day"), shares))
    bare = replace(RESULT, curves=curves.assign_coords(state=list(STATES_WITHOUT_BLASTS)))
    assert len(split_figure.split_panel(bare, "10d-5").collections) == 3
    assert "leukaemia" not in split_words.split_sentence(bare) + split_words.split_alt(bare)
    shares[:, 0] += shares[:, 2]
    shares[:, 2] = 0.0  # nobody can die in it
    assert len(split_figure.split_panel(bare, "10d-5").collections) == 2
    assert "died" not in split_words.split_sentence(bare) + split_words.split_alt(bare)


def test_drawing_needs_no_pyplot():
    code = "import sys, pkpd.report.comparison.pages;sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_not_known_is_told_without_nan():
    made = synthetic.make_trial_result(2)
    made.curves["dlt_sensitivity"].values[1] = np.nan
    rows = [
        replace(row, estimate=np.nan) if row.cohort == "14d-5" else row
        for row in made.rows
        if row.endpoint == "recovery_day"
    ]
    told = pages._sensitivity_alt(made), pages._recovery_alt(replace(made, rows=tuple(rows)))
    assert told[0].endswith("; 14d-5 not judged.")
    assert not any("nan" in one for one in told)
