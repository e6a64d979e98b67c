"""Dose rules, count criteria, gates and dose modifications, one bad value at a time."""

from __future__ import annotations

import pytest

from pkpd.errors import PkpdError, UnitError
from pkpd.schedule import Course, Criterion, DoseModification, DoseRule, Gate

ANC = Criterion("neutrophils", 1.0)
PLT = Criterion("platelets", 50.0)


def rule(**changes):
    values = {"drug": "lenalidomide", "amount": 10.0, "unit": "mg", "days": (1, 2), "route": "oral"}
    return DoseRule(**{**values, **changes})


@pytest.mark.parametrize(
    ("line", "value", "meant"),
    [("neutrophils", 500, "0.5"), ("neutrophils", 1000, "1"), ("platelets", 20000, "20")],
)
def test_counts_per_microlitre_are_refused_with_the_value_meant(line, value, meant):
    with pytest.raises(UnitError, match=rf"cells/uL.*write {meant}\.$"):
        Criterion(line, value)


@pytest.mark.parametrize(("line", "value"), [("neutrophils", 20.0), ("platelets", 1000.0)])
def test_the_highest_thresholds_are_accepted(line, value):
    assert Criterion(line, value).at_least == value


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_thresholds_are_positive_and_finite(value):
    with pytest.raises(UnitError):
        Criterion("neutrophils", value)


def test_unknown_line():
    with pytest.raises(PkpdError, match=r"'anc'.*neutrophils, platelets"):
        Criterion("anc", 0.5)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"amount": -5.0}, "the amount is -5 mg"),
        ({"amount": float("nan")}, "the amount is nan"),
        ({"unit": "mg/L"}, "unknown unit 'mg/L'"),
        ({"days": (0, 1)}, "day 0 does not exist"),
        ({"hour": 24.0}, "hour 24 is not an hour"),
        ({"route": "im"}, "unknown route 'im'.*iv, oral, sc"),
        ({"duration_h": 1.0}, "route oral has no infusion time"),
        ({"route": "iv", "duration_h": 20.0, "hour": 6.0}, "up to 18 h"),
        ({"route": "iv", "duration_h": 25.0}, "24 h from hour 0 on each"),
        ({"cap_mg": 0.0}, "the largest dose is 0 mg"),
        ({"strengths_mg": (5.0, -1.0)}, "a capsule strength is -1"),
        ({"strengths_mg": (2.0, 5.0)}, "5 mg is not a multiple"),
        ({"strengths_mg": (1e-308, 5.0)}, "5 mg is not a multiple"),
        ({"strengths_mg": (2.5, 5.0), "cap_mg": 6.0}, "is not a multiple"),
        ({"drug": " "}, "no name"),
        ({"status": "guessed"}, "status is 'guessed'"),
    ],
)
def test_dose_rules_that_are_refused(changes, part):
    with pytest.raises(PkpdError, match=part):
        rule(**changes)


def test_a_day_long_infusion_from_hour_0_is_accepted():
    assert rule(route="iv", duration_h=24.0).duration_h == 24.0


def test_source_and_status_do_not_make_doses_differ():
    assert rule(source="a", status="read") == rule(source="b", status="assumed")


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"criteria": ()}, "no count is asked for"),
        ({"criteria": (ANC, Criterion("neutrophils", 0.5))}, "two thresholds for neutrophils"),
        ({"criteria": (ANC,), "join": "both"}, "join is 'both'.*all, any"),
        ({"criteria": (ANC,), "if_not_met": "wait"}, "if_not_met is 'wait'.*start, stop"),
        ({"criteria": (ANC,), "check_every_days": 0}, "check_every_days is 0"),
        ({"criteria": (ANC,), "max_wait_days": -1}, "max_wait_days is -1"),
    ],
)
def test_gates_that_are_refused(values, part):
    with pytest.raises(PkpdError, match=part):
        Gate(**values)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"hold_below": ()}, "hold_below is empty"),
        ({"resume_at": (ANC,)}, "holds for platelets but resume_at"),
        ({"resume_at": (ANC, Criterion("platelets", 30.0))}, "resumes at platelets 30 although"),
        ({"levels_mg": (5.0, 5.0), "reduce_on_resume": True}, "level 5 follows 5"),
        ({"levels_mg": (5.0, 7.5), "reduce_on_resume": True}, "levels that decrease"),
        ({"levels_mg": (5.0,)}, "levels are never used"),
        ({"reduce_on_resume": True}, "no lower level is given"),
        ({"levels_mg": (-5.0,), "reduce_on_resume": True}, "a level is -5"),
        ({"visit_every_days": 0}, "visit_every_days is 0"),
    ],
)
def test_modifications_that_are_refused(values, part):
    with pytest.raises(PkpdError, match=part):
        DoseModification("lenalidomide", **{"hold_below": (ANC, PLT), **values})


def test_a_drug_resumes_where_it_was_held_unless_told_otherwise():
    assert DoseModification("lenalidomide", (ANC, PLT)).resume_at == (ANC, PLT)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"doses": ()}, "gives no dose"),
        ({"cycle_days": 1}, "lenalidomide on day 2 is after the end of the 1-day cycle"),
        ({"cycles": 0}, "cycles is 0.*from 1"),
        ({"cycle_days": 2.5}, "cycle_days is 2.5"),
        ({"start_day": 0}, "start_day is 0.*from 1"),
        ({"doses": (rule(), rule(amount=5.0))}, "given twice on day 1 at hour 0"),
        (
            {"modifications": (DoseModification("cytarabine", (ANC,)),)},
            "for cytarabine, which it does not give; allowed: lenalidomide",
        ),
        (
            {
                "modifications": (
                    DoseModification("lenalidomide", (ANC,)),
                    DoseModification("lenalidomide", (PLT,)),
                )
            },
            "two modifications for lenalidomide contradict",
        ),
        (
            {
                "modifications": (
                    DoseModification(
                        "lenalidomide", (ANC,), levels_mg=(10.0, 5.0), reduce_on_resume=True
                    ),
                )
            },
            "10 mg, is not below its dose of 10 mg",
        ),
        (
            {
                "doses": (rule(), rule(amount=5.0, days=(3,))),
                "modifications": (
                    DoseModification(
                        "lenalidomide", (ANC,), levels_mg=(2.5,), reduce_on_resume=True
                    ),
                ),
            },
            "levels for lenalidomide have no meaning with doses of 5 mg, 10 mg",
        ),
    ],
)
def test_courses_that_are_refused(values, part):
    with pytest.raises(PkpdError, match=part):
        Course(**{"name": "treatment", "doses": (rule(),), "cycle_days": 28, **values})


def test_a_drug_may_be_given_twice_a_day():
    course = Course("treatment", (rule(), rule(hour=12.0)), 28)
    assert course.drugs == ("lenalidomide",)
