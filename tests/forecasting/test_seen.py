"""What has been seen of a patient: tables by day and in the style of NONMEM; bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.endpoints.clock import clock_of, has_further_cycle
from pkpd.errors import DataError, PkpdError
from pkpd.forecasting import as_given, continuation, next_cycle, read_seen
from pkpd.forecasting.doses import how_given, named_alternatives
from pkpd.forecasting.seen import GivenDose
from pkpd.schedule import Course, Criterion, DoseModification, DoseRule, Gate, Regimen, plan

LENALIDOMIDE = pkpd.daily("lenalidomide", "10 mg", days="1-21/28", route="oral")
CLOFARABINE = pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")


def test_a_table_by_protocol_day_is_read():
    (seen,), notes = read_seen(
        {
            "DAY": [0, 1, 8, 12],
            "ANC": [2.5, 2.0, "<0.1", 0.0],
            "PLT": [90, "", 20, 12],
            "WBC": ["", 4.0, "", ""],
            "BM_BLASTS": [40, "", "", ""],
            "AGE": [70, "", "", ""],
            "SEX": ["f", "", "", ""],
        },
        limits={"neutrophils": 0.2},
    )
    assert seen.line[:3] == ("neutrophils", "platelets", "marrow_blasts")
    assert set(seen.line) == {"neutrophils", "platelets", "wbc", "marrow_blasts"}
    mine = np.array([line == "neutrophils" for line in seen.line])
    np.testing.assert_array_equal(seen.time[mine], [0.0, 0.0, 7.0, 11.0])
    np.testing.assert_array_equal(seen.value[mine], [2.5, 2.0, 0.1, 0.2])
    np.testing.assert_array_equal(seen.censored[mine], [0, 0, 1, 1])
    assert seen.body == {"age": 70.0}
    assert (seen.last_day, notes[1:]) == (12, ("columns that are not read: SEX",))
    assert notes[0].startswith("counts before day 1 count as those of its start: patient 1 (from")


def test_rows_of_one_count_each_and_many_patients(tmp_path):
    table = pd.DataFrame(
        {"ID": ["a", "b", "a"], "DAY": [8, 9, 1], "LINE": ["ANC", "PLT", "ANC"],
         "VALUE": [0.4, 30, 3]}
    )  # fmt: skip
    table.to_csv(tmp_path / "p.csv", index=False)
    seen, _ = read_seen(tmp_path / "p.csv")
    assert [one.label for one in seen] == ["a", "b"]
    np.testing.assert_array_equal(seen[0].value, [3.0, 0.4])


def test_a_file_of_one_patient_is_read_by_its_own_lines(tmp_path):
    """Marks that open no quotation elsewhere, an empty line: places are those of the file."""
    path = tmp_path / "one.csv"
    path.write_text("DAY,ANC,NOTE\n1,3,a\n\n8,0.4,b\n")
    (seen,), _ = read_seen(path)
    np.testing.assert_array_equal(seen.value, [3.0, 0.4])
    path.write_text("DAY,ANC,NOTE\n1,3,a\n\n8,-4,b\n")
    with pytest.raises(PkpdError, match=r"one\.csv, row 4"):
        read_seen(path)
    path.write_text('DAY,ANC,".\n8,0.4,\n')
    with pytest.raises(PkpdError):
        read_seen(path)


def test_counts_per_microlitre_are_converted_and_blasts_are_not():
    (seen,), _ = read_seen(
        {"DAY": [2, 8], "ANC": [900, 300], "BM_BLASTS": [30, ""]}, units="cells/uL"
    )
    assert dict(zip(seen.line, seen.value, strict=True)) == {
        "neutrophils": 0.3,
        "marrow_blasts": 30.0,
    }


@pytest.mark.parametrize("unit", ["10*3/uL", "10*9 /L", {"ANC": "10*3/mm3"}, "x10E9/L"])
def test_counts_in_units_of_ucum_are_what_they_were(unit):
    (seen,), _ = read_seen({"DAY": [1, 4], "ANC": [1.6, 0.5]}, units=unit)
    np.testing.assert_allclose(seen.value, [1.6, 0.5], rtol=1e-12)


def test_a_table_in_the_style_of_nonmem_is_read():
    (seen,), _ = read_seen(
        {"ID": [1, 1, 1, 1], "TIME": [0, 48, 168, 180], "DV": ["", 2.0, 0.3, 60],
         "EVID": [1, 0, 0, 0], "AMT": [30, "", "", ""], "CMT": [1, 2, 2, 3]},
        lines={2: "neutrophils", 3: "platelets"},
    )  # fmt: skip
    assert seen.line == ("neutrophils", "neutrophils", "platelets")
    np.testing.assert_allclose(seen.time, [2.0, 7.0, 7.5])


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"DAY": [0, 1], "ANC": [2, 3]}, "has counts before the first dose only; give counts on"),
        ({"DAY": [1, 8], "ANC": [4000, 900]}, r"allowed.*--units cells/uL, .*units=\"cells/uL\""),
        ({"DAY": [8], "ANC": [-1]}, "a count of neutrophils of -1"),
        ({"DAY": [8], "ANC": [np.inf]}, "a count of neutrophils of inf; allowed: 0 or more"),
        ({"DAY": [8], "ANC": [0.4], "AGE": [np.inf]}, "row 0, ID 1, column AGE: age = inf is"),
        ({"DAY": [1, 8], "ANC": 1, "DRUG": ["x", ""], "AMT": [np.inf, ""]}, "is no dose"),
        (
            {"DAY": [1, 4], "ANC": [2, 1.6], "WBC": [4, 0.1]},
            "patient 1, day 4: WBC of 0.1 are fewer than the neutrophils among them, 1.6 x 10.9/L; "
            "correct them: columns may be swapped, or have different units",
        ),
        ({"DAY": [4], "ANC": [1.6], "WBC": ["<0.3"]}, "WBC of 0.3 are fewer than"),
        ({"DAY": [8], "HB": [9.5]}, "known line"),
        ({"DAY": [8], "ANC": [0.4], "AGE": [700]}, r"row 0, ID 1, column AGE: age = 700 is"),
        ({"DAY": [8], "ANC": [0.4], "plts": [9]}, r"column plts: it is not read .*'PLT'\?.*rename"),
        ({"DAY": [8, 9], "ANC": [0.4, 0.5], "WT": [70, 90]}, "weight changes from 70 to 90"),
        ({"DAY": [8, 9], "ANC": [0.4, 0.5], "WT": [70, 60]}, "weight changes from 70 to 60"),
        ({"DAY": [1, 8], "ANC": ["", 1], "DRUG": ["x", ""], "AMT": [-3, ""]}, "is no dose"),
    ],
)  # fmt: skip
def test_bad_tables_get_one_sentence(table, told):
    with pytest.raises(PkpdError, match=told) as caught:
        read_seen(table)
    assert str(caught.value).count("\n") == 0


def test_columns_of_nonmems_style_that_are_not_read_are_named_once():
    table = {"ID": 1, "TIME": [0.0, 168.0], "DV": [2.0, 0.4], "DVID": 1, "WT": 70.0}
    lines = {1: "neutrophils"}
    (seen,), notes = read_seen(table | {"CREAT": 1.2, "STUDY": 7}, lines=lines)
    assert notes[-1] == "columns that are not read: CREAT (did you mean 'CREATININE'?), STUDY"
    assert seen.body == {"weight": 70.0}
    assert not [note for note in read_seen(table, lines=lines)[1] if "not read" in note]


def test_columns_that_are_not_read_are_named_once():
    table = {"DAY": [2, 8], "ANC": [2, 0.4], "PLT": [90, 20], "PLTS": "", "HB": 9, "CRLC": 60}
    _, (note,) = read_seen(table | {"ID": ["a", "b"], "ALT": 30})
    assert note == "columns that are not read: PLTS, HB, CRLC (did you mean 'CRCL'?), ALT"
    renamed = {"TAG": [2], "ANC": [2], "Plättchen": [90]}
    (seen,), notes = read_seen(
        renamed, columns={"DAY": "Tag"}, lines={"Plättchen": "platelets", "ANC": "neutrophils"}
    )
    assert (set(seen.line), notes) == ({"neutrophils", "platelets"}, ())


def test_doses_of_tables_in_the_style_of_nonmem_are_told_not_to_be_used():
    table = {
        "ID": 1, "TIME": [0.0, 24, 96, 168], "EVID": [1, 0, 0, 0], "AMT": [500, 0, 0, 0],
        "DV": [0, 2.1, 1.2, 0.7], "CMT": [1, 2, 2, 2],
    }  # fmt: skip
    told = "doses of data frame are not used: patients get the schedule's"
    frame = pd.DataFrame(table)
    notes = read_seen(frame, lines={2: "neutrophils"})[1]
    assert told in notes
    assert any("TIME as hours" in one for one in notes)  # what the reader of the table says, too
    assert read_seen(pkpd.read_nonmem(frame, lines={2: "neutrophils"}))[1] == (told,)
    without = frame[frame["EVID"] == 0].drop(columns="EVID")
    assert not any("doses of" in one for one in read_seen(without, lines={2: "neutrophils"})[1])


def test_a_dose_in_the_course_of_a_day_is_given_then():
    table = {"DAY": [1, 3.5, 4], "ANC": [2.0, "", 1.5], "DRUG": ["", "a", "a"], "AMT": ["", 9, 9]}
    ((seen,), _) = read_seen(table)
    assert [(dose.day, dose.hour) for dose in seen.doses] == [(3, 12.0), (4, None)]
    ((seen,), _) = read_seen(table | {"HOUR": ["", "", 8]})
    assert [(dose.day, dose.hour) for dose in seen.doses] == [(3, 12.0), (4, 8.0)]


def test_bodies_and_doses_are_found_under_other_names_of_columns(tmp_path):
    table = pd.DataFrame(
        {"nr": ["a", "a", "b", "b"], "study": [1, 8, 1, 8], "ANC": [4, 1, 4, 1.0],
         "kg": [70, 70, 80, 80], "DRUG": ["x", "", "y", ""], "AMT": [10, None, 20, None]}
    )  # fmt: skip
    columns = {"ID": "nr", "DAY": "study", "WT": "kg"}
    table.to_csv(tmp_path / "p.csv", index=False)
    for source in (table, tmp_path / "p.csv"):
        seen, notes = read_seen(source, columns=columns)
        assert [one.label for one in seen] == ["a", "b"]
        assert [one.body for one in seen] == [{"weight": 70.0}, {"weight": 80.0}]
        assert [one.doses[0].drug for one in seen] == ["x", "y"]
        assert notes == ()
    (alone,), _ = read_seen({"study": [1, 8], "ANC": [4, 1], "kg": 70}, columns={
        "DAY": "study", "WT": "kg"})  # fmt: skip
    assert (alone.label, alone.body) == (1, {"weight": 70.0})


def test_patients_without_a_count_are_told():
    seen, notes = read_seen({"ID": ["a", "b"], "DAY": [8, 8], "ANC": [1.0, None]})
    assert [one.label for one in seen] == ["a"]
    assert notes == ("left out, without a count: patients b",)


def test_doses_without_days_are_refused():
    table = {"DATE": ["2024-01-01", "2024-01-08"], "ANC": [4, 1], "DRUG": ["x", ""], "AMT": [9, ""]}
    with pytest.raises(PkpdError, match=r"has doses and no DAY column.*give protocol days"):
        read_seen(table)
    (seen,), _ = read_seen(table | {"DRUG": ["", ""], "AMT": ["", ""]})  # as an empty form
    assert (len(seen), seen.doses) == (2, ())


def test_counts_long_before_the_first_dose_are_named():
    table = {"ID": ["a", "a", "b", "b", "c", "c"], "DAY": [-4, 8, 0, 8, 1, 8], "ANC": 2.0}
    (seen, *_), notes = read_seen(table)
    assert notes == (
        "counts before day 1 count as those of its start: patients a (from day -4), b (from day "
        "0); day 1 is the first day of treatment: where that is day 0, add 1 to every day",
    )
    np.testing.assert_array_equal(seen.time, [0.0, 7.0])


def calendar(regimen):
    """Day, drug, amount of every dose on the planned calendar."""
    return sorted(
        (start + cycle * course.cycle_days + day - 1, rule.drug, rule.amount)
        for course, start in zip(regimen.courses, regimen.start_days, strict=True)
        for rule in course.doses
        for cycle in range(course.cycles)
        for day in rule.days
    )


def test_doses_that_were_given_take_the_place_of_those_planned_on_their_days():
    planned = CLOFARABINE.then(LENALIDOMIDE, start_day=29)
    doses = [GivenDose(1, "clofarabine", 9.0), GivenDose(2, "clofarabine", 0.0)]
    given = as_given(planned, doses, 12)
    before = calendar(CLOFARABINE)
    assert calendar(given)[:5] == [(1, "clofarabine", 9.0), *before[2:], (29, "lenalidomide", 10.0)]
    assert len(calendar(given)) == 4 + 21
    assert how_given(planned, doses, 12) == (
        "clofarabine: doses of days 1, 2 as given (9 mg), of days 3-5 as planned",
    )
    during = as_given(planned, [GivenDose(29, "lenalidomide", 5.0)], 30)
    assert calendar(during) == [
        *calendar(CLOFARABINE),
        (29, "lenalidomide", 5.0),
        *((day, "lenalidomide", 10.0) for day in range(30, 50)),
    ]
    with pytest.raises(
        PkpdError, match=r"which the schedule does not give .did you mean 'clofarabine'"
    ):
        as_given(planned, [GivenDose(1, "clofarabin", 9.0)], 12)


def test_a_dose_as_given_is_like_the_planned_one_next_to_it():
    """In a ramp, and of a drug that a later course gives in another way."""
    steps = [(20.0, (1,)), (50.0, (2,)), (100.0, (3,)), (400.0, tuple(range(4, 29)))]
    ramp = Regimen(
        (Course("one", tuple(DoseRule("a", mg, "mg", on, route="oral") for mg, on in steps), 28),)
    )
    given = as_given(ramp, [GivenDose(1, "a", 20.0), GivenDose(5, "a", 100.0)], 8)
    amounts = [amount for _, _, amount in calendar(given)]
    assert amounts == [20.0, 50.0, 100.0, 400.0, 100.0, *[400.0] * 23]
    with pytest.raises(PkpdError, match="20 times the planned 20 mg"):
        as_given(ramp, [GivenDose(1, "a", 400.0)], 8)
    slow = pkpd.daily("a", "100 mg", days="1-5", route="iv", duration="24 h")
    fast = pkpd.daily("a", "100 mg", days="1-5", route="iv", duration="1 h")
    first = as_given(slow.then(fast, start_day=29), [GivenDose(2, "a", 80.0)], 8).courses[0]
    assert {rule.duration_h for rule in first.doses} == {24.0}


def test_holds_begin_with_the_next_cycle_where_doses_are_as_given_and_that_is_told():
    (course,) = LENALIDOMIDE.repeat(2).courses
    hold = DoseModification("lenalidomide", (Criterion("neutrophils", 1.0),))
    held = Regimen((replace(course, modifications=(hold,)),))
    doses = [GivenDose(3, "lenalidomide", 0.0)]
    assert [len(one.modifications) for one in as_given(held, doses, 8).courses] == [0, 1]
    assert how_given(held, doses, 8)[1:] == (
        "holds and reductions of lenalidomide begin with the next cycle: until then doses are as "
        "given and as planned",
    )
    assert how_given(held, [], 8) == ()
    # in the last cycle, and in the first of two courses
    told = "holds and reductions of lenalidomide {} doses are as given and as planned"
    last = [GivenDose(31, "lenalidomide", 0.0)]
    ended = "play no part, as no further cycle is planned:"
    assert how_given(held, last, 36)[1:] == (told.format(ended),)
    once = Regimen((replace(course, modifications=(hold,), cycles=1),))
    assert how_given(once, doses, 8)[1:] == (told.format(ended),)
    again = once.then(once, start_day=43)
    assert how_given(again, doses, 8)[1:] == (told.format("begin with the next cycle: until then"),)


def test_a_dose_on_another_day_is_refused_until_all_planned_days_are_told():
    """It can have been moved from a planned day, or be one more."""
    moved = [GivenDose(day, "clofarabine", 9.0) for day in (2, 3, 4, 6)]
    with pytest.raises(PkpdError, match=r"on day 6, on which none is planned, .* on days 1, 5"):
        as_given(CLOFARABINE, moved, 12)
    zeros = [GivenDose(day, "clofarabine", 0.0) for day in (1, 5)]
    given = as_given(CLOFARABINE, [*moved, *zeros], 12)
    assert [day for day, *_ in calendar(given)] == [2, 3, 4, 6]
    (text,) = how_given(CLOFARABINE, [*moved, *zeros], 12)
    assert text == (
        "clofarabine: doses of days 1-6 as given (9 mg); none is planned after these: doses ahead "
        "of a cycle that was moved need rows, too"
    )
    # what is planned after the last count is not told yet
    early = as_given(CLOFARABINE, [GivenDose(1, "clofarabine", 9.0)], 1)
    assert [amount for _, _, amount in calendar(early)] == [9.0, 5.0, 5.0, 5.0, 5.0]


def test_cycles_that_have_begun_stay_cycles_of_their_courses():
    """They were one course: "the first cycle" ended with the last of them, and names were lost."""
    twice = CLOFARABINE.repeat(2, cycle_days=28)
    rows = [GivenDose(29, "clofarabine", 9.0)]
    given = as_given(twice, rows, 36)
    assert given.start_days == (1, 29)
    name = twice.courses[0].name
    assert [course.name for course in given.courses] == [name, f"{name}, cycle 2"]
    plans = [plan(one, 60) for one in (twice, given)]
    clocks = [clock_of(one, "first_dose", 42) for one in plans]
    assert [one.last_dose_day for one in clocks] == [4, 4]
    assert all(has_further_cycle(*pair) for pair in zip(plans, clocks, strict=True))
    again = CLOFARABINE.then(Course("consolidation", LENALIDOMIDE.courses[0].doses, 28), 29)
    named = as_given(again, [GivenDose(2, "clofarabine", 0.0)], 36)
    assert "consolidation" in [course.name for course in named.courses]


def test_a_course_that_waits_at_its_gate_is_not_put_in_as_given():
    """A row of another drug forced the whole course, whatever the counts were."""
    gate = Gate((Criterion("neutrophils", 1.0),))
    planned = CLOFARABINE.then(LENALIDOMIDE, start_day=29, gate=gate)
    given = as_given(planned, [GivenDose(3, "clofarabine", 0.0)], 33)
    assert given.courses[-1] == planned.courses[-1]
    begun = as_given(planned, [GivenDose(31, "lenalidomide", 10.0), *(
        GivenDose(day, "lenalidomide", 0.0) for day in (29, 30, 32, 33))], 33)  # fmt: skip
    assert begun.courses[-1].gate is None
    assert calendar(begun)[5] == (31, "lenalidomide", 10.0)


@pytest.mark.parametrize(("column", "value"), [("AMT", 9), ("DRUG", "clofarabine")])
def test_half_of_what_tells_a_dose_is_refused(column, value):
    """Amounts without their drug were passed over: doses as planned were forecast from."""
    table = {"DAY": [1, 8], "ANC": [2.0, 0.4]}
    other = {"AMT": "DRUG", "DRUG": "AMT"}[column]
    with pytest.raises(DataError, match=f"has {column} and no {other} column"):
        read_seen(table | {column: [value, ""]})
    read_seen(table | {column: ["", ""]})  # a form that was not filled in


def test_amounts_per_size_are_no_mg():
    with pytest.raises(PkpdError, match=r"5 mg of .* on day 1, the number of the planned 5"):
        as_given(CLOFARABINE, [GivenDose(1, "clofarabine", 5.0)], 8)


def test_blasts_of_the_blood_are_counts():
    table = {"DAY": [1, 8], "WBC": [3.1, 1.0], "ANC": [0.6, 0.3], "PB_BLASTS": [40, 5]}
    with pytest.raises(DataError, match=r"day 1: WBC of 3.1 are fewer .* blood blasts .*WBC / 100"):
        read_seen(table)
    with pytest.raises(
        DataError, match=r"blasts of the blood are in %; allowed: 10\^9/L; multiply"
    ):
        read_seen(table, units={"PB_BLASTS": "%"})
    told = "blasts of the blood are read as 10^9/L, not as percent"
    assert told in read_seen(table | {"PB_BLASTS": [1.2, 0.05]})[1]


def test_one_unit_is_that_of_lines_under_names_of_the_users_own():
    """It was ignored: 20 neutrophils in a microlitre were 20 x 10^9/L."""
    table = {"DAY": [1, 8, 11], "NEU": [2000, 10, 20]}
    (one,), _ = read_seen(table, units="cells/uL", lines={"NEU": "neutrophils"})
    np.testing.assert_allclose(one.value, [2.0, 0.01, 0.02])


def test_a_first_dose_that_is_not_on_day_1_is_told():
    table = {"ID": 1, "TIME": [0.0, 121, 300], "EVID": [0, 1, 0], "AMT": [0, 9, 0],
             "DV": [2.1, 0, 0.4], "CMT": [2, 1, 2]}  # fmt: skip
    notes = read_seen(pd.DataFrame(table), lines={2: "neutrophils"})[1]
    told = "not on day 1, which begins at time 0: patients 1 (hour 121, day 6)"
    assert any(told in one for one in notes)


def test_a_dose_of_a_table_is_refused_with_its_row(tmp_path):
    (tmp_path / "ward.csv").write_text(
        "ID,DAY,ANC,DRUG,AMT\nA,6,2.0,,\nB,6,2.0,,\nB,2,,clofarabin,9\n"
        "C,6,1.0,clofarabine,9\nD,6,1.0,,\nD,1,,clofarabine,900\n"
    )
    seen, _ = read_seen(tmp_path / "ward.csv")
    for one, told in zip(
        seen[1:],
        (
            "row 4, ID B: a dose of clofarabin, which the",
            "row 5, ID C: a dose of clofarabine on day 6, on which none",
            "row 7, ID D: 900 mg of clofarabine on day 1, 100 times the planned",
        ),
        strict=True,
    ):
        with pytest.raises(PkpdError, match=f"ward.csv, {told}"):
            as_given(CLOFARABINE, one.doses, 12)


def test_marrow_blasts_are_percent():
    table = {"DAY": [1, 8], "ANC": 1.0, "BM_BLASTS": [140, ""]}
    with pytest.raises(PkpdError, match=r"marrow blasts are 140 percent; allowed: .* up to 100"):
        read_seen(table)
    _, (note,) = read_seen(table | {"BM_BLASTS": [0.4, 0]})
    assert note.endswith("are read as 0.4 percent, not as a share")
    assert read_seen(table | {"BM_BLASTS": [40, 0.4]})[1] == ()


def test_continuations_by_name_can_be_texts():
    twice = pkpd.on_off("lenalidomide", "10 mg", on=21, off=7, cycles=2)
    named = named_alternatives({"later": "36 at 0.5", "same": twice}, twice)
    assert calendar(named["later"]) == calendar(next_cycle(twice, 36, 0.5))
    assert named["same"] is twice


def test_a_further_cycle_is_appended_and_what_would_overlap_is_left_out():
    twice = pkpd.on_off("lenalidomide", "10 mg", on=21, off=7, cycles=2)
    other = next_cycle(twice, 36, dose=0.5)
    assert calendar(other) == [
        *((d, "lenalidomide", 10.0) for d in [*range(1, 22), *range(29, 36)]),
        *((d, "lenalidomide", 5.0) for d in range(36, 57)),
    ]
    assert calendar(continuation(twice, "36 at 50%")) == calendar(other)
    assert calendar(continuation(twice, "day 57")) == calendar(next_cycle(twice, 57))
    for text, told in (
        ("soon", "further cycle: 'soon' is none"),
        ("29 at .", "further cycle: '29 at .' is none"),
        (
            "29 at 75",
            "cycle: 75 of the doses; allowed: a share above 0 and below 10, 0.75 or 75 %",
        ),
        ("1", "after the first"),
        ("30 at 0", "share"),
    ):
        with pytest.raises(PkpdError, match=told):
            continuation(twice, text)


def test_leukocytes_can_be_as_few_as_neutrophils_but_for_rounding():
    counts = {"ANC": [1.6, "<0.5", 0.32, 0.9, 5.0], "WBC": [1.6, 0.2, 0.3, ">0.5", 20.0]}
    (seen,), _ = read_seen({"DAY": [1, 2, 3, 4, 5]} | counts)
    assert len(seen) == 10
    # at other hours of a day they are of other blood
    other = {"DAY": [1, 4, 4], "HOUR": [0, 8, 20], "ANC": [2, 1.6, ""], "WBC": [4, "", 0.4]}
    assert len(read_seen(other)[0][0]) == 4


def test_dates_say_which_is_day_1():
    dates = ["2025-02-26", "2025-03-01", "2025-03-04"]
    (seen,), notes = read_seen({"DATE": dates, "ANC": [2.0, 1.5, 0.7]})
    assert seen.time.tolist() == [0.0, 3.0, 6.0]
    (told,) = notes
    assert told.startswith("day 1 is the date of the first row (patient 1: 2025-02-26); ")
    assert not read_seen({"DAY": [1, 4], "ANC": [2.0, 1.5]})[1]


@pytest.mark.parametrize(
    ("line", "counts", "told"),
    [
        ("ANC", [0.4, 30, 0.2], "neutrophils of 30 on day 7 between 0.4 on day 6 and 0.2 on day 8"),
        ("ANC", [10.5, 1.1, 10.8], "neutrophils of 1.1 on day 7 between 10.5 on day 6 and 10.8"),
        ("PLT", [21, 180, 15], "platelets of 180 on day 7 between 21 on day 6 and 15 on day 8"),
        ("ANC", [0.05, 0.8, 0.1], None),  # so low counts differ as much by chance
        ("ANC", [0.2, 1.9, 3.8], None),  # a recovery
        ("PLT", [10, 40, 20], None),  # a transfusion
        ("BM_BLASTS", [4, 60, 5], None),  # percent
    ],
)
def test_a_count_far_from_both_neighbours_is_named_and_kept(line, counts, told):
    (seen,), notes = read_seen({"ID": ["P"] * 3, "DAY": [6, 7, 8], line: counts})
    assert seen.value.tolist() == counts
    assert len(notes) == (told is not None)
    if told:
        assert notes[0].startswith(f"patient P: {told}")
    far = {"ID": ["P"] * 3, "DAY": [3, 7, 8], line: counts}
    assert not read_seen(far)[1]


def test_one_unit_and_one_limit_of_counts_are_not_those_of_marrow_blasts():
    days = {"DAY": [1, 8], "ANC": [900, 50], "BM_BLASTS": [30, None]}
    (seen,), _ = read_seen(days, units="cells/uL", lloq=100)
    assert seen.counts == [
        ("neutrophils", 0.0, 0.9), ("marrow_blasts", 0.0, 30.0), ("neutrophils", 7.0, 0.1),
    ]  # fmt: skip
    assert seen.censored.tolist() == [0, 0, 1]
    rows = {"ID": 1, "TIME": [0, 0, 168], "DV": [900, 30, 50], "DVID": [1, 2, 1]}
    lines = {1: "neutrophils", 2: "marrow_blasts"}
    (other,), _ = read_seen(pd.DataFrame(rows), lines=lines, units="cells/uL", lloq=100)
    assert (other.counts, other.censored.tolist()) == (seen.counts, seen.censored.tolist())
    words = rows | {"DVID": ["neutrophils", "marrow_blasts", "neutrophils"]}
    (other,), _ = read_seen(pd.DataFrame(words), units="cells/uL", lloq=100)
    assert sorted(other.counts) == sorted(seen.counts)


def test_doses_without_an_hour_are_given_at_the_planned_ones():
    at = lambda hour, days=(1, 2): DoseRule("a", 50.0, "mg", days, route="oral", hour=hour)  # noqa: E731
    twice = Regimen((Course("one", (at(20.0), at(8.0)), 7),))

    def hours(regimen, *doses, until=2):
        rules = as_given(regimen, list(doses), until).courses[0].doses
        return sorted((day, rule.hour, rule.amount) for rule in rules for day in rule.days)

    day_2 = [(2, 8.0, 50.0), (2, 20.0, 50.0)]
    first, second = GivenDose(1, "a", 40.0), GivenDose(1, "a", 60.0)
    assert hours(twice, first, second) == [(1, 8.0, 40.0), (1, 20.0, 60.0), *day_2]
    late = replace(first, hour=20.0)
    assert hours(twice, late, second) == [(1, 8.0, 60.0), (1, 20.0, 40.0), *day_2]
    with pytest.raises(PkpdError, match="1 row of a on day 1 without an hour, and its planned"):
        hours(twice, first)
    once = Regimen((Course("one", (at(8.0),), 7),))
    assert hours(once, first) == [(1, 8.0, 40.0), (2, 8.0, 50.0)]
    table = {"DAY": [1, 1.25, 2], "ANC": [2, "", 1], "DRUG": ["a", "a", ""], "AMT": [40, 60, ""]}
    (seen,), _ = read_seen(table)
    assert [dose.hour for dose in seen.doses] == [None, 6.0]
    with pytest.raises(DataError, match=r"1.25 has a fraction.*HOUR is 9"):
        read_seen(table | {"HOUR": ["", 9, ""]})
