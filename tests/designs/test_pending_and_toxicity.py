"""What patients whose assessment goes on count for, where that decides."""

from __future__ import annotations

import pytest
from scipy import stats

from pkpd.designs import BOIN, BackfillBOIN, Pending, TiteBOIN, TiteCRM, TooToxic, TrialData


def test_a_stop_for_toxicity_counts_those_who_are_pending():
    """One DLT on day 5 and two patients near the end of their window were one DLT of one."""
    seen = TrialData((3, 0, 0), (1, 0, 0), current=1, pending=(Pending(1, 0.9), Pending(1, 0.9)))
    found = float(TiteBOIN(levels=3, target=0.3).exceeds(seen, 1, 0.3)[0])
    assert found == pytest.approx(stats.beta.sf(0.3, 2, 3))  # .652, and not .91


@pytest.mark.parametrize("pending", [0, 1, 6])
def test_backfilled_patients_who_are_pending_hide_no_stop_for_toxicity(pending):
    """As they hide no dose that is dropped: each counts when its assessment has ended."""
    assessed, dlts = 6, 4
    seen = TrialData(
        (assessed + pending, 3, 0),
        (dlts, 0, 0),
        current=2,
        pending=tuple(Pending(1, 0.5) for _ in range(pending)),
        backfilled=(3 + pending, 0, 0),
        responses=(1, 0, 0),
    )
    design = BackfillBOIN(levels=3, target=0.3, elimination=0.99, stops=(TooToxic(0.3, 0.95),))
    found = float(design.exceeds(seen, 1, 0.3)[0])
    assert found == pytest.approx(stats.beta.sf(0.3, 1 + dlts, 1 + assessed - dlts))
    decision = design.next_dose(seen)
    assert decision.action.name == "STOP"
    assert "exceeds 0.3 with probability 0.971" in decision.reason
    assert not decision.eliminated


def test_a_weight_below_nothing_is_no_escalation_whatever_it_is():
    design = TiteBOIN(levels=3, target=0.3)
    seen = TrialData((3, 6, 0), (0, 1, 0), current=2, pending=(Pending(2, -3.0),))
    found = design.next_dose(seen)
    assert found.action.name == "STAY"
    assert "whatever" not in found.reason
    assert "escalate at -0.77 or more" in found.reason


@pytest.mark.parametrize(
    ("estimator", "treated", "enough"), [("imputation", 10, 3), ("effective sample size", 6, 1)]
)
def test_bad_news_brings_a_de_escalation_beside_dlts_alone(estimator, treated, enough):
    """As docs/designs.md says of weights below 0."""
    design = TiteBOIN(levels=3, target=0.3, estimator=estimator)

    def action(dlts, weight):
        seen = TrialData((3, treated, 0), (0, dlts, 0), current=2, pending=(Pending(2, weight),))
        return design.next_dose(seen).action.name

    assert action(enough - 1, -50.0) == "STAY"
    assert action(enough, 0.0) in ("STAY", "ESCALATE")
    assert action(enough, -50.0) == "DEESCALATE"


@pytest.mark.parametrize(("pending", "level"), [(1, 1), (0, 2)])
def test_after_the_initial_doses_nobody_goes_up_before_something_is_known(pending, level):
    """A patient a day had one dose more each, with a window of half a year."""
    design = TiteCRM(
        levels=4, target=0.25, skeleton=(0.1, 0.25, 0.4, 0.5), initial=(1, 1, 1), coherence="rate"
    )
    seen = TrialData(
        (3, 0, 0, 0),
        (0, 0, 0, 0),
        current=1,
        pending=tuple(Pending(1, 0.04) for _ in range(pending)),
    )
    found = design.next_dose(seen)
    assert found.level == level
    assert "one dose higher once nobody is pending" in found.reason


def test_a_dose_that_nobody_has_had_stops_no_trial():
    """The uniform prior alone, 1 - limit, is above a certainty of .72."""
    design = BOIN(levels=3, target=0.2, start=2, stops=(TooToxic(0.2, 0.72),))
    found = design.next_dose(TrialData((0, 3, 0), (0, 0, 0), 2))
    assert "too toxic" not in found.reason
    assert found.level == 3
    assert float(design.exceeds(TrialData((0, 3, 0), (0, 0, 0), 2), 1, 0.2)[0]) == 0.0
    told = design.exceeds(TrialData((3, 3, 0), (0, 0, 0), 2), 1, 0.2)
    assert float(told[0]) == pytest.approx(stats.beta.sf(0.2, 1, 4))
