"""Courses of some draws put together, and taken out again.

What is read off a joined course once costs less than read off each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from pkpd.arrays import Indices
from pkpd.course.course import Course
from pkpd.errors import DataError

_BY_NAME = ("mornings", "set_point")
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
        if field.name in _BY_NAME:
            together = {name: np.concatenate([v[name] for v in values]) for name in values[0]}
            changed[field.name] = together
        elif isinstance(values[0], np.ndarray):
            changed[field.name] = np.concatenate(values)
    return replace(first, **changed)


def of_draws(course: Course, which: Indices) -> Course:
    """Take the lanes of some draws.

    Parameters
    ----------
    course
        Of ``M`` draws times its patients.
    which
        Places of the draws among the ``M``, in the order that is wanted.

    Returns
    -------
    Course
        Of these draws. Curves between mornings are not kept.
    """
    patients = course.patients or course.lanes
    lanes = (which[:, None] * patients + np.arange(patients)).ravel()
    changed: dict[str, Any] = {"curve": None}
    for field in fields(Course):
        value = getattr(course, field.name)
        if field.name in _BY_NAME:
            changed[field.name] = {name: one[lanes] for name, one in value.items()}
        elif isinstance(value, np.ndarray):
            changed[field.name] = value[which if field.name == "draws" else lanes]
    return replace(course, **changed)
