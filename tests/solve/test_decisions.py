"""The decisions of a morning against the one-patient reference of `pkpd.schedule`."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pkpd.schedule import Gate, administrations, daily, follow, on_off, plan
from pkpd.schedule.rules import Criterion, DoseModification
from pkpd.solve.compiled.decisions import NEVER, Given, begin, decide, new_progress, plan_rules

HORIZON = 70


def walk(regimen, *counts):
    """Amounts ``[patients, days, S]`` and what was given, for counts ``[days, 2]`` of each."""
    counts = np.array(counts)
    width, days, _ = counts.shape
    dosing = plan(regimen, days)
    rules = plan_rules(dosing)
    courses, drugs = rules.hold_below.shape[:2]
    out = Given(
        np.zeros((width, courses), np.int64),
        np.zeros((width, courses), np.int64),
        np.zeros((width, drugs), np.int64),
        np.zeros((width, drugs)),
        np.full((width, len(dosing.course_names)), NEVER),
        np.zeros((width, days), np.int64),
    )
    state = new_progress(rules, width)
    begin(rules, state)
    amounts = np.zeros((width, days, len(dosing.slots)))
    today, none = np.zeros((width, len(dosing.slots))), np.zeros((width, 0))
    for day in range(days):
        seen = np.zeros((3, width))
        seen[:2] = counts[:, day].T
        decide(0, width, day, NEVER, seen, rules, state, out, today, none)
        amounts[:, day] = today
    # a bit for each drug that was given, as the amounts of its slots say
    of_slot = np.array([slot.drug_index for slot in dosing.slots])
    for k in range(drugs):
        given = (amounts[:, :, of_slot == k] > 0.0).any(axis=2)
        np.testing.assert_array_equal(out.dosed >> k & 1, given)
    return dosing, amounts, out


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
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    steps = rng.normal(0.0, 0.5, size=(3, HORIZON, 2)).cumsum(axis=1)
    counts = np.exp(np.clip(steps, -2.5, 2.5)) * np.array([0.8, 40.0])
    return two_courses(gate, between, changes), counts


@settings(max_examples=60, deadline=None)
@given(cases())
def test_equals_the_one_patient_reference(case):
    regimen, counts = case
    dosing, amounts, out = walk(regimen, *counts)
    for own, given_amounts, started, first, following in zip(
        counts, amounts, out.cycles_started, out.first_day, out.next_cycle_day, strict=True
    ):
        followed = follow(regimen, own)
        expected = as_table(dosing, followed.doses, HORIZON)
        np.testing.assert_allclose(given_amounts, expected, rtol=1e-12)
        assert started.tolist() == [len(days) for days in followed.starts]
        assert first.tolist() == [days[0] if days else 0 for days in followed.starts]
        for mine, days in zip(following, followed.starts, strict=True):
            later = [d for start in followed.starts for d in start if days and d > days[0]]
            assert mine == min(later, default=NEVER)


def test_a_fixed_regimen_equals_its_written_out_doses():
    regimen = two_courses(None, None, ())
    dosing, (amounts,), out = walk(regimen, np.full((HORIZON, 2), 100.0))
    assert dosing.is_static
    expected = as_table(dosing, administrations(regimen, HORIZON), HORIZON)
    np.testing.assert_allclose(amounts, expected)
    np.testing.assert_array_equal(out.first_day, [[1, 15]])
    np.testing.assert_array_equal(out.doses_given, [[5, 20]])
    np.testing.assert_array_equal(out.next_cycle_day[:, 0], [15])


def test_a_course_beyond_the_horizon_never_begins():
    _, (amounts,), out = walk(two_courses(None, None, ()), np.full((10, 2), 100.0))
    assert amounts[:, 1].sum() == 0
    np.testing.assert_array_equal(out.first_day, [[1, 0]])
    assert out.next_cycle_day.tolist() == [[NEVER, NEVER]]
