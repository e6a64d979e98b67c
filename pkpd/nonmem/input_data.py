"""``$INPUT`` and ``$DATA``: columns by name, rows left out, and what NM-TRAN adds to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from os.path import isfile  # also for a name longer than the system takes
from pathlib import Path

import numpy as np

from pkpd.data.csv_cells import number_of
from pkpd.errors import DataError
from pkpd.nonmem.records import Record, file_text

RESERVED = ("ID", "L1", "L2", "DV", "MDV", "TIME", "EVID", "AMT", "RATE", "SS", "II", "ADDL", "CMT")
RESERVED += ("PCMT", "CALL", "CONT", "DATE", "DAT1", "DAT2", "DAT3", "RAW_", "MRG_", "RPT_")
_DATES = {"DATE": "mdy", "DAT1": "dmy", "DAT2": "ymd", "DAT3": "ydm"}
LAST20 = 50
"""Years of two digits up to this one are of this century, as in NM-TRAN: 2050, then 1951."""
_COMPARISONS = {
    "EQ": "==",
    "NE": "!=",
    "EQN": "==n",
    "NEN": "!=n",
    "LT": "<",
    "LE": "<=",
    "GT": ">",
    "GE": ">=",
}
_SYMBOLS = {"==": "==", "=": "==", "/=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_HEADERS = "@#\"'"
"""What a line that IGNORE=@ leaves out begins with, besides a letter."""
_CONDITION = re.compile(
    r"""^\s*([A-Za-z_][\w]*)\s*
    (?:\.([A-Za-z]+)\.|(==|/=|<=|>=|<|>|=))?\s*
    (?:"([^"]*)"|'([^']*)'|(\S.*?))\s*$""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Column:
    """A data item: its name, its other name, and whether it is read."""

    name: str
    synonym: str | None = None
    dropped: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Both names."""
        return (self.name,) if self.synonym is None else (self.name, self.synonym)


@dataclass(frozen=True)
class Condition:
    """A comparison of a column with a value, from IGNORE or ACCEPT."""

    column: str
    operator: str
    value: str


@dataclass(frozen=True)
class DataRecord:
    """What ``$DATA`` says."""

    record: Record
    file: str
    ignore: str = "#"
    conditions: tuple[Condition, ...] = ()
    accept: bool = False
    records: int | None = None
    null: float = 0.0
    last20: int = LAST20


@dataclass(frozen=True)
class Items:
    """Data items of the rows that are kept.

    Attributes
    ----------
    columns
        Values by name, synonyms included, float[rows].
    numbers
        Line of the file of each row.
    source
        Name of the file.
    notes
        What was decided.
    absent
        Names of items that no row has a cell for; as in NM-TRAN, they are the value of NULL.
    blank
        Rows whose cell is empty or a dot, by name, bool[rows].
    """

    columns: dict[str, np.ndarray]
    numbers: np.ndarray
    source: str
    notes: tuple[str, ...]
    absent: tuple[str, ...] = ()
    blank: dict[str, np.ndarray] = field(default_factory=dict)


def read_input(record: Record) -> list[Column]:
    """Read the names of the data items.

    Examples
    --------
    >>> from pkpd.nonmem.records import Line
    >>> record = Record("INPUT", (Line(1, "ID DOSE=AMT AGE=DROP SKIP"),), "run.mod")
    >>> [(c.names, c.dropped) for c in read_input(record)][1:3]
    [(('AMT', 'DOSE'), False), (('AGE',), True)]
    """
    out: list[Column] = []
    seen: set[str] = set()
    for line in record.lines:
        text = re.sub(r"\s*=\s*", "=", line.text.replace(",", " ").upper())
        for piece in text.split():
            first, _, second = piece.partition("=")
            words = [w for w in (first, second) if w]
            dropped = any(word in ("DROP", "SKIP") for word in words)
            names = [word for word in dict.fromkeys(words) if word not in ("DROP", "SKIP")]
            if any(not re.match(r"[A-Z_][A-Z0-9_]*$", name) for name in names):
                record.refuse(f"{piece!r} is no name of a data item", line)
            if len(names) == 2 and names[1] in RESERVED and names[0] not in RESERVED:
                names.reverse()
            column = Column(
                names[0] if names else "DROP", names[1] if len(names) > 1 else None, dropped
            )
            for name in () if dropped else column.names:
                if name in seen:
                    record.refuse(
                        f"the data item {name} is there twice", line, remedy="rename or drop one"
                    )
                seen.add(name)
            out.append(column)
    return out


def _strip_quotes(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def read_data(record: Record) -> DataRecord:
    """Read the file and the conditions on its rows."""
    text = " ".join(line.text for line in record.lines).strip()
    found = re.match(r"(\"[^\"]*\"|'[^']*'|[^\s,]+)", text)
    if not found:
        record.refuse("names no file")
    name, rest = _strip_quotes(found.group(1)), text[found.end() :]
    ignore, conditions, accepts, count, null = "#", [], set(), None, 0.0
    last20 = LAST20
    while rest.strip():
        rest = rest.lstrip(" ,")
        word = re.match(r"([A-Za-z]+(?:20)?)\s*(=?)\s*", rest)
        if rest.startswith("("):
            record.refuse("a FORTRAN format of the data", remedy="write the data with commas")
        if not word:
            if not rest:
                break
            record.refuse(f"{rest.split()[0]!r} is not understood")
        key, rest = word.group(1).upper(), rest[word.end() :]
        which = next((k for k in ("IGNORE", "ACCEPT") if len(key) >= 3 and k.startswith(key)), None)
        if which:
            if rest.startswith("("):
                inside, rest = _bracket(record, rest)
                conditions += [_condition(record, part) for part in _split_list(inside)]
                accepts.add(which == "ACCEPT")
            elif which == "ACCEPT":
                record.refuse("ACCEPT without a list in brackets")
            else:
                mark = re.match(r"\"(.)\"|'(.)'|(\S)", rest)
                if not mark:
                    record.refuse("IGNORE without a character")
                ignore, rest = next(g for g in mark.groups() if g), rest[mark.end() :]
            continue
        value = re.match(r"(\([^)]*\)|\S*)", rest) if word.group(2) else None
        said = value.group(1) if value else ""
        rest = rest[value.end() :] if value else rest
        if len(key) >= 3 and "RECORDS".startswith(key):
            if not (said.isdecimal() and len(said) <= 12):
                record.refuse(
                    f"RECORDS={said[:40]}", allowed="a number", remedy="write a number of records"
                )
            count = int(said)
        elif key == "NULL":
            null = _value(said)
            if not np.isfinite(null):
                record.refuse(f"NULL={said}", allowed="a number")
        elif key == "LAST20":
            if not (said.isdecimal() and len(said) <= 2):
                record.refuse(f"LAST20={said[:40]}", allowed="a year of two digits")
            last20 = int(said)
        elif key in ("TRANSLATE", "MISDAT", "PRED"):
            record.refuse(f"{key} is not read", remedy="change the values in the data file")
        elif key not in (
            "REWIND",
            "NOREWIND",
            "WIDE",
            "NOWIDE",
            "CHECKOUT",
            "LRECL",
            "BLANKOK",
            "NOOPEN",
            "NOREW",
        ):
            record.refuse(f"the option {key} is not read")
    if len(accepts) > 1:
        record.refuse("IGNORE and ACCEPT lists together", allowed="one of the two")
    return DataRecord(
        record, name, ignore, tuple(conditions), accepts == {True}, count, null, last20
    )


def _bracket(record: Record, text: str) -> tuple[str, str]:
    quote = ""
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == ")":
            return text[1:i], text[i + 1 :]
    return record.refuse("a bracket is not closed")


def _split_list(text: str) -> list[str]:
    return [part for part in re.findall(r"(?:\"[^\"]*\"|'[^']*'|[^,\"'])+", text) if part.strip()]


def _condition(record: Record, text: str) -> Condition:
    found = _CONDITION.match(text)
    if not found:
        record.refuse(
            f"the condition ({text.strip()}) is not understood", allowed="(COLUMN.EQ.value)"
        )
    name, dotted, symbol, *values = found.groups()
    dotted = (dotted or "EQ").upper()
    if dotted not in _COMPARISONS:
        record.refuse(
            f"the comparison .{dotted}.", allowed=", ".join(f".{c}." for c in _COMPARISONS)
        )
    operator = _SYMBOLS[symbol] if symbol else _COMPARISONS[dotted]
    return Condition(name.upper(), operator, next(v for v in values if v is not None).strip())


def _value(text: str) -> float:
    text = text.strip()
    try:
        return number_of(re.sub(r"[dD]", "E", text))
    except ValueError:
        return np.nan


def find_file(data: DataRecord, folder: Path, given: Path | None) -> Path:
    """Return the path of the data: what the caller gives, what the record names, or that name here.

    Raises
    ------
    PkpdError
        If there is none.
    """
    if given is not None:
        return given
    named = Path(data.file)
    for path in (
        named if named.is_absolute() else folder / named,
        folder / Path(data.file.replace("\\", "/")).name,
    ):
        if isfile(path):
            return path
    return data.record.refuse(
        f"the file {data.file} is not beside the stream",
        remedy="name the data file with data= (on the command line --data)",
    )


def _cells(line: str) -> list[str]:
    """Cells of a row: commas, tabs and runs of blanks divide, as NM-TRAN has it."""
    line = line.strip(" \r\n")
    return [cell.strip() for cell in re.split(r" *[,\t] *| +", line)]


def _kept(cells: Sequence[str], at: dict[str, int], data: DataRecord, place: str) -> bool:
    """Whether a row passes the lists of IGNORE or ACCEPT."""
    for one in data.conditions:
        if one.column not in at:
            data.record.refuse(
                f"the condition on {one.column} names no data item", allowed=", ".join(at)
            )
        index = at[one.column]
        cell = cells[index] if index < len(cells) else ""
        if _holds(cell, one, place):
            return data.accept
    return not (data.accept and data.conditions)


def _holds(cell: str, one: Condition, place: str) -> bool:
    number, wanted = _value(cell or "0"), _value(one.value)
    if cell in (".", ""):
        number = 0.0
    if one.operator in ("==", "!="):
        same = cell == one.value
        if (
            np.isfinite(number)
            and np.isfinite(wanted)
            and cell not in (".", "")
            and same != (number == wanted)
        ):
            raise DataError(
                where=f"{place}, column {one.column}",
                what=f"'{cell}' and '{one.value}' are the same number in other words, and "
                "versions of NONMEM differ on whether IGNORE and ACCEPT compare text",
                remedy="write .EQN. or .NEN. for numbers",
            )
        return same if one.operator == "==" else not same
    compare = {
        "==n": number == wanted,
        "!=n": number != wanted,
        "<": number < wanted,
        "<=": number <= wanted,
        ">": number > wanted,
        ">=": number >= wanted,
    }
    return bool(compare[one.operator])


def read_items(data: DataRecord, columns: Sequence[Column], path: Path) -> Items:
    """Read the rows of a data file that the stream keeps.

    Raises
    ------
    DataError
        For a cell that is no number.
    PkpdError
        If the file cannot be read.
    """
    lines = file_text(path).replace("\r\n", "\n").split("\n")
    at = {name: i for i, column in enumerate(columns) for name in column.names}
    # NM-TRAN takes the days from a date even where the item is dropped
    read = [(i, c) for i, c in enumerate(columns) if not c.dropped or c.name in _DATES]
    rows: list[list[float]] = []
    numbers: list[int] = []
    ignored, hashed = {"mark": 0, "list": 0}, 0
    clock: list[int] = []  # times written as 14:30
    blank: list[list[bool]] = []
    widest = count = empty = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            empty = empty or number
            continue
        if line.strip().upper() == "FIN":
            break
        first = line.lstrip()[:1]
        if data.ignore == "@" and (first.isalpha() or first in _HEADERS):
            ignored["mark"] += 1
            hashed += first == "#"
            continue
        if data.ignore != "@" and line[:1] == data.ignore:
            ignored["mark"] += 1
            continue
        if data.records is not None and count >= data.records:
            break
        if empty:
            raise DataError(
                where=f"{path.name}, line {empty}",
                what="an empty line stands before further records",
                remedy="remove it: NM-TRAN refuses it, and with BLANKOK reads a record of zeros",
            )
        count += 1  # as NM-TRAN does, before the lists
        place = f"{path.name}, line {number}"
        cells = _cells(line)
        if not _kept(cells, at, data, place):
            ignored["list"] += 1
            continue
        rows.append([_cell(cells, i, column, data, place, clock) for i, column in read])
        blank.append(["".join(cells[i : i + 1]) in ("", ".") for i, _ in read])
        numbers.append(number)
        widest = max(widest, len(cells))
    if not rows:
        raise DataError(where=path.name, what="no row is left", remedy="look at IGNORE and ACCEPT")
    table = np.array(rows)
    out = {name: table[:, k] for k, (_, column) in enumerate(read) for name in column.names}
    notes = []
    if ignored["mark"]:
        some = f" ({hashed} of them begin with #)" if hashed else ""
        lines = f"{ignored['mark']} line{'s' * (ignored['mark'] != 1)}"
        notes.append(f"{lines} left out by IGNORE={data.ignore}{some}")
    if ignored["list"]:
        rows_out = f"{ignored['list']} row{'s' * (ignored['list'] != 1)}"
        notes.append(f"{rows_out} left out by {'ACCEPT' if data.accept else 'IGNORE'} lists")
    if clock or any(name in _DATES for name in out):
        notes.append("hours count from each individual's first record, as TIME is a clock time")
        out["(clock)"] = np.ones(len(rows))
    absent = tuple(n for i, column in read if i >= widest for n in column.names)
    cells_blank = np.array(blank).T
    empty_cells = {n: cells_blank[k] for k, (_, c) in enumerate(read) for n in c.names}
    return Items(out, np.array(numbers), path.name, tuple(notes), absent, empty_cells)


def _cell(
    cells: Sequence[str],
    index: int,
    column: Column,
    data: DataRecord,
    place: str,
    clock: list[int],
) -> float:
    cell = cells[index] if index < len(cells) else ""
    if cell in (".", ""):
        return data.null
    if column.name in _DATES and not _is_number(cell):
        return float(_day(cell, _DATES[column.name], place, column.name, data.last20))
    if column.name == "TIME" and ":" in cell:
        sign = -1.0 if cell.startswith("-") else 1.0
        parts = [_value(part) for part in cell.removeprefix("-").split(":")]
        if all(np.isfinite(parts)):
            clock.append(1)
            return sign * sum(part / 60.0**k for k, part in enumerate(parts))
    value = _value(cell)
    if not np.isfinite(value):
        raise DataError(
            where=f"{place}, column {column.name}",
            what=f"'{cell}' is no number",
            remedy="drop the column in $INPUT, or leave the row out by IGNORE",
        )
    return value


def _is_number(cell: str) -> bool:
    return bool(np.isfinite(_value(cell)))


def _day(cell: str, order: str, place: str, name: str, last20: int) -> int:
    parts = re.split(r"\D", cell)
    # two parts are day and month; without a year February has 28 days
    own = order.replace("y", "") if len(parts) == 2 else order
    try:
        values = dict(zip(own, (int(p) for p in parts), strict=True))
        year = values.get("y", 1901)
        year += 0 if year > 99 else 2000 if year <= last20 else 1900
        return date(year, values["m"], values["d"]).toordinal()
    except (ValueError, KeyError):
        raise DataError(
            where=f"{place}, column {name}",
            what=f"'{cell}' is no date",
            allowed=f"{'/'.join(order)}, or {'/'.join(order.replace('y', ''))} without a year",
        ) from None


def individuals(items: Items, prediction: bool, record: Record) -> np.ndarray:
    """Count the individual records: a new one wherever ID changes, int[rows]."""
    identity = items.columns.get("ID")
    if identity is None:
        if prediction:
            return np.arange(len(items.numbers))
        record.refuse("has no ID", remedy="name the column of subjects ID")
    return np.concatenate([[0], np.cumsum(identity[1:] != identity[:-1])])


def event_columns(
    items: Items, subject: np.ndarray, prediction: bool = False
) -> dict[str, np.ndarray]:
    """EVID, MDV and the rest of the event items, as NM-TRAN adds them; hours from dates.

    A record without EVID is a dose if it has an amount, a rate or a dosing interval, else an
    observation, or another event where MDV is 1. With ``prediction`` ($PRED) no item is of an
    event: every record is an observation but where the file's MDV says that it is none.
    """
    n = len(items.numbers)
    out = {
        name: items.columns.get(name, np.zeros(n))
        for name in ("AMT", "RATE", "II", "ADDL", "SS", "CMT")
    }
    dosed = np.any([out[name] != 0 for name in ("AMT", "RATE", "II", "ADDL", "SS")], axis=0)
    missing = items.columns.get("MDV")
    if "EVID" in items.columns:
        out["EVID"] = items.columns["EVID"]
    else:
        other = np.zeros(n) if missing is None else missing
        out["EVID"] = np.where(dosed, 1.0, np.where(other != 0, 2.0, 0.0))
    if prediction:
        out["EVID"] = np.zeros(n)
    out["MDV"] = np.where(out["EVID"] != 0, 1.0, 0.0) if missing is None else missing
    out["TIME"] = items.columns.get("TIME", np.zeros(n))
    if items.columns.pop("(clock)", None) is not None:
        day = next((items.columns[name] for name in _DATES if name in items.columns), 0.0)
        hours = 24.0 * day + out["TIME"]
        start = np.concatenate([[True], subject[1:] != subject[:-1]])
        first = np.maximum.accumulate(np.where(start, np.arange(n), 0))
        out["TIME"] = hours - hours[first]
    return out
