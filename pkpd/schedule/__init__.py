"""Dosing: what a protocol prescribes, and what that means day by day."""

from __future__ import annotations

from pkpd.schedule.amounts import DOSE_UNITS, parse_amount, parse_days, parse_hours
from pkpd.schedule.checks import STATUSES
from pkpd.schedule.follow import (
    Administration,
    Followed,
    administrations,
    follow,
    given_amount,
    individual_dose_mg,
)
from pkpd.schedule.growth_factor import NEVER, GrowthFactorPolicy
from pkpd.schedule.plan import DosingPlan, Slot, plan, with_slot
from pkpd.schedule.regimen import Course, Regimen, daily, on_off
from pkpd.schedule.rules import LINES, ROUTES, Criterion, DoseModification, DoseRule, Gate
from pkpd.schedule.words import describe, describe_criteria

__all__ = [
    "DOSE_UNITS",
    "LINES",
    "NEVER",
    "ROUTES",
    "STATUSES",
    "Administration",
    "Course",
    "Criterion",
    "DoseModification",
    "DoseRule",
    "DosingPlan",
    "Followed",
    "Gate",
    "GrowthFactorPolicy",
    "Regimen",
    "Slot",
    "administrations",
    "daily",
    "describe",
    "describe_criteria",
    "follow",
    "given_amount",
    "individual_dose_mg",
    "on_off",
    "parse_amount",
    "parse_days",
    "parse_hours",
    "plan",
    "with_slot",
]
