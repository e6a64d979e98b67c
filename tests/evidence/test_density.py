"""The likelihood of cells against closed forms, brute force, and its own replicates."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, gammaln
from scipy.stats import beta, betabinom, multinomial, norm

from pkpd.evidence import EvidenceLikelihood, load_evidence
from pkpd.evidence.likelihood.cells import CHANNELS, cells_of
from pkpd.evidence.likelihood.density import (
    Spread,
    TableDensity,
    _position,
    beta_binomial,
    log_gamma,
    logits_and_days,
    passing,
)
from pkpd.evidence.likelihood.drawn_rows import RowDrawer, _Draw
from pkpd.evidence.likelihood.summaries import summarise, weighted_quantiles

NONE = Spread(np.zeros(len(CHANNELS)), 0.0, 0.0)
SOME = Spread(np.array([0.5, 0.4, 0.12, 0.5, 0.2]), 0.01, 0.05)
DAYS = np.array([[np.log(24.0), np.log(0.15), np.log(0.25), np.log(25.5)]])


def density_of(file):
    plan = EvidenceLikelihood(load_evidence(file))
    return plan.terms, TableDensity(cells_of(plan.terms))


def one_row(table_file, row):
    terms, density = density_of(table_file(f"A,aml,cytarabine:100 mg/m2:CI:1-7,{row}"))
    return density, cells_of(terms)


def logit_at(day):
    """Logit of the distribution function of `DAYS`: its scale goes from below's to above's."""
    off = np.log(day) - DAYS[0, 0]
    middle, half = (DAYS[0, 1] + DAYS[0, 2]) / 2, (DAYS[0, 2] - DAYS[0, 1]) / 2
    return off / np.exp(middle + half * np.tanh(off / np.exp(middle)))


def at(density, logits, days, offset=0.0, spread=NONE):
    offsets = np.full((density.groups, 1), offset)
    return np.asarray(density.cell_terms(logits, days, offsets, spread))[:, 0]


def test_log_gamma_is_the_library_s():
    x = np.geomspace(1e-4, 1e6, 500)
    np.testing.assert_allclose(log_gamma(x), gammaln(x), rtol=1e-10, atol=1e-10)


def test_beta_binomial_is_the_library_s():
    got = beta_binomial(7.0, 20.0, 3.2 / 11.7, 11.7)
    assert float(got) == pytest.approx(betabinom.logpmf(7, 20, 3.2, 8.5), abs=1e-9)


def test_count_has_the_discrepancy_of_an_arm_and_the_offset_of_a_study(table_file):
    density, _ = one_row(table_file, "20,cr_rate,,,,,7,20,READ")
    got = at(density, np.array([-0.4]), DAYS, 0.3, replace(NONE, arm=0.02))
    q, size = expit(-0.1), 1.0 / 0.02001
    assert got[0] == pytest.approx(betabinom.logpmf(7, 20, q * size, (1 - q) * size), abs=1e-8)


def test_responses_and_deaths_are_a_multinomial_where_arms_do_not_deviate(table_file):
    rows = [
        f"A,aml,cytarabine:100 mg/m2:CI:1-7,50,{name},,,,,{k},50,READ"
        for name, k in (("cr_rate", 20), ("cri_rate", 6), ("day30_mortality", 5))
    ]
    _, density = density_of(table_file(*rows))
    p = np.array([0.45, 0.1, 0.15, 0.3])
    # the cells are: response of all, complete of the responses, death of those without
    shares = np.array([0.55, 0.45 / 0.55, 0.15 / 0.45])
    logits = np.log(shares / (1 - shares))
    got = at(density, logits, DAYS).sum()
    expected = multinomial.logpmf([20, 6, 5, 19], 50, p)
    # the least discrepancy, 1e-5, is not quite none
    assert got == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("n", [15, 41, 181])
def test_median_is_close_to_that_of_order_statistics(table_file, n):
    density, _ = one_row(table_file, f"{n},anc500_recovery_day_median,26,,,,,,READ")
    got = at(density, np.zeros(1), DAYS)[0]
    low, high = logit_at(25.5), logit_at(26.5)
    half = (n + 1) / 2
    exact = np.log(beta.cdf(expit(high), half, half) - beta.cdf(expit(low), half, half))
    # by how much the normal distribution of a logit is off
    assert got == pytest.approx(exact, abs=0.1)


@pytest.mark.parametrize("scales", [(0.15, 0.25), (0.3, 0.05), (0.02, 1.5)])
def test_days_go_smoothly_through_the_median(scales):
    """The logit rises, its slope is the derivative, and neither jumps where scales change."""
    days = np.array([[np.log(24.0), *np.log(scales), np.log(25.0)]])
    own = {"first": np.array([0])}
    x = np.log(24.0) + np.linspace(-3.0, 3.0, 4001)[None] * max(scales)
    at, slope = (np.asarray(got)[0] for got in _position(x, days, 0.0, own, 0.0))
    assert (slope > 0.0).all()
    step = 1e-6
    high, low = (np.asarray(_position(x + e, days, 0.0, own, 0.0)[0])[0] for e in (step, -step))
    np.testing.assert_allclose(slope, (high - low) / (2.0 * step), rtol=1e-5)
    middle = int(np.searchsorted(at, 0.0))
    assert x[0, middle] == pytest.approx(np.log(24.0), abs=2e-3 * max(scales))
    assert np.abs(np.diff(np.log(slope))).max() < 0.1
    # far from the median the scales are those of its sides
    far = np.array([[np.log(24.0) - 40.0 * max(scales), np.log(24.0) + 40.0 * max(scales)]])
    sides = 1.0 / np.asarray(_position(far, days, 0.0, own, 0.0)[1])[0]
    if max(scales) < 50.0 * min(scales):
        np.testing.assert_allclose(sides, scales, rtol=1e-3)
    # a day drawn at a logit has that logit
    draw = _Draw(np.zeros(1), days, {}, np.random.default_rng(1), {})
    for z in (-6.0, -1.0, -0.1, 0.0, 0.1, 1.0, 6.0):
        day = np.array([[np.log(draw._at(0, z, 0.0, 0.0))]])
        assert float(_position(day, days, 0.0, own, 0.0)[0][0, 0]) == pytest.approx(z, abs=1e-6)


def test_range_is_that_of_the_smallest_and_the_largest(table_file):
    density, _ = one_row(table_file, "41,anc500_recovery_day_median,26,15,51,range,,,READ")
    got = at(density, np.zeros(1), DAYS)[1]

    def below(day):
        return expit(logit_at(day))

    exact = np.log((1 - below(14.5)) ** 41 - (1 - below(15.5)) ** 41)
    exact += np.log(below(51.5) ** 41 - below(50.5) ** 41)
    assert got == pytest.approx(exact, abs=1e-8)


def test_range_also_knows_that_arms_differ(table_file):
    density, _ = one_row(table_file, "41,anc500_recovery_day_median,26,4,51,range,,,READ")
    narrow = at(density, np.zeros(1), DAYS)[1]
    wide = at(density, np.zeros(1), DAYS, 0.0, replace(NONE, arm_days=0.4))[1]
    assert wide > narrow + 1.0


def test_quartiles_are_as_far_apart_as_those_of_samples(table_file):
    density, _ = one_row(table_file, "61,anc500_recovery_day_median,24,20,31,iqr,,,READ")
    rng = np.random.default_rng(1)
    z = rng.logistic(size=(40_000, 61))
    gap = np.diff(np.quantile(z, [0.25, 0.75], axis=1), axis=0)[0]
    # the likelihood's own numbers for this distribution
    assert gap.mean() == pytest.approx(2 * np.log(3), rel=0.03)
    assert gap.var() == pytest.approx(64 / 9 / 61, rel=0.1)
    assert np.isfinite(at(density, np.zeros(1), DAYS)).all()


def test_tolerated_dose_passes_three_plus_three():
    rng = np.random.default_rng(2)
    first, second = rng.binomial(3, 0.25, (2, 400_000))
    drawn = ((first == 0) | ((first == 1) & (second == 0))).mean()
    assert float(passing(0.25)) == pytest.approx(drawn, abs=0.004)


HEAD = (
    "study,population,schedule,other_schedule,n,endpoint,value,lower,upper,limits,"
    "numerator,denominator,mark"
)


def test_offsets_leave_ratios_alone_and_move_single_arms(table_file):
    file = table_file(
        "A,aml,cytarabine:100 mg/m2:CI:1-7,cytarabine:200 mg/m2:CI:1-7,80,"
        "anc_recovery_time_ratio,0.85,0.75,0.96,ci95,,,READ",
        "A,aml,cytarabine:100 mg/m2:CI:1-7,,80,anc500_recovery_day_median,22,,,,,,READ",
        header=HEAD,
    )
    _, density = density_of(file)
    days = np.tile(DAYS, (len(density.cells.days), 1))
    ratio, median = at(density, np.zeros(1), days), at(density, np.zeros(1), days, 0.3)
    assert ratio[0] == median[0]
    assert ratio[1] != median[1]
    se = np.log(0.96 / 0.75) / 3.92
    assert ratio[0] == pytest.approx(norm.logpdf(np.log(0.85), 0.0, se), abs=1e-6)


def test_offset_of_a_study_is_integrated_out_over_all_its_rows(table_file):
    terms, density = density_of(
        table_file(
            "A,aml,cytarabine:100 mg/m2:CI:1-7,20,cr_rate,,,,,7,20,READ",
            "A,aml_rr,clofarabine:40 mg/m2:IV1h:1-5,62,cr_rate,,,,,30,62,READ",
        )
    )
    logits = np.array([0.3, -0.8])
    by_study = jax.jit(density.marginal)(logits, DAYS, SOME)

    def both(b):
        value = norm.pdf(b, 0, 0.5)
        size = 1 / (0.01 + 1e-5)
        for (k, n), logit in zip(((7, 20), (30, 62)), logits, strict=True):
            q = expit(logit + b)
            value *= betabinom.pmf(k, n, q * size, (1 - q) * size)
        return value

    exact = np.log(quad(both, -4, 4, points=[0.0], epsabs=1e-14)[0])
    assert len(terms) == 2
    assert float(by_study[0]) == pytest.approx(exact, abs=1e-3)


def test_unstated_definition_is_a_mixture_shared_by_the_study(table_file):
    rows = [
        f"A,aml,cytarabine:100 mg/m2:CI:1-7,40,dlt_delayed_recovery_d{day},,,,,{k},40,READ"
        for day, k in ((30, 12), (42, 4))
    ]
    terms, density = density_of(table_file(*rows))
    cells = density.cells
    rng = np.random.default_rng(3)
    logits = rng.normal(-1.0, 0.7, len(cells.shares))
    each = at(density, logits, DAYS, 0.0, SOME)
    got = float(density.groups_at(logits, DAYS, np.zeros((density.groups, 1)), SOME).sum())
    prior = np.exp(terms[0].log_priors)
    by_reading = [
        sum(v for v, c in zip(each, cells.cells, strict=True) if c.reading == r)
        for r in range(prior.size)
    ]
    assert got == pytest.approx(np.log(prior @ np.exp(by_reading)), abs=1e-9)


def test_left_out_studies_do_not_count(table_file):
    terms, density = density_of(table_file())
    without = TableDensity(cells_of(terms), without=("A", "C"))
    rng = np.random.default_rng(4)
    logits = rng.normal(size=len(density.cells.shares))
    days = np.tile(DAYS, (len(density.cells.days), 1))
    every = jax.jit(density.marginal)(logits, days, SOME)
    some = jax.jit(without.marginal)(logits, days, SOME)
    kept = [s not in ("A", "C") for s in density.studies]
    np.testing.assert_allclose(np.asarray(some)[kept], np.asarray(every)[kept], atol=1e-12)
    np.testing.assert_allclose(np.asarray(some)[~np.array(kept)], 0.0, atol=1e-12)


@pytest.mark.slow
def test_gradient_is_that_of_finite_differences(table_file):
    _, density = density_of(table_file())
    rng = np.random.default_rng(5)
    logits = rng.normal(-0.5, 0.5, len(density.cells.shares))
    days = np.tile(DAYS, (len(density.cells.days), 1))
    between = SOME.between

    @jax.jit
    def total(logits, days, between):
        return density.marginal(logits, days, replace(SOME, between=between)).sum()

    gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(logits, days, between)
    for index, point in enumerate((logits, days, between)):
        step = 1e-5
        for place in np.ndindex(point.shape):
            args = [[logits, days, between] for _ in range(2)]
            for side, pair in zip((1, -1), args, strict=True):
                pair[index] = point.copy()
                pair[index][place] += side * step
            slope = (total(*args[0]) - total(*args[1])) / (2 * step)
            assert float(gradients[index][place]) == pytest.approx(float(slope), abs=2e-5)


def test_summaries_are_those_of_the_simulated_patients(table_file, stand_in, truth):
    plan = EvidenceLikelihood(load_evidence(table_file()))
    cells = cells_of(plan.terms)
    seen = stand_in(plan.arms, n=4096)(truth)
    found = summarise(cells.shares, cells.days, seen, truth)
    logits, days = logits_and_days(found)
    for ask, share, size, logit in zip(cells.shares, found.share, found.size, logits, strict=True):
        x = seen[ask.arm].observe(ask.events[0])
        kept = ~np.isnan(x)
        if not ask.given and len(ask.events) == 1:
            assert share == pytest.approx(x[kept].mean(), abs=1e-9)
            assert size == pytest.approx(kept.sum())
            assert expit(logit) == pytest.approx(share, abs=1e-3)
    for ask, line in zip(cells.days, days, strict=True):
        x = seen[ask.arm].observe(ask.what)
        x = x[np.isfinite(x)]
        assert line[0] == pytest.approx(np.log(np.median(x)), abs=2e-3)
        assert line[3] == pytest.approx(np.log(x.mean()), abs=1e-9)


def test_weighted_quantiles_are_those_of_repeated_values():
    x, w = np.array([3.0, 1.0, 2.0]), np.array([0.25, 0.5, 0.25])
    many = np.repeat([1.0, 2.0, 3.0], [5000, 2500, 2500])
    got = weighted_quantiles(x, w, (0.25, 0.875))
    np.testing.assert_allclose(got, [np.quantile(many, 0.25), np.quantile(many, 0.875)], atol=1e-3)


THETA = {
    **{f"between.{c}": float(s) for c, s in zip(CHANNELS, SOME.between, strict=True)},
    "discrepancy": SOME.arm,
    "discrepancy.days": SOME.arm_days,
}


@pytest.mark.parametrize(
    "row",
    [
        "20,cr_rate,,,,,7,20,READ",
        "30,anc500_recovery_day_median,26,,,,,,READ",
        "61,anc500_recovery_day_median,24,20,31,iqr,,,READ",
        pytest.param("30,anc500_recovery_day_mean,26,,,,,,READ", marks=pytest.mark.slow),
        pytest.param("40,dlt_delayed_recovery_d42,,,,,4,40,READ", marks=pytest.mark.slow),
        pytest.param("30,baseline_anc_median,1.3,,,,,,READ", marks=pytest.mark.slow),
    ],
)
def test_rows_are_drawn_as_they_are_scored(table_file, row):
    """The likelihood elsewhere over that at the truth averages to 1 over rows from the truth."""
    file = table_file(f"A,aml,cytarabine:100 mg/m2:CI:1-7,{row}")
    plan = EvidenceLikelihood(load_evidence(file))
    cells = cells_of(plan.terms)
    rng = np.random.default_rng(6)
    true = np.full(len(cells.shares), -0.6), np.tile(DAYS, (len(cells.days), 1))
    other = true[0] + 0.25, true[1] + np.array([0.04, 0.0, 0.0, 0.04])
    draw = RowDrawer(plan.terms, cells)
    made = [tuple(draw(*true, THETA, rng).values()) for _ in range(2000)]
    check_ratios(plan.terms[0], made, other, true)


def check_ratios(term, made, other, true):
    """Rows drawn at the truth: likelihood elsewhere over that at the truth, averaged."""
    terms = [replace(term, rows=rows) for rows in made]
    density = TableDensity(cells_of(terms, alone=True))
    there, here = (np.asarray(jax.jit(density.marginal)(*p, SOME)) for p in (other, true))
    ratios = np.exp(there - here)
    error = ratios.std() / np.sqrt(ratios.size)
    assert ratios.mean() == pytest.approx(1.0, abs=4 * error + 0.02)
    # and the two are not the same
    assert ratios.std() > 0.05


def test_quartiles_are_drawn_as_samples_have_them(table_file):
    """Both stood as far from the middle, on either side, whatever the median was."""
    row = "A,aml,cytarabine:100 mg/m2:CI:1-7,61,anc500_recovery_day_median,24,20,31,iqr,,,READ"
    plan = EvidenceLikelihood(load_evidence(table_file(row)))
    days = np.array([[np.log(2000.0), np.log(0.2), np.log(0.2), np.log(2000.0)]])  # in whole days
    alone = {**dict.fromkeys(THETA, 0.0), "discrepancy": 0.01}
    draw, rng = RowDrawer(plan.terms, plan.cells), np.random.default_rng(8)
    made = [next(iter(draw(np.zeros(1), days, alone, rng).values())) for _ in range(6000)]
    seen = np.log([[row.lower, row.value, row.upper] for row in made])
    drawn = (seen - days[0, 0]) / 0.2
    sample = np.quantile(rng.logistic(size=(20_000, 61)), [0.25, 0.5, 0.75], axis=1)
    np.testing.assert_allclose(drawn.mean(axis=0), [-np.log(3), 0.0, np.log(3)], atol=0.03)
    np.testing.assert_allclose(drawn.std(axis=0), sample.std(axis=1), rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(sample), atol=0.05)
    gap = drawn[:, 2] - drawn[:, 0]
    assert gap.var() == pytest.approx(64 / 9 / 61, rel=0.08)  # what the density says
    assert abs(np.corrcoef(gap, drawn[:, 1])[0, 1]) < 0.05


def test_arms_differ_in_the_spread_of_their_quartiles_as_they_are_scored(table_file):
    row = "A,aml,cytarabine:100 mg/m2:CI:1-7,900,anc500_recovery_day_median,24,20,31,iqr,,,READ"
    plan = EvidenceLikelihood(load_evidence(table_file(row)))
    theta = {**dict.fromkeys(THETA, 0.0), "discrepancy.days": 0.1}
    draw, rng = RowDrawer(plan.terms, plan.cells), np.random.default_rng(8)
    for below, above in ((0.2, 0.2), (0.2, 0.25)):
        days = np.array([[np.log(2000.0), np.log(below), np.log(above), np.log(2000.0)]])
        made = [next(iter(draw(np.zeros(1), days, theta, rng).values())) for _ in range(3000)]
        x = np.log([[row.lower, row.upper] for row in made])
        own = {"first": np.array([0])}
        at, slope = (np.asarray(got) for got in _position(x.reshape(1, -1), days, 0.0, own, 0.0))
        gap = np.diff(at.reshape(-1, 2), axis=1)[:, 0]
        told = 64 / 9 / 900 + 0.1**2 * (slope.reshape(-1, 2).min(axis=1) ** 2).mean()
        assert gap.mean() == pytest.approx(2 * np.log(3), abs=0.05)
        assert gap.var() == pytest.approx(told, rel=0.12)


def test_responses_and_deaths_are_drawn_as_they_are_scored(table_file):
    rows = [
        f"A,aml,cytarabine:100 mg/m2:CI:1-7,30,{name},,,,,{k},30,READ"
        for name, k in (("cr_rate", 12), ("cri_rate", 4), ("day30_mortality", 3))
    ]
    plan = EvidenceLikelihood(load_evidence(table_file(*rows)))
    cells = cells_of(plan.terms)
    rng = np.random.default_rng(7)
    logits = np.array([0.2, 1.0, -1.0])
    draw = RowDrawer(plan.terms, cells)
    made = []
    for _ in range(800):
        rows = draw(logits, DAYS, THETA, rng)
        assert sum(r.numerator for r in rows.values()) <= 30
        made.append(tuple(rows[r.id] for r in plan.terms[0].rows))
    check_ratios(plan.terms[0], made, (logits + 0.2, DAYS), (logits, DAYS))
