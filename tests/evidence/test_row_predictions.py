"""Rows predicted by the likelihood's own replicates."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from pkpd.errors import PkpdWarning
from pkpd.evidence import EvidenceLikelihood, load_evidence
from pkpd.evidence.criticism.row_predictions import predict_table, predicted_logits
from pkpd.evidence.likelihood.density import logits_and_days
from pkpd.evidence.likelihood.summaries import Summaries
from pkpd.evidence.table.arms import SimulatedArm

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


def rare(risk):
    """A simulator of 64 patients who respond with a risk."""

    def of_seed(seed):
        rng = np.random.default_rng([9, seed])

        def simulate(theta):
            one = SimulatedArm(np.ones(64), lambda what: (rng.random(64) < risk).astype(float))
            return dict.fromkeys(theta["arms"], one)

        return simulate

    return of_seed


@pytest.mark.parametrize("risk", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_rare_risks_are_predicted_as_they_are(table_file, risk):
    """Half a patient on either side of each draw: .020 of 64 patients came out as .027."""
    plan = EvidenceLikelihood(
        load_evidence(
            table_file("B,aml_rr,clofarabine:40 mg/m2:IV1h:1-5,62,cr_rate,,,,,30,62,READ")
        )
    )
    theta = {**NO_SPREAD, "arms": tuple(plan.arms)}
    found = predict_table(plan, rare(risk), [theta] * 400, repeats=2)
    shares = [rare(risk)(1 + i)(theta)[next(iter(plan.arms))].observe(None) for i in range(400)]
    mean = float(np.mean(shares))
    assert mean == pytest.approx(risk, abs=0.01)
    # 1e-6 is the least risk that rows are drawn with; chances have a spread of 0.003 at most
    assert found.chances["B.cr_rate"].mean() == pytest.approx(mean, abs=5e-4)
    assert np.isfinite(found.values["B.cr_rate"]).all()


def test_a_share_that_no_patient_tells_is_a_half():
    """Of those without a response where all respond: the likelihood has a half, too."""
    days = np.array([[3.0, 0.2, 0.3, 3.1]])
    none = Summaries(np.array([0.5, 0.0]), np.array([0.0, 10.0]), days, np.array([64.0]))
    some = Summaries(np.array([0.5, 0.2]), np.array([0.0, 10.0]), days, np.array([64.0]))
    (first, own), (second, _) = predicted_logits([none, some])
    assert expit(first) == pytest.approx([0.5, (2.5 / 21) / 11])
    assert expit(second) == pytest.approx([0.5, (2.0 + 2.5 / 21) / 11])
    np.testing.assert_array_equal(own, logits_and_days(none)[1])
