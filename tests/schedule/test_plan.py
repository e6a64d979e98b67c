"""The tables of a plan carry the whole meaning of a regimen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import counts, regimens

from pkpd.errors import PkpdError
from pkpd.schedule import (
    Administration,
    Criterion,
    DoseModification,
    DosingPlan,
    Gate,
    administrations,
    daily,
    follow,
    on_off,
    plan,
)


def carry_out(tables: DosingPlan, seen: np.ndarray) -> list[Administration]:
    """Run a plan from its arrays alone, one day at a time (written apart from `follow`)."""
    given_doses = []
    course, cycle, begun, first = 0, 0, None, None
    held = np.zeros(len(tables.drugs), dtype=bool)
    level = np.zeros(len(tables.drugs), dtype=int)
    due = max(int(tables.start_day[0]), 0)
    for day in range(tables.horizon_days):
        if begun is not None and day == begun + tables.cycle_days[course]:
            begun, due, cycle = None, day, cycle + 1
            if cycle == tables.cycles[course]:
                course, cycle, first = course + 1, 0, None
                held[:], level[:] = False, 0
                if course == len(tables.cycles):
                    break
                due = max(day, int(tables.start_day[course]))
        if begun is None and day >= due:
            which = 0 if cycle == 0 else 1
            need = tables.gate_threshold[course, which]
            waited = day - due
            met = seen[day][need > 0] >= need[need > 0]
            good = met.any() if tables.gate_any[course, which] else met.all()
            look = waited % tables.gate_every[course, which] == 0
            if need.max() == 0 or (look and good):
                begun = day
            elif waited >= tables.gate_wait[course, which]:
                if tables.gate_stop[course, which]:
                    break
                begun = day
            if begun is not None:
                first = begun  # of the cycle: visits are counted from it
        if first is not None:
            for k in range(len(tables.drugs)):
                hold, resume = tables.hold_below[course, k], tables.resume_at[course, k]
                if hold.max() == 0 or (day - first) % tables.visit_every[course, k]:
                    continue
                if not held[k]:
                    held[k] = (seen[day] < hold).any()
                elif (seen[day] >= resume).all():
                    held[k] = False
                    if tables.reduce_on_resume[course, k]:
                        level[k] = min(level[k] + 1, tables.n_levels[course, k] - 1)
        if begun is not None:
            for s, slot in enumerate(tables.slots):
                amount = tables.amount[course, day - begun, s]
                k = slot.drug_index
                if amount > 0 and not held[k]:
                    dose = amount * tables.level[course, k, level[k]]
                    given_doses.append(
                        Administration(day + 1, slot.hour, slot.drug, dose, slot.unit)
                    )
    return sorted(given_doses)


def same(left, right):
    assert [a[:3] + a[4:] for a in left] == [a[:3] + a[4:] for a in right]
    # the multiplier of a level is rounded once in float64
    np.testing.assert_allclose([a.amount for a in left], [a.amount for a in right], rtol=1e-14)


@given(regimens(), st.integers(1, 200))
def test_without_delays_the_plan_gives_the_planned_doses(regimen, horizon):
    tables = plan(regimen, horizon)
    assert tables.is_static
    zeros = np.zeros((horizon, 2))
    same(carry_out(tables, zeros), administrations(regimen, horizon))
    same(follow(regimen, zeros).doses, administrations(regimen, horizon))


@pytest.mark.slow
@settings(max_examples=150)
@given(regimens(static=False), st.data())
def test_plan_and_reference_agree_for_any_counts(regimen, data):
    horizon = data.draw(st.integers(1, 160))
    seen = data.draw(counts(horizon))
    same(carry_out(plan(regimen, horizon), seen), follow(regimen, seen).doses)


@given(regimens(static=False))
def test_high_counts_delay_nothing(regimen):
    horizon = regimen.last_day
    seen = np.full((horizon, 2), 1e6)
    outcome = follow(regimen, seen)
    assert outcome.doses == administrations(regimen, horizon)
    assert tuple(starts[0] for starts in outcome.starts) == regimen.start_days
    assert list(plan(regimen, horizon).planned_start + 1) == list(regimen.start_days)


@given(regimens(static=False), st.data())
def test_counts_never_add_doses(regimen, data):
    seen = data.draw(counts(regimen.last_day))
    given_doses = follow(regimen, seen).doses
    planned = administrations(regimen, 10_000)
    for drug in regimen.drugs:
        assert sum(a.amount for a in given_doses if a.drug == drug) <= (1 + 1e-12) * sum(
            a.amount for a in planned if a.drug == drug
        )


def test_shapes_and_padding():
    change = DoseModification(
        "lenalidomide", (Criterion("neutrophils", 1.0),), levels_mg=(5.0,), reduce_on_resume=True
    )
    regimen = daily("clofarabine", "5 mg/m^2", days="1-5/28", route="iv", duration="1 h").then(
        on_off("lenalidomide", "10 mg", 21, 14, cycles=2).with_modifications(change), start_day=36
    )
    tables = plan(regimen, 90)
    assert tables.amount.shape == (2, 35, 2)
    assert tables.amount[0].sum() == 25.0  # 5 x 5 mg/m^2
    assert tables.amount[1].sum() == 210.0  # 21 x 10 mg
    assert list(tables.start_day) == [-1, 35]
    assert list(tables.planned_start) == [0, 35]
    np.testing.assert_array_equal(tables.level[:, 1], [[1.0, 1.0], [1.0, 0.5]])
    np.testing.assert_array_equal(tables.n_levels, [[1, 1], [1, 2]])
    np.testing.assert_array_equal(tables.hold_below[1], [[0.0, 0.0], [1.0, 0.0]])
    assert not tables.is_static
    assert [slot.strength_mg for slot in tables.slots] == [0.0, 0.0]
    assert tables.course_names == ("clofarabine", "lenalidomide")
    with pytest.raises(PkpdError, match="horizon_days is 0"):
        plan(regimen, 0)


def test_a_gate_delays_day_by_day():
    gate = Gate((Criterion("neutrophils", 0.5),), check_every_days=3, max_wait_days=10)
    regimen = on_off("lenalidomide", "10 mg", 5, 5).then(
        on_off("lenalidomide", "5 mg", 2, 0), gate=gate
    )
    low = np.full((40, 2), 0.1)
    for recovery, start in ((1, 11), (11, 11), (12, 14), (14, 14), (15, 17), (21, 21), (30, 21)):
        seen = low.copy()
        seen[recovery - 1 :] = 100.0
        assert follow(regimen, seen).starts == ((1,), (start,)), recovery


def test_a_gate_that_is_never_met_stops_all_treatment():
    gate = Gate((Criterion("platelets", 50.0),), max_wait_days=4, if_not_met="stop")
    regimen = on_off("lenalidomide", "10 mg", 5, 2, cycles=3).with_between(gate)
    outcome = follow(regimen, np.full((60, 2), 10.0))
    assert outcome.stopped_on == 8 + 4
    assert [a.day for a in outcome.doses] == [1, 2, 3, 4, 5]


def test_holding_resuming_and_reducing():
    change = DoseModification(
        "lenalidomide",
        (Criterion("neutrophils", 1.0),),
        levels_mg=(5.0, 2.5),
        reduce_on_resume=True,
        visit_every_days=7,
    )
    regimen = on_off("lenalidomide", "10 mg", 28, 0, cycles=3).with_modifications(change)
    seen = np.full((84, 2), 5.0)
    seen[9:17, 0] = 0.9  # days 10 to 17: seen on the visit of day 15
    seen[30:50, 0] = 0.4  # days 31 to 50: seen on the visit of day 36
    seen[60:61, 0] = 0.1  # day 61 only: no visit
    seen[70, 0] = 0.1  # day 71: visit
    doses = {a.day: a.amount for a in follow(regimen, seen).doses}
    assert set(range(1, 85)) - set(doses) == {*range(15, 22), *range(36, 57), *range(71, 78)}
    assert {doses[day] for day in range(1, 15)} == {10.0}
    assert {doses[day] for day in range(22, 36)} == {5.0}
    assert {doses[day] for day in range(57, 71)} == {2.5}
    assert {doses[day] for day in range(78, 85)} == {2.5}  # the lowest level stays


def test_counts_of_another_shape_are_refused():
    with pytest.raises(PkpdError, match=r"shape \(5,\)"):
        follow(on_off("lenalidomide", "10 mg", 5, 2), np.ones(5))
