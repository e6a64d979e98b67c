"""Characteristics under predicted risks: the mean over draws, cohorts in the order of doses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pkpd.comparison.scenario import load_scenario
from pkpd.designs.command import design_lines
from pkpd.designs.design_card import load_design
from pkpd.designs.predicted import Predicted, by_dose
from pkpd.errors import PkpdError

FILE = """
kind = "design"
doses = ["5 mg", "10 mg"]
schedules = "mine.toml"
[design]
name = "3+3"
de_escalate = false
"""
RISKS = np.array([[0.1, 0.3], [0.2, 0.5]])


@pytest.fixture
def path(tmp_path):
    (tmp_path / "design.toml").write_text(FILE)
    return tmp_path / "design.toml"


def passed(p):
    """Probability that a dose of 3+3 is passed: no DLT in three, or one in six."""
    return (1 - p) ** 3 + 3 * p * (1 - p) ** 2 * (1 - p) ** 3


def test_the_mean_over_draws_of_the_closed_form(path):
    asked = []

    def predict(file, **how):
        asked.append((file, how["seed"]))
        # cohorts stand in another order than the doses
        return Predicted(("10 mg", "5 mg"), RISKS[:, ::-1], (0.5, 1.0))

    lines = list(design_lines(path, operating=True, seed=3, predict=predict))
    assert asked == [(path.parent / "mine.toml", 3)]
    none = next(line for line in lines if line.startswith("none / all"))
    # no dose is selected where the first is not passed
    expected = 100 * np.mean(1 - passed(RISKS[:, 0]))
    assert float(none.split()[3]) == pytest.approx(expected, abs=0.006)
    assert "Patients enrolled for one who can be judged" in lines[-1]
    assert "10 mg 2.0." in lines[-1]
    assert "5 mg 1.0" not in lines[-1]


def test_nobody_is_backfilled_under_predicted_risks_and_that_is_told(path):
    text = FILE.replace('name = "3+3"\nde_escalate = false', 'name = "BF-BOIN"\ntarget = 0.25')
    path.write_text(f"{text}most_patients = 12\n[window]\ndays = 28\n[accrual]\nevery_days = 14\n")
    found = Predicted(("5 mg", "10 mg"), RISKS, (1.0, 1.0))
    lines = design_lines(path, operating=True, trials=20, predict=lambda file, **how: found)
    assert "No rates of response are given: nobody is backfilled." in lines


def test_trials_are_simulated_over_the_draws_and_not_at_their_mean(path):
    """At the mean, .5, no dose is selected in .83 of trials; of the draws 0 and 1 in half."""
    text = FILE.replace('doses = ["5 mg", "10 mg"]', 'doses = ["5 mg"]')
    text = text.replace('name = "3+3"\nde_escalate = false', 'name = "rolling six"')
    path.write_text(f"{text}[window]\ndays = 28\n[accrual]\nevery_days = 60\n")
    sure = Predicted(("5 mg",), np.repeat([[0.0], [1.0]], 5, axis=0), (1.0,))
    lines = list(design_lines(path, operating=True, trials=200, predict=lambda file, **how: sure))
    none = next(line for line in lines if line.startswith("none / all")).split()
    assert float(none[3]) == 50.0
    assert any("200 trials simulated" in line for line in lines)


def test_days_of_exact_trials_are_over_the_draws_too(path):
    """Patients at the mean risk are more than over draws without and with toxicity."""
    path.write_text(f"{FILE}[window]\ndays = 28\n[accrual]\nevery_days = 10\n")
    sure = Predicted(("5 mg", "10 mg"), np.array([[0.0, 0.0], [1.0, 1.0]]), (1.0, 1.0))
    lines = list(design_lines(path, operating=True, trials=400, predict=lambda file, **how: sure))
    days = float(next(line for line in lines if "It takes" in line).split()[2])
    alone = []
    for risk in (0.0, 1.0):
        one = Predicted(("5 mg", "10 mg"), np.full((1, 2), risk), (1.0, 1.0))
        told = design_lines(
            path, operating=True, trials=400, predict=lambda file, one=one, **how: one
        )
        alone.append(float(next(line for line in told if "It takes" in line).split()[2]))
    assert days == pytest.approx(np.mean(alone), rel=0.03)


def test_cohorts_that_are_not_the_doses_are_refused(path):
    file = load_design(path)
    same = by_dose(file, Predicted(("a", "b"), RISKS, (1.0, 1.0)))
    assert same.risks.tolist() == RISKS.tolist()
    for names in (("5 mg", "b"), ("a", "b", "c")):
        with pytest.raises(PkpdError, match="a cohort for each dose: 5 mg, 10 mg"):
            by_dose(file, Predicted(names, np.ones((2, len(names))), (1.0,) * len(names)))


def test_the_documents_name_every_key_that_a_scenario_file_needs(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "designs.md").read_text()
    keys = re.findall(
        r"`([^`]+)`", text.partition("(or a scenario file: ")[2].partition(", where")[0]
    )
    assert len(keys) == 4
    file = tmp_path / "study.toml"
    file.write_text("\n".join(keys).replace("mine.toml", "nct01681537_len_mec"))
    assert load_scenario(file).name == "study"
