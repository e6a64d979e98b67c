"""A further cycle: its holds, the cycles it replaces, and doses that were given."""

from __future__ import annotations

import pytest

from pkpd.forecasting.doses import as_given, continuation, next_cycle
from pkpd.forecasting.seen import GivenDose
from pkpd.schedule import Course, Criterion, DoseModification, DoseRule, Gate, Regimen


def weekly(cycles=3, levels=(20.0, 10.0)):
    """Weekly doses of 25 mg in cycles of 21 days, held and reduced by neutrophils."""
    change = DoseModification(
        "lenalidomide",
        (Criterion("neutrophils", 1.0),),
        levels_mg=levels,
        reduce_on_resume=bool(levels),
    )
    course = Course(
        "treatment",
        (DoseRule("lenalidomide", 25.0, "mg", days=(1, 8, 15), route="oral"),),
        21,
        cycles=cycles,
        between=Gate((Criterion("neutrophils", 1.0),)),
        modifications=(change,),
    )
    return Regimen((course,))


@pytest.mark.parametrize(
    ("share", "levels"), [(1.0, (20.0, 10.0)), (0.99, (20.0, 10.0)), (0.6, (10.0,)), (0.4, ())]
)
def test_holds_stay_at_other_doses_and_levels_below_them(share, levels):
    new = next_cycle(weekly(), 64, share).courses[-1]
    (change,) = new.modifications
    assert change.hold_below == (Criterion("neutrophils", 1.0),)
    assert change.levels_mg == levels
    assert change.reduce_on_resume == bool(levels)


def days_of(regimen, until=200):
    """Planned dosing days."""
    return sorted(
        start + cycle * course.cycle_days + day - 1
        for course, start in zip(regimen.courses, regimen.start_days, strict=True)
        for rule in course.doses
        for cycle in range(course.cycles)
        for day in rule.days
        if start + cycle * course.cycle_days + day - 1 <= until
    )


def test_a_planned_cycle_that_has_not_begun_gives_way_to_the_new_one():
    begun = next_cycle(weekly(), 29)
    assert days_of(begun) == [1, 8, 15, 22, 29, 36, 43]
    moved = next_cycle(weekly(), 29, after=20)
    assert days_of(moved) == [1, 8, 15, 29, 36, 43]
    late = next_cycle(weekly(), 50, after=30)
    assert days_of(late) == [1, 8, 15, 22, 29, 36, 50, 57, 64]
    cut = next_cycle(weekly(), 36, after=30)
    assert days_of(cut) == [1, 8, 15, 22, 29, 36, 43, 50]
    assert all(course.modifications for course in cut.courses)  # day 22 is a day of a visit
    other = weekly(cycles=1).then(Regimen((Course("later", weekly().courses[0].doses, 21),)))
    assert days_of(next_cycle(other, 43, after=10)) == days_of(next_cycle(other, 43))


def test_with_doses_as_given_the_further_cycle_is_that_of_the_plan():
    plan = weekly()
    given = as_given(plan, [GivenDose(day, "lenalidomide", 25.0) for day in (1, 8)], 12)
    assert given.courses[0].modifications == ()
    new = continuation(given, "29 at 0.6", 12, plan)
    assert days_of(new) == [1, 8, 15, 29, 36, 43]
    assert new.courses[-1].doses[0].amount == 15.0
    assert new.courses[-1].modifications[0].levels_mg == (10.0,)
