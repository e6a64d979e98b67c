"""A trial's patients deviate so that its outcomes do as those of studies."""

import numpy as np
import pytest

from pkpd.evidence import load_learning_table
from pkpd.evidence.criticism.trial_predictions import NewStudy, new_study
from pkpd.evidence.likelihood.deviations import DEVIATIONS, draw_deviation
from pkpd.evidence.likelihood.simulator import arm_of, observe
from pkpd.evidence.table.arms import arms_of
from pkpd.leukaemia.parameters import default_theta
from pkpd.marrow.variants import FULL

SPREADS = {"between.response": 0.5, "between.death": 0.4, "between.days": 0.1, "between.low": 0.6}


def outcome(row, score, shift):
    """Logit of a share or log of a median day, where a score of all patients is moved."""
    arm = arms_of([row])[row.arm]
    _, schedule = arm.schedule.at_levels()[0]
    made = arm_of(arm, schedule, "moved")
    study = NewStudy("moved", (default_theta(),), ({score: shift},), 1024, 1, FULL, threads=1)
    values = observe(study.arm(made).outcomes(0), row.endpoint.alternatives[0].observable)
    values = values[np.isfinite(values)]
    if row.endpoint.kind != "count":
        return float(np.log(np.median(values)))
    share = (values.sum() + 0.5) / (values.size + 1)
    return float(np.log(share / (1.0 - share)))


def first_row(endpoints, drug=""):
    rows = [r for r in load_learning_table() if r.endpoint.name in endpoints and not r.unused]
    return next(r for r in rows if drug in r.simulated.names or not drug)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("score", "row"),
    [
        ("kill_blasts", (("cr_rate",), "daunorubicin")),
        ("frailty", (("day30_mortality",), "daunorubicin")),
        ("rho", (("anc500_recovery_day_median",), "cytarabine")),
        ("stem", (("g34_neutropenia",), "lenalidomide")),
    ],
)
def test_outcomes_move_as_the_slopes_say(score, row):
    known = next(one for one in DEVIATIONS if one.score == score)
    found = first_row(*row)
    moved = abs(outcome(found, score, 0.5) - outcome(found, score, -0.5))
    assert moved == pytest.approx(known.slope, rel=0.4)


def test_shifts_have_the_spread_between_studies():
    theta = {**default_theta(), **SPREADS}
    rng = np.random.default_rng(1)
    drawn = [draw_deviation(theta, rng) for _ in range(4000)]
    for one in DEVIATIONS:
        offsets = one.slope * np.array([d[one.score] for d in drawn])
        assert offsets.std() == pytest.approx(SPREADS[one.between], rel=0.05)
        assert offsets.mean() == pytest.approx(0.0, abs=0.05)


def test_new_trial_deviates_by_offsets_where_its_draws_have_them():
    with_offsets = new_study("A", [SPREADS] * 3, patients=8, variant=FULL)
    assert set(with_offsets.deviations[0]) == {one.score for one in DEVIATIONS}
    assert with_offsets.deviations[0] != with_offsets.deviations[1]
    again = new_study("A", [SPREADS] * 3, patients=8, variant=FULL)
    assert again.deviations == with_offsets.deviations
