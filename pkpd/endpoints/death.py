"""Early death: by a day, as a probability of each lane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.course.course import Course
from pkpd.errors import DataError


def early_death(course: Course, by_day: float) -> NDArray[np.float64]:
    """Probability of each lane to die by a day, ``[L]``.

    Smooth in the parameters where the day of death is a step; both have the same mean.

    Parameters
    ----------
    course
        With a hazard of death.
    by_day
        Days since the first morning: the morning of protocol day ``by_day + 1`` counts. Beyond the
        horizon the last morning is taken.

    Raises
    ------
    DataError
        If the marrow has no death.
    """
    if course.cumulative_hazard is None:
        raise DataError(where="early death", what="this marrow does not simulate deaths")
    return 1.0 - np.exp(-course.cumulative_hazard[:, int(min(by_day, course.days - 1))])
