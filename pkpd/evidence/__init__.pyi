from .criticism.criticism import (
    coverage,
    coverage_table,
    influence,
    influence_table,
    leave_studies_out,
    left_out_checks,
)
from .criticism.left_out import predict_folds
from .criticism.row_predictions import predict_table
from .criticism.trial_predictions import new_study
from .likelihood.parameters import marrow_prior
from .likelihood.pymc_model import prior_model
from .likelihood.simulator import Arm, ArmSchedule, MarrowSimulator
from .likelihood.total import EvidenceLikelihood
from .likelihood.use import Switches, how_used, use_table
from .posterior.learned import learned, learned_table
from .posterior.learning import LearningPlan, learn, sample_without
from .posterior.shipped import shipped_posterior
from .posterior.stored import EvidencePosterior, load_posterior
from .sampling.chains import ChainSettings
from .sampling.emulator import Training
from .sampling.simulations import MarrowMaker
from .table.learning import load_learning_table, refined
from .table.table import EvidenceRow, EvidenceTable, load_evidence
from .updating.own_rows import LearnedRows, learn_rows
from .updating.reweight import reweight

__all__ = [
    "Arm",
    "ArmSchedule",
    "ChainSettings",
    "EvidenceLikelihood",
    "EvidencePosterior",
    "EvidenceRow",
    "EvidenceTable",
    "LearnedRows",
    "LearningPlan",
    "MarrowMaker",
    "MarrowSimulator",
    "Switches",
    "Training",
    "coverage",
    "coverage_table",
    "how_used",
    "influence",
    "influence_table",
    "learn",
    "learn_rows",
    "learned",
    "learned_table",
    "leave_studies_out",
    "left_out_checks",
    "load_evidence",
    "load_learning_table",
    "load_posterior",
    "marrow_prior",
    "new_study",
    "predict_folds",
    "predict_table",
    "prior_model",
    "refined",
    "reweight",
    "sample_without",
    "shipped_posterior",
    "use_table",
]
