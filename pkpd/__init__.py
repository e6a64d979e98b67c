"""From a dose schedule to blood-count recovery and delayed-recovery risk.

Verbs, and the few nouns that a first script needs, are here. The rest is in public modules:

==================  =============================================================================
`pkpd.schedule`     what a protocol prescribes: regimens, courses, gates, rules, dose modifications
`pkpd.models`       building models: structures, parameters, residual errors, models from cards
`pkpd.checks`       checking and comparing fits: predictive checks, NPDE, bootstrap, calibration
`pkpd.plots`        figures of a fit
`pkpd.sampling`     sampling designs: expected information and errors
`pkpd.pymc`         structures inside a ``pm.Model`` of one's own
`pkpd.evidence`     learning from published outcomes, and predicting trials with what was learned
`pkpd.designs`      phase I dose-finding designs: next dose, decision tables, characteristics
`pkpd.search`       menus of schedules: limits, the Pareto set, a short list
`pkpd.forecasting`  one patient's counts to come: schedules, tables, banks
`pkpd.endpoints`    recovery, grades, dose-limiting toxicity, response, death
`pkpd.data`         data sets and their readers
`pkpd.nonmem`       readers of what NONMEM wrote: listings, estimates, tables
`pkpd.cards`        cards of drugs, populations, rules and trials
`pkpd.subjects`     patients and populations
`pkpd.trials`       trials and their rules
`pkpd.report`       pages, tables and figures
`pkpd.results`      what the verbs return
`pkpd.errors`       errors that the package raises
==================  =============================================================================

Names load on first use: ``import pkpd`` imports neither JAX nor PyMC nor matplotlib.

Examples
--------
>>> import pkpd
>>> regimen = pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
>>> regimen.drugs
('clofarabine',)
"""

import lazy_loader

__version__ = "0.1.0.dev0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
