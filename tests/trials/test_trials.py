"""Trial types, and the five trials against registry facts and an independent compilation."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import beta

from pkpd.cards import card_names, load_trial
from pkpd.errors import PkpdError
from pkpd.schedule import Criterion, administrations
from pkpd.trials import DLTRule, GradeScale, PublishedOutcome

A = "nct01629082_clofarabine_lenalidomide"
B = "nct01681537_len_mec"
C = "nct00983528_alemtuzumab_clofarabine"
D = "nct01116193_lenalidomide_dexamethasone"
E = "nct01673308_lenalidomide_mds"


def doses(trial, cohort, drug, horizon=1000):
    given = administrations(trial.cohort(cohort).regimen, horizon)
    return [(a.day, a.amount, a.unit) for a in given if a.drug == drug]


def test_the_five_trials_are_there():
    assert set(card_names("trials")) >= {A, B, C, D, E}


def test_clofarabine_then_lenalidomide_follows_the_registry():
    trial = load_trial(A)
    assert [cohort.level for cohort in trial.cohorts] == [1, 2, 3, 4]
    for cohort in trial.cohorts:
        assert doses(trial, cohort.id, "clofarabine") == [
            (day, 5.0, "mg/m^2") for day in range(1, 6)
        ]
    first = doses(trial, "cohort 1", "lenalidomide", 56)
    assert first == [(day, 25.0, "mg") for day in range(29, 50)]  # 25 mg, 21 of 28 days, once
    last = doses(trial, "cohort 4", "lenalidomide", 84)
    assert last == [(day, 50.0, "mg") for day in range(29, 85)]  # 50 mg, 28 of 28 days, twice
    maintenance = [d for d in doses(trial, "cohort 4", "lenalidomide") if d[1] == 10.0]
    assert len(maintenance) == 12 * 28
    assert maintenance[0][0] == 85
    assert trial.cohorts[0].clocks == ("consolidation", "first_dose")
    assert not trial.rule_is_protocols


def test_len_mec_follows_the_paper():
    trial = load_trial(B)
    expected = {
        "14d-10": (10, 14, 6, 2),
        "14d-5": (5, 14, 3, 0),
        "10d-5": (5, 10, 3, 0),
        "10d-10": (10, 10, 3, 0),
        "10d-25": (25, 10, 3, 0),
        "10d-50": (50, 10, 7, 1),
    }
    for cohort in trial.cohorts:  # fmt: skip
        amount, days, n, dlt = expected[cohort.id]
        assert doses(trial, cohort.id, "lenalidomide") == [
            (day, amount, "mg") for day in range(1, days + 1)
        ]
        for drug in ("mitoxantrone", "etoposide", "cytarabine"):
            assert [d[0] for d in doses(trial, cohort.id, drug)] == [4, 5, 6, 7, 8]
        (outcome,) = (p for p in cohort.published if p.endpoint == "dlt_delayed_recovery")
        assert (cohort.n, outcome.denominator, outcome.numerator) == (n, n, dlt)
    assert set(expected) == {cohort.id for cohort in trial.cohorts}
    assert sum(cohort.n for cohort in trial.cohorts) + 10 == 35  # with the expansion


def test_alemtuzumab_is_stepped_up_to_12_doses():
    trial = load_trial(C)
    for cohort, amount in (("clofarabine-20", 20.0), ("clofarabine-10", 10.0)):
        alemtuzumab = doses(trial, cohort, "alemtuzumab")
        assert Counter(d[1] for d in alemtuzumab) == {3.0: 1, 10.0: 1, 30.0: 10}
        clofarabine = doses(trial, cohort, "clofarabine")
        assert [d[1] for d in clofarabine] == [amount] * 5
        # the antibody reaches 30 mg before clofarabine starts
        assert min(d[0] for d in alemtuzumab if d[1] == 30.0) < clofarabine[0][0]


@pytest.mark.parametrize(("name", "amount"), [(D, 25.0), (E, 10.0)])
def test_lenalidomide_on_21_of_28_days(name, amount):
    trial = load_trial(name)
    given = doses(trial, "all", "lenalidomide", 56)
    assert given == [(day, amount, "mg") for day in (*range(1, 22), *range(29, 50))]
    assert not trial.rule_is_protocols
    assert trial.grades == "ctcae_v5"


def test_dexamethasone_is_weekly():
    given = doses(load_trial(D), "all", "dexamethasone", 28)
    assert given == [(day, 40.0, "mg") for day in (1, 8, 15, 22)]


def test_printed_confidence_limits_are_clopper_pearson():
    for cohort in load_trial(B).cohorts:
        for row in cohort.published:
            if row.endpoint != "dlt_delayed_recovery":
                continue
            k, n = row.numerator, row.denominator
            low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
            assert row.lower == pytest.approx(low, abs=0.001)  # printed to 3 decimals
            assert row.upper == pytest.approx(beta.ppf(0.975, k + 1, n - k), abs=0.001)


def test_published_outcomes_against_the_compiled_table():
    beside = Path(__file__).parents[3] / "shared"
    table = Path(os.environ.get("PKPD_REFERENCE", beside)) / "trial_level.csv"
    if not table.is_file():
        pytest.skip("no reference folder")
    cards = {load_trial(name).id[:11].upper(): load_trial(name) for name in (A, B, C, D, E)}
    checked = 0
    with table.open(newline="") as lines:
        for row in csv.DictReader(lines):
            trial = cards.get(row["nct_or_ref"].split(";")[0].strip())
            if trial is None:
                continue
            outcomes = [*trial.published, *(p for c in trial.cohorts for p in c.published)]
            k, n = (int(row[key]) if row[key] else None for key in ("numerator", "denominator"))
            match = [
                p
                for p in outcomes
                if p.endpoint == row["endpoint"]
                and (k is None or (p.numerator, p.denominator) == (k, n))
            ]
            assert match, row
            if k is None:
                assert match[0].value == float(row["value"])
            checked += 1
    assert checked == 13


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"criteria": ()}, "names no count"),
        ({"by_day": None}, "by_day is None"),
        ({"by_day": 0}, "by_day is 0"),
        ({"join": "either"}, "join is 'either'.*any, all"),
        ({"kind": "late"}, "kind is 'late'"),
        ({"criteria": (Criterion("platelets", 20), Criterion("platelets", 50))}, "two thresholds"),
        ({"duration_days": (5.0,)}, "remove duration_days"),
        ({"kind": "low_count_duration"}, "0 values of duration_days for 1 counts"),
        ({"kind": "low_count_duration", "duration_days": (-1.0,)}, "numbers of 0 or more"),
        ({"kind": "not_recovered_from_nadir"}, "0 values of nadir_below"),
        ({"kind": "low_count_or_transfusion", "duration_days": (0.0,)}, "0 transfusion days"),
        ({"kind": "not_count_based"}, "it has counts but"),
        ({"consecutive_visits": 0}, "consecutive_visits"),
        ({"sustained_days": -1.0}, "sustained_days is -1"),
        ({"status": "memory"}, "status is 'memory'"),
    ],
)  # fmt: skip
def test_rules_that_are_refused(values, part):
    good = {"name": "mine", "criteria": (Criterion("platelets", 20.0),), "by_day": 42}
    DLTRule(**good)
    with pytest.raises(PkpdError, match=part):
        DLTRule(**{**good, **values})


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"value": None}, "neither value nor numerator"),
        ({"numerator": 3}, "3 of None patients"),
        ({"numerator": 3, "denominator": 2}, "3 of 2 patients"),
        ({"numerator": 1, "denominator": 3}, r"the value 0.5 is not 1/3 = 0.333"),
        ({"lower": 0.6, "upper": 0.4}, "the range 0.6 to 0.4"),
        ({"status": "seen"}, "status is 'seen'"),
    ],
)
def test_outcomes_that_are_refused(values, part):
    with pytest.raises(PkpdError, match=part):
        PublishedOutcome(**{"endpoint": "dlt", "value": 0.5, **values})


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"line": "wbc"}, "line is 'wbc'"),
        ({"below": (2.0, 1.5, 1.0, 0.0)}, "grade 4 below 0"),
        ({"below": (2.0, 1.5, 1.5, 0.5)}, "limits that decrease"),
        ({"relative": True}, "use fractions"),
    ],
)
def test_grade_scales_that_are_refused(values, part):
    with pytest.raises(PkpdError, match=part):
        GradeScale(**{"line": "neutrophils", "below": (2.0, 1.5, 1.0, 0.5), **values})


def test_parts_of_a_trial_are_found_by_name():
    trial = load_trial(B)
    assert trial.drugs == ("lenalidomide", "mitoxantrone", "etoposide", "cytarabine")
    with pytest.raises(PkpdError, match=r"no cohort '10d-500'; allowed: 14d-10"):
        trial.cohort("10d-500")
