"""Risks that a schedule file predicts have the Monte Carlo error that a comparison gives."""

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
    """Risks that a file predicts, and the rows of its comparison on dose-limiting toxicity."""
    monkeypatch.setattr(design_risks, "PATIENTS", 40)
    monkeypatch.setattr(design_risks, "DRAWS", 4)

    def both(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        rows = pkpd.compare(str(path), patients=40, draws=4, seed=3).trials[0].rows
        found = design_risks.predicted_risks(path, seed=3)
        return found, [row for row in rows if row.endpoint == "dlt"]

    return both


def test_the_error_is_that_of_the_comparison(dlt_of):
    found, rows = dlt_of(FILE)
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
    found, (first, second) = dlt_of(TWO_COURSES)
    assert first.rule == "leukemia_d42_generic"
    assert first.mc_error != pytest.approx(second.mc_error)
    assert found.errors == pytest.approx((first.mc_error,))


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
