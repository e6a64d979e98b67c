"""Regimens built in protocol words."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import regimens

from pkpd.errors import PkpdError
from pkpd.schedule import (
    Course,
    Criterion,
    DoseModification,
    Gate,
    Regimen,
    administrations,
    daily,
    describe,
    on_off,
)

GATE = Gate((Criterion("neutrophils", 0.5), Criterion("platelets", 25.0)))
CLOFARABINE = daily("clofarabine", "5 mg/m^2", days="1-5/28", route="iv", duration="1 h")


def days_of(regimen, drug, horizon=1000):
    return [a.day for a in administrations(regimen, horizon) if a.drug == drug]


def test_a_sequential_protocol():
    regimen = CLOFARABINE.then(
        on_off("lenalidomide", "25 mg", on=21, off=7, cycles=1), start_day=29, gate=GATE
    )
    assert days_of(regimen, "clofarabine") == [1, 2, 3, 4, 5]
    assert days_of(regimen, "lenalidomide") == list(range(29, 50))
    assert regimen.start_days == (1, 29)
    assert regimen.last_day == 56
    assert regimen.courses[1].gate == GATE


def test_long_maintenance_follows_without_a_gap():
    regimen = CLOFARABINE.then(on_off("lenalidomide", "25 mg", on=21, off=7)).then(
        on_off("lenalidomide", "10 mg", on=28, off=0, cycles=12)
    )
    assert [course.name for course in regimen.courses] == [
        "clofarabine",
        "lenalidomide",
        "lenalidomide 2",
    ]
    assert regimen.last_day == 56 + 12 * 28
    assert days_of(regimen, "lenalidomide") == [*range(29, 50), *range(57, 57 + 336)]


def test_cycles_of_two_drugs():
    regimen = (
        daily("mitoxantrone", "8 mg/m^2", days="4-8", route="iv", duration="30 min")
        .together(daily("lenalidomide", "10 mg", days="1-14", route="oral"))
        .repeat(cycles=4, cycle_days=42)
    )
    assert regimen.courses[0].name == "mitoxantrone + lenalidomide"
    assert days_of(regimen, "mitoxantrone")[:6] == [4, 5, 6, 7, 8, 46]
    assert len(days_of(regimen, "lenalidomide")) == 4 * 14
    assert regimen.last_day == 168


def test_a_regimen_of_several_courses_keeps_its_own_gaps():
    later = CLOFARABINE.then(on_off("lenalidomide", "10 mg", on=21, off=7), start_day=36)
    assert CLOFARABINE.then(later).start_days == (1, 29, 64)
    assert CLOFARABINE.then(later, start_day=31).start_days == (1, 31, 66)
    assert CLOFARABINE.then(CLOFARABINE.shift(7)).start_days == (1, 36)


@pytest.mark.parametrize(
    ("build", "part"),
    [
        (lambda: CLOFARABINE.then(CLOFARABINE, start_day=28), "starts on day 28.*lasts to day 28"),
        (lambda: CLOFARABINE.repeat(0), "cycles is 0"),
        (lambda: CLOFARABINE.repeat(2).repeat(2), "2 cycles already"),
        (lambda: CLOFARABINE.repeat(2, cycle_days=4), "day 5 is after the end of the 4-day"),
        (lambda: CLOFARABINE.repeat(2, cycle_days=0), "cycle_days is 0"),
        (lambda: daily("x", "5 mg", days="1", route="oral", cycle_days=0), "cycle_days is 0"),
        (lambda: CLOFARABINE.then(CLOFARABINE).repeat(2), "has 2 courses"),
        (lambda: CLOFARABINE.together(CLOFARABINE), "clofarabine is given twice on day 1"),
        (
            lambda: CLOFARABINE.together(on_off("lenalidomide", "5 mg", 21, 7, cycles=2)),
            "cannot be one course",
        ),
        (lambda: CLOFARABINE.shift(-1), "start_day is 0"),
        (lambda: on_off("lenalidomide", "5 mg", on=0, off=7), "on is 0"),
        (lambda: on_off("lenalidomide", "5 mg", on=21, off=-1), "off is -1"),
        (
            lambda: daily("x", "5 mg", days="1-21/28", route="oral", cycle_days=35),
            "say a 28-day cycle, cycle_days says 35",
        ),
        (lambda: Regimen(()), "no course"),
        (lambda: CLOFARABINE.course("lenalidomide"), "no course 'lenalidomide'"),
        (
            lambda: CLOFARABINE.then(CLOFARABINE, gate=GATE).then(
                Regimen(CLOFARABINE.then(CLOFARABINE, gate=GATE).courses[1:]), gate=GATE
            ),
            "has a gate already",
        ),
    ],
)
def test_regimens_that_are_refused(build, part):
    with pytest.raises(PkpdError, match=part):
        build()


def test_describe_says_what_a_protocol_says():
    change = DoseModification(
        "lenalidomide",
        (Criterion("neutrophils", 1.0), Criterion("platelets", 30.0)),
        levels_mg=(5.0, 2.5),
        reduce_on_resume=True,
    )
    regimen = CLOFARABINE.then(
        on_off("lenalidomide", "10 mg", 21, 7, cycles=2, strengths_mg=(2.5, 5.0))
        .with_modifications(change)
        .with_between(GATE),
        start_day=29,
        gate=Gate((Criterion("neutrophils", 1.0),), max_wait_days=14, if_not_met="stop"),
    )
    assert describe(regimen).splitlines() == [
        "From day 1, 1 cycle of 28 days (clofarabine):",
        "  clofarabine 5 mg/m^2 IV over 1 h on days 1-5",
        "Then from day 29, 2 cycles of 28 days (lenalidomide):",
        "  lenalidomide 10 mg by mouth on days 1-21, rounded to 2.5 mg",
        "  starts once neutrophils >= 1 x 10^9/L (looked at daily; after 14 days never, and all "
        "treatment stops)",
        "  each later cycle starts once neutrophils >= 0.5 and platelets >= 25 x 10^9/L (looked "
        "at daily; after 28 days anyway)",
        "  lenalidomide is held at neutrophils < 1 or platelets < 30 x 10^9/L (visits every 7 "
        "days) and resumed at neutrophils >= 1 and platelets >= 30 x 10^9/L, each time at the "
        "next lower dose: 5 mg, then 2.5 mg",
    ]


@given(regimens(), st.integers(0, 40))
def test_shifting_moves_every_dose(regimen, days):
    horizon = regimen.last_day
    moved = administrations(regimen.shift(days), horizon + days)
    assert moved == [a._replace(day=a.day + days) for a in administrations(regimen, horizon)]


@given(regimens(), regimens())
def test_then_gives_both_regimens(first, second):
    both = first.then(second)
    end = first.last_day
    expected = administrations(first, end)
    expected += [a._replace(day=a.day + end) for a in administrations(second, second.last_day)]
    assert Counter(administrations(both, both.last_day)) == Counter(expected)


@given(regimens(), st.integers(1, 5))
def test_repeating_multiplies_the_doses(regimen, cycles):
    one = Regimen((replace(regimen.courses[0], cycles=1),))
    many = one.repeat(cycles)
    assert len(administrations(many, many.last_day)) == cycles * len(
        administrations(one, one.last_day)
    )


@given(regimens())
def test_drugs_given_together_are_the_union(regimen):
    mine = Regimen(regimen.courses[:1])
    course = regimen.courses[0]
    doses = tuple(replace(rule, drug=f"{rule.drug} b", hour=20.0, duration_h=0.0)
                  for rule in course.doses)  # fmt: skip
    its = Regimen((replace(course, doses=doses),))
    end = mine.last_day
    together = Counter(administrations(mine.together(its), end))
    assert together == Counter(administrations(mine, end)) + Counter(administrations(its, end))


def test_several_doses_a_day_have_their_hours():
    four = daily("cytarabine", "25 mg/m^2", "1-7", "iv", "6 h", hour=[0, 6, 12, 18])
    (course,) = four.courses
    assert [rule.hour for rule in course.doses] == [0, 6, 12, 18]
    assert four.last_day == 7
    with pytest.raises(PkpdError, match="hour is an empty list; give one"):
        daily("cytarabine", "25 mg/m^2", "1-7", "iv", hour=[])


def test_lists_are_taken_as_tuples_are():
    """Schedules are looked up by what they are."""
    least, rule = Criterion("neutrophils", 1.0), daily("lenalidomide", "5 mg", "1-5", "oral")

    def made(kind):
        hold = DoseModification("lenalidomide", kind([least]), kind([least]))
        doses = kind(rule.courses[0].doses)
        course = Course("one", doses, 28, gate=Gate(kind([least])), modifications=kind([hold]))
        return Regimen(kind([course]))

    assert made(list) == made(tuple)
    assert hash(made(list)) == hash(made(tuple))
