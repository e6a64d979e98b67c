"""Reading evidence: what bad rows get, and what the product's own table holds."""

from collections import Counter

import pytest

from pkpd.errors import DataError
from pkpd.evidence.likelihood.simulator import arm_of
from pkpd.evidence.likelihood.use import Switches, how_used, terms_of, use_table
from pkpd.evidence.table.arms import arms_of
from pkpd.evidence.table.endpoints import endpoint_of
from pkpd.evidence.table.schedule import parse_schedule
from pkpd.evidence.table.table import load_evidence

NO_COUNT = {"numerator": "", "denominator": ""}
GOOD = "A,aml,cytarabine:100 mg/m2:CI:1-7,200,cr_rate,,,,,120,200,READ"


def row(**changes):
    names = (
        "study population schedule n endpoint value lower upper limits numerator denominator mark"
    )
    cells = dict(zip(names.split(), GOOD.split(","), strict=True)) | changes
    return ",".join(cells[name] for name in names.split())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numerator": "201"}, "row 2, column numerator: 201 of 200 patients"),
        (
            {"numerator": "", "value": "60"},
            "row 2, column value: 60 is no fraction; allowed: 0 to 1; write 0.6 for 60 %",
        ),
        (
            {"numerator": "", "value": "60%"},
            "column value: '60%' is no number; write 0.6 for 60 %",
        ),
        ({"numerator": "", "value": "0_6"}, "column value: '0_6' is no number; write digits, with"),
        ({"endpoint": "cr_rat"}, "column endpoint: endpoint 'cr_rat': it is not known.*cr_rate"),
        ({"schedule": "cytarabine 100 mg/m2"}, 'row 2, column schedule: schedule "cytarabine'),
        ({"schedule": "cytarabine:high mg/m2:IV:1-5"}, '"high mg/m2" is no amount'),
        ({"schedule": "cytarabine:100 mg/m2:IM:1-5"}, '"IM" is no route'),
        ({"schedule": "cytarabine:100 mg/m2:IV:5-1"}, ':5-1": days "5-1": the range 5-1 runs'),
        ({"population": ""}, "row 2, column population: study A has no population"),
        ({"population": "aml_r"}, "no population 'aml_r'.*did you mean"),
        (
            {"n": "", "denominator": "", "numerator": "3"},
            "column n: the number of patients is miss",
        ),
        ({"mark": "SEEN"}, "column mark: 'SEEN' is not allowed"),
        ({"value": "0.5"}, "column value: 0.5 is not 120/200 = 0.600"),
        (
            {"lower": "0.7", "upper": "0.5", "limits": "ci95"},
            "column lower: 0.7 is above upper 0.5",
        ),
        ({"lower": "0.5", "upper": "0.7"}, "column limits: it does not say what"),
        ({"study": ""}, "column study: it is empty"),
        ({"numerator": "1.5"}, "column numerator: 1.5 is no whole number"),
        ({"endpoint": "mtd_mgm2"}, "column other_schedule: the row compares two schedules"),
        (
            {"schedule": "clofarabin:30 mg/m2:IV:1-5"},
            "row 2, column schedule: there is no card of a drug 'clofarabin' .did you mean 'clof",
        ),
        (
            {"schedule": "cytarabine:100 mg/m2:CI:1-7;topotecan:1 mg/m2:IV:1-5"},
            "row 2, column schedule: there is no card of a drug 'topotecan'",
        ),
        (
            {"schedule": "clofarabine:3000 mg/m2:IV:1-5"},
            "row 2, column schedule: 3000 mg/m.2 of clofarabine is 75 times the usual dose",
        ),
        (
            {"schedule": "clofarabine:20|4000 mg/m2:IV:1-5"},
            "row 2, column schedule: 4000 mg/m.2 of clofarabine is 100 times",
        ),
        (
            {"endpoint": "anc500_recovery_day_median", "value": "-3"} | NO_COUNT,
            "row 2, column value: day -3 is outside.*0 to 84",
        ),
        (
            {"endpoint": "anc500_recovery_day_median", "value": "280"} | NO_COUNT,
            "row 2, column value: day 280 is outside of what is simulated; allowed: 0 to 84",
        ),
        (
            {"endpoint": "time_to_cr_median_d", "value": "40", "lower": "20", "upper": "300"}
            | {"limits": "range"}
            | NO_COUNT,
            "row 2, column upper: day 300 is outside",
        ),
        (
            {"endpoint": "day900_mortality"},
            "row 2, column endpoint: day900_mortality asks for day 900, and 84 days are simulated",
        ),
        (
            {"population": "nhl", "schedule": "lenalidomide:25 mg:PO:1-21"},
            "row 2, column endpoint: cr_rate is a response of leukaemia, and patients of nhl",
        ),
        (
            {"endpoint": "dlt_delayed_recovery_d120"},
            "row 2, column endpoint: dlt_delayed_recovery_d120 asks for day 120, and 84 days are",
        ),
        ({"value": "0.9", "denominator": ""}, "row 2, column value: 0.9 is not 120/200 = 0.600"),
        ({"lower": "0.5"}, "row 2, column limits: lower, upper and limits stand together"),
        ({"schedule": "cytarabine:100 mg/m2:CI12h:1-7"}, '"CI12h" lasts the day; .*"IV12h"'),
        ({"schedule": "cytarabine:20 mg:SC2h:1-7"}, '"SC2h" is no infusion; .*write "SC"'),
        ({"schedule": "cytarabine:100 units/kg:IV:1-7"}, '"100 units/kg" goes by weight'),
        ({"schedule": "clofarabine:20x3|30 mg/m2:IV1h:1-5"}, "has no patients at a level"),
        (
            {"schedule": "cytarabine:10x6|20x3 mg:SC:1-5;clofarabine:20x3|30x6 mg/m2:IV1h:1-5"},
            "its drugs have different patients at their dose levels",
        ),
        (
            {"population": "aml_first_remission"},
            "row 2, column endpoint: cr_rate is a response.*start without blasts",
        ),
    ],
)
def test_bad_row_is_refused_with_row_and_column(table_file, changes, message):
    with pytest.raises(DataError, match=message):
        load_evidence(table_file(row(**changes)))


def test_what_cannot_be_simulated_may_stay_with_a_reason(table_file):
    header = "study,population,schedule,n,endpoint,numerator,denominator,mark,unused"
    line = "A,nhl,topotecan:1 mg/m2:IV:1-5,9,cr_rate,3,9,READ,no card"
    (use,) = how_used(load_evidence(table_file(line, header=header)))
    assert (use.kind, use.why) == ("", "no card")


def test_cycles_of_a_small_dose_are_a_row(table_file):
    header = "study,population,schedule,n,endpoint,numerator,denominator,mark,cycles,cycle_days"
    line = "A,mds_low_risk,lenalidomide:2.5 mg:PO:1-21,40,g34_neutropenia,9,40,READ,4,28"
    table = load_evidence(table_file(line, header=header))
    (use,) = how_used(table)
    assert use.kind == "beta-binomial"
    (arm,) = arms_of(table).values()
    made = arm_of(arm, arm.schedule, "x")
    # it is held like other doses, and there is no lower one
    (change,) = made.schedule.regimen.courses[0].modifications
    assert change.levels_mg == ()
    assert made.schedule.horizon_days == 4 * 28


def test_a_cycle_ends_after_its_doses(table_file):
    header = "study,population,schedule,n,endpoint,numerator,denominator,mark,cycles,cycle_days"
    line = "A,mds_low_risk,lenalidomide:10 mg:PO:1-28,40,g34_neutropenia,9,40,READ,4,21"
    with pytest.raises(
        DataError, match="row 2, column cycle_days: it is 21, and the last dose is on"
    ):
        load_evidence(table_file(line, header=header))
    start = line.replace("g34_neutropenia,9,40", "g34_cytopenia_baseline,9,40")
    assert len(load_evidence(table_file(start, header=header))) == 1  # nobody has had a dose
    two = line.replace("1-28,40,g34_neutropenia,9,40", "1-21,40,anc_recovery_diff_d,2,")
    two = f"{two},lenalidomide:10 mg:PO:1-28"
    header = header.replace("numerator,denominator", "value,denominator") + ",other_schedule"
    with pytest.raises(DataError, match="cycle_days: it is 21, and the last dose is on day 28"):
        load_evidence(table_file(two, header=header))


def test_repeated_row_is_refused(table_file):
    with pytest.raises(
        DataError, match="row 3, column endpoint: A has cr_rate of this arm in row 2"
    ):
        load_evidence(table_file(GOOD, GOOD))


def test_unknown_and_missing_columns_are_refused(table_file):
    with pytest.raises(DataError, match="unknown column 'patint'"):
        load_evidence(table_file("1", header="patint"))
    with pytest.raises(DataError, match="column 'mark' is missing; add it to the header"):
        load_evidence(table_file("a,aml,none,cr_rate", header="study,population,schedule,endpoint"))
    with pytest.raises(DataError, match="it has no rows; write an outcome a row"):
        load_evidence(table_file(""))


def test_a_missing_file_is_refused_without_the_number_of_the_system(tmp_path):
    said = r"none\.csv: it cannot be read \(No such file or directory\); check the path"
    with pytest.raises(DataError, match=said):
        load_evidence(tmp_path / "none.csv")


def test_row_with_an_unquoted_comma_is_refused(table_file):
    with pytest.raises(DataError, match="row 2: 13 cells for 12 columns; put a text with commas"):
        load_evidence(table_file(GOOD + ",more"))


def test_a_quotation_that_is_not_closed_is_refused(table_file):
    """In the last column it took all rows after it into its cell."""
    with pytest.raises(DataError, match="row 2: has a quotation mark that is not closed"):
        load_evidence(table_file(GOOD.replace("READ", '"READ'), GOOD.replace("A,", "B,", 1)))


def test_one_line_adds_a_row(table_file):
    table = load_evidence(table_file())
    assert len(table) == 8
    derived = table.row("C.cr_rate")
    assert (derived.numerator, derived.denominator, derived.derived) == (11, 40, True)


@pytest.mark.parametrize(
    ("text", "drug", "levels", "unit", "times", "route", "hours", "days"),
    [
        ("a:40 mg/m2:IV1h:1-5", "a", (40,), "mg/m2", 1, "IV", 1, (1, 2, 3, 4, 5)),
        ("a:20 mg bid:SC:1,3", "a", (20,), "mg", 2, "SC", 0, (1, 3)),
        ("a:2 g/m2 q12h:IV90min:1-2", "a", (2000,), "mg/m2", 2, "IV", 1.5, (1, 2)),
        ("a b:400 ug/m2:CI:2", "a_b", (0.4,), "mg/m2", 1, "CI", 24, (2,)),
        ("a:5|10 mg flat:PO:1", "a", (5, 10), "mg", 1, "PO", 0, (1,)),
        ("A-1:100 units/m2:IV:1", "a_1", (100,), "units/m2", 1, "IV", 0, (1,)),
    ],
)
def test_schedule_forms(text, drug, levels, unit, times, route, hours, days):
    (entry,) = parse_schedule(text).drugs
    assert (entry.drug, entry.unit, entry.times_a_day, entry.route) == (drug, unit, times, route)
    assert entry.levels == pytest.approx(levels)
    assert (entry.hours, entry.days) == (hours, days)


def test_dose_levels_are_split_by_patients():
    schedule = parse_schedule("a:1x3|2x3|4x6|3x18 mg:PO:1-21;b:5 mg:PO:1")
    parts = schedule.at_levels()
    assert [share for share, _ in parts] == pytest.approx([0.1, 0.1, 0.2, 0.6])
    assert [part.drugs[0].amount for _, part in parts] == [1, 2, 4, 3]
    assert {part.drugs[1].amount for _, part in parts} == {5}


def test_patients_of_the_levels_stand_for_all_drugs():
    text = "clofarabine:20|30 mg/m2:IV1h:1-5;cytarabine:100x3|200x6 mg/m2:IV:1-5"
    shares = [share for share, _ in parse_schedule(text).at_levels()]
    assert shares == pytest.approx([1 / 3, 2 / 3])


def test_every_name_of_a_drug_is_that_of_its_card(table_file):
    schedule = "Ara-C:100 mg/m2:CI:1-7;G-CSF:300 ug:SC:8-20;CPX 351:100 units/m2:IV:1"
    rows = load_evidence(table_file(row(schedule=schedule)))
    assert rows.rows[0].drugs == {"cytarabine", "filgrastim", "cpx_351"}
    assert how_used(rows)[0].kind == "beta-binomial"


TWO_ARMS = "study,population,schedule,n,endpoint,value,lower,upper,limits,mark,other_schedule"


def two_arms(value="0.8", lower="", upper="", limits="", other="cytarabine:50 mg/m2:CI:1-7", n=40):
    first = f"A,aml,cytarabine:100 mg/m2:CI:1-7,{n},anc_recovery_time_ratio"
    return f"{first},{value},{lower},{upper},{limits},READ,{other}"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"value": ""}, "row 2, column value: it is empty"),
        ({"value": "-2"}, "row 2, column value: -2 is no ratio of days; allowed: above 0"),
        ({"lower": "0", "upper": "2", "limits": "ci95"}, "column lower: 0 is no ratio of days"),
        ({"n": ""}, "row 2, column n: the number of patients is missing; give n, or say why"),
        # an interval of no width tells no error: the row was one of a single patient
        (
            {"n": "", "lower": "0.8", "upper": "0.8", "limits": "ci95"},
            "column n: the number of patients is missing",
        ),
    ],
)
def test_a_ratio_that_cannot_be_is_refused(table_file, cells, message):
    with pytest.raises(DataError, match=message):
        load_evidence(table_file(two_arms(**cells), header=TWO_ARMS))


def test_a_tolerated_dose_needs_no_number(table_file):
    line = "A,solid,clofarabine:2 mg/m2:IV1h:1-5,6,mtd_mgm2,,,,,READ,clofarabine:4 mg/m2:IV1h:1-5"
    rows = load_evidence(table_file(line, header=TWO_ARMS))
    assert how_used(rows)[0].kind == "tolerated dose"


def test_a_ratio_with_an_interval_needs_no_number_of_patients(table_file):
    line = two_arms(lower="0.6", upper="1.1", limits="ci95", n="")
    assert len(load_evidence(table_file(line, header=TWO_ARMS))) == 1


def test_one_arm_may_be_compared_with_several(table_file):
    others = [f"cytarabine:{dose} mg/m2:CI:1-7" for dose in (50, 20, 50)]
    lines = [two_arms(other=other) for other in others]
    assert len(load_evidence(table_file(*lines[:2], header=TWO_ARMS))) == 2
    with pytest.raises(DataError, match=r"row 4, column endpoint: A has .* in row 2 too; keep one"):
        load_evidence(table_file(*lines, header=TWO_ARMS))


def test_no_two_rows_have_one_id(table_file):
    names = enumerate(("A.cr_rate.2", "", ""), 200)
    lines = [f"{name},{row(n=str(n), denominator=str(n))}" for n, name in names]
    header = f"id,{table_file().read_text().splitlines()[0]}"
    ids = [one.id for one in load_evidence(table_file(*lines, header=header))]
    assert ids == ["A.cr_rate.2", "A.cr_rate", "A.cr_rate.3"]


def test_drugs_of_all_courses_are_asked(table_file):
    second = "daunorubicin:50 mg/m2:IV:1-3"
    table = load_evidence(table_file(two_courses(second), header=TWO_COURSES))
    (use,) = how_used(table, Switches(drugs=frozenset({"cytarabine"})))
    assert (use.kind, use.why) == ("", "daunorubicin: not simulated in this marrow")


TWO_COURSES = (
    "study,population,schedule,n,endpoint,numerator,denominator,mark,reinduction,reinduction_day,"
    "cycles"
)


def two_courses(reinduction="cytarabine:100 mg/m2:CI:1-5", day="", cycles=""):
    first = "A,aml,cytarabine:100 mg/m2:CI:1-7,200,cr_rate,120,200,READ"
    return f"{first},{reinduction},{day},{cycles}"


def test_arm_with_a_second_course_is_an_arm_of_its_own(table_file):
    file = table_file(two_courses(""), two_courses(), two_courses(day="36"), header=TWO_COURSES)
    rows = load_evidence(file).rows
    assert [row.reinduction is None for row in rows] == [True, False, False]
    assert [row.reinduction_day for row in rows] == [29, 29, 36]
    assert len({row.arm for row in rows}) == 3


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"reinduction": "", "day": "30"}, "column reinduction_day: no reinduction is given"),
        ({"day": "0"}, "column reinduction_day: day 0 is not after the last dose on day 7"),
        ({"day": "7"}, "column reinduction_day: day 7 is not after the last dose on day 7"),
        ({"cycles": "4"}, "column reinduction: the row has 4 cycles"),
        ({"reinduction": "cytarabine:1|2 mg/m2:CI:1-5"}, "reinduction: it has several dose levels"),
        ({"reinduction": "cytarabine"}, 'row 2, column reinduction: schedule "cytarabine'),
    ],
)
def test_bad_second_course_is_refused(table_file, cells, message):
    with pytest.raises(DataError, match=message):
        load_evidence(table_file(two_courses(**cells), header=TWO_COURSES))


def test_day_of_response_is_a_median_or_a_mean(table_file):
    names = ("time_to_crcri_median_d", "time_to_crcri_mean_d")
    rows = [row(endpoint=name, value="35", numerator="", denominator="") for name in names]
    uses = how_used(load_evidence(table_file(*rows)))
    assert [use.kind for use in uses] == ["median", "mean"]
    seen = [use.row.endpoint.alternatives[0].observable for use in uses]
    assert seen[0] == seen[1]


PATIENTS = "study,population,schedule,endpoint,value,n,mark,age_median,line,creatinine_limit"


def patients_row(age="67", line="untreated", creatinine="serum creatinine <= 1.0 mg/dL"):
    return f"A,aml,cytarabine:100 mg/m2:CI:1-7,cr_rate,0.6,200,READ,{age},{line},{creatinine}"


def test_age_line_of_treatment_and_creatinine_limit_are_read(table_file):
    (row,) = load_evidence(table_file(patients_row(), header=PATIENTS))
    assert (row.age_median, row.treatment_line) == (67.0, "untreated")
    assert row.creatinine_limit == "serum creatinine <= 1.0 mg/dL"
    (row,) = load_evidence(table_file(patients_row("", "", ""), header=PATIENTS))
    assert (row.age_median, row.treatment_line, row.creatinine_limit) == (None, "", "")
    assert row.line == 2


def test_patients_of_two_lines_of_treatment_are_two_rows(table_file):
    first, later = "first relapse", "later relapse or refractory"
    file = table_file(patients_row(line=first), patients_row(line=later), header=PATIENTS)
    assert [row.treatment_line for row in load_evidence(file)] == [first, later]
    with pytest.raises(DataError, match="A has cr_rate of this arm in row 2 too"):
        load_evidence(
            table_file(patients_row(line=first), patients_row(line=first), header=PATIENTS)
        )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            {"line": "relapse"},
            "column line: 'relapse' is not allowed.*first relapse.*[^, ]\\.$",
        ),
        ({"age": "670"}, "row 2, column age_median: 670 is no age; allowed: above 0 to 110 years"),
        ({"age": "old"}, "row 2, column age_median: 'old' is no number"),
    ],
)
def test_bad_age_or_line_is_refused(table_file, cells, message):
    with pytest.raises(DataError, match=message):
        load_evidence(table_file(patients_row(**cells), header=PATIENTS))


def test_own_table_is_whole_and_every_row_has_a_use_or_a_reason():
    table = load_evidence()
    assert len(table) == 331
    uses = how_used(table)
    assert [use.row.line for use in uses] == list(range(2, 333))
    assert all(bool(use.kind) != (use.power == 0.0) for use in uses)
    assert all(use.why for use in uses if not use.kind)
    kinds = Counter(use.kind for use in uses if use.kind)
    assert sum(kinds.values()) > 180
    assert {"beta-binomial", "Dirichlet-multinomial", "median and range", "median"} <= set(kinds)
    assert {"tolerated dose", "ratio", "difference", "mean and range"} <= set(kinds)
    assert len(use_table(uses).splitlines()) == 332


def test_sources_are_weighed_by_switches():
    table = load_evidence()
    without = {row.id for term in terms_of(table) for row in term.rows}
    with_memory = {row.id for term in terms_of(table, Switches(memory=0.3)) for row in term.rows}
    added = [table.row(name) for name in with_memory - without]
    assert added
    assert {row.mark for row in added} == {"MEMORY"}
    powers = {row.via: term.power for term in terms_of(table) for row in term.rows}
    assert powers["mirror"] <= 0.5
    strict = terms_of(table, Switches(mirror=0.0))
    assert all(row.via == "direct" for term in strict for row in term.rows)


def test_response_and_death_of_the_same_patients_are_one_multinomial():
    terms = {t.rows[0].study: t for t in terms_of(load_evidence()) if len(t.rows) > 1}
    burnett = terms["BURNETT2010"]
    assert burnett.kind == "Dirichlet-multinomial"
    assert {row.endpoint.name for row in burnett.rows} == {"cr_rate", "cri_rate", "day30_mortality"}
    assert sum(row.numerator or 0 for row in burnett.rows) == 70


def test_readings_are_shared_within_a_study():
    families = [
        t.family for t in terms_of(load_evidence()) if t.study == "DEANGELO2018" and t.family
    ]
    assert len(families) == 6
    assert len(set(families)) == 1


def test_thresholds_and_patients_of_a_delay_stand_in_its_name():
    (stated,) = endpoint_of("dlt_delayed_recovery_d42_anc500_plt50_cleared").alternatives
    assert stated.probability == 1.0
    what = stated.observable
    assert (what.day, what.thresholds, what.among) == (42.0, (0.5, 50.0), "cleared")
    unknown = endpoint_of("dlt_delayed_recovery_cleared").alternatives
    assert len(unknown) == 4
    assert {one.observable.among for one in unknown} == {"cleared"}
    assert {a.observable.among for a in endpoint_of("dlt_delayed_recovery_d42").alternatives} == {
        "all"
    }
