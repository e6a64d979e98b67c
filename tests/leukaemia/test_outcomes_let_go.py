"""Outcomes of an arm hold its counts no longer than somebody asks for them."""

from __future__ import annotations

import gc
import weakref

import numpy as np
from leukaemia_cases import SEVEN_THREE, arm, run

from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.parameters import default_theta


def test_counts_go_with_the_last_who_asks():
    """Without waiting for Python to look for rings, which kept gigabytes of a comparison."""
    plan = arm(*SEVEN_THREE)
    course, _ = run(plan, default_theta(), 16)
    found = ArmOutcomes(plan, course)
    key = ("neutrophils", 0.5)
    asked = found.recovery_day[key], found.days_below[key], found.longest_below[key]
    assert all(np.shape(values) == (16,) for values in (*asked, found.nadir["platelets"]))
    assert found.responded("CR").shape == (16,)
    assert set(found.worst_grade) >= {"neutrophils", "platelets"}
    counts = weakref.ref(course)
    gc.disable()
    try:
        del found, course
        assert counts() is None
    finally:
        gc.enable()
