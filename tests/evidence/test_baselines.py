"""The dose regression that predictions must beat."""

import numpy as np
import pytest
from judging.baselines import cumulative_doses, fit_doses
from judging.scorecard import regressions

from pkpd.evidence import load_learning_table
from pkpd.evidence.likelihood.use import terms_of
from pkpd.evidence.table.schedule import parse_schedule
from pkpd.evidence.table.table import load_evidence


def rising(table_file):
    """Twelve studies whose remission rate rises with the dose of one drug."""
    rows = [
        f"S{i},aml,cytarabine:{100 * (1 + i % 4)} mg/m2:IV:1-5,80,cr_rate,,,,,{10 + 15 * (i % 4)},"
        "80,READ"
        for i in range(12)
    ]
    return load_evidence(table_file(*rows))


def test_cumulative_dose_counts_days_cycles_and_size():
    schedule = parse_schedule(
        "a:40 mg/m2:IV:1-5;a:10 mg/m2:IV:8;b:18 mg bid:PO:1-2;c:5 ug/kg:SC:1-4"
    )
    # an adult of 1.8 m2 and 75 kg: 5 ug/kg is 0.375 mg
    per_kg = 0.375 / 1.8 * 4 * 2
    assert cumulative_doses(schedule, 2) == pytest.approx({"a": 420.0, "b": 80.0, "c": per_kg})


def test_slope_of_the_dose_is_found_and_predicts(table_file):
    terms = terms_of(rising(table_file))
    model = fit_doses(terms)
    slope = model.mode[model.columns.index("response CR|cytarabine")]
    assert slope > 0.3
    rng = np.random.default_rng(0)
    low, high = (1 / (1 + np.exp(-model.linear(terms[i].rows[0], rng).mean())) for i in (0, 3))
    assert low < 0.35
    assert high > 0.45


def test_what_no_row_has_told_keeps_its_prior(table_file):
    """Low runs began at 73 %, and a group without rows was known to be 50 % or day 1."""
    model = fit_doses(terms_of(rising(table_file)))
    new = "clofarabine:30 mg/m2:IV1h:1-5"
    other = load_evidence(
        table_file(
            f"X,solid,{new},20,dlt_low_counts,,,,,1,20,READ",
            f"X,aml,{new},20,anc500_recovery_day_median,28,,,,,,READ",
            "X,aml,none,20,baseline_plt_median,60,,,,,,READ",
        )
    )
    low, day, start = (model.linear(row, np.random.default_rng(0)) for row in other)
    # intercept, disease, slope times log(2), study; 400 draws tell an SD within 4 %
    assert low.mean() == pytest.approx(0.0, abs=0.3)
    assert low.std() == pytest.approx(np.sqrt(1.5**2 + 0.7**2 * 1.48 + 0.5**2), rel=0.12)
    assert day.mean() == pytest.approx(np.log(24.5), abs=0.3)
    assert day.std() == pytest.approx(np.sqrt(1.5**2 + 0.25**2 * 1.48 + 0.2**2), rel=0.12)
    assert start.mean() == pytest.approx(np.log(50.0), abs=0.3)


def test_days_have_priors_of_days(table_file):
    """Studies deviated by 0.5 in the log of days as in logits: day 26 in 20 studies was 9 to 73."""
    rows = [
        f"S{i},aml,cytarabine:100 mg/m2:CI:1-7,60,anc500_recovery_day_median,{25 + i % 3},,,,,,READ"
        for i in range(20)
    ]
    terms = terms_of(load_evidence(table_file(*rows)))
    drawn = fit_doses(terms).linear(terms[0].rows[0], np.random.default_rng(0))
    assert np.exp(drawn.mean()) == pytest.approx(26.0, abs=1.0)
    assert 0.18 < drawn.std() < 0.25


@pytest.mark.slow
def test_own_table_is_predicted_whole():
    terms = terms_of(load_learning_table())
    rows = [row for term in terms for row in term.rows if row.other_schedule is None]
    said = regressions(rows, terms)
    assert len(said) == len(rows)
    assert all(np.isfinite(one.log_score) for one in said.values())
    counts = [row for row in rows if row.endpoint.kind == "count"]
    assert all(((said[r.id].values >= 0) & (said[r.id].values <= 1)).all() for r in counts)
