"""Arguments of a wrong kind at the doors of the designs are refused in a sentence."""

import numpy as np
import pytest

from pkpd.designs import (
    BLRM,
    BOIN,
    CRM,
    MTPI2,
    Accrual,
    EventTimes,
    Keyboard,
    OverdoseControl,
    Pending,
    PreciseAtDose,
    Responses,
    ThreePlusThree,
    TiteCRM,
    TooToxic,
    TrialData,
    characteristics,
    compare_trials,
    decision_table,
    dose_by_draws,
    isotonic_risks,
    linear_weight,
    load_design,
    pathways,
    simulate_trials,
    skeleton,
    weight_of_forecast,
)
from pkpd.errors import PkpdError

SKELETON = (0.1, 0.25, 0.4)
BLR = {"levels": 3, "amounts": (10, 20, 40), "reference": 20}
SEEN = TrialData.from_outcomes(3, "1NNN 2NNT")


def _boin():
    return BOIN(levels=3, target=0.3)


def _crm(**more):
    return CRM(levels=3, target=0.25, **{"skeleton": SKELETON, **more})


def _simulated(**more):
    how = {"accrual": Accrual(10), "times": EventTimes(28), "trials": 10, **more}
    return simulate_trials(_boin(), [0.1, 0.2, 0.3], **how)


DOORS = {
    "BOIN, levels: 3.5 is a float; allowed: a whole number": lambda: BOIN(levels=3.5, target=0.3),
    "BOIN, target: '0.3' is a str; allowed: a number": lambda: BOIN(levels=3, target="0.3"),
    "BOIN, stops: 3 is given; allowed: a list of": lambda: BOIN(levels=3, target=0.3, stops=3),
    "keyboard, margin: 'x' is a str": lambda: Keyboard(levels=5, target=0.3, margin="x"),
    "CRM, skeleton: 0.2 is a float; allowed: a list of": lambda: _crm(skeleton=0.2),
    "CRM, overdose: 0.3 is a float": lambda: _crm(overdose=0.3),
    "BLRM, prior_sd: 1 is given; allowed: two numbers": lambda: BLRM(**BLR, prior_sd=1),
    "BLRM, interval: 0.3 is a float; allowed: two": lambda: BLRM(**BLR, interval=0.3),
    "TooToxic, limit: '0.3' is a str": lambda: TooToxic("0.3", 0.9),
    "OverdoseControl, limit: None is given": lambda: OverdoseControl(None),
    "TrialData, treated: .* a list of whole": lambda: TrialData((2, 2.5, 2), (0, 0, 0), 3),
    "dlts: 0 counts where treated has 3": lambda: TrialData((2, 2, 2), (), 3),
    "Pending, level: 1.5 is a float": lambda: Pending(1.5),
    'from_outcomes, text: .*allowed: text such as "1N': lambda: TrialData.from_outcomes(3, ["1N"]),
    "from_cohorts, cohorts: ": lambda: TrialData.from_cohorts(3, [(1, 3)]),
    "simulate_trials, accrual: 10 is given; allowed: an Accrual": lambda: _simulated(accrual=10),
    "simulate_trials, times: 28 is given": lambda: _simulated(times=28),
    "simulate_trials, trials: 10.5 is a float": lambda: _simulated(trials=10.5),
    "compare_trials, ways: ": lambda: compare_trials({"a": _boin()}, accrual=Accrual(10)),
    "EventTimes, window_days: '28' is a str": lambda: EventTimes("28"),
    "risks: 'abc' are no risks": lambda: characteristics(_boin(), "abc"),
    "characteristics, design: ": lambda: characteristics("BOIN", [0.1]),
    "pathways, cohorts: 1.5 is a float": lambda: pathways(_boin(), 1.5),
    "decision_table, most: 0 is given": lambda: decision_table(_boin(), 0),
    "BOIN, boundaries, most: 'x'": lambda: _boin().boundaries("x"),
    "BOIN, next_dose, data: 3 is given": lambda: _boin().next_dose(3),
    "CRM, level: 4 is given; allowed: a whole number from 1 to 3": lambda: _crm().exceeds(
        SEEN, 4, 0.3
    ),
    "dose_by_draws, interval: 0.3": lambda: dose_by_draws(np.ones((2, 2)), 0.3),
    "skeleton, mtd: 2.5 is a float": lambda: skeleton(0.05, 0.25, 2.5, 3),
    "followed: 'x' is a str": lambda: linear_weight("x", 28),
    "forecast: None|forecast: nan is no prob": lambda: weight_of_forecast(None, 0.3),
    "isotonic regression, dlts: 1 is given": lambda: isotonic_risks(1, [3]),
    "load_design, path: 3 is given": lambda: load_design(3),
}


@pytest.mark.parametrize("target", [25, 1, 0, float("nan")])
def test_a_target_that_is_no_probability_is_refused(target):
    design, risks = ThreePlusThree(levels=3), [0.1, 0.2, 0.3]
    how = {"accrual": Accrual(10), "times": EventTimes(28), "trials": 2, "target": target}
    remedy = "; write 25 % as 0.25" if target == 25 else ""
    for ask in (
        lambda: characteristics(design, risks, target=target),
        lambda: simulate_trials(design, risks, **how),
        lambda: compare_trials({"a": (design, risks)}, **how),
    ):
        with pytest.raises(PkpdError, match=f"target: {target:g} is no probability.*{remedy}"):
            ask()


def test_fewer_rates_of_response_than_doses_are_refused():
    how = {"accrual": Accrual(10), "times": EventTimes(28), "trials": 2}
    rates = Responses((0.5,), EventTimes(28))
    with pytest.raises(PkpdError, match="responses: 1 rates for 3 doses"):
        compare_trials({"a": (_boin(), [0.1, 0.2, 0.3])}, **how, responses=rates)


@pytest.mark.parametrize("words", DOORS)
def test_a_wrong_kind_is_refused_in_a_sentence(words):
    with pytest.raises(PkpdError, match=words):
        DOORS[words]()


@pytest.mark.parametrize("kind", [Keyboard, MTPI2])
def test_one_margin_holds_on_both_sides(kind):
    one, two = (kind(levels=5, target=0.3, margin=m) for m in (0.04, (0.04, 0.04)))
    assert (decision_table(one).letters == decision_table(two).letters).all()
    assert one.de_escalation_rate == pytest.approx(0.34)


@pytest.mark.parametrize("design", [_crm(), BLRM(**BLR), TiteCRM(
    levels=3, target=0.25, skeleton=SKELETON
)])  # fmt: skip
def test_risks_are_estimated_for_one_trial_too(design):
    assert (design.risks(SEEN) == design.risks(SEEN.batch())).all()
    assert (design.exceeds(SEEN, 2, 0.3) == design.exceeds(SEEN.batch(), 2, 0.3)).all()
    assert design.risks(SEEN).shape == (1, 3)


@pytest.mark.parametrize("design", [_boin(), _crm(), ThreePlusThree(levels=3)])
def test_selection_asks_for_one_trial_or_many(design):
    assert design.select(SEEN).tolist() == design.select(SEEN.batch()).tolist()
    assert (design.eliminated(SEEN) == design.eliminated(SEEN.batch())).all()


def test_lists_and_numpy_counts_are_counts():
    data = TrialData(np.array([3, 3, 0]), [0, 1, 0], 2, last_cohort=(3, 1))
    assert data == TrialData((3, 3, 0), (0, 1, 0), 2, last_cohort=(3, 1))
    assert isotonic_risks([0, 1], [3, 3]).shape == (2,)


@pytest.mark.filterwarnings("error")
def test_an_interval_up_to_1_is_asked_without_the_logarithm_of_0():
    stops = (PreciseAtDose(0.2, 1.0, 0.5, 1),)
    found = CRM(levels=3, target=0.25, skeleton=SKELETON, stops=stops).next_dose(SEEN)
    assert "lies in 0.2 to 1 with probability" in found.reason
