"""From what the driver through days has recorded to a `Course`, for every marrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pkpd.course.course import Course, Curve
from pkpd.solve.compiled.days import Record
from pkpd.solve.compiled.decisions import Given
from pkpd.solve.compiled.run_days import Anatomy, Bodies


def course_of(
    observed: Sequence[str],
    record: Record,
    given: Given,
    bodies: Bodies,
    *,
    lines: Sequence[str] = ("neutrophils", "platelets"),
    **more: Any,
) -> Course:
    """Gather a course.

    Parameters
    ----------
    observed
        What the marrow shows, in the order of the record.
    record, given
        As `pkpd.solve.compiled.run_days.run_days` gives them.
    bodies
        What it was given of the lanes.
    lines
        Which of ``observed`` are lines; the others are attributes of `Course`.
    **more
        Further attributes.
    """
    seen = dict(zip(observed, record.morning, strict=True))
    mornings = {line: seen.pop(line) for line in lines}
    # a marrow that follows no transfused platelets has none
    seen.setdefault("platelets_with_transfused", mornings.get("platelets"))
    if record.amount.shape[0] > 0:
        more["amount"] = record.amount
    return Course(
        mornings=mornings, transfused=record.transfused, surface=bodies.surface,
        weight=bodies.weight, **seen, **given._asdict(), **more,
    )  # fmt: skip


def followed(anatomy: Anatomy, record: Record, days: int) -> Curve | None:
    """Curves of the lines that are followed between mornings; ``None`` if none is.

    Parameters
    ----------
    anatomy, record
        As of `pkpd.solve.compiled.run_days.run_days`.
    days
        Days simulated.
    """
    if not anatomy.curves:
        return None
    mornings = 24.0 * np.arange(days)[:, None]
    return Curve(
        np.concatenate([[0.0], (mornings + anatomy.node_hours).ravel()]),
        {line: record.curve[i, 0] for i, line in enumerate(anatomy.curves)},
        {line: record.curve[i, 1] for i, line in enumerate(anatomy.curves)},
    )
