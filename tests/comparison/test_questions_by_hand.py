"""Tables that answer the questions of a trial, of a few patients whose mornings are written down.

A study is replaced by one that has three draws of such patients; tables are of the public answers.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pkpd.cards import load_trial
from pkpd.comparison.questions import answers
from pkpd.comparison.shares import median_of_known
from pkpd.course.course import Course
from pkpd.errors import PkpdError
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.trial_arms import arms_of_trial

TRIAL = """
title = "A drug, then another"
population = "mds_lower_risk"
rule = "leukemia_d42_generic"
horizon_days = {horizon}

{question}

[dose.lenalidomide]
amount = "5 mg"
days = "1-10"
route = "oral"

[dose.azacitidine]
amount = "75 mg/m^2"
days = "1-7"
route = "sc"

[course.first]
doses = ["lenalidomide"]
cycle_days = 14
cycles = {cycles}

[course.later]
doses = ["azacitidine"]
cycle_days = 28

[[cohort]]
id = "all"
"""
CYCLES = '[[question]]\nask = "cycle_by_cycle"\nimprovement_weeks = 1'
START = """
[[question]]
ask = "start_of_drug"
drug = "azacitidine"
course = "later"
gates = [{ neutrophils = 1.0, platelets = 50 }]
most_wait_days = 7
low = { neutrophils = 1.0, platelets = 50 }
"""


def patients(*of, days):
    """Course of patients, each ``{what: [(from this protocol day on, value), ...]}``.

    ``transfused`` adds to the platelets that are measured on single days.
    """
    usual = {"neutrophils": 2.0, "platelets": 150.0, "blasts": 10.0}
    found = {name: np.full((len(of), days), value) for name, value in usual.items()}
    hazard, measured = np.zeros((len(of), days)), {}
    for i, one in enumerate(of):
        for name, steps in one.items():
            if name == "dies":
                hazard[i, steps:] = 1.0
                continue
            if name == "transfused":
                measured[i] = steps
                continue
            for day, value in steps:
                found[name][i, day - 1 :] = value
    with_transfused = found["platelets"].copy()
    for i, steps in measured.items():
        for day, more in steps:
            with_transfused[i, day - 1] += more
    return Course(
        mornings={name: found[name] for name in ("neutrophils", "platelets")},
        platelets_with_transfused=with_transfused,
        transfused=np.zeros((len(of), days), dtype=bool),
        first_day=np.ones((len(of), 2), dtype=np.int64),
        course_names=("first", "later"),
        marrow_blasts=found["blasts"],
        blood_blasts=np.zeros((len(of), days)),
        marrow_cells=np.ones((len(of), days)),
        cumulative_hazard=hazard,
        death_score=np.full(len(of), 0.5),
    )


def answered(folder, question, draws, horizon, days, cycles=4):
    """Tables by name, of numbers alone: medians of draws."""
    (folder / "mine.toml").write_text(
        TRIAL.format(horizon=horizon, question=question, cycles=cycles)
    )
    trial = load_trial(folder / "mine.toml")

    def collect(arm, look):
        assert arm.schedule.horizon_days == days
        seen = [look(ArmOutcomes(arm, patients(*of, days=days))) for of in draws]
        return {name: np.stack([one[name] for one in seen]) for name in seen[0]}

    study: Any = SimpleNamespace(collect=collect)
    found = answers(trial, arms_of_trial(trial), {}, study)
    return {
        one.name: {row[1]: [cell.value for cell in row[2:]] for row in one.rows} for one in found
    }


LOW, TEN = {"neutrophils": [(3, 0.6), (6, 2.0)]}, {"neutrophils": [(12, 0.1)], "dies": 10}
FELL_LATE = {"platelets": [(14, 30.0), (16, 150.0)]}
THIRD = {"neutrophils": [(29, 0.5), (30, 2.0)]}
SOME = (LOW, FELL_LATE, TEN, THIRD)
NOBODY = ({},) * 4
ALL = tuple({"neutrophils": [(2, 0.5)], "platelets": [(2, 40.0)]} | dies
            for dies in ({}, {}, {"dies": 12}, {"dies": 12}))  # fmt: skip


@pytest.mark.parametrize(("horizon", "cycles"), [(55, 3), (56, 4), (80, 4)])
def test_low_counts_are_of_the_cycle_on_whose_days_they_lie(tmp_path, horizon, cycles):
    """Cycles of 14 days, four of them, of which as many are told as end within the horizon."""
    draws, days = (SOME, NOBODY, ALL), horizon + 7
    found = answered(tmp_path, CYCLES, draws, horizon, days)["cycles"]
    assert list(found) == [str(cycle + 1) for cycle in range(cycles)]
    # alive at its start, neutrophils below 1, platelets below 50, either: the middle draw is SOME
    assert found["1"] == pytest.approx([1.0, 1 / 4, 1 / 4, 2 / 4])
    # who died on day 10 is not asked; platelets of day 15 are of the second cycle
    assert found["2"] == pytest.approx([3 / 4, 0.0, 1 / 3, 1 / 3])
    # day 29 is the first of the third
    assert found["3"] == pytest.approx([3 / 4, 1 / 3, 0.0, 1 / 3])
    if cycles == 4:
        assert found["4"] == pytest.approx([3 / 4, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("gate", ["gate", "between"])
def test_cycles_that_wait_for_counts_are_refused(tmp_path, gate):
    waits = f'{gate} = {{ neutrophils = 1.0, max_wait_days = 7, if_not_met = "stop" }}'
    written = TRIAL.format(horizon=56, question=CYCLES, cycles=4)
    written = written.replace("cycle_days = 14", f"cycle_days = 14\n{waits}")
    (tmp_path / "mine.toml").write_text(written)
    trial = load_trial(tmp_path / "mine.toml")
    study: Any = SimpleNamespace()
    with pytest.raises(PkpdError, match="counts or the start delay them; leave the"):
        answers(trial, arms_of_trial(trial), {}, study)


def rise(*steps, **more):
    return {"neutrophils": [(1, 0.4), *steps], **more}


def test_days_of_improvement_are_those_of_the_median_patient_who_improves(tmp_path):
    """Neutrophils from 0.4 to 1.2 for a week, from day 43 at the latest; blasts from 10 to 3 %."""
    mixed = (
        rise((8, 1.2), blasts=[(12, 3.0)]),
        rise((20, 1.2), blasts=[(15, 3.0)]),
        rise((30, 1.2), blasts=[(14, 3.0)]),
        rise((39, 1.2), (46, 0.4)),  # seven days
        rise((44, 1.2)),  # too late
        rise((8, 1.2), (14, 0.4)),  # six days
        rise((8, 0.85)),  # a rise below 0.5
        {"blasts": [(24, 3.0)]},  # cannot improve; and the marrow is not seen for four weeks
    )
    nobody = (rise(),) * 8
    everybody = (rise((25, 1.2), blasts=[(15, 3.0)]),) * 8
    found = answered(tmp_path, CYCLES, (mixed, nobody, everybody), 43, 50)["improvement"]
    # of seven who can four improve, two of them by day 20; with everybody's 25 the median draw
    can, improve, day = found["neutrophils (HI-N)"]
    assert (can, improve, day) == (1.0, pytest.approx(4 / 7), 20.0)
    np.testing.assert_array_equal(found["platelets (HI-P)"], [0.0, np.nan, np.nan])
    every, reached, when = found["remission or partial remission"]
    assert (every, reached, when) == (1.0, pytest.approx(3 / 8), 14.0)


@pytest.mark.parametrize(
    ("cleared", "back", "begins"),
    [
        (60, 130, 60.0),  # marrow remission, complete only after the last day that counts
        (40, 80, 40.0),
        (80, 40, 80.0),  # counts first: complete at once
        (113, 130, np.inf),
    ],
)
def test_a_remission_begins_when_the_first_does_that_counts(tmp_path, cleared, back, begins):
    """Blasts from 10 to 3 % and neutrophils from 0.4 to 1.2 on given days; 112 days count."""
    draws = ((rise((back, 1.2), blasts=[(cleared, 3.0)]),),) * 3
    eight = CYCLES.replace("weeks = 1", "weeks = 8")
    found = answered(tmp_path, eight, draws, 112, 168)["improvement"]
    _, reached, when = found["remission or partial remission"]
    assert reached == float(begins < np.inf)
    np.testing.assert_equal(when, begins if reached else np.nan)


def test_a_drug_that_waits_starts_when_the_median_patient_has_the_counts(tmp_path):
    """Planned for day 43, after three cycles of 14 days; it waits for seven days at most."""
    of = (
        {},
        {"neutrophils": [(40, 0.6), (46, 1.5)]},  # day 46
        {"neutrophils": [(40, 0.2)]},  # not within a week
        {"platelets": [(40, 30.0), (50, 60.0)]},  # day 50, the last one
        {"dies": 20},
    )
    found = answered(tmp_path, START, (of,) * 3, 60, 51, cycles=3)["start_of_drug"]
    # started, day, neutrophils and platelets of that morning (lower medians), below 1, below 50
    assert found["none"] == pytest.approx([4 / 5, 43.0, 0.6, 150.0, 2 / 4, 1 / 4])
    assert found["1.0 and 50"] == pytest.approx([3 / 5, 46.0, 2.0, 150.0, 0.0, 0.0])


def test_counts_at_the_start_are_those_that_the_gate_looks_at(tmp_path):
    """Platelets of their own of 30 throughout; on day 45 transfused ones lift them to 80."""
    one = {"platelets": [(40, 30.0)], "transfused": [(45, 50.0)]}
    found = answered(tmp_path, START, ((one,),) * 3, 60, 51, cycles=3)["start_of_drug"]
    assert found["none"] == pytest.approx([1.0, 43.0, 2.0, 30.0, 0.0, 1.0])
    assert found["1.0 and 50"] == pytest.approx([1.0, 45.0, 2.0, 80.0, 0.0, 0.0])


def test_the_median_is_the_day_by_which_half_are_there():
    nan, inf = np.nan, np.inf
    matrix = np.array(
        [
            [3.0, 1.0, 2.0, 4.0],  # two of four by day 2
            [3.0, nan, 2.0, 1.0],
            [nan, nan, 5.0, nan],
            [inf, inf, 1.0, nan],  # half are not there at all
            [inf, 1.0, nan, nan],
            [nan, nan, nan, nan],
        ]
    )
    expected = [2.0, 2.0, 5.0, inf, 1.0, nan]
    np.testing.assert_array_equal(median_of_known(matrix), expected)
    np.testing.assert_array_equal(median_of_known(matrix.reshape(2, 3, 4)).ravel(), expected)
