"""Exact threshold crossings of a piecewise cubic log count, compiled lane by lane.

Between two nodes the log count is the cubic Hermite interpolant

    p(u) = y0 + d0 u + c2 u^2 + c3 u^3,   u = (t - t0) / h in [0, 1],

with d0 = h s0, c2 = 3 (y1 - y0) - h (2 s0 + s1) and c3 = h (s0 + s1) - 2 (y1 - y0). Its four Bezier
ordinates (y0, y0 + h s0 / 3, y1 - h s1 / 3, y1) enclose it, so a cell whose ordinates lie on one
side of a threshold is skipped without further work; the other cells are cut at the extrema of the
cubic into monotone pieces, each with at most one crossing, found by Newton steps kept inside a
bisection bracket. A dip (or a peak) that lies wholly inside one cell is therefore seen.

"Below" is strict (count < threshold) everywhere. A curve that only touches the threshold has no
crossing. Times are hours inside this module.
"""

from __future__ import annotations

import numpy as np

from pkpd.kept_code import kept

RECOVERED, NEVER_BELOW, CENSORED, NOT_EVALUABLE = 0, 1, 2, 3
NEXT_CYCLE, BACK_BEFORE = 4, 5  # where several cycles are told apart: `pkpd.endpoints.recovery`

# rows of the kernel's table of times
(
    FIRST_BELOW,
    LAST_BELOW,
    TOTAL_BELOW,
    LONGEST_BELOW,
    FIRST_RECOVERY,
    SUSTAINED,
    PENDING,
    FIRST_NEED,
) = range(8)
N_FIELDS = 8

_ROOT_TOLERANCE_H = 1e-10


@kept
def _cell(time, t):
    """Index of the cell that holds t (the last one for the last node)."""
    i = np.searchsorted(time, t, side="right") - 1
    return min(max(i, 0), time.size - 2)


@kept
def _monotone_cuts(d0, c2, c3, a, b, cuts):
    """Write a, the extrema of the cubic inside (a, b), and b; return how many."""
    n = 1
    cuts[0] = a
    discriminant = c2 * c2 - 3.0 * c3 * d0
    if discriminant > 0.0:
        q = -(c2 + np.copysign(np.sqrt(discriminant), c2))
        r1 = d0 / q
        r2 = q / (3.0 * c3) if c3 != 0.0 else r1
        if r1 > r2:
            r1, r2 = r2, r1
        if a < r1 < b:
            cuts[n] = r1
            n += 1
        if r2 > r1 and a < r2 < b:
            cuts[n] = r2
            n += 1
    cuts[n] = b
    return n + 1


@kept
def _root(f0, d0, c2, c3, a, b, negative_at_a, tolerance):
    """Root of f0 + d0 u + c2 u^2 + c3 u^3 on a monotone piece whose ends differ in sign."""
    u = 0.5 * (a + b)
    for _ in range(200):
        f = f0 + u * (d0 + u * (c2 + u * c3))
        if f == 0.0:
            return u
        if (f < 0.0) == negative_at_a:
            a = u
        else:
            b = u
        step = f / (d0 + u * (2.0 * c2 + u * 3.0 * c3))
        new = u - step
        if np.abs(step) <= tolerance:
            return min(max(new, a), b)
        if not (a < new < b):
            new = 0.5 * (a + b)
        if b - a <= tolerance:
            return new
        u = new
    return u


@kept
def _crossings(time, y, s, low, high, window, threshold, cross, cuts):
    """Write the crossing times in the window in order; return (number, below at the start)."""
    start, end = window
    first = _cell(time, start)
    last = _cell(time, end)
    if last > first and time[last] == end:
        last -= 1
    n = 0
    if low[first] >= threshold:
        below = False
    elif high[first] < threshold:
        below = True
    else:
        h = time[first + 1] - time[first]
        u = (start - time[first]) / h
        dy = y[first + 1] - y[first]
        d0, d1 = h * s[first], h * s[first + 1]
        value = y[first] + u * (d0 + u * (3.0 * dy - 2.0 * d0 - d1 + u * (d0 + d1 - 2.0 * dy)))
        below = value < threshold
    starts_below = below
    for i in range(first, last + 1):
        if low[i] >= threshold or high[i] < threshold:
            continue
        t0 = time[i]
        h = time[i + 1] - t0
        dy = y[i + 1] - y[i]
        d0, d1 = h * s[i], h * s[i + 1]
        c2, c3 = 3.0 * dy - 2.0 * d0 - d1, d0 + d1 - 2.0 * dy
        f0 = y[i] - threshold
        ua = (start - t0) / h if i == first else 0.0
        ub = (end - t0) / h if i == last else 1.0
        pieces = _monotone_cuts(d0, c2, c3, ua, ub, cuts) - 1
        for k in range(pieces):
            right = cuts[k + 1]
            if k == pieces - 1 and ub == 1.0:
                right_below = y[i + 1] < threshold
            else:
                right_below = f0 + right * (d0 + right * (c2 + right * c3)) < 0.0
            if right_below != below:
                u = _root(f0, d0, c2, c3, cuts[k], right, below, _ROOT_TOLERANCE_H / h)
                cross[n] = t0 + h * u
                n += 1
                below = right_below
    return n, starts_below


@kept
def _nadir(time, y, s, low, window, cuts):
    """Lowest log count in the window and its (first) time."""
    start, end = window
    first = _cell(time, start)
    last = _cell(time, end)
    best, when = np.inf, start
    for i in range(first, last + 1):
        if time[i] >= start and time[i] <= end and y[i] < best:
            best, when = y[i], time[i]
    if time[last + 1] <= end and y[last + 1] < best:
        best, when = y[last + 1], time[last + 1]
    for i in range(first, last + 1):
        if low[i] >= best:
            continue
        t0 = time[i]
        h = time[i + 1] - t0
        dy = y[i + 1] - y[i]
        d0, d1 = h * s[i], h * s[i + 1]
        c2, c3 = 3.0 * dy - 2.0 * d0 - d1, d0 + d1 - 2.0 * dy
        ua = (start - t0) / h if i == first else 0.0
        ub = (end - t0) / h if i == last else 1.0
        for k in range(_monotone_cuts(d0, c2, c3, ua, min(ub, 1.0), cuts)):
            u = cuts[k]
            value = y[i] + u * (d0 + u * (c2 + u * c3))
            if value < best:
                best, when = value, t0 + h * u
    return best, when


@kept
def _last_transfusion(transfused, after, until):
    """Hour of the latest transfusion in (after, until], -1 when there is none."""
    day = min(int(np.floor(until / 24.0)), transfused.size - 1)
    while day >= 0 and 24.0 * day > after:
        if transfused[day]:
            return 24.0 * day
        day -= 1
    return -1.0


@kept
def _settle(t, spell_end, end, sustained, untransfused, transfused):
    """Earliest time of the spell from which the count is sustained and untransfused.

    Returns (time, True) when found, (time, False) when the spell or the window ends before that;
    the time is then the earliest one not yet refuted.
    """
    # t - untransfused may round to just before the transfusion that set t: keep the hour itself
    after = t - untransfused
    while t + sustained <= spell_end and t + sustained <= end:
        blocked = _last_transfusion(transfused, after, t + sustained)
        if blocked < 0.0:
            return t, True
        after, t = blocked, blocked + untransfused
    blocked = _last_transfusion(transfused, after, min(spell_end, end))
    if blocked >= 0.0:
        t = blocked + untransfused
    return t, False


@kept
def _sustained(cross, n, starts_below, window, sustained, untransfused, transfused):
    """Sustained, untransfused recovery: (time, pending time, first need, status)."""
    start, end = window
    if n == 0 and not starts_below:
        day = max(int(np.ceil(start / 24.0)), 0)
        while day < transfused.size and 24.0 * day <= end and not transfused[day]:
            day += 1
        if day >= transfused.size or 24.0 * day > end:
            return start, np.inf, np.inf, NEVER_BELOW
        need = 24.0 * day
        t, found = _settle(need, np.inf, end, sustained, untransfused, transfused)
        if found:
            return t, np.inf, need, RECOVERED
        return end, t if t <= end else np.inf, need, CENSORED
    need = start if starts_below else cross[0]
    for k in range(0 if starts_below else 1, n, 2):
        spell_end = cross[k + 1] if k + 1 < n else np.inf
        t, found = _settle(cross[k], spell_end, end, sustained, untransfused, transfused)
        if found:
            return t, np.inf, need, RECOVERED
        if k + 1 >= n:
            return end, t if t <= end else np.inf, need, CENSORED
    return end, np.inf, need, CENSORED


@kept
def lane_outcomes(
    time, y, s, thresholds, start, end, sustained, untransfused, transfused, times, status, nadir
):
    """Fill the tables of outcomes of all lanes of one line.

    Parameters
    ----------
    time : float[T]
        Node times, h.
    y, s : float[L, T]
        Log count and its slope (1/h).
    thresholds : float[H]
        Log thresholds.
    start, end : float[L]
        Window of each lane, h.
    sustained, untransfused : float
        h.
    transfused : bool[L, D] or bool[1, 0]
        A transfusion at hour 24 d.
    times : float[8, H, L], status : int8[2, H, L], nadir : float[2, L]
        Written here; hours, and log count.
    """
    n_time = time.size
    low, high = np.empty(n_time), np.empty(n_time)
    cross, cuts = np.empty(3 * n_time), np.empty(4)
    has_transfusions = transfused.shape[1] > 0
    for lane in range(y.shape[0]):
        window = (start[lane], end[lane])
        finite = window[0] < window[1]
        if finite:
            check = 0.0
            for i in range(_cell(time, window[0]), _cell(time, window[1]) + 1):
                y0, y1 = y[lane, i], y[lane, i + 1]
                third = (time[i + 1] - time[i]) / 3.0
                b1, b2 = y0 + third * s[lane, i], y1 - third * s[lane, i + 1]
                low[i] = min(min(y0, y1), min(b1, b2))
                high[i] = max(max(y0, y1), max(b1, b2))
                check += 0.0 * (b1 + b2)
            finite = check == 0.0
        if not finite:
            nadir[:, lane] = np.nan
            times[:, :, lane] = np.nan
            status[:, :, lane] = NOT_EVALUABLE
            continue
        nadir[0, lane], nadir[1, lane] = _nadir(time, y[lane], s[lane], low, window, cuts)
        given = transfused[lane] if has_transfusions else transfused[0]
        for j in range(thresholds.size):
            n, below = _crossings(
                time, y[lane], s[lane], low, high, window, thresholds[j], cross, cuts
            )
            total = longest = 0.0
            last = window[0]
            for k in range(-1 if below else 0, n, 2):
                begin = cross[k] if k >= 0 else window[0]
                last = cross[k + 1] if k + 1 < n else window[1]
                total += last - begin
                longest = max(longest, last - begin)
            times[TOTAL_BELOW, j, lane] = total
            times[LONGEST_BELOW, j, lane] = longest
            times[LAST_BELOW, j, lane] = last
            if below:
                times[FIRST_BELOW, j, lane] = window[0]
            else:
                times[FIRST_BELOW, j, lane] = cross[0] if n > 0 else np.inf
            up = 0 if below else 1
            if up < n:
                times[FIRST_RECOVERY, j, lane] = cross[up]
                status[0, j, lane] = RECOVERED
            elif n == 0 and not below:
                times[FIRST_RECOVERY, j, lane] = window[0]
                status[0, j, lane] = NEVER_BELOW
            else:
                times[FIRST_RECOVERY, j, lane] = window[1]
                status[0, j, lane] = CENSORED
            t, pending, need, code = _sustained(
                cross, n, below, window, sustained, untransfused, given
            )
            times[SUSTAINED, j, lane] = t
            times[PENDING, j, lane] = pending
            times[FIRST_NEED, j, lane] = need
            status[1, j, lane] = code
