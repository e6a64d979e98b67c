"""Predict published rows: simulate their arms at posterior draws, and draw what is printed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pkpd.arrays import Floats
from pkpd.errors import PkpdWarning
from pkpd.evidence.likelihood.drawn_rows import RowDrawer
from pkpd.evidence.likelihood.summaries import Summaries
from pkpd.evidence.likelihood.total import EvidenceLikelihood, Simulator
from pkpd.evidence.table.table import EvidenceRow


@dataclass(frozen=True)
class RowCheck:
    """A published number beside its prediction.

    Attributes
    ----------
    row
        The row.
    kind
        Kind of likelihood.
    observed
        Share, day, count or ratio.
    lower, median, upper
        Of the predictive distribution; the interval has the level asked for.
    pit
        Probability, under the prediction, of a number below the observed one, ties split at
        random: uniform over rows if predictions are calibrated.
    inside
        Whether the observed number is in the interval.
    """

    row: EvidenceRow
    kind: str
    observed: float
    lower: float
    median: float
    upper: float
    pit: float
    inside: bool


@dataclass(frozen=True)
class RowsPredicted:
    """What draws say of rows.

    Attributes
    ----------
    rows
        By id.
    values : float[draws * repeats]
        Numbers that a trial would print, by id of the row.
    chances : float[draws * repeats]
        For rows that count patients, the probabilities they were drawn with.
    kinds
        Kind of likelihood of each row.
    """

    rows: Mapping[str, EvidenceRow]
    values: Mapping[str, Floats]
    chances: Mapping[str, Floats]
    kinds: Mapping[str, str]

    def __repr__(self) -> str:
        """Tell how many rows and draws there are."""
        draws = len(next(iter(self.values.values()), ()))
        return f"RowsPredicted({len(self.rows)} rows, {draws} predictions of each)"

    def checks(
        self,
        level: float = 0.90,
        seed: int = 1,
        weights: Mapping[str, Floats] | None = None,
    ) -> tuple[RowCheck, ...]:
        """Compare each row with its interval.

        Parameters
        ----------
        level
            Of the intervals.
        seed
            Of how ties are split.
        weights : float[draws]
            By study, of the draws (such as those that leave the study out); equal if absent.

        Warns
        -----
        PkpdWarning
            Of rows for which no draw gives a number: nothing is said of them.
        """
        rng, own = np.random.default_rng(seed), weights or {}
        checks, lost = [], []
        for name, row in self.rows.items():
            values = self.values[name]
            given = own.get(row.study, np.ones(1))
            w = np.repeat(given, values.size // given.size)
            if np.isfinite(values[w > 0.0]).any():
                checks.append(check_row(row, self.kinds[name], values, w, level, rng))
            else:
                lost.append(name)
        if lost:
            what = "no draw gives a number, they are not compared"
            warnings.warn(f"rows {', '.join(lost)}: {what}.", PkpdWarning, stacklevel=2)
        return tuple(checks)


def predicted_logits(draws: Sequence[Summaries]) -> list[tuple[Floats, Floats]]:
    """Put what draws simulate on the scale of rows, so that shares have the mean of the draws.

    A share of few patients may be 0 or 1, which has no logit. The likelihood adds half a patient to
    either side (`pkpd.evidence.likelihood.density.logits_and_days`); over draws that would move
    every rare risk, .020 to .027 with 64 patients. Here each draw has one patient more, who is as
    all patients of all draws are.

    Parameters
    ----------
    draws
        Summaries of the same arms under each draw.

    Returns
    -------
    list of (float[S], float[D, 4])
        For each draw logits of the shares, and days as `logits_and_days` gives them.
    """
    share, size = np.array([one.share for one in draws]), np.array([one.size for one in draws])
    mean = (np.sum(share * size, axis=0) + 0.5) / (np.sum(size, axis=0) + 1.0)
    share = (share * size + mean) / (size + 1.0)
    logits = np.log(share) - np.log1p(-share)
    days = np.array([one.days for one in draws])
    days[..., 1:3] = np.log(days[..., 1:3])
    return list(zip(logits, days, strict=True))


def predict_table(
    likelihood: EvidenceLikelihood,
    simulate: Callable[[int], Simulator],
    draws: Sequence[Mapping[str, float]],
    *,
    repeats: int = 8,
    seed: int = 1,
    on_draw: Callable[[int], None] | None = None,
) -> RowsPredicted:
    """Predict every row that has a likelihood, but tolerated doses.

    Parameters
    ----------
    likelihood
        Of the rows; they need not have been learned from.
    simulate
        From a seed to a simulator of the rows' arms: every draw has patients of its own.
    draws
        Parameters, with the spreads between studies and arms.
    repeats
        Replicates of each row and draw: each has an offset of its study of its own.
    seed
        Of patients and replicates.
    on_draw
        Called with the number of draws that are simulated.
    """
    drawer = RowDrawer(likelihood.terms, likelihood.cells)
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {}
    chances: dict[str, list[float]] = {}
    seen: list[Summaries] = []
    for index, theta in enumerate(draws):
        seen.append(likelihood.summaries(theta, simulate(seed + index)(theta)))
        if on_draw is not None:
            on_draw(index + 1)
    for theta, (logits, days) in zip(draws, predicted_logits(seen), strict=True):
        for _ in range(repeats):
            told: dict[str, float] = {}
            for name, row in drawer(logits, days, theta, rng, told).items():
                values.setdefault(name, []).append(observed_number(row))
            for name, chance in told.items():
                chances.setdefault(name, []).append(chance)
    kept = {
        row.id: (row, term.kind)
        for term in likelihood.terms
        for row in term.rows
        if term.kind != "tolerated dose"
    }
    return RowsPredicted(
        {name: row for name, (row, _) in kept.items()},
        {name: np.array(values[name]) for name in kept},
        {name: np.array(chances.get(name, [])) for name in kept},
        {name: kind for name, (_, kind) in kept.items()},
    )


def observed_number(row: EvidenceRow) -> float:
    """Give the printed number of a row as one figure: the share of a count, else the value."""
    if row.endpoint.kind == "count" and row.numerator is not None and row.denominator:
        return row.numerator / row.denominator
    return row.value if row.value is not None else float("nan")


def check_row(
    row: EvidenceRow,
    kind: str,
    values: Floats,
    weights: Floats,
    level: float,
    rng: np.random.Generator,
) -> RowCheck:
    """Compare a row with weighted numbers that were predicted for it."""
    good = np.isfinite(values)
    values, weights = values[good], weights[good] / weights[good].sum()
    observed = observed_number(row)
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    tail = 0.5 * (1.0 - level)

    def quantile(p: float) -> float:
        return float(values[order][min(int(np.searchsorted(cumulative, p)), values.size - 1)])

    lower, median, upper = quantile(tail), quantile(0.5), quantile(1.0 - tail)
    below = float(weights[values < observed - 1e-9].sum())
    ties = float(weights[np.abs(values - observed) <= 1e-9].sum())
    pit = below + rng.random() * ties
    inside = lower - 1e-9 <= observed <= upper + 1e-9
    return RowCheck(row, kind, observed, lower, median, upper, pit, inside)
