"""Crossings, nadirs and recovery against closed forms, scipy's spline roots and brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from curves import course_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import brentq

from pkpd.endpoints.curve import curve_outcomes, log_count_at
from pkpd.endpoints.recovery import RecoveryDefinition, days_below, line_outcomes, nadir
from pkpd.endpoints.resolution import Visits
from pkpd.endpoints.results import RecoveryStatus
from pkpd.errors import DataError

# Root finder stops at 1e-10 h; rounding of hours near 2000 adds 2e-13 h over the local slope.
HOUR_TOLERANCE = 1e-9


def sustained_recovery(time, y, s, threshold, **words):
    """First row of the sustained recovery on the curve."""
    found = curve_outcomes(time, y, s, threshold, **words).sustained
    return type(found)(found.day[0], found.status[0], found.pending_day[0])


def seen_on_visits(time, y, s, threshold, days, *, consecutive=1, start=0.0, **given):
    """Recovery of platelets as visits see it."""
    free = given.pop("untransfused_days", 0.0)
    course = course_of(time, {"platelets": y}, {"platelets": s}, **given)
    return line_outcomes(
        course,
        "platelets",
        threshold,
        resolution=Visits(tuple(days)),
        definition=RecoveryDefinition(0.0, free, consecutive),
        start=start,
    ).sustained


def parabola(time, centre, depth, curvature):
    """Log counts whose Hermite interpolant is exact: depth + curvature (t - centre)^2."""
    centre, depth, curvature = (np.atleast_1d(x)[:, None] for x in (centre, depth, curvature))
    y = depth + curvature * (time - centre) ** 2
    return y, 2.0 * curvature * (time - centre)


def random_curve(rng, nodes=14, horizon=480.0):
    """Uneven nodes and rough log counts with several dips, and dips inside single cells."""
    time = np.sort(rng.uniform(0.0, horizon, nodes))
    time[0], time[-1] = 0.0, horizon
    return time, rng.normal(0.0, 1.0, nodes), rng.normal(0.0, 0.08, nodes)


def spcurve_outcomes(time, y, s, threshold, start, end):
    """Endpoints of one curve from the roots of scipy's piecewise polynomial."""
    spline = CubicHermiteSpline(time, y, s)
    level = np.log(threshold)
    roots = np.unique(spline.solve(level, extrapolate=False))
    edges = np.concatenate([[start], roots[(roots > start) & (roots < end)], [end]])
    middle = 0.5 * (edges[1:] + edges[:-1])
    below = spline(middle) < level
    spells = []
    for is_below, a, b in zip(below, edges[:-1], edges[1:], strict=True):
        if is_below and spells and spells[-1][1] == a:
            spells[-1] = (spells[-1][0], b)
        elif is_below:
            spells.append((a, b))
    extrema = np.unique(spline.derivative().roots(extrapolate=False))
    points = np.concatenate([edges, time[(time > start) & (time < end)], extrema])
    points = points[(points >= start) & (points <= end)]
    lowest = points[np.argmin(spline(points))]
    return spells, float(spline(lowest)), float(lowest)


def test_parabola_crossings_are_exact():
    rng = np.random.default_rng(1)
    time = np.sort(np.concatenate([[0.0, 2016.0], rng.uniform(0, 2016, 300)]))
    centre = rng.uniform(300, 600, 50)
    depth = np.log(rng.uniform(0.01, 0.4, 50))
    curvature = rng.uniform(1e-5, 1e-4, 50)
    y, s = parabola(time, centre, depth, curvature)
    half = np.sqrt((np.log(0.5) - depth) / curvature)
    start = np.maximum(centre - half, 0.0)
    found = curve_outcomes(time, y, s, 0.5)
    tolerance = HOUR_TOLERANCE / 24.0
    assert found.first.day[0] == pytest.approx((centre + half) / 24.0, abs=tolerance)
    assert found.first_below_day[0] == pytest.approx(start / 24.0, abs=tolerance)
    assert found.days_below[0] == pytest.approx((centre + half - start) / 24.0, abs=2 * tolerance)
    assert found.longest_below_days[0] == pytest.approx(found.days_below[0])
    assert found.nadir == pytest.approx(np.exp(depth), rel=1e-12)
    # a minimum is located to the square root of the rounding of the value
    assert found.nadir_day == pytest.approx(centre / 24.0, abs=1e-5)
    assert np.all(found.first.status[0] == RecoveryStatus.RECOVERED)


def test_cubic_with_three_roots_in_one_cell():
    roots = np.array([40.0, 100.0, 170.0])
    polynomial = np.poly1d(roots, r=True) * 1e-6
    time = np.array([0.0, 200.0])
    y, s = polynomial(time)[None], polynomial.deriv()(time)[None]
    found = curve_outcomes(time, y, s, 1.0)
    # below from 0 to 40, above to 100, below to 170
    assert found.first.day[0, 0] * 24 == pytest.approx(40.0, abs=1e-8)
    assert found.days_below[0, 0] * 24 == pytest.approx(110.0, abs=1e-8)
    assert found.longest_below_days[0, 0] * 24 == pytest.approx(70.0, abs=1e-8)
    assert found.last_below_day[0, 0] * 24 == pytest.approx(170.0, abs=1e-8)
    kept = sustained_recovery(time, y, s, 1.0, sustained_days=61 / 24)
    assert kept.status[0] == RecoveryStatus.CENSORED
    assert kept.pending_day[0] * 24 == pytest.approx(170.0, abs=1e-8)
    kept = sustained_recovery(time, y, s, 1.0, sustained_days=59 / 24)
    assert kept.day[0] * 24 == pytest.approx(40.0, abs=1e-8)


def test_straight_line_never_comes_back():
    time = np.linspace(0, 240, 5)
    y = np.log(4.0) - 0.01 * time
    found = curve_outcomes(time, y[None], np.full((1, 5), -0.01), [0.5, 8.0])
    assert found.first_below_day[:, 0] * 24 == pytest.approx([100 * np.log(8.0), 0.0], abs=1e-9)
    assert np.all(found.first.status == RecoveryStatus.CENSORED)
    assert found.first.day[:, 0] == pytest.approx(10.0)
    assert found.last_below_day[:, 0] == pytest.approx(10.0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.floats(0.2, 4.0), st.floats(0.0, 200.0), st.floats(210.0, 480.0)
)
def test_any_curve_agrees_with_spline_roots(seed, threshold, start, end):
    time, y, s = random_curve(np.random.default_rng(seed))
    spells, lowest, lowest_h = spcurve_outcomes(time, y, s, threshold, start, end)
    found = curve_outcomes(time, y[None], s[None], threshold, from_h=start, horizon_h=end)
    # scipy's companion-matrix roots of a nearly tangent cubic are good to about 1e-6 h
    lengths = [b - a for a, b in spells]
    assert found.days_below[0, 0] * 24 == pytest.approx(sum(lengths), abs=1e-5)
    assert found.longest_below_days[0, 0] * 24 == pytest.approx(max(lengths, default=0), abs=1e-5)
    assert np.log(found.nadir[0]) == pytest.approx(lowest, abs=1e-9)
    assert found.nadir_day[0] * 24 + start == pytest.approx(lowest_h, abs=1e-3)
    if not spells:
        assert found.first.status[0, 0] == RecoveryStatus.NEVER_BELOW
        assert found.first.day[0, 0] == 0.0
        assert np.isinf(found.first_below_day[0, 0])
    else:
        assert found.first_below_day[0, 0] * 24 + start == pytest.approx(spells[0][0], abs=1e-5)
        assert found.first.day[0, 0] * 24 + start == pytest.approx(spells[0][1], abs=1e-5)
        censored = spells[0][1] == end
        assert (found.first.status[0, 0] == RecoveryStatus.CENSORED) == censored


def brute_force_sustained(time, y, s, threshold, transfused, sustained_h, untransfused_h, step):
    """Try every time of a fine grid against the definition, word by word."""
    spline = CubicHermiteSpline(time, y, s)
    grid = np.arange(0.0, time[-1] + step / 2, step)
    above = spline(grid) >= np.log(threshold)
    given_h = 24.0 * np.flatnonzero(transfused)
    in_need = np.logical_or.accumulate(~above)
    if not in_need[-1] and given_h.size:
        in_need = grid >= given_h[0]
    width = round(sustained_h / step)
    for i, t in enumerate(grid):
        if i + width >= grid.size:
            break
        free = not np.any((given_h > t - untransfused_h) & (given_h <= t + sustained_h))
        if in_need[i] and free and above[i : i + width + 1].all():
            return t
    return None if in_need[-1] else 0.0


def test_sustained_untransfused_recovery_matches_its_definition():
    rng = np.random.default_rng(5)
    step = 0.25
    seen = set()
    for _ in range(100):
        time, y, s = random_curve(rng, nodes=9)
        threshold = rng.choice([0.05, 0.4, 1.0])
        transfused = rng.random(20) < rng.choice([0.0, 0.1, 0.3])
        days, free = rng.choice([0.0, 1.0, 3.0]), rng.choice([0.0, 2.0, 5.0])
        found = sustained_recovery(
            time,
            y[None],
            s[None],
            threshold,
            sustained_days=days,
            transfused_day=transfused[None],
            untransfused_days=free,
        )
        expected = brute_force_sustained(
            time, y, s, threshold, transfused, 24 * days, 24 * free, step
        )
        status = RecoveryStatus(found.status[0])
        seen.add(status)
        if expected is None:
            # the grid sees a spell up to one step late
            assert status == RecoveryStatus.CENSORED or found.day[0] * 24 > 480 - 24 * days - step
        else:
            assert found.day[0] * 24 == pytest.approx(expected, abs=step)
    assert seen == {
        RecoveryStatus.RECOVERED,
        RecoveryStatus.NEVER_BELOW,
        RecoveryStatus.CENSORED,
    }


def test_transfusion_window_moves_recovery():
    time = np.linspace(0, 1440, 361)
    y, s = parabola(time, 480.0, np.log(5.0), 1e-5)
    crossing = (480.0 + np.sqrt(np.log(20.0 / 5.0) / 1e-5)) / 24.0
    transfused = np.zeros((1, 60), dtype=bool)

    def recovery(**given):
        found = sustained_recovery(
            time, y, s, 20.0, sustained_days=3, transfused_day=transfused, **given
        )
        return found.day[0]

    assert recovery(untransfused_days=7) == pytest.approx(crossing, abs=1e-10)
    last = int(crossing) - 2
    transfused[0, last] = True
    assert recovery(untransfused_days=7) == last + 7
    assert recovery(untransfused_days=1) == pytest.approx(crossing, abs=1e-10)
    # one within the three days that confirm the recovery undoes it
    transfused[0, int(crossing) + 2] = True
    assert recovery(untransfused_days=1) == int(crossing) + 3


def test_friberg_curve_against_dop853_and_brentq():
    gamma, ktr, circ0 = 0.161, 4.0 / 125.0, 5.45

    def right(t, x):
        effect = 1.2 * np.exp(-0.03 * t)
        feedback = (circ0 / x[4]) ** gamma
        flow = ktr * x
        return np.array(
            [
                flow[0] * ((1.0 - effect) * feedback - 1.0),
                flow[0] - flow[1],
                flow[1] - flow[2],
                flow[2] - flow[3],
                flow[3] - flow[4],
            ]
        )

    solved = solve_ivp(
        right,
        (0, 1008),
        np.full(5, circ0),
        method="DOP853",
        rtol=1e-12,
        atol=1e-12,
        dense_output=True,
        max_step=2.0,
    )
    threshold = 2.5

    def excess(t):
        return solved.sol(t)[4] - threshold

    lowest = min(np.linspace(0, 600, 2401), key=lambda t: solved.sol(t)[4])
    down, up = brentq(excess, 0.0, lowest, xtol=1e-12), brentq(excess, lowest, 900.0, xtol=1e-12)
    for h, tolerance in ((4.0, 2e-3), (1.0, 1e-5)):
        # cubic Hermite: fourth order, so a quarter of the step gives 1/256 of the error
        time = np.arange(0.0, 1008.0 + h / 2, h)
        x = solved.sol(time)
        slope = np.array([right(t, state)[4] for t, state in zip(time, x.T, strict=True)]) / x[4]
        found = curve_outcomes(time, np.log(x[4])[None], slope[None], threshold)
        assert found.first_below_day[0, 0] * 24 == pytest.approx(down, abs=tolerance)
        assert found.first.day[0, 0] * 24 == pytest.approx(up, abs=tolerance)
        assert found.nadir[0] == pytest.approx(solved.sol(lowest)[4], rel=1e-5)


def test_lanes_keep_their_place_and_status():
    time = np.linspace(0, 960, 241)
    y, s = parabola(time, [400.0, 400.0, 900.0, 400.0, 400.0], np.log(0.1), 4e-5)
    y[1] += 3.0  # never below 0.5
    y[3, 100] = np.nan
    clock = np.array([0.0, 0.0, 0.0, 0.0, np.nan])
    found = curve_outcomes(time, y, s, 0.5, from_h=clock, sustained_days=3)
    expected = [
        RecoveryStatus.RECOVERED,
        RecoveryStatus.NEVER_BELOW,
        RecoveryStatus.CENSORED,
        RecoveryStatus.NOT_EVALUABLE,
        RecoveryStatus.NOT_EVALUABLE,
    ]
    assert found.sustained.status[0].tolist() == expected
    assert found.first.status[0].tolist() == expected
    assert found.sustained.day[0, 1] == 0.0
    assert found.sustained.day[0, 2] == 40.0
    assert np.isnan(found.sustained.day[0, 3:]).all()
    assert np.isnan(found.nadir[3:]).all()


def test_clock_shifts_days_and_hides_what_was_before():
    time = np.linspace(0, 1440, 361)
    y, s = parabola(time, [500.0, 500.0], np.log(0.1), 4e-5)
    clock = np.array([0.0, 480.0])
    found = curve_outcomes(time, y, s, 0.5, from_h=clock)
    assert found.first.day[0, 0] - found.first.day[0, 1] == pytest.approx(20.0, abs=1e-10)
    assert found.first_below_day[0, 1] == 0.0
    after = curve_outcomes(time, y, s, 0.5, from_h=900.0)
    assert np.all(after.first.status == RecoveryStatus.NEVER_BELOW)


def test_log_count_at_is_scipys_hermite():
    rng = np.random.default_rng(2)
    time, y, s = random_curve(rng)
    at = np.sort(rng.uniform(0, 480, 40))
    expected = CubicHermiteSpline(time, y, s)(at)
    assert log_count_at(time, y[None], s[None], at)[0] == pytest.approx(expected, abs=1e-12)


def test_visits_by_hand():
    # piecewise log counts at visits of days 0, 7, ...; flat slopes at the nodes
    days = np.arange(0, 64, 7)
    counts = np.array([[2.0, 0.3, 0.1, 0.6, 0.4, 0.7, 1.0, 2.0, 2.0, 2.0]])
    curve = (24.0 * days, np.log(counts), np.zeros_like(counts))
    assert seen_on_visits(*curve, 0.5, days).day[0, 0] == 21.0
    assert seen_on_visits(*curve, 0.5, days, consecutive=2).day[0, 0] == 35.0
    cut = seen_on_visits(*curve, 0.5, days[:6], consecutive=2)
    assert cut.status[0, 0] == RecoveryStatus.CENSORED
    assert cut.pending_day[0, 0] == 35.0
    never = seen_on_visits(*curve, 0.05, days)
    assert (never.day[0, 0], never.status[0, 0]) == (0.0, RecoveryStatus.NEVER_BELOW)
    transfused = np.zeros((1, 64), dtype=bool)
    transfused[0, 33] = True
    free = seen_on_visits(
        *curve, 0.5, days, consecutive=2, transfused=transfused, untransfused_days=7
    )
    assert free.day[0, 0] == 42.0
    late = seen_on_visits(*curve, 0.5, days, start=20.0)
    assert late.day[0, 0] == 35.0 - 20.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_laws_of_recovery(seed):
    rng = np.random.default_rng(seed)
    time, y, s = random_curve(rng)
    thresholds = np.sort(rng.uniform(0.2, 4.0, 4))
    transfused = rng.random((1, 20)) < 0.1
    found = curve_outcomes(
        time,
        y[None],
        s[None],
        thresholds,
        sustained_days=rng.uniform(0, 4),
        transfused_day=transfused,
        untransfused_days=rng.uniform(0, 7),
    )
    # a higher threshold: never fewer days below, never a later fall, never an earlier last day
    assert np.all(np.diff(found.days_below[:, 0]) >= -1e-9)
    assert np.all(found.first_below_day[1:, 0] <= found.first_below_day[:-1, 0] + 1e-9)
    assert np.all(np.diff(found.last_below_day[:, 0]) >= -1e-9)
    below = np.isfinite(found.first_below_day)
    assert np.all(found.sustained.day[below] >= found.first.day[below])
    assert np.all(found.longest_below_days <= found.days_below + 1e-12)
    assert np.all((found.nadir < thresholds) == below[:, 0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_laws_of_a_single_dip(seed):
    """With one nadir, a higher threshold never recovers earlier; visits never see it earlier."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1440, 241)
    y, s = parabola(
        time, rng.uniform(200, 600), np.log(rng.uniform(0.05, 0.5)), rng.uniform(1e-5, 1e-4)
    )
    thresholds = np.sort(rng.uniform(0.3, 3.0, 3))
    transfused = rng.random((1, 60)) < 0.1
    windows = {"transfused_day": transfused, "untransfused_days": 3.0}
    found = curve_outcomes(time, y, s, thresholds, sustained_days=2.0, **windows)
    order = found.first.status[:, 0] != RecoveryStatus.NEVER_BELOW
    assert np.all(np.diff(found.first.day[:, 0]) >= -1e-9)
    assert np.all(np.diff(found.sustained.day[order, 0]) >= -1e-9)
    visit_days = np.sort(rng.choice(np.arange(60), 25, replace=False))
    for k, threshold in enumerate(thresholds):
        seen = seen_on_visits(time, y, s, threshold, visit_days)
        if seen.status[0, 0] == RecoveryStatus.RECOVERED:
            day = seen.day[0, 0]
            last_not = visit_days[np.searchsorted(visit_days, day) - 1]
            assert last_not - 1e-9 <= found.first.day[k, 0] <= day + 1e-9


def test_single_purpose_functions_are_rows_of_the_table():
    time = np.linspace(0, 960, 241)
    y, s = parabola(time, [300.0, 420.0], np.log(0.2), 3e-5)
    course = course_of(time, {"neutrophils": y}, {"neutrophils": s})
    table = curve_outcomes(time, y, s, [0.5, 1.0], horizon_h=900.0)
    words = {"resolution": "continuous", "end": 37.5}
    total, longest = days_below(course, "neutrophils", 0.5, **words)
    assert np.array_equal(total, table.days_below[0])
    assert np.array_equal(longest, table.longest_below_days[0])
    lowest, day = nadir(course, "neutrophils", **words)
    assert np.array_equal(lowest, table.nadir)
    assert np.array_equal(day, table.nadir_day)
    early, early_day = nadir(course, "neutrophils", resolution="continuous", end=10.0)
    assert early_day.tolist() == [10.0, 10.0]
    assert early == pytest.approx(np.exp(y[:, 60]))
    # the lowest of the mornings
    seen, seen_day = nadir(course, "neutrophils")
    assert np.array_equal(seen, np.exp(y[:, ::6][:, :40]).min(axis=1))
    assert np.array_equal(seen_day, y[:, ::6].argmin(axis=1))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"thresholds": 0.0}, "thresholds"),
        ({"from_h": -1.0}, "from_h"),
        ({"horizon_h": 961.0}, "horizon"),
        ({"sustained_days": -1.0}, "sustained_days"),
        ({"transfused_day": np.zeros((3, 4), dtype=bool)}, "transfused_day"),
        ({"time_h": np.zeros(241)}, "time_h"),
        ({"slope": np.zeros((2, 7))}, "shapes"),
    ],
)
def test_bad_input_is_told(change, word):
    time = np.linspace(0, 960, 241)
    y, s = parabola(time, [300.0, 420.0], np.log(0.2), 3e-5)
    call = {"time_h": time, "log_count": y, "slope": s, "thresholds": 0.5} | change
    with pytest.raises(DataError, match=word):
        curve_outcomes(**call)


def test_bad_visits_are_told():
    time = np.linspace(0, 960, 241)
    y, s = parabola(time, 300.0, np.log(0.2), 3e-5)
    with pytest.raises(DataError, match="visit days"):
        seen_on_visits(time, y, s, 0.5, [7, 7])
    with pytest.raises(DataError, match="simulated time"):
        seen_on_visits(time, y, s, 0.5, [7, 41])
    with pytest.raises(DataError, match="at least one visit"):
        Visits(())


def test_what_a_course_lacks_is_told():
    time = np.linspace(0, 960, 241)
    y, s = parabola(time, 300.0, np.log(0.2), 3e-5)
    course = course_of(time, {"neutrophils": y}, {"neutrophils": s})
    with pytest.raises(DataError, match="'continuous', 'morning', or Visits"):
        line_outcomes(course, "neutrophils", 0.5, resolution="weekly")
    with pytest.raises(DataError, match=r"'platelets' was not simulated.*neutrophils"):
        line_outcomes(course, "platelets", 20.0)
    bare = replace(course, curve=None)
    with pytest.raises(DataError, match="mornings only"):
        line_outcomes(bare, "neutrophils", 0.5, resolution="continuous")
    with pytest.raises(DataError, match="mornings only"):
        line_outcomes(bare, "neutrophils", 0.5, resolution=Visits((7.5,)))
    with pytest.raises(DataError, match="zero or more days"):
        RecoveryDefinition(sustained_days=-1.0)
