"""Figures of data and of a fit, each on ordinary matplotlib axes."""

from __future__ import annotations

from pkpd.fitting.plots.counts import plot_count_check, plot_count_statistic, plot_pareto
from pkpd.fitting.plots.data import plot_covariates, plot_data, plot_subjects
from pkpd.fitting.plots.forest import plot_covariate_effects
from pkpd.fitting.plots.goodness import (
    plot_dv_ipred,
    plot_dv_pred,
    plot_goodness,
    plot_qq,
    plot_residuals,
)
from pkpd.fitting.plots.individuals import plot_individual, plot_individuals
from pkpd.fitting.plots.random_effects import (
    plot_eta_covariate,
    plot_eta_histogram,
    plot_eta_pairs,
    plot_etas_covariates,
)
from pkpd.fitting.plots.vpc import plot_below_limit, plot_vpc, plot_vpc_panel

__all__ = [
    "plot_below_limit",
    "plot_count_check",
    "plot_count_statistic",
    "plot_covariate_effects",
    "plot_covariates",
    "plot_data",
    "plot_dv_ipred",
    "plot_dv_pred",
    "plot_eta_covariate",
    "plot_eta_histogram",
    "plot_eta_pairs",
    "plot_etas_covariates",
    "plot_goodness",
    "plot_individual",
    "plot_individuals",
    "plot_pareto",
    "plot_qq",
    "plot_residuals",
    "plot_subjects",
    "plot_vpc",
    "plot_vpc_panel",
]
