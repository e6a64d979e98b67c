"""Doses that may be slips: one that stands alone among all amounts, and one that stands twice."""

from __future__ import annotations

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.fitting.judge.findings import Finding

_FAR = np.log(100.0)  # from the median amount of the others
_GAP = np.log(30.0)  # to the next amount of another: doses that escalate take smaller steps
_OTHERS = 3  # subjects, below which no amount is strange
_MOST = 3  # findings of a kind


def doubtful_doses(data: Dataset) -> list[Finding]:
    """Name doses of one subject far from all others', and doses that stand in two rows."""
    return [*_alone(data), *_twice(data)]


def _alone(data: Dataset) -> list[Finding]:
    events, out = data.events, list[Finding]()
    given = events.is_dose & (events.amt > 0)
    for cmt in np.unique(events.cmt[given]):
        b, n = np.nonzero(given & (events.cmt == cmt))
        size = np.log(events.amt[b, n])
        levels, first = np.unique(np.stack([size, b]), axis=1, return_index=True)
        apart = np.flatnonzero(np.diff(levels[0]) > _GAP) + 1
        for mine in np.split(np.arange(len(first)), apart):
            who = levels[1, mine[0]]
            others = levels[:, levels[1] != who]
            if np.any(levels[1, mine] != who) or len(np.unique(others[1])) < _OTHERS:
                continue
            middle = float(np.median(size[b != who]))
            at = first[mine[np.argmax(np.abs(levels[0, mine] - middle))]]
            ratio = float(size[at]) - middle
            if abs(ratio) <= _FAR:
                continue
            place, unit = events.place(int(b[at]), int(n[at]), "amt"), data.units.get("AMT", "")
            said = f"{events.amt[b[at], n[at]]:g} {unit}".strip()
            times = f"{np.exp(abs(ratio)):,.0f}"
            what = (
                f"{place}: a dose of {said} is {times} times the"
                if ratio > 0
                else f"{place}: a dose of {said} is 1/{times} of the"
            )
            what = f"{what} median dose of the other subjects ({np.exp(middle):g})."
            label = (str(data.subjects[b[at]]),)
            out.append(
                Finding("far dose", "doubtful", what, "Is it in their unit?", subjects=label)
            )
    return out[:_MOST]


def _twice(data: Dataset) -> list[Finding]:
    events = data.events
    b, n = np.nonzero(events.is_dose & (events.row >= 0))
    same = (
        b,
        events.period[b, n],
        *(getattr(events, k)[b, n] for k in ("time", "cmt", "amt", "rate")),
    )
    known, pairs = dict[tuple[float, ...], int](), []
    for i, key in enumerate(zip(*(column.tolist() for column in same), strict=True)):
        if (first := known.setdefault(key, i)) != i:
            pairs.append((first, i))
    if not pairs:
        return []
    rows = events.numbers[events.row[b, n]]
    told = [
        f"rows {rows[i]} and {rows[k]} (subject {data.subjects[b[i]]}, {events.amt[b[i], n[i]]:g} "
        f"at {events.time[b[i], n[i]]:g} h)"
        for i, k in pairs[:_MOST]
    ]
    more = f" and {len(pairs) - _MOST} more" if len(pairs) > _MOST else ""
    what = f"{events.source}: the same dose stands twice, in {', in '.join(told)}{more}, and counts"
    labels = tuple(dict.fromkeys(str(data.subjects[b[i]]) for i, _ in pairs))
    remedy = "Leave one of the rows out, unless both doses were given."
    return [Finding("dose twice", "doubtful", f"{what} as two doses.", remedy, subjects=labels)]
