"""Observations that lie far from all others, or where no dose explains them."""

from __future__ import annotations

import numpy as np

from pkpd.arrays import FloatArray
from pkpd.data.dataset import NOT_CENSORED, Dataset
from pkpd.fitting.judge.findings import Finding
from pkpd.fitting.model.impossible import observed_at
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.fitting.model.population_likelihood import PopulationLikelihood

_FAR, _NEAREST = 30, 5  # times the largest of as many values of others, nearest in time


def far_values(data: Dataset) -> list[Finding]:
    """Name values far above all that other subjects have at about that time, by dose and as such.

    The values are compared with each other: a fit that follows such a value does not show it.
    """
    seen, out = data.observations, list[Finding]()
    given = np.where(data.events.is_dose, data.events.amt * (1 + data.events.addl), 0.0).sum(axis=1)
    by_dose = seen.value / np.where(given > 0, given, 1.0)[seen.subject]
    for k, line in enumerate(data.lines):
        mine = np.flatnonzero((seen.line == k) & (seen.censored == NOT_CENSORED))
        high = mine[seen.value[mine] > _FAR * np.median(seen.value[mine])] if len(mine) else mine
        for m in high:
            others = mine[seen.subject[mine] != seen.subject[m]]
            apart = np.abs(seen.time[others] - seen.time[m])
            near = others[np.argsort(apart, kind="stable")[:_NEAREST]]
            if len(near) < _NEAREST or any(
                v[m] <= _FAR * v[near].max() for v in (seen.value, by_dose)
            ):
                continue
            most = float(seen.value[near].max())
            told = "above 0, where that of no other subject is"
            if most > 0:
                told = f"{seen.value[m] / most:,.0f} times as high as any other subject's"
            who = str(data.subjects[seen.subject[m]])
            out.append(
                Finding(
                    "far value",
                    "doubtful",
                    f"The {line} at {observed_at(data, int(m))} is {told} at "
                    "about that time, and moves the estimates.",
                    "Is it in their unit?",
                    subjects=(who,),
                )
            )
    return out[:3]


def undosed(likelihood: PopulationLikelihood, predictions: FloatArray) -> list[Finding]:
    """Name subjects without doses of whom 0 is predicted and not observed, if others have doses."""
    data = likelihood.dataset
    seen, dosed = data.observations, data.events.is_dose.any(axis=1)
    if isinstance(likelihood, OwnErrorLikelihood) or not dosed.any():
        return []
    zero = likelihood.predictions_of(predictions) == 0
    above = (seen.value != 0) & (seen.censored == NOT_CENSORED)
    found: list[tuple[str, int]] = []
    for b in np.flatnonzero(~dosed):
        mine = seen.subject == b
        if zero[mine].all() and above[mine].any():
            found.append((str(data.subjects[b]), int(mine.sum())))
    if not found:
        return []
    who, many = [name for name, _ in found], sum(n for _, n in found)
    more = f" and {len(who) - 3} more" if len(who) > 3 else ""
    told = f"Subject {who[0]} has"
    if len(who) > 1:
        told = f"{len(who)} subjects ({', '.join(who[:3])}{more}) have"
    word = "observation" if many == 1 else "observations"
    what = f"{told} {many} {word} and no dose, so that 0 is predicted there."
    remedy = "Give the doses, or leave out who has none."
    return [Finding("no dose", "doubtful", what, remedy, subjects=tuple(who))]
