"""Models: parameters, individuals, drug effects, marrow lines, and how cards are joined."""

from __future__ import annotations

from pkpd.model.individuals import (
    individual_parameters,
    occasion_factors,
    occasion_scores,
    patient_arrays,
)
from pkpd.model.joint import DrugModel, JointModel, assumed_inputs, load_model
from pkpd.model.parameters import draw_parameters, typical, used_parameters

__all__ = [
    "DrugModel",
    "JointModel",
    "assumed_inputs",
    "draw_parameters",
    "individual_parameters",
    "load_model",
    "occasion_factors",
    "occasion_scores",
    "patient_arrays",
    "typical",
    "used_parameters",
]
