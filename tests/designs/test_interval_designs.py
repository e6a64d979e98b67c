"""BOIN, keyboard and mTPI-2 against the tables of the R packages and of papers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_tables import (
    BOIN_AFTER_1_OF_3,
    BOIN_LOWEST,
    BOIN_RATES,
    BOIN_TABLES,
    KEYBOARD_TABLES,
    numbers,
)
from scipy.stats import beta

from pkpd.designs import (
    BOIN,
    MTPI2,
    Action,
    BackfillBOIN,
    Keyboard,
    Pending,
    TiteBOIN,
    TrialData,
    Trials,
    Why,
    isotonic_limits,
    isotonic_risks,
)


def printed(rows):
    return [numbers(row) for row in rows]


def made(boundaries, start=0):
    columns = (boundaries.escalate, boundaries.de_escalate, boundaries.eliminate)
    return [column[start:].tolist() for column in columns]


@pytest.mark.parametrize("target", BOIN_RATES)
def test_boin_rates(target):
    design = BOIN(levels=5, target=target)
    low, high = BOIN_RATES[target]
    assert design.escalation_rate == pytest.approx(low, abs=5e-8)
    assert design.de_escalation_rate == pytest.approx(high, abs=5e-8)


@pytest.mark.parametrize("target", BOIN_TABLES)
def test_boin_tables(target):
    assert made(BOIN(levels=5, target=target).boundaries(30)) == printed(BOIN_TABLES[target])


def test_boin_is_stricter_at_the_lowest_dose_where_asked():
    design = BOIN(levels=5, target=0.3, lowest_offset=0.05)
    assert design.lowest_boundary(30).tolist() == numbers(BOIN_LOWEST)
    lowest = TrialData.from_outcomes(5, "1NTT")
    assert design.next_dose(lowest).why == Why.TOO_TOXIC
    assert BOIN(levels=5, target=0.3).next_dose(lowest).why == Why.GOES_ON


def test_boin_that_stays_after_1_of_3():
    design = BOIN(levels=5, target=0.25, stay_at_1_of_3=True)
    assert made(design.boundaries(30), start=2) == printed(BOIN_AFTER_1_OF_3)


@pytest.mark.parametrize("kind", [Keyboard, MTPI2])
@pytest.mark.parametrize("target", KEYBOARD_TABLES)
def test_keyboard_and_mtpi2_tables(kind, target):
    assert made(kind(levels=5, target=target).boundaries(30)) == printed(KEYBOARD_TABLES[target])


def test_uneven_margins_move_the_target_key():
    design = Keyboard(levels=5, target=0.3, margin=(0.1, 0.05))
    low, high = design._keys
    n, y = 6, np.arange(7)[:, None]
    best = np.argmax(beta.cdf(high, y + 1, n - y + 1) - beta.cdf(low, y + 1, n - y + 1), axis=1)
    target = int(np.flatnonzero(np.isclose(low, 0.2))[0])
    table = design.boundaries(6)
    assert table.escalate[-1] == (best < target).sum() - 1
    assert table.de_escalate[-1] == (best <= target).sum()


def test_a_trial_of_the_boin_tutorial():
    """Han, Pan, Zhang, Liu and Yuan 2019, page 25, as escalation's tests repeat it."""
    design = BOIN(levels=5, target=0.3, most_patients=None)
    cohorts = ["1NNN", "2NNN", "3NTT", "2NTN", "3NNN", "3NNN", "4TTT", "3NTN", "3NNT", "3TNN"]
    found = [
        design.next_dose(TrialData.from_outcomes(5, " ".join(cohorts[: k + 1]))).level
        for k in range(len(cohorts))
    ]
    assert found == [2, 3, 2, 3, 3, 4, 3, 3, 3, 3]


def test_selection_by_isotonic_regression():
    """The example of select.mtd in BOIN 2.7.2 (R)."""
    n, y = np.array([3, 3, 15, 9]), np.array([0, 0, 4, 4])
    np.testing.assert_allclose(isotonic_risks(y, n), [0.02, 0.02, 0.27, 0.45], atol=0.005)
    low, high = isotonic_limits(y, n)
    np.testing.assert_allclose(low, [0, 0, 0.09, 0.16], atol=0.005)
    np.testing.assert_allclose(high, [0.20, 0.20, 0.51, 0.75], atol=0.005)
    data = TrialData((3, 3, 15, 9, 0), (0, 0, 4, 4, 0), current=4)
    design = BOIN(levels=5, target=0.3)
    assert design.select(data.batch()).tolist() == [3]
    above = [float(design.exceeds(data.batch(), j, 0.3)[0]) for j in (3, 4)]
    assert above == pytest.approx([beta.sf(0.3, 5, 12), beta.sf(0.3, 5, 6)], abs=1e-12)


def test_a_dose_is_dropped_with_all_above_it():
    design = BOIN(levels=5, target=0.3)
    found = design.next_dose(TrialData.from_outcomes(5, "1NNN 2NNN 3TTT"))
    assert found.level == 2
    assert found.eliminated == (3, 4, 5)
    later = design.next_dose(TrialData.from_outcomes(5, "1NNN 2NNN 3TTT 2NNN"))
    assert later.level == 2
    assert "the next is dropped" in later.reason


def test_a_toxic_lowest_dose_ends_the_trial_without_a_dose():
    found = BOIN(levels=3, target=0.3).next_dose(TrialData.from_outcomes(3, "1TTT"))
    assert (found.level, found.mtd, found.why) == (None, None, Why.TOO_TOXIC)


def test_enough_patients_at_a_dose_where_the_design_would_stay():
    design = BOIN(levels=5, target=0.3, enough_at_dose=9)
    data = TrialData((3, 9, 0, 0, 0), (0, 3, 0, 0, 0), current=2)
    found = design.next_dose(data)
    assert (found.why, found.mtd) == (Why.ENOUGH, 2)
    escalates = TrialData((3, 9, 0, 0, 0), (0, 1, 0, 0, 0), current=2)
    assert design.next_dose(escalates).level == 3


def test_a_selected_dose_can_be_bounded_by_the_boundary():
    data = TrialData((3, 3, 6, 0, 0), (0, 1, 3, 0, 0), current=3).batch()
    free = BOIN(levels=5, target=0.45)
    assert free.select(data).tolist() == [3]
    bounded = replace(free, bound_mtd=True, toxic=0.5)
    assert bounded.de_escalation_rate < 0.5
    assert bounded.select(data).tolist() == [2]


def test_titration_treats_single_patients_until_the_first_dlt():
    design = BOIN(levels=4, target=0.3, titrate=True)
    data = TrialData.from_outcomes(4, "1N 2N").batch()
    assert (design.decide(data).level, design.size(data, np.array([3]))) == ([3], [1])
    after = TrialData.from_outcomes(4, "1N 2T").batch()
    found = design.decide(after)
    assert (found.level, design.size(after, found.level)) == ([2], [2])
    full = TrialData.from_outcomes(4, "1N 2T 2NN").batch()
    found = design.decide(full)
    assert (found.level, design.size(full, found.level)) == ([2], [3])
    top = TrialData.from_outcomes(2, "1N 2N").batch()
    alone = BOIN(levels=2, target=0.3, titrate=True)
    found = alone.decide(top)
    assert (found.level, alone.size(top, found.level)) == ([2], [2])


@given(
    st.sampled_from([BOIN, Keyboard, MTPI2]),
    st.floats(0.12, 0.45),
    st.integers(1, 32),
)
def test_decisions_do_not_rise_with_the_number_of_dlts(kind, target, patients):
    design = kind(levels=5, target=target, most_patients=None)
    dlts = np.arange(patients + 1)
    treated = np.zeros((patients + 1, 5), int)
    seen = np.zeros_like(treated)
    treated[:, 0], treated[:, 1:3] = 3, patients
    seen[:, 2] = dlts
    found = design.decide(Trials(treated=treated, dlts=seen, current=np.full(patients + 1, 3)))
    assert (np.diff(found.level) <= 0).all()
    table = design.boundaries(patients)
    assert (table.escalate < table.de_escalate).all()
    assert (np.diff(table.escalate) >= 0).all()
    assert (np.diff(table.de_escalate) >= 0).all()


@pytest.mark.parametrize("design", [BOIN, TiteBOIN, Keyboard, BackfillBOIN])
@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("1N 2N 3T", "; titration ends with the first DLT, and the dose is filled to 3 patients."),
        ("1T", "; titration ends with the first DLT, and the dose is filled to 3 patients."),
        ("1N 2N 3N 4N", "; titration ends at the highest dose, and the dose is filled to 3 p"),
        ("1NTN", "; there is no lower dose."),
        ("1N 2N 3N 4NNN", "; there is no higher dose."),
        ("2TTTN 1NNN", "; the next is dropped."),
        ("1NNN 2NNNNT", ""),
    ],
)
def test_the_reason_of_a_stay_is_the_true_one(design, text, holds):
    design = design(levels=4, target=0.25, titrate=True, eliminate_from=3)
    found = design.next_dose(TrialData.from_outcomes(4, text))
    assert found.action == Action.STAY
    told = found.reason.partition("de-escalate at ")[2].partition(" or more")[2]
    assert told.startswith(holds or ".")


def test_backfilled_patients_do_not_end_titration():
    """One more patient at a lower dose ended it: cohorts of three followed without any DLT."""
    design = BackfillBOIN(levels=4, target=0.25, titrate=True)
    backfilled = TrialData(
        (2, 1, 0, 0), (0,) * 4, 2, backfilled=(1, 0, 0, 0), responses=(1, 0, 0, 0)
    )
    for seen in (backfilled, replace(backfilled, pending=(Pending(1, 0.2),))):
        data = seen.batch()
        level = design.decide(data).level
        assert (level.tolist(), design.size(data, level).tolist()) == ([3], [1])
    toxic = replace(backfilled, dlts=(0, 1, 0, 0)).batch()
    level = design.decide(toxic).level
    assert (level.tolist(), design.size(toxic, level).tolist()) == ([2], [2])


def test_tite_boin_says_that_titration_fills_its_dose():
    design = TiteBOIN(levels=3, target=0.25, titrate=True, most_pending_share=1.0)
    found = design.next_dose(TrialData((1, 1, 1), (1, 0, 0), 3, (Pending(3, 0.9),)))
    assert found.action == Action.STAY
    assert found.reason.endswith(
        "; titration ends with the first DLT, and the dose is filled to 3 patients."
    )


def test_bf_boin_says_which_data_it_pools():
    design = BackfillBOIN(levels=4, target=0.25)
    seen = TrialData((3, 5, 8, 0), (0, 2, 1, 0), 3, backfilled=(0, 2, 0, 0))
    found = design.next_dose(seen)
    assert found.action == Action.STAY
    told = "; a backfilled dose asks for more caution: 3 of 13 patients from dose 2 on had one, "
    assert told in found.reason
    assert "caution" not in design.next_dose(replace(seen, backfilled=())).reason


def test_a_dose_that_titration_ends_at_is_not_filled_beyond_the_maximum():
    design = BOIN(levels=5, target=0.3, titrate=True, most_patients=6)
    seen = TrialData((1,) * 5, (0,) * 5, 5).batch()
    assert design.size(seen, np.array([5])).tolist() == [1]
    assert replace(design, most_patients=7).size(seen, np.array([5])).tolist() == [2]


def test_the_maximum_counts_patients_of_escalation():
    design = BackfillBOIN(levels=3, target=0.25, most_patients=6)
    seen = TrialData((6, 3, 0), (0, 0, 0), 2, backfilled=(3, 0, 0), responses=(1, 0, 0))
    assert design.next_dose(seen).reason == "6 patients are treated, of at most 6."
