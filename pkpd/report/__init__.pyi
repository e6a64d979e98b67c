from .comparison.figures import (
    counts_panel,
    dlt_risk,
    dosing_strip,
    recovery_panel,
    sensitivity_panel,
)
from .comparison.pages import save_pages, trial_pages
from .comparison.record import run_record
from .comparison.split_figure import split_panel
from .comparison.tables import read_pairs, read_rows, write_partial, write_results
from .comparison.terminal import CohortPrinter, progress
from .fit.listing import listing, write_listing
from .fit.page import write_fit_page

__all__ = [
    "CohortPrinter",
    "counts_panel",
    "dlt_risk",
    "dosing_strip",
    "listing",
    "progress",
    "read_pairs",
    "read_rows",
    "recovery_panel",
    "run_record",
    "save_pages",
    "sensitivity_panel",
    "split_panel",
    "trial_pages",
    "write_fit_page",
    "write_listing",
    "write_partial",
    "write_results",
]
