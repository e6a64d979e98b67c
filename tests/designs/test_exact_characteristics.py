"""Exact operating characteristics against closed forms, other programs and simulation."""

from __future__ import annotations

import time

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from pkpd.designs import (
    BOIN,
    CRM,
    MTPI2,
    Accrual,
    EnoughAtDose,
    EventTimes,
    Keyboard,
    ThreePlusThree,
    TooToxic,
    TrialData,
    characteristics,
    enumerate_courses,
    pathways,
    simulate_trials,
)
from pkpd.designs.text import characteristics_lines
from pkpd.errors import PkpdError

THREE_PLUS_THREE = [
    # true risks; without de-escalation, with it, with six at the highest dose too:
    # none and each dose selected, patients at each dose, patients, DLTs
    (
        ".12 .27 .44 .53 .57",
        (
            (
                ".128545 .386111 .364828 .103610 .015138 .001769",
                "3.8364 3.7429 2.0588 .4885 .0668",
                10.1933,
                2.6738,
            ),
            (
                ".142089 .422255 .346986 .077868 .009033 .001769",
                "4.8587 4.5741 2.2915 .5221 .0668",
                12.3133,
                3.1411,
            ),
            (
                ".142089 .422267 .347069 .078100 .009518 .000957",
                "4.8588 4.5743 2.2922 .5240 .0708",
                12.3200,
                3.1447,
            ),
        ),
    ),
    (
        ".05 .15 .30 .45 .60",
        (
            (
                ".026558 .181262 .400635 .299799 .084183 .007563",
                "3.4061 3.8698 3.4246 1.6543 .3545",
                12.7094,
                2.7353,
            ),
            (
                ".027847 .200575 .428782 .276469 .058765 .007563",
                "3.9395 4.8872 4.1017 1.8336 .3545",
                15.1165,
                3.1984,
            ),
            (
                ".027847 .200583 .428946 .277445 .061421 .003758",
                "3.9395 4.8876 4.1041 1.8418 .3721",
                15.1450,
                3.2134,
            ),
        ),
    ),
    (
        ".10 .25 .40 .55 .70",
        (
            (
                ".093853 .362592 .375427 .147689 .019784 .000656",
                "3.7290 3.8653 2.3351 .6729 .0729",
                10.6752,
                2.6944,
            ),
            (
                ".103045 .398875 .368350 .117813 .011261 .000656",
                "4.7139 4.7384 2.6624 .7174 .0729",
                12.9050,
                3.1665,
            ),
        ),
    ),
    (
        ".05 .10 .20 .35 .50",
        (
            (
                ".026558 .091360 .257032 .377246 .205213 .042591",
                "3.4061 3.6300 3.6624 2.7070 1.0222",
                14.4277,
                2.7243,
            ),
            (
                ".027183 .097232 .281893 .385939 .165162 .042591",
                "3.6647 4.3260 4.5669 3.1335 1.0222",
                16.7133,
                3.1370,
            ),
        ),
    ),
]
VARIANTS = ({"de_escalate": False}, {}, {"six_at_top": True})

BOIN_10_BY_3 = [  # target, risks, none, selected, patients at each dose, patients, DLTs
    (
        0.3,
        ".05 .15 .30 .45 .60",
        0.021,
        "1.169 23.206 54.633 19.370 1.600",
        "4.1751 9.0969 11.1588 4.7509 .8128",
        29.9946,
        7.5466,
    ),
    (
        0.3,
        ".10 .25 .40 .55 .70",
        0.248,
        "9.645 54.135 31.773 4.061 .139",
        "7.2105 13.0309 7.8084 1.7415 .1479",
        29.9392,
        8.1635,
    ),
    (
        0.3,
        ".45 .60 .70 .80 .90",
        68.741,
        "30.519 .724 .016 0 0",
        "15.8649 1.8053 .1131 .0030 0",
        17.7864,
        8.3040,
    ),
    (
        0.2,
        ".05 .10 .20 .30 .50",
        0.847,
        "4.771 30.451 42.989 19.193 1.749",
        "6.2884 9.9660 8.8017 3.9069 .8131",
        29.7760,
        4.6499,
    ),
]

BOIN_SIMULATED = [  # BOIN 2.7.2 (R), get.oc(ntrial=10000, seed=6): none and selected, per cent
    (0.3, ".05 .15 .30 .45 .60", "0.02 1.08 23.52 54.96 19.03 1.39"),
    (0.3, ".10 .25 .40 .55 .70", "0.31 9.71 54.32 31.44 4.11 .11"),
    (0.3, ".45 .60 .70 .80 .90", "68.93 30.47 .59 .01 0 0"),
    (0.2, ".05 .10 .20 .30 .50", "0.76 4.81 29.83 43.14 19.81 1.65"),
]


def floats(text):
    return [float(word) for word in text.split()]


def none_and_selected(found):
    return np.concatenate([[float(found.none)], found.selected.values])


@pytest.mark.parametrize(("risks", "rows"), THREE_PLUS_THREE)
def test_three_plus_three(risks, rows):
    for settings_, (selected, treated, patients, dlts) in zip(VARIANTS, rows, strict=False):
        found = characteristics(ThreePlusThree(levels=5, **settings_), floats(risks))
        np.testing.assert_allclose(none_and_selected(found), floats(selected), atol=6e-7)
        np.testing.assert_allclose(found.treated, floats(treated), atol=6e-5)
        assert float(found.patients) == pytest.approx(patients, abs=6e-5)
        assert float(found.all_dlts) == pytest.approx(dlts, abs=6e-5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6).map(sorted))
@settings(max_examples=30)
def test_three_plus_three_without_de_escalation_has_a_closed_form(risks):
    p = np.array(risks)
    q = 1 - p
    passed = q**3 + 3 * p * q**2 * q**3
    reached = np.concatenate([[1.0], np.cumprod(passed)])
    found = characteristics(ThreePlusThree(levels=len(p), de_escalate=False), p)
    expected = np.append(reached[:-1] * (1 - passed), reached[-1])
    np.testing.assert_allclose(none_and_selected(found), expected, atol=1e-12)
    treated = reached[:-1] * (3 + 9 * p * q**2)
    np.testing.assert_allclose(found.treated, treated, atol=1e-12)
    np.testing.assert_allclose(found.dlts, p * treated, atol=1e-12)


@pytest.mark.parametrize("row", BOIN_10_BY_3)
def test_boin_ten_cohorts_of_three(row):
    target, risks, none, selected, treated, patients, dlts = row
    found = characteristics(BOIN(levels=5, target=target), floats(risks))
    assert 100 * float(found.none) == pytest.approx(none, abs=6e-4)
    np.testing.assert_allclose(100 * found.selected, floats(selected), atol=6e-4)
    np.testing.assert_allclose(found.treated, floats(treated), atol=6e-5)
    assert float(found.patients) == pytest.approx(patients, abs=6e-5)
    assert float(found.all_dlts) == pytest.approx(dlts, abs=6e-5)


@pytest.mark.parametrize(("target", "risks", "printed"), BOIN_SIMULATED)
def test_boin_against_10_000_trials_of_the_r_package(target, risks, printed):
    found = none_and_selected(characteristics(BOIN(levels=5, target=target), floats(risks)))
    error = np.sqrt(found * (1 - found) / 10_000)
    assert (np.abs(found - np.array(floats(printed)) / 100) < 3 * error + 1e-4).all()


@pytest.mark.slow
def test_boin_twenty_cohorts_against_1_000_trials_of_the_r_package():
    design = BOIN(levels=5, target=0.3, most_patients=60)
    found = simulate_trials(
        design,
        [0.05, 0.15, 0.3, 0.45, 0.6],
        accrual=Accrual(1),
        times=EventTimes(1),
        trials=20_000,
    )
    printed = np.array([0.1, 1.1, 23.5, 65.0, 10.1, 0.2]) / 100
    ours = none_and_selected(found)
    assert (np.abs(ours - printed) < 3 * np.sqrt(ours * (1 - ours) / 1000) + 1e-3).all()
    printed = np.array([4.611, 17.733, 27.753, 8.778, 1.068])
    error = found.treated_se.values * np.sqrt(1 + 20_000 / 1000)
    assert (np.abs(found.treated.values - printed) < 3 * error).all()
    error = float(found.all_dlts_se) * np.sqrt(1 + 20_000 / 1000)
    assert abs(float(found.all_dlts) - 15.814) < 3 * error


CRYSTALLISED = [  # dfcrm over all paths; four cohorts of 3; the third is Pr(none)
    (
        (0.05, 0.1, 0.25, 0.4, 0.6),
        None,
        ".000126873 .019865966 .227135284 .451791018 .273014489 .028066370",
        0.999873,
    ),
    (
        (0.45, 0.6, 0.68, 0.75, 0.81),
        None,
        ".302746 .640771 .0502073 .00555267 .000693069 .0000299",
        0.697254,
    ),
    (
        (0.45, 0.6, 0.68, 0.75, 0.81),
        9,
        ".210322 .739350 .0440522 .00555267 .000693069 .0000299",
        0.136548,
    ),
    (
        (0.45, 0.6, 0.68, 0.75, 0.81),
        12,
        ".302746 .640771 .0502073 .00555267 .000693069 .0000299",
        0.239891,
    ),
]


@pytest.mark.parametrize(("risks", "enough", "selected", "goes_on"), CRYSTALLISED)
def test_crm_with_stopping_rules(risks, enough, selected, goes_on):
    design = CRM(
        levels=5,
        target=0.25,
        skeleton=(0.05, 0.1, 0.25, 0.4, 0.6),
        coherence="none",
        skip_up=True,
        most_patients=12,
        normal_limits=True,
        stops=(TooToxic(0.35, 0.9), *([EnoughAtDose(enough)] if enough else [])),
    )
    found = characteristics(design, risks)
    np.testing.assert_allclose(none_and_selected(found), floats(selected), rtol=2e-6, atol=6e-8)
    stopped = found.stopped.sel(why="maximum number of patients")
    assert float(stopped) == pytest.approx(goes_on, abs=6e-7)


def test_200_draws_of_the_risks_are_quick_and_each_is_what_it_is_alone():
    design = BOIN(levels=5, target=0.3)
    risks = np.sort(np.random.default_rng(1).beta(1, 3, (200, 5)), axis=1)
    started = time.process_time()
    alone = characteristics(design, risks[17])
    one = time.process_time() - started
    found = characteristics(design, risks)
    # 1.5 times as long; one after another, 200 times
    assert time.process_time() - started < 20 * one
    assert found.selected.dims == ("draw", "level")
    np.testing.assert_allclose(found.selected[17], alone.selected, atol=1e-13)
    np.testing.assert_allclose(found.treated[17], alone.treated, atol=1e-12)
    np.testing.assert_allclose(found.none + found.selected.sum("level"), 1, atol=1e-12)


designs = st.one_of(
    st.builds(ThreePlusThree, levels=st.integers(1, 4), de_escalate=st.booleans()),
    st.builds(
        lambda kind, levels, target, cohorts, size, **more: kind(
            levels=levels, target=target, cohort_size=size, most_patients=cohorts * size, **more
        ),
        st.sampled_from([BOIN, Keyboard, MTPI2]),
        st.integers(1, 4),
        st.floats(0.15, 0.4),
        st.integers(1, 5),
        st.integers(1, 3),
        titrate=st.booleans(),
    ),
)


@given(designs, st.data())
@settings(max_examples=40)
def test_probabilities_sum_to_one_and_expected_dlts_are_risks_times_patients(design, data):
    p = data.draw(
        st.lists(st.floats(0, 1), min_size=design.levels, max_size=design.levels).map(sorted)
    )
    found = characteristics(design, p)
    assert none_and_selected(found).sum() == pytest.approx(1, abs=1e-10)
    assert float(found.stopped.sum()) == pytest.approx(1, abs=1e-10)
    np.testing.assert_allclose(found.dlts, np.array(p) * found.treated, atol=1e-9)


def test_a_safer_drug_has_its_selection_no_lower():
    design = BOIN(levels=4, target=0.25, most_patients=18)
    base = np.array([0.1, 0.2, 0.3, 0.45])
    mean = [
        float((characteristics(design, base * share).selected * np.arange(1, 5)).sum())
        for share in (1.3, 1.0, 0.7, 0.4)
    ]
    assert np.all(np.diff(mean) > 0)


def test_ends_are_those_of_all_paths():
    """The merged states against every path written out one by one."""
    design = BOIN(levels=3, target=0.25, most_patients=12)
    p = np.array([0.15, 0.3, 0.5])
    paths = pathways(design, 4)
    chance = paths.probabilities(p)[0]
    assert chance.sum() == pytest.approx(1, abs=1e-12)
    found = characteristics(design, p)
    by_path = [chance[paths.mtd == level].sum() for level in range(4)]
    np.testing.assert_allclose(none_and_selected(found), by_path, atol=1e-12)


def test_pathways_from_what_a_trial_has_seen():
    design = ThreePlusThree(levels=3)
    paths = pathways(design, 2, TrialData.from_outcomes(3, "1NNN 2NNT"))
    assert paths.levels[:, 0].tolist() == [2] * len(paths.levels)
    first = paths.levels[paths.dlts[:, 0] == 0, 1]
    assert set(first) == {3}
    p = np.array([0.1, 0.2, 0.4])
    worst = paths.probabilities(p)[0][paths.dlts[:, 0] == 3].sum()
    assert worst == pytest.approx(binom.pmf(3, 3, 0.2), abs=1e-12)


def test_too_many_states_are_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr("pkpd.designs.exact.courses._STEPS", 40)
    with pytest.raises(PkpdError, match=r"more than 100 states; simulate it"):
        enumerate_courses(BOIN(levels=5, target=0.3), most_states=100)
    with pytest.raises(PkpdError, match="does not stop within 40 cohorts; set most_patients"):
        enumerate_courses(BOIN(levels=1, target=0.5, cohort_size=1, most_patients=None))


def test_draws_whose_dimensions_have_names_come_in_any_order():
    rows = xr.DataArray([[0.1, 0.3], [0.2, 0.6]], dims=("draw", "cohort"))  # as many draws as doses
    design = BOIN(levels=2, target=0.25, most_patients=6)
    expected = characteristics(design, rows.values)
    xr.testing.assert_identical(characteristics(design, rows), expected)
    xr.testing.assert_identical(characteristics(design, rows.transpose("cohort", "draw")), expected)


def test_risks_that_are_no_probabilities_are_refused():
    design = BOIN(levels=2, target=0.3)
    with pytest.raises(PkpdError, match=r"10 is no risk of a DLT.*write per cent as a fraction"):
        characteristics(design, [10, 25])
    with pytest.raises(PkpdError, match=r"one risk for each dose"):
        characteristics(design, [0.1, 0.2, 0.3])


@pytest.mark.parametrize(("risks", "right", "above"), [
    ((0.3, 0.3, 0.5), (1, 2), (3,)),  # a plateau at the target
    ((0.2, 0.4, 0.6), (1, 2), (3,)),  # as far below it as above
    ((0.5, 0.3, 0.1), (2,), (1,)),  # risks that fall
    ((0.1, 0.2, 0.2), (2, 3), ()),
    ((0.1, 0.28, 0.45), (2,), (3,)),
])  # fmt: skip
def test_doses_are_right_and_too_high_by_their_risks(risks, right, above):
    found = characteristics(BOIN(levels=3, target=0.3), risks)
    selected, treated = (
        dict(zip((1, 2, 3), found[n].values, strict=True)) for n in ("selected", "treated")
    )
    assert float(found.right) == right[0]
    assert float(found.correct) == pytest.approx(sum(selected[j] for j in right), abs=1e-12)
    assert float(found.too_high) == pytest.approx(sum(selected[j] for j in above), abs=1e-12)
    share = sum(treated[j] for j in above) / sum(treated.values())
    assert float(found.overdosed) == pytest.approx(share, abs=1e-12)


def test_a_plateau_at_the_target_is_named_with_all_its_doses():
    design, doses = BOIN(levels=3, target=0.3), ["a", "b", "c"]
    text = "\n".join(characteristics_lines(characteristics(design, [0.3, 0.3, 0.5]), doses))
    assert (  # 0.37887 + 0.37356, as another enumeration has them
        "The doses closest to the target 0.3 are a and b: one of them is selected with probability "
        "0.752, a higher one with 0.075; 12.9 % of patients are treated above them."
    ) in text
    text = "\n".join(characteristics_lines(characteristics(design, [0.5, 0.3, 0.1]), doses))
    assert "is b: selected with probability 0.014, one of a higher risk with 0.099; 74.9 %" in text


def test_three_plus_three_treats_no_more_than_its_maximum():
    found = characteristics(ThreePlusThree(levels=3, most_patients=7), [0.0, 0.0, 0.0])
    assert float(found.patients) == 7.0
    assert found.treated.values.tolist() == [3.0, 3.0, 1.0]
