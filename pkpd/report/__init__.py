"""Reports of a comparison: terminal, tables, figures, one-page HTML, run record.

Names load on first use, so that ``import pkpd.report`` brings neither matplotlib nor rich.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "CohortPrinter": "terminal",
    "progress": "terminal",
    "write_results": "tables",
    "write_partial": "tables",
    "read_rows": "tables",
    "read_pairs": "tables",
    "run_record": "record",
    "counts_panel": "figures",
    "dosing_strip": "figures",
    "recovery_panel": "figures",
    "dlt_risk": "figures",
    "sensitivity_panel": "figures",
    "trial_pages": "pages",
    "save_pages": "pages",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOME:
        msg = f"module 'pkpd.report' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"pkpd.report.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
