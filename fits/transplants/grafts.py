"""Children with grafts of a known dose, and what the marrow says of their day of recovery.

A virtual patient's graft seeds exp(-rate day) of a full pool at the usual dose, and as much more as
the dose is larger: an e-fold of cells brings the day of a full pool 1/rate days earlier. A bank of
virtual patients is simulated once; doses and populations weigh it anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from forecasts import with_any
from marrow_bank import FULL_DAY, RATE, MarrowBank
from numpy.typing import NDArray
from population import Population
from recording import OTHER_CELLS, SCATTER_AHEAD, recovery_draws
from scipy.optimize import minimize
from series import LATER, refused, table_rows

from pkpd.errors import DataError

Floats = NDArray[np.float64]

GRAFTS = {"blood": "PBSC_unmodified", "marrow": "BM_unmodified"}
"""Source in a file of children -> source of the series of adults."""

USUAL = {"blood": 10.6, "marrow": 3.5}
"""10^6 CD34+ cells/kg, the medians that the card of the graft cites."""

_ALLOWED = {
    "cd34_million_per_kg": (0.01, 1000.0, "10^6 cells/kg"),
    "anc500_day": (1.0, 100_000.0, "whole days"),
    "survival_days": (0.0, 100_000.0, "whole days"),
}
"""Least, largest, unit."""

_DRAWS = 16  # of recording, for each virtual patient
_WIDE = 0.3  # least SD of the log of the day of a full pool in a bank
_STEP = 0.5  # of the log dose, between which forecasts are interpolated
_NO_LATE = 1e-6
_LEAST_DAY = 0.1
_SEED = 5


@dataclass(frozen=True)
class Child:
    """A child with its graft; in scores, a series that is forecast on day 0.

    Attributes
    ----------
    patient
        Its key.
    source
        Of the graft, one of `GRAFTS`.
    dose
        10^6 CD34+ cells/kg; nan where it is not known.
    day
        Of recovery; None where none was seen.
    alive
        Last day on which the child was seen without recovery, where `day` is None.
    """

    patient: str
    source: str
    dose: float
    day: int | None = None
    alive: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Child and source."""
        return self.patient, self.source

    @property
    def landmarks(self) -> tuple[int, ...]:
        """Day 0."""
        return (0,)

    @property
    def outcome(self) -> int | None:
        """Day of recovery, at most `LATER`; None where it is censored."""
        return None if self.day is None else min(self.day, LATER)

    @property
    def log_dose(self) -> float:
        """Logarithm of the dose over the usual one, which stands for a dose that is not known."""
        return 0.0 if math.isnan(self.dose) else math.log(self.dose / USUAL[self.source])


def read_children(path: Path, outcomes: bool) -> list[Child]:
    """Read children, with their days of recovery if ``outcomes``.

    Raises
    ------
    DataError
        If a row cannot be used; the message names file, row, column and value.
    """
    seen = ("anc500_day", "survival_days") if outcomes else ()
    needed = ("child", "source", "cd34_million_per_kg", *seen)
    found: dict[str, Child] = {}
    for number, row in table_rows(path, needed, may_lack=needed[2:]):
        if row["child"] in found:
            raise refused(path, number, "child", row["child"], "each child once")
        if row["source"] not in GRAFTS:
            raise refused(path, number, "source", row["source"], ", ".join(GRAFTS))
        dose, *days = (_number(path, number, name, row[name]) for name in needed[2:])
        day, last = (None if value is None else int(value) for value in days or (None, None))
        found[row["child"]] = Child(row["child"], row["source"],
                                    math.nan if dose is None else dose, day,
                                    last if day is None else None)  # fmt: skip
    if not found:
        raise DataError(where=f"{path}", what="no children", remedy="give a row for each")
    return list(found.values())


def _number(path: Path, number: int, column: str, text: str) -> float | None:
    """Read a number of a field; None where it is empty."""
    try:
        value = float(text or 1.0)
    except ValueError:
        value = math.nan
    least, most, unit = _ALLOWED[column]
    if not least <= value <= most or ("whole" in unit and value != int(value)):
        allowed = f"{unit} from {least:g} to {most:g}, or an empty field"
        raise refused(path, number, column, text, allowed)
    return value if text else None


class GraftBank:
    """Virtual patients of a source, and the days on which each may recover.

    Parameters
    ----------
    marrow
        The marrow.
    population
        The bank is drawn from it, with days of a full pool spread wide, to be weighed for others.
    source
        One of `GRAFTS`.
    size
        Virtual patients (a power of 2).
    """

    def __init__(self, marrow: MarrowBank, population: Population, source: str, size: int) -> None:
        rng = np.random.default_rng(_SEED)
        self._place = population.sources.index(GRAFTS[source])
        wide = deepcopy(population)
        wide.spread[self._place, FULL_DAY] = max(wide.spread[self._place, FULL_DAY], _WIDE)
        self.patients, self.given, self._density = wide.proposal(self._place, size, rng)
        curves = marrow.counts(self.patients, self.given)
        self.days = np.zeros((size, len(OTHER_CELLS), LATER + 1))
        start = np.zeros(_DRAWS), False, False, 0
        for curve, own in zip(curves, self.days, strict=True):
            many = np.tile(curve, (_DRAWS, 1))
            for u, cells in enumerate(OTHER_CELLS):
                noise, uniform = rng.standard_normal(many.shape), rng.random(many.shape)
                other = np.full(_DRAWS, cells)
                own[u] = recovery_draws(many, other, 0, start, noise, uniform, SCATTER_AHEAD)

    def forecast(self, population: Population, log_doses: Floats) -> Floats:
        """Probabilities of recovery by day, ``[J, LATER + 1]``, at doses over the usual one."""
        first = math.floor(log_doses.min() / _STEP)
        last = math.floor(log_doses.max() / _STEP) + 1
        table = np.array([self._at(population, _STEP * k) for k in range(first, last + 1)])
        low, part = np.divmod(log_doses / _STEP - first, 1.0)
        k, part = low.astype(int), part[:, None]
        return (1.0 - part) * table[k] + part * table[k + 1]

    def _at(self, population: Population, log_dose: float) -> Floats:
        """Probabilities at one dose: patients weighed by their day at the usual dose."""
        patients = self.patients.copy()
        day = np.exp(patients[:, FULL_DAY]) + log_dose * np.exp(-patients[:, RATE])
        patients[:, FULL_DAY] = np.log(np.maximum(day, _LEAST_DAY))
        density, _ = population.log_density(self._place, patients, self.given)
        log_weights = (
            density + (self.patients[:, FULL_DAY] - patients[:, FULL_DAY] - self._density)[:, None]
        )
        log_weights[day < _LEAST_DAY] = -np.inf
        weights = np.exp(log_weights - log_weights.max())
        return with_any(weights.ravel() @ self.days.reshape(weights.size, -1), 0)


Banks = Mapping[str, GraftBank]


def forecast(banks: Banks, population: Population, children: Sequence[Child]) -> Floats:
    """Probabilities of recovery by day of each child, ``[J, LATER + 1]``."""
    found = np.empty((len(children), LATER + 1))
    for source, bank in banks.items():
        own = [i for i, child in enumerate(children) if child.source == source]
        if own:
            log_doses = np.array([children[i].log_dose for i in own])
            found[own] = bank.forecast(population, log_doses)
    return found


def log_likelihood(p: Floats, children: Sequence[Child]) -> Floats:
    """Log likelihood of what was seen of each child, ``[J]``, given probabilities by day."""
    found = np.zeros(len(children))
    for i, child in enumerate(children):
        if child.outcome is not None:
            found[i] = np.log(p[i, child.outcome])
        elif child.alive is not None:
            found[i] = np.log(p[i, min(child.alive, LATER - 1) + 1 :].sum())
    return found


def of_children(adults: Population, values: Floats) -> Population:
    """Make the population of children: full days by source, SD of their log, rate over adults'.

    ``values`` are logarithms, ``[4]``, the days in the order of `GRAFTS`.
    """
    found = deepcopy(adults)
    for source, day in zip(GRAFTS.values(), values, strict=False):
        found.mean[adults.sources.index(source), FULL_DAY] = day
    found.spread[:, FULL_DAY] = np.exp(values[2])
    found.mean[:, RATE] += values[3]
    found.late[:] = _NO_LATE
    return found


def learn(
    predict: Callable[[Floats], Floats],
    start: Sequence[float],
    children: Sequence[Child],
) -> tuple[Floats, float]:
    """Find values by maximum likelihood of what was seen of children.

    Parameters
    ----------
    predict
        Values -> probabilities by day, ``[J, LATER + 1]``.
    start
        Values to begin with.
    children
        To learn from.

    Returns
    -------
    float[V], float
        Values, and the log likelihood.
    """

    def loss(values: Floats) -> float:
        return -float(log_likelihood(predict(values), children).sum())

    best = minimize(loss, np.array(start), method="L-BFGS-B", options={"eps": 1e-3, "ftol": 1e-6})
    return best.x, -float(best.fun)


def start_of(adults: Population) -> list[float]:
    """Values of `of_children` to begin with: days of adults, a spread of a fifth, their rate."""
    places = [adults.sources.index(source) for source in GRAFTS.values()]
    return [*adults.mean[places, FULL_DAY], math.log(0.2), 0.0]
