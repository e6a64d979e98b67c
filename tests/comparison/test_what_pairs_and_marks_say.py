"""Words beside pairs of schedules, other rules, kidneys that age moves, and intervals of chance."""

from dataclasses import replace

import numpy as np
import pytest

import pkpd
from pkpd.cards import load_rule
from pkpd.comparison.rows import _probability, rule_attributes
from pkpd.comparison.uncertainty import paired_difference, risk
from pkpd.report.comparison import beside_tables as wording

FILE = """
title = "Ages"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 56
dose.clofarabine = { amount = "20 mg/m^2", days = "1-5", route = "iv", duration = "1 h" }
course.treatment = { doses = ["clofarabine"], cycle_days = 42 }
cohort = [{ id = "usual" }, { id = "old", patients = { median_age_years = 78 } }]
"""

CARD = """
kind = "drug"
name = "newdrug"
title = "New drug"
routes = ["iv"]
dose_unit = "mg/m^2"
usual_dose = { value = 50, unit = "mg/m^2", source = "draft", status = "assumed" }

[leukaemia]
acts_by = "intensity"
intensity = { value = 600, unit = "1", source = "made up", status = "assumed" }
reference = { value = 150, unit = "mg/m^2", source = "made up", status = "assumed" }
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    file = tmp_path_factory.mktemp("ages") / "ages.toml"
    file.write_text(FILE)
    return pkpd.compare(str(file), patients=40, draws=4)


def test_a_difference_is_of_those_who_are_judged_under_both():
    rng = np.random.default_rng(1)
    a = (rng.random((40, 300)) < 0.3).astype(float)
    b = (rng.random((40, 300)) < 0.2).astype(float)
    a[:, ::3], b[:, 1::3] = np.nan, np.nan
    both = ~np.isnan(a) & ~np.isnan(b)
    expected = a[both].mean() - b[both].mean()
    assert paired_difference(a, b).estimate == pytest.approx(expected)
    assert "judged under both" in wording.BOTH


def test_draws_that_differ_by_chance_alone_tell_no_interval():
    rare = np.zeros((30, 100))
    rare[3, 5] = rare[17, 40] = 1.0
    told = risk(rare)
    assert told.estimate == pytest.approx(2 / 3000)
    assert np.isnan(told.lower)
    assert np.isnan(told.upper)
    none = risk(np.zeros((30, 100)))
    assert np.isnan([none.lower, none.upper]).all()


def test_a_rule_that_is_among_the_others_is_marked(found):
    (trial,) = found.trials
    assert wording.rule_as_run(trial) == "Outlined: the rule as run."
    trial.curves.attrs["rule_by_day"] = 35.0
    try:
        assert wording.rule_as_run(trial) == "The rule as run is not among them."
    finally:
        trial.curves.attrs["rule_by_day"] = 42.0


def test_the_day_of_a_rule_of_ones_own_is_in_the_table_of_other_rules(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(FILE + "rule_change = { by_day = 35 }\n")
    (trial,) = pkpd.compare(str(file), patients=40, draws=4, with_questions=True).trials
    assert trial.curves["by_day"].values.tolist() == [35.0, 42.0, 45.0, 49.0, 56.0]
    assert wording.rule_as_run(trial) == "Outlined: the rule as run."
    anc, plt, day = wording.own_cell(trial)
    grid = trial.curves["dlt_sensitivity"].sel(bound="mean").values[:, anc, plt, day]
    risks = [row.estimate for row in trial.rows if row.endpoint == "dlt"]
    np.testing.assert_allclose(grid, risks, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "of"), [("low_count", "low counts"), ("not_recovered_from_nadir", "that fell low")]
)
def test_rules_that_ask_something_else_are_not_outlined(found, kind, of):
    """Their counts and day may be those of a cell, whose risk is another."""
    (trial,) = found.trials
    trial.curves.attrs["rule_kind"] = kind
    try:
        assert wording.own_cell(trial) is None
        assert f"{of}, and not among them" in wording.rule_as_run(trial)
    finally:
        trial.curves.attrs["rule_kind"] = "not_recovered"


def test_labels_speak_of_cohorts_whose_age_moves_the_kidneys(found):
    (text,) = found.record["simulated"].values()
    half = text[text.index("30 to 60") :]
    assert "of old" in half


def test_an_intensity_beyond_what_was_learned_is_told(tmp_path, posterior):
    (tmp_path / "newdrug.toml").write_text(CARD)
    (tmp_path / "s.toml").write_text(
        FILE.replace("dose.clofarabine = {", 'dose.newdrug = { drug = "newdrug.toml",')
        .replace('doses = ["clofarabine"]', 'doses = ["newdrug"]')
        .replace(', { id = "old", patients = { median_age_years = 78 } }', "")
    )
    found = pkpd.compare(str(tmp_path / "s.toml"), patients=8, draws=2, posterior=posterior)
    told = " ".join(found.trials[0].limits)
    assert "more than was learned of any drug (2)" in told


def test_what_a_file_sets_besides_is_told_first(tmp_path, posterior):
    (tmp_path / "s.toml").write_text(
        FILE
        + 'growth_factor = { drug = "filgrastim", below = 0.5 }\n'
        + "rule_change = { by_day = 49, recovered = { neutrophils = 0.5, platelets = 50 } }\n"
    )
    found = pkpd.compare(str(tmp_path / "s.toml"), patients=8, draws=2, posterior=posterior)
    (text,) = found.record["simulated"].values()
    assert "growth factor: filgrastim" in text
    assert "the rule is changed by the file: by day 49" in text
    assert "platelets >= 50" in text


PRINTED = 'endpoint = "dlt_delayed_recovery", status = "read", denominator = 9'
OTHER_RULE = f"""{{ id = "other", rule = "len_mec_2018", published = [
    {{ {PRINTED}, numerator = 1, source = "a" }},
    {{ {PRINTED}, numerator = 2, source = "b" }},
] }}"""


def test_cohorts_of_two_rules_are_told_so_and_no_published_figure_is_dropped(tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text(
        FILE.replace('{ id = "old", patients = { median_age_years = 78 } }', OTHER_RULE)
    )
    (trial,) = pkpd.compare(str(file), patients=20, draws=3).trials
    (pair,) = trial.pairs
    assert pair.rule == "leukemia_d42_generic and len_mec_2018"
    text = trial.curves.attrs["rule_text"]
    assert text.startswith("leukemia_d42_generic: ")
    assert ". In other len_mec_2018: " in text
    # both want the same counts, by day 42 and by day 45: no figure draws one day for all
    assert "rule_by_day" not in trial.curves.attrs
    assert trial.curves.attrs["rule_platelets"] == 20
    assert wording.rule_as_run(trial) == "Rules of the cohorts differ: none is outlined."
    told = [row.published_source for row in trial.rows if row.published_source]
    assert sorted(one[0] for one in told) == ["a", "b"]


def test_who_cannot_be_judged_is_not_told_as_not_reached():
    verdicts = np.array([[1.0, np.nan], [0.0, 1.0]])
    about = {"trial": "t", "cohort": "c", "label": "", "evaluable": 0.75}
    texts = {"endpoint": "dlt", "line": "", "rule": "r", "assumed": ""}
    row = _probability(verdicts, **texts, published=None, common=about)
    assert (row.estimate, row.censored) == (pytest.approx(2 / 3), 0.0)


def test_clocks_and_kinds_of_cohorts_that_differ_are_not_those_of_the_first():
    one = load_rule("leukemia_d42_generic")
    other = replace(one, clock="consolidation")
    both = rule_attributes(one, None, {"a": one, "b": other})
    assert both["rule_clock"] == "each cohort's own"
    assert both["rule_by_day"] == one.by_day
    assert both["rule_kind"] == one.kind
    assert rule_attributes(other, None, {"a": other})["rule_clock"] == "consolidation"
    assert "rule_protocol_day" not in rule_attributes(other, None, {"a": other})
    alone = {"a": one, "b": one}
    assert rule_attributes(one, None, alone)["rule_protocol_day"] == one.by_day
    assert rule_attributes(one, None, alone, (8, 8))["rule_protocol_day"] == one.by_day + 7
    assert np.isnan(rule_attributes(one, None, alone, (1, 8))["rule_protocol_day"])
    later = replace(one, name="own", by_day=56)
    running = {"b": {"first_dose": "cycle 2 runs since day 50"}}
    alike = rule_attributes(one, running, {"a": later, "b": later})
    assert alike["rule_by_day"] == 56
    assert alike["rule_text"].startswith("own: by day 56 ")
    assert one.name not in alike["rule_text"]
    mixed = rule_attributes(one, running, {"a": one, "b": later})
    assert "On day 56 cycle 2 runs since day 50 in b" in mixed["rule_text"]
    assert (mixed["treatment_running"], both["treatment_running"]) == (1, 0)
    fallen = replace(one, kind="not_recovered_from_nadir", nadir_below=(1.0, 50.0))
    assert "rule_kind" not in rule_attributes(one, None, {"a": one, "b": fallen})
