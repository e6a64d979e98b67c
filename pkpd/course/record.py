"""From what the driver through days has recorded to a `Course`, for every marrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pkpd.course.course import Course
from pkpd.solve.compiled.days import Record
from pkpd.solve.compiled.decisions import Given


def course_of(
    observed: Sequence[str],
    record: Record,
    given: Given,
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
        mornings=mornings, transfused=record.transfused, **seen, **given._asdict(), **more
    )
