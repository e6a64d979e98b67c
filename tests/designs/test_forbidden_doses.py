"""A dose that overdose control or elimination forbids is neither given nor selected."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from pkpd.designs import (
    BLRM,
    BOIN,
    CRM,
    Action,
    Keyboard,
    OverdoseControl,
    Pending,
    RollingSix,
    ThreePlusThree,
    TiteCRM,
    TrialData,
    Trials,
    Why,
    characteristics,
    pathways,
)
from pkpd.designs.exact.courses import enumerate_courses

FOUR = TrialData((3, 3, 3, 3, 0), (0, 0, 2, 3, 0), 4, last_cohort=(3, 3))
MODEL = BLRM(levels=5, amounts=(1, 5, 10, 20, 40), reference=10, points=(121, 41))
CURVE = CRM(
    levels=5,
    target=0.25,
    skeleton=(0.05, 0.12, 0.2, 0.3, 0.4),
    overdose=OverdoseControl(0.33, 0.25),
)
SHAPES = [
    MODEL,
    replace(MODEL, next_is="highest", most_increase=2.0),
    CURVE,
    replace(CURVE, model="logistic", estimate="mean"),
    replace(CURVE, initial=(1, 1, 2, 3, 4, 5)),
    replace(CURVE, initial=(1, 2, 3, 4, 5), estimate="maximum"),
    TiteCRM(levels=5, target=0.25, skeleton=CURVE.skeleton, overdose=CURVE.overdose),
]
WAYS = [
    {"skip_up": up, "skip_down": down, "coherence": coherence}
    for up, down, coherence in product((False, True), (False, True), ("none", "rate", "cohort"))
]


def states(count, levels=5, seed=1):
    """Trials of any counts, the present dose having been given, the latest cohort within them."""
    rng = np.random.default_rng(seed)
    treated = rng.integers(0, 10, (count, levels)) * (rng.random((count, levels)) < 0.7)
    current = rng.integers(1, levels + 1, count)
    rows = np.arange(count)
    treated[rows, current - 1] = np.maximum(treated[rows, current - 1], 1)
    dlts = rng.binomial(treated, np.sort(rng.beta(0.6, 1.2, (count, levels)), axis=1))
    last = np.minimum(treated[rows, current - 1], 3)
    seen = np.minimum(dlts[rows, current - 1], last)
    return Trials(treated=treated, dlts=dlts, current=current, last_treated=last, last_dlts=seen)


@pytest.mark.parametrize(
    "design",
    SHAPES,
    ids=lambda one: (
        f"{one.name} {one.next_is}"
        if isinstance(one, BLRM)
        else f"{one.name} {one.model} {one.estimate} {len(one.initial)}"
    ),
)
def test_no_forbidden_dose_is_given_or_selected(design):
    data = states(60 if design.name == "CRM" and design.estimate == "maximum" else 250)
    forbidden = design.eliminated(data)
    assert 0.2 < forbidden.mean() < 0.95
    rows = np.arange(len(data.current))
    for way in WAYS:
        now = replace(design, **way)
        now.__dict__["_known"] = design._known  # the posterior is the same
        found = now.decide(data)
        for level in (found.level, now.recommend(data, found)):
            assert not (forbidden[rows, level - 1] & (level > 0)).any()
        none = forbidden.all(axis=1)
        assert (found.why[none] == Why.TOO_TOXIC).all()
        assert (found.level[~none] > 0).all()


@pytest.mark.parametrize(
    "design",
    [
        Keyboard(levels=5, target=0.2, titrate=True),
        BOIN(levels=5, target=0.3, titrate=True, lowest_offset=0.1, stay_at_1_of_3=True),
        BOIN(levels=5, target=0.2, eliminate_from=1, titrate=True, bound_mtd=True),
    ],
)
def test_nor_is_one_that_an_interval_design_has_dropped(design):
    data = states(3000)
    data.treated[:1500] = np.minimum(data.treated[:1500], 1)
    data.dlts[:] = np.minimum(data.dlts, data.treated)
    dropped, rows = design.eliminated(data), np.arange(len(data.current))
    found = design.decide(data)
    for level in (found.level, design.recommend(data, found)):
        assert not (dropped[rows, level - 1] & (level > 0)).any()


COUNTING = [
    ThreePlusThree(levels=5),
    ThreePlusThree(levels=5, de_escalate=False),
    ThreePlusThree(levels=5, six_at_top=True),
    RollingSix(levels=5),
    RollingSix(levels=5, enrolled_most=4),
]


@pytest.mark.parametrize("design", COUNTING)
def test_nor_is_one_at_or_above_a_dose_that_is_exceeded(design):
    data = states(3000)
    found, rows = design.decide(data), np.arange(3000)
    # by hand: the first dose with two DLTs or more in a third of its patients
    lowest = [
        next((j for j in range(5) if y[j] >= 2 and y[j] / n[j] >= 1 / 3), 5)
        for n, y in zip(data.treated.tolist(), data.dlts.tolist(), strict=True)
    ]
    out = np.arange(5) >= np.array(lowest)[:, None]
    np.testing.assert_array_equal(design.eliminated(data), out)
    assert 200 < (np.array(lowest) + 1 < data.current).sum() < 2000
    for level in (found.level, design.recommend(data, found)):
        assert not (out[rows, level - 1] & (level > 0)).any()
    np.testing.assert_array_equal(found.why == Why.TOO_TOXIC, out[:, 0])


@pytest.mark.parametrize(
    ("treated", "dlts", "current", "level", "words"),
    [
        ((3, 3, 0), (2, 0, 0), 2, None, "and 2 of 3 patients at dose 1 had a DLT, and there is no"),
        ((3, 1, 0), (2, 0, 0), 2, None, "there is no lower dose"),
        ((3, 3, 0), (2, 2, 0), 2, None, "there is no lower dose"),
        ((3, 3, 1), (0, 2, 0), 3, 1, "0 of 1 patient at dose 3 had a DLT, and 2 of 3 patients at"),
        ((3, 3, 3), (0, 2, 0), 3, 1, "dose 2 had a DLT: dose 2 is exceeded"),
        (
            (6, 3, 3),
            (1, 2, 0),
            3,
            None,
            "and 2 of 3 patients at dose 2 had a DLT, and dose 1 below",
        ),
    ],
)
def test_a_late_dlt_at_a_lower_dose_leads_below_it(treated, dlts, current, level, words):
    data = TrialData(treated, dlts, current)
    for design in (ThreePlusThree(levels=3), RollingSix(levels=3)):
        found = design.next_dose(data)
        assert found.level == level
        assert found.action == (Action.STOP if level is None else Action.DEESCALATE)
        assert words in found.reason
        assert found.mtd == (1 if treated[0] == 6 else None)


def test_rolling_six_waits_for_a_full_dose_below_all_that_are_exceeded():
    waiting = tuple(Pending(1, 0.5) for _ in range(2))
    found = RollingSix(levels=3).next_dose(TrialData((6, 3, 3), (0, 2, 0), 3, waiting))
    assert (found.action, found.level) == (Action.SUSPEND, 1)


def test_a_step_down_goes_past_forbidden_doses():
    design = replace(MODEL, skip_down=False)
    found = design.next_dose(FOUR)
    assert (found.level, found.eliminated) == (2, (3, 4, 5))
    full = replace(design, most_patients=12)
    found = full.next_dose(TrialData((3, 3, 3, 3, 0), (0, 0, 1, 3, 0), 4))
    assert (found.why, found.mtd, found.eliminated) == (Why.MAXIMUM, 2, (3, 4, 5))
    model = replace(CURVE, skip_down=False, coherence="none")
    found = model.next_dose(TrialData((3, 3, 3, 3, 0), (0, 0, 1, 3, 0), 4))
    assert (found.level, found.eliminated) == (1, (2, 3, 4, 5))
    # without overdose control a single step
    alone = replace(model, overdose=None)
    assert alone.next_dose(TrialData((3, 3, 3, 3, 0), (0, 0, 1, 3, 0), 4)).level == 3


def test_the_reason_names_the_dose_that_was_passed():
    design = replace(CURVE, skip_down=False, coherence="none", overdose=OverdoseControl(0.45, 0.5))
    seen = TrialData((3, 3, 3, 3, 3), (0, 3, 0, 0, 3), 5)
    found = design.next_dose(seen)
    assert (int(design.wanted(seen.batch())[0]), found.level) == (2, 3)
    assert found.eliminated == (4, 5)
    assert "doses are not skipped, and dose 4 exceeds a risk of 0.45 with" in found.reason


def test_pathways_and_exact_courses_take_the_same_way():
    design = replace(MODEL, skip_down=False, most_patients=15)
    assert set(pathways(design, 1, FOUR).levels[:, 0]) == {2}
    settings = {"amounts": (5, 10, 40), "levels": 3, "start": 2, "most_patients": 12}
    design = replace(design, **settings)
    ends = enumerate_courses(design)
    data = Trials(treated=ends.treated, dlts=ends.dlts, current=np.full(len(ends.ways), 3))
    forbidden = design.eliminated(data)
    picked = ends.selected > 0
    assert not forbidden[picked, ends.selected[picked] - 1].any()
    found = characteristics(design, [0.1, 0.3, 0.7], courses=ends)
    np.testing.assert_allclose(found.none + found.selected.sum("level"), 1, atol=1e-12)


def test_a_first_dose_that_the_prior_forbids_is_told():
    design = BLRM(levels=3, amounts=(10, 20, 40), reference=20)
    found = design.next_dose(TrialData((0, 0, 0), (0, 0, 0)))
    assert (found.action, found.level, found.eliminated) == (Action.START, 1, (2, 3))
    assert "by the prior dose 1 exceeds a risk of 0.33 with probability 0.3" in found.reason
    found = MODEL.next_dose(TrialData((0,) * 5, (0,) * 5))
    assert found.reason == "No patient has been treated."


def test_overdose_control_takes_normal_limits():
    """Of the posterior itself dose 4 exceeds the limit with probability .049, and may be given."""
    seen = TrialData((6, 6, 0, 0, 0), (0, 0, 0, 0, 0), 2, last_cohort=(3, 0))
    free = replace(CURVE, overdose=OverdoseControl(0.33, 0.06), skip_up=True)
    assert free.next_dose(seen).level == 4
    design = replace(free, normal_limits=True)
    over = [float(design.exceeds(seen, level, 0.33)[0]) for level in range(1, 6)]
    assert over[3] == pytest.approx(0.078, abs=5e-4)
    assert design.allowed(seen.batch())[0].tolist() == [share <= 0.06 for share in over]
    assert design.next_dose(seen).level == 3


def test_initial_doses_keep_to_overdose_control():
    design = replace(CURVE, initial=(1, 5, 5, 5), overdose=OverdoseControl(0.33, 0.1))
    found = design.next_dose(TrialData((1, 0, 0, 0, 0), (0, 0, 0, 0, 0), 1, last_cohort=(1, 0)))
    assert found.level is None or found.level not in found.eliminated
    assert "exceeds a risk of 0.33 with probability" in found.reason
