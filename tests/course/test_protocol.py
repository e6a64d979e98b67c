"""The vectorised walk through a regimen against the one-patient reference of `pkpd.schedule`."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkpd.course import protocol
from pkpd.schedule import Gate, administrations, daily, follow, on_off, plan
from pkpd.schedule.rules import Criterion, DoseModification

HORIZON = 70


def walk(regimen, counts):
    """Amounts [days, S] of one lane, and the first day of each course."""
    dosing = plan(regimen, counts.shape[0])
    tables = protocol.plan_tables(dosing)
    slot_drug = tuple(slot.drug_index for slot in dosing.slots)
    state = protocol.begin(tables, 1)
    amounts = []
    for day, morning in enumerate(counts):
        state, amount = protocol.one_day(
            state, jnp.asarray(day), tables, jnp.asarray(morning)[:, None], slot_drug
        )
        amounts.append(np.asarray(amount)[:, 0])
    return dosing, np.array(amounts), np.asarray(state.first_day)[:, 0]


def as_table(dosing, doses, days):
    table = np.zeros((days, len(dosing.slots)))
    for dose in doses:
        for s, slot in enumerate(dosing.slots):
            if (slot.drug, slot.unit) == (dose.drug, dose.unit) and slot.hour == dose.hour:
                table[dose.day - 1, s] += dose.amount
    return table


def two_courses(gate, between, changes):
    first = daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
    second = on_off("lenalidomide", "25 mg", on=10, off=4, cycles=2)
    second = second.with_modifications(*changes) if changes else second
    second = second.with_between(between) if between else second
    return first.then(second, start_day=15, gate=gate)


@st.composite
def cases(draw):
    level = st.sampled_from([0.3, 0.5, 1.0])
    gate = None
    if draw(st.booleans()):
        gate = Gate(
            (Criterion("neutrophils", draw(level)), Criterion("platelets", 30.0)),
            join=draw(st.sampled_from(["all", "any"])),
            check_every_days=draw(st.integers(1, 4)),
            max_wait_days=draw(st.integers(1, 14)),
            if_not_met=draw(st.sampled_from(["start", "stop"])),
        )
    between = None
    if draw(st.booleans()):
        between = Gate((Criterion("neutrophils", draw(level)),), max_wait_days=7)
    changes = ()
    if draw(st.booleans()):
        levels = draw(st.sampled_from([(15.0, 10.0), (5.0,), ()]))
        changes = (
            DoseModification(
                drug="lenalidomide",
                hold_below=(Criterion("neutrophils", draw(level)), Criterion("platelets", 25.0)),
                resume_at=(Criterion("neutrophils", 1.0), Criterion("platelets", 30.0)),
                levels_mg=levels,
                reduce_on_resume=bool(levels),
                visit_every_days=draw(st.integers(1, 7)),
            ),
        )
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 0.5, size=(HORIZON, 2)).cumsum(axis=0)
    counts = np.exp(np.clip(steps, -2.5, 2.5)) * np.array([0.8, 40.0])
    return two_courses(gate, between, changes), counts


def equals_the_reference(case):
    regimen, counts = case
    dosing, amounts, _ = walk(regimen, counts)
    expected = as_table(dosing, follow(regimen, counts).doses, HORIZON)
    np.testing.assert_allclose(amounts, expected, rtol=1e-12)


# each regimen is compiled anew, which takes a second
@settings(max_examples=15, deadline=None)
@given(cases())
def test_equals_the_one_patient_reference(case):
    equals_the_reference(case)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(cases())
def test_equals_the_one_patient_reference_for_many(case):
    equals_the_reference(case)


def test_calendar_of_a_fixed_regimen_equals_its_written_out_doses():
    regimen = two_courses(None, None, ())
    dosing = plan(regimen, HORIZON)
    assert dosing.is_static
    by_day, first_day = protocol.calendar(dosing)
    expected = as_table(dosing, administrations(regimen, HORIZON), HORIZON)
    np.testing.assert_allclose(by_day, expected)
    np.testing.assert_array_equal(first_day, [0, 14])
    _, amounts, walked = walk(regimen, np.full((HORIZON, 2), 100.0))
    np.testing.assert_allclose(amounts, expected)
    np.testing.assert_array_equal(walked, first_day)


def test_a_course_beyond_the_horizon_never_begins():
    regimen = two_courses(None, None, ())
    by_day, first_day = protocol.calendar(plan(regimen, 10))
    assert by_day[:, 1].sum() == 0
    np.testing.assert_array_equal(first_day, [0, -1])
