"""BLRM and overdose control against exact posteriors, OncoBayes2's example and crmPack's tests."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import log_expit, logit

from pkpd.designs import (
    BLRM,
    OverdoseControl,
    PreciseAtDose,
    TrialData,
    Trials,
    Why,
    characteristics,
    dose_by_draws,
    dose_by_mtd,
)
from pkpd.errors import PkpdError

DOSES = (1, 2.5, 5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 250)
SEEN = TrialData((3, 4, 5, 4, 0, 0, 2) + (0,) * 8, (0, 0, 0, 0, 0, 0, 2) + (0,) * 8, current=7)
COMMON = {"levels": 15, "amounts": DOSES, "reference": 250}
PAPER = BLRM(  # Neuenschwander, Branson and Gsponer 2008
    prior_mean=(2.15, 0.52),
    prior_sd=(0.84, 0.80),
    prior_correlation=0.134 / (0.84 * 0.80),
    interval=(0.20, 0.35),
    **COMMON,
)
ONCOBAYES = BLRM(prior_mean=(0.0, 0.0), prior_sd=(2.0, 1.0), interval=(0.16, 0.33), **COMMON)


def floats(text):
    return np.array([float(word) for word in text.split()])


def test_posterior_means_by_another_quadrature():
    batch = SEEN.batch()
    printed = (
        ".01156 .02948 .06129 .12721 .19182 .25268 .30887 .36014 .44862 .52070 .64837 .72838 "
        ".81846 .86589 .89445"
    )
    np.testing.assert_allclose(PAPER.risks(batch)[0], floats(printed), atol=6e-6)
    np.testing.assert_allclose(PAPER.moments(batch)[0][0], [2.38893, 0.32026], atol=6e-6)
    alone = replace(PAPER, prior_correlation=0.0)
    printed = (
        ".01125 .02931 .06168 .12904 .19496 .25690 .31390 .36576 .45495 .52731 .65493 .73460 "
        ".82398 .87083 .89895"
    )
    np.testing.assert_allclose(alone.risks(batch)[0], floats(printed), atol=6e-6)
    np.testing.assert_allclose(alone.moments(batch)[0][0], [2.42986, 0.32857], atol=6e-6)


def test_posterior_means_of_the_paper_and_of_bcrm():
    """The paper's are read off its figure; bcrm's (R, JAGS) have Monte Carlo error."""
    risks = PAPER.risks(SEEN.batch())[0]
    paper = ".01 .02 .05 .13 .19 .25 .30 .35 .47 .53 .68 .74 .85 .89 .92"
    np.testing.assert_allclose(risks, floats(paper), atol=0.035)
    bcrm = (
        ".01276366 .03170250 .06454400 .13103260 .19505604 .25486603 .30990977 .36015142 "
        ".44716663 .51852928 .64632144 .72710146 .81804596 .86567496 .89421686"
    )
    np.testing.assert_allclose(risks, floats(bcrm), atol=0.004)


def test_interval_probabilities():
    """Printed ones come from a grid whose own error is some 1e-4 of a probability."""
    target, over = (part[0] for part in PAPER.intervals(SEEN.batch()))
    rows = {  # dose: below 0.20, 0.20 to 0.35, 0.35 to 0.60, above
        10: (0.80839, 0.17019, 0.02137, 0.00004),
        15: (0.57871, 0.32645, 0.09402, 0.00082),
        20: (0.37656, 0.40197, 0.21597, 0.00551),
        25: (0.23309, 0.39531, 0.35137, 0.02022),
        30: (0.14058, 0.34259, 0.46626, 0.05057),
        40: (0.04942, 0.21283, 0.57438, 0.16336),
    }
    for dose, (under, inside, high, very_high) in rows.items():
        j = DOSES.index(dose)
        assert target[j] == pytest.approx(inside, abs=7e-4)
        assert over[j] == pytest.approx(high + very_high, abs=7e-4)
        assert 1 - target[j] - over[j] == pytest.approx(under, abs=7e-4)


def test_interval_probabilities_by_adaptive_quadrature():
    x = np.log(np.array(DOSES) / 250)
    n, y = np.array(SEEN.treated), np.array(SEEN.dlts)
    m, s, rho = (2.15, 0.52), (0.84, 0.80), 0.134 / (0.84 * 0.80)

    def density(a, b):
        odds = a + np.exp(b) * x
        u, v = (a - m[0]) / s[0], (b - m[1]) / s[1]
        square = (u * u - 2 * rho * u * v + v * v) / (1 - rho**2)
        return np.exp(y @ log_expit(odds) + (n - y) @ log_expit(-odds) - 0.5 * square)

    slopes = np.linspace(0.52 - 4.5 * 0.8, 0.52 + 4.5 * 0.8, 61)

    def above(j, limit):
        total = 0.0
        for b in slopes:
            low = -8.0 if j is None else float(np.clip(logit(limit) - np.exp(b) * x[j], -8, 10))
            total += sum(quad(density, *end, args=(b,))[0] for end in pairwise((low, 3.0, 10.0)))
        return total

    whole = above(None, 0.0)
    over = PAPER.intervals(SEEN.batch())[1][0]
    for dose in (10, 25):
        j = DOSES.index(dose)
        assert over[j] == pytest.approx(above(j, 0.35) / whole, abs=3e-5)


def test_overdose_control_allows_20_and_not_25():
    over = PAPER.intervals(SEEN.batch())[1][0]
    assert over[DOSES.index(20)] == pytest.approx(0.2215, abs=2e-4)
    assert over[DOSES.index(25)] == pytest.approx(0.3716, abs=5e-4)
    found = PAPER.next_dose(SEEN)
    assert found.level == DOSES.index(20) + 1
    assert found.eliminated == tuple(range(7, 16))
    assert "in 0.2 to 0.35 with probability 0.402" in found.reason
    assert replace(PAPER, next_is="highest").next_dose(SEEN).level == DOSES.index(20) + 1


def test_single_agent_example_of_oncobayes2():
    batch = SEEN.batch()
    means = ONCOBAYES.risks(batch)[0]
    target, over = (part[0] for part in ONCOBAYES.intervals(batch))
    rows = {  # mean, below 0.16, 0.16 to 0.33, above
        1: (0.02130, 0.99270, 0.00720, 0.00009),
        5: (0.06997, 0.91368, 0.08360, 0.00272),
        10: (0.12628, 0.70694, 0.26314, 0.02992),
        15: (0.17904, 0.50555, 0.38851, 0.10594),
        20: (0.22738, 0.36307, 0.42550, 0.21143),
        25: (0.27099, 0.26967, 0.41275, 0.31758),
        30: (0.31002, 0.20865, 0.38058, 0.41077),
    }
    for dose, (mean, under, inside, high) in rows.items():
        j = DOSES.index(dose)
        assert means[j] == pytest.approx(mean, abs=6e-6)
        assert target[j] == pytest.approx(inside, abs=7e-4)
        assert over[j] == pytest.approx(high, abs=7e-4)
        assert 1 - target[j] - over[j] == pytest.approx(under, abs=7e-4)
    others = {2.5: 0.04045, 40: 0.37593, 50: 0.42872, 100: 0.58359, 250: 0.73511}
    for dose, mean in others.items():
        assert means[DOSES.index(dose)] == pytest.approx(mean, abs=6e-6)
    np.testing.assert_allclose(ONCOBAYES.moments(batch)[0][0], [1.50941, 0.02186], atol=6e-6)
    allowed = ONCOBAYES.allowed(batch)[0]
    assert DOSES[int(np.flatnonzero(allowed)[-1])] == 20


def test_prior_means_of_crmpack():
    doses = (3, 10, 20, 40, 60, 80)
    design = BLRM(
        levels=6,
        amounts=doses,
        reference=56,
        prior_mean=(-0.85, 1.0),
        prior_sd=(1.0, 1.0),
        prior_correlation=-0.5,
    )
    nobody = Trials(
        treated=np.zeros((1, 6), int), dlts=np.zeros((1, 6), int), current=np.zeros(1, int)
    )
    printed = ".03149 .05982 .09749 .19374 .38655 .60492"
    np.testing.assert_allclose(design.risks(nobody)[0], floats(printed), atol=6e-6)


GRID = np.arange(25, 301, 25)


def test_next_dose_by_draws_as_crmpack():
    intercept = np.array([-1.8, -3.8, -2.2, -1.6])[:, None]
    slope = np.array([1.7, 3.3, 5.1, 2.2])[:, None]
    risks = 1 / (1 + np.exp(-(intercept + slope * np.log(GRID / 50))))
    level, target, over = dose_by_draws(risks, (0.20, 0.35))
    assert target.tolist() == [0, 0, 0.5, 0.25, 0.25] + [0] * 7
    assert over.tolist() == [0, 0, 0.25, 0.5, 0.75] + [1] * 7
    assert GRID[level - 1] == 75
    held = dose_by_draws(risks, (0.20, 0.35), allowed=GRID <= 45)[0]
    assert GRID[held - 1] == 25
    assert dose_by_draws(risks, (0.2, 0.35), allowed=GRID > 100)[0] == 0


def test_next_dose_by_a_quantile_of_the_mtd_as_crmpack():
    intercept = np.array([-2.38, -2.13, -1.43, -2.57])
    slope = np.array([1.67, 1.3, 1.77, 2.51])
    mtds = 50 * np.exp((logit(0.33) - intercept) / slope)
    assert GRID[dose_by_mtd(mtds, GRID, most=90) - 1] == 75
    assert GRID[dose_by_mtd(mtds, GRID) - 1] == 100
    assert dose_by_mtd(mtds, GRID, most=0) == 0


def test_a_dose_rises_by_at_most_so_many_times():
    design = BLRM(levels=4, amounts=(5, 10, 40, 60), reference=40, most_increase=2.0, skip_up=True)
    data = TrialData.from_outcomes(4, "1NNNNNN 2NNNNNNNNN")
    assert replace(design, most_increase=None).next_dose(data).level > 2
    assert design.next_dose(data).level == 2


def test_a_trial_stops_when_the_dose_is_known_well_enough():
    rule = PreciseAtDose(low=0.16, high=0.33, certainty=0.4, patients=6)
    design = BLRM(levels=3, amounts=(10, 20, 40), reference=20, stops=(rule,))
    few = design.next_dose(TrialData((3, 3, 0), (0, 1, 0), current=2))
    assert few.why == Why.GOES_ON
    found = design.next_dose(TrialData((3, 12, 0), (0, 3, 0), current=2))
    assert (found.why, found.mtd) == (Why.PRECISE, 2)
    assert "lies in 0.16 to 0.33 with probability" in found.reason


def test_exact_characteristics_of_a_model():
    design = BLRM(levels=3, amounts=(10, 20, 40), reference=20, most_patients=12, points=(201, 61))
    found = characteristics(design, [[0.1, 0.25, 0.4], [0.6, 0.7, 0.8]])
    np.testing.assert_allclose(found.none + found.selected.sum("level"), 1, atol=1e-12)
    assert found.none[1] > 0.8
    assert found.none[0] < 0.4


def test_wrong_settings_are_refused():
    for wrong, text in (
        ({"amounts": (10, 10, 40)}, "above 0, rising"),
        ({"amounts": (10, 20)}, "one for each level"),
        ({"interval": (0.33, 0.16)}, "0 < low < high < 1"),
        ({"prior_sd": (0.0, 1.0)}, "above 0"),
        ({"prior_correlation": 1.0}, "between -1 and 1"),
        ({"next_is": "lowest"}, "target, highest"),
        ({"most_increase": 0.5}, "above 1"),
        ({"reference": 0.0}, "above 0"),
    ):
        settings = {"levels": 3, "amounts": (10, 20, 40), "reference": 20.0, **wrong}
        with pytest.raises(PkpdError, match=text):
            BLRM(**settings)


def test_a_certainty_beside_another_of_overdose_control_is_refused():
    design = BLRM(levels=3, amounts=(10, 20, 40), reference=20, certainty=0.4)
    assert design.overdose == OverdoseControl(0.33, 0.4)
    for certainty in (0.3, 0.25):  # the latter is the usual one: it kept 0.4
        assert replace(design, certainty=certainty).overdose == OverdoseControl(0.33, certainty)
    given = replace(design, overdose=OverdoseControl(0.33, 0.4))
    with pytest.raises(PkpdError, match=r"it is 0.3, and overdose has 0.4"):
        replace(given, certainty=0.3)


def test_the_reason_tells_that_the_largest_increase_held_the_dose_back():
    design = BLRM(levels=4, amounts=(1, 2, 4, 8), reference=4)
    seen = TrialData((3, 0, 0, 0), (0, 0, 0, 0), 1)
    assert design.next_dose(seen).level == 2
    assert "times the highest given" not in design.next_dose(seen).reason
    held = replace(design, most_increase=1.5).next_dose(seen)
    assert held.level == 1
    assert held.reason.endswith("asked for, and is more than 1.5 times the highest given.")


def test_another_interval_moves_what_follows_from_it():
    design = BLRM(levels=3, amounts=(10, 20, 40), reference=20, certainty=0.4)
    moved = replace(design, interval=(0.2, 0.4))
    made = BLRM(levels=3, amounts=(10, 20, 40), reference=20, certainty=0.4, interval=(0.2, 0.4))
    assert moved == made
    assert (moved.target, moved.overdose) == (pytest.approx(0.3), OverdoseControl(0.4, 0.4))
    given = BLRM(
        levels=3, amounts=(10, 20, 40), reference=20, target=0.25, overdose=OverdoseControl(0.35)
    )
    kept = replace(given, interval=(0.2, 0.4))
    assert (kept.target, kept.overdose) == (0.25, OverdoseControl(0.35))
