"""A judge of count rules in plain loops over the observations of one patient.

It shares no code with the package. An observation is a time (days since the clock) and a count. It
stands until the next one, a low count at the end of the window not beyond the window.
"""

from __future__ import annotations

import math


def free_of_transfusion(time, transfused, days):
    """No transfusion in the so many days before a time, nor at it."""
    return not any(time - days < day <= time for day in transfused)


def recovery(times, counts, threshold, *, mornings, transfused, untransfused, after=0.0):
    """Time from which the count is recovered, and whether it was ever in need.

    Returns ``(need, day)``; ``None`` where there is none.
    """
    need = None
    for time, count in zip(times, counts, strict=True):
        if time >= after and count < threshold:
            need = time
            break
    if need is None and untransfused > 0:
        # never low, but supported: in need from the first transfusion
        for day in transfused:
            if day >= after:
                need = day
                break
    if need is None:
        return None, None
    run, since = 0, None
    for time, count in zip(times, counts, strict=True):
        if time < need:
            continue
        good = count >= threshold
        if untransfused > 0 and not free_of_transfusion(time, transfused, untransfused):
            good = False
        if not good:
            run, since = 0, None
            continue
        run += 1
        if since is None:
            since = time
        if run >= mornings:
            return need, since
    return need, None


def recovery_of_cycle(times, counts, threshold, until, *, untransfused, transfused, **how):
    """As `recovery`, of a cycle whose next one begins at a time ``until`` (``None``: no next one).

    A fall after that is of the next cycle. A count that has been back when it begins is back.
    """
    how |= {"untransfused": untransfused, "transfused": transfused}
    if until is None or until > times[-1]:
        return recovery(times, counts, threshold, **how)
    mine = [(t, c) for t, c in zip(times, counts, strict=True) if t <= until]
    given = [day for day in transfused if day <= until]
    need, day = recovery(*zip(*mine, strict=True), threshold, **how | {"transfused": given})
    if need is None or day is not None:
        return need, day
    since = None
    for time, count in reversed(mine):
        good = count >= threshold and time >= need
        if untransfused > 0 and not free_of_transfusion(time, transfused, untransfused):
            good = False
        if not good:
            break
        since = time
    if since is not None:
        return need, since
    return need, recovery(times, counts, threshold, **how)[1]


def longest_spell(times, counts, threshold, window, step):
    """Longest time below in one spell within the window, and whether it was ever below."""
    longest, here, ever = 0.0, 0.0, False
    for time, count in zip(times, counts, strict=True):
        if time > window:
            break
        if count < threshold:
            ever = True
            here += min(time + step, window) - time
            longest = max(longest, here)
        else:
            here = 0.0
    return longest, ever


def judge(rule, times, lines, transfused, *, step=1.0, died=None, search=0.0, until=None):
    """Verdict on one patient: ``"dlt"``, ``"none"`` or ``"died"``.

    Parameters
    ----------
    rule
        Follow-up reaches its day and confirms what it asks for.
    times
        Of observations.
    lines
        Line -> counts.
    transfused
        Days of transfusion.
    step
        Days between observations.
    died
        Day (protocol) of death.
    search, until
        Last dose of the cycle, and first dose of the next.
    """
    seen = [k for k, time in enumerate(times) if died is None or time <= died - 1]
    times = [times[k] for k in seen]
    given = [day for day in transfused if died is None or day <= died - 1]
    by_day = rule.by_day
    failures = []
    for k, criterion in enumerate(rule.criteria):
        counts = [lines[criterion.line][i] for i in seen]
        if rule.kind.startswith("low_count"):
            longest, ever = longest_spell(times, counts, criterion.at_least, by_day, step)
            failures.append(ever and longest >= rule.duration_days[k] - 1e-9)
            continue
        after = search
        if rule.kind == "not_recovered_from_nadir":
            fall = None
            for time, count in zip(times, counts, strict=True):
                if until is not None and time > until:
                    break
                if time <= by_day and count < rule.nadir_below[k]:
                    fall = time  # the last: a toxicity that comes again has to go again
            if fall is None:
                failures.append(False)
                continue
            after = fall
        mornings = max(1, math.ceil(rule.sustained_days / step), rule.consecutive_visits)
        platelets = criterion.line == "platelets"
        need, day = recovery_of_cycle(
            times, counts, criterion.at_least, until,
            mornings=mornings, transfused=given,
            untransfused=rule.untransfused_days if platelets else 0, after=after,
        )  # fmt: skip
        failures.append(need is not None and need <= by_day and (day is None or day > by_day))
    toxic = any(failures) if rule.join == "any" else all(failures)
    if rule.kind == "low_count_or_transfusion":
        for last in range(math.ceil(by_day)):
            window = range(last - rule.transfusion_window_days + 1, last + 1)
            if sum(day in window for day in given) >= rule.transfusion_days:
                toxic = True
    if died is not None and died < by_day + 1 and not (toxic and rule.kind.startswith("low_count")):
        return "died"
    return "dlt" if toxic else "none"
