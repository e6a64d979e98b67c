"""Forms of data files that users bring: RxODE codes, units, text codes, limits in text."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.data.nonmem import read_nonmem
from pkpd.errors import DataError, PkpdWarning, UnitError


@pytest.fixture
def write(tmp_path):
    def make(text, name="trial.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


RXODE = """\
ID,TIME,RATE,AMT,DV,CMT,EVID
1,0,137,137,0,1,10101
1,0,0,0,8.1,3,0
1,3,-137,-137,0,1,10101
1,192,0,0,3.3,3,0
2,0,0,50,0,1,101
2,24,0,0,7,3,0
"""


def test_rxode_codes_become_doses(write):
    data = read_nonmem(write(RXODE))
    events = data.events
    assert events.evid.tolist() == [[1, 0, 2, 0], [1, 0, 0, 0]]
    # the amount of an infusion is its rate; it ran for three hours
    assert events.amt[0, 0] == 411.0
    assert events.rate[0, 0] == 137.0
    assert (events.amt[1, 0], events.rate[1, 0], events.cmt[1, 0]) == (50.0, 0.0, 1)
    assert data.observations.value.tolist() == [8.1, 3.3, 7.0]
    assert "RxODE's codes: 1 boluses, 1 infusions" in data.summary()


def test_rxode_rates_are_per_unit_of_time(write):
    data = read_nonmem(write(RXODE.replace(",192,", ",8,")), units={"TIME": "day"})
    assert data.events.amt[0, 0] == pytest.approx(411.0)
    assert data.events.rate[0, 0] == pytest.approx(137.0 / 24.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RXODE.replace("10101", "60101", 1), "row 2, ID 1, column EVID: 60101 is no event code"),
        (RXODE.replace("1,3,-137,-137,0,1,10101\n", ""), "row 2, ID 1, column AMT: the infusion"),
        (RXODE.replace("1,0,137,137,0,1,10101\n", ""), "-137 ends an infusion that was not begun"),
        (RXODE.replace("1,3,-137", "1,0,-137"), "the infusion of row 2 ends when it begins"),
    ],
)
def test_codes_that_make_no_sense_are_refused(write, text, words):
    with pytest.raises(DataError, match=re.escape(words)):
        read_nonmem(write(text), codes="rxode")


def test_mixed_codes_are_not_guessed(write):
    text = RXODE.replace("2,0,0,50,0,1,101", "2,0,0,50,0,1,1")
    with pytest.raises(DataError, match="10101 is no event"):
        read_nonmem(write(text))


UNITS = """\
ID,TIME,AMT,RATE,II,ADDL,DV,DVID,LLOQ,BLQ,WT
1,0,1000,500,1,2,.,.,.,0,70000
1,1,.,.,.,.,250,cp,10,0,70000
1,2,.,.,.,.,.,cp,10,1,70000
1,2,.,.,.,.,1500,ANC,.,0,70000
"""


def test_units_are_converted_once_and_for_all(write):
    data = read_nonmem(
        write(UNITS),
        units={
            "TIME": "day",
            "AMT": "ug",
            "DV": {"concentration": "ng/mL", "neutrophils": "cells/uL"},
            "WT": "g",
        },
        lines={"cp": "concentration", "ANC": "neutrophils"},
        covariates=["WT"],
    )
    events, seen = data.events, data.observations
    assert data.lines == ("concentration", "neutrophils")
    assert events.time[0].tolist() == [0, 24, 48, 48]
    assert (events.amt[0, 0], events.ii[0, 0]) == (1.0, 24.0)
    assert events.rate[0, 0] == pytest.approx(0.5 / 24.0)
    np.testing.assert_allclose(seen.value, [0.25, 0.01, 1.5])
    assert seen.censored.tolist() == [0, 1, 0]
    assert data.covariates["WT"][0, 0] == pytest.approx(70.0)
    text = data.summary()
    for words in (
        "1.5 10^9/L, in 1 subjects",
        "1 below the limit (50%)",
        "mg",
        "covariate WT: 70 to 70 kg",
        "TIME was in day",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("units", "error", "words"),
    [
        ({"AMT": "umol", "DV": {"concentration": "ng/mL"}}, DataError, "one is in mass, the other"),
        ({"AMT": "mg/kg"}, DataError, "'mg/kg' is not a unit of mass or amount"),
        ({"AMT": "mgg"}, UnitError, "'mgg' is not a unit known here"),
        ({"DOSE": "mg"}, DataError, "there is no column DOSE"),
        ({"DV": {"platelets": "10^9/L"}}, DataError, "there is no line 'platelets'"),
        ({"TIME": "mg"}, DataError, "time unit 'mg'"),
    ],
)
def test_units_that_do_not_fit_are_refused(write, units, error, words):
    with pytest.raises(error, match=re.escape(words)):
        read_nonmem(write(UNITS), units=units, lines={"cp": "concentration", "ANC": "neutrophils"})


def test_text_codes_name_lines_and_none_leaves_one_out(write):
    named = read_nonmem(write(UNITS))
    assert named.lines == ("ANC", "cp")
    cells = {"DV": {"neutrophils": "cells/uL"}}
    without = read_nonmem(write(UNITS), lines={"ANC": "neutrophils", "CP": None}, units=cells)
    assert without.lines == ("neutrophils",)
    assert without.observations.value.tolist() == [1.5]
    assert "left out, as asked: observations of other lines (2 of cp)" in without.summary()
    with pytest.raises(DataError, match="row 3, ID 1, column DVID: cp is no known line"):
        read_nonmem(write(UNITS), lines={"ANC": "neutrophils"})
    dropped = read_nonmem(
        write(UNITS), lines={"ANC": "neutrophils"}, other_lines="drop", units=cells
    )
    assert len(dropped.observations) == 1


def test_limits_may_be_written_in_the_value(write):
    data = read_nonmem(write("ID,TIME,AMT,DV\n1,0,5,.\n1,1,.,<0.25\n1,2,.,> 9\n1,3,.,2\n"))
    assert data.observations.value.tolist() == [0.25, 9.0, 2.0]
    assert data.observations.censored.tolist() == [1, -1, 0]
    with pytest.raises(DataError, match="row 3, ID 1, column DV: '<' is a limit without a number"):
        read_nonmem(write("ID,TIME,AMT,DV\n1,0,5,.\n1,1,.,<\n"))


def test_what_is_left_out_is_said(write):
    text = "ID,TIME,AMT,EVID,MDV,DV\n1,0,5,1,1,0\n1,1,.,0,1,3\n1,2,.,0,0,4\n2,0,.,0,0,4\n"
    words = read_nonmem(write(text)).summary()
    assert "left out: 1 rows with MDV 1 and no event" in words
    assert "DV 0 on 1 rows of doses or other events was not read" in words
    assert "without doses: subjects 2" in words


def test_records_that_the_estimation_of_nonmem_leaves_out_are_left_out(write):
    """MDV 100 and 101 (NONMEM Help, DV and MDV data items)."""
    text = "ID,TIME,AMT,EVID,MDV,DV\n1,0,5,1,1,0\n1,1,.,0,100,3\n1,2,.,0,0,4\n1,3,.,0,101,.\n"
    data = read_nonmem(write(text))
    assert data.observations.value.tolist() == [4.0]
    assert "left out: 2 rows with MDV 100 or 101" in data.summary()
    with pytest.raises(DataError, match="row 2, ID 1, column MDV: 101 on a record with EVID 1"):
        read_nonmem(write(text.replace("1,0,5,1,1,0", "1,0,5,1,101,0")))


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("ID,TIME,MDV,DV\n1,0,2,5\n", {}, "row 2, ID 1, column MDV: 2 says neither"),
        (
            "ID,TIME,DVID,DV\n1,0,1,-5\n",
            {"lines": {1: "neutrophils"}},
            "row 2, ID 1, column DV: a count of neutrophils of -5",
        ),
        ("ID,TIME,DV,DV\n1,0,1,2\n", {}, "has two columns 'DV'"),
        ("ID,TIME,DV\n1,0,1,5\n", {}, "decimals are written with a point, not with a comma"),
        (
            'ID,TIME,DV\n1,"0,5",5\n',
            {},
            "'0,5' is not a number; write it with a decimal point, 0.5",
        ),
        (
            'ID;TIME;DV\n1;0,5;"1,638"\n1;1;x\n',
            {},
            "row 2, ID 1, column DV: '1,638' is not a number (nor in row 3); write 1638 if the",
        ),
        (
            "ID,TMIE,DVV,ATM\n1,0,5,.\n",
            {},
            "has no TIME and no DV and no AMT column; its columns are ID, TMIE, DVV, ATM; rename "
            "the columns, in Python also columns={'TIME': 'TMIE', 'DV': 'DVV', 'AMT': 'ATM'}",
        ),
        ("Id,Time,Dose,DV\n1,0,9,.\n1,1,.,2\n", {}, "or name the column of doses AMT, which the"),
        ("ID,TIME,DV\n1,0,5\n#1,1,5\n", {}, "row 3: begins with '#' ('#1')"),
        ("ID,TIME,DV\n1,0,5\n2,0,5\n1,1,5\n", {}, "the subject's records are not together"),
        ("ID,TIME,AMT,TINF,DV\n1,0,5,-1,.\n", {}, "column TINF: an infusion of -1"),
        (
            "ID,TIME,AMT,TINF,RATE,DV\n1,0,5,1,7,.\n",
            {},
            "an infusion of 1 at rate 7 is not 5",
        ),
        ("ID,TIME,DV\n1,0,5\n", {"time_unit": "h", "units": {"TIME": "day"}}, "give one of them"),
    ],
)
def test_more_bad_rows_are_refused(write, text, options, words):
    with pytest.raises(DataError, match=re.escape(words)) as error:
        read_nonmem(write(text), **options)
    assert str(error.value).startswith("trial.csv")


def test_text_encoding_is_told(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("ID,TIME,DV\nMüller,0,5\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_nonmem(path)


def test_identities_of_letters_stay_apart(write):
    data = read_nonmem(write("ID,TIME,DV\n001,0,5\n1,0,6\nA,0,7\n"))
    assert data.subjects.tolist() == ["001", "1", "A"]


def test_a_number_is_one_subject_however_spelt(write):
    data = read_nonmem(write("ID,TIME,AMT,DV\n1.0,0,100,.\n01,1,.,5\n1,2,.,4\n1e0,3,.,3\n"))
    assert data.subjects.tolist() == [1]
    assert data.events.amt[0].tolist() == [100.0, 0.0, 0.0, 0.0]
    assert "ID: 1.0, 01, 1, 1e0 are one number, one subject" in data.notes


def test_long_numbers_stay_exact(write):
    long = ["20240101123456781", "20240101123456783", "99999999999999999999", "1.5", "1.50"]
    rows = "".join(f"{label},{t},5\n" for t, label in enumerate(long[:2]))
    assert read_nonmem(write("ID,TIME,DV\n" + rows)).subjects.tolist() == [int(x) for x in long[:2]]
    rows = "".join(f"{label},{t},5\n" for t, label in enumerate(long))
    assert read_nonmem(write("ID,TIME,DV\n" + rows)).subjects.tolist() == long[:4]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("ID,TIME,AMT,DV\n1,0,1e300,.\n", {}, "column AMT: 1e+300 is no number of a medicine"),
        ("ID,TIME,DV\n1,1e308,5\n", {}, "column TIME: 1e+308 is no number of a medicine"),
        ("ID,TIME,DV\n1,1,1e308\n", {}, "column DV: 1e+308 is no measurement"),
        ("ID,DATE,TIME,DV\n1,1024-01-01,08:00,1\n", {}, "is in the year 1024; allowed: 1800 to"),
        ("ID,TIME,DV,WT\n1,1,5,-99\n", {"covariates": ["WT"]}, "a body's WT of -99; allowed: 0 or"),
        (
            "ID,TIME,DV,WT\n1,1,5,70\n1,2,4,inf\n",
            {"covariates": ["WT"]},
            "row 3, ID 1, column WT: 'inf' is not a finite number",
        ),
        (
            "ID,TIME,DV,WT\n1,1,5,1_000\n1,2,4,1_000\n",
            {"covariates": ["WT"]},
            "row 2, ID 1, column WT: '1_000' is not a number (nor in row 3)",
        ),
        (
            "ID,DATE,TIME,DV\n1,2024-01-03,08:00,1\n1,2204-01-05,08:00,1\n",
            {},
            "row 3, ID 1, column DATE: '2204-01-05' is 180 years after the subject's first row",
        ),
    ],
)
def test_numbers_that_no_medicine_has_are_refused(write, text, options, words):
    with pytest.raises(DataError, match=re.escape(words)):
        read_nonmem(write(text), **options)


def test_values_below_zero_are_questioned_and_kept(write):
    data = read_nonmem(write("ID,TIME,DV\n1,0,5\n1,1,-0.5\n"))
    assert data.observations.value.tolist() == [5.0, -0.5]
    assert any("1 value below 0, the first in row 3 (-0.5)" in note for note in data.notes)


def test_durations_of_infusions(write):
    data = read_nonmem(write("ID,TIME,AMT,TINF,DV\n1,0,6,90,.\n1,60,.,.,2\n"), time_unit="min")
    assert data.events.rate[0, 0] == pytest.approx(4.0)
    assert data.events.time[0].tolist() == [0.0, 1.0]


def test_words_as_covariates(write):
    text = "id,time,amt,dv,dvid,sex\n1,0,5,.,cp,male\n1,1,.,2,cp,\n2,0,.,90,pca,female\n"
    data = read_nonmem(write(text), covariates=["sex"])
    assert data.covariates["sex"].tolist() == [[1, 1], [0, 0]]
    assert "covariate sex: female = 0, male = 1" in data.summary()
    with pytest.raises(DataError, match="row 2, ID 1, column sex: 'male' is not a number"):
        read_nonmem(write(text.replace("female", "2")), covariates=["sex"])


def test_a_genotype_is_a_word_and_a_number_with_a_mark_for_thousands_is_none(write):
    text = "id,time,amt,dv,allele\n1,0,5,.,1_2\n1,1,.,2,\n2,0,.,90,1_1\n"
    assert read_nonmem(write(text), covariates=["allele"]).covariates["allele"].tolist() == [
        [1, 1], [0, 0],
    ]  # fmt: skip
    for number in ("1_500", "1,5"):
        quoted = text.replace("1_2", f'"{number}"').replace("1_1", '"1_000"')
        with pytest.raises(DataError, match=f"column allele: '{number}' is not a number"):
            read_nonmem(write(quoted), covariates=["allele"])


def test_values_under_a_limit_without_a_flag(write):
    text = "ID,TIME,DV,LLOQ\n1,0,5,1\n1,1,0.5,1\n"
    data = read_nonmem(write(text))
    assert data.observations.censored.tolist() == [0, 1]
    assert data.observations.value.tolist() == [5.0, 1.0]
    assert "1 values below their limit count as not quantified" in data.summary()
    flagged = read_nonmem(write("ID,TIME,DV,LLOQ,BLOQ\n1,0,5,1,0\n1,1,.,1,1\n"))
    assert flagged.observations.censored.tolist() == [0, 1]
    assert flagged.observations.value.tolist() == [5.0, 1.0]


def test_mdv_says_that_a_value_on_a_dose_is_none(write):
    data = read_nonmem(write("ID,TIME,AMT,EVID,MDV,DV\n1,0,5,1,1,99\n1,1,.,0,0,4\n"))
    assert data.observations.value.tolist() == [4.0]
    assert "DV (0, or with MDV 1) on 1 rows of doses" in data.summary()


def test_one_name_names_the_only_line(write):
    rows = "ID,TIME,AMT,DV{}\n1,0,100,.{}\n1,5,.,2.5{}\n1,9,.,1.5{}\n"
    for column, dose, seen in (("", "", ""), (",CMT", ",1", ",."), (",CMT", ",1", ",2")):
        data = read_nonmem(write(rows.format(column, dose, seen, seen)), lines={1: "neutrophils"})
        assert data.lines == ("neutrophils",)
        assert data.observations.value.tolist() == [2.5, 1.5]
    wrong = write(rows.format(",CMT", ",1", ",2", ",2"))
    assert not len(read_nonmem(wrong, lines={3: "neutrophils"}, other_lines="drop").observations)
    # where the file tells lines apart, codes count
    with pytest.raises(DataError, match="CMT: 3 is no known line"):
        read_nonmem(write(rows.format(",CMT", ",1", ",2", ",3")), lines={2: "neutrophils"})


def test_observations_of_several_compartments_are_not_one_line_unasked(write):
    # the dose's compartment does not count, nor a cell that is missing or 0
    rows = "ID,TIME,AMT,DV,CMT\n1,0,100,.,1\n1,5,.,2.5,2\n1,9,.,0.5,{}\n"
    for code in ("2", "2.0", "0", "."):
        assert read_nonmem(write(rows.format(code))).lines == ("DV",)
    with pytest.raises(DataError) as told:
        read_nonmem(write(rows.format(3)))
    for words in ("of 2 compartments (2 in row 3, 3 in row 4)", 'lines={2: "...", 3: "..."}'):
        assert words in str(told.value)
    with pytest.raises(DataError, match="of 2 compartments"):
        pkpd.nca(write(rows.format(3)))
    both = read_nonmem(write(rows.format(3)), lines={2: "concentration", 3: "metabolite"})
    assert both.lines == ("concentration", "metabolite")
    assert read_nonmem(write(rows.format(3)), line_column="CMT").lines == ("CMT 2", "CMT 3")
    one = read_nonmem(write(rows.format(3)), lines={2: "concentration", 3: "concentration"})
    assert one.observations.line.tolist() == [0, 0]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_point_beside_decimal_commas_may_part_thousands(write, mark):
    def read(amount, first, second):
        rows = f"ID;TIME;AMT;DV\n1;0;{amount};.\n1;1;.;{first}\n1;2;.;{second}\n"
        return read_nonmem(write(rows.replace(";", mark)))

    for given, words in (
        (("1.000", "5,25", "4"), "column AMT: '1.000' is no number in a file with decimal commas "
         "('5,25' in row 3); write 1000 if the point parts thousands, 1.0 if it is a decimal"),
        (("100", "1.250", "987,5"), "row 3, ID 1, column DV: '1.250' is no number"),
        (("100", "<1.250", "987,5"), "row 3, ID 1, column DV: '1.250' is no number"),
        (("1.000,5", "5,25", "4"), "without points between thousands, 1000.5"),
        (("1.000.000", "5,25", "4"), "without points between thousands, 1000000"),
    ):  # fmt: skip
        with pytest.raises(DataError) as told:
            read(*given)
        assert words in str(told.value)
    # what the remedies say is read, in a column without other commas, too
    with pytest.raises(DataError, match=r"1638 if the comma parts thousands, 1\.6380 if it is a"):
        read("1,638", "5,25", "4")
    assert read("1.6380", "5,25", "4").events.amt[0, 0] == 1.638
    assert read("1.0", "5,25", "4").events.amt[0, 0] == 1.0
    # without decimal commas, and where no thousands can be meant, points are decimal ones
    assert read("100", "1.250", "2.5").observations.value.tolist() == [1.25, 2.5]
    assert read("100", "0.125", "2,5").observations.value.tolist() == [0.125, 2.5]
    assert read("100", "12.5", "2,5").observations.value.tolist() == [12.5, 2.5]


def test_units_that_nobody_declared_are_told(write):
    rows = "ID,TIME,AMT,DV\n1,0,100,.\n1,5,.,2.5\n"
    text = read_nonmem(write(rows), lines={1: "concentration"}).summary()
    assert "units not declared, read as they stand: TIME as hours, AMT as mg, concentration" in text
    units = {"TIME": "h", "AMT": "mg", "DV": "mg/L"}
    assert "not declared" not in read_nonmem(write(rows), units=units).summary()


@pytest.mark.parametrize(
    ("text", "options", "note"),
    [
        ("ID;TIME;AMT;DV\n1;0;100;.\n1;1,5;.;<0,05\n", {}, "cells were cut at ';'"),
        ("ID\tTIME\tAMT\tDV\n1\t0\t100\t.\n1\t1,5\t.\t<0,05\n", {}, "cells were cut at tabs"),
        ("ID TIME AMT  DV\n1 0 100 .\n1  1.5 . <0.05\n", {}, "cells were cut at blanks"),
        (
            "# made on Friday\n#\n#ID,TIME,AMT,DV\n1,0,100,.\n1,1.5,.,<0.05\n",
            {},
            "left out: 2 lines of comments (#) before the header",
        ),
        ("ID,TIME,AMT,DV\n#1,0,9,.\n1,0,100,.\n1,1.5,.,<0.05\n", {"ignore": "@"}, "left out, as"),
        (
            "ID,TIME,AMT,DV\n1,2024-02-29 22:45,100,.\n1,2024-03-01 00:15,.,<0.05\n",
            {},
            "TIME was read as date and time",
        ),
        (
            "ID,DATE,TIME,AMT,DV\n1,29.02.2024,22:45,100,.\n1,01.03.2024,0:15,.,<0.05\n",
            {},
            "DATE and TIME were read as clock times",
        ),
    ],
)
def test_other_ways_to_write_a_table(write, text, options, note):
    data = read_nonmem(write(text), **options)
    assert data.observations.time.tolist() == [1.5]
    assert data.observations.value.tolist() == [0.05]
    assert data.observations.censored.tolist() == [1]
    assert any(one.startswith(note) for one in data.notes)
    assert data.events.amt[0, 0] == 100.0


def test_columns_that_look_misspelt_are_named(write):
    text = "ID,TIME,AMT,DVV,EVDI,RACE\n1,0,100,.,1,2\n"
    with pytest.warns(
        PkpdWarning, match=r"look misspelt: DVV \(for DV\), EVDI \(for EVID\); rename"
    ):
        read_nonmem(write(text))


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        (
            "ID,TIME,AMT,DV,DUR\n1,0,100,.,2\n1,2,0,5,.\n",
            {},
            "column DUR is not read .RxODE .*: say columns={'TINF': 'DUR'}, or take it out",
        ),
        ("ID,TIME,AMT,DV,adm\n1,0,9,.,1\n1,1,9,.,2\n1,2,0,5,.\n", {}, "'CMT': 'adm'"),
        ("ID,TIME,AMT,DV,YTYPE\n1,0,9,.,.\n1,1,0,4,1\n1,2,0,5,2\n", {}, "'DVID': 'YTYPE'"),
        (
            "C,ID,TIME,AMT,DV\n.,1,0,100,.\nC,1,1,0,9\nC,1,2,0,9\n",
            {},
            r"2 rows \(the first: row 3\) with the flag C, .* read like the others: say ignore='C'",
        ),
        ("ID,C,TIME,AMT,DV\n1,.,0,100,.\n1,C,1,0,9\n", {}, r"1 row \(row 3\) .*: take them out"),
        (
            "ID,TIME,AMT,DV,GENE\n1,0,100,.,-99\n1,1,0,9,-99\n",
            {"covariates": ["GENE"]},
            "2 rows .* with -99 in column GENE, often a code for a missing value, read as a number",
        ),
        ("ID,TIME,AMT,DV\n1,0,100,.\n1,1,0,-999\n1,2,0,3\n", {}, "-999 in column DV"),
    ],
)
def test_what_is_passed_over_is_told(write, text, options, told):
    with pytest.warns(PkpdWarning, match=told) as caught:
        read_nonmem(write(text), **options)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("ID,TIME,AMT,DV,DUR\n1,0,100,.,0\n1,2,0,5,.\n", {}),
        ("ID,TIME,AMT,DV,DUR\n1,0,100,.,2\n1,2,0,5,.\n", {"columns": {"TINF": "DUR"}}),
        ("ID,TIME,AMT,DV,ADM\n1,0,9,.,1\n1,1,9,.,1\n1,2,0,5,.\n", {}),
        ("C,ID,TIME,AMT,DV\n.,1,0,100,.\nC,1,1,0,9\n", {"ignore": "C"}),
        ("ID,C,TIME,AMT,DV\n1,.,0,100,.\n1,C,1,0,9\n", {"columns": {"C": None}}),
        ("ID,TIME,AMT,DV,MDV\n1,0,100,-99,1\n1,1,0,-99,1\n1,2,0,3,0\n", {}),
        ("ID,TIME,AMT,DV,GENE\n1,0,100,.,-99\n1,1,0,9,-99\n", {}),
    ],
)
def test_what_is_used_or_nobody_asked_for_is_no_warning(write, text, options):
    read_nonmem(write(text), **options)


def test_zeros_after_a_dose_are_noted(write):
    text = "ID,TIME,AMT,DV\n1,0,0,0\n1,1,9,.\n1,2,0,5\n1,3,0,0\n2,1,0,0\n2,2,0,0\n"
    notes = read_nonmem(write(text)).notes
    told = "DV: 1 values after the first dose are 0, taken as measured; where that means"
    assert next(one for one in notes if " are 0" in one).startswith(told)
    limited = read_nonmem(write(text), lloq=0.5).notes  # then they are below it
    assert not any(" are 0" in one for one in limited)


def test_an_interval_without_further_doses_is_noted(write):
    data = read_nonmem(write("ID,TIME,AMT,DV,II,ADDL\n1,0,9,.,24,0\n1,2,9,.,24,2\n1,3,0,5,0,0\n"))
    assert "II is not used in 1 doses, which have neither ADDL nor SS" in data.notes


def test_dates_of_a_data_frame():
    frame = pd.DataFrame({"ID": [1, 1], "DV": [1.0, 2.0], "AMT": [0.0, 0.0]})
    stamps = pd.to_datetime(["2024-02-29 22:45", "2024-03-01 00:15"])
    for given in (
        {"TIME": stamps},
        {"DATE": stamps.normalize(), "TIME": ["22:45", "0:15"]},
    ):
        assert read_nonmem(frame.assign(**given)).observations.time.tolist() == [0.0, 1.5]


def test_a_separator_is_one_character(write):
    with pytest.raises(DataError, match="separator='tab': is no single character"):
        read_nonmem(write("ID,TIME,DV\n1,0,5\n"), separator="tab")
    with pytest.raises(DataError, match="has two columns 'DV'"):
        read_nonmem(pd.DataFrame([[1, 0, 1.0, 2.0]], columns=["ID", "TIME", "DV", "DV"]))


def test_all_cells_that_are_no_numbers_are_named(write):
    text = "ID,TIME,AMT,EVID,DV\n1,0,1OO,1,.\n1,one,.,0,5\n1,2,.,zero,x\n1,3,.,0,y\n"
    with pytest.raises(DataError) as error:
        read_nonmem(write(text))
    told = str(error.value)
    for words in (
        "row 3, ID 1, column TIME: 'one' is not a number;",
        "row 2, ID 1, column AMT: '1OO' is not a number;",
        "row 4, ID 1, column EVID: 'zero' is not a number;",
        "row 4, ID 1, column DV: 'x' is not a number (nor in row 5);",
    ):
        assert words in told
    assert told.count("is not a number") == 4


def test_a_table_without_dv_names_the_columns_that_may_be_it(write):
    said = read_nonmem(write("ID,TIME,CONC,AMT,WT\n1,0,.,5,70\n1,1,2,.,70\n")).summary()
    assert "events only; not read: CONC; name the measured one, columns={'DV': ...}" in said
    assert "not read" not in read_nonmem(write("ID,TIME,AMT\n1,0,5\n")).summary()


def test_the_value_of_a_censored_row_is_its_limit_before_that_of_the_argument():
    rows = {"ID": 1, "TIME": [1, 2, 3], "DV": [0.5, 0, 7], "CENS": [1, 1, 0]}
    seen = pkpd.read_nonmem(pd.DataFrame(rows), lloq=0.1).observations
    np.testing.assert_array_equal(seen.value, [0.5, 0.1, 7])
    seen = pkpd.read_nonmem(pd.DataFrame(rows | {"LLOQ": 0.2}), lloq=0.1).observations
    np.testing.assert_array_equal(seen.value, [0.2, 0.2, 7])


def test_decimal_times_beside_dates_are_hours_alone():
    rows = {"ID": 1, "DATE": "2024-03-01", "TIME": ["0.5", "14:30"], "DV": [1, 2]}
    declared = {"units": {"TIME": "day"}}
    with pytest.raises(DataError, match=r"'0.5' beside a date is decimal hours.*TIME is day"):
        pkpd.read_nonmem(pd.DataFrame(rows), **declared)
    rows["TIME"] = ["0:30", "14:30"]
    data = pkpd.read_nonmem(pd.DataFrame(rows), **declared)
    np.testing.assert_allclose(data.observations.time, [0, 14])


@pytest.mark.parametrize("unit", ["1", "-", "dimensionless"])
def test_covariates_without_a_dimension_stay_as_they_are(unit):
    rows = {"ID": 1, "TIME": [1, 2], "DV": 1, "BILI": [0.5, 2.0]}
    data = pkpd.read_nonmem(pd.DataFrame(rows), covariates=["BILI"], units={"BILI": unit})
    np.testing.assert_array_equal(data.covariates["BILI"], [[0.5, 2.0]])


def test_none_is_a_word_of_a_covariate():
    rows = {"ID": [1, 1, 2, 2], "TIME": [1, 2, 1, 2], "DV": 1,
            "WITH": ["azole", "none", None, "none"]}  # fmt: skip
    data = pkpd.read_nonmem(pd.DataFrame(rows), covariates=["WITH"])
    assert data.words["WITH"] == ("azole", "none")
    np.testing.assert_array_equal(data.covariates["WITH"], [[0, 1], [1, 1]])
