"""What a reader of tables passes over although it may matter: columns, flags, codes for missing.

Each is a sentence for the user, who may have meant it; nothing is read otherwise than it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pkpd.data.dataset import NOT_CENSORED, Observations
from pkpd.data.events import EventTable
from pkpd.data.shared_ids import BODY
from pkpd.data.sheets import Sheet

_OF_OTHERS = {
    "DUR": ("RxODE has durations of infusions there", "TINF"),
    "ADM": ("Monolix has the way a dose is given there", "CMT"),
    "YTYPE": ("Monolix has the number of what was measured there", "DVID"),
}
"""Columns of other tools, what they are there, and the column that says it here."""

_CODES = (-99.0, -999.0, -9999.0, -99999.0)
"""Usual codes for a missing value."""


def misspelt(table: Sheet, covariates: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Columns that nothing reads, by the name that they may stand for and that is not there.

    The same letters in another order (ATM), or one letter more or less (DVV).
    """
    used = {*known, *BODY, *(name.upper() for name in covariates)}
    out: dict[str, str] = {}
    for key, label in table.label.items():
        for name in known if key not in used and len(key) > 1 else ():
            short, long = sorted((key, name), key=len)
            same = sorted(key) == sorted(name)
            one = len(long) == len(short) + 1 and len(short) > 1
            one = one and any(long[:i] + long[i + 1 :] == short for i in range(len(long)))
            if name not in table.at and (same or one):
                out.setdefault(name, label)
    return out


def overlooked(table: Sheet, covariates: Sequence[str], wrong: Mapping[str, str]) -> list[str]:
    """Sentences on what is not read, or read as it stands, and may be meant otherwise.

    Parameters
    ----------
    table
        The table.
    covariates
        Columns that are kept as covariates.
    wrong
        What looks misspelt (`misspelt`).
    """
    asked = {name.upper() for name in covariates}
    told = []
    if wrong:
        pairs = ", ".join(f"{label} (for {name})" for name, label in wrong.items())
        told.append(
            f"columns that are not read and look misspelt: {pairs}; rename them, or take them out"
        )
    for key, (what, name) in _OF_OTHERS.items():
        if key in asked or key not in table.at or name in table.at or key in wrong.values():
            continue
        values = {table.text(key, i) for i in range(len(table.rows))} - {"", "0"}
        # one way of giving, or one line, needs no column
        if len(values) > (key != "DUR"):
            label = table.label[key]
            told.append(
                f"column {label} is not read ({what}): say columns={{'{name}': '{label}'}}, "
                "or take it out"
            )
    flagged = "C" in table.at and "C" not in asked
    rows = [i for i in range(len(table.rows)) if flagged and table.text("C", i).upper() == "C"]
    if rows:
        remedy = "say ignore='C'" if table.at["C"] == 0 else "take them out"
        told.append(
            f"{_counted(table, rows)} with the flag C, often one for NONMEM to ignore, read like "
            f"the others: {remedy}, or say columns={{'C': None}} where nothing is meant"
        )
    return told + _codes(table, asked)


def zeros(seen: Observations, events: EventTable, lines: Sequence[str]) -> list[str]:
    """Note measured values of 0 after a dose, which often are below a limit."""
    doses = np.where(events.is_dose & events.valid, events.time, np.inf).min(axis=1, initial=np.inf)
    found = (seen.value == 0) & (seen.censored == NOT_CENSORED) & (seen.time > doses[seen.subject])
    counts = np.bincount(seen.line[found], minlength=len(lines))
    return [
        f"{line}: {count} values after the first dose are 0, taken as measured; where that means "
        "below a limit of quantification, give lloq= or CENS"
        for line, count in zip(lines, counts, strict=True)
        if count
    ]


def _codes(table: Sheet, covariates: set[str]) -> list[str]:
    """Sentences on values that are usual codes for missing ones."""
    told = []
    for key in ("DV", *sorted(covariates - set(BODY))):
        if key not in table.at:
            continue
        texts = [table.text(key, i) for i in range(len(table.rows))]
        rows = [
            i
            for i, text in enumerate(texts)
            if text.startswith("-") and _number(text) in _CODES and _measured(table, key, i)
        ]
        if rows:
            told.append(
                f"{_counted(table, rows)} with {texts[rows[0]]} in column {table.label[key]}, "
                "often a code for a missing value, read as a number: write '.' where it is missing"
            )
    return told


def _measured(table: Sheet, key: str, i: int) -> bool:
    """Whether a cell is used: one of DV in a dose's row, or beside MDV = 1, is not."""
    away = key == "DV" and any(
        name in table.at and table.text(name, i) not in ("", "0") for name in ("EVID", "MDV")
    )
    return not away


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _counted(table: Sheet, rows: Sequence[int]) -> str:
    """``1 row (row 3)``, ``4 rows (the first: row 5)``."""
    first = f"row {table.lines[rows[0]]}"
    return f"1 row ({first})" if len(rows) == 1 else f"{len(rows)} rows (the first: {first})"
