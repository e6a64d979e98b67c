"""Do differences between schedules come true? Pairs of arms of one study beside "no difference".

All pairs of arms of one study, endpoint, population and line of treatment whose doses differ and
that count patients, randomised or not: the printed difference of logits (with half a patient added
to each cell) against the mean of the posterior's. Pairs count by the precision of the printed
difference; standard errors are clustered by study, as pairs share arms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import logit

from judging.arm_contrasts import RANDOMISED, alike
from judging.scorecard import clustered_error, drug_of, kind_of
from pkpd.evidence.criticism.row_predictions import RowsPredicted
from pkpd.evidence.table.table import EvidenceRow


@dataclass(frozen=True)
class Pair:
    """Two arms: printed and predicted difference of logits, and the variance of the printed one."""

    first: EvidenceRow
    second: EvidenceRow
    printed: float
    predicted: float
    variance: float


@dataclass(frozen=True)
class PairScore:
    """Scores of pairs, weighed by precision; standard errors clustered by study.

    Attributes
    ----------
    pairs, studies
        How many.
    slope, slope_error
        Of printed on predicted differences, through no difference: 1 if they come true.
    error, of_none
        Mean squared errors of the prediction and of "no difference".
    less, less_error
        The first less the second.
    """

    pairs: int
    studies: int
    slope: float
    slope_error: float
    error: float
    of_none: float
    less: float
    less_error: float


def pairs_of_arms(predicted: RowsPredicted) -> list[Pair]:
    """Pairs among predicted rows, whose draws are those of one posterior, in order."""
    rows = [row for name, row in predicted.rows.items() if predicted.chances[name].size]
    return [
        Pair(one, other, *_difference(predicted, one, other))
        for one, other in combinations(rows, 2)
        if alike(one, other)
    ]


def _difference(
    predicted: RowsPredicted, one: EvidenceRow, other: EvidenceRow
) -> tuple[float, float, float]:
    cells = [
        ((row.numerator or 0) + 0.5, (row.denominator or 0) - (row.numerator or 0) + 0.5)
        for row in (one, other)
    ]
    (a, b), (c, d) = cells
    chances = (np.clip(predicted.chances[row.id], 1e-3, 1.0 - 1e-3) for row in (one, other))
    first, second = (float(logit(each).mean()) for each in chances)
    return float(np.log(a * d / (b * c))), first - second, 1 / a + 1 / b + 1 / c + 1 / d


def score_of(pairs: Sequence[Pair]) -> PairScore:
    """Score pairs, of two studies at least."""
    y, x, v = (
        np.array([getattr(p, n) for p in pairs]) for n in ("printed", "predicted", "variance")
    )
    studies = [pair.first.study for pair in pairs]
    w = len(pairs) / v / (1.0 / v).sum()
    slope = float((w * x * y).sum() / (w * x * x).sum())
    # the sandwich of an estimating equation: its terms sum to zero at the slope
    slope_error = clustered_error(w * x * (y - slope * x), studies) / float((w * x * x).mean())
    error, none = (y - x) ** 2, y**2
    less = (w * (error - none)).mean()
    return PairScore(
        len(pairs), len(set(studies)), slope, slope_error, float((w * error).mean()),
        float((w * none).mean()), float(less), clustered_error(w * (error - none - less), studies),
    )  # fmt: skip


def pairs_text(pairs: Sequence[Pair]) -> str:
    """Print scores of all pairs and by group; groups of fewer than three studies are left out."""
    lines = [
        "Pairs of arms of one study (logit of shares, weighed by precision; standard errors "
        "clustered by study)",
        f"{'':28} {'pairs':>5} {'studies':>8} {'slope (SE)':>14} {'squared error':>14} "
        f"{'no difference':>14} {'difference (SE)':>17}",
    ]
    for name, mine in _groups(pairs):
        if len({pair.first.study for pair in mine}) < 3:
            continue
        s = score_of(mine)
        lines.append(
            f"{name:28.28} {s.pairs:5d} {s.studies:8d} {s.slope:+7.2f} ({s.slope_error:.2f}) "
            f"{s.error:14.3f} {s.of_none:14.3f} {s.less:+9.3f} ({s.less_error:.3f})"
        )
    return "\n".join(lines)


def _groups(pairs: Sequence[Pair]) -> list[tuple[str, list[Pair]]]:
    of: tuple[Callable[[EvidenceRow], str], ...] = (kind_of, drug_of)
    both = [p for p in pairs if RANDOMISED in p.first.patients and RANDOMISED in p.second.patients]
    found = [("all pairs", list(pairs)), ("randomised", both)]
    for grouping in of:
        for name in dict.fromkeys(grouping(pair.first) for pair in pairs):
            found.append((name, [pair for pair in pairs if grouping(pair.first) == name]))
    return found
