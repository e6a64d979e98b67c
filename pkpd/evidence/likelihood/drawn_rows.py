"""Draw what trials would have printed, as the likelihood says (`pkpd.evidence.likelihood.density`).

A study draws an offset for each channel and a reading of each definition that it does not state;
arms deviate; then patients are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit

from pkpd.arrays import Floats
from pkpd.evidence.likelihood.cells import CHANNELS, DOUBT, Cell, Cells
from pkpd.evidence.likelihood.terms import Term
from pkpd.evidence.table.table import EvidenceRow

_LOGISTIC_SD = float(np.pi / np.sqrt(3.0))
_QUARTILE = float(np.log(3.0))  # logit of 3/4
# Root of n times the covariance of the logits of the distribution function at median, lower and
# upper quartile of n patients, min(p, q) (1 - max(p, q)) over p (1 - p) q (1 - q); the difference
# of the quartiles has 64/9, and none with the median
_OF_QUANTILES = np.linalg.cholesky(
    np.array([[4.0, 8 / 3, 8 / 3], [8 / 3, 16 / 3, 16 / 9], [8 / 3, 16 / 9, 16 / 3]])
)


class RowDrawer:
    """Draws rows of terms again and again.

    Parameters
    ----------
    terms, cells
        Of a table: terms and `pkpd.evidence.likelihood.cells.cells_of` them.
    """

    def __init__(self, terms: Sequence[Term], cells: Cells) -> None:
        self.terms = tuple(terms)
        self._own: list[list[Cell]] = [[] for _ in self.terms]
        for cell in cells.cells:
            self._own[cell.term].append(cell)

    def __call__(
        self,
        logits: Floats,
        days: Floats,
        theta: Mapping[str, float],
        rng: np.random.Generator,
        chances: dict[str, float] | None = None,
    ) -> dict[str, EvidenceRow]:
        """Draw every row once.

        Parameters
        ----------
        logits : float[S]
        days : float[D, 4]
            Summaries of the arms on the scale of `logits_and_days`.
        theta
            Parameters, with the spreads between studies and arms.
        rng
            Random numbers.
        chances
            Gets the probability of the event for each row that counts patients.

        Returns
        -------
        dict
            Row id -> row with new numbers. A tolerated dose has value 1 if it is declared so.
        """
        offsets: dict[tuple[str, str], float] = {}
        readings: dict[tuple[str, tuple[str, ...]], int] = {}
        told = {} if chances is None else chances
        rows: dict[str, EvidenceRow] = {}
        for term, own in zip(self.terms, self._own, strict=True):
            for channel in CHANNELS:
                if (term.study, channel) not in offsets:
                    sd = theta[f"between.{channel}"]
                    offsets[term.study, channel] = sd * float(rng.standard_normal())
            key = (term.study, term.family)
            if key not in readings:
                p = np.exp(term.log_priors)
                readings[key] = int(rng.choice(p.size, p=p / p.sum()))
            cells = [c for c in own if c.reading in (-1, readings[key])]
            draw = _Draw(logits, days, theta, rng, offsets)
            rows |= draw.rows(term, cells, told)
        return rows


class _Draw:
    """One replicate of one term."""

    def __init__(
        self,
        logits: Floats,
        days: Floats,
        theta: Mapping[str, float],
        rng: np.random.Generator,
        offsets: Mapping[tuple[str, str], float],
    ) -> None:
        self.logits, self.days, self.theta, self.rng = logits, days, theta, rng
        self.offsets = offsets

    def rows(self, term: Term, cells: list[Cell], told: dict[str, float]) -> dict[str, EvidenceRow]:
        first = cells[0]
        if term.kind == "Dirichlet-multinomial":
            return self._joint(term, cells, told)
        row = term.rows[0]
        if first.kind == "count":
            q, n = self._chance(first), int(first.numbers[1])
            told[row.id] = q
            k = int(self.rng.binomial(n, q))
            return {row.id: replace(row, numerator=k, value=k / n)}
        if first.kind == "tolerated":
            passes = [self._passes(first, place) for place in (first.first, first.second)]
            return {row.id: replace(row, value=float(passes[0] and not passes[1]))}
        if first.kind in ("ratio", "difference"):
            return {row.id: replace(row, value=self._compared(first))}
        return {row.id: self._days_row(row, cells)}

    def _chance(self, cell: Cell) -> float:
        b = cell.sign * self.offsets[cell.study, cell.channel]
        q = float(np.clip(expit(self.logits[cell.first] + b), 1e-6, 1.0 - 1e-6))
        size = 1.0 / (self.theta["discrepancy"] + DOUBT[0] * cell.doubtful + 1e-5)
        return float(self.rng.beta(q * size, (1.0 - q) * size))

    def _passes(self, cell: Cell, place: int) -> bool:
        b = self.offsets[cell.study, cell.channel]
        first, second = self.rng.binomial(3, float(expit(self.logits[place] + b)), size=2)
        return bool(first == 0 or (first == 1 and second == 0))

    def _joint(
        self, term: Term, cells: list[Cell], told: dict[str, float]
    ) -> dict[str, EvidenceRow]:
        whats = term.readings[0].observables
        responses = [r for r, w in zip(term.rows, whats, strict=True) if w.kind == "response"]
        deaths = [r for r, w in zip(term.rows, whats, strict=True) if w.kind == "death"]
        n = term.rows[0].denominator or 1
        waiting = list(cells)
        rows: dict[str, EvidenceRow] = {}
        responders, chance = 0, 0.0
        if responses:
            chance = self._chance(waiting.pop(0))
            responders = int(self.rng.binomial(n, chance))
        left, rest = responders, chance
        for index, row in enumerate(responses):
            last = index == len(responses) - 1
            part = 1.0 if last else self._chance(waiting.pop(0))
            k = left if last else int(self.rng.binomial(left, part))
            told[row.id] = rest * part
            rows[row.id] = replace(row, numerator=k, value=k / n)
            left, rest = left - k, rest * (1.0 - part)
        for row in deaths:
            part = self._chance(waiting.pop(0))
            k = int(self.rng.binomial(n - responders, part))
            told[row.id] = (1.0 - chance) * part
            rows[row.id] = replace(row, numerator=k, value=k / n)
        return rows

    def _arm_days(self, cell: Cell) -> float:
        return float(np.hypot(self.theta["discrepancy.days"], DOUBT[1] * cell.doubtful))

    def _at(self, place: int, z: float, shift: float, extra: float) -> float:
        """Day at a logit of the distribution function."""
        centre, below, above = self.days[place, :3]
        middle, half = 0.5 * (below + above), np.clip(0.5 * (above - below), -2.0, 2.0)
        off = z * np.exp(middle)
        for _ in range(60):  # the scale at a day depends on the day: a contraction
            own = np.exp(middle + half * np.tanh(off * np.exp(-middle)))
            before, off = off, 0.5 * (off + z * np.hypot(own, extra / _LOGISTIC_SD))
            if abs(off - before) < 1e-10:
                break
        return float(np.exp(centre + shift + off))

    def _quartiles(self, cell: Cell, z: float, n: float, extra: float) -> tuple[float, float]:
        """Logits at both quartiles of n patients whose median has the score z; arms differ, too."""
        scores = np.array([z, *self.rng.standard_normal(2)])
        _, low, high = _OF_QUANTILES @ scores / np.sqrt(n)
        lower, upper = low - _QUARTILE, high + _QUARTILE
        slopes = [self._slope(cell.first, at) for at in (lower, upper)]
        # as much as the density says, less what the arm's shift does where slopes differ
        rest = max(min(slopes) ** 2 - (slopes[1] - slopes[0]) ** 2, 0.0)
        wider = 0.5 * extra * float(np.sqrt(rest) * self.rng.standard_normal())
        return lower - wider, upper + wider

    def _slope(self, place: int, z: float) -> float:
        """Logits for each unit of the log of days."""
        step = 0.01
        low, high = (np.log(self._at(place, z + d, 0.0, 0.0)) for d in (-step, step))
        return float(2.0 * step / (high - low))

    def _days_row(self, row: EvidenceRow, cells: list[Cell]) -> EvidenceRow:
        first = cells[0]
        n, extra = first.numbers[-1], self._arm_days(first)
        own = self.offsets[first.study, first.channel]
        arm = own + extra * float(self.rng.standard_normal())
        counts = row.endpoint.at_start
        z = float(self.rng.standard_normal())
        if first.kind == "mean":
            scale = 0.5 * float(np.exp(self.days[first.first, 1:3]).sum()) * _LOGISTIC_SD
            log = self.days[first.first, 3] + arm
            value = float(np.exp(log + scale / np.sqrt(n) * z))
        else:
            value = self._at(first.first, 2.0 / np.sqrt(n) * z, arm, 0.0)
        row = replace(row, value=_printed(value, counts))
        for cell in cells[1:]:
            if cell.kind == "range":
                u = np.log(self.rng.random(2)) / n
                # the largest of n: F^n is uniform
                ends = [-_logit_of_log(u[0]), _logit_of_log(u[1])]
                limits = [self._at(cell.first, at, own, extra) for at in ends]
            else:
                ends = self._quartiles(cell, z, n, extra)
                lower, upper = (self._at(cell.first, at, arm, 0.0) for at in ends)
                limits = [min(lower, value), max(upper, value)]
            lower, upper = sorted(_printed(limit, counts) for limit in limits)
            row = replace(row, lower=lower, upper=upper)
        return row

    def _compared(self, cell: Cell) -> float:
        _, sd, n = cell.numbers
        extra = self._arm_days(cell)
        logs, variances = [], []
        for place in (cell.first, cell.second):
            scale = float(np.exp(self.days[place, 1:3]).sum())
            logs.append(self.days[place, 0] + extra * float(self.rng.standard_normal()))
            variances.append(scale**2 / n)
        if cell.kind == "ratio":
            error = sd or float(np.sqrt(sum(variances)))
            return float(np.exp(logs[0] - logs[1] + error * self.rng.standard_normal()))
        ends = np.exp(logs)
        error = sd or float(np.sqrt(ends**2 @ np.array(variances)))
        return float(ends[0] - ends[1] + error * self.rng.standard_normal())


def _logit_of_log(log_p: float) -> float:
    return float(log_p - np.log(-np.expm1(log_p)))


def _printed(value: float, counts: bool) -> float:
    """Print a count to about two figures, or a whole day."""
    return float(f"{value:.2g}") if counts else float(np.round(value))
