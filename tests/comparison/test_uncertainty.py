"""Variance components, Monte Carlo errors and intervals against known truths and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from pkpd.comparison.crossed import CrossedTimes
from pkpd.comparison.uncertainty import (
    _interval,
    crossed,
    paired_difference,
    quantiles_with_uncertainty,
    recovery_curve,
    risk,
)
from pkpd.errors import DataError


def crossed_sample(rng, m, n, sd_a, sd_b, sd_c, mean=0.0):
    """Continuous crossed effects."""
    a, b = rng.normal(0, sd_a, (m, 1)), rng.normal(0, sd_b, (1, n))
    return mean + a + b + rng.normal(0, sd_c, (m, n))


def probit_sample(rng, m, n, sd_a=0.5, sd_b=1.0, sd_c=0.4, shift=-1.0):
    """Events of a probit model; returns outcomes and the true risk of each draw."""
    a = rng.normal(0, sd_a, (m, 1))
    latent = shift + a + rng.normal(0, sd_b, (1, n)) + rng.normal(0, sd_c, (m, n))
    return latent > 0, norm.cdf((shift + a[:, 0]) / np.hypot(sd_b, sd_c))


def test_components_by_hand():
    # rows 1 3 / 5 11: mean 5, row means 2 8, column means 3 7, residuals 1 -1 / -1 1
    found = crossed([[1.0, 3.0], [5.0, 11.0]])
    a, b, e = 2 * (9 + 9), 2 * (4 + 4), 4.0
    assert found.mean == 5.0
    assert found.residual == pytest.approx(e)
    assert found.draws == pytest.approx((a - e) / 2)
    assert found.patients == pytest.approx((b - e) / 2)
    assert found.mc_error == pytest.approx(np.sqrt((a + b - e) / 4))


def test_components_are_unbiased_and_error_matches_repeated_simulation():
    rng = np.random.default_rng(3)
    m, n, repeats = 12, 25, 4000
    sd = (0.4, 1.0, 0.8)
    runs = [crossed(crossed_sample(rng, m, n, *sd)) for _ in range(repeats)]
    for name, truth in zip(("draws", "patients", "residual"), np.square(sd), strict=True):
        values = np.array([getattr(run, name) for run in runs])
        # negative estimates, set to 0, are rare at this size; 4 standard errors
        assert values.mean() == pytest.approx(truth, abs=4 * values.std() / np.sqrt(repeats))
    empirical = np.var([run.mean for run in runs])
    claimed = np.mean([run.mc_error**2 for run in runs])
    # relative standard error of a variance from 4000 runs: sqrt(2 / 4000) = 2.2 %
    assert claimed == pytest.approx(empirical, rel=0.09)


def test_error_of_a_risk_matches_repeated_simulation():
    rng = np.random.default_rng(4)
    runs = [risk(probit_sample(rng, 20, 40)[0]) for _ in range(2500)]
    empirical = np.std([run.estimate for run in runs])
    claimed = np.sqrt(np.mean([run.mc_error**2 for run in runs]))
    assert claimed == pytest.approx(empirical, rel=0.07)


def test_shares_are_the_law_of_total_variance():
    rng = np.random.default_rng(5)
    # probit on the latent scale: integrate the truth numerically over a large population
    y, p = probit_sample(rng, 400, 2000)
    found = risk(y)
    mean = norm.cdf(-1.0 / np.sqrt(0.25 + 1.0 + 0.16))
    draws = np.var(norm.cdf((-1.0 + rng.normal(0, 0.5, 400_000)) / np.hypot(1.0, 0.4)))
    # 400 draws: 7 % on a variance
    assert found.share_parameters == pytest.approx(draws / (mean * (1 - mean)), rel=0.25)
    assert found.share_parameters + found.share_patients == pytest.approx(1.0)
    assert 0.0 < found.share_interaction < found.share_patients
    assert found.estimate == pytest.approx(p.mean(), abs=4 * found.mc_error)
    fixed = risk(np.tile(rng.random(50) < 0.3, (10, 1)))
    assert fixed.share_parameters == pytest.approx(0.0, abs=1e-15)
    assert np.isnan([fixed.lower, fixed.upper]).all()


def test_interval_is_that_of_the_parameters_not_of_the_patients():
    """With few patients the raw quantiles are far too wide; the corrected ones are not."""
    rng = np.random.default_rng(6)
    truth = norm.cdf((-1.0 + 0.25 * norm.ppf([0.05, 0.95])) / 1.5)
    corrected, raw, coverage = [], [], []
    for _ in range(300):
        # mostly chance inside a lane: few patients blur the draws
        y, _ = probit_sample(rng, 100, 40, sd_a=0.25, sd_b=0.3, sd_c=np.sqrt(1.5**2 - 0.09))
        found = risk(y)
        corrected.append((found.lower, found.upper))
        raw.append(np.quantile(y.mean(axis=1), [0.05, 0.95]))
        new = norm.cdf((-1.0 + rng.normal(0, 0.25, 2000)) / 1.5)
        coverage.append(np.mean((new >= found.lower) & (new <= found.upper)))
    width = truth[1] - truth[0]
    told = np.isfinite(corrected).all(axis=1)
    assert told.mean() > 0.9  # of others the draws differ by no more than chance
    corrected_width = np.mean(np.diff(corrected, axis=1)[told])
    raw_width = np.mean(np.diff(raw, axis=1))
    assert corrected_width == pytest.approx(width, rel=0.08)
    assert raw_width > 1.3 * width
    # 90 % of plausible risks lie inside on average; less what the shared patients shift
    assert 0.82 < np.mean(np.array(coverage)[told]) < 0.93


def test_draws_that_differ_by_chance_alone_have_no_interval():
    """Between draws as much as within them, but for rounding: the interval had no width."""
    rng = np.random.default_rng(4)
    y = (rng.random((20, 60)) < 0.3).astype(float)
    y -= y.mean(axis=1, keepdims=True)
    chance = crossed(y).residual / 60
    spread = np.linspace(-1.0, 1.0, 20)
    spread *= np.sqrt(chance / spread.var(ddof=1)) * (1.0 + 1e-15)
    found = crossed(y + spread[:, None])
    assert found.draws < 1e-12 * chance
    lower, upper = _interval(found)
    assert np.isnan(lower)
    assert np.isnan(upper)


def test_one_discordant_patient_in_one_draw_is_no_interval():
    """It was -0.4 to -0.3 points, which excludes 0, a tenth of its Monte Carlo error wide."""
    rng = np.random.default_rng(0)
    known = rng.random((20, 20)) > 0.2
    a = np.where(known, 0.0, np.nan)
    for at in np.argwhere(known)[::40]:
        b = a.copy()
        b[tuple(at)] = 1.0
        found = paired_difference(a, b)
        assert np.isnan([found.lower, found.upper]).all()
        assert found.estimate == pytest.approx(-1.0 / known.sum())
        assert found.mc_error == pytest.approx(1.0 / known.sum(), rel=0.01)
    b[at[0]] = np.where(known[at[0]], 1.0, np.nan)  # a draw that is far off, alone
    assert np.isnan(paired_difference(a, b).lower)
    # draws that are all alike, whatever their patients are
    same = np.tile(rng.random(300) < 0.3, (200, 1))
    assert np.isnan([risk(same).lower, paired_difference(same, ~same).upper]).all()


def test_draws_that_are_equal_have_an_interval_as_seldom_as_is_said():
    rng = np.random.default_rng(8)
    told = [np.isfinite(risk(rng.random((50, 100)) < 0.3).lower) for _ in range(1000)]
    assert np.mean(told) == pytest.approx(0.05, abs=0.02)


def test_intervals_of_draws_that_differ_are_quantiles_of_their_risks():
    rng = np.random.default_rng(9)
    y = (rng.random((300, 200)) < rng.beta(3, 9, (300, 1))).astype(float)
    by_draw, within = y.mean(axis=1), y.var(axis=1, ddof=1).mean() / 200
    between = by_draw.var(ddof=1)
    # patients do not differ here, so that the residual is nearly the variance within draws
    kept = np.sqrt(1.0 - within / between)
    expected = y.mean() + kept * (np.quantile(by_draw, [0.05, 0.95]) - y.mean())
    found = risk(y)
    assert [found.lower, found.upper] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("judged", [60, 40])
def test_draws_that_judge_as_many_are_all_moved_by_one_factor(judged):
    """The formula of the module; nothing else moves them, whoever it is that each judges."""
    rng = np.random.default_rng(6)
    y = (rng.random((30, 60)) < rng.beta(2, 6, (30, 1))).astype(float)
    for row in y:
        row[rng.permutation(60)[judged:]] = np.nan
    found = crossed(y)
    factor = np.sqrt(found.draws / (found.draws + found.residual / 60))
    expected = found.mean + factor * (np.nanmean(y, axis=1) - found.mean)
    assert found.denoised == pytest.approx(expected, rel=1e-12)
    assert found.kept == pytest.approx(factor**2, rel=1e-12)


def test_each_draw_is_moved_by_the_noise_of_those_whom_it_judges():
    """Risks of 5 to 15 %; where two patients are judged, means of 0, 50 and 100 % are noise."""
    rng = np.random.default_rng(7)
    risks = np.append(np.linspace(0.05, 0.15, 25), np.full(15, 0.1))
    y = (rng.random((40, 200)) < risks[:, None]).astype(float)
    y[25:, 2:] = np.nan
    y[25:28, 0] = 1.0
    found = risk(y)
    assert np.nanmean(y, axis=1)[25:].max() >= 0.5
    assert 0.03 < found.lower < 0.08
    assert 0.12 < found.upper < 0.20  # 39 % with one factor for all draws
    few, many = (
        np.abs(found.by_draw - found.estimate)[part] for part in (slice(25, 28), slice(25))
    )
    assert few.max() < 2.0 * many.max()


def test_an_interval_of_a_difference_is_no_finer_than_a_patient():
    rng = np.random.default_rng(3)
    a = np.zeros((200, 100))
    b = (rng.random((200, 100)) < rng.gamma(1.0, 0.02, (200, 1))).astype(float)
    found = paired_difference(a, b)
    assert found.lower < found.estimate < found.upper == 0.0
    assert (b.sum(axis=1) == 0).mean() > 0.05
    turned = paired_difference(b, a)
    assert (turned.lower, turned.upper) == (0.0, pytest.approx(-found.lower))


def test_a_difference_in_units_of_its_own_has_its_own_ends():
    """One patient of 40 is .025 of a share, and nothing of mg a week."""
    shift = np.linspace(0.02, 0.10, 30)[:, None]
    found = paired_difference(np.broadcast_to(5.0 + shift, (30, 40)), np.full((30, 40), 5.0))
    assert found.lower == pytest.approx(0.024, abs=0.001)


def test_interval_coverage_with_many_patients():
    rng = np.random.default_rng(7)
    coverage = []
    for _ in range(60):
        found = risk(probit_sample(rng, 200, 500)[0])
        new = norm.cdf((-1.0 + rng.normal(0, 0.5, 2000)) / np.hypot(1.0, 0.4))
        coverage.append(np.mean((new >= found.lower) & (new <= found.upper)))
    assert 0.86 < np.mean(coverage) < 0.92


@pytest.mark.parametrize("every", [0.0, 1.0])
def test_an_event_of_nobody_or_everybody_has_an_error_and_no_interval(every):
    found = risk(np.full((50, 200), every))
    assert found.estimate == every
    assert np.isnan([found.lower, found.upper]).all()
    # standard deviation of Beta(1, 201)
    assert found.mc_error == pytest.approx(np.sqrt(201 / (202**2 * 203)))
    assert np.isnan(found.share_parameters)


def test_one_draw_has_no_parameter_interval():
    y = np.array([[1, 0, 0, 1, 0, 0, 0, 0]], dtype=float)
    found = risk(y)
    assert np.isnan(found.lower)
    assert np.isnan(found.share_parameters)
    assert found.mc_error == pytest.approx(np.std(y, ddof=1) / np.sqrt(8))


def test_lanes_that_are_not_evaluable_are_counted_and_left_out():
    rng = np.random.default_rng(11)
    runs = []
    for _ in range(1500):
        y = crossed_sample(rng, 10, 30, 0.3, 0.6, 0.5, mean=2.0)
        y[:, rng.random(30) < 0.1] = np.nan
        y[rng.random(y.shape) < 0.1] = np.nan
        runs.append(risk(y))
        assert runs[-1].not_evaluable == np.isnan(y).sum()
        assert runs[-1].estimate == pytest.approx(np.nanmean(y))
    claimed = np.sqrt(np.mean([run.mc_error**2 for run in runs]))
    # the linearisation is first order; 1500 runs give 1.8 % on a standard deviation
    assert claimed == pytest.approx(np.std([run.estimate for run in runs]), rel=0.1)
    with pytest.raises(DataError, match="no evaluable patient"):
        risk(np.array([[np.nan, np.nan], [0.0, 1.0]]))


def test_paired_difference_uses_common_patients_and_draws():
    rng = np.random.default_rng(12)
    m, n = 100, 300
    common = crossed_sample(rng, m, n, 0.5, 1.0, 0.3)
    effect = rng.normal(-0.1, 0.1, (m, 1))
    a, b = common + effect, common
    found = paired_difference(a, b)
    # patients cancel exactly: the difference is that of the draws
    assert found.estimate == pytest.approx(effect.mean())
    assert found.mc_error == pytest.approx(effect.std(ddof=1) / np.sqrt(m))
    assert [found.lower, found.upper] == pytest.approx(np.quantile(effect, [0.05, 0.95]))
    assert found.probability_a_safer == np.mean(effect < 0)
    assert found.mc_error < 0.2 * risk(a).mc_error


def test_ties_count_half():
    y = np.random.default_rng(13).random((20, 50)) < 0.2
    same = paired_difference(y, y)
    assert same.estimate == 0.0
    assert np.isnan([same.lower, same.upper]).all()
    assert same.probability_a_safer == 0.5
    # what is alike in every lane is no further apart than the errors of both
    few = np.zeros((40, 20))
    few[3:7, 2] = 1.0
    assert 0.0 < paired_difference(few, few).mc_error <= 2.0 * risk(few).mc_error
    none = np.zeros((40, 20))
    assert paired_difference(none, none).mc_error == risk(none).mc_error
    worse = y.copy()
    worse[:10, 0] = ~y[:10, 0] | y[:10, 0]
    moved = worse[:10, 0] & ~y[:10, 0]
    assert paired_difference(y, worse).probability_a_safer == pytest.approx(
        (moved.sum() + 0.5 * (20 - moved.sum())) / 20
    )


def test_error_of_the_probability_matches_repeated_simulation():
    rng = np.random.default_rng(14)
    runs = []
    for _ in range(400):
        d = crossed_sample(rng, 40, 60, 0.1, 0.5, 0.3, mean=-0.08)
        runs.append(paired_difference(d, np.zeros_like(d)))
    claimed = np.sqrt(np.mean([run.probability_mc_error**2 for run in runs]))
    empirical = np.std([run.probability_a_safer for run in runs])
    # a jackknife over 20 groups of a step function: right to a quarter
    assert claimed == pytest.approx(empirical, rel=0.25)


def lognormal_days(rng, m, n, sd_a=0.1, sd_b=0.3, sd_c=0.15):
    return np.exp(np.log(30.0) + crossed_sample(rng, m, n, sd_a, sd_b, sd_c))


def test_quantiles_of_lognormal_days():
    rng = np.random.default_rng(15)
    q = (0.05, 0.5, 0.95)
    found = quantiles_with_uncertainty(lognormal_days(rng, 200, 1000), q)
    total, within = np.sqrt(0.01 + 0.09 + 0.0225), np.hypot(0.3, 0.15)
    truth = 30.0 * np.exp(total * norm.ppf(q))
    assert np.all(np.abs(found.value - truth) < 4 * found.mc_error)
    # median of each draw: 30 exp(a), so its 90 % interval is 30 exp(+-1.645 * 0.1)
    centre = found.value[1]
    expected = centre * np.exp(0.1 * norm.ppf([0.05, 0.95]))
    assert [found.lower[1], found.upper[1]] == pytest.approx(expected, rel=0.04)
    edges = 30.0 * np.exp(within * norm.ppf(0.95) + 0.1 * norm.ppf([0.05, 0.95]))
    assert [found.lower[2], found.upper[2]] == pytest.approx(edges, rel=0.06)
    assert found.censored_share == 0.0


def test_error_of_the_median_matches_repeated_simulation():
    rng = np.random.default_rng(16)
    runs = [quantiles_with_uncertainty(lognormal_days(rng, 25, 60), (0.5,)) for _ in range(250)]
    empirical = np.std([run.value[0] for run in runs])
    claimed = np.sqrt(np.mean([run.mc_error[0] ** 2 for run in runs]))
    # 250 runs give 4.5 % on a standard deviation; Woodruff's width of a step function the rest
    assert claimed == pytest.approx(empirical, rel=0.2)


def test_interval_of_the_median_is_freed_of_patient_noise():
    rng = np.random.default_rng(17)
    widths, raw = [], []
    for _ in range(60):
        x = lognormal_days(rng, 60, 40, sd_a=0.05, sd_b=0.1, sd_c=0.3)
        found = quantiles_with_uncertainty(x, (0.5,))
        widths.append(np.log(found.upper[0] / found.lower[0]))
        raw.append(np.diff(np.quantile(np.log(np.median(x, axis=1)), [0.05, 0.95])))
    truth = 2 * 0.05 * norm.ppf(0.95)
    assert np.mean(widths) == pytest.approx(truth, rel=0.12)
    assert np.mean(raw) > 1.3 * truth


def test_an_interval_of_days_of_no_width_beside_an_error_is_none():
    days = np.tile(20.0 + np.arange(60.0), (40, 1))
    found = quantiles_with_uncertainty(days, (0.5,))
    assert found.mc_error[0] > 0.0
    assert np.isnan([found.lower[0], found.upper[0]]).all()


def test_quantiles_beyond_the_horizon_are_not_reached():
    days = np.tile([[10.0, 20.0, 60.0, 60.0], [12.0, 60.0, 60.0, 60.0]], (10, 1))
    censored = days >= 60.0
    found = quantiles_with_uncertainty(days, (0.25, 0.375, 0.5), censored=censored)
    assert found.value.tolist() == [12.0, 20.0, np.inf]
    assert np.isinf(found.mc_error[2])
    assert np.isinf(found.upper[2])
    assert found.censored_share == 5 / 8
    again = quantiles_with_uncertainty(np.where(censored, np.inf, days), (0.25, 0.375, 0.5))
    assert again.value.tolist() == found.value.tolist()


def kaplan_meier(times, censored, grid):
    """Product-limit estimate written from its definition."""
    survival = []
    for day in grid:
        product = 1.0
        for t in np.unique(times[~censored]):
            if t <= day:
                at_risk = np.sum(times >= t)
                product *= 1.0 - np.sum((times == t) & ~censored) / at_risk
        survival.append(product)
    return np.array(survival)


@pytest.mark.parametrize(("draws", "known"), [(10, False), (19, False), (20, True)])
def test_tails_without_a_draw_have_no_interval(draws, known):
    y = np.random.default_rng(3).random((draws, 200)) < np.linspace(0.1, 0.6, draws)[:, None]
    found, gap = risk(y.astype(float)), paired_difference(y, y & (np.arange(200) % 3 > 0))
    told = quantiles_with_uncertainty(np.where(y, 5.0, 9.0) + np.arange(200) / 100, (0.5,))
    curve = recovery_curve(np.where(y, 5.0, 20.0), ~y, [6.0])
    for interval in (found.lower, gap.lower, told.lower[0], curve.lower[0]):
        assert np.isfinite(interval) == known


def test_curve_is_one_minus_kaplan_meier():
    rng = np.random.default_rng(18)
    days = np.round(rng.lognormal(np.log(30), 0.5, (1, 300)))
    censored = days > 60
    days = np.where(censored, 60.0, days)
    grid = np.arange(0.0, 61.0, 5.0)
    curve = recovery_curve(days, censored, grid)
    expected = 1.0 - kaplan_meier(days[0], censored[0], grid)
    assert curve.mean == pytest.approx(expected, abs=1e-12)


def test_curve_of_the_published_leukaemia_data():
    """Remission weeks under placebo, Freireich et al., Blood 1963;21:699; survival as printed."""
    weeks = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    at = [1, 2, 3, 4, 5, 8, 11, 12, 15, 17, 22, 23]
    printed = [
        0.9048,
        0.8095,
        0.7619,
        0.6667,
        0.5714,
        0.3810,
        0.2857,
        0.1905,
        0.1429,
        0.0952,
        0.0476,
        0.0,
    ]
    days = np.array([weeks], dtype=float)
    curve = recovery_curve(days, np.zeros_like(days, dtype=bool), at)
    assert 1.0 - curve.mean == pytest.approx(printed, abs=5e-5)
    # Greenwood's error without censoring is the binomial one
    assert curve.mc_error[4] == pytest.approx(np.sqrt(4 / 7 * 3 / 7 / 20), rel=1e-12)


def test_curve_band_and_median_are_one_reading():
    rng = np.random.default_rng(19)
    days = lognormal_days(rng, 80, 200)
    censored = days > 70
    days = np.where(censored, 70.0, days)
    middle = quantiles_with_uncertainty(days, (0.5,), censored=censored)
    ends = np.array([middle.lower[0], middle.value[0], middle.upper[0]])
    curve = recovery_curve(days, censored, ends)
    assert curve.upper[0] == pytest.approx(0.5, abs=0.02)
    assert curve.mean[1] == pytest.approx(0.5, abs=0.001)
    assert curve.lower[2] == pytest.approx(0.5, abs=0.02)
    assert np.all(np.diff(recovery_curve(days, censored, np.arange(10, 70, 3.0)).mean) >= 0)


def test_days_asked_together_are_those_asked_one_by_one():
    rng = np.random.default_rng(20)
    days = lognormal_days(rng, 12, 30)
    days[rng.random(days.shape) < 0.1] = np.nan
    days[days > 60] = np.inf
    asked, at = CrossedTimes(days), np.arange(0.0, 60.0, 7.0)
    together = asked.by_days(at)
    for k, day in enumerate(at):
        alone = crossed(np.where(np.isnan(days), np.nan, days <= day))
        assert together.mean[k] == pytest.approx(alone.mean, rel=1e-14)
        assert together.mc_error[k] == pytest.approx(alone.mc_error, rel=1e-14)
        assert together.denoised[k] == pytest.approx(alone.denoised, rel=1e-14)


def test_bad_input_is_told():
    with pytest.raises(DataError, match="draws, patients"):
        risk(np.zeros(5))
    with pytest.raises(DataError, match="shapes"):
        paired_difference(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(DataError, match="between 0 and 1"):
        quantiles_with_uncertainty(np.ones((2, 3)), (0.0,))
    with pytest.raises(DataError, match="equal shapes"):
        quantiles_with_uncertainty(np.ones((2, 3)), censored=np.zeros((3, 2), dtype=bool))
    with pytest.raises(DataError, match="follow-up ends on day 40"):
        recovery_curve([[10.0, 40.0]], [[False, True]], [30, 50])


def test_an_interval_contains_its_estimate_or_is_not_given():
    # one draw of thirty makes the mean: the quantiles of the draws lie below it
    outcome = np.zeros((30, 40))
    outcome[7, :] = 1.0
    found = risk(outcome)
    assert found.estimate == pytest.approx(1.0 / 30.0)
    assert np.isnan([found.lower, found.upper]).all()
    apart = paired_difference(outcome, np.zeros_like(outcome))
    assert np.isnan([apart.lower, apart.upper]).all()
    rng = np.random.default_rng(5)
    for _ in range(30):
        draws = rng.beta(0.3, 2.0, size=(rng.integers(2, 30), 1))
        found = risk((rng.random((draws.size, 25)) < draws).astype(float))
        given = np.isfinite(found.lower)
        assert given == np.isfinite(found.upper)
        assert not given or found.lower <= found.estimate <= found.upper
        times = rng.exponential(1.0 / (0.01 + draws), size=(draws.size, 25))
        told = quantiles_with_uncertainty(times, (0.05, 0.5, 0.95))
        known = ~np.isnan(told.lower)
        assert np.all((told.lower <= told.value)[known] & (told.value <= told.upper)[known])
        days = np.arange(1.0, 40.0)
        curve = recovery_curve(np.where(times < 40.0, times, 40.0), times >= 40.0, days)
        there = ~np.isnan(curve.lower)
        np.testing.assert_array_equal(there, ~np.isnan(curve.upper))
        assert np.all((curve.lower <= curve.mean)[there] & (curve.mean <= curve.upper)[there])
    late = np.full((30, 40), 40.0)
    late[7] = 10.0  # one draw alone recovers
    curve = recovery_curve(late, late == 40.0, [20.0])
    assert curve.mean == pytest.approx(1.0 / 30.0)
    assert np.isnan([curve.lower, curve.upper]).all()
    for known in (0.7, 3.0):  # every lane alike: nothing is left to chance
        alike = risk(np.full((8, 12), known))
        assert alike.lower == alike.estimate == alike.upper == pytest.approx(known)
