"""The dose regression that predictions must beat."""

import numpy as np
import pytest

from pkpd.evidence.criticism.baselines import (
    cumulative_doses,
    fit_doses,
    left_out_scores,
    log_score,
    score_table,
)
from pkpd.evidence.criticism.refit import folds_of
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
    schedule = parse_schedule("a:40 mg/m2:IV:1-5;a:10 mg/m2:IV:8;b:18 mg bid:PO:1-2")
    assert cumulative_doses(schedule, 2) == pytest.approx({"a": 420.0, "b": 80.0})


def test_slope_of_the_dose_is_found_and_predicts(table_file):
    terms = terms_of(rising(table_file))
    model = fit_doses(terms)
    slope = model.mode[model.columns.index("response CR|cytarabine")]
    assert slope > 0.3
    rng = np.random.default_rng(0)
    low, high = (1 / (1 + np.exp(-model.linear(terms[i].rows[0], rng).mean())) for i in (0, 3))
    assert low < 0.35
    assert high > 0.45


def test_scores_are_probabilities_of_counts(table_file):
    terms = terms_of(rising(table_file))
    model = fit_doses(terms[:6])
    from dataclasses import replace

    total = 0.0
    term = terms[7]
    for k in range(81):
        row = replace(term.rows[0], numerator=k, value=k / 80)
        total += np.exp(log_score(model, replace(term, rows=(row,))))
    assert total == pytest.approx(1.0, abs=1e-6)


def test_own_table_is_scored_whole():
    terms = terms_of(load_evidence())
    studies = list(dict.fromkeys(term.study for term in terms))
    scores = left_out_scores(terms, folds_of(studies, 5))
    usable = [t for t in terms if t.kind not in ("tolerated dose", "ratio", "difference")]
    assert len(scores) == len(usable)
    assert all(np.isfinite(value) for value in scores.values())
    kinds = {"+".join(row.id for row in term.rows): term.kind for term in terms}
    better = {name: value + 0.5 for name, value in scores.items()}
    table = score_table(better, {"dose regression": scores}, kinds)
    last = table.splitlines()[-1].split()
    assert last[0] == "all"
    assert float(last[2]) == pytest.approx(float(last[3]) + 0.5 * len(scores), abs=0.11)
