"""Rows predicted by the likelihood's own replicates."""

from dataclasses import replace

import numpy as np
import pytest

from pkpd.errors import PkpdWarning
from pkpd.evidence import EvidenceLikelihood, load_evidence
from pkpd.evidence.criticism.row_predictions import predict_table

NO_SPREAD = {
    **{f"between.{c}": 0.0 for c in ("response", "death", "days", "low", "start")},
    "discrepancy": 0.0,
    "discrepancy.days": 0.0,
}


def test_rows_are_predicted_as_their_arms_are(table_file, stand_in, truth):
    plan = EvidenceLikelihood(load_evidence(table_file()))
    theta = {**truth, **NO_SPREAD}
    seen = stand_in(plan.arms, n=8192)(truth)
    done = []
    found = predict_table(
        plan, lambda seed: stand_in(plan.arms, n=2048, seed=seed), [theta] * 12, repeats=40,
        on_draw=done.append,
    )  # fmt: skip
    assert done == list(range(1, 13))
    for name, row in found.rows.items():
        what = row.endpoint.alternatives[0].observable
        if len(row.endpoint.alternatives) > 1:
            continue
        x = seen[row.arm].observe(what)
        values = found.values[name]
        if row.endpoint.kind == "count" and what.kind == "response":
            assert values.mean() == pytest.approx(x.mean(), abs=0.02)
            n = row.denominator
            assert values.std() == pytest.approx(np.sqrt(x.mean() * (1 - x.mean()) / n), rel=0.15)
            assert found.chances[name].mean() == pytest.approx(x.mean(), abs=0.02)
        elif row.endpoint.kind == "quantiles":
            assert np.median(values) == pytest.approx(np.median(x[np.isfinite(x)]), abs=1.0)
    wide = predict_table(
        plan, lambda seed: stand_in(plan.arms, n=2048, seed=seed),
        [{**theta, "between.response": 0.8}] * 12, repeats=40,
    )  # fmt: skip
    response = "B.cr_rate"
    assert wide.values[response].std() > 1.4 * found.values[response].std()
    checks = {one.row.id: one for one in wide.checks()}
    assert set(checks) == set(wide.rows)
    assert checks[response].lower < checks[response].observed < checks[response].upper
    # a row of which no draw gives a number is named
    never = replace(wide, values={**wide.values, response: np.full(480, np.nan)})
    with pytest.warns(PkpdWarning, match="rows B.cr_rate: no draw gives a number"):
        assert len(never.checks()) == len(checks) - 1
