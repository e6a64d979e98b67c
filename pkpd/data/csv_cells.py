"""Cells of a CSV file as text: how lines are cut, comments before the header, decimal commas."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pkpd.errors import DataError

_OTHERS = (";", "\t")  # cut there if nothing is cut at the comma
_BLANKS = " "
_THOUSANDS = re.compile(r"[<>]?[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_PARTED = re.compile(r"[<>]?\s*[+-]?[1-9]\d{0,2}(\.\d{3})+")
_COMMA = re.compile(r"[<>]?\s*[+-]?\d*,\d+([eE][+-]?\d+)?")
# from its beginning (another mark is text) to the separator or the end of the line
_QUOTED = r'(^|[\r\n{0}])("[^"]*(?:""[^"]*)*") *(?=[\r\n{0}]|\Z)'


@dataclass
class Cells:
    """What a CSV file holds.

    Attributes
    ----------
    header, rows, lines
        Names of columns, cells, and the line of the file of each row.
    ignored
        Rows left out because of their first character.
    decimal_comma
        Whether a comma in a number may be a decimal point: cells are not cut there.
    notes
        What was decided.
    """

    header: list[str]
    rows: list[list[Any]]
    lines: list[int]
    ignored: int = 0
    decimal_comma: bool = False
    notes: list[str] = field(default_factory=list)


def is_ignored(first: Any, ignore: str | None) -> bool:
    """Whether a row is left out for its first cell; ``@`` stands for any letter, ``#`` and @."""
    text = str(first).strip() if ignore else ""
    if not text or not ignore:
        return False
    return text[0] in ignore or ("@" in ignore and (text[0].isalpha() or text[0] == "#"))


def read_cells(path: Path, ignore: str | None, separator: str, known: Collection[str]) -> Cells:
    """Read a CSV file; see `pkpd.data.sheets.open_sheet`.

    Raises
    ------
    DataError
        If it is no text, empty or ragged.
    """
    if len(separator) != 1:
        raise DataError(
            where=f"separator={separator!r}",
            what="is no single character",
            allowed="',', ';', '\\t' (a tab) or ' '",
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            where=path.name,
            what=f"is not UTF-8 text (byte {error.start})",
            remedy="save it as CSV in UTF-8",
        ) from None
    comments, text = _without_comments(text, known)
    first = next(iter(text.splitlines()), "")
    cut = separator
    if separator not in first:
        cut = next((one for one in _OTHERS if one in first), separator)
        cut = _BLANKS if cut not in first and len(first.split()) > 1 else cut
    if cut != " ":
        text = re.sub(_QUOTED.format(re.escape(cut)), r"\1\2", text)
    # strict: else a quotation mark that is not closed takes the rest of the file into its cell
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=cut, skipinitialspace=cut == " ", strict=True
    )
    rows = rows_of(reader, path.name, comments)
    header = next(rows, None)
    if not header:
        raise DataError(where=path.name, what="is empty", remedy="give a header and rows")
    out = Cells(header, [], [], decimal_comma=cut != ",")
    if cut != separator:
        name = {"\t": "tabs", _BLANKS: "blanks"}.get(cut, repr(cut))
        out.notes.append(
            f"cells were cut at {name}, since no {separator!r} is in the header; a comma in a "
            "number is a decimal point"
        )
    if comments:
        out.notes.append(f"left out: {comments} lines of comments (#) before the header")
    for row in rows:
        row = row[:-1] if cut == _BLANKS and row and not row[-1] else row
        if not any(cell.strip() for cell in row):
            continue
        if is_ignored(row[0], ignore):
            out.ignored += 1
            continue
        where = f"{path.name}, row {reader.line_num + comments}"
        if row[0].lstrip().startswith("#"):
            raise DataError(
                where=where,
                what=f"begins with '#' ({row[0].strip()[:20]!r})",
                remedy="take the row out if it is a comment, in Python also ignore='#'",
            )
        if len(row) != len(header):
            comma = cut == "," and len(row) > len(header)
            raise DataError(
                where=where,
                what=f"has {len(row)} cells, the header has {len(header)}",
                remedy="give one cell per column, in Python also another separator="
                + ("; decimals are written with a point, not with a comma" if comma else ""),
            )
        out.rows.append(row)
        out.lines.append(reader.line_num + comments)
    return out


def rows_of(reader: Any, name: str, comments: int = 0) -> Iterator[list[str]]:
    """Rows of a strict `csv.reader`; one whose quotation marks do not fit is refused."""
    while True:
        begins = reader.line_num + comments + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                where=f"{name}, row {begins}",
                what=f"has a quotation mark that is not closed, or text after one ({error})",
                remedy="take the mark out, or close it at the end of the cell",
            ) from None
        yield row


def _without_comments(text: str, known: Collection[str]) -> tuple[int, str]:
    """Leave out lines that begin with ``#`` before the header, which may begin with it itself."""
    count = 0
    while text.lstrip(" ").startswith("#"):
        line, _, rest = text.partition("\n")
        bare = line.lstrip("# ")
        if re.split(r"[,;\t ]", bare, maxsplit=1)[0].strip().upper() in known:
            return count, f"{bare}\n{rest}"
        count, text = count + 1, rest
    return count, text


def has_decimal_comma(text: str) -> bool:
    """Whether a number's comma is a decimal point, and parts no thousands.

    Examples
    --------
    >>> [has_decimal_comma(text) for text in ("0,5", "1,638", "5")]
    [True, False, False]
    """
    return bool("," in text and _COMMA.fullmatch(text) and not _THOUSANDS.fullmatch(text))


def parted_by_points(text: str) -> bool:
    """Whether a number's points may part thousands: ``1.638``, and not ``0.638`` or ``16.4``."""
    return bool(_PARTED.fullmatch(text))


def plain_decimal(text: str) -> str:
    """Write a number so that its point can part no thousands.

    Examples
    --------
    >>> plain_decimal("1.500"), plain_decimal("1.638")
    ('1.5', '1.6380')
    """
    whole, _, rest = text.partition(".")
    short = rest.rstrip("0") or "0"
    return f"{whole}.{short if len(short) != 3 else rest + '0'}"


def with_points(texts: list[str]) -> list[str]:
    """Numbers of a column with decimal commas, written with points.

    Where every comma could as well part thousands (1,638) nothing is changed, and the reader of
    numbers asks.

    Examples
    --------
    >>> with_points(["0,5", "<1,25", "7"]), with_points(["1,638", "2,000"])
    (['0.5', '<1.25', '7'], ['1,638', '2,000'])
    """
    if not any(has_decimal_comma(text) for text in texts):
        return texts
    return [text.replace(",", ".") if _COMMA.fullmatch(text) else text for text in texts]


def number_of(text: str) -> float:
    """Read a number as tables have it: Python itself takes 1_5 for 15."""
    return float(text.replace("_", "?"))


def number_remedy(text: str, *, decimal_comma: bool = False) -> str:
    """Say what to do about a text that is no number, in a file that may have decimal commas.

    Examples
    --------
    >>> number_remedy("0,5")
    'write it with a decimal point, 0.5'
    >>> number_remedy("1,638")
    'write 1638 if the comma parts thousands, 1.638 if it is a decimal point'
    >>> number_remedy("1.638,5")
    'write it without points between thousands, 1638.5'
    >>> number_remedy("BLQ")
    "write '<' and the limit for a value below it, <0.2 for instance, or '.' for a missing value"
    """
    point = text.replace(",", ".")
    if _THOUSANDS.fullmatch(text):
        bare = text.replace(",", "")
        if point.count(".") > 1:
            return f"write it without commas between thousands, {bare}"
        point = plain_decimal(point) if decimal_comma else point
        return f"write {bare} if the comma parts thousands, {point} if it is a decimal point"
    whole, comma, rest = text.partition(",")
    if _PARTED.fullmatch(whole) and (rest.isdigit() if comma else whole.count(".") > 1):
        bare = whole.replace(".", "") + comma.replace(",", ".") + rest
        return f"write it without points between thousands, {bare}"
    if re.fullmatch(r"[<>]?[+-]?\d*\.\d+([eE][+-]?\d+)?", point):
        return f"write it with a decimal point, {point}"
    if re.fullmatch(r"<?\s*(bl[oq]?q|bql|lloq|bld|bdl|nd)", text.replace(".", "").lower()):
        below = "write '<' and the limit for a value below it, <0.2 for instance"
        return f"{below}, or '.' for a missing value"
    if text[:1] in ("≤", "≥", "⩽", "⩾"):
        sign = "<" if text[0] in "≤⩽" else ">"
        return f"write {sign}{text[1:].strip()}"
    return "write a number, or '.' for a missing value"
