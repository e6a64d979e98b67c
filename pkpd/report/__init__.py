"""Reports of a comparison: terminal, tables, figures, one-page HTML, run record.

Names load on first use, so that ``import pkpd.report`` brings neither matplotlib nor rich.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pkpd.report.comparison.figures import (
        counts_panel,
        dlt_risk,
        dosing_strip,
        recovery_panel,
        sensitivity_panel,
    )
    from pkpd.report.comparison.pages import save_pages, trial_pages
    from pkpd.report.comparison.record import run_record
    from pkpd.report.comparison.tables import read_pairs, read_rows, write_partial, write_results
    from pkpd.report.comparison.terminal import CohortPrinter, progress

_HOME = {
    "CohortPrinter": "comparison.terminal",
    "progress": "comparison.terminal",
    "write_results": "comparison.tables",
    "write_partial": "comparison.tables",
    "read_rows": "comparison.tables",
    "read_pairs": "comparison.tables",
    "run_record": "comparison.record",
    "counts_panel": "comparison.figures",
    "dosing_strip": "comparison.figures",
    "recovery_panel": "comparison.figures",
    "dlt_risk": "comparison.figures",
    "sensitivity_panel": "comparison.figures",
    "trial_pages": "comparison.pages",
    "save_pages": "comparison.pages",
}

__all__ = [
    "CohortPrinter",
    "counts_panel",
    "dlt_risk",
    "dosing_strip",
    "progress",
    "read_pairs",
    "read_rows",
    "recovery_panel",
    "run_record",
    "save_pages",
    "sensitivity_panel",
    "trial_pages",
    "write_partial",
    "write_results",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOME:
        msg = f"module 'pkpd.report' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"pkpd.report.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
