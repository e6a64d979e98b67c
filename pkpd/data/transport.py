"""SAS transport files (``.xpt``, version 5), the form in which tables are submitted to agencies.

The layout is that of SAS technical paper TS-140: records of 80 bytes, one description of 140 bytes
(135 on VMS) for each column, then rows without a gap, numbers as IBM wrote them. pandas 3.1 reads
zeros as 5.4e-79, loses last rows whose text is blank and takes a second table of the file for rows
of the first, so that the rows are read here.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pkpd.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_CARD = 80
_NUMBER, _TEXT = 1, 2
_MISSING = np.frombuffer(b"._ABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
_REMEDY = "save it as a transport file of version 5, or as CSV in UTF-8"


class _Column(NamedTuple):
    """Name, label, kind (1 number, 2 text), first byte in a row, and number of bytes."""

    name: str
    label: str
    kind: int
    start: int
    size: int


def read_transport(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read the table of a transport file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    frame, labels
        Numbers (NaN where missing) and text; the label of each column.

    Raises
    ------
    DataError
        If it is no transport file of version 5, holds several tables, or its columns have no
        meaning.
    """
    import pandas as pd

    raw = path.read_bytes()
    if raw.startswith(_header("LIBV8")):
        raise _refused(path, "is a transport file of version 8")
    if not raw.startswith(_header("LIBRARY")):
        raise _refused(path, "is no SAS transport file")
    if (tables := raw.count(_header("MEMBER"))) != 1:
        raise _refused(path, f"holds {tables} tables", "save each as a file of its own")
    columns, first = _columns(path, raw)
    width = sum(column.size for column in columns)
    data = raw[first:]
    count = _count_rows(data, width)
    if count * width + _CARD <= len(data):
        raise _refused(path, "has bytes after its last row that are no row")
    rows = np.frombuffer(data, np.uint8, count * width).reshape(count, width)
    cells = {
        c.name: _numbers(rows[:, c.start : c.start + c.size])
        if c.kind == _NUMBER
        else [_text(row.tobytes()) for row in rows[:, c.start : c.start + c.size]]
        for c in columns
    }
    return pd.DataFrame(cells), {c.name: c.label for c in columns}


def _header(name: str) -> bytes:
    return f"HEADER RECORD*******{name:8}HEADER RECORD!!!!!!!".encode()


def _columns(path: Path, raw: bytes) -> tuple[list[_Column], int]:
    """Columns, and the place of the first row."""
    member, names = raw.index(_header("MEMBER")), raw.find(_header("NAMESTR"))
    described = raw[member + 74 : member + 78]
    number = raw[names + 54 : names + 58]
    if names < 0 or not described.isdigit() or not number.isdigit():
        raise _refused(path, "has no description of its columns")
    size, count, start = int(described), int(number), names + _CARD
    if size not in (135, 140):
        raise _refused(path, f"describes a column in {size} bytes", "save it anew")
    observations = start + -(-size * count // _CARD) * _CARD
    if not raw.startswith(_header("OBS"), observations):
        raise _refused(path, f"does not hold the {count} columns that it announces")
    columns: list[_Column] = []
    for i in range(count):
        part = raw[start + i * size : start + (i + 1) * size]
        kind, _, length, _, name, label = struct.unpack(">hhhh8s40s", part[:56])
        (at,) = struct.unpack(">l", part[84:88])
        column = _Column(_text(name), _text(label), kind, at, length)
        expected = sum(c.size for c in columns)
        wide = 2 <= length <= 8 if kind == _NUMBER else kind == _TEXT and length >= 1
        if not wide or at != expected or not column.name:
            raise _refused(path, f"column {i + 1} ({column.name}) has no meaning")
        if column.name in (c.name for c in columns):
            raise _refused(path, f"has two columns '{column.name}'", "rename one of them")
        columns.append(column)
    if not columns:
        raise _refused(path, "has no columns")
    return columns, observations + _CARD


def _count_rows(data: bytes, width: int) -> int:
    """Count whole rows, without the blanks that fill the last record."""
    count = len(data) // width
    padding = len(data) - _CARD
    while count and (count - 1) * width > padding and not data[(count - 1) * width :].strip(b" "):
        count -= 1
    return count


def _numbers(cells: np.ndarray) -> np.ndarray:
    """Numbers of IBM: a sign, a power of 16 (excess 64) and a fraction of up to 56 bits."""
    count, size = cells.shape
    full = np.zeros((count, 8), np.uint8)
    full[:, :size] = cells
    bits = full.view(">u8").ravel()
    fraction = (bits & np.uint64(0x00FFFFFFFFFFFFFF)).astype(np.uint64)
    power = (full[:, 0] & 0x7F).astype(np.int64)
    # 56 bits are more than a double holds: both halves are exact
    value = (fraction >> np.uint64(28)).astype(float) * 2.0**28
    value = np.ldexp(value + (fraction & np.uint64(0xFFFFFFF)).astype(float), 4 * (power - 64) - 56)
    missing = (fraction == 0) & np.isin(full[:, 0], _MISSING)
    return np.where(missing, np.nan, np.where(full[:, 0] & 0x80, -value, value))


def _text(cell: bytes) -> str:
    """Text of a cell, which is UTF-8 or else of Windows."""
    try:
        return cell.decode("utf-8").strip(" \0")
    except UnicodeDecodeError:
        return cell.decode("cp1252", errors="replace").strip(" \0")


def _refused(path: Path, what: str, remedy: str = _REMEDY) -> DataError:
    return DataError(where=path.name, what=what, remedy=remedy)
