"""When a course begins behind a gate: one simulation against one for each gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.cards import load_trial
from pkpd.comparison.course_start import LINES, gated, starts
from pkpd.evidence.criticism.trial_predictions import NewStudy, new_study
from pkpd.leukaemia.trial_arms import arms_of_trial

FIRST, WAIT = 29, 28
GATES = {"none": None, "low": (0.5, 20.0), "high": (1.0, 100.0)}


@pytest.fixture(scope="module")
def arm():
    """Clofarabine on days 1-5, lenalidomide from day 29, simulated as long as it may wait."""
    made = arms_of_trial(load_trial("nct01629082_clofarabine_lenalidomide"))["cohort 2"]
    return replace(made, schedule=replace(made.schedule, horizon_days=FIRST + WAIT + 1))


@pytest.fixture(scope="module")
def study(posterior):
    return new_study(
        "test", list(posterior.draws(4, seed=2)), patients=60, threads=1, variant=posterior.variant
    )


def seen_by_itself(study, arm, gate):
    """The course behind one gate, simulated: its days and the counts of that morning."""

    def look(outcomes):
        day = outcomes.course.started("consolidation")
        day[day > outcomes.course.mornings_alive] = np.nan
        found = {"day": day, "started": np.isfinite(day) * 1.0}
        for line in LINES:
            counts = [
                outcomes.course.laboratory(line)[lane, int(d) - 1] if np.isfinite(d) else np.nan
                for lane, d in enumerate(day)
            ]
            found[line] = np.array(counts)
        return found

    return study.collect(gated(arm, "consolidation", gate, WAIT), look)


def test_gates_judged_on_one_simulation_are_as_simulated_one_by_one(arm, study, monkeypatch):
    calls = []
    collect = NewStudy.collect
    monkeypatch.setattr(NewStudy, "collect", lambda *a: calls.append(a) or collect(*a))
    together = starts(arm, "consolidation", GATES, WAIT, study)
    assert len(calls) == 1
    assert list(together) == list(GATES)
    shares = []
    for words, gate in GATES.items():
        alone = seen_by_itself(study, arm, gate)
        assert set(alone) == set(together[words])
        for name, values in alone.items():
            np.testing.assert_allclose(together[words][name], values, rtol=1e-9, err_msg=name)
        shares.append(alone["started"].mean())
    # the gates decide: fewer begin behind a higher one, and some wait
    assert shares[0] > shares[1] > shares[2] > 0.0
    waited = together["low"]["day"]
    assert np.nanmax(waited) > FIRST
    assert np.nanmin(waited) == FIRST


def test_a_course_with_a_gate_of_its_own_is_simulated_as_it_is(arm, study):
    own = gated(arm, "consolidation", (1.0, 50.0), WAIT)
    found = starts(own, "consolidation", {"none": None, "low": (0.5, 20.0)}, WAIT, study)
    for words, gate in (("none", (1.0, 50.0)), ("low", (0.5, 20.0))):
        alone = seen_by_itself(study, arm, gate)
        for name, values in alone.items():
            np.testing.assert_array_equal(found[words][name], values, err_msg=name)
