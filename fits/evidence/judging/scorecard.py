"""Scores of predicted rows beside what they must beat, with errors that know of studies.

Every row has three scores of every predictor: the continuous ranked probability score (CRPS; of
shares as they are, of days on the log scale), the log probability of the printed number, and
whether it lies in the central 50, 80 and 90 % intervals, with their widths. Differences between
predictors are paired by row; rows of one study are not independent, so that standard errors are
clustered by study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import ndtr
from scipy.stats import binom

from judging.averages import average_of_similar
from judging.baselines import DRAWS as REGRESSION_DRAWS
from judging.baselines import DoseRegression, fit_doses
from pkpd.arrays import Floats
from pkpd.evidence.criticism.row_predictions import observed_number
from pkpd.evidence.likelihood.terms import LOG_COUNTS, LOG_DAYS, Term, cell
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.evidence.table.table import EvidenceRow

LEVELS = (0.5, 0.8, 0.9)
MODEL, AVERAGE, REGRESSION = "model", "average of similar trials", "dose regression"
MIXTURE = "mixture"  # of these three (`judging.stacking`)

_KINDS = {
    "response": "remission or response",
    "response_day": "day of remission",
    "death": "early death",
    "recovery_day": "day of recovery",
    "delayed": "delayed recovery",
    "not_recovered": "delayed recovery",
    "grade": "grade 3-4 cytopenia",
    "fever": "fever",
    "baseline": "count at the start",
    "baseline_grade": "grade 3-4 cytopenia at the start",
    "low_days": "days with a low count",
    "low_run": "long run of low counts",
}


@dataclass(frozen=True)
class Predicted:
    """What a predictor says of one row: ``values`` ``[R]`` that a trial would print, log score.

    The log score is NaN for a difference or ratio of two arms, which is not scored.
    """

    values: Floats
    log_score: float


@dataclass(frozen=True)
class RowScore:
    """Scores of one predictor on one row.

    Attributes
    ----------
    row
        The row.
    predictor
        Its name.
    crps, log_score
        Lower and higher is better.
    pit
        Share of predicted numbers below the printed one, half of those that equal it.
    inside, width, held
        By level; widths of days are on the log scale. What intervals hold of the predicted numbers
        is more than their level, since patients and days are whole.
    mean
        Of the predicted numbers, as they would be printed.
    """

    row: EvidenceRow
    predictor: str
    crps: float
    log_score: float
    pit: float
    inside: Mapping[float, bool]
    width: Mapping[float, float]
    held: Mapping[float, float]
    mean: float


def crps(values: Floats, observed: float) -> float:
    """Continuous ranked probability score of equally likely values: E|X - y| - E|X - X'| / 2."""
    ordered = np.sort(values)
    n = ordered.size
    # the mean absolute difference of all pairs, from their order
    spread = 2.0 * float(ordered @ (2.0 * np.arange(1, n + 1) - n - 1.0)) / n**2
    return float(np.abs(ordered - observed).mean()) - 0.5 * spread


def is_day(row: EvidenceRow) -> bool:
    """Whether a row prints days (or counts), which are compared on the log scale."""
    return row.endpoint.kind != "count"


def of_one_arm(row: EvidenceRow) -> bool:
    """Whether a row prints a number of one arm: a difference or ratio of two has no baseline."""
    return row.endpoint.kind not in ("ratio", "difference")


def score_row(row: EvidenceRow, predictor: str, said: Predicted) -> RowScore:
    """Score one prediction."""
    values = said.values[np.isfinite(said.values)]
    observed, mean = observed_number(row), float(values.mean())
    if is_day(row):
        counts = row.endpoint.at_start
        values, observed = logs(values, counts), float(logs(observed, counts))
    inside, width, held = {}, {}, {}
    for level in LEVELS:
        tail = 0.5 * (1.0 - level)
        low, high = np.quantile(values, [tail, 1.0 - tail], method="inverted_cdf")
        inside[level] = bool(low - 1e-9 <= observed <= high + 1e-9)
        width[level] = float(high - low)
        held[level] = float(((values >= low - 1e-9) & (values <= high + 1e-9)).mean())
    below = float((values < observed - 1e-9).mean())
    ties = float((np.abs(values - observed) <= 1e-9).mean())
    return RowScore(
        row, predictor, crps(values, observed), said.log_score, below + 0.5 * ties, inside, width,
        held, mean,
    )  # fmt: skip


def logs(values: Floats | float, count: bool) -> Floats:
    """Logarithms of days, or of counts at the start, which are smaller."""
    return np.log(np.maximum(values, np.exp((LOG_COUNTS if count else LOG_DAYS)[0])))


def day_log_score(values: Floats, printed: float, count: bool = False) -> float:
    """Log probability of a printed day (or count), smoothed by a normal kernel of logs."""
    x = logs(values[np.isfinite(values)], count)
    width = max(0.9 * float(x.std()) * x.size**-0.2, 0.03)
    bottom, top = cell(printed, count)
    share = (ndtr((top - x) / width) - ndtr((bottom - x) / width)).mean()
    return float(np.log(max(float(share), 1e-300)))


def predicted_row(row: EvidenceRow, values: Floats, chances: Floats) -> Predicted:
    """Gather what draws say of a row: numbers, and for counts the probabilities drawn."""
    if not of_one_arm(row):  # 5 days earlier is no day
        return Predicted(values, np.nan)
    if chances.size:
        return Predicted(values, count_log_score(chances, row.numerator or 0, row.denominator or 1))
    return Predicted(values, day_log_score(values, observed_number(row), row.endpoint.at_start))


def averages(
    rows: Sequence[EvidenceRow], learned_from: Sequence[EvidenceRow], seed: int = 1
) -> dict[str, Predicted]:
    """Predictions by the average of similar trials, by id of the row."""
    rng = np.random.default_rng(seed)
    found = {row.id: average_of_similar(row, learned_from, rng) for row in rows}
    return {
        name: Predicted(one.values, one.log_score) for name, one in found.items() if one is not None
    }


def regressions(
    rows: Sequence[EvidenceRow], learned_from: Sequence[Term], seed: int = 1
) -> dict[str, Predicted]:
    """Predictions by the dose regression, by id of the row."""
    model = fit_doses(learned_from)
    rng = np.random.default_rng(seed)
    return {row.id: _regression(model, row, rng) for row in rows}


def _regression(model: DoseRegression, row: EvidenceRow, rng: np.random.Generator) -> Predicted:
    eta = model.linear(row, rng)
    if not is_day(row):
        n, k = row.denominator or 1, row.numerator or 0
        share = 1.0 / (1.0 + np.exp(-eta))
        values = rng.binomial(n, share) / n
        return Predicted(values, count_log_score(share, k, n))
    error = model.spread * np.sqrt(1.57 / (row.n or 10))
    values = np.exp(eta + error * rng.standard_normal(REGRESSION_DRAWS))
    values = values if row.endpoint.at_start else np.round(values)
    return Predicted(values, day_log_score(values, observed_number(row), row.endpoint.at_start))


def count_log_score(share: Floats, events: int, patients: int) -> float:
    """Log probability of a count, given equally likely probabilities of an event."""
    each = binom.logpmf(events, patients, np.clip(share, 1e-12, 1.0 - 1e-12))
    return float(np.logaddexp.reduce(each) - np.log(each.size))


# -- sums ------------------------------------------------------------------------------------------


def kind_of(row: EvidenceRow) -> str:
    """Endpoint of a row in words."""
    return _KINDS[row.endpoint.alternatives[0].observable.kind]


def drug_of(row: EvidenceRow) -> str:
    """Drug that a row is about: the rarest of those it gives."""
    drugs = {entry.drug for entry in row.simulated.drugs}
    return next((d for d in ("clofarabine", "lenalidomide") if d in drugs), "other")


GROUPINGS: Mapping[str, Callable[[EvidenceRow], str]] = {
    "endpoint": kind_of,
    "drug": drug_of,
    "population": lambda row: row.population.disease,
}


@dataclass(frozen=True)
class Paired:
    """A score of one predictor less that of another, over the rows that both predict.

    Attributes
    ----------
    rows, studies
        How many.
    ours, theirs
        Means of the score.
    difference, error
        Mean difference, and its standard error, clustered by study (NaN with one study).
    """

    rows: int
    studies: int
    ours: float
    theirs: float
    difference: float
    error: float


def paired(
    ours: Sequence[RowScore], theirs: Sequence[RowScore], score: Callable[[RowScore], float]
) -> Paired:
    """Compare two predictors row by row."""
    other = {one.row.id: one for one in theirs}
    mine = [one for one in ours if one.row.id in other]
    a = np.array([score(one) for one in mine])
    b = np.array([score(other[one.row.id]) for one in mine])
    studies = [one.row.study for one in mine]
    return Paired(
        len(mine), len(set(studies)), float(a.mean()) if mine else np.nan,
        float(b.mean()) if mine else np.nan, float((a - b).mean()) if mine else np.nan,
        clustered_error(a - b, studies),
    )  # fmt: skip


def clustered_error(values: Floats, clusters: Sequence[str]) -> float:
    """Give the standard error of a mean whose values depend on each other within clusters.

    The sandwich estimate of Liang and Zeger (1986) with the factor ``S / (S - 1)``.
    """
    names = sorted(set(clusters))
    if len(names) < 2:
        return float("nan")
    off = values - values.mean()
    index = np.array([names.index(one) for one in clusters])
    sums = np.bincount(index, weights=off)
    s = len(names)
    return float(np.sqrt(s / (s - 1.0) * (sums @ sums)) / values.size)


@dataclass(frozen=True)
class Scorecard:
    """Scores of several predictors on the same rows.

    Attributes
    ----------
    scores
        Predictor -> its scores; the first predictor is judged, and the mixture where there is one.
    missing
        Predictor -> rows that it cannot predict.
    """

    scores: Mapping[str, Sequence[RowScore]]
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def rows(self) -> list[EvidenceRow]:
        """Rows that were scored."""
        return [one.row for one in next(iter(self.scores.values()))]

    def coverage(self, predictor: str, level: float) -> tuple[int, int]:
        """Rows inside their intervals, and rows."""
        mine = self.scores[predictor]
        return sum(one.inside[level] for one in mine), len(mine)

    def calibrated(self, predictor: str, level: float) -> float:
        """Share of rows that would be inside if printed numbers were those predicted."""
        return float(np.mean([one.held[level] for one in self.scores[predictor]]))

    def width(self, predictor: str, level: float, days: bool) -> float:
        """Median width of intervals: of shares, or of days on the log scale."""
        mine = [one.width[level] for one in self.scores[predictor] if is_day(one.row) == days]
        return float(np.median(mine)) if mine else float("nan")

    def groups(self) -> list[tuple[str, str, list[str]]]:
        """Give grouping, group and ids of its rows; all rows first, then shares and days."""
        rows = self.rows
        found = [("all", "all rows", [row.id for row in rows])]
        for name, days in (("shares", False), ("days", True)):
            found.append(("all", name, [row.id for row in rows if is_day(row) == days]))
        for grouping, of in GROUPINGS.items():
            for group in dict.fromkeys(of(row) for row in rows):
                found.append((grouping, group, [row.id for row in rows if of(row) == group]))
        return [one for one in found if one[2]]

    def against(
        self,
        other: str,
        ids: Sequence[str],
        score: Callable[[RowScore], float],
        judged: str | None = None,
    ) -> Paired:
        """Compare a judged predictor (the first, unless named) with another over some rows."""
        chosen = set(ids)
        name = judged or next(iter(self.scores))
        mine = [one for one in self.scores[name] if one.row.id in chosen]
        return paired(mine, [s for s in self.scores[other] if s.row.id in chosen], score)


def scorecard(
    rows: Sequence[EvidenceRow], predictions: Mapping[str, Mapping[str, Predicted]]
) -> Scorecard:
    """Score predictions of rows.

    Parameters
    ----------
    rows
        Rows with their printed numbers.
    predictions
        Predictor -> id of the row -> what it says. The first must have all rows.
    """
    scores, missing = {}, {}
    for name, said in predictions.items():
        scores[name] = [score_row(row, name, said[row.id]) for row in rows if row.id in said]
        missing[name] = [row.id for row in rows if row.id not in said]
    return Scorecard(scores, missing)


def scorecard_text(card: Scorecard) -> str:
    """Print a card: coverage with widths, then paired differences by group."""
    names = list(card.scores)
    pairs = [(names[0], other) for other in names[1:] if other != MIXTURE]
    if MIXTURE in names:
        pairs += [(MIXTURE, other) for other in (names[0], AVERAGE, REGRESSION)]
    studies = len({row.study for row in card.rows})
    lines = [f"{len(card.rows)} rows of {studies} studies", ""]
    head = f"{'predictor':28} {'rows':>5}" + "".join(f"   in {lv:.0%}" for lv in LEVELS)
    lines.append(f"{head}   width of 90 % (shares)   width of 90 % (days, ratio)")
    for name in names:
        told = "".join(
            f"   {inside / max(n, 1):6.1%}"
            for inside, n in (card.coverage(name, level) for level in LEVELS)
        )
        days = np.exp(card.width(name, 0.9, True))
        lines.append(
            f"{name:28} {len(card.scores[name]):5d}{told}   {card.width(name, 0.9, False):21.2f}"
            f"   {days:24.2f}"
        )
    calibrated = ", ".join(f"{card.calibrated(names[0], level):.1%}" for level in LEVELS)
    lines.append(f"calibrated, {names[0]}: {calibrated}, since patients and days are whole")
    for judged, other in pairs:
        lines += ["", f"{judged} less {other} (negative CRPS and positive log score favour the "
                  f"{judged}; standard errors clustered by study)"]  # fmt: skip
        lines.append(
            f"{'':28} {'rows':>5} {'studies':>8} {'CRPS':>7} {'theirs':>7} {'difference (SE)':>19} "
            f"{'log score, sum (SE)':>21}"
        )
        for grouping, group, ids in card.groups():
            a = card.against(other, ids, lambda one: one.crps, judged)
            b = card.against(other, ids, lambda one: one.log_score, judged)
            if a.rows == 0:
                continue
            name = group if grouping == "all" else f"{grouping}: {group}"
            lines.append(
                f"{name:28.28} {a.rows:5d} {a.studies:8d} {a.ours:7.3f} {a.theirs:7.3f} "
                f"{a.difference:+9.3f} ({a.error:6.3f}) "
                f"{b.difference * b.rows:+12.1f} ({b.error * b.rows:5.1f})"
            )
    for name, ids in card.missing.items():
        if ids:
            lines += ["", f"{name} cannot predict {len(ids)} rows: {', '.join(ids)}"]
    return "\n".join(lines)


def scorecard_rows(card: Scorecard) -> list[dict[str, object]]:
    """One line for each row and predictor."""
    return [
        {
            "row": one.row.id,
            "study": one.row.study,
            "endpoint": kind_of(one.row),
            "drug": drug_of(one.row),
            "population": one.row.population.name,
            "predictor": name,
            "printed": observed_number(one.row),
            "crps": one.crps,
            "log_score": one.log_score,
            "pit": one.pit,
            **{f"inside_{level:.0%}": int(one.inside[level]) for level in LEVELS},
            **{f"width_{level:.0%}": one.width[level] for level in LEVELS},
        }
        for name, scores in card.scores.items()
        for one in scores
    ]


def as_record(card: Scorecard) -> dict[str, Any]:
    """Give the scores that the record of a posterior keeps: coverage, widths, CRPS by both."""
    rows = card.rows
    inside, number = card.coverage(MODEL, 0.9)
    of_average, predicted = card.coverage(AVERAGE, 0.9)
    both = card.against(AVERAGE, [row.id for row in rows], lambda one: one.crps)
    kinds = [kind_of(row) for row in rows]
    mixed = [] if MIXTURE not in card.scores else [
        (name, card.against(name, [row.id for row in rows], lambda one: one.crps, MIXTURE))
        for name in (AVERAGE, REGRESSION)
    ]  # fmt: skip
    return {
        "rows": number,
        "studies": len({row.study for row in rows}),
        "inside": inside,
        "calibrated": card.calibrated(MODEL, 0.9),
        "width": card.width(MODEL, 0.9, False),
        "crps": both.ours,
        "average": {
            "rows": predicted,
            "inside": of_average,
            "width": card.width(AVERAGE, 0.9, False),
            "crps": both.theirs,
            "difference": both.difference,
            "error": both.error,
        },
        "about": {kind: kinds.count(kind) for kind in sorted(set(kinds), key=kinds.count)[::-1]},
        "mixture": {
            name: {"crps": one.ours, "difference": one.difference, "error": one.error}
            for name, one in mixed
        },
    }


def with_scores(posterior: EvidencePosterior, scores: Mapping[str, Any]) -> EvidencePosterior:
    """Add scores to the record of a posterior, in place of those of the same names."""
    tested = posterior.record.get("tested")
    old = tested if isinstance(tested, Mapping) else {}
    return replace(posterior, record={**posterior.record, "tested": {**old, **scores}})
