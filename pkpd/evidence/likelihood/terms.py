"""Terms of the likelihood: one row, or the rows that count the same patients, each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pkpd.arrays import Floats
from pkpd.evidence.table.endpoints import Observable
from pkpd.evidence.table.table import EvidenceRow

LOG_DAYS = (float(np.log(0.3)), float(np.log(200.0)))  # support of days
LOG_COUNTS = (float(np.log(0.005)), float(np.log(1000.0)))  # support of counts, 10^9/L
FEVER_HAZARD = "fever_hazard"  # parameter, per day of neutrophils below 0.5


@dataclass(frozen=True)
class Reading:
    """One reading of a term's rows: what is seen on patients, for each row."""

    log_probability: float
    name: str
    observables: tuple[Observable, ...]


@dataclass(frozen=True)
class Term:
    """Rows that are one factor of the likelihood.

    Attributes
    ----------
    kind
        ``beta-binomial``, ``Dirichlet-multinomial``, ``median``, ``median and range``,
        ``quartiles``, ``mean``, ``mean and range``, ``tolerated dose``, ``ratio``, ``difference``.
    rows
        One, or several of one arm for the Dirichlet-multinomial.
    power
        1, or less for a doubtful source, whose rows err by more
        (`pkpd.evidence.likelihood.cells.DOUBT`).
    readings
        Readings of the rows, with their probabilities.
    """

    kind: str
    rows: tuple[EvidenceRow, ...]
    power: float
    readings: tuple[Reading, ...]

    @property
    def study(self) -> str:
        """Study of the rows."""
        return self.rows[0].study

    @cached_property
    def name(self) -> str:
        """Ids of the rows, each with its study first, joined by ``+``."""
        return "+".join(
            row.id if row.id.startswith(f"{row.study}.") else f"{row.study}.{row.id}"
            for row in self.rows
        )

    @cached_property
    def family(self) -> tuple[str, ...]:
        """Terms of a study with the same family share one unknown reading."""
        if len(self.readings) == 1:
            return ()
        return tuple(reading.name for reading in self.readings)

    @cached_property
    def log_priors(self) -> Floats:
        """Log probabilities of the readings."""
        return np.array([reading.log_probability for reading in self.readings])

    @cached_property
    def arm_keys(self) -> tuple[str, ...]:
        """Arms needed."""
        row = self.rows[0]
        other = row.other_arm if self.kind in TWO_ARMS else None
        return (row.arm,) if other is None else (row.arm, other)


TWO_ARMS = ("tolerated dose", "ratio", "difference")


def cell(value: float, count: bool) -> tuple[float, float]:
    """Give the ends of the cell that a printed number stands for, on the log scale.

    Days are printed to half a day at best. Counts (10^9/L) are printed to about two figures, and
    a printed 0 is anything below 0.05.
    """
    if not count:
        lowest = float(np.exp(LOG_DAYS[0]))
        return (float(np.log(max(value - 0.5, lowest))), float(np.log(value + 0.5)))
    if value <= 0.0:
        return (LOG_COUNTS[0], float(np.log(0.05)))
    half = max(0.03 * value, 0.05 if value >= 1 else 0.005)
    return (float(np.log(max(value - half, 0.006))), float(np.log(value + half)))


def standard_error(row: EvidenceRow) -> float | None:
    """Derive the standard error of a ratio (of its log) or difference from its interval."""
    if row.lower is None or row.upper is None or row.limits == "iqr":
        return None
    width = {"ci90": 3.29, "ci95": 3.92, "range": 2.0}[row.limits]
    if row.endpoint.kind == "ratio":
        return float(np.log(row.upper / row.lower)) / width
    return (row.upper - row.lower) / width
