"""TITE-BOIN and rolling six against the published tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_tables import (
    ROLLING_SIX,
    TITE_BOIN_TABLES,
    TITE_BOIN_WITH_RULES,
    pending_states,
    span,
)

from pkpd.designs import (
    BOIN,
    Action,
    BackfillBOIN,
    EnoughAtDose,
    Pending,
    PreciseAtDose,
    RollingSix,
    ThreePlusThree,
    TiteBOIN,
    TiteCRM,
    TrialData,
    Trials,
    decision_table,
    pending_table,
)
from pkpd.errors import PkpdError

TITE = {"levels": 3, "target": 0.25, "skeleton": (0.1, 0.25, 0.4), "coherence": "rate"}


@pytest.mark.parametrize("target", TITE_BOIN_TABLES)
def test_every_cell_of_yuan_2018(target):
    printed = pending_states(TITE_BOIN_TABLES[target])
    assert len(printed) == 10 + 28 + 55 + 91 + 136
    rows = pending_table(TiteBOIN(levels=3, target=target), 15)
    assert {(row.patients, row.dlts, row.pending) for row in rows} == set(printed)
    for row in rows:
        decision, bound = printed[row.patients, row.dlts, row.pending]
        assert "/".join(row.letters) == decision, row
        assert [round(cut, 2) for cut in row.at_least] == ([] if bound is None else [bound]), row


@pytest.mark.parametrize("target", TITE_BOIN_WITH_RULES)
def test_every_cell_of_chen_2025_and_2026(target):
    design = TiteBOIN(
        levels=3, target=target, most_pending_share=0.49, least_weight_to_escalate=0.25
    )
    printed = pending_states(TITE_BOIN_WITH_RULES[target])
    most = max(n for n, _, _ in printed)
    rows = pending_table(design, most)
    assert {(row.patients, row.dlts, row.pending) for row in rows} == set(printed)
    for row in rows:
        n, y, c = row.patients, row.dlts, row.pending
        decision, bound = printed[n, y, c]
        assert "/".join(row.letters) == decision.replace("*", ""), row
        assert [round(cut, 2) for cut in row.at_least] == ([] if bound is None else [bound]), row
        if decision == "E*":  # one patient who has just come holds the escalation back
            state = [np.array([part]) for part in (n, y, c, c - 0.8, 0.2)]
            assert design.turns(*state)[1][0]
            state[4] = np.array([0.25])
            assert not design.turns(*state)[1][0]


def test_the_example_trial_of_yuan_2018():
    """Figure 1: target 0.2, a window of 90 days, two patients a month."""
    design = TiteBOIN(levels=5, target=0.2)

    def decide(level, n, y, weights):
        treated, dlts = [3] * (level - 1) + [n] + [0] * (5 - level), [0] * 5
        dlts[level - 1] = y
        waiting = tuple(Pending(level, w) for w in weights)
        return design.next_dose(TrialData(tuple(treated), tuple(dlts), level, waiting))

    assert decide(1, 3, 0, [0.5, 0.3, 0.1]).action == Action.SUSPEND
    assert decide(1, 3, 0, [0.7]).action == Action.ESCALATE
    assert decide(2, 3, 1, [1 / 3, 1 / 6]).action == Action.DEESCALATE
    assert decide(2, 6, 0, [0.5, 0.3, 0.2]).action == Action.ESCALATE
    assert decide(2, 6, 1, [0.5, 0.3, 0.2]).action == Action.STAY
    assert decide(2, 9, 1, [0.7, 0.5, 0.4, 0.3, 0.1]).action == Action.SUSPEND
    found = decide(2, 9, 1, [75 / 90, 60 / 90, 45 / 90, 30 / 90])
    assert found.action == Action.ESCALATE
    assert "total weight of 2.33; escalate at 2.15 or more" in found.reason


EFFECTIVE = {  # Lin and Yuan 2020, target 0.3, suspended above half pending: y of n: by c
    (3, 0): "E E",
    (3, 1): "S D/S0.79",
    (3, 2): "D D",
    (6, 0): "E E E E",
    (6, 1): "E E S/E0.23 S/E1.23",
    (6, 2): "S D/S0.58 D/S1.58 D/S2.58",
    (6, 3): "D D D D",
    (9, 0): "E E E E E",
    (9, 1): "E E E E E",
    (9, 2): "E S/E0.46 S/E1.46 S/E2.46 D/S/E0.58,3.46",
    (9, 3): "S D/S0.37 D/S1.37 D/S2.37 D/S3.37",
    (9, 4): "D D D D D",
}


def test_effective_sample_size():
    """Rule of next_TITE_QuasiBOIN of TITEgBOIN 0.4.0 (R)."""
    design = TiteBOIN(
        levels=3,
        target=0.3,
        estimator="effective sample size",
        most_pending_share=0.5,
        completed_to_escalate=0,
    )
    rows = {(r.patients, r.dlts, r.pending): r for r in pending_table(design, 9)}
    for (n, y), cells in EFFECTIVE.items():
        for c, cell in enumerate(cells.split()):
            row = rows[n, y, c]
            cuts = ",".join(f"{cut:.2f}" for cut in row.at_least)
            assert "/".join(row.letters) + cuts == cell, (n, y, c)
    for n, y in ((3, 3), (6, 4), (9, 5)):
        assert rows[n, y, 0].letters == ("X",)


@pytest.mark.parametrize("estimator", ["imputation", "effective sample size"])
def test_1_of_3_stays_whoever_is_pending(estimator):
    """It stepped down with a patient pending, and stayed once all were assessed."""
    how = {"levels": 3, "target": 0.25, "estimator": estimator, "most_pending_share": 0.5}
    design = TiteBOIN(**how, stay_at_1_of_3=True)
    pending = (Pending(2, 0.5),)
    seen = TrialData((3, 3, 0), (0, 1, 0), 2, pending)
    assert TiteBOIN(**how).next_dose(seen).action == Action.DEESCALATE
    found = design.next_dose(seen)
    assert (found.action, found.level) == (Action.STAY, 2)
    assert "de-escalate" not in found.reason
    assert design.next_dose(replace(seen, pending=pending * 2)).action == Action.SUSPEND
    assert design.next_dose(replace(seen, dlts=(0, 2, 0))).level == 1
    rows = {(r.patients, r.dlts, r.pending): r.letters for r in pending_table(design, 6)}
    assert [rows[3, 1, c] for c in range(3)] == [("S",), ("S",), ("W",)]
    plain = {(r.patients, r.dlts, r.pending): r for r in pending_table(TiteBOIN(**how), 6)}
    others = [r for r in pending_table(design, 6) if (r.patients, r.dlts) != (3, 1)]
    assert all(plain[r.patients, r.dlts, r.pending] == r for r in others)


def test_effective_sample_size_waits_for_two_to_complete():
    design = TiteBOIN(levels=3, target=0.3, estimator="effective sample size")
    rows = {(r.patients, r.dlts, r.pending): r.letters for r in pending_table(design, 6)}
    assert rows[3, 0, 1] == ("E",)
    assert rows[3, 0, 2] == rows[3, 0, 3] == rows[6, 0, 5] == ("W",)
    assert rows[6, 1, 4] == ("D", "S", "E")


def test_what_escalation_needs_holds_nobody_back_where_the_dose_does_not_rise():
    """At the highest dose, and below one that is out, accrual waited for an escalation."""
    for how in (
        {"estimator": "effective sample size"},
        {"least_weight_to_escalate": 0.5, "most_pending_share": 1.0},
    ):
        design = TiteBOIN(levels=3, target=0.3, **how)
        waiting = (Pending(3, 0.9), Pending(3, 0.3))
        top = TrialData((3, 3, 3), (0, 0, 0), 3, waiting)
        found = design.next_dose(top)
        assert (found.action, found.level) == (Action.STAY, 3)
        assert found.reason.endswith("; there is no higher dose.")
        middle = replace(top, current=2, pending=tuple(replace(p, level=2) for p in waiting))
        below = replace(middle, dlts=(0, 0, 3))
        assert design.next_dose(below).action == Action.STAY
        assert design.next_dose(replace(middle, treated=(3, 3, 0))).action == Action.SUSPEND


@pytest.mark.parametrize("estimator", ["imputation", "effective sample size"])
def test_titration_waits_for_a_single_patient_of_bad_news(estimator):
    """The dose rose after a patient whose DLT was as good as sure."""
    how = {"levels": 3, "target": 0.3, "titrate": True, "completed_to_escalate": 0}
    design = TiteBOIN(**how, estimator=estimator, most_pending_share=1.0)
    for bad in (Pending(2, -1e6), Pending(2, fraction=0.95)):
        found = design.next_dose(TrialData((1, 1, 0), (0, 0, 0), 2, (bad,)))
        assert (found.action, found.level) == (Action.SUSPEND, 2)
        assert found.reason.endswith("; titration goes on once the assessment has ended.")
    for good in (Pending(2, 0.9), Pending(2, fraction=0.05)):
        assert design.next_dose(TrialData((1, 1, 0), (0, 0, 0), 2, (good,))).level == 3


@pytest.mark.parametrize("target", [0.15, 0.2, 0.25, 0.3, 0.4])
@pytest.mark.parametrize("estimator", ["imputation", "effective sample size"])
def test_without_pending_patients_it_is_boin(target, estimator):
    tite = decision_table(TiteBOIN(levels=5, target=target, estimator=estimator), 18)
    plain = decision_table(BOIN(levels=5, target=target), 18)
    assert (tite.letters == plain.letters).all()


@given(
    st.floats(0.15, 0.4),
    st.sampled_from(["imputation", "effective sample size"]),
    st.integers(2, 15),
    st.data(),
)
def test_more_follow_up_never_lowers_the_decision(target, estimator, n, data):
    design = TiteBOIN(levels=3, target=target, estimator=estimator, most_pending_share=1.0)
    y = data.draw(st.integers(0, n - 1))
    c = data.draw(st.integers(1, n - y))
    s = np.linspace(0, c, 21)
    size = np.ones(21, int)
    turn, _ = design.turns(n * size, y * size, c * size, s, np.ones(21))
    assert (np.diff(turn) >= 0).all()


def test_dropping_a_dose_counts_pending_patients_as_spared():
    design = TiteBOIN(levels=3, target=0.2)
    waiting = tuple(Pending(2, 0.1) for _ in range(6))
    found = design.next_dose(TrialData((3, 9, 0), (0, 3, 0), 2, waiting))
    assert (found.level, found.eliminated) == (1, ())
    ended = design.next_dose(TrialData((3, 9, 0), (0, 4, 0), 2))
    assert ended.eliminated == (2, 3)


def test_at_the_lowest_dose_de_escalation_waits_for_pending_patients():
    design = TiteBOIN(levels=3, target=0.3)
    data = TrialData((6, 0, 0), (3, 0, 0), 1, (Pending(1, 0.2),))
    found = design.next_dose(data)
    assert found.action == Action.SUSPEND
    assert "there is no lower dose" in found.reason
    ended = design.next_dose(replace(data, pending=()))
    assert (ended.action, ended.level) == (Action.STAY, 1)


def test_rolling_six_row_by_row():
    design = RollingSix(levels=3)
    letters = {Action.STAY: "S", Action.SUSPEND: "W", Action.ESCALATE: "E", Action.DEESCALATE: "D"}
    seen = 0
    for row in ROLLING_SIX.split(";"):
        enrolled, evaluable, dlts, decision = row.split()
        for n in span(enrolled, 6):
            for done in span(evaluable, 6):
                y = int(dlts)
                if not n >= 1 or not y <= done <= n:
                    continue
                waiting = tuple(Pending(2, 0.5) for _ in range(n - done))
                data = TrialData((3, n, 0), (0, y, 0), 2, waiting)
                assert letters[design.next_dose(data).action] == decision, (n, done, y)
                seen += 1
    assert seen == 73


def test_rolling_six_finds_the_dose_below_one_that_is_exceeded():
    design = RollingSix(levels=3)
    data = TrialData((3, 4, 0), (0, 2, 0), current=2)
    down = design.next_dose(data)
    assert (down.action, down.level) == (Action.DEESCALATE, 1)
    five = design.next_dose(TrialData((5, 4, 0), (0, 2, 0), current=1))
    assert (five.action, five.mtd) == (Action.STOP, 1)
    lowest = design.next_dose(TrialData((3, 0, 0), (2, 0, 0), current=1))
    assert (lowest.action, lowest.mtd) == (Action.STOP, None)


@pytest.mark.parametrize("most", [3, 4, 5])
def test_rolling_six_selects_the_dose_that_it_has_found(most):
    """A dose of at most five patients, one with a DLT, was found as tolerated and not selected."""
    design = RollingSix(levels=3, enrolled_most=most)
    found = design.next_dose(TrialData((most, 3, 0), (1, 2, 0), current=2))
    assert "dose 1 below it is tolerated" in found.reason
    assert found.mtd == 1


def test_without_pending_patients_rolling_six_and_three_plus_three_agree():
    three, six = ThreePlusThree(levels=3), RollingSix(levels=3)
    for n, most in ((3, 3), (6, 6)):
        for y in range(most + 1):
            treated = np.array([[3, n, 0]])
            data = Trials(treated=treated, dlts=np.array([[0, y, 0]]), current=np.array([2]))
            assert three.decide(data).level == six.decide(data).level


def test_a_design_that_waits_says_so():
    data = TrialData((3, 0, 0), (0, 0, 0), 1, (Pending(1, 0.5), Pending(1, 0.6)))
    found = BOIN(levels=3, target=0.3).next_dose(data)
    assert found.action == Action.SUSPEND
    assert found.reason == (
        "2 patients are pending, and BOIN decides when all assessments have ended."
    )


def test_backfilled_patients_are_not_among_those_who_are_waited_for():
    design = BackfillBOIN(levels=3, target=0.25)
    cohort, spare = (Pending(2, 0.5),) * 3, Pending(1, 0.2)
    data = TrialData((4, 3, 0), (0, 0, 0), 2, (*cohort, spare), backfilled=(1, 0, 0))
    assert design.next_dose(data).reason == (
        "3 patients are pending at dose 2, and BF-BOIN decides when all assessments there have "
        "ended."
    )
    assert design.next_dose(replace(data, pending=cohort)).reason.startswith(
        "3 patients are pending, and BF-BOIN decides when all assessments have ended"
    )
    assert design.next_dose(replace(data, pending=(spare,))).action == Action.ESCALATE


def test_designs_without_such_tables_say_so():
    with pytest.raises(PkpdError, match="no table of pending patients"):
        pending_table(BOIN(levels=3, target=0.3), 6)


@pytest.mark.parametrize(
    "design", [BOIN(levels=2, target=0.3), ThreePlusThree(levels=2), TiteBOIN(levels=2, target=0.3)]
)
def test_an_assessment_of_weight_one_has_ended(design):
    data = TrialData((3, 0), (0, 0), 1, (Pending(1, 1.0),) * 3)
    assert data == replace(data, pending=())
    assert design.next_dose(data).action == Action.ESCALATE
    nearly = TrialData((3, 0), (0, 0), 1, (Pending(1, 1 - 1e-9),) * 3)
    assert design.next_dose(nearly).action == Action.SUSPEND
    with pytest.raises(PkpdError, match="no longer pending"):
        TrialData((3, 0), (1, 0), 1, (Pending(1, 1.0),) * 3)


@pytest.mark.parametrize("level", [1, 2])
def test_a_full_trial_says_that_it_waits_for_those_who_are_pending(level):
    design = TiteBOIN(levels=3, target=0.3, most_patients=12)
    waiting = (Pending(level, 0.5), Pending(level, 0.5))
    found = design.next_dose(TrialData((6, 6, 0), (0, 1, 0), 2, waiting))
    assert found.action == Action.SUSPEND
    assert found.reason == "12 patients are treated, of at most 12, and 2 are pending."


@pytest.mark.parametrize(
    ("design", "words"),
    [
        (TiteBOIN(levels=3, target=0.3, enough_at_dose=9), "stays there, with 9 patients enough"),
        (TiteCRM(**TITE, stops=(EnoughAtDose(9),)), "9 patients were treated there, 9 or more"),
        (TiteCRM(**TITE, stops=(PreciseAtDose(0.1, 0.6),)), "at least 0.5"),
    ],
)
def test_a_trial_with_enough_patients_waits_for_those_who_are_pending(design, words):
    waiting = tuple(Pending(2, 0.5) for _ in range(3))
    found = design.next_dose(TrialData((3, 9, 0), (0, 2, 0), 2, waiting))
    assert (found.action, found.mtd) == (Action.SUSPEND, None)
    assert found.reason.endswith(f"{words}, and 3 are pending.")
    known = design.next_dose(TrialData((3, 9, 0), (0, 3, 0), 2))
    assert (known.action, known.mtd) == (Action.STOP, 2)
    assert known.reason.endswith(f"{words}.")
