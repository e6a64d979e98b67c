"""What has become of the patients of each cohort by day, in words; and the colours of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pkpd.endpoints.split import STATES, STATES_WITHOUT_BLASTS
from pkpd.report.comparison.beside_tables import rule_protocol_day

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
    words, numbers = _numbers(result)
    parts = [f"{_range(column)} % {_told(s)}" for s, column in _by_state(result, numbers)]
    several = "" if len(numbers) == 1 else f" and over the {len(numbers)} cohorts"
    return f"{words}, in this model{several}, {_listed(parts)}."


def of_100_patients(result: TrialResult) -> str:
    """Say how many of 100 patients are in each state by the rule's day, over all cohorts."""
    words, numbers = _numbers(result)
    parts = [
        f"{_range(column)} {s.replace('low', 'low counts', 1)}"
        for s, column in _by_state(result, numbers)
    ]
    return f"Of 100 patients {words[0].lower()}{words[1:]}: {', '.join(parts)}."


def of_100(shares: np.ndarray) -> np.ndarray:
    """Round shares of states to whole numbers that add to 100.

    Parameters
    ----------
    shares : float[states]
        Shares that add to 1, or nearly.

    Returns
    -------
    int[states]
        Those with the largest remainders are rounded up. All that tells a split rounds by this, so
        that sentences, tables and pictures agree.
    """
    exact = 100.0 * shares / shares.sum()
    whole = np.floor(exact).astype(int)
    up = np.argsort(whole - exact, kind="stable")[: 100 - whole.sum()]
    whole[up] += 1
    return whole


def split_alt(result: TrialResult) -> str:
    """Tell the figure in words, cohort by cohort."""
    words, numbers = _numbers(result)
    told = []
    for cohort, row in zip(result.curves["cohort"].values, numbers, strict=True):
        parts = zip(row, split_states(result), strict=True)
        told.append(f"{cohort} " + ", ".join(f"{n} % {_told(s)}" for n, s in parts))
    return f"Stacked areas of what has become of the patients by day. {words}: {'; '.join(told)}."


def split_states(result: TrialResult) -> list[str]:
    """States that occur: in a marrow without death nobody has died, and nothing is said of it."""
    most = result.curves["split"].values.max(axis=(0, 2))
    return [str(s) for s, share in zip(result.curves["state"].values, most, strict=True) if share]


def _numbers(result: TrialResult) -> tuple[str, np.ndarray]:
    """Words for the day, and numbers of 100 patients on it, int[cohort, state]."""
    days = result.curves["day"].values
    at = int(days[-1])
    words = f"On the morning of day {at}, the last simulated"
    by_day = rule_protocol_day(result) or at
    # the end of a day is the next morning
    if by_day < at:
        words, at = f"At the end of day {by_day}", by_day + 1
    names = [str(state) for state in result.curves["state"].values]
    states = [names.index(state) for state in split_states(result)]
    (day,) = np.flatnonzero(days == at)
    shares = result.curves["split"].values[:, states, day]
    return words, np.array([of_100(row) for row in shares])


def _by_state(result: TrialResult, numbers: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    return zip(split_states(result), numbers.T, strict=True)


def _range(numbers: np.ndarray) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low}" if low == high else f"{low} to {high}"


def _told(state: str) -> str:
    return "have " + state.replace("low", "low counts", 1)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
