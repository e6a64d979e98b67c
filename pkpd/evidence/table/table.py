"""The evidence table: one line for each published, aggregated outcome of a trial.

The product's own table is ``models/evidence/outcomes.csv``; its columns are described in the
README beside it. Reading is strict, since a misread row would move every prediction.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from pkpd.cards.files import nearest_of
from pkpd.data.csv_cells import number_of, rows_of
from pkpd.errors import DataError
from pkpd.evidence.table.can_be_simulated import check_simulated
from pkpd.evidence.table.endpoints import endpoint_of
from pkpd.evidence.table.populations import (
    LINES,
    Population,
    evidence_folder,
    load_populations,
)
from pkpd.evidence.table.rows import REINDUCTION_DAY, EvidenceRow
from pkpd.evidence.table.schedule import Schedule, parse_schedule

REQUIRED = ("study", "population", "schedule", "endpoint", "mark")
OPTIONAL = (
    *("id", "reference", "patients", "n", "other_schedule", "cycles", "cycle_days", "value"),
    *("lower", "upper", "limits", "numerator", "denominator", "definition", "source", "via"),
    *("assumed", "unused", "reinduction", "reinduction_day"),
    *("age_median", "line", "creatinine_limit", "replaces"),
)
MARKS = ("READ", "DERIVED", "MEMORY")
LIMITS = ("range", "iqr", "ci90", "ci95")
VIAS = ("direct", "mirror")
OLDEST = 110.0  # years
EVALUABLE = 0.9  # share of n that a denominator usually is, at least
ROUNDING = 0.006  # a printed share is rounded to a percent or finer
_OF_VALUE = ("quantiles", "mean", "ratio", "difference")  # kinds of endpoints with a printed number


@dataclass(frozen=True)
class EvidenceTable:
    """Rows of an evidence table, checked.

    Attributes
    ----------
    rows
        In the order of the file.
    file
        Name shown in messages.
    """

    rows: tuple[EvidenceRow, ...]
    file: str = ""

    def __repr__(self) -> str:
        """Tell file and size."""
        used = sum(not row.unused for row in self.rows)
        return (
            f"EvidenceTable({self.file or 'made'}: {len(self)} rows, {used} of them to be used, "
            f"of {len(self.studies)} studies)"
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[EvidenceRow]:
        return iter(self.rows)

    def row(self, name: str) -> EvidenceRow:
        """Row by its id."""
        for row in self.rows:
            if row.id == name:
                return row
        near = nearest_of(name, (row.id for row in self.rows))
        raise DataError(where=self.file, what=f"there is no row {name!r}{near}")

    @property
    def studies(self) -> tuple[str, ...]:
        """Names of the studies, in the order of the file."""
        return tuple(dict.fromkeys(row.study for row in self.rows))

    def without_studies(self, studies: Iterable[str]) -> EvidenceTable:
        """Leave studies out."""
        left_out = set(studies)
        return replace(self, rows=tuple(row for row in self.rows if row.study not in left_out))

    def with_rows(self, rows: Iterable[EvidenceRow], file: str = "") -> EvidenceTable:
        """Add rows of a file; a row that is in the table already is refused."""
        own = self.file or "evidence"
        table = replace(self, rows=(*self.rows, *rows))
        _refuse_repeats(table.rows[len(self.rows) :], file or own, self.rows, own)
        return table


def load_evidence(path: str | Path | None = None) -> EvidenceTable:
    """Read an evidence table.

    Parameters
    ----------
    path
        A CSV file; the product's own table if ``None``.

    Raises
    ------
    DataError
        In one sentence with file, row and column: an unknown or missing column, an unknown endpoint
        or population, a schedule that does not parse, a numerator above its denominator, a
        percentage where a fraction is meant, a count that does not agree with its printed share, a
        missing number of patients, limits without their meaning, or a row that repeats another.
    """
    file = Path(path) if path is not None else evidence_folder() / "outcomes.csv"
    shown = str(path) if path is not None else "evidence/outcomes.csv"
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            where=shown,
            what=f"it cannot be read ({error.strerror or error})",
            remedy="check the path",
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            where=shown, what="it is no text in UTF-8", remedy="save it as CSV in UTF-8"
        ) from error
    reader = csv.reader(text.splitlines(), strict=True)
    lines = rows_of(reader, shown)
    header = [name.strip() for name in next(lines, [])]
    _check_header(header, shown)
    populations = load_populations()
    rows, mistakes = [], []
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        try:
            if len(cells) != len(header):
                raise DataError(
                    where=f"{shown}, row {reader.line_num}",
                    what=f"{len(cells)} cells for {len(header)} columns",
                    remedy="put a text with commas in double quotes",
                )
            cell = _Cells(dict(zip(header, cells, strict=True)), shown, reader.line_num)
            rows.append(_row(cell, populations))
        except DataError as error:
            mistakes.append(str(error))
    if mistakes:
        raise DataError("\n".join(mistakes))
    if not rows:
        raise DataError(where=shown, what="it has no rows", remedy="write an outcome a row")
    _refuse_repeats(rows, shown)
    return EvidenceTable(_named(rows), shown)


def _check_header(header: list[str], shown: str) -> None:
    known = (*REQUIRED, *OPTIONAL)
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise DataError(
            where=f"{shown}, header",
            what="its columns are parted by semicolons or tabs",
            remedy="save it with commas",
        )
    for name in header:
        if name not in known:
            raise DataError(
                where=f"{shown}, header",
                what=f"unknown column {name!r}{nearest_of(name, known)}",
                allowed=", ".join(known),
            )
    for name in REQUIRED:
        if name not in header:
            raise DataError(
                where=f"{shown}, header",
                what=f"column {name!r} is missing",
                remedy="add it to the header and to every row",
            )
    twice = [name for name, times in Counter(header).items() if times > 1]
    if twice:
        raise DataError(where=f"{shown}, header", what=f"column {twice[0]!r} twice")


class _Cells:
    """The cells of one row, read with their place."""

    def __init__(self, cells: Mapping[str, str], file: str, line: int) -> None:
        self.cells = cells
        self.file = file
        self.line = line

    def text(self, column: str) -> str:
        return self.cells.get(column, "").strip()

    def refuse(
        self, column: str, what: str, allowed: str | None = None, remedy: str | None = None
    ) -> NoReturn:
        where = f"{self.file}, row {self.line}, column {column}"
        raise DataError(where=where, what=what, allowed=allowed, remedy=remedy)

    def one_of(self, column: str, words: tuple[str, ...], default: str) -> str:
        word = self.text(column) or default
        if word not in words:
            self.refuse(
                column,
                f"{word!r} is not allowed{nearest_of(word, words)}",
                ", ".join(filter(None, words)),
            )
        return word

    def number(self, column: str) -> float | None:
        text = self.text(column)
        if not text:
            return None
        try:
            number = number_of(text)
        except ValueError:
            number = None
        if number is None:
            share = text.endswith("%")
            hint = _as_fraction(text[:-1]) if share else "write digits, with a decimal point"
            self.refuse(column, f"{text!r} is no number", remedy=hint)
        if not math.isfinite(number):
            self.refuse(column, f"{text!r} is not finite")
        return number

    def count(self, column: str) -> int | None:
        number = self.number(column)
        if number is None:
            return None
        if number < 0 or number != int(number):
            self.refuse(column, f"{number:g} is no whole number of 0 or more")
        return int(number)

    def schedule(self, column: str) -> Schedule:
        try:
            return parse_schedule(self.text(column))
        except DataError as error:
            located = f"{self.file}, row {self.line}, column {column}: {error}"
            raise DataError(located) from error


def _row(cell: _Cells, populations: Mapping[str, Population]) -> EvidenceRow:
    study, population = cell.text("study"), cell.text("population")
    if not study:
        cell.refuse("study", "it is empty", remedy="name the study")
    if not population:
        cell.refuse("population", f"study {study} has no population", ", ".join(populations))
    if population not in populations:
        cell.refuse(
            "population",
            f"there is no population {population!r}{nearest_of(population, populations)}",
            ", ".join(populations),
        )
    try:
        endpoint = endpoint_of(cell.text("endpoint"))
    except DataError as error:
        located = f"{cell.file}, row {cell.line}, column endpoint: {error}"
        raise DataError(located) from error
    cycles = cell.count("cycles")
    cycle_days = cell.count("cycle_days")
    if cycles == 0 or cycle_days == 0:
        cell.refuse("cycles" if cycles == 0 else "cycle_days", "it is 0", "1 or more")
    again_on = cell.count("reinduction_day")
    row = EvidenceRow(
        line=cell.line,
        id=cell.text("id"),
        study=study,
        population=populations[population],
        schedule=cell.schedule("schedule"),
        other_schedule=cell.schedule("other_schedule") if cell.text("other_schedule") else None,
        cycles=cycles or 1,
        cycle_days=cycle_days or 28,
        endpoint=endpoint,
        mark=cell.one_of("mark", MARKS, ""),
        via=cell.one_of("via", VIAS, "direct"),
        n=cell.count("n"),
        value=cell.number("value"),
        lower=cell.number("lower"),
        upper=cell.number("upper"),
        limits=cell.text("limits"),
        numerator=cell.count("numerator"),
        denominator=cell.count("denominator"),
        reference=cell.text("reference"),
        patients=cell.text("patients"),
        definition=cell.text("definition"),
        source=cell.text("source"),
        assumed=cell.text("assumed"),
        unused=cell.text("unused"),
        reinduction=cell.schedule("reinduction") if cell.text("reinduction") else None,
        reinduction_day=REINDUCTION_DAY if again_on is None else again_on,
        age_median=cell.number("age_median"),
        treatment_line=cell.one_of("line", (*LINES, ""), ""),
        creatinine_limit=cell.text("creatinine_limit"),
        replaces=tuple(filter(None, map(str.strip, cell.text("replaces").split(";")))),
    )
    last = max(one.last_day for one in (row.simulated, row.other_schedule) if one is not None)
    if row.cycles > 1 and last > row.cycle_days and not row.unused:
        told = f"it is {row.cycle_days}, and the last dose is on day {last}"
        cell.refuse("cycle_days", told, f"{last} or more")
    if row.cycles > 1 and row.endpoint.name == "cr_after_c1":
        cell.refuse("cycles", f"the row has {row.cycles} cycles", "1 or empty: it is of the first")
    _check_age(row, cell)
    _check_reinduction(row, cell)
    _check_numbers(row, cell)
    row = _counted(row, cell)
    check_simulated(row, cell.refuse)
    return row


def _check_age(row: EvidenceRow, cell: _Cells) -> None:
    age = row.age_median
    if age is not None and not 0 < age < OLDEST:
        cell.refuse("age_median", f"{age:g} is no age", f"above 0 to {OLDEST:g} years")


def _check_reinduction(row: EvidenceRow, cell: _Cells) -> None:
    second = row.reinduction
    if second is None:
        if cell.text("reinduction_day"):
            cell.refuse("reinduction_day", "no reinduction is given", remedy="leave it empty")
        return
    if row.cycles > 1:
        cell.refuse("reinduction", f"the row has {row.cycles} cycles", "cycles 1 or empty")
    if len(second.at_levels()) > 1:
        cell.refuse("reinduction", "it has several dose levels", "one")
    if row.reinduction_day <= row.schedule.last_day:
        cell.refuse(
            "reinduction_day",
            f"day {row.reinduction_day} is not after the last dose on day {row.schedule.last_day}",
        )


def _as_fraction(percent: str) -> str:
    try:
        number = number_of(percent.strip())
    except ValueError:
        number = math.nan
    number = number if 0 <= number <= 100 else 32.0
    return f"write {number / 100:g} for {number:g} %"


def _check_numbers(row: EvidenceRow, cell: _Cells) -> None:
    for column in ("value", "lower", "upper"):
        number = getattr(row, column)
        if row.endpoint.proportion and number is not None and not 0 <= number <= 1:
            remedy = _as_fraction(cell.text(column))
            cell.refuse(column, f"{number:g} is no fraction", "0 to 1", remedy)
    k, n = row.numerator, row.denominator if row.denominator is not None else row.n
    if k is not None and n is not None and k > n:
        cell.refuse("numerator", f"{k} of {n} patients", "at most the denominator")
    share_printed = row.value is not None and row.endpoint.proportion
    if share_printed and k is not None and n and abs((row.value or 0.0) - k / n) > ROUNDING:
        cell.refuse(
            "value", f"{row.value:g} is not {k}/{n} = {k / n:.3f}", remedy="correct one of them"
        )
    if row.lower is not None and row.upper is not None:
        if row.lower > row.upper:
            cell.refuse("lower", f"{row.lower:g} is above upper {row.upper:g}")
        if row.value is not None and not row.lower <= row.value <= row.upper:
            cell.refuse("value", f"{row.value:g} is outside {row.lower:g} to {row.upper:g}")
        if row.limits not in LIMITS:
            cell.refuse("limits", "it does not say what lower and upper are", ", ".join(LIMITS))
    elif row.limits or (row.lower, row.upper) != (None, None):
        cell.refuse("limits", "lower, upper and limits stand together", ", ".join(LIMITS))
    if row.endpoint.kind == "ratio":
        for column in ("value", "lower"):
            number = getattr(row, column)
            if number is not None and number <= 0:
                cell.refuse(column, f"{number:g} is no ratio of days", "above 0")
    if row.n == 0:
        cell.refuse("n", "it is 0", "1 or more, or empty")


def _counted(row: EvidenceRow, cell: _Cells) -> EvidenceRow:
    """Fill numerator, denominator and n from one another, and refuse what cannot be counted."""
    n = row.n if row.n is not None else row.denominator
    needs_n = not row.unused and row.endpoint.kind in ("count", "quantiles", "mean")
    # without an interval a contrast errs as its patients say
    contrast = row.endpoint.kind in ("ratio", "difference")
    no_width = row.lower == row.upper or row.limits == "iqr"
    needs_n |= not row.unused and contrast and no_width
    if needs_n and n is None:
        cell.refuse("n", "the number of patients is missing", remedy="give n, or say why in unused")
    two_arms = row.endpoint.kind in ("mtd", "ratio", "difference")
    if two_arms and not row.unused and row.other_schedule is None:
        cell.refuse(
            "other_schedule",
            "the row compares two schedules and gives one",
            "the dose that was not tolerated, or the arm compared with",
            "or say why in unused",
        )
    numerator, denominator, derived = row.numerator, row.denominator, False
    if row.endpoint.kind == "count" and not row.unused:
        if numerator is None and row.value is None:
            cell.refuse("numerator", "neither numerator nor value", remedy="give one")
        denominator = denominator if denominator is not None else n
        if denominator == 0 or denominator is None:
            cell.refuse("denominator", "no patients", "1 or more")
        _check_denominator(row, denominator, cell)
        if numerator is None and row.value is not None:
            numerator, derived = round(row.value * denominator), True
            told = row.definition or row.assumed
            if abs(row.value - numerator / denominator) > ROUNDING and not told:
                cell.refuse(
                    "value",
                    f"{row.value:g} is no share of {denominator} patients; the nearest is "
                    f"{numerator}/{denominator} = {numerator / denominator:.3f}",
                    remedy="correct value or n, give numerator and denominator, or say in "
                    "definition what is printed",
                )
        if numerator is not None and numerator > denominator:
            cell.refuse("numerator", f"{numerator} of {denominator} patients")
    elif row.endpoint.kind in _OF_VALUE and not row.unused and row.value is None:
        cell.refuse("value", "it is empty", remedy="give it, or say why in unused")
    return replace(row, n=n, numerator=numerator, denominator=denominator, derived=derived)


def _check_denominator(row: EvidenceRow, denominator: int, cell: _Cells) -> None:
    """Refuse a denominator far from n that no word of the row explains."""
    n = row.n if row.n is not None else denominator
    told = re.findall(r"\d+", f"{row.definition} {row.assumed} {row.patients}")
    if not EVALUABLE * n <= denominator <= n and str(denominator) not in told:
        cell.refuse(
            "denominator",
            f"it is {denominator}, and n is {n}",
            f"{math.ceil(EVALUABLE * n)} to {n}",
            f"correct one of them, or say in definition who the {denominator} are",
        )


def _refuse_repeats(
    rows: Iterable[EvidenceRow], shown: str, known: Iterable[EvidenceRow] = (), known_in: str = ""
) -> None:
    seen: dict[tuple[object, ...], tuple[str, str]] = {}
    added = [(row, "", "keep one") for row in rows]
    for row, place, remedy in [
        *((row, f" of {known_in}", f"name {row.id} in replaces") for row in known), *added
    ]:  # fmt: skip
        n = row.denominator or row.n
        key = (row.study, row.given, row.endpoint.name, n, row.treatment_line)
        if key in seen:
            there, first = seen[key]
            raise DataError(
                where=f"{shown}, row {row.line}, column endpoint",
                what=f"{row.study} has {row.endpoint.name} of this arm in row {there} too",
                remedy=f"{first}, or give their own schedule, population, line or denominator",
            )
        seen[key] = (f"{row.line}{place}", remedy)


def _named(rows: Iterable[EvidenceRow]) -> tuple[EvidenceRow, ...]:
    """Give rows without an id one, and make ids unique."""
    named: dict[str, EvidenceRow] = {}
    for row in rows:
        first = row.id or f"{row.study}.{row.endpoint.name}"
        name = free_name(first, named)
        named[name] = replace(row, id=name)
    return tuple(named.values())


def free_name(name: str, taken: Collection[str]) -> str:
    """Give a name that none has yet: itself, or with a number from 2."""
    numbered = (f"{name}.{times}" for times in itertools.count(2))
    return next(one for one in itertools.chain((name,), numbered) if one not in taken)
