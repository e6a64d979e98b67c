"""Data sets: dosing events by their NONMEM meaning, and readers of data files."""

from __future__ import annotations

from pkpd.data.adppk import read_adppk
from pkpd.data.counts import read_counts
from pkpd.data.covariates import interpolate
from pkpd.data.dataset import Dataset, Observations
from pkpd.data.events import EventTable
from pkpd.data.nonmem import read_nonmem

__all__ = [
    "Dataset",
    "EventTable",
    "Observations",
    "interpolate",
    "read_adppk",
    "read_counts",
    "read_nonmem",
]
