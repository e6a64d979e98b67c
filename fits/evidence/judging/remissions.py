"""How far predicted remissions are from printed ones: bias by group, rank correlation of studies.

Groups are what patients had had before, as the row or its population says, and for untreated adults
their age: an average of similar trials may be right on the whole and wrong in each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from judging.scorecard import RowScore, Scorecard, clustered_error
from pkpd.evidence.criticism.row_predictions import observed_number
from pkpd.evidence.table.age_limits import YOUNGEST_ADULT, told_age
from pkpd.evidence.table.table import EvidenceRow

OLD = 60.0  # years


@dataclass(frozen=True)
class Bias:
    """Predicted less printed share of remissions, over the rows of a group.

    Attributes
    ----------
    group
        In words.
    rows, studies
        How many.
    printed, predicted
        Mean shares.
    error
        Standard error of the mean difference, clustered by study; NaN with one study.
    """

    group: str
    rows: int
    studies: int
    printed: float
    predicted: float
    error: float

    @property
    def points(self) -> float:
        """Mean difference in points."""
        return 100.0 * (self.predicted - self.printed)


def remissions(scores: Sequence[RowScore]) -> list[RowScore]:
    """Those of rows on shares of adults with a response."""
    return [
        one
        for one in scores
        if one.row.endpoint.kind == "count"
        and one.row.endpoint.alternatives[0].observable.kind == "response"
        and not one.row.population.paediatric
        and (told_age(one.row) or YOUNGEST_ADULT) >= YOUNGEST_ADULT
    ]


def group_of(row: EvidenceRow) -> str:
    """Line of treatment; of untreated patients also whether their median age is below 60.

    Rows that tell no age, of a population whose ages lie on both sides of 60, are a group.
    """
    told, known = told_age(row), row.population
    line = row.treatment_line or next(iter(known.lines), "line not printed")
    age = known.age if told is None else told
    if line != "untreated" or age is None:
        return line
    if told is None and known.age_sd is not None and abs(age - OLD) < 0.5 * known.age_sd:
        return "untreated, age not told"
    return f"untreated, {'below' if age < OLD else 'from'} {OLD:.0f} years"


def remission_bias(scores: Sequence[RowScore]) -> tuple[Bias, ...]:
    """Bias of one predictor in each group."""
    mine = remissions(scores)
    found = []
    for group in sorted({group_of(one.row) for one in mine}):
        own = [one for one in mine if group_of(one.row) == group]
        printed = np.array([observed_number(one.row) for one in own])
        predicted = np.array([one.mean for one in own])
        studies = [one.row.study for one in own]
        found.append(
            Bias(
                group, len(own), len(set(studies)), float(printed.mean()), float(predicted.mean()),
                clustered_error(predicted - printed, studies),
            )
        )  # fmt: skip
    return tuple(found)


def rank_correlation(scores: Sequence[RowScore]) -> tuple[float, int]:
    """Spearman's correlation over studies of their mean remissions, and number of studies."""
    mine = remissions(scores)
    studies = sorted({one.row.study for one in mine})
    if len(studies) < 3:
        return float("nan"), len(studies)
    printed, predicted = [], []
    for study in studies:
        own = [one for one in mine if one.row.study == study]
        printed.append(np.mean([observed_number(one.row) for one in own]))
        predicted.append(np.mean([one.mean for one in own]))
    ranks = np.corrcoef(rankdata(printed), rankdata(predicted))
    return float(ranks[0, 1]), len(studies)


def remission_text(card: Scorecard) -> str:
    """Print bias by group and the rank correlation, of each predictor."""
    lines = [
        "Remission or response in adults: predicted less printed, points (standard error, "
        "clustered by study)",
        f"{'predictor':28} {'group':30} {'rows':>4} {'studies':>7} {'printed':>7} "
        f"{'difference':>14}",
    ]
    for name, own in card.scores.items():
        for one in remission_bias(own):
            lines.append(
                f"{name:28} {one.group:30} {one.rows:4d} {one.studies:7d} {one.printed:7.0%} "
                f"{one.points:+7.1f} ({100.0 * one.error:.1f})"
            )
    for name, own in card.scores.items():
        found, studies = rank_correlation(own)
        lines.append(f"rank correlation over {studies} studies, {name}: {found:.2f}")
    return "\n".join(lines)
