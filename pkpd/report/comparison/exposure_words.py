"""Exposures of a trial as tables of words, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pkpd.report import wording

if TYPE_CHECKING:
    from pkpd.comparison.results import ExposureRow, TrialResult

TITLE = "Exposures"
_MEASURES = {
    "auc": "area of the cycle",
    "auc_dose": "area of a dose, to infinity",
    "cmax": "peak",
    "tmax": "peak after a dose",
    "ctrough": "trough",
    "auc_ratio": "area by kidneys",
}
HEADS = ("cohort", "drug", "exposure", "median", "90 % of patients", "published")
RATIO_HEADS = ("first", "second", "drug", "exposure", "ratio", "90 % of patients")


def text(result: TrialResult) -> str:
    """Say what the table holds, and which drugs are not in it; empty without drugs."""
    rows, out = result.exposures, result.without_exposure
    parts = []
    if rows:
        lanes = f"{max(row.lanes for row in rows):.0f}"
        parts.append(
            f"Of {lanes} pairs of a patient and a draw whose counts are compared, in the first "
            "cycle with the drug, doses as planned. A trough is the concentration before the "
            "cycle's last dose (24 h after a single one). Published figures are taken in "
            "proportion to the dose."
        )
    if out:
        reasons = dict.fromkeys(out.values())
        told = (
            f"{', '.join(drug for drug, why in out.items() if why == reason)} "
            f"({reason.rstrip('.')})"
            for reason in reasons
        )
        of = len({row.drug for row in rows} | set(out))
        parts.append(f"Without exposures, {len(out)} of {of} drugs: {'; '.join(told)}.")
    return " ".join(parts)


def cells(result: TrialResult) -> list[tuple[str, ...]]:
    """Rows in the order of `HEADS`, without ratios of patients that the trial does not have."""
    return [
        (
            row.cohort,
            row.drug,
            _measure(row),
            wording.number(row.estimate, row.unit),
            wording.number_range(row.patients_lower, row.patients_upper, row.unit, row.estimate),
            _published(row),
        )
        for row in result.exposures
        if row.estimate == row.estimate
    ]


def ratio_cells(result: TrialResult) -> list[tuple[str, ...]]:
    """Rows in the order of `RATIO_HEADS`."""
    return [
        (
            *(row.first, row.second, row.drug, _MEASURES[row.measure]),
            wording.number(row.ratio, "1"),
            wording.number_range(row.patients_lower, row.patients_upper, "1", row.ratio),
        )
        for row in result.exposure_ratios
    ]


def sources(rows: Sequence[ExposureRow]) -> list[str]:
    """Each published figure with its origin, once."""
    told = (
        f"{row.drug}, {_MEASURES[row.measure]}: {row.published_spread}. {row.published_source}"
        for row in rows
        if row.published_source and row.estimate == row.estimate
    )
    return list(dict.fromkeys(told))


def _measure(row: ExposureRow) -> str:
    name = _MEASURES[row.measure]
    if row.measure == "auc":
        return f"{name} ({row.when}), {row.unit}"
    return f"area, {row.when}" if row.unit == "1" else f"{name}, {row.unit}"


def _published(row: ExposureRow) -> str:
    return "" if row.published != row.published else wording.number(row.published, row.unit)
