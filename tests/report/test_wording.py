"""Figures in words: digits follow the Monte Carlo error, infinities and NaN have words."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from pkpd.files import file_stem
from pkpd.report import wording
from pkpd.report.comparison import pages

NAN = float("nan")


@pytest.mark.parametrize(
    ("p", "mc", "text"),
    [
        (0.1734, 0.004, "17 %"),
        (0.1734, 0.03, "17 %"),
        (0.1734, 0.12, "20 %"),
        (0.0234, 0.004, "2.3 %"),
        (0.0234, 0.02, "2 %"),
        (0.0234, NAN, "2 %"),
        (0.0004, 0.0003, "<0.1 %"),
        (0.004, 0.02, "<1 %"),
        (0.9996, 0.02, ">99 %"),
        (0.0, 0.01, "0 %"),
        (1.0, 0.0, "100 %"),
        (NAN, 0.01, "-"),
    ],
)
def test_percent_has_the_digits_that_the_error_supports(p, mc, text):
    assert wording.percent(p, mc) == text


@given(p=st.floats(0.0, 1.0), mc=st.floats(1e-5, 0.3))
def test_printed_percent_is_never_finer_than_the_error(p, mc):
    text = wording.percent(p, mc).strip("<> %")
    decimals = len(text.partition(".")[2])
    # the place of the last digit is at least a tenth of the error's first digit's place
    assert 10.0**-decimals >= 10.0 ** math.floor(math.log10(100 * mc)) or decimals == 0
    # a printed figure is at most one unit of its last place away: it is rounded, not changed
    unit = 10.0 if mc >= 0.1 else 10.0**-decimals
    assert abs(float(text) - 100 * p) <= unit + 1e-9


@pytest.mark.parametrize(
    ("value", "unit", "mc", "text"),
    [
        (math.inf, "day", 0.4, "not reached"),
        (31.4, "day", 0.4, "31"),
        (0.0312, "10^9/L", 0.001, "0.03"),
        (0.001, "10^9/L", 0.0001, "<0.01"),
        (8.13, "10^9/L", 0.02, "8.1"),
        (8.13, "10^9/L", 2.0, "8"),
        (NAN, "day", NAN, "-"),
    ],
)
def test_number(value, unit, mc, text):
    assert wording.number(value, unit, mc) == text


def test_ranges():
    assert wording.number_range(24.2, math.inf, "day", 31.0) == "24 to not reached"
    assert wording.number_range(math.inf, math.inf, "day", math.inf) == "not reached"
    assert wording.number_range(NAN, NAN, "day", 31.0) == "-"
    assert wording.number_range(0.05, 0.402, "probability", 0.17, 0.01) == "5 to 40 %"


def _ends(text):
    """Numbers of an interval as printed; ``<1`` at the lower end may be 0."""
    low, high = text.removesuffix(" %").split(" to ") if " to " in text else (text, text)
    return 0.0 if low.startswith("<") else float(low.strip(">")), float(high.strip("<>"))


def test_an_interval_holds_its_estimate_as_printed():
    rng = np.random.default_rng(4)
    for unit, scale in (("probability", 1.0), ("10^9/L", 40.0), ("day", 60.0)):
        for _ in range(4000):
            share = np.sort(rng.beta(0.4, 1.2, 3))
            near = share[1] + (share - share[1]) * rng.choice([1.0, 0.1, 0.01])
            lower, value, upper = scale * near
            error = scale * rng.choice([0.3, 0.12, 0.03, 0.004, 0.0002, math.nan])
            printed = wording.number(value, unit, error).removesuffix(" %")
            low, high = _ends(wording.number_range(lower, upper, unit, value, error))
            if printed[0] not in "<>":
                assert low <= float(printed) <= high
            elif printed[0] == "<":
                assert low <= float(printed[1:])
                assert high > 0.0
            else:
                assert high > float(printed[1:])
    assert wording.percent_range(0.21, 0.24, 0.22, 0.12) == "20 to 24 %"
    assert wording.percent_range(0.001, 0.004, 0.003, 0.02) == "0 to <1 %"
    assert wording.percent_range(0.0, 0.0, 0.0, 0.0) == "0 to 0 %"
    assert wording.percent_range(0.998, 1.0, 0.999) == ">99 to 100 %"


def test_published_keeps_a_printed_interval_and_computes_a_missing_one():
    row = next(r for r in synthetic.make_trial_result(1).rows if r.endpoint == "dlt")
    assert wording.published_text(row) == "2/6 = 33 % (4 to 78 %)"
    assert wording.published(row).interval == "95 % Clopper-Pearson"
    printed = replace(row, published_lower=0.0, published_upper=0.62)
    assert wording.published_text(printed) == "2/6 = 33 % (0 to 62 %)"
    assert wording.published(printed).interval == "as published"
    # exact limits of 2 of 6 by the beta quantiles
    same = replace(row, published_lower=0.0432719, published_upper=0.7772219)
    assert wording.published(same).interval == "95 % Clopper-Pearson"
    assert wording.published(replace(row, published=NAN, published_numerator=NAN)) is None


def test_assumed_inputs_are_counted_once_for_each_row():
    row = synthetic.make_trial_result(1).rows[0]
    rows = [replace(row, assumed="a; b; a"), replace(row, assumed="b"), replace(row, assumed="")]
    assert wording.assumed_inputs(rows) == {"a": 1, "b": 2}


def test_dlt_rows_prefer_the_trials_rule():
    result = synthetic.make_trial_result(2)
    other = [replace(r, rule="other", estimate=0.5) for r in result.rows if r.endpoint == "dlt"]
    both = replace(result, rows=(*other, *result.rows))
    assert {r.rule for r in wording.dlt_rows(both)} == {"len_mec_2018"}
    assert {r.rule for r in wording.dlt_rows(both, "other")} == {"other"}
    only_other = replace(result, rows=tuple(other))
    assert [r.cohort for r in wording.dlt_rows(only_other)] == ["14d-10", "14d-5"]


def test_footer_says_size_rule_and_assumptions():
    text = pages.footer_text(synthetic.make_trial_result(4))
    assert "1000 patients x 40 parameter draws" in text
    assert "day 45" in text
    assert "4 assumed inputs" in text


@pytest.mark.parametrize("name", ["NCT 01/..\\x", "..", "ok_1"])
def test_file_stem_has_no_path_in_it(name):
    stem = file_stem(name)
    assert stem
    assert not set(stem) & set("/\\ ")
    assert not stem.startswith(".")


def test_a_difference_without_an_interval_says_so():
    assert wording.difference_range(NAN, NAN, 0.004) == "-"
    assert wording.difference_range(-0.05, 0.02, 0.004) == "-5.0 to +2.0"
    # every lane alike: no error, and the draws do say so
    assert wording.difference_range(0.0, 0.0, 0.0) == "0 to 0"


@pytest.mark.parametrize(
    ("cohorts", "running", "kind", "told"),
    [
        (2, 0, "not_recovered", "risk of a dose-limiting toxicity"),
        (2, 1, "not_recovered", "risk of toxicity, or of low counts on treatment"),
        (2, 2, "not_recovered", "not recovered on the rule's day, on treatment"),
        (1, 1, "not_recovered_from_nadir", "not recovered on the rule's day, on treatment"),
        (1, 1, "low_count_duration", "low counts by the rule, on treatment"),
        (2, 2, None, "low counts by the rule, on treatment"),
    ],
)
def test_the_risk_is_named_by_what_is_counted_in_all_cohorts(cohorts, running, kind, told):
    result = synthetic.make_trial_result(cohorts)
    attrs = {**result.curves.attrs, "treatment_running": running, "rule_kind": kind}
    if kind is None:  # rules of the cohorts are of several kinds
        del attrs["rule_kind"]
    curves = result.curves.drop_attrs().assign_attrs(attrs)
    assert wording.risk_name(replace(result, curves=curves)) == told
    assert told == told.lower()  # headings capitalise it


def test_one_is_no_plural():
    assert wording.counted(1, "patient") == "1 patient"
    result = synthetic.make_trial_result(1)
    result.curves.attrs.update(patients=1, draws=1)
    assert wording.size_text(result) == "1 patient x 1 parameter draw"


def test_a_risk_names_the_share_of_patients_that_it_is_of():
    row = next(r for r in synthetic.make_trial_result(1).rows if r.endpoint == "dlt")
    assert wording.judged_text(row) == ""
    part = replace(row, evaluable=0.64)
    assert wording.judged_text(part) == "of 64 % judged"
    assert wording.endpoint_name(part).endswith(f"{row.rule}, of 64 % judged")
    assert wording.estimate_text(part) == wording.estimate_text(row)
    none = replace(row, estimate=NAN, lower=NAN, upper=NAN, evaluable=0.002)
    assert wording.estimate_text(none) == "not judged"
    assert wording.judged_text(none) == "of <1 % judged"
