"""Risks that a schedule file predicts, who can be judged, and the error: as in a comparison."""

import numpy as np
import pytest

import pkpd
from pkpd.comparison import design_risks
from pkpd.comparison.scenario import check_file
from pkpd.designs.command import design_lines
from pkpd.errors import PkpdError

FILE = """
title = "Two doses"
population = "rr_aml"
rule = "leukemia_d42_generic"
rule_change = { by_day = 18 }
horizon_days = 50
dose.clofarabine = { amount = "20 mg/m^2", days = "1-5", route = "iv", duration = "1 h" }
course.treatment = { doses = ["clofarabine"], cycle_days = 42 }
cohort = [
    { id = "20 mg" },
    { id = "30 mg", change.clofarabine = { amount = "30 mg/m^2" } },
]
"""


@pytest.fixture
def dlt_of(tmp_path, monkeypatch):
    """Risks that a file predicts, and the comparison of the file."""
    monkeypatch.setattr(design_risks, "PATIENTS", 40)
    monkeypatch.setattr(design_risks, "DRAWS", 4)

    def both(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        (trial,) = pkpd.compare(str(path), patients=40, draws=4, seed=3).trials
        return design_risks.predicted_risks(path, seed=3), trial

    return both


def verdicts(trial):
    """Rows of a comparison on dose-limiting toxicity."""
    return [row for row in trial.rows if row.endpoint == "dlt"]


def test_the_risks_and_the_error_are_those_of_the_comparison(dlt_of):
    found, trial = dlt_of(FILE)
    rows = verdicts(trial)
    assert found.cohorts == ("20 mg", "30 mg")
    for column, row in zip(found.risks.T, rows, strict=True):
        by_draw = trial.curves["dlt"].sel(cohort=row.cohort)
        assert column.tolist() == by_draw.values.tolist()
        # chance between draws is taken out of them, and leaves their mean: of whole patients
        assert column.mean() == pytest.approx(row.estimate)
        assert 160 * row.estimate == pytest.approx(round(160 * row.estimate))
    assert found.risks[:, 0].mean() < found.risks[:, 1].mean()
    assert found.judged == (1.0, 1.0), "nobody dies or has leukaemia in this marrow"
    errors = {row.cohort: row.mc_error for row in rows}
    assert found.errors == pytest.approx([errors[name] for name in found.cohorts])
    assert all(0 < error < 1 for error in found.errors)
    assert np.shape(found.risks) == (4, 2)
    assert found.simulated == "40 patients under 4 draws of the parameters"


TWO_COURSES = """
title = "Two courses"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 80
clocks = ["first_dose", "second"]
dose.clofarabine = { amount = "20 mg/m^2", days = "1-5", route = "iv", duration = "1 h" }
course.first = { doses = ["clofarabine"], cycle_days = 21 }
course.second = { doses = ["clofarabine"], cycle_days = 42 }
cohort = [{ id = "20 mg" }]
"""


def test_the_error_is_of_the_clock_of_the_risks(dlt_of):
    found, trial = dlt_of(TWO_COURSES)
    first, second = verdicts(trial)
    assert first.rule == "leukemia_d42_generic"
    assert first.mc_error != pytest.approx(second.mc_error)
    assert found.errors == pytest.approx((first.mc_error,))


WAITS = """
title = "The second course waits for counts"
population = "rr_aml"
rule = "leukemia_d42_generic"
rule_change = { by_day = 18 }
horizon_days = 50
clocks = ["second"]
dose.clofarabine = { amount = "20 mg/m^2", days = "1-5", route = "iv", duration = "1 h" }
course.first = { doses = ["clofarabine"], cycle_days = 21 }
[course.second]
doses = ["clofarabine"]
cycle_days = 42
gate = { neutrophils = 1.0, max_wait_days = 3, if_not_met = "stop" }
[[cohort]]
id = "20 mg"
[[cohort]]
id = "30 mg"
change.clofarabine = { amount = "30 mg/m^2" }
"""


def test_risks_are_among_those_whom_the_rule_can_judge(dlt_of):
    """Who has no second course has no verdict of its days: fewer after the higher dose."""
    found, trial = dlt_of(WAITS)
    rows = verdicts(trial)
    assert found.judged == tuple(row.evaluable for row in rows)
    low, high = found.judged
    assert 0.05 < high < low < 0.95
    assert "never began" in rows[0].not_judged
    np.testing.assert_array_equal(found.risks.T, trial.curves["dlt"].values)
    for share, row in zip(found.judged, rows, strict=True):
        number = 160 * share
        assert number == pytest.approx(round(number)), "of 4 draws of 40 patients"
        events = row.estimate * number
        assert events == pytest.approx(round(events)), "among those who are judged"
        assert events > 1


DESIGN = """
kind = "design"
doses = ["20 mg", "40 mg"]
schedules = "mine.toml"
[design]
name = "BOIN"
target = 0.25
"""


def test_other_cohorts_than_the_doses_are_refused_before_anything_is_simulated(
    tmp_path, monkeypatch
):
    (tmp_path / "mine.toml").write_text(FILE)
    path = tmp_path / "design.toml"
    path.write_text(DESIGN)
    monkeypatch.setattr("pkpd.comparison.run.compare", lambda *a, **k: pytest.fail("simulated"))
    told = "mine.toml: its cohorts are 20 mg, 30 mg; allowed: a cohort for each dose: 20 mg, 40 mg"
    with pytest.raises(PkpdError, match=told):
        list(design_lines(path, operating=True, predict=design_risks.predicted_risks))
    (found,) = check_file(path)
    assert told in found
    path.write_text(DESIGN.replace("40 mg", "30 mg"))
    assert not check_file(path)
    path.write_text(DESIGN.replace("mine.toml", "other.toml"))
    (found,) = check_file(path)
    assert "other.toml" in found
