"""Rectangular tables as text cells, with words for places in them.

Cells stay text until a column is asked for as numbers, so that a message can show what was
written, in which line.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pkpd.errors import DataError, sentence

_MISSING = {"", ".", "NA", "NAN", "<NA>", "NONE"}


class Sheet:
    """Columns of a table as text, and words for places in it."""

    def __init__(
        self,
        name: str,
        header: list[str],
        rows: list[list[Any]],
        lines: list[int],
        columns: Mapping[str, str | None],
        known: Sequence[str],
    ) -> None:
        self.name = name
        self.rows = rows
        self.lines = lines
        by_upper = {label.strip().upper(): i for i, label in enumerate(header)}
        self.at: dict[str, int] = {}
        self.label: dict[str, str] = {}
        for key in dict.fromkeys([*known, *by_upper]):
            chosen = columns.get(key, key)
            if chosen is None:
                continue
            if chosen.upper() in by_upper:
                self.at[key] = by_upper[chosen.upper()]
                self.label[key] = header[self.at[key]].strip()
            elif key in columns:
                raise DataError(
                    sentence(
                        where=name,
                        what=f"has no column '{chosen}' (asked for as {key})",
                        allowed=", ".join(label.strip() for label in header),
                        remedy="correct columns=",
                    )
                )

    def place(self, i: int, column: str | None = None) -> str:
        """Words for row ``i``."""
        where = f"{self.name}, row {self.lines[i]}"
        if "ID" in self.at:
            where += f", ID {self.text('ID', i)}"
        return where if column is None else f"{where}, column {self.label.get(column, column)}"

    def text(self, column: str, i: int) -> str:
        """Cell as text, empty if missing."""
        value = self.rows[i][self.at[column]]
        text = "" if value is None else str(value).strip()
        return "" if text.upper() in _MISSING else text

    def numbers(self, column: str) -> np.ndarray:
        """Column as numbers, NaN where missing."""
        out = np.full(len(self.rows), np.nan)
        for i in range(len(self.rows)):
            text = self.text(column, i)
            if not text:
                continue
            try:
                out[i] = float(text)
            except ValueError:
                raise DataError(
                    sentence(
                        where=self.place(i, column),
                        what=f"'{text}' is not a number",
                        remedy="write a number, or '.' for a missing value",
                    )
                ) from None
        return out


def open_sheet(
    source: Any,
    columns: Mapping[str, str | None],
    known: Sequence[str],
    ignore: str | None = None,
    separator: str = ",",
) -> Sheet:
    """Read a file or data frame into text cells.

    Parameters
    ----------
    source
        Path of a CSV or parquet file, or a data frame.
    columns
        Known name (upper case) to the source's column; None leaves a column out.
    known
        Names that the caller looks for.
    ignore
        First characters of rows to leave out.
    separator
        Between cells of a CSV file.

    Raises
    ------
    DataError
        If the file is missing, empty or ragged, or a column asked for is not there.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise DataError(sentence(where=str(path), what="no such file", remedy="check the path"))
        if path.suffix.lower() == ".parquet":
            import pandas as pd  # only here: reading parquet is optional

            if find_spec("pyarrow") is None:
                raise DataError(
                    sentence(
                        where=path.name,
                        what="parquet files need the package pyarrow, which is not installed",
                        remedy="install pkpd[parquet], or save the table as CSV",
                    )
                )

            return _from_frame(pd.read_parquet(path), path.name, columns, known, ignore)
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=separator)
            header = next(reader, None)
            if not header:
                raise DataError(
                    sentence(where=path.name, what="is empty", remedy="give a header and rows")
                )
            rows, numbers = [], []
            for row in reader:
                if not any(cell.strip() for cell in row) or _ignored(row, ignore):
                    continue
                if len(row) != len(header):
                    raise DataError(
                        sentence(
                            where=f"{path.name}, row {reader.line_num}",
                            what=f"has {len(row)} cells, the header has {len(header)}",
                            remedy="give one cell per column, or another separator=",
                        )
                    )
                rows.append(row)
                numbers.append(reader.line_num)
        return Sheet(path.name, header, rows, numbers, columns, known)
    frame = source.to_pandas() if hasattr(source, "to_pandas") else source
    if not hasattr(frame, "columns"):
        raise DataError(
            sentence(
                where="read_nonmem",
                what=f"cannot read a {type(source).__name__}",
                allowed="path of a CSV or parquet file, or a data frame",
            )
        )
    return _from_frame(frame, "data frame", columns, known, ignore)


def _from_frame(
    frame: Any,
    name: str,
    columns: Mapping[str, str | None],
    known: Sequence[str],
    ignore: str | None,
) -> Sheet:
    header = [str(label) for label in frame.columns]
    cells = [frame[label].tolist() for label in frame.columns]
    rows = [list(row) for row in zip(*cells, strict=True)]
    numbered = [(i, row) for i, row in enumerate(rows) if not _ignored(row, ignore)]
    return Sheet(name, header, [r for _, r in numbered], [i for i, _ in numbered], columns, known)


def _ignored(row: Sequence[Any], ignore: str | None) -> bool:
    first = str(row[0]).strip() if ignore and row else ""
    if not first or not ignore:
        return False
    return first[0] in ignore or ("@" in ignore and first[0].isalpha())
