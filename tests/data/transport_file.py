"""Writes SAS transport files by SAS technical paper TS-140, apart from the reader."""

from __future__ import annotations

import math
import struct

_DATE = "01JAN26:00:00:00"


def ibm(value):
    """Eight bytes of a number: a sign, a power of 16 and a fraction; None is a missing value."""
    if value is None:
        return b"." + bytes(7)
    if value == 0:
        return bytes(8)
    fraction, power = math.frexp(abs(value))
    sixteens = -(-power // 4)
    digits = int(fraction * 2.0 ** (power - 4 * sixteens + 56))
    return bytes([(0x80 if value < 0 else 0) | (sixteens + 64)]) + digits.to_bytes(7, "big")


def card(text):
    return text.ljust(80).encode("ascii")


def header(kind, tail="0" * 30):
    return card(f"HEADER RECORD*******{kind:8}HEADER RECORD!!!!!!!{tail}")


def member(name, columns, rows):
    """One table: columns are (name, label, bytes of text or None for a number)."""
    out = header("MEMBER", "000000000000000001600000000140")
    out += header("DSCRPTR")
    out += card(f"SAS     {name:8}SASDATA 9.4     X64_10PR{' ' * 24}{_DATE}") + card(_DATE)
    out += header("NAMESTR", f"000000{len(columns):04d}00000000000000000000")
    described, start = b"", 0
    for number, (column, label, size) in enumerate(columns, start=1):
        kind, length = (1, 8) if size is None else (2, size)
        described += struct.pack(
            ">hhhh8s40s8shhh2s8shhl52s",
            *(kind, 0, length, number, column.ljust(8).encode(), label.ljust(40).encode()),
            *(b" " * 8, 0, 0, 0, bytes(2), b" " * 8, 0, 0, start, bytes(52)),
        )
        start += length
    out += described.ljust(-(-len(described) // 80) * 80) + header("OBS")
    data = b"".join(
        ibm(cell) if size is None else cell.encode().ljust(size)
        for row in rows
        for (_, _, size), cell in zip(columns, row, strict=True)
    )
    return out + data.ljust(-(-len(data) // 80) * 80)


def transport(*members):
    """A file of tables, each as `member` makes it."""
    library = header("LIBRARY") + card(f"SAS     SAS     SASLIB  9.4     X64_10PR{' ' * 24}{_DATE}")
    return library + card(_DATE) + b"".join(members)
