"""Reader of CDISC's analysis tables of concentrations: ADPPK, and ADPC or ADNCA that hold doses.

Names and meanings are those of CDISC's ADaM Population PK Implementation Guide 1.0 (2023), whose
variables ``AFRLT``, ``DV`` (a copy of ``AVAL``), ``BLQFL``, ``ALLOQ``, ``EXCLF`` and so on stand
for what NONMEM calls TIME, DV, CENS and LLOQ; ``FRLTU``, ``DTYPE`` and ``PARAMCD`` are those of the
ADaM guide on non-compartmental analysis. The table is written with NONMEM's names and read by
`pkpd.data.nonmem.dataset_of`; messages name the columns as the file does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from pkpd.arguments import MAPPING, NAMES, NONE, NUMBER, TEXT, check_arguments, from_to, one_of
from pkpd.data.adam_columns import (
    DURATIONS,
    censored_values,
    dose_amounts,
    durations,
    hours_of,
    kept_rows,
    kinds_of_event,
    units_of,
)
from pkpd.data.dataset import Dataset
from pkpd.data.measurements import HowMeasured, LineCodes, code_of
from pkpd.data.nonmem import dataset_of
from pkpd.data.sheets import Sheet, TableSource, checked_columns, open_sheet

_SUBJECT = ("USUBJID", "ID", "SUBJID", "USUBJIDN")
_LINES = ("PARAMCD", "DVID", "PARAMN", "DVIDN")
_KNOWN = (
    *_SUBJECT,
    *_LINES,
    *("AFRLT", "NFRLT", "ADTM", "UDTC", "RLTU", "FRLTU"),
    *("EVID", "AMT", "AMTU", "DOSEA", "DOSEU", "DOSEDURU", "RATE", "II", "ADDL", "SS", "CMT"),
    *("AVAL", "DV", "AVALU", "MDV", "ALLOQ", "AULOQ", "BLQFL", "BLQFN", "ALQFL", "ALQFN"),
    *("OCC", "EXCLF", "NCAXFL", "NCAXFN", "DTYPE", *DURATIONS),
)
_OF_NONMEM = ("DATE", "CENS", "LIMIT", "BLQ", "BLOQ", "BQL", "LLOQ")
"""What `pkpd.data.nonmem.dataset_of` reads and no table of CDISC means."""
BelowLimit = Literal["mdv", "censored", "drop"]


def read_adppk(
    source: TableSource,
    *,
    columns: Mapping[str, str | None] | None = None,
    covariates: Sequence[str] = (),
    lines: LineCodes | None = None,
    other_lines: Literal["refuse", "drop"] = "refuse",
    doses: Sequence[str] = ("DOSE",),
    time: str | None = None,
    below_limit: BelowLimit = "mdv",
    lloq: float | Mapping[str, float] | None = None,
    units: Mapping[str, str | Mapping[str, str]] | None = None,
    only: Mapping[str, str | Sequence[str]] | None = None,
    compartments: int | None = None,
    allow_replicates: bool = False,
    separator: str = ",",
) -> Dataset:
    """Read a CDISC ADaM table of doses and measured values (ADPPK, ADPC, ADNCA).

    Parameters
    ----------
    source
        Path of a SAS transport file (``.xpt``), a CSV or parquet file, or a data frame.
    columns
        Names that differ from the standard's: ``{"AFRLT": "TAFD", "PARAMCD": "ANALYTE"}``; None
        leaves a column out: ``{"SS": None}``.
    covariates
        Columns to keep, under these names (``"WTBL"``, ``"SEX"``). Their units are those of a
        column with a U more (``WTBLU``) or of the label in a transport file.
    lines
        What the codes of PARAMCD (else DVID) stand for:
        ``{"XAN": "concentration", "NEUT": "neutrophils"}``; None leaves a line out. By default each
        code is a line of its name.
    other_lines
        What happens to values whose code is not in ``lines``.
    doses
        Codes of PARAMCD or DVID that stand for a dose where there is no EVID.
    time
        The column of times. By default the first there is of AFRLT (hours after the first dose),
        ADTM and UDTC (dates with time of the day, counted from each subject's first dose). The
        planned times, NFRLT, are only taken when they are named here.
    below_limit
        What a value flagged by BLQFN or BLQFL is: ``"mdv"``: left out where MDV is 1, else known to
        be below ALLOQ; ``"censored"``: known to be below ALLOQ wherever that is given, whatever MDV
        says; ``"drop"``: left out.
    lloq
        Limit of quantification where ALLOQ does not give it, one or by line, in the file's unit.
    units
        Units of what the table does not tell: ``{"TIME": "day", "AMT": "mg", "DV": "ng/mL"}``, as
        of `pkpd.read_nonmem`. AVALU, RLTU or FRLTU, AMTU and labels of transport files are read.
    only
        Keep the rows that have these values: ``{"PKFL": "Y", "PCSPEC": ["PLASMA"]}``. Rows of doses
        are kept where the column is empty.
    compartments
        Number of compartments, to check CMT of doses.
    allow_replicates
        Accept several values of a line at one time.
    separator
        Between cells of a CSV file.

    Returns
    -------
    Dataset
        As of `pkpd.read_nonmem`; ``summary()`` says what was understood and left out.

    Raises
    ------
    DataError
        Naming file, row, subject, column, value and remedy.

    Notes
    -----
    Rows with EXCLF other than 0, measured values with NCAXFL ``Y`` (left out of an analysis without
    compartments) and copies (DTYPE ``COPY``, which ADNCA repeats for the next dose)
    are left out. Rows of doses hold no measured value: what AVAL says there is the dose. Amounts
    are those of AMT, else, on rows of doses, of AVAL (unit AVALU) or DOSEA (unit DOSEU). Infusions
    last ADOSEDUR, else NDOSEDUR, DOSEDUR or TINF, in DOSEDURU, else in the unit of times.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"USUBJID": ["01-7"] * 3, "AFRLT": [0, 0.5, 24], "PARAMCD": ["DOSE", "XAN", "XAN"],
    ...         "AVAL": [54, 570, 0], "AVALU": ["mg", "ng/mL", "ng/mL"], "BLQFL": ["", "N", "Y"],
    ...         "ALLOQ": [None, 10, 10]}
    >>> data = read_adppk(pd.DataFrame(rows), lines={"XAN": "concentration"})
    >>> data.events.amt[0, 0], data.observations.value, data.observations.censored
    (np.float64(54.0), array([0.57, 0.01]), array([0, 1]))
    """
    columns = checked_columns("read_adppk", columns)
    check_arguments(
        "read_adppk",
        covariates=(covariates, NAMES),
        lines=(lines, MAPPING | NONE),
        other_lines=(other_lines, one_of("refuse", "drop")),
        doses=(doses, NAMES),
        time=(time, TEXT | NONE),
        below_limit=(below_limit, one_of("mdv", "censored", "drop")),
        lloq=(lloq, NUMBER | MAPPING | NONE),
        units=(units, MAPPING | NONE),
        only=(only, MAPPING | NONE),
        compartments=(compartments, from_to(0) | NONE),
        separator=(separator, TEXT),
    )
    for name, wanted in (only or {}).items():
        check_arguments(f"read_adppk, only, {name}", values=(wanted, TEXT | NAMES))
    for code, line in (lines or {}).items():
        check_arguments(f"read_adppk, lines, {code}", line=(line, TEXT | NONE))
    for name, limit in lloq.items() if isinstance(lloq, Mapping) else ():
        check_arguments(f"read_adppk, lloq, {name}", lloq=(limit, NUMBER))
    table = _with_subjects(open_sheet(source, columns, _KNOWN, None, separator))
    notes = list(table.notes)
    _hide(table, columns, notes)
    line_column = next((name for name in _LINES if name in table.at), None)
    code = [
        code_of(table.text(line_column, i)) if line_column else "" for i in range(len(table.rows))
    ]
    evid = kinds_of_event(table, code, {code_of(word) for word in doses}, line_column)
    kept = kept_rows(table, evid, only or {}, notes)
    table, evid = table.where(kept), evid[kept]
    code = [one for one, there in zip(code, kept, strict=True) if there]
    table, time_unit = hours_of(table, evid, time, notes)
    table, dose_unit = dose_amounts(table, evid, notes)
    table = censored_values(table, evid, below_limit, notes)
    _tell_steady_state(table, notes)
    declared = units_of(table, evid, code, lines, units or {}, time_unit, dose_unit, covariates)
    table = durations(table, evid, declared.get("TIME"))
    table = table.with_column("EVID", evid.tolist(), "EVID" if "EVID" in table.at else line_column)
    how = HowMeasured(lines, line_column, other_lines, lloq, allow_replicates)
    return dataset_of(
        table,
        how,
        declared,
        notes,
        covariates=covariates,
        codes="nonmem",
        compartments=compartments,
    )


def _hide(table: Sheet, columns: Mapping[str, str | None], notes: list[str]) -> None:
    """Leave out columns that mean something in NONMEM's tables alone, unless they are asked for."""
    found = [name for name in _OF_NONMEM if name in table.at and name not in columns]
    if found:
        labels = ", ".join(table.label[name] for name in found)
        one = len(found) == 1
        notes.append(
            f"not read: column{'s' * (not one)} {labels}, whose name{' is' if one else 's are'} "
            "NONMEM's; columns= asks for " + ("it" if one else "them")
        )
    for name in found:
        del table.at[name], table.label[name]


def _with_subjects(table: Sheet) -> Sheet:
    """Name the column of subjects ID."""
    found = next((name for name in _SUBJECT if name in table.at), None)
    if found is None:
        raise table.lacks(
            what="has no column of subjects (USUBJID)",
            remedy="name it with columns={'USUBJID': ...}",
        )
    table.at["ID"], table.label["ID"] = table.at[found], table.label[found]
    return table


def _tell_steady_state(table: Sheet, notes: list[str]) -> None:
    """Say of steady-state doses at which interval they are taken to be given."""
    if "SS" not in table.at or "II" not in table.at:
        return
    steady = np.nan_to_num(table.numbers("SS")) > 0
    interval = np.nan_to_num(table.numbers("II"))[steady]
    if len(interval):
        notes.append(
            f"{len(interval)} doses are at steady state ({table.label['SS']}), given every "
            f"{interval.min():g} to {interval.max():g} units of time before ({table.label['II']})"
        )
