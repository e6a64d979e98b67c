"""Rectangular tables as text cells, with words for places in them.

Cells stay text until a column is asked for as numbers, so that a message can show what was
written, in which line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from datetime import datetime
from importlib.util import find_spec
from os.path import exists, isdir  # also for a name longer than the system takes
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from pkpd.arguments import MAPPING, NONE, TEXT, check_arguments
from pkpd.data.csv_cells import (
    has_decimal_comma,
    is_ignored,
    number_of,
    number_remedy,
    parted_by_points,
    plain_decimal,
    read_cells,
    with_points,
)
from pkpd.data.transport import read_transport
from pkpd.errors import DataError, PkpdError

if TYPE_CHECKING:
    import pandas as pd

_MISSING = {"", ".", "NA", "NAN", "NAT", "<NA>", "NONE"}
ISO_DATE = "%Y-%m-%d"
"""Format of dates unless another is given."""
_POINTS, _STAMP = "%d.%m.%Y", "%Y-%m-%d 00:00:00"  # and a data frame's dates as text
_FIRST_YEAR, _LAST_YEAR = 1800, 2300  # dates that are shifted, to tell nobody apart, lie in it


class Sheet:
    """Columns of a table as text, words for places in it, and the number of rows ignored.

    ``described`` has what a file says of its columns beside their names (labels of SAS), ``notes``
    how it was read.
    """

    def __init__(
        self,
        name: str,
        header: list[str],
        rows: list[list[Any]],
        lines: list[int],
        columns: Mapping[str, str | None],
        known: Sequence[str],
        ignored: int = 0,
    ) -> None:
        self.name = name
        self.ignored = ignored
        self.described: Mapping[str, str] = {}
        self.notes: list[str] = []
        self.decimal_comma = False
        self.rows = rows
        self.lines = lines
        by_upper = {label.strip().upper(): i for i, label in enumerate(header)}
        times = Counter(label.strip().upper() for label in header)
        twice = {label for label, n in times.items() if label and n > 1}
        self.at: dict[str, int] = {}
        self.label: dict[str, str] = {}
        for key in dict.fromkeys([*known, *columns, *by_upper]):
            chosen = columns.get(key, key)
            if chosen is None:
                continue
            if chosen.upper() in twice:
                raise DataError(
                    where=name, what=f"has two columns '{chosen}'", remedy="rename one of them"
                )
            if chosen.upper() in by_upper:
                self.at[key] = by_upper[chosen.upper()]
                self.label[key] = header[self.at[key]].strip()
            elif key in columns:
                raise DataError(
                    where=name,
                    what=f"has no column '{chosen}' (asked for as {key})",
                    allowed=", ".join(label.strip() for label in header),
                    remedy="correct columns=",
                )

    def place(self, i: int, column: str | None = None) -> str:
        """Words for row ``i``."""
        where = f"{self.name}, row {self.lines[i]}"
        subject = self.text("ID", i) if "ID" in self.at else ""
        where += f", ID {subject}" if subject else ""
        return where if column is None else f"{where}, column {self.label.get(column, column)}"

    def refused(
        self,
        i: Any,
        column: str | None,
        what: str,
        *,
        allowed: str | None = None,
        remedy: str | None = None,
    ) -> DataError:
        """Error about a row, or a cell of it."""
        place = self.place(int(i), column)
        return DataError(where=place, what=what, allowed=allowed, remedy=remedy)

    def lacks(self, *, what: str, remedy: str) -> DataError:
        """Error about columns that are not there; it names those that are."""
        there = ", ".join(self.label.values())
        what = f"{what}; its columns are {there}" if there else what
        return DataError(where=self.name, what=what, remedy=remedy)

    def word(self, column: str, i: int) -> str:
        """Cell as text, empty if missing; NONE, which no number is, is a word."""
        written = str(self.rows[i][self.at[column]] or "").strip()
        return written if written.upper() == "NONE" else self.text(column, i)

    def text(self, column: str, i: int) -> str:
        """Cell as text, empty if missing."""
        value = self.rows[i][self.at[column]]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = "" if value is None else str(value).strip()
        return "" if text.upper() in _MISSING else text

    def numbers(self, column: str) -> np.ndarray:
        """Column as numbers, NaN where missing."""
        out, bad = np.full(len(self.rows), np.nan), list[int]()
        texts = [self.text(column, i) for i in range(len(self.rows))]
        for i, text in enumerate(with_points(texts) if self.decimal_comma else texts):
            try:
                out[i] = number_of(text) if text else np.nan
            except ValueError:
                bad.append(i)
        if self.decimal_comma and not bad:
            self._refuse_parted(column, texts)
        if bad:
            what = f"'{texts[bad[0]]}' is not a number{self.also(bad[1:])}"
            remedy = number_remedy(texts[bad[0]], decimal_comma=self.decimal_comma)
            raise self.refused(bad[0], column, what, remedy=remedy)
        return out

    def finite(self, column: str) -> np.ndarray:
        """Column as finite numbers, NaN where missing."""
        values = self.numbers(column)
        for i in np.flatnonzero(np.isinf(values)):
            what = f"'{self.text(column, int(i))}' is not a finite number"
            raise self.refused(i, column, what, remedy="correct it, or write '.' for none")
        return values

    def _refuse_parted(self, column: str, texts: Sequence[str]) -> None:
        """Refuse numbers whose point may part thousands, where the file has decimal commas."""
        parted = next((i for i, text in enumerate(texts) if parted_by_points(text)), None)
        cells = ((i, self.text(name, i)) for i in range(len(self.rows)) for name in self.at)
        comma = parted is not None and next((c for c in cells if has_decimal_comma(c[1])), None)
        if parted is None or not comma:
            return
        text = texts[parted]
        raise self.refused(
            parted,
            column,
            f"'{text}' is no number in a file with decimal commas ('{comma[1]}' in row "
            f"{self.lines[comma[0]]})",
            remedy=f"write {text.replace('.', '')} if the point parts thousands, "
            f"{plain_decimal(text)} if it is a decimal point",
        )

    def also(self, rows: Sequence[int]) -> str:
        """Words for further rows with a fault of the same kind; nothing without them."""
        named = ", ".join(str(self.lines[i]) for i in rows[:3])
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        return f" (nor in row{'s' if len(rows) > 1 else ''} {named}{more})" if rows else ""

    def limited_numbers(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Column as numbers that may be written as limits: ``<0.1`` or ``>500``.

        Returns
        -------
        values, sign
            Numbers (NaN where missing); 1 where it is an upper limit, -1 a lower one, else 0.
        """
        sign = np.zeros(len(self.rows), dtype=np.int64)
        bare = list(self.rows)
        for i in range(len(self.rows)):
            text = self.text(column, i)
            if text[:1] in ("<", ">"):
                sign[i] = 1 if text[0] == "<" else -1
                cells = list(self.rows[i])
                cells[self.at[column]] = text[1:].lstrip("= ")
                bare[i] = cells
        other = copy(self)
        other.rows = bare
        values = other.numbers(column)
        for i in np.flatnonzero((sign != 0) & ~np.isfinite(values)):
            raise self.refused(
                i,
                column,
                f"'{self.text(column, int(i))}' is a limit without a number",
                remedy="write it as '<0.1'",
            )
        return values, sign

    def refuse_texts(self, columns: Sequence[str], limited: Sequence[str] = ()) -> None:
        """Refuse cells that are no numbers, of all these columns at once.

        Parameters
        ----------
        columns, limited
            Names; those that are not there are passed over. Numbers of the second may be limits.
        """
        wrong = []
        readers = [(name, self.numbers) for name in columns]
        for name, read in [*readers, *((name, self.limited_numbers) for name in limited)]:
            try:
                if name in self.at:
                    read(name)
            except DataError as error:
                wrong.append(str(error))
        if wrong:
            raise DataError(" ".join(wrong))

    def where(self, kept: np.ndarray) -> Sheet:
        """Keep some rows, bool[rows]; they keep their places."""
        other = copy(self)
        there = np.flatnonzero(kept).tolist()
        other.rows = [self.rows[i] for i in there]
        other.lines = [self.lines[i] for i in there]
        return other

    def with_column(self, key: str, cells: Sequence[Any], like: str | None = None) -> Sheet:
        """Add or replace a column; messages call it what they call the column ``like``."""
        other = copy(self)
        label = self.label.get(like or key, like or key)
        other.at = {**self.at, key: len(self.rows[0]) if self.rows else len(self.at)}
        other.label = {**self.label, key: label}
        other.rows = [[*row, cell] for row, cell in zip(self.rows, cells, strict=True)]
        return other


class HasToPandas(Protocol):
    """A data frame of another library."""

    def to_pandas(self) -> pd.DataFrame:
        """Return it as a pandas data frame."""
        ...


TableSource: TypeAlias = "str | Path | pd.DataFrame | HasToPandas"
"""What the readers of data read."""


def read_stamp(table: Sheet, i: int, date_format: str) -> datetime:
    """Read the date of a row, or say why not.

    Without another ``date_format``, 01.03.2024 is read as well as 2024-03-01: the day stands first
    wherever dates are written with points.
    """
    text, found = table.text("DATE", i), None
    for one in (date_format, *((_POINTS, _STAMP) if date_format == ISO_DATE else ())):
        try:
            found = found or datetime.strptime(text, one)
        except ValueError:
            continue
    if found is None:
        readable = date_format.replace("%Y", "YYYY").replace("%m", "MM").replace("%d", "DD")
        what, remedy = f"'{text}' is not a date", "correct it, in Python also date_format="
        raise table.refused(i, "DATE", what, allowed=f"{readable} ({date_format})", remedy=remedy)
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        allowed = f"{_FIRST_YEAR} to {_LAST_YEAR}"
        what = f"'{text}' is in the year {found.year}"
        raise table.refused(i, "DATE", what, allowed=allowed, remedy="correct it")
    return found


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        number_of(text)
    except ValueError:
        return False
    return True


def checked_columns(where: str, columns: Mapping[str, str | None] | None) -> dict[str, str | None]:
    """Names of columns that differ, by the usual name in capitals.

    Raises
    ------
    PkpdError
        If they are no mapping of texts.
    """
    check_arguments(where, columns=(columns, MAPPING | NONE))
    for key, value in (columns or {}).items():
        check_arguments(f"{where}, columns", key=(key, TEXT), name=(value, TEXT | NONE))
    return {key.upper(): value for key, value in (columns or {}).items()}


def open_sheet(
    source: TableSource,
    columns: Mapping[str, str | None],
    known: Sequence[str],
    ignore: str | None = None,
    separator: str = ",",
) -> Sheet:
    """Read a file or data frame into text cells.

    Parameters
    ----------
    source
        Path of a CSV, parquet or SAS transport file (``.xpt``), or a data frame.
    columns
        Known name (upper case) to the source's column; None leaves a column out.
    known
        Names that the caller looks for.
    ignore
        First characters of rows to leave out.
    separator
        Between cells of a CSV file; where it is not in the header, semicolons, tabs or blanks that
        are.

    Raises
    ------
    DataError
        If the file is missing, empty or ragged, or a column asked for is not there.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if not exists(path):
            raise DataError(where=str(path), what="no such file", remedy="check the path")
        if isdir(path):
            raise DataError(where=str(path), what="it is a folder", remedy="name a file in it")
        if path.suffix.lower() == ".parquet":
            import pandas as pd  # only here: reading parquet is optional

            if find_spec("pyarrow") is None:
                raise DataError(
                    where=path.name,
                    what="parquet files need the package pyarrow, which is not installed",
                    remedy="in a checkout of pkpd run pip install '.[parquet]', or save as CSV",
                )

            try:
                return _from_frame(pd.read_parquet(path), path.name, columns, known, ignore)
            except PkpdError:
                raise
            except Exception as error:  # its reader has many kinds
                told = next(iter(str(error).splitlines()), "")
                what, remedy = f"is no parquet file that can be read ({told})", "write it again"
                raise DataError(where=path.name, what=what, remedy=remedy) from error
        if path.suffix.lower() == ".xpt":
            table, described = read_transport(path)
            sheet = _from_frame(table, path.name, columns, known, ignore, first=1)
            sheet.described = described
            return sheet
        names = {*known, *(name.upper() for name in columns.values() if name)}
        cells = read_cells(path, ignore, separator, names)
        sheet = Sheet(
            path.name, cells.header, cells.rows, cells.lines, columns, known, cells.ignored
        )
        sheet.decimal_comma, sheet.notes = cells.decimal_comma, cells.notes
        return sheet
    frame = source.to_pandas() if hasattr(source, "to_pandas") else source
    if not hasattr(frame, "columns"):
        raise DataError(
            where="data",
            what=f"cannot read a {type(source).__name__}",
            allowed="path of a CSV, parquet or SAS transport file, or a data frame",
        )
    name = str(getattr(frame, "attrs", {}).get("name", "data frame"))
    return _from_frame(frame, name, columns, known, ignore)


def _from_frame(
    frame: Any,
    name: str,
    columns: Mapping[str, str | None],
    known: Sequence[str],
    ignore: str | None,
    first: int = 0,
) -> Sheet:
    header = [str(label) for label in frame.columns]
    cells = [frame.iloc[:, k].tolist() for k in range(len(header))]
    rows = [list(row) for row in zip(*cells, strict=True)]
    # a frame may say which lines of a file its rows are, or the first of them
    told = getattr(frame, "attrs", {})
    first = int(told.get("first_line", first))
    lines = told.get("lines", range(first, first + len(rows)))
    numbered = [
        (n, row)
        for n, row in zip(lines, rows, strict=True)
        if not is_ignored(row[0] if row else "", ignore)
    ]
    sheet = Sheet(
        name,
        header,
        [r for _, r in numbered],
        [n for n, _ in numbered],
        columns,
        known,
        len(rows) - len(numbered),
    )
    sheet.decimal_comma = told.get("decimal_comma", False)
    sheet.notes = list(told.get("notes", ()))
    return sheet
