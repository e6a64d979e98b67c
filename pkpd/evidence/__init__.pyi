from .criticism.baselines import score_table
from .criticism.calibration import simulation_based_calibration
from .criticism.criticism import (
    coverage,
    coverage_table,
    influence,
    influence_table,
    leave_studies_out,
    left_out_checks,
    predictive_checks,
)
from .criticism.refit import cross_validate
from .criticism.reweight import reweight
from .criticism.trial_predictions import new_study
from .likelihood.parameters import marrow_effects, marrow_prior
from .likelihood.pymc_model import prior_model
from .likelihood.simulator import MarrowSimulator, patients_by_arm
from .likelihood.total import EvidenceLikelihood
from .likelihood.use import Switches, how_used, use_table
from .posterior.learned import learned, learned_table
from .posterior.shipped import shipped_posterior
from .posterior.stored import EvidencePosterior, calibrate, load_posterior
from .sampling.convergence import Convergence
from .sampling.smc import SMCSettings
from .table.table import EvidenceRow, EvidenceTable, load_evidence

__all__ = [
    "Convergence",
    "EvidenceLikelihood",
    "EvidencePosterior",
    "EvidenceRow",
    "EvidenceTable",
    "MarrowSimulator",
    "SMCSettings",
    "Switches",
    "calibrate",
    "coverage",
    "coverage_table",
    "cross_validate",
    "how_used",
    "influence",
    "influence_table",
    "learned",
    "learned_table",
    "leave_studies_out",
    "left_out_checks",
    "load_evidence",
    "load_posterior",
    "marrow_effects",
    "marrow_prior",
    "new_study",
    "patients_by_arm",
    "predictive_checks",
    "prior_model",
    "reweight",
    "score_table",
    "shipped_posterior",
    "simulation_based_calibration",
    "use_table",
]
