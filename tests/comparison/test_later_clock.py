"""Rows of a trial whose days count from a later course: of whom, since when, treated or not."""

import pytest

import pkpd
from pkpd.report import wording

FILE = """
title = "One drug, then another"
population = "hr_mds_aml_unfit"
rule = "leukemia_d42_generic"
rule_is_protocols = false
clocks = ["second", "first_dose"]
horizon_days = 100
dose.clofarabine = { amount = "10 mg/m^2", days = "1-5", route = "iv", duration = "1 h" }
dose.lenalidomide = { amount = "25 mg", days = "1-10/28", route = "oral" }
course.first = { doses = ["clofarabine"], cycle_days = 28 }
course.second = { doses = ["lenalidomide"], start_day = 29, cycles = 2 }
cohort = [{ id = "one" }, { id = "two", change.lenalidomide = { amount = "50 mg" } }]
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory, posterior):
    file = tmp_path_factory.mktemp("later") / "later.toml"
    file.write_text(FILE)
    return pkpd.compare(str(file), patients=30, draws=4, posterior=posterior, jobs=1,
                        with_questions=False)  # fmt: skip


@pytest.fixture(scope="module")
def rows(found):
    return [row for row in found.trials[0].rows if row.cohort == "one"]


def one(rows, endpoint, line="", rule=None):
    return next(
        r for r in rows if (r.endpoint, r.line) == (endpoint, line) and rule in (None, r.rule)
    )


def test_rows_say_of_which_share_of_the_patients_they_are(rows):
    assert all(0.0 <= row.evaluable <= 1.0 for row in rows)
    remission = one(rows, "complete_remission").estimate
    assert one(rows, "remission_day").evaluable == pytest.approx(remission)
    free = one(rows, "recovery_day_in_remission", "neutrophils")
    assert 0.0 < free.evaluable < 1.0
    share = wording.percent(free.evaluable)
    assert wording.endpoint_name(free).endswith(f", of {share} in it after low counts")
    seen = one(rows, "dlt_on_visits")
    assert seen.evaluable == pytest.approx(one(rows, "dlt").evaluable, abs=0.1)
    assert 0.0 < seen.evaluable < 1.0
    assert wording.endpoint_name(seen).endswith(" judged")
    # who died before the later course has no day since it
    back = one(rows, "recovery_day", "platelets")
    assert 0.5 < back.evaluable < 1.0
    assert back.evaluable == one(rows, "never_low", "platelets").evaluable
    assert wording.endpoint_name(back).endswith(" whose clock starts")
    whole = one(rows, "nadir", "platelets", "")
    assert whole.evaluable == 1.0
    assert wording.endpoint_name(whole) == "platelet nadir 10^9/L"


def test_days_name_the_day_that_they_count_from(rows):
    for endpoint, line, rule, name in (
        ("nadir_day", "platelets", "", "platelets nadir from the first dose, day"),
        ("nadir_day", "platelets", "from second day 1", "platelets nadir from second day 1, day"),
        ("remission_day", "", "CR", "complete remission from day 1, day"),
        ("recovery_day_in_remission", "platelets", ">= 20", "platelets >= 20 from day 1, in remis"),
    ):
        assert wording.endpoint_name(one(rows, endpoint, line, rule)).startswith(name)


def test_treatment_that_runs_is_told_of_every_clock_and_is_no_assumed_input(found, rows):
    main, second = (row for row in rows if row.endpoint == "dlt")
    for row, number in ((main, 2), (second, 1)):
        told = f"on day 42 second cycle {number} runs since day 29: the verdict is of counts under"
        assert row.under_treatment.startswith(told)
    (trial,) = found.trials
    text = trial.curves.attrs["rule_text"]
    assert "On day 42 second cycle 2 runs since day 29 in one, two: the verdict is of" in text
    assert "On day 42 from the first dose second cycle 1 runs since day 29 in one, two: " in text
    assert trial.curves.attrs["treatment_running"] == 2
    assert all("runs since" not in name for name in wording.assumed_inputs(trial.rows))
