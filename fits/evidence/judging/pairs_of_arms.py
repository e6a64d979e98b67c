"""Do differences between schedules come true? Pairs of arms of one study beside "no difference".

All pairs of arms of one study, endpoint, population and line of treatment whose doses differ and
that count patients, randomised or not: the printed difference of logits (with half a patient added
to each cell), less what the same risk in both arms, their pooled share, would print, as half a
patient is more of a small arm; against the difference of the logits of the risks that the model
tells of the arms, means over draws as a comparison prints them. The mean of draws' logits is
farther out, as risks of rare events are skew; its scores are told beside. Pairs count by the
precision of the printed difference; standard errors are clustered by study, as pairs share arms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import logit
from scipy.stats import binom

from judging.arm_contrasts import RANDOMISED, alike
from judging.scorecard import clustered_error, drug_of, kind_of
from pkpd.arrays import Floats
from pkpd.evidence.criticism.row_predictions import RowsPredicted
from pkpd.evidence.table.table import EvidenceRow

ALL = "all pairs"
SCALE_SD = 0.5
"""Standard deviation about 1 of the factor between predicted and true differences, assumed."""
TO_SCALE = 12
"""Studies from which scaled pairs are told: of fewer the clustered standard error is too small."""


@dataclass(frozen=True)
class Pair:
    """Two arms: printed and predicted difference of logits, and the variance of the printed one.

    ``by_draw`` is the mean of the draws' differences.
    """

    first: EvidenceRow
    second: EvidenceRow
    printed: float
    predicted: float
    variance: float
    by_draw: float


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


def pairs_of_arms(
    predicted: RowsPredicted, weights: Mapping[str, Floats] | None = None
) -> list[Pair]:
    """Pairs among predicted rows, whose draws are those of one posterior, in order.

    ``weights`` of the draws, by study, are those of a posterior without it; equal if not given.
    """
    rows = [row for name, row in predicted.rows.items() if predicted.chances[name].size]
    return [
        Pair(one, other, *_difference(predicted, one, other, (weights or {}).get(one.study)))
        for one, other in combinations(rows, 2)
        if alike(one, other)
    ]


def _difference(
    predicted: RowsPredicted, one: EvidenceRow, other: EvidenceRow, weight: Floats | None
) -> tuple[float, float, float, float]:
    counts = [(row.numerator or 0, row.denominator or 0) for row in (one, other)]
    pooled = sum(k for k, _ in counts) / sum(n for _, n in counts)
    printed, said, by_draw, variance = [], [], [], 0.0
    for row, (k, n) in zip((one, other), counts, strict=True):
        every = np.arange(n + 1)
        printed.append(_logit(k, n) - float(binom.pmf(every, n, pooled) @ _logit(every, n)))
        risks = np.clip(predicted.chances[row.id], 1e-3, 1.0 - 1e-3)
        said.append(logit(np.average(risks, weights=weight)))
        by_draw.append(np.average(logit(risks), weights=weight))
        variance += 1 / (k + 0.5) + 1 / (n - k + 0.5)
    off = (float(one[0] - one[1]) for one in (printed, said, by_draw))
    first, second, third = off
    return first, second, variance, third


def _logit(k: Any, n: int) -> Floats:
    return np.log((k + 0.5) / (n - k + 0.5))


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


def scale_of(pairs: Sequence[Pair]) -> float:
    """Factor that makes predicted differences printed ones: their slope, drawn towards 1.

    The posterior mean under a normal prior about 1 (`SCALE_SD`), the slope being normal about the
    factor with its clustered standard error; 1 where fewer than two studies tell.
    """
    if len({pair.first.study for pair in pairs}) < 2:
        return 1.0
    found = score_of(pairs)
    return 1.0 + (found.slope - 1.0) * SCALE_SD**2 / (SCALE_SD**2 + found.slope_error**2)


def scaled_by_others(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs whose predicted difference is multiplied by the factor of the other studies' pairs.

    Their squared errors are honest: no study has told its own factor. Their slope is not, since
    a study with a large one makes the factor of all others larger and its own smaller.
    """
    factor = {
        study: scale_of([pair for pair in pairs if pair.first.study != study])
        for study in {pair.first.study for pair in pairs}
    }
    return [replace(p, predicted=factor[p.first.study] * p.predicted) for p in pairs]


LEAST_STUDIES = 3
"""Studies from which the pairs of a kind are scored."""


def pairs_record(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Give the scores of pairs that the record of a posterior keeps.

    ``by_draw`` with the means of the draws' differences; ``scaled`` with differences scaled by the
    other studies' slope, and that factor over all.
    """
    kept = ("pairs", "studies", "error", "of_none", "less", "less_error")
    scaled = asdict(score_of(scaled_by_others(pairs)))
    record: dict[str, Any] = asdict(score_of(pairs))
    record["by_draw"] = asdict(score_of([replace(pair, predicted=pair.by_draw) for pair in pairs]))
    record["scaled"] = {"scale": scale_of(pairs), **{name: scaled[name] for name in kept}}
    return record


def pairs_text(pairs: Sequence[Pair]) -> str:
    """Print scores of all pairs and by group; groups of fewer than three studies are left out."""
    lines = [
        "Pairs of arms of one study (logit of shares, weighed by precision; standard errors "
        "clustered by study)",
        f"{'':28} {'pairs':>5} {'studies':>8} {'slope (SE)':>14} {'squared error':>14} "
        f"{'no difference':>14} {'difference (SE)':>17}",
    ]
    for name, s in scored_groups(pairs):
        if name == SCALED:
            lines.append(
                f"scaled by the slope of other studies, {scale_of(pairs):.2f} over all:{'':14} "
                f"{s.error:14.3f} {s.of_none:14.3f} {s.less:+9.3f} ({s.less_error:.3f})"
            )
            continue
        lines.append(
            f"{name:28.28} {s.pairs:5d} {s.studies:8d} {s.slope:+7.2f} ({s.slope_error:.2f}) "
            f"{s.error:14.3f} {s.of_none:14.3f} {s.less:+9.3f} ({s.less_error:.3f})"
        )
    return "\n".join(lines)


SCALED = "scaled by the slope of other studies"


def scored_groups(pairs: Sequence[Pair]) -> list[tuple[str, PairScore]]:
    """Scores of all pairs and by group; groups of fewer than three studies are left out."""
    found = []
    for name, mine in _groups(pairs):
        studies = len({pair.first.study for pair in mine})
        if studies >= LEAST_STUDIES:
            found.append((name, score_of(mine)))
        if name == ALL and studies >= max(TO_SCALE, LEAST_STUDIES):
            found.append((SCALED, score_of(scaled_by_others(mine))))
    return found


def _groups(pairs: Sequence[Pair]) -> list[tuple[str, list[Pair]]]:
    of: tuple[Callable[[Pair], str], ...] = (
        lambda pair: kind_of(pair.first),
        # the drug of either arm: "clofarabine" and "lenalidomide" stand before "other"
        lambda pair: min(drug_of(pair.first), drug_of(pair.second)),
    )
    both = [p for p in pairs if RANDOMISED in p.first.patients and RANDOMISED in p.second.patients]
    by_draw = [replace(pair, predicted=pair.by_draw) for pair in pairs]
    found = [(ALL, list(pairs)), ("by the mean of draws' logits", by_draw), ("randomised", both)]
    for grouping in of:
        for name in dict.fromkeys(map(grouping, pairs)):
            found.append((name, [pair for pair in pairs if grouping(pair) == name]))
    return found
