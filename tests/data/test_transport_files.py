"""SAS transport files: numbers of IBM, rows of any width, and what is refused."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import pkpd
from pkpd.data.transport import read_transport
from pkpd.errors import DataError
from tests.data.transport_file import ibm, member, transport

COLUMNS = (("ID", "Subject", 8), ("NOTE", "Comment", 8), ("AVAL", "Value (mg)", None))


@pytest.fixture
def write(tmp_path):
    def make(*members, name="table.xpt"):
        path = tmp_path / name
        path.write_bytes(transport(*members))
        return path

    return make


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, "4110000000000000"),  # these of SAS technical paper TS-140
        (2.0, "4120000000000000"),
        (-1.0, "c110000000000000"),
        (-118.625, "c276a00000000000"),  # the usual example of IBM's hexadecimal numbers
        (0.15625, "4028000000000000"),
        (0.0, "0000000000000000"),
    ],
)
def test_numbers_are_those_of_ibm(write, value, bits):
    assert ibm(value).hex() == bits
    path = write(member("T", COLUMNS, [("1", "", value)]))
    assert read_transport(path)[0]["AVAL"].tolist() == [value]


def test_every_double_comes_back_as_it_was(write):
    rng = np.random.default_rng(3)
    values = [*(rng.normal(size=300) * 10.0 ** rng.integers(-60, 60, 300)).tolist(), math.pi, 1 / 3]
    table, labels = read_transport(write(member("T", COLUMNS, [("1", "x", v) for v in values])))
    assert table["AVAL"].tolist() == values
    assert labels == {"ID": "Subject", "NOTE": "Comment", "AVAL": "Value (mg)"}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9, 10])
def test_rows_with_blank_text_are_all_there(write, count):
    rows = [(f"S{i}", "", float(i)) for i in range(count)]
    table, _ = read_transport(write(member("T", COLUMNS, rows)))
    assert table["ID"].tolist() == [f"S{i}" for i in range(count)]
    assert table["AVAL"].tolist() == [float(i) for i in range(count)]


def test_missing_numbers_are_missing(write):
    path = write(member("T", COLUMNS, [("1", "", None), ("2", "", 0.0)]))
    raw = path.read_bytes()
    for sign in b"._AZ":  # SAS has 28 kinds of missing
        path.write_bytes(raw.replace(b"." + bytes(7), bytes([sign]) + bytes(7)))
        values = read_transport(path)[0]["AVAL"].tolist()
        assert math.isnan(values[0])
        assert values[1] == 0.0


def test_short_numbers_are_padded(write):
    columns = (("X", "", None),)
    path = write(member("T", columns, [(5.25,)]))
    raw = bytearray(path.read_bytes())
    at = raw.index(b"X       ")
    raw[at - 4 : at - 2] = (3).to_bytes(2, "big")  # its length
    raw[-80:] = ibm(5.25)[:3].ljust(80)
    path.write_bytes(raw)
    assert read_transport(path)[0]["X"].tolist() == [5.25]


def test_text_is_utf8_or_of_windows(write):
    path = write(member("T", COLUMNS, [("1", "xxxxx", 1.0)]))
    for spelled in ("Zoë".encode(), "Zoë".encode("cp1252")):
        other = path.with_name("other.xpt")
        other.write_bytes(path.read_bytes().replace(b"xxxxx   ", spelled.ljust(8)))
        assert read_transport(other)[0]["NOTE"].tolist() == ["Zoë"]


def test_readers_take_transport_files(write):
    columns = [(name, "", None) for name in ("ID", "TIME", "AMT", "DV")]
    rows = [(1.0, 0.0, 100.0, None), (1.0, 2.0, None, 5.5)]
    data = pkpd.read_nonmem(write(member("T", columns, rows)))
    assert data.events.amt.tolist() == [[100.0, 0.0]]
    assert data.observations.value.tolist() == [5.5]
    with pytest.raises(DataError, match=re.escape("table.xpt, row 2, ID 1, column TIME")):
        pkpd.read_nonmem(write(member("T", columns, [rows[0], (1.0, None, None, 5.5)])))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: b"ID,TIME\n", "is no SAS transport file"),
        (lambda raw: raw.replace(b"LIBRARY ", b"LIBV8   "), "a transport file of version 8"),
        (lambda raw: raw + raw[240:], "holds 2 tables"),
        (lambda raw: raw[:700], "does not hold the 3 columns that it announces"),
        (lambda raw: raw.replace(b"0000030000", b"00000x0000"), "has no description of its"),
        (lambda raw: raw.replace(b"NOTE    ", b"ID      "), "has two columns 'ID'"),
        (lambda raw: raw.replace(b"\0\x01\0\0\0\x08", b"\0\x05\0\0\0\x08"), "column 3 (AVAL) has"),
    ],
)
def test_other_files_are_refused(write, change, words):
    path = write(member("T", COLUMNS, [("1", "", 1.0)]))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=re.escape(words)):
        read_transport(path)
