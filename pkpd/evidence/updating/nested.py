"""Rows of one's own that count the same patients: each patient is learned from once.

A trial prints complete remissions, complete remissions with or without full counts, responses, and
deaths by day 30 and by day 60: each contains the one before, as grades 3 and 4 contain grade 4. As
rows of their own they would count as so many trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pkpd.errors import DataError
from pkpd.evidence.table.endpoints import endpoint_of, is_part_of
from pkpd.evidence.table.rows import EvidenceRow
from pkpd.evidence.table.table import EvidenceTable, load_evidence

_ORDER = ("cr_rate", "cri_rate", "crp_rate", "cr_cri_rate", "pr_cr_rate", "orr", "cr_after_c1")
"""Responses, those first that say most of counts."""


def read_once(path: str | Path) -> tuple[EvidenceTable, EvidenceTable, list[str]]:
    """Read rows of one's own, as they stand and with each patient counted once.

    Returns
    -------
    EvidenceTable
        As `pkpd.evidence.table.table.load_evidence` reads them.
    EvidenceTable, list of str
        As `counted_once` takes them apart.

    Raises
    ------
    DataError
        If a row has a mistake, or counts of the same patients cannot all be.
    """
    read = load_evidence(path)
    _refuse_impossible([row for row in read if not row.unused], str(path))
    return (read, *counted_once(read))


def counted_once(table: EvidenceTable) -> tuple[EvidenceTable, list[str]]:
    """Take counts apart that contain one another, or leave out the one that adds least.

    Of complete remissions (A of n) and complete remissions with or without full counts (B of n)
    the second becomes incomplete ones, B less A of n. Of other responses within one another the
    first of :data:`_ORDER` remains, of deaths those by the last day. Of low counts and fevers of as
    many patients those within others are left out, and grade 4 of any line where each line has it.

    Parameters
    ----------
    table
        One's own rows.

    Returns
    -------
    EvidenceTable, list of str
        The rows, those that are left out marked with the reason; and a sentence for each that was
        taken apart.
    """
    other: dict[int, EvidenceRow] = {}
    told: list[str] = []
    for category, rows in _groups(table):
        kept = _deaths(rows) if category == "death" else _responses(rows, told)
        other |= {row.line: row for row in kept}
        for row in rows:
            if row.line not in other:
                own = min((one.line for one in kept), default=row.line)
                why = f"it counts patients whom row {own} counts"
                other[row.line] = replace(row, unused=why)
    other |= _low_counts(table)
    return replace(table, rows=tuple(other.get(row.line, row) for row in table)), told


def counted_beside(own: Iterable[EvidenceRow], published: Iterable[EvidenceRow]) -> list[str]:
    """Name published rows that stay though own rows count patients of the same study and arm.

    A later report of a trial has more patients, so that its rows stand beside those that were
    published of fewer. They may be of another cohort, too, which nobody but the reader knows.

    Parameters
    ----------
    own
        One's own rows that are learned from, as they were read.
    published
        Published rows that are learned from beside them, as they were read.

    Returns
    -------
    list of str
        A sentence for each own row and published one whose endpoint is the same, is within it, or
        has it within.
    """
    beside = list(published)
    return [
        f"row {row.line} ({_patients(row)}): the published {one.id} ({_patients(one)}) is of this "
        f"arm, too, and both are learned from; name {one.id} in replaces if its patients are among "
        "those of the row, or they count twice"
        for row in own
        for one in beside
        if _same_arm(row, one) and (row.endpoint == one.endpoint or _share_patients(row, one))
    ]


def _same_arm(row: EvidenceRow, one: EvidenceRow) -> bool:
    """Whether rows are of one arm; a line of treatment that is unknown may be the other's."""
    lines = {row.treatment_line, one.treatment_line} - {""}
    return row.study == one.study and row.given == one.given and len(lines) < 2


def _patients(row: EvidenceRow) -> str:
    n = row.denominator or row.n
    return f"{row.endpoint.name}, " + ("n unknown" if n is None else f"n = {n}")


def _groups(table: EvidenceTable) -> Iterator[tuple[str, list[EvidenceRow]]]:
    """Rows of the same patients: of an arm, or of as many of it where an endpoint stands twice."""
    arms: dict[tuple[str, str, str], list[EvidenceRow]] = {}
    for row in table:
        if row.endpoint.category and not row.unused:
            arms.setdefault((row.study, row.arm, row.endpoint.category), []).append(row)
    for (_, _, category), rows in arms.items():
        names = [row.endpoint.name for row in rows]
        if len(set(names)) == len(names):
            yield category, rows
            continue
        for size in dict.fromkeys(row.denominator for row in rows):
            yield category, [row for row in rows if row.denominator == size]


def _deaths(rows: list[EvidenceRow]) -> list[EvidenceRow]:
    """Deaths by the last day, which are those by earlier days, too; all of one endpoint."""
    last = max(rows, key=lambda row: row.endpoint.alternatives[0].observable.day)
    return [row for row in rows if row.endpoint.name == last.endpoint.name]


def _responses(rows: list[EvidenceRow], told: list[str]) -> list[EvidenceRow]:
    by_name = {row.endpoint.name: row for row in rows}
    full, both = by_name.get("cr_rate"), by_name.get("cr_cri_rate")
    alone = len(by_name) == len(rows) and not {"cri_rate", "crp_rate"} & by_name.keys()
    a, b = (0 if row is None else row.numerator or 0 for row in (full, both))
    if alone and full and both and full.denominator == both.denominator and a <= b:
        rest = b - a
        told.append(
            f"row {both.line}, {both.id}: its {b} are the {a} of row "
            f"{full.line} and {rest} more, of which it is learned (cri_rate {rest}/"
            f"{both.denominator})"
        )
        changed = replace(both, endpoint=endpoint_of("cri_rate"), numerator=rest, value=None)
        rows = [changed if row is both else row for row in rows]
    kept: list[EvidenceRow] = []
    for row in sorted(rows, key=lambda row: _ORDER.index(row.endpoint.name)):
        if not any(_share_patients(row, one) for one in kept):
            kept.append(row)
    return kept


def _low_counts(table: EvidenceTable) -> dict[int, EvidenceRow]:
    """Low counts and fevers that others of the same patients contain, with the reason, by line."""
    arms: dict[tuple[str, str, int | None], list[EvidenceRow]] = {}
    for row in table:
        if row.endpoint.kind == "count" and not row.endpoint.category and not row.unused:
            arms.setdefault((row.study, row.arm, row.denominator), []).append(row)
    found: dict[int, EvidenceRow] = {}
    for rows in arms.values():
        within = [[r for r in rows if is_part_of(r.endpoint, one.endpoint)] for one in rows]
        # grades of a line before those of any, which has parts of two
        for whole, parts in sorted(zip(rows, within, strict=True), key=lambda pair: len(pair[1])):
            left = [row for row in parts if row.line not in found]
            if len({row.endpoint.name for row in left}) > 1:
                lines = " and ".join(str(row.line) for row in left)
                why = f"it counts patients whom rows {lines} count"
                found[whole.line] = replace(whole, unused=why)
                continue
            why = f"it counts patients whom row {whole.line} counts"
            found |= {row.line: replace(row, unused=why) for row in left}
    return found


def _share_patients(one: EvidenceRow, other: EvidenceRow) -> bool:
    pairs = ((one.endpoint, other.endpoint), (other.endpoint, one.endpoint))
    return any(is_part_of(*pair) for pair in pairs)


def _refuse_impossible(rows: Sequence[EvidenceRow], shown: str) -> None:
    """Refuse counts of the same patients that cannot all be: too many, or more inside than out."""
    arms: dict[tuple[object, ...], list[EvidenceRow]] = {}
    for row in rows:
        if row.endpoint.kind == "count" and row.numerator is not None:
            arms.setdefault((row.study, row.arm, row.denominator), []).append(row)
    for found in arms.values():
        _refuse_more_inside(found, shown)
        counts = {
            category: max(
                (row for row in found if row.endpoint.category == category),
                key=lambda row: row.numerator or 0,
                default=None,
            )
            for category in ("response", "death")
        }
        told = [row for row in counts.values() if row is not None]
        total, n = sum(row.numerator or 0 for row in told), found[0].denominator or 0
        if total > n:
            first, second = told
            raise DataError(
                where=f"{shown}, row {second.line}, column numerator",
                what=f"{first.numerator} with a response (row {first.line}) and "
                f"{second.numerator} who died are more than the {n} patients of the arm",
                remedy="correct one of them, or give their own denominators",
            )


def _refuse_more_inside(rows: Sequence[EvidenceRow], shown: str) -> None:
    """Refuse more patients of a part, such as grade 4, than of the whole, grades 3 and 4."""
    for inner, outer in itertools.permutations(rows, 2):
        if (inner.numerator or 0) > (outer.numerator or 0) and is_part_of(
            inner.endpoint, outer.endpoint
        ):
            raise DataError(
                where=f"{shown}, row {inner.line}, column numerator",
                what=f"{inner.numerator} of {inner.denominator} are more than the "
                f"{outer.numerator} of {outer.endpoint.name} in row {outer.line}, which counts "
                f"every patient of {inner.endpoint.name}",
                remedy="correct one of them, or say in unused why a row is kept",
            )
