"""The table to learn from: what is joined, replaced, and by whom a row is simulated."""

from collections import Counter
from dataclasses import replace

import pytest

from pkpd.errors import CardError, DataError
from pkpd.evidence import load_evidence, load_learning_table, marrow_prior, refined
from pkpd.evidence.likelihood.simulator import arm_of
from pkpd.evidence.likelihood.use import (
    Switches,
    every_drug,
    how_used,
    terms_of,
)
from pkpd.evidence.table.arms import arms_of
from pkpd.evidence.table.can_be_simulated import horizon_of
from pkpd.evidence.table.learning import joined
from pkpd.evidence.table.populations import evidence_folder, load_populations, read_populations

RECOVERY = {"recovery_day", "delayed", "low_days", "low_run", "response_day"}


@pytest.fixture(scope="module")
def table():
    return load_learning_table()


@pytest.fixture(scope="module")
def used(table):
    return [use.row for use in how_used(table) if use.kind]


def evidence_file(name):
    return evidence_folder() / name


def test_it_is_both_tables_less_what_is_replaced(table):
    first = load_evidence()
    second = load_evidence(evidence_file("new_outcomes.csv"))
    replaced = [name for row in second for name in row.replaces]
    assert sorted(replaced) == [
        "AML16.cr_cri_rate",
        "CLASSIC1.cr_rate",
        "CLASSIC1.cr_rate.2",
        "DEANGELO2018.cr_rate",
        "FADERL2012.cr_rate",
    ]
    assert len(table) == len(first) + len(second) - len(replaced) == 493
    assert set(table.studies) == set(first.studies) | set(second.studies)
    ids = [row.id for row in table]
    assert len(ids) == len(set(ids))
    kept = {row.id for row in first} - set(replaced)
    assert kept <= set(ids)
    assert not {row.id for row in second if row.id in kept} & set(replaced)


def test_what_is_used_of_it(table, used):
    terms = terms_of(table)
    assert len(used) == 377
    assert len({row.study for row in used}) == len({term.study for term in terms}) == 164
    assert len(terms) == 314
    about = [r for r in used if {a.observable.kind for a in r.endpoint.alternatives} & RECOVERY]
    given = [r for r in about if r.schedule.names & {"clofarabine", "lenalidomide"}]
    assert len(about) >= 60
    assert len(given) >= 20


def test_no_patient_of_len_mec_is_counted_twice(table):
    rows = [r for r in table if r.study == "DEANGELO2018" and r.endpoint.name == "cr_rate"]
    assert [(r.numerator, r.denominator) for r in rows] == [(7, 17), (5, 18)]
    assert rows[1].schedule.drugs[0].shares == pytest.approx((9 / 18, 6 / 18, 3 / 18))
    assert "7 of 17" in rows[1].assumed


def test_rows_are_simulated_by_line_and_age(table):
    by_line = {r.treatment_line: r.population.disease for r in table if r.study == "CLASSIC1"}
    assert by_line["late relapse"] == "aml_relapse_late"
    assert by_line["refractory or early relapse"] == "aml_relapse_early"
    assert by_line["relapsed or refractory"] == "aml_relapsed"
    # the printed age is that of the arm, which is another one than at another age
    row = next(r for r in table if r.study == "KOREA_CI_FLAGIDA2007")
    assert (row.population.age, row.arm.split()[0]) == (40.0, "aml_relapse_early")
    assert " of 40 y " in row.arm
    arm = arms_of([row])[row.arm]
    made = arm_of(arm, arm.schedule, "x")
    assert (made.age, made.disease) == (40.0, "aml_relapse_early")
    other = refined(replace(table, rows=(replace(row, age_median=61.4),))).rows[0]
    assert other.population.age == 61.0
    assert other.arm != row.arm
    # CLASSIC1 prints its age once; its other rows are of the same patients
    ages = {r.population.age for r in table if r.study == "CLASSIC1"}
    assert ages == {67.0}
    # without any, that of the population, and the key it had
    plain = next(r for r in load_evidence() if r.study == "FORAN2003")
    mute = replace(plain, age_median=None, patients="adults")
    bare = refined(replace(table, rows=(mute,))).rows[0]
    assert (bare.arm, bare.population.age) == (plain.arm, plain.population.age)


def test_a_limit_of_entry_stays_with_its_rows(table):
    for row in table:
        if row.study == "MDS003":
            assert row.population.least_platelets == 50.0


def test_tests_are_refined_alike():
    for name in ("later_outcomes.csv", "unseen_outcomes.csv"):
        rows = load_evidence(evidence_file(name))
        finer = refined(rows)
        assert [r.id for r in finer] == [r.id for r in rows]
        told = [r for r in finer if r.age_median is not None]
        assert all(abs(r.population.age - r.age_median) <= 0.5 for r in told)
    diseases = {r.population.disease for r in refined(load_evidence(evidence_file(name)))}
    assert "aml_refractory" in diseases


def test_a_row_that_replaces_nothing_is_refused(table_file):
    header = "study,population,schedule,n,endpoint,numerator,denominator,mark,replaces"
    line = "A,aml,cytarabine:100 mg/m2:CI:1-7,9,cr_rate,3,9,READ,AML16.cr_rat"
    path = table_file(line, header=header)
    with pytest.raises(DataError, match=r"column replaces: there is no row 'AML16\.cr_rat'"):
        joined(load_evidence(), load_evidence(path))


def test_every_drug_is_usable_and_rows_inform_what_is_learned(table, used):
    assert every_drug() == Switches().drugs
    given = Counter(drug for row in used for drug in row.schedule.names)
    learned = {n.partition(".")[2] for n in marrow_prior().names if n.startswith("intensity.")}
    assert all(given[drug] for drug in learned)
    # without the drugs that have few rows of their own, their rows are told and left out
    rare = {"azacitidine", "venetoclax", "cpx_351"}
    switches = Switches(drugs=every_drug() - rare)
    fewer = [use for use in how_used(table, switches) if not use.kind and use.row in used]
    assert fewer
    assert all(use.row.schedule.names & rare and "not simulated" in use.why for use in fewer)


def test_lines_of_populations_are_checked(tmp_path):
    text = evidence_file("populations.toml").read_text(encoding="utf-8")
    bad = tmp_path / "populations.toml"
    bad.write_text(text.replace('refractory = "aml_refractory"', 'refractory = "aml_refractry"'))
    with pytest.raises(CardError, match=r"'aml_refractry'.*did you mean 'aml_refractory'"):
        read_populations(bad)
    bad.write_text(text.replace('{ "first relapse" =', '{ "first relaps" ='))
    with pytest.raises(CardError, match=r"no line of treatment.*did you mean 'first relapse'"):
        read_populations(bad)
    for population in load_populations().values():
        assert not population.aged
        assert population.key == population.name


def test_days_that_rows_may_ask_for_are_those_simulated(used):
    for row in used:
        arm = arms_of([row])[row.arm]
        level = arm.schedule.at_levels()[0][1]
        if not row.endpoint.at_start:
            assert arm_of(arm, level, "x").schedule.horizon_days == horizon_of(row)
