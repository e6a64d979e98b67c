"""Hypothesis strategies: regimens as a protocol could have them, and blood counts."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from pkpd.schedule import LINES, Course, Criterion, DoseModification, DoseRule, Gate, Regimen

DRUGS = ("clofarabine", "lenalidomide", "cytarabine")
THRESHOLDS = {"neutrophils": (0.5, 1.0), "platelets": (20.0, 50.0)}


def _some_days(cycle_days: int) -> st.SearchStrategy[tuple[int, ...]]:
    days = st.integers(1, cycle_days)
    return st.sets(days, min_size=1, max_size=min(cycle_days, 10)).map(lambda s: tuple(sorted(s)))


@st.composite
def criteria(draw: st.DrawFn) -> tuple[Criterion, ...]:
    lines = draw(st.sampled_from([LINES, LINES[:1], LINES[1:]]))
    return tuple(Criterion(line, draw(st.sampled_from(THRESHOLDS[line]))) for line in lines)


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    return Gate(
        draw(criteria()),
        join=draw(st.sampled_from(["all", "any"])),
        check_every_days=draw(st.integers(1, 4)),
        max_wait_days=draw(st.integers(0, 12)),
        if_not_met=draw(st.sampled_from(["start", "stop"])),
    )


@st.composite
def dose_rules(draw: st.DrawFn, drug: str, cycle_days: int) -> DoseRule:
    route = draw(st.sampled_from(["iv", "oral", "sc"]))
    hour = float(draw(st.sampled_from([0, 6, 12])))
    strengths = (2.5, 5.0, 10.0) if route == "oral" and draw(st.booleans()) else ()
    return DoseRule(
        drug=drug,
        amount=float(draw(st.integers(1, 50))),
        unit=draw(st.sampled_from(["mg", "mg/m^2", "mg/kg"])),
        days=draw(_some_days(cycle_days)),
        hour=hour,
        route=route,
        duration_h=draw(st.sampled_from([0.0, 0.5, 12.0])) if route == "iv" else 0.0,
        cap_mg=draw(st.sampled_from([None, 40.0])),
        strengths_mg=strengths,
    )


@st.composite
def modifications(draw: st.DrawFn, rule: DoseRule) -> DoseModification:
    hold = draw(criteria())
    factor = draw(st.sampled_from([1.0, 1.5]))
    reduce = draw(st.booleans())
    levels = (0.5 * rule.amount, 0.2 * rule.amount)[: draw(st.integers(1, 2))] if reduce else ()
    return DoseModification(
        rule.drug,
        hold,
        tuple(Criterion(c.line, factor * c.at_least) for c in hold),
        levels_mg=levels,
        reduce_on_resume=reduce,
        visit_every_days=draw(st.integers(1, 8)),
    )


@st.composite
def courses(draw: st.DrawFn, name: str, static: bool) -> Course:
    cycle_days = draw(st.integers(1, 30))
    drugs = draw(st.sets(st.sampled_from(DRUGS), min_size=1, max_size=3).map(sorted))
    doses = [draw(dose_rules(drug, cycle_days)) for drug in drugs]
    changes: list[DoseModification] = []
    if not static:
        changes = [draw(modifications(rule)) for rule in doses if draw(st.booleans())]
    return Course(
        name=name,
        doses=tuple(doses),
        cycle_days=cycle_days,
        cycles=draw(st.integers(1, 3)),
        gate=None if static else draw(st.none() | gates()),
        between=None if static else draw(st.none() | gates()),
        modifications=tuple(changes),
    )


@st.composite
def regimens(draw: st.DrawFn, static: bool = True) -> Regimen:
    """Regimens of one to three courses; without gates and modifications if `static`."""
    regimen = None
    for n in range(draw(st.integers(1, 3))):
        course = Regimen((draw(courses(f"course {n + 1}", static)),))
        gap = draw(st.sampled_from([None, 0, 3]))
        if regimen is None:
            regimen = course if gap is None else course.shift(gap)
        else:
            start = None if gap is None else regimen.last_day + 1 + gap
            regimen = regimen.then(course, start_day=start)
    assert regimen is not None
    return regimen


@st.composite
def counts(draw: st.DrawFn, days: int) -> np.ndarray:
    """Counts ``[days, 2]`` that wander across the thresholds of :func:`criteria`."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    walk = np.cumsum(rng.normal(0.0, 0.35, size=(days, 2)), axis=0)
    return np.exp(np.clip(walk, -3.0, 3.0)) * np.array([0.9, 45.0])
