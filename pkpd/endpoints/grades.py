"""Toxicity grades of neutrophil and platelet counts.

Scales are data (``pkpd.trials.Grades``, usually read from a card): a count belongs to the number of
limits it lies strictly below. So a neutrophil count of 0.5 x 10^9/L is grade 3 and one of 0.49
grade 4, as CTCAE v5 writes "<1.0 - 0.5" and "<0.5". On a relative scale the limit itself belongs to
the higher grade, because falls are printed with their lower ends: a fall of 50 % is in "50-74 %".

Sources: CTCAE v5.0 (US NCI, 2017), "Neutrophil count decreased" and "Platelet count decreased";
iwCLL 2008 (Hallek et al., Blood 2008;111:5446, Table 5 and its notes).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.errors import DataError
from pkpd.trials import Grades

NOT_EVALUABLE = -1


def grade(
    grades: Grades,
    line: str,
    value: ArrayLike,
    *,
    baseline: ArrayLike | None = None,
    normal_from: float = 150.0,
) -> NDArray[np.int8]:
    """Grade counts; with a nadir as value this is the worst grade of its window.

    Parameters
    ----------
    grades
        Scales, as `pkpd.cards.load_grades` reads them.
    line
        "neutrophils" or "platelets".
    value : float[...]
        Counts, 10^9/L.
    baseline : float[...], optional
        Counts before treatment, 10^9/L; required by relative scales and by those with an
        ``evaluable_from``: patients with a baseline below it are not evaluable (iwCLL 2008: 1.0 for
        neutrophils). A relative scale also leaves out baselines below its ``always_grade_4_below``.
    normal_from : float
        Lower limit of normal: a count at or above it is grade 0 on a relative scale.

    Returns
    -------
    int8[...]
        Grades 0 to 4; -1 where the count is not a number or the patient is not evaluable.

    Raises
    ------
    DataError
        The scale needs the baseline and none is given.
    """
    scale = grades.scale(line)
    count = np.asarray(value, dtype=np.float64)
    unknown = np.isnan(count)
    limits = [np.float64(limit) for limit in scale.below]
    if scale.relative or scale.evaluable_from > 0.0:
        if baseline is None:
            raise DataError(
                where=f"grades of {line}",
                what="the count before treatment is missing",
                remedy="give it as baseline",
            )
        before = np.asarray(baseline, dtype=np.float64)
        needed = max(scale.evaluable_from, scale.always_grade_4_below if scale.relative else 0.0)
        unknown = unknown | ~(before >= needed)
        if scale.relative:
            # half of 90 has to reach 45 whatever the rounding
            limits = [limit * before * (1.0 + 1e-12) for limit in limits]
    graded = sum((count < limit).astype(np.int8) for limit in limits)
    if scale.relative:
        graded = np.where(count < normal_from, graded, 0)
    graded = np.where(count < scale.always_grade_4_below, 4, graded)
    return np.where(unknown, NOT_EVALUABLE, graded).astype(np.int8)
