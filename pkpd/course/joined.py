"""Courses of some draws put together: what is read off them once costs less than read off each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from pkpd.course.course import Course
from pkpd.errors import DataError

_SAME = ("course_names", "drugs", "patients")


def joined(courses: Sequence[Course]) -> Course:
    """Put the lanes of courses one after the other.

    Parameters
    ----------
    courses
        Of the same patients under the same regimen, each under other draws. Curves between
        mornings are not kept.

    Returns
    -------
    Course
        Its lanes are those of the first course, then of the second, and so on.

    Raises
    ------
    DataError
        If there is no course, or they differ in days, drugs, courses of doses or patients.
    """
    if not courses:
        raise DataError(where="courses", what="there is none", remedy="give one")
    first = courses[0]
    for other in courses[1:]:
        if other.days != first.days or any(getattr(other, n) != getattr(first, n) for n in _SAME):
            raise DataError(
                where="courses",
                what="they differ in days, drugs, courses of doses or patients",
                allowed="courses of one regimen and the same patients",
            )
    changed: dict[str, Any] = {"curve": None}
    for field in fields(Course):
        values = [getattr(course, field.name) for course in courses]
        if field.name in ("mornings", "set_point"):
            together = {name: np.concatenate([v[name] for v in values]) for name in values[0]}
            changed[field.name] = together
        elif isinstance(values[0], np.ndarray):
            changed[field.name] = np.concatenate(values)
    return replace(first, **changed)
