"""Patients of the marrow with leukaemia for tests."""

from __future__ import annotations

from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.patients import arm_patients, who
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.marrow.variants import FULL


def parameters(n, disease="aml", variant=FULL, seed=1):
    """Parameters of ``n`` patients by name, float[n] each."""
    arm = Arm(name="x", disease=disease, schedule=ArmSchedule(None, 60))
    return arm_patients(arm, default_theta(), who(arm, n, seed, "x"), variant).parameters
