"""Tidy tables of blood counts."""

from __future__ import annotations

import re

import pytest

from pkpd.data.counts import read_counts
from pkpd.errors import DataError, PkpdError
from pkpd.schedule import daily

LONG = """\
patient,day,line,value
a,1,ANC,4.5
a,8,ANC,<0.1
a,8,PLT,30
b,1,ANC,3
b,-2,PLT,200
"""
WIDE = """\
ID,DAY,ANC,PLT,BSA
1,1,4500,200,1.8
1,8,50,,1.8
2,1,3000,150,2
"""
DOSES = "ID,DAY,AMT,DURATION\n1,1,40,1\n1,2,40,1\n2,1,36,0\n"


@pytest.fixture
def write(tmp_path):
    def make(text, name="counts.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def test_long_table(write):
    data = read_counts(write(LONG))
    seen = data.observations
    assert data.subjects.tolist() == ["a", "b"]
    assert data.lines == ("neutrophils", "platelets")
    assert seen.time.tolist() == [0, 168, 168, -72, 0]
    assert seen.value.tolist() == [4.5, 0.1, 30, 200, 3]
    assert seen.censored.tolist() == [0, 1, 0, 0, 0]
    assert seen.lower.tolist()[1] == 0.0
    assert "no doses were given" in data.summary()


def test_wide_table_with_dosing_table_and_units(write):
    data = read_counts(
        write(WIDE),
        doses=write(DOSES, "doses.csv"),
        units={"ANC": "cells/uL", "PLT": "10^9/L"},
        covariates=["BSA"],
        lloq={"neutrophils": 100},
    )
    seen = data.observations
    assert seen.value.tolist() == [4.5, 200, 0.1, 3, 150]
    assert seen.censored.tolist() == [0, 0, 1, 0, 0]
    events = data.events
    assert events.time[0].tolist() == [0, 0, 24, 168]
    assert events.amt[0].tolist() == [0, 40, 40, 0]
    assert events.rate[1].tolist() == [0, 0, 0, 0]
    assert data.covariates["BSA"][1, 0] == 2.0
    assert "neutrophils: 3, 3 to 4.5 10^9/L, 1 below the limit (33%)" in data.summary()


def test_regimen_per_size(write):
    regimen = daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h")
    data = read_counts(write(WIDE), doses=regimen, units={"ANC": "cells/uL"}, covariates=["BSA"])
    doses = data.events.amt[data.events.is_dose]
    assert doses.tolist() == [36.0] * 5 + [40.0] * 5
    assert "planned calendar" in data.summary()
    with pytest.raises(DataError, match="is in mg/m\\^2 and BSA is not known"):
        read_counts(write(WIDE), doses=regimen, units={"ANC": "cells/uL"})
    with pytest.raises(DataError, match="ID 2: has counts and no regimen"):
        read_counts(write(WIDE), doses={1: regimen}, units={"ANC": "cells/uL"}, covariates=["BSA"])
    both = {1: regimen, 2: regimen, "l": regimen}
    with pytest.raises(DataError, match=r"counts.csv, doses, l: has a regimen and no counts; corr"):
        read_counts(write(WIDE), doses=both, units={"ANC": "cells/uL"}, covariates=["BSA"])


def test_dates_count_from_the_first_dose(write):
    data = read_counts(
        write("ID,DATE,ANC\n1,2024-02-28,4\n1,2024-03-02,2\n"),
        doses=write("ID,DATE,AMT\n1,2024-03-01,5\n", "doses.csv"),
    )
    assert data.observations.time.tolist() == [-48, 24]
    assert data.events.time[0].tolist() == [-48, 0, 24]


def test_dates_of_counts_and_days_of_doses_have_no_common_day_1(write):
    counts, doses = write("ID,DATE,ANC\n1,2024-02-28,4\n"), write("ID,DAY,AMT\n1,3,5\n", "d.csv")
    words = "nothing says which is day 1; give dates in d.csv, or protocol days in counts.csv"
    with pytest.raises(DataError, match=re.escape(words)):
        read_counts(counts, doses=doses)


def test_days_of_doses_that_have_dates_tell_the_day_1_of_counts_by_date(write):
    counts = write("ID,DATE,ANC\n1,2024-02-28,4\n1,2024-03-04,2\n2,2024-03-05,3\n")
    doses = "ID,DAY,DATE,AMT\n1,3,2024-03-03,5\n1,4,,5\n2,1,2024-03-05,7\n"
    data = read_counts(counts, doses=write(doses, "d.csv"))
    assert data.observations.time.tolist() == [-48, 72, 0]
    assert data.events.time[0].tolist() == [-48, 48, 72, 72]
    undated = write(doses.replace("2,1,2024-03-05", "2,1,"), "d.csv")
    with pytest.raises(DataError, match=r"d\.csv, ID 2: has protocol days and"):
        read_counts(counts, doses=undated)


def test_days_of_counts_and_dates_of_doses_have_one_day_1(write):
    counts = write("ID,DAY,DATE,ANC\n1,1,2024-03-01,4\n1,5,2024-03-05,2\n")
    for first, refused in (("2024-03-03", True), ("2024-03-01", False)):
        doses = write(f"ID,DATE,AMT\n1,{first},5\n", "d.csv")
        if refused:
            with pytest.raises(
                DataError, match="ID 1, column DATE: 2024-03-01 is day -1 by the doses"
            ):
                read_counts(counts, doses=doses)
        else:
            assert read_counts(counts, doses=doses).events.time[0].tolist() == [0, 0, 96]


def test_a_day_0_may_be_the_first_of_treatment_and_is_named(write):
    data = read_counts(write("ID,DAY,ANC\n1,0,4\n1,8,2\n"))
    assert data.observations.time.tolist() == [-24, 168]
    assert "day 0 is the day before day 1; day 1 is the first day of treatment" in data.summary()
    assert "day 0" not in read_counts(write("ID,DAY,ANC\n1,-1,4\n1,8,2\n")).summary()


def test_hours_of_who_has_no_dose_are_told(write):
    counts = write("ID,DATE,ANC\n1,2024-02-28,4\n2,2024-03-02,2\n")
    data = read_counts(counts, doses=write("ID,DATE,AMT\n1,2024-02-27,5\n", "doses.csv"))
    assert data.observations.time.tolist() == [24, 0]
    assert "first dose; of who has no dose, from the first row" in data.summary()


def test_subjects_without_a_count_are_told(write):
    data = read_counts(
        write("ID,DAY,ANC\n1,1,4\n2,1,\n3,1,\n"), doses=write("ID,DAY,AMT\n3,1,5\n", "d.csv")
    )
    assert data.subjects.tolist() == [1, 3]
    assert "left out, without a count: subjects 2" in data.summary().splitlines()


def test_a_subject_is_the_same_as_number_and_as_text(write):
    counts = write("ID,DAY,ANC\n1,1,4\n2,1,3\nA,1,2\n")
    data = read_counts(counts, doses=write("ID,DAY,AMT\n1,1,5\n2,1,7\n", "doses.csv"))
    assert data.subjects.tolist() == ["1", "2", "A"]
    assert data.events.amt.sum(axis=1).tolist() == [5, 7, 0]
    regimen = daily("lenalidomide", "5 mg", days="1", route="oral")
    numbered = write("ID,DAY,ANC\n1,1,4\n1,2,3\n")
    assert read_counts(numbered, doses={"1": regimen}).events.amt.sum() == 5
    mixed = write("ID,DAY,ANC\n1,2,4\nA,2,2\n")
    assert read_counts(mixed, doses={1: regimen, "A": regimen}).events.amt.sum() == 10


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (LONG.replace("4.5", "-4.5"), {}, "row 2, ID a, column value: a count of neutrophils"),
        (LONG.replace("PLT", "MCV"), {}, "row 4, ID a, column line: 'MCV' is no known line"),
        (LONG.replace("<0.1", "low"), {}, "row 3, ID a, column value: 'low' is not a number"),
        (LONG.replace("4.5", "4_5"), {}, "row 2, ID a, column value: '4_5' is not a number"),
        (LONG.replace("<0.1", ""), {}, "row 3, ID a, column value: a row without a value"),
        (LONG.replace("a,8,PLT,30", "a,8,ANC,2"), {}, "a second count of neutrophils at 168 h"),
        (LONG.replace("day", "when"), {}, "has neither a DAY nor a DATE column"),
        (LONG.replace("day", "when"), {}, "rename the column, in Python also columns={'DAY': ...}"),
        (LONG.replace("patient", "who"), {}, "has no ID column"),
        (LONG.replace("a,1,", "a,,"), {}, "row 2, ID a, column day: the day is missing"),
        (
            LONG.replace("4.5", "inf"),
            {},
            "row 2, ID a, column value: a count of neutrophils of inf",
        ),
        (
            "ID,DAY,ANC\n1,1,inf\n1,2,2\n",
            {},
            "row 2, ID 1, column ANC: a count of neutrophils of inf",
        ),
        (
            "ID,DAY,DATE,ANC\n1,1,2024-02-28,4\n1,3,,3\n1,4,2024-03-01,2\n",
            {},
            "row 4, ID 1, column DATE: 2024-03-01 is day 3 if 2024-02-28 is day 1 (row 2), and DAY "
            "is 4; correct one",
        ),
        (WIDE, {}, "neutrophils of 4500 x 10^9/L cannot be"),
        (WIDE.replace("ANC,PLT", "x,y"), {}, "has neither a LINE column nor a column of a known"),
        (WIDE, {"units": {"ANC": "mg"}}, "'mg' is not a unit of count"),
        (
            WIDE,
            {"doses": {1: "x", 2: "x"}, "units": {"ANC": "cells/uL"}},
            "ID 1: has counts and no re",
        ),
        (WIDE, {"lloq": {"AND": 0.1}}, "counts.csv, lloq: there is no line 'AND'; allowed: neut"),
        (WIDE, {"covariates": ["WT"], "units": {"ANC": "cells/uL"}}, "no covariate column"),
        (
            WIDE.replace(",1.8", ","),
            {"covariates": ["BSA"], "units": {"ANC": "cells/uL"}},
            "covariate 'BSA' is missing",
        ),
    ],
)
def test_bad_tables_are_refused_with_their_place(write, text, options, words):
    with pytest.raises(DataError, match=re.escape(words)) as error:
        read_counts(write(text), **options)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ID,DAY,AMT\n1,1,much\n", "row 2, ID 1, column AMT: 'much' is not a number"),
        ("ID,DAY,AMT\n1,1,0\n", "row 2, ID 1, column AMT: '0' is no dose"),
        ("ID,DAY,AMT\n7,1,5\n", "doses.csv, ID 7: has doses and no counts in counts.csv"),
        ("ID,DAY,DATE,AMT\n1,1,2024-02-28,5\n1,2,2024-03-01,5\n", "row 3, ID 1, column DATE: 2024"),
        ("ID,AMT\n1,5\n", "has neither a DAY nor a DATE column"),
        ("ID,DAY,AMT,DURATION\n1,1,5,-1\n", "an infusion of -1 h"),
        ("ID,DAY,AMT,DURATION\n1,1,5,inf\n", "an infusion of inf h"),
        ("ID,DAY,DATE,AMT\n1,9e9,2024-03-01,5\n", "row 2, ID 1, column DAY: 9e+09 is no day"),
        ("ID,DAY,AMT,CMT\n1,1,5,1\n1,2,5,1.5\n", "row 3, ID 1, column CMT: '1.5' is no"),
        ("ID,DAY,AMT,CMT\n1,1,5,inf\n", "'inf' is no compartment"),
        ("ID,DAY,HOUR,AMT\n1,1,25,5\n", "column HOUR: 25 is no hour of a day; allowed: 0 to 24"),
    ],
)
def test_bad_dosing_tables_are_refused(write, text, words):
    with pytest.raises(DataError, match=re.escape(words)):
        read_counts(write(WIDE), doses=write(text, "doses.csv"), units={"ANC": "cells/uL"})


def test_hours_of_counts_are_those_of_a_day(write):
    data = read_counts(write("ID,DAY,HOUR,ANC\n1,1,24,4\n1,8,,3\n"), clock_h=8.0)
    assert data.observations.time.tolist() == [24.0, 176.0]
    for hour in ("-8", "32", "inf"):
        with pytest.raises(DataError, match=r"row 3, ID 1, column HOUR: .* is no hour of a day"):
            read_counts(write(f"ID,DAY,HOUR,ANC\n1,1,8,4\n1,2,{hour},3\n"))


def test_a_line_has_its_limit_by_its_column_and_its_code_may_be_a_number(write):
    data = read_counts(write("ID,DAY,ANC\n1,1,4\n1,8,0.1\n"), lloq={"ANC": 0.2})
    assert data.observations.value.tolist() == [4.0, 0.2]
    assert data.observations.censored.tolist() == [0, 1]
    coded = write("ID,DAY,LINE,VALUE\n1,1,1,4\n1,8,1,0.1\n")
    assert read_counts(coded, lines={1: "neutrophils"}).lines == ("neutrophils",)
    given = {"lines": {1: "neutrophils"}, "lloq": {1: 200}, "units": {1: "cells/uL"}}
    data = read_counts(write("ID,DAY,LINE,VALUE\n1,1,1,4000\n1,8,1,100\n"), **given)
    assert data.observations.value.tolist() == [4.0, 0.2]


def test_lines_have_names(write):
    with pytest.raises(PkpdError, match="read_counts, lines, ANC, line: None is given"):
        read_counts(write(WIDE), lines={"ANC": None})
    assert read_counts(write(WIDE), lines={"ANC": "a", "anc": "a"}).lines == ("a",)
    with pytest.raises(DataError, match="read_counts, lines, anc: is b and a: capitals"):
        read_counts(write(WIDE), lines={"ANC": "a", "anc": "b"})


def test_columns_of_counts_may_have_other_names(write):
    path = write("ID,DAY,Neutro,Thrombo\n1,1,4,200\n")
    data = read_counts(path, columns={"ANC": "Neutro", "PLT": "Thrombo"})
    assert data.lines == ("neutrophils", "platelets")
    assert data.observations.value.tolist() == [4.0, 200.0]
    usual = write("ID,DAY,Neutrophils,WBC\n1,1,4,200\n")
    data = read_counts(usual, columns={"ANC": "Neutrophils", "PLT": "WBC"})
    assert data.lines == ("neutrophils", "platelets")
    assert data.observations.value.tolist() == [4.0, 200.0]
    with pytest.raises(DataError, match="has no column 'Neutros' \\(asked for as ANC\\)"):
        read_counts(path, columns={"ANC": "Neutros"})


def test_drugs_have_compartments(write):
    table = write("ID,DAY,AMT,DRUG\n1,1,5,clo\n1,1,10,len\n", "doses.csv")
    data = read_counts(
        write(WIDE),
        doses=table,
        units={"ANC": "cells/uL"},
        compartment={"clo": 1, "len": 3},
    )
    assert sorted(data.events.cmt[data.events.is_dose].tolist()) == [1, 3]
    with pytest.raises(DataError, match="a dose of 'len' has no compartment"):
        read_counts(write(WIDE), doses=table, units={"ANC": "cells/uL"}, compartment={"clo": 1})


def test_one_count_that_no_blood_has_is_a_slip_and_not_a_unit(tmp_path):
    rows = ["ID,DAY,ANC", *(f"1,{day},{1500 if day in (3, 5) else 1.5}" for day in range(1, 9))]
    (tmp_path / "slip.csv").write_text("\n".join(rows))
    with pytest.raises(DataError) as error:
        read_counts(tmp_path / "slip.csv")
    assert str(error.value) == (
        "slip.csv, row 4, ID 1, column ANC: neutrophils of 1500 x 10^9/L cannot be (and in row 6); "
        "allowed: at most 300 x 10^9/L; correct the value: of the other 6 neutrophils none is that "
        "large."
    )


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            "1,1,1900,88000\n1,5,500,33000\n1,8,<100,9000\n1,9,0,9000",
            "unit is: --units cells/uL, in",
        ),
        ("1,1,1.9,60000\n1,5,0.4,22000", 'unit of platelets is: --units "PLT cells/uL", in Python'),
        ("1,1,1900,60\n1,5,1400,22", 'unit of neutrophils is: --units "ANC cells/uL", in Python'),
    ],
)
def test_the_unit_of_those_lines_is_asked_for_that_are_too_large(write, rows, told):
    with pytest.raises(DataError, match=re.escape(f"; say what the {told}")):
        read_counts(write(f"ID,DAY,ANC,PLT\n{rows}"))


def test_dates_beside_days_agree(write):
    """Day 0 is the day before day 1; each subject has a first date, and a cell may be empty."""
    rows = ["1,0,2024-02-28,4", "1,2,2024-03-01,2", "1,3,,1", "2,5,01.01.2024,3", "2,7,03.01.2024,"]
    data = read_counts(write("\n".join(["ID,DAY,DATE,ANC", *rows])))
    assert data.observations.time.tolist() == [-24.0, 24.0, 48.0, 96.0]


def test_counts_cut_at_semicolons(tmp_path):
    (tmp_path / "de.csv").write_text("ID;DATE;ANC\n1;29.02.2024;1,25\n1;02.03.2024;<0,1\n")
    data = read_counts(tmp_path / "de.csv", clock_h=0.0)
    assert data.observations.time.tolist() == [0.0, 48.0]
    assert data.observations.value.tolist() == [1.25, 0.1]
    assert data.notes[0].startswith("cells were cut at ';'")


def test_all_cells_of_counts_that_are_no_numbers_are_named(tmp_path):
    (tmp_path / "bad.csv").write_text("ID,DAY,ANC,PLT\n1,1,abc,50\n1,x,2,40\n1,3,1,low\n")
    with pytest.raises(DataError) as error:
        read_counts(tmp_path / "bad.csv")
    for words in ("row 3, ID 1, column DAY: 'x'", "row 2, ID 1, column ANC: 'abc'", "PLT: 'low'"):
        assert words in str(error.value)


def test_infinite_covariates_and_years_that_nobody_lives_to_are_refused(write):
    wide = "ID,DATE,ANC,AGE\n1,2024-01-03,4,{}\n1,{}-01-05,2,60\n"
    with pytest.raises(DataError, match="row 2, ID 1, column AGE: 'inf' is not a finite number"):
        read_counts(write(wide.format("inf", 2024)), covariates=["AGE"])
    with pytest.raises(DataError, match=r"row 3, .*DATE: '2204-01-05' is 180 years after day 1"):
        read_counts(write(wide.format(60, 2204)))
    doses = write("ID,DATE,AMT\n1,2024-01-03,5\n1,2204-01-05,5\n", "doses.csv")
    with pytest.raises(DataError, match=r"row 3, .* is 180 years after the first dose"):
        read_counts(write(wide.format(60, 2024)), doses=doses)


def test_an_hour_stands_in_the_day_or_beside_it():
    import pandas as pd

    counts = pd.DataFrame({"ID": 1, "DAY": [1, 2.5, 3], "HOUR": [6, None, 12], "ANC": [4, 3, 2]})
    doses = pd.DataFrame({"ID": 1, "DAY": [1.25], "AMT": 5, "HOUR": [None]})
    data = read_counts(counts, doses=doses, clock_h=7.0)
    assert data.observations.time.tolist() == [6.0, 36.0, 60.0]
    assert data.events.time[data.events.is_dose].tolist() == [6.0]
    for table, given in ((counts.assign(HOUR=6), doses), (counts, doses.assign(HOUR=6))):
        with pytest.raises(DataError, match=r"has a fraction, which tells an hour, and HOUR is 6"):
            read_counts(table, doses=given)


def test_a_single_limit_is_of_lines_in_one_unit():
    import pandas as pd

    counts = pd.DataFrame({"ID": 1, "DAY": [1, 2], "ANC": [4000, 50], "HB": [90, 95]})
    data = read_counts(counts, units="cells/uL", lloq=100)
    assert data.observations.censored.tolist() == [0, 0, 1, 0]
    other = counts.rename(columns={"HB": "PLT"})
    with pytest.raises(DataError, match="100 is one limit, and the lines are in several units"):
        read_counts(other, units={"ANC": "cells/uL"}, lloq=100)
