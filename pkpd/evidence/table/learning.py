"""The table that a posterior is to be learned from, and rows by line of treatment and age.

`load_learning_table` joins the two tables of the product. Rows that were read later stand in for
rows of the first table that count the same patients in less detail (column ``replaces``). Then each
row is simulated with the line of treatment and the median age of its own patients (`refined`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from pkpd.cards.files import nearest_of
from pkpd.errors import DataError
from pkpd.evidence.table.age_limits import told_age
from pkpd.evidence.table.populations import Population, evidence_folder, load_populations
from pkpd.evidence.table.rows import EvidenceRow
from pkpd.evidence.table.table import EvidenceTable, free_name, load_evidence

LEARNING_FILES = ("outcomes.csv", "new_outcomes.csv")
"""Tables of the product that are learned from, the first replaced by rows of the second."""


def load_learning_table() -> EvidenceTable:
    """Read the product's rows to learn from: both tables joined, by line of treatment and age.

    Raises
    ------
    DataError
        If a table has a mistake, or a row replaces one that is not there.

    Examples
    --------
    >>> table = load_learning_table()
    >>> len(table) > len(load_evidence())
    True
    """
    return refined(published_rows())


def published_rows() -> EvidenceTable:
    """Read the same as they are printed, without line of treatment and age."""
    first, second = (load_evidence(Path(str(evidence_folder() / f))) for f in LEARNING_FILES)
    files = " and ".join(f"evidence/{f}" for f in LEARNING_FILES)
    return replace(joined(first, second), file=files)


def joined(first: EvidenceTable, second: EvidenceTable) -> EvidenceTable:
    """Rows of two tables, without those of the first that rows of the second replace.

    Ids that both tables made for rows without one get a number.

    Raises
    ------
    DataError
        If a row replaces one that the first table does not have, or repeats another.
    """
    known = {row.id for row in first}
    replaced: set[str] = set()
    for row in second:
        for name in row.replaces:
            if name not in known:
                raise DataError(
                    where=f"{second.file}, row {row.line}, column replaces",
                    what=f"there is no row {name!r} in {first.file}{nearest_of(name, known)}",
                    remedy="name the id of a row, STUDY.endpoint where it has none",
                )
            replaced.add(name)
    taken, rows = known - replaced, []
    for row in second:
        name = free_name(row.id, taken)
        taken.add(name)
        rows.append(replace(row, id=name))
    kept = replace(first, rows=tuple(row for row in first if row.id not in replaced))
    return kept.with_rows(rows, second.file)


def refined(table: EvidenceTable) -> EvidenceTable:
    """Rows with the population of their line of treatment, at the median age of their patients.

    Ages are rounded to a year. A row that prints none has that of the same arm of its study, else
    that of its study where there is one only, else the median between the limits of age that the
    words on its patients name (`pkpd.evidence.table.age_limits`), else that of its population.

    Parameters
    ----------
    table
        As `pkpd.evidence.table.table.load_evidence` reads it.
    """
    populations = load_populations()
    printed: dict[tuple[str, ...], set[float]] = defaultdict(set)
    for row in table:
        if row.age_median is not None:
            for key in _places(row):
                printed[key].add(row.age_median)
    return replace(table, rows=tuple(_refined(row, populations, printed) for row in table))


def _places(row: EvidenceRow) -> tuple[tuple[str, ...], ...]:
    """Where the age of a row may be printed: its arm, its study."""
    study = (row.study, row.population.name)
    return ((*study, row.schedule.text), study)


def _refined(
    row: EvidenceRow,
    populations: dict[str, Population],
    printed: dict[tuple[str, ...], set[float]],
) -> EvidenceRow:
    known = row.population
    finer = populations[dict(known.by_line).get(row.treatment_line, known.name)]
    age = row.age_median
    if age is None:
        age = next((min(printed[key]) for key in _places(row) if len(printed[key]) == 1), None)
    age = told_age(row) if age is None else age
    years = float(max(round(age), 1)) if age is not None else known.age
    return replace(
        row,
        population=replace(
            finer,
            age=years,
            aged=years != finer.age,
            least_neutrophils=known.least_neutrophils,
            least_platelets=known.least_platelets,
        ),
    )
