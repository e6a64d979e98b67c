"""One count curve, judged on the curve, in mornings, and by plain loops written apart.

Differences between the curve and its mornings are those of time resolution only. A recovery that
begins between two mornings is seen on the second; so a morning's recovery is later by less than a
day, never earlier. A nadir between mornings is deeper than the lowest morning. A low spell counts
whole days in mornings, so its length differs by less than a day. Two things could differ by more
and do not occur here, because the curves are monotone between mornings and the cards ask for no
sustained recovery: a dip that lies wholly between two mornings, and a stay above the threshold
whose length lies within a day of ``sustained_days``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plain_judge import judge, longest_spell, recovery
from plain_judge import recovery_of_cycle as plain_recovery_of_cycle
from scipy.interpolate import PchipInterpolator

from pkpd.cards import load_rules
from pkpd.course.course import Course, Curve
from pkpd.endpoints.dlt import DLTStatus, evaluate_rule
from pkpd.endpoints.recovery import (
    RecoveryDefinition,
    days_below,
    line_outcomes,
    nadir,
    recovery_after,
    recovery_days,
    recovery_of_cycle,
)
from pkpd.endpoints.results import RecoveryStatus
from pkpd.endpoints.split import split

DAYS = 90
RULES = [rule for rule in load_rules().values() if rule.can_be_simulated]
CONFIRMED = next(
    replace(rule, name="confirmed", sustained_days=3.0)
    for rule in RULES
    if rule.kind == "not_recovered_from_nadir"
)
"""A recovery that the next cycle breaks off is not confirmed after it."""
WORDS = {DLTStatus.NO_DLT: "none", DLTStatus.DLT: "dlt", DLTStatus.DIED: "died"}


def dips(*spans, low=0.1, normal=4.0, days=DAYS):
    """Neutrophils that fall to ``low`` between days and come back over four days each."""
    logs = np.full(days, np.log(normal))
    for first, last in spans:
        day = np.arange(days)
        depth = np.clip(np.minimum(day - first + 4.0, last - day + 4.0) / 4.0, 0.0, 1.0)
        logs = np.minimum(logs, np.log(normal) + depth * np.log(low / normal))
    return np.exp(logs)


def at_threshold():
    """Falls below 0.5 on day 10 and is exactly 0.5 (platelets 20) from day 38 to day 60."""
    counts = dips((10, 34))
    counts[38:61] = 0.5
    counts[34:38] = 0.1
    counts[61:] = 4.0
    return counts


CASES = {
    "smooth": (dips((10, 30)), [], None),
    "late": (dips((10, 50)), [], None),
    "twice": (dips((8, 18), (30, 48)), [], None),
    "shallow": (dips((12, 30), low=0.7), [], None),
    "transfused": (dips((10, 36)), [18, 25, 36, 38], None),
    "supported once": (dips((10, 20)), [14, 17], None),
    "dying": (dips((10, 60)), [12], 25.0),
    "dying after the look": (dips((10, 60)), [], 58.0),
    "never low": (dips(), [], None),
    "never recovering": (np.minimum(dips((10, 89)), dips((40, 89))), [], None),
    "at threshold": (at_threshold(), [], None),
}


def course_of(cases):
    """All cases as lanes: platelets are 40 times the neutrophils."""
    counts = np.array([c for c, _, _ in cases])
    transfused = np.zeros(counts.shape, dtype=bool)
    for lane, (_, given, _) in enumerate(cases):
        transfused[lane, given] = True
    day = np.array([np.inf if d is None else d for _, _, d in cases])
    hazard = (np.arange(counts.shape[1])[None, :] >= day[:, None]).astype(float)
    # a last node, so that the curve goes on to the end of the last day
    held = np.column_stack([counts, counts[:, -1]])
    time = np.arange(held.shape[1], dtype=float)
    logs = {"neutrophils": np.log(held), "platelets": np.log(40.0 * held)}
    slopes = {k: PchipInterpolator(24.0 * time, v, axis=1).derivative()(24.0 * time)
              for k, v in logs.items()}  # fmt: skip
    return Course(
        mornings={"neutrophils": counts, "platelets": 40.0 * counts},
        platelets_with_transfused=40.0 * counts,
        transfused=transfused,
        first_day=np.ones((len(cases), 1), dtype=np.int64),
        course_names=("treatment",),
        cumulative_hazard=hazard,
        death_score=np.full(len(cases), 0.5),
        curve=Curve(24.0 * time, logs, slopes),
    )


def random_cases(number, seed):
    """Wandering counts with transfusions and deaths."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        steps = rng.normal(0.0, 0.35, DAYS)
        counts = 0.8 * np.exp(np.clip(np.cumsum(steps), -3.0, 2.0))
        given = np.flatnonzero(rng.random(DAYS) < 0.04).tolist()
        died = float(rng.integers(1, DAYS)) if rng.random() < 0.3 else None
        found.append((counts, given, died))
    return found


def lines_of(counts):
    return {"neutrophils": list(counts), "platelets": [40.0 * x for x in counts]}


def fine(course, lane, step):
    """Times and counts of one lane between the mornings, from scipy's own Hermite spline."""
    from scipy.interpolate import CubicHermiteSpline

    curve = course.curve
    time = np.arange(0.0, course.days + step / 2, step)
    values = {}
    for line, logs in curve.log_count.items():
        spline = CubicHermiteSpline(curve.time_h, logs[lane], curve.slope[line][lane])
        # rounding must not push a count that is at its threshold below it
        values[line] = list(np.exp(spline(24.0 * time)) * (1.0 + 1e-12))
    return list(time), values


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_card_in_mornings_is_the_plain_judge(rule):
    rule = replace(rule, clock="first_dose")
    cases = [*CASES.values(), *random_cases(150, 3)]
    found = evaluate_rule(rule, course_of(cases))
    seen = set()
    for (counts, given, died), status in zip(cases, found.status, strict=True):
        expected = judge(rule, list(range(DAYS)), lines_of(counts), given, died=died)
        seen.add(expected)
        assert WORDS[DLTStatus(status)] == expected
    assert seen == {"dlt", "none", "died"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_card_on_the_curve_is_the_plain_judge_between_mornings(rule):
    """Random curves are as good as never decided within a step of the fine grid."""
    rule = replace(rule, clock="first_dose")
    cases = [*CASES.values(), *random_cases(25, 4)]
    course = course_of(cases)
    found = evaluate_rule(rule, course, resolution="continuous")
    step = 1.0 / 64.0
    for lane, (_, given, died) in enumerate(cases):
        time, lines = fine(course, lane, step)
        expected = judge(rule, time, lines, given, step=step, died=died)
        assert WORDS[DLTStatus(found.status[lane])] == expected, lane


@pytest.mark.parametrize("days", [0.0, 3.0])
@pytest.mark.parametrize("line", ["neutrophils", "platelets"])
def test_recovery_in_three_ways(line, days):
    course = course_of(list(CASES.values()))
    threshold = {"neutrophils": 0.5, "platelets": 20.0}[line]
    defined = RecoveryDefinition(days, 7.0)
    words = {"definition": defined}
    seen = line_outcomes(course, line, threshold, **words)
    exact = line_outcomes(course, line, threshold, resolution="continuous", **words)
    morning, curve = recovery_days(seen.sustained)[0], recovery_days(exact.sustained)[0]
    for lane, (name, (counts, given, died)) in enumerate(CASES.items()):
        alive = DAYS if died is None else int(died)
        need, day = recovery(
            list(range(alive)), lines_of(counts)[line][:alive], threshold,
            mornings=max(1, int(days)), transfused=[g for g in given if g < alive],
            untransfused=7 if line == "platelets" else 0,
        )  # fmt: skip
        if need is None:
            assert seen.sustained.status[0, lane] == 1, name
            assert exact.sustained.status[0, lane] == 1, name
            assert morning[lane] == curve[lane] == 0.0
            continue
        assert seen.first_below_day[0, lane] == need
        assert need - 1.0 < exact.first_below_day[0, lane] <= need
        assert morning[lane] == (np.inf if day is None else day), name
        if np.isfinite(day or np.inf):
            # seen on the morning after it began
            assert morning[lane] - 1.0 < curve[lane] <= morning[lane], name
        else:
            assert np.isinf(curve[lane]), name


def test_low_days_and_nadirs_differ_by_less_than_a_day():
    course = course_of(list(CASES.values()))
    total, longest = days_below(course, "neutrophils", 0.5)
    exact_total, exact_longest = days_below(course, "neutrophils", 0.5, resolution="continuous")
    lowest, when = nadir(course, "neutrophils")
    exact_lowest, exact_when = nadir(course, "neutrophils", resolution="continuous")
    for lane, (counts, _, died) in enumerate(CASES.values()):
        alive = DAYS if died is None else int(died)
        plain, _ = longest_spell(list(range(alive)), list(counts[:alive]), 0.5, np.inf, 1.0)
        assert longest[lane] == plain
        spells = 2  # of one lane; each is longer or shorter by less than a day
        assert abs(total[lane] - exact_total[lane]) <= spells
        assert abs(longest[lane] - exact_longest[lane]) <= 1.0
        assert lowest[lane] == counts[:alive].min()
        assert when[lane] == counts[:alive].argmin()
        assert exact_lowest[lane] == pytest.approx(lowest[lane], rel=1e-9)
        assert exact_when[lane] <= when[lane] + 1.0


SEARCH, UNTIL = 27, 35
"""Last dose of the first cycle and first dose of the second."""
CYCLES = {
    "back before the last dose, low again in cycle 2": dips((8, 18), (44, 58)),
    "back between the cycles": dips((10, 28), (44, 58)),
    "back in cycle 2": dips((10, 40), (56, 60)),
    "low in cycle 2 alone": dips((44, 58)),
    "never low": dips(),
    "never back": np.minimum(dips((10, 89)), dips((40, 89))),
}


@pytest.mark.parametrize("mornings", [1, 4])
def test_the_next_cycle_ends_the_search(mornings):
    cases = [*((counts, [], None) for counts in CYCLES.values()), *random_cases(200, 8)]
    course = course_of(cases)
    definition = RecoveryDefinition(sustained_days=mornings, untransfused_days=5.0)
    found = recovery_after(
        course, "platelets", 20.0, definition=definition, search=SEARCH, until=UNTIL
    )
    seen, need = found.recovery, found.need_day
    told = []
    for lane, (counts, given, died) in enumerate(cases):
        alive = DAYS if died is None else int(died)
        if alive <= SEARCH:
            continue
        times, values = list(range(alive)), [40.0 * x for x in counts[:alive]]
        given = [day for day in given if day < alive]
        how = {"mornings": mornings, "transfused": given, "untransfused": 5.0}
        fall, day = plain_recovery_of_cycle(times, values, 20.0, UNTIL, after=SEARCH, **how)
        assert need[0, lane] == (np.inf if fall is None else fall)
        status = seen.status[0, lane]
        told.append(status)
        if fall is None:
            how["transfused"] = [day for day in given if day <= SEARCH]
            low = recovery(times[: SEARCH + 1], values[: SEARCH + 1], 20.0, after=0.0, **how)[0]
            expected = "NEVER_BELOW" if low is None else "BACK_BEFORE"
            assert status == RecoveryStatus[expected]
            assert recovery_days(seen)[0, lane] == 0.0
        elif day is None or day > UNTIL:
            assert status == (RecoveryStatus.CENSORED if day is None else RecoveryStatus.NEXT_CYCLE)
            assert np.isinf(recovery_days(seen)[0, lane])
        else:
            assert status == RecoveryStatus.RECOVERED
            assert recovery_days(seen)[0, lane] == day
    assert set(told) == {status for status in RecoveryStatus if status.name != "NOT_EVALUABLE"}
    names = ("BACK_BEFORE", "RECOVERED", "NEXT_CYCLE", "NEVER_BELOW", "NEVER_BELOW", "CENSORED")
    assert told[: len(names)] == [RecoveryStatus[name] for name in names]


@pytest.mark.parametrize("rule", [*RULES, CONFIRMED], ids=lambda rule: rule.name)
def test_every_card_judges_the_first_of_two_cycles_as_the_plain_judge_does(rule):
    rule = replace(rule, clock="first_dose")
    cases = [*((counts, [], None) for counts in CYCLES.values()), *random_cases(150, 5)]
    found = evaluate_rule(rule, course_of(cases), search=SEARCH, until=UNTIL)
    for (counts, given, died), status in zip(cases, found.status, strict=True):
        alive = DAYS if died is None else int(died)
        if alive <= SEARCH:
            continue
        lines = {k: v[:alive] for k, v in lines_of(counts).items()}
        asked = judge(rule, list(range(alive)), lines, given, died=died, search=SEARCH, until=UNTIL)
        assert WORDS.get(DLTStatus(status)) == asked


@pytest.mark.parametrize("resolution", ["morning", "continuous"])
def test_a_second_cycle_moves_no_recovery_of_the_first(resolution):
    # the same counts until the second cycle, and then any
    one = course_of([(dips((10, 30)), [], None), (dips((8, 18)), [], None)])
    two = course_of([(dips((10, 30), (44, 60)), [], None), (dips((8, 18), (44, 60)), [], None)])
    words = {"resolution": resolution, "search": SEARCH}
    alone = recovery_days(recovery_after(one, "neutrophils", 0.5, **words).recovery)
    both = recovery_days(recovery_after(two, "neutrophils", 0.5, until=UNTIL, **words).recovery)
    np.testing.assert_allclose(both, alone)
    assert both[0, 1] == 0.0


def test_falls_after_the_cycle_are_left_out_as_the_plain_judge_does():
    cases = [*((counts, [], None) for counts in CYCLES.values()), *random_cases(200, 8)]
    definition = RecoveryDefinition(sustained_days=2, untransfused_days=5.0)
    seen = recovery_after(course_of(cases), "platelets", 20.0, definition=definition, search=SEARCH)
    found = recovery_of_cycle(seen, UNTIL)
    told = []
    for lane, (counts, given, died) in enumerate(cases):
        alive = DAYS if died is None else int(died)
        if alive <= SEARCH:
            continue
        times, values = list(range(alive)), [40.0 * x for x in counts[:alive]]
        how = {"mornings": 2, "untransfused": 5.0}
        given = [day for day in given if day < alive]
        fall, day = recovery(times, values, 20.0, after=SEARCH, transfused=given, **how)
        status = RecoveryStatus(found.status[0, lane])
        told.append(status)
        if fall is None or fall > UNTIL:
            before = [day for day in given if day <= SEARCH]
            of = slice(0, SEARCH + 1)
            low = recovery(times[of], values[of], 20.0, transfused=before, **how)[0]
            assert status.name == ("NEVER_BELOW" if low is None else "BACK_BEFORE")
            assert recovery_days(found)[0, lane] == 0.0
        else:
            assert status.name == ("CENSORED" if day is None else "RECOVERED")
            assert recovery_days(found)[0, lane] == (np.inf if day is None else day)
    names = ("BACK_BEFORE", "RECOVERED", "RECOVERED", "NEVER_BELOW", "NEVER_BELOW", "CENSORED")
    assert told[: len(names)] == [RecoveryStatus[name] for name in names]


def test_a_count_at_its_threshold_is_recovered_that_day():
    course = course_of([CASES["at threshold"]])
    for resolution in ("morning", "continuous"):
        found = line_outcomes(course, "neutrophils", 0.5, resolution=resolution)
        # the root finder stops at 1e-10 h, on a curve that is flat there
        assert found.sustained.day[0, 0] == pytest.approx(38.0, abs=1e-6)
        above = line_outcomes(course, "neutrophils", 0.5 + 1e-9, resolution=resolution)
        assert above.sustained.day[0, 0] == pytest.approx(61.0, abs=1.0)


@pytest.mark.parametrize("resolution", ["morning", "continuous"])
def test_the_morning_after_day_n_counts_and_no_later_one(resolution):
    """Recovered exactly at time 38: by day 38, which is the morning of protocol day 39."""
    course = course_of([CASES["at threshold"]])
    rule = next(rule for rule in RULES if rule.name == "ida_esc_2015")
    for by_day, expected in ((37, True), (38, False)):
        found = evaluate_rule(replace(rule, by_day=by_day), course, resolution=resolution)
        assert found.event[0] == expected
    # the clock's day 1 is time 0: two days later, two days more
    late = evaluate_rule(replace(rule, by_day=36), course, resolution=resolution, start=2.0)
    assert not late.event[0]
    assert evaluate_rule(replace(rule, by_day=35), course, resolution=resolution, start=2.0).event[
        0
    ]


def test_the_split_is_what_each_morning_shows():
    cases = list(CASES.values())
    course = course_of(cases)
    ill = replace(course, marrow_blasts=np.tile(np.where(np.arange(DAYS) < 30, 5.0, 4.9),
                                                (len(cases), 1)))  # fmt: skip
    limits = {"neutrophils": 0.5, "platelets": 20.0}
    found = split(ill, limits)
    plain = split(course, limits)
    np.testing.assert_allclose(found.shares.sum(axis=0), 1.0)
    np.testing.assert_allclose(plain.shares.sum(axis=0), 1.0)
    for lane, (counts, given, died) in enumerate(cases):
        for day in range(DAYS):
            low = counts[day] < 0.5 or any(day - 7 < g <= day for g in given)
            bare = "low" if low else "recovered"
            state = f"{bare} {'with' if day < 30 else 'without'} leukaemia"
            if died is not None and died < day + 1:
                state = bare = "died"
            assert found.states[found.state[lane, day]] == state
            assert plain.states[plain.state[lane, day]] == bare
    by_day = split(ill, limits, [28, 42])
    np.testing.assert_array_equal(by_day.state, found.state[:, [28, 42]])
