from . import (
    cards,
    checks,
    data,
    designs,
    endpoints,
    errors,
    evidence,
    forecasting,
    models,
    nonmem,
    plots,
    pymc,
    report,
    results,
    sampling,
    schedule,
    search,
    subjects,
    trials,
)
from .cards import load_trial
from .comparison.run import compare
from .comparison.scenario import load_scenario
from .data.adppk import read_adppk
from .data.counts import read_counts
from .data.nonmem import read_nonmem
from .ensemble.simulate import simulate
from .ensemble.source import source
from .errors import PkpdError
from .exposure.exposures import exposures
from .exposure.nca import nca
from .fitting.checks.all_checks import check
from .fitting.fit import fit
from .fitting.individual import individual
from .fitting.saved import load_fit
from .forecasting.forecast import forecast
from .nonmem.stream import read_control_stream
from .report.fit.page import write_fit_page
from .schedule import Regimen, daily, on_off

__version__: str

__all__ = [
    "PkpdError",
    "Regimen",
    "__version__",
    "cards",
    "check",
    "checks",
    "compare",
    "daily",
    "data",
    "designs",
    "endpoints",
    "errors",
    "evidence",
    "exposures",
    "fit",
    "forecast",
    "forecasting",
    "individual",
    "load_fit",
    "load_scenario",
    "load_trial",
    "models",
    "nca",
    "nonmem",
    "on_off",
    "plots",
    "pymc",
    "read_adppk",
    "read_control_stream",
    "read_counts",
    "read_nonmem",
    "report",
    "results",
    "sampling",
    "schedule",
    "search",
    "simulate",
    "source",
    "subjects",
    "trials",
    "write_fit_page",
]
