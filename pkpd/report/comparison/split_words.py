"""What has become of the patients of each cohort by day, in words; and the colours of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pkpd.endpoints.split import STATES, STATES_WITHOUT_BLASTS

if TYPE_CHECKING:
    from pkpd.comparison.results import TrialResult

_LIGHT_TO_DARK = ("#DCEBF7", "#8DBDE3", "#CC8218", "#A8452A", "#303030")
COLOURS = {
    **dict(zip(STATES, _LIGHT_TO_DARK, strict=True)),
    **dict(zip(STATES_WITHOUT_BLASTS, _LIGHT_TO_DARK[::2], strict=True)),
}
"""Colour of a state: each is darker than the one before, so that grey tells them apart too."""


def split_sentence(result: TrialResult) -> str:
    """Say what has become of the patients by the rule's day, over all cohorts.

    The day is that of the rule where its clock starts with the first dose, else the last one
    simulated.
    """
    words, shares = _shares(result)
    parts = []
    for s, state in enumerate(split_states(result)):
        low, high = (f"{100.0 * end(shares[:, s]):.0f}" for end in (np.min, np.max))
        parts.append(f"{low if low == high else f'{low} to {high}'} % {_told(state)}")
    several = "" if len(shares) == 1 else f" and over the {len(shares)} cohorts"
    return f"{words}, in this model{several}, {_listed(parts)}."


def of_100_patients(result: TrialResult) -> str:
    """Say how many of 100 patients are in each state by the rule's day, over all cohorts."""
    words, shares = _shares(result)
    numbers = np.array([_of_100(row) for row in shares])
    parts = []
    for s, state in enumerate(split_states(result)):
        low, high = numbers[:, s].min(), numbers[:, s].max()
        number = f"{low}" if low == high else f"{low} to {high}"
        parts.append(f"{number} {state.replace('low', 'low counts', 1)}")
    return f"Of 100 patients {words[0].lower()}{words[1:]}: {', '.join(parts)}."


def _of_100(shares: np.ndarray) -> np.ndarray:
    """Whole numbers that add to 100, those with the largest remainders rounded up."""
    exact = 100.0 * shares / shares.sum()
    whole = np.floor(exact).astype(int)
    up = np.argsort(whole - exact, kind="stable")[: 100 - whole.sum()]
    whole[up] += 1
    return whole


def split_alt(result: TrialResult) -> str:
    """Tell the figure in words, cohort by cohort."""
    words, shares = _shares(result)
    told = []
    for cohort, row in zip(result.curves["cohort"].values, shares, strict=True):
        parts = zip(row, split_states(result), strict=True)
        told.append(f"{cohort} " + ", ".join(f"{100.0 * p:.0f} % {_told(s)}" for p, s in parts))
    return f"Stacked areas of what has become of the patients by day. {words}: {'; '.join(told)}."


def split_states(result: TrialResult) -> list[str]:
    """States that occur: in a marrow without death nobody has died, and nothing is said of it."""
    most = result.curves["split"].values.max(axis=(0, 2))
    return [str(s) for s, share in zip(result.curves["state"].values, most, strict=True) if share]


def _shares(result: TrialResult) -> tuple[str, np.ndarray]:
    """Words for the day, and the shares on it, [cohort, state]."""
    attrs = result.curves.attrs
    days = result.curves["day"].values
    at = int(days[-1])
    words = f"On the morning of day {at}, the last simulated"
    by_day = int(attrs.get("rule_by_day") or at)
    # the end of a day is the next morning
    if by_day < at and attrs.get("rule_clock", "first_dose") == "first_dose":
        words, at = f"At the end of day {by_day}", by_day + 1
    names = [str(state) for state in result.curves["state"].values]
    states = [names.index(state) for state in split_states(result)]
    (day,) = np.flatnonzero(days == at)
    return words, result.curves["split"].values[:, states, day]


def _told(state: str) -> str:
    return "have " + state.replace("low", "low counts", 1)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
