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


@pytest.mark.slow
def test_own_table_is_predicted_whole():
    terms = terms_of(load_learning_table())
    rows = [row for term in terms for row in term.rows if row.other_schedule is None]
    said = regressions(rows, terms)
    assert len(said) == len(rows)
    assert all(np.isfinite(one.log_score) for one in said.values())
    counts = [row for row in rows if row.endpoint.kind == "count"]
    assert all(((said[r.id].values >= 0) & (said[r.id].values <= 1)).all() for r in counts)
