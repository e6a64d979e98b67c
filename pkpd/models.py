"""Building models: structures, individual parameters, residual errors, and models from cards.

A population model has three parts. A structure predicts (`compartments`, `marrow_model`,
`leukaemia_model`, `turnover`, `ode_model`, ...). Individual parameters say how patients differ
(`parameter`, `derived`, `from_column`, with the effects in `covariate`). Residual errors say how
measurements scatter (`residual`). `PopulationModel` joins the three, `pkpd.fit` fits the whole.

`load_model` joins cards to the model that `pkpd.simulate` runs.

Examples
--------
>>> from pkpd.models import PopulationModel, compartments, parameter, residual
>>> model = PopulationModel(
...     compartments(1, absorption="first_order"),
...     [parameter("ka", 1.5, iiv=0.6), parameter("CL", 2.7, iiv=0.3), parameter("V", 32)],
...     residual.additive(0.7),
... )
>>> model.varying
('ka', 'CL')
"""

from __future__ import annotations

from pkpd.course.transfusion import TransfusionPolicy
from pkpd.export.write import export_model
from pkpd.fitting.leukaemia_model import leukaemia_model
from pkpd.fitting.model import covariate_effects as covariate
from pkpd.fitting.model import residual
from pkpd.fitting.model.joint_prior import InverseWishart, JointNormal, JointPrior
from pkpd.fitting.model.priors import Prior, fixed
from pkpd.fitting.model.specification import PopulationModel, derived, from_column, parameter
from pkpd.fitting.simulate_data import simulate_data
from pkpd.fitting.simulate_fit import simulate_fit
from pkpd.kinetics.compartments import linear_system
from pkpd.marrow.friberg import Friberg, PlateletChain
from pkpd.marrow.gcsf import GcsfMarrow
from pkpd.marrow.stem_cell import StemCellMarrow
from pkpd.model.joint import JointModel, load_model
from pkpd.model.parameters import draw_parameters, typical
from pkpd.predict.marrow import marrow_model
from pkpd.predict.ode import ode_model
from pkpd.predict.pk import LinearStructure, compartments
from pkpd.predict.response import (
    direct_effect,
    effect_compartment,
    michaelis_menten,
    target_mediated,
    turnover,
)
from pkpd.solve.events.timeline import EventOptions

__all__ = [
    "EventOptions",
    "Friberg",
    "GcsfMarrow",
    "InverseWishart",
    "JointModel",
    "JointNormal",
    "JointPrior",
    "LinearStructure",
    "PlateletChain",
    "PopulationModel",
    "Prior",
    "StemCellMarrow",
    "TransfusionPolicy",
    "compartments",
    "covariate",
    "derived",
    "direct_effect",
    "draw_parameters",
    "effect_compartment",
    "export_model",
    "fixed",
    "from_column",
    "leukaemia_model",
    "linear_system",
    "load_model",
    "marrow_model",
    "michaelis_menten",
    "ode_model",
    "parameter",
    "residual",
    "simulate_data",
    "simulate_fit",
    "target_mediated",
    "turnover",
    "typical",
]
