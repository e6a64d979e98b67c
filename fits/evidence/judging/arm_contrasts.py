"""Randomised contrasts beside their prediction: the difference of two arms of one study.

Two rows are a contrast if their study randomised both arms (their column ``patients`` says so),
their endpoint, population and line of treatment are the same, and their doses are not. The offset
of a study is the same in its arms, so that it leaves the difference nearly alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from pkpd.evidence.criticism.row_predictions import RowsPredicted, observed_number
from pkpd.evidence.table.table import EvidenceRow

RANDOMISED = "randomised"
"""Word in the column ``patients`` of an arm that was assigned by chance."""
LEVEL = 0.8


@dataclass(frozen=True)
class ArmContrast:
    """Difference of two randomised arms, first less second.

    Attributes
    ----------
    first, second
        Their rows.
    printed
        Difference of the printed shares, or logarithm of the ratio of the printed days.
    own
        95 % interval of the trial itself; ``None`` for days.
    lower, median, upper
        Predicted: the 80 % interval of the difference that the trial would print.
    positive
        Probability that the risks (or medians) themselves differ upwards, were arms of any size:
        that of the shares drawn with; of days, of the printed ones.
    """

    first: EvidenceRow
    second: EvidenceRow
    printed: float
    own: tuple[float, float] | None
    lower: float
    median: float
    upper: float
    positive: float

    @property
    def inside(self) -> bool:
        """Whether the printed difference is in the 80 % interval."""
        return self.lower - 1e-9 <= self.printed <= self.upper + 1e-9

    @property
    def clear(self) -> bool:
        """Whether the trial's own interval excludes no difference."""
        return self.own is not None and (self.own[0] > 0.0 or self.own[1] < 0.0)

    @property
    def right(self) -> bool:
        """Whether the likelier sign is the printed one."""
        return (self.positive > 0.5) == (self.printed > 0.0)


def newcombe(first: EvidenceRow, second: EvidenceRow) -> tuple[float, float]:
    """Give the 95 % interval of a difference of shares.

    Newcombe's method 10 (Statistics in Medicine 1998;17:873): Wilson's intervals put together.
    """
    shares, ends = [], []
    for row in (first, second):
        k, n = row.numerator or 0, row.denominator or 1
        own = binomtest(k, n).proportion_ci(method="wilson")
        shares.append(k / n)
        ends.append((float(own.low), float(own.high)))
    (a, b), ((a_low, a_high), (b_low, b_high)) = shares, ends
    below = float(np.hypot(a - a_low, b_high - b))
    above = float(np.hypot(a_high - a, b - b_low))
    return a - b - below, a - b + above


def arm_contrasts(predicted: RowsPredicted) -> list[ArmContrast]:
    """Contrasts among predicted rows, whose draws are those of one posterior, in order."""
    rows = [
        row
        for row in predicted.rows.values()
        if RANDOMISED in row.patients and row.other_schedule is None
    ]
    return [
        _contrast(predicted, first, second)
        for first, second in combinations(rows, 2)
        if alike(first, second)
    ]


def alike(first: EvidenceRow, second: EvidenceRow) -> bool:
    """Whether two rows are of arms of one study that differ in their doses alone."""
    same = all(
        getattr(first, name) == getattr(second, name)
        for name in ("study", "endpoint", "treatment_line")
    )
    same = same and first.population.name == second.population.name  # arms may print their ages
    return same and first.simulated != second.simulated


def _contrast(predicted: RowsPredicted, first: EvidenceRow, second: EvidenceRow) -> ArmContrast:
    counts = first.endpoint.kind == "count"
    a, b = (_scaled(predicted.values[row.id], counts) for row in (first, second))
    one, other = (_scaled(np.array([observed_number(row)]), counts) for row in (first, second))
    off = (a - b)[np.isfinite(a - b)]
    tail = 0.5 * (1.0 - LEVEL)
    lower, median, upper = np.quantile(off, [tail, 0.5, 1.0 - tail])
    if counts:
        chances = predicted.chances[first.id] - predicted.chances[second.id]
        positive = float((chances > 0.0).mean())
    else:
        positive = float((off > 0.0).mean() + 0.5 * (off == 0.0).mean())
    return ArmContrast(
        first, second, float((one - other)[0]), newcombe(first, second) if counts else None,
        float(lower), float(median), float(upper), positive,
    )  # fmt: skip


def _scaled(values: NDArray[np.float64], counts: bool) -> NDArray[np.float64]:
    return values if counts else np.log(np.maximum(values, 0.3))


def contrasts_text(contrasts: Sequence[ArmContrast]) -> str:
    """Print contrasts, and how many are inside and have the right sign."""
    lines = [
        "Randomised contrasts: first arm less second; shares in points, days as ratios",
        f"{'study, endpoint':38} {'printed':>8} {'95 % of the trial':>19} "
        f"{'predicted (80 %)':>24} {'P(>0)':>6}",
    ]
    for one in contrasts:
        name = f"{one.first.study} {one.first.endpoint.name}"
        own = "" if one.own is None else f"{_shown(one, one.own[0])} to {_shown(one, one.own[1])}"
        said = f"{_shown(one, one.median)} ({_shown(one, one.lower)} to {_shown(one, one.upper)})"
        lines.append(
            f"{name:38.38} {_shown(one, one.printed):>8} {own:>19} {said:>24} {one.positive:6.2f}"
            f"{'' if one.inside else '  outside'}"
            f"{'  wrong sign' if one.clear and not one.right else ''}"
        )
    clear = [one for one in contrasts if one.clear]
    lines.append(
        f"{_share(one.inside for one in contrasts)} inside their 80 % intervals; of those whose "
        f"own interval excludes zero the sign is right in {_share(one.right for one in clear)}"
    )
    return "\n".join(lines)


def _shown(one: ArmContrast, value: float) -> str:
    return f"{100.0 * value:+.0f}" if one.own is not None else f"{np.exp(value):.2f}"


def _share(told: Iterable[bool]) -> str:
    answers = list(told)
    return f"{sum(answers)} of {len(answers)}"
