"""Patients: published formulas, distributions against SciPy, samples against their card."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pkpd.body import (
    body_mass_index,
    body_surface_area_du_bois,
    body_surface_area_mosteller,
    creatinine_clearance_cockcroft_gault,
    fat_free_mass_janmahasatian,
)
from pkpd.cards.files import card_names
from pkpd.cards.population_cards import load_population
from pkpd.distributions import Distribution, stratified_normals, stream
from pkpd.errors import DataError, PkpdError
from pkpd.subjects import patients, sample_population

ONE = {"age": 60.0, "male": 1.0, "weight": 72.0, "height": 175.0, "scr": 1.0}


def test_body_size_by_hand():
    # sqrt(180 * 80 / 3600) = 2 exactly
    assert body_surface_area_mosteller(80.0, 180.0) == pytest.approx(2.0, rel=1e-12)
    # nomograms give 1.81 m^2 for 70 kg and 170 cm, printed digits
    assert body_surface_area_du_bois(70.0, 170.0) == pytest.approx(1.81, abs=0.005)
    assert body_mass_index(81.0, 180.0) == pytest.approx(25.0, rel=1e-12)
    # BMI 25: man 9270*81/(6680+5400) = 62.157, woman 9270*81/(8780+6100) = 50.462
    assert fat_free_mass_janmahasatian(81.0, 180.0, 1) == pytest.approx(750870 / 12080, rel=1e-12)
    assert fat_free_mass_janmahasatian(81.0, 180.0, 0) == pytest.approx(750870 / 14880, rel=1e-12)


def test_cockcroft_gault_by_hand():
    # (140 - 60) * 72 / 72 = 80; women 0.85 of it
    assert creatinine_clearance_cockcroft_gault(60.0, 72.0, 1.0, 1) == pytest.approx(80.0)
    assert creatinine_clearance_cockcroft_gault(60.0, 72.0, 1.0, 0) == pytest.approx(68.0)


def test_given_patients_are_completed():
    sample = patients(ONE)
    assert sample["crcl"][0] == pytest.approx(80.0)
    assert sample["scr_umol_L"][0] == pytest.approx(88.4)
    kept = patients({**ONE, "ffm": 55.0})
    assert kept["ffm"][0] == 55.0
    from_clearance = patients({k: v for k, v in ONE.items() if k != "scr"} | {"crcl": 80.0})
    assert from_clearance["scr"][0] == pytest.approx(1.0)
    assert np.all(patients(ONE, typical=True).normal_score("x") == 0.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"age": 200.0}, r"patient 1: age = 200 is impossible; allowed: 0 to 120 years"),
        ({"weight": [72.0, 0.07]}, r"patient 2: weight = 0.07"),
        ({"height": 1.75}, r"height = 1.75 is impossible"),
        ({"scr": 88.0}, r"scr = 88 is impossible.*mg/dL"),
        ({"plt": -1.0}, r"plt = -1 is impossible"),
        ({"anc": float("nan")}, r"anc = nan is impossible"),
        ({"bsa": [1.8, -1.8]}, r"patient 2: bsa = -1.8 is impossible; allowed: more than 0"),
        ({"ffm": float("nan")}, r"patient 1: ffm = nan is impossible"),
        (
            {"age": [40, 50], "weight": [70, 80, 90]},
            r"patients, age: 2 values for 3 patients; allowed: one number, or one for each patient",
        ),
    ],
)
def test_impossible_patients_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        patients({**ONE, **change})


def test_seeds_are_whole_numbers_from_0():
    for seed in (-1, 1.5):
        with pytest.raises(PkpdError, match=r"seed: .*allowed: a whole number from 0"):
            sample_population(load_population("rr_aml"), 3, seed)


def test_missing_covariates_are_named():
    with pytest.raises(DataError, match="'height' is missing"):
        patients({k: v for k, v in ONE.items() if k != "height"})
    with pytest.raises(DataError, match="neither 'scr' nor 'crcl'"):
        patients({k: v for k, v in ONE.items() if k != "scr"})
    with pytest.raises(DataError, match="no covariate 'anc'"):
        patients(ONE)["anc"]
    with pytest.raises(DataError, match="'haycock' is not known"):
        patients(ONE, bsa_formula="haycock")


def test_streams_are_split_by_name_and_seed():
    first = stream(1, "eta:a").standard_normal(4)
    assert np.array_equal(first, stream(1, "eta:a").standard_normal(4))
    assert not np.allclose(first, stream(1, "eta:b").standard_normal(4))
    assert not np.allclose(first, stream(2, "eta:a").standard_normal(4))


def test_patients_drawn_again_are_the_same_whatever_was_done_with_them():
    first = sample_population(load_population("rr_aml"), 20, seed=4)
    ages, scores = first["age"].copy(), first.normal_score("some.CL").copy()
    first["age"][:] = 0.0
    again = sample_population(load_population("rr_aml"), 20, seed=4)
    assert np.array_equal(again["age"], ages)
    assert np.array_equal(again.normal_score("some.CL"), scores)
    assert not np.array_equal(sample_population(load_population("rr_aml"), 20, seed=5)["age"], ages)


def test_stratified_normals_have_one_in_each_stratum():
    z = stratified_normals(stream(3, "x"), 1000)
    cells = np.floor(stats.norm.cdf(z) * 1000).astype(int)
    assert np.array_equal(np.sort(cells), np.arange(1000))


SCORES = np.linspace(-3.5, 3.5, 29)


@pytest.mark.parametrize(
    ("mine", "reference"),
    [
        (
            Distribution("truncnormal", mean=73, sd=7, lower=18, upper=80),
            stats.truncnorm((18 - 73) / 7, (80 - 73) / 7, 73, 7),
        ),
        (Distribution("normal", mean=174, sd=7), stats.norm(174, 7)),
        (Distribution("lognormal", median=82, sigma=0.18), stats.lognorm(0.18, scale=82)),
    ],
)
def test_distributions_against_scipy(mine, reference):
    expected = reference.ppf(stats.norm.cdf(SCORES))
    # the tail probabilities near 1 keep about 12 digits in double precision
    np.testing.assert_allclose(mine.from_score(SCORES), expected, rtol=1e-9)


def test_cut_lognormal_has_the_cut_distribution():
    mine = Distribution("lognormal", median=0.95, sigma=0.25, upper=1.8)
    values = mine.from_score(SCORES)
    whole = stats.lognorm(0.25, scale=0.95)
    np.testing.assert_allclose(
        whole.cdf(values) / whole.cdf(1.8), stats.norm.cdf(SCORES), rtol=1e-9
    )
    assert values.max() < 1.8


def test_beta_bernoulli_zero_inflated_and_constant():
    beta = Distribution("beta", median=12, lower=2, upper=30)
    assert beta.from_score(0.0) == pytest.approx(12.0, rel=1e-9)
    assert 2 <= beta.from_score(-8.0) < beta.from_score(8.0) <= 30
    near = Distribution("beta", median=0.05, lower=0, upper=100, concentration=1e4)
    assert near.from_score(0.0) == pytest.approx(0.05, rel=1e-9)
    z = stratified_normals(stream(1, "x"), 10_000)
    # 10 000 stratified scores: the share is right to one part in 10 000
    assert Distribution("bernoulli", probability=0.62).from_score(z).mean() == pytest.approx(
        0.62, abs=2e-4
    )
    some = Distribution("zero_inflated", probability=0.3, median=3, sigma=1, upper=32).from_score(z)
    assert np.mean(some == 0) == pytest.approx(0.3, abs=2e-4)
    whole = stats.lognorm(1, scale=3)
    assert np.median(some[some > 0]) == pytest.approx(whole.ppf(whole.cdf(32) / 2), rel=2e-3)
    assert np.all(Distribution("constant", median=5.0).from_score(z) == 5.0)


@given(st.sampled_from(sorted(card_names("populations"))), st.integers(0, 50))
@settings(max_examples=12, deadline=None)
def test_samples_obey_limits_and_physiology(name, seed):
    population = load_population(name)
    sample = sample_population(population, 64, seed)
    for covariate, low, high in population.limits:
        assert np.all((sample[covariate] >= low) & (sample[covariate] <= high))
    assert np.all(sample["wbc"] >= sample["anc"])
    least = np.where(sample["age"] >= 16, 20, 3)  # kg; a child of one year weighs about 10
    assert np.all((sample["ffm"] > least) & (sample["ffm"] < sample["weight"]))
    assert 0.01 < sample.acceptance <= 1.0


@pytest.mark.parametrize("name", card_names("populations"))
def test_sample_has_the_medians_and_correlations_of_the_card(name):
    population = load_population(name)
    sample = sample_population(population, 2000, 7)
    for key in ("anc", "plt"):
        card = next(c for c in population.covariates if c.name == key).men
        expected = card.from_score(0.0)
        # creatinine clearance limits do not touch the counts; the standard error of the log of a
        # median is 1.25 sigma / sqrt(n), and Sobol points do better than that: 3 of them allowed
        tolerance = 3 * 1.25 * card.sigma / np.sqrt(2000)
        assert np.log(np.median(sample[key]) / expected) == pytest.approx(0.0, abs=tolerance)
    wanted = {frozenset(pair[:2]): pair[2] for pair in population.correlations}
    r_plt = stats.spearmanr(sample["anc"], sample["plt"]).statistic
    # Spearman of a Gaussian copula: 6/pi arcsin(r/2); standard error about 0.022
    expected = 6 / np.pi * np.arcsin(wanted[frozenset(("anc", "plt"))] / 2)
    assert r_plt == pytest.approx(expected, abs=0.07)
    r_wbc = stats.spearmanr(sample["anc"], sample["wbc"]).statistic
    expected = 6 / np.pi * np.arcsin(wanted[frozenset(("anc", "wbc"))] / 2)
    # raising white cells to the neutrophils strengthens it slightly
    assert expected - 0.03 < r_wbc < expected + 0.10


def test_sample_follows_sex_specific_distributions():
    sample = sample_population(load_population("rr_aml"), 4000, 11)
    male = sample["male"] > 0.5
    # heights do not enter creatinine clearance; SD 7 and 6.5, about 2000 each: SE 0.16 cm
    assert sample["height"][male].mean() == pytest.approx(174, abs=0.5)
    assert sample["height"][~male].mean() == pytest.approx(160, abs=0.5)
    assert sample["height"][male].std() == pytest.approx(7, abs=0.4)


def test_samples_are_nested_and_reproducible():
    population = load_population("hr_mds_aml_unfit")
    many, few = sample_population(population, 300, 5), sample_population(population, 10, 5)
    for name, values in few.covariates.items():
        np.testing.assert_array_equal(values, many[name][:10])
    other = sample_population(population, 10, 6)
    assert not np.allclose(other["anc"], few["anc"])
    np.testing.assert_array_equal(many.normal_score("a"), many.normal_score("a"))
    assert abs(np.corrcoef(many.normal_score("a"), many.normal_score("b"))[0, 1]) < 0.2
    assert abs(np.corrcoef(many.normal_score("a"), np.log(many["anc"]))[0, 1]) < 0.2
    assert many.occasion_score("a", 0).shape == (300,)
    assert not np.allclose(many.occasion_score("a", 0), many.occasion_score("a", 1))


def test_impossible_populations_are_refused():
    population = load_population("rr_aml")
    narrow = dataclasses.replace(population, limits=(("crcl", 395.0, 400.0),))
    with pytest.raises(DataError, match=r"only \d+ of \d+ drawn patients.*at least 1 %"):
        sample_population(narrow, 5, 1)
    clash = dataclasses.replace(
        population,
        correlations=(("anc", "wbc", 0.9), ("anc", "plt", 0.9), ("wbc", "plt", -0.9)),
    )
    with pytest.raises(DataError, match="contradict each other"):
        sample_population(clash, 5, 1)
    with pytest.raises(DataError, match="1 or more"):
        sample_population(population, 0, 1)
