"""Courses made from log-count curves, for the tests of endpoints."""

from __future__ import annotations

import numpy as np

from pkpd.course.course import Course, Curve
from pkpd.endpoints.curve import log_count_at


def course_of(time_h, log_count, slope, transfused=None, **more):
    """Course of lines with curves ``{line: [L, T]}``, with the mornings read off them."""
    days = int(np.floor(time_h[-1] / 24.0 + 1e-9))
    lanes = next(iter(log_count.values())).shape[0]
    hours = np.minimum(24.0 * np.arange(days), time_h[-1])
    mornings = {
        line: np.exp(np.minimum(log_count_at(time_h, log_count[line], slope[line], hours), 50.0))
        for line in log_count
    }
    none = np.zeros((lanes, days), dtype=bool)
    given = none if transfused is None else np.asarray(transfused, dtype=bool)[:, :days]
    return Course(
        mornings=mornings,
        platelets_with_transfused=mornings.get("platelets", np.full((lanes, days), np.nan)),
        transfused=given,
        first_day=np.ones((lanes, 1), dtype=np.int64),
        course_names=("treatment",),
        curve=Curve(time_h, log_count, slope),
        **more,
    )
