"""Coordinates of random effects against closed forms of a linear model with normal errors."""

from __future__ import annotations

import conjugate
import numpy as np
import pytest
from small_data import Straight, dataset_of

from pkpd.errors import PkpdError
from pkpd.fitting.bayes.centring import by_information, by_weights, non_centred, standardised
from pkpd.fitting.bayes.density import build_model
from pkpd.fitting.bayes.posterior import begin
from pkpd.fitting.bayes.program import compile_density
from pkpd.fitting.bayes.start import StartingPoint, flat_start, named_start
from pkpd.fitting.fit import fit
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.priors import fixed
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, parameter

TIMES = np.array([0.0, 1.0, 2.0, 4.0, 6.0, 7.0])
VISITS = (6, 1, 0, 3)  # of the subjects: what is known of them differs
SIGMA = 0.5


def uneven():
    """Subjects with many, one, no and some measurements."""
    rng = np.random.default_rng(8)
    rows = []
    for b, n in enumerate(VISITS):
        rows += [(b, -1.0, 1.0, None)]
        rows += [(b, t, None, 1.0 + 0.3 * t + rng.standard_normal()) for t in TIMES[:n]]
    return dataset_of(rows, lines=("height",))


def linear(blocks=(), **changes):
    settings = {
        "level": {"iiv": 0.8, "scale": "identity"},
        "slope": {"iiv": 0.3, "scale": "identity"},
    }
    for name, more in changes.items():
        settings[name] |= more
    return PopulationModel(
        Straight(),
        [
            parameter(name, value, **settings[name])
            for name, value in (("level", 1.0), ("slope", 0.2))
        ],
        additive(fixed(SIGMA)),
        correlated=blocks,
    )


def known(dataset):
    """Information ``[B, 2, 2]`` of each subject on level and slope."""
    seen = dataset.observations
    out = np.zeros((len(dataset.subjects), 2, 2))
    for b, t in zip(seen.subject, seen.time, strict=True):
        row = np.array([1.0, t])
        out[b] += np.outer(row, row) / SIGMA**2
    return out


@pytest.mark.parametrize("blocks", [(), [("level", "slope")]])
def test_weights_are_information_over_information_and_prior_precision(blocks):
    likelihood = bind(linear(blocks), uneven())
    values = {"omega_level": 0.6, "omega_slope": 0.4}
    if blocks:
        values["partial_level_slope"] = 0.7
    random = np.random.default_rng(1).standard_normal((4, 2))
    found = by_information(likelihood, values, random)
    np.testing.assert_allclose(found.information, known(likelihood.dataset), atol=1e-6)
    between = np.diag([0.36, 0.16])
    between[0, 1] = between[1, 0] = 0.7 * 0.24 if blocks else 0.0
    expected = [
        np.diag(np.linalg.inv(np.linalg.inv(between) + one) @ one) for one in found.information
    ]
    np.testing.assert_allclose(found.weights(between), expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(
        found.covariance(np.linalg.cholesky(between)),
        [np.linalg.inv(np.linalg.inv(between) + one) for one in found.information],
        rtol=1e-8,
    )
    # nothing is known of a subject without data, and its effects are not centred
    np.testing.assert_array_equal(found.weights(between)[2], 0.0)


@pytest.mark.parametrize(
    "blocks",
    # correlated effects hold what independent ones do
    [pytest.param((), marks=pytest.mark.slow), [("level", "slope")]],
)
def test_every_subject_is_standard_normal_whatever_the_population(blocks):
    """The posterior of a linear model given the population is normal: its score is ``-x``."""
    likelihood = bind(linear(blocks), uneven())
    centring = by_information(likelihood, {}, np.zeros((4, 2)))
    model = build_model(likelihood, centring)
    program = compile_density(model)
    rng = np.random.default_rng(2)
    for _ in range(4):
        values = {"level": rng.normal(), "slope": rng.normal()}
        values |= {"omega_level": rng.uniform(0.01, 3), "omega_slope": rng.uniform(0.01, 3)}
        values |= {"partial_level_slope": rng.uniform(-0.9, 0.9)} if blocks else {}
        point = StartingPoint(values, rng.standard_normal((4, 2)))
        flat = flat_start(model, named_start(likelihood, point, centring))
        x = flat[-8:]
        # information by differences is right to 1e-9 of itself
        np.testing.assert_allclose(program.at(flat)[1][-8:], -x, rtol=1e-6, atol=1e-6)


def test_weights_of_nought_and_one_are_the_two_classical_parameterisations():
    likelihood = bind(linear([("level", "slope")]), uneven())
    values = {"level": 1.7, "slope": -0.4, "omega_level": 0.5, "omega_slope": 0.7}
    values |= {"partial_level_slope": 0.6, "sigma_height": SIGMA}
    random = np.random.default_rng(3).standard_normal((4, 2))
    lower = np.array([[0.5, 0.0], [0.6 * 0.7, 0.8 * 0.7]])
    none = standardised(likelihood, non_centred(likelihood), values, random)
    np.testing.assert_allclose(none, np.linalg.solve(lower, random.T).T)
    both = by_weights(likelihood, {"level": 1.0, "slope": 1.0})
    full = standardised(likelihood, both, values, random)
    # the individual values, from the typical values and in the deviations the model starts with
    individual = random + np.array([1.7 - 1.0, -0.4 - 0.2])
    covariance = lower @ lower.T
    # their distribution: mean and covariance of x are those of the individual values
    scaled = np.linalg.solve(np.diag([0.8, 0.3]), covariance) @ np.linalg.inv(np.diag([0.8, 0.3]))
    many = np.random.default_rng(4).multivariate_normal(np.zeros(2), covariance, (5, 4))
    drawn = np.stack([standardised(likelihood, both, values, one) for one in many])
    slope = np.linalg.lstsq(many.reshape(-1, 2) - random[0], (drawn - full[0]).reshape(-1, 2))[0]
    np.testing.assert_allclose(slope.T @ covariance @ slope, scaled, rtol=0.02)
    np.testing.assert_allclose(full, individual @ slope, atol=1e-3)


def test_the_centre_does_not_move_where_typical_values_are_held():
    """Given the spreads all is normal; the compiled density keeps the Jacobian of each subject."""
    model = linear(
        level={"iiv": fixed(0.8), "fixed": True}, slope={"iiv": fixed(0.3), "fixed": True}
    ).replace(residual={"height": additive(SIGMA)})
    likelihood = bind(model, uneven())
    centring = by_weights(likelihood, {"level": 0.5, "slope": [0.2, 0.0, 0.9, 0.7]})
    made, random = build_model(likelihood, centring), np.zeros((4, 2))
    random[:, 0] = [0.4, -0.1, 0.3, 0.0]
    points = [StartingPoint({}, r) for r in (random, 0.0 * random)]
    program = compile_density(made)
    at, zero = (program.at(flat_start(made, named_start(likelihood, p, centring))) for p in points)
    seen = likelihood.dataset.observations
    left = seen.value - 1.0 - 0.2 * seen.time
    moved = left - random[seen.subject, 0]
    expected = 0.5 * (np.sum(left**2) - np.sum(moved**2)) / SIGMA**2
    expected -= 0.5 * np.sum(random[:, 0] ** 2) / 0.8**2
    assert at[0] - zero[0] == pytest.approx(expected, rel=1e-9)


def test_a_weight_of_the_model_and_of_a_subject_come_before_what_the_data_say():
    model = linear(slope={"centring": 0.25})
    likelihood = bind(model, uneven())
    found = by_information(likelihood, {}, np.zeros((4, 2)))
    between = np.diag([0.64, 0.09])
    weights = found.weights(between)
    np.testing.assert_allclose(weights[:, 1], 0.25)
    information = known(likelihood.dataset)[:, 0, 0]
    np.testing.assert_allclose(weights[:, 0], information / (information + 1 / 0.64), atol=1e-7)
    given = by_weights(likelihood, {"level": np.array([0.0, 0.3, 0.6, 1.0]), "slope": 0.9})
    np.testing.assert_allclose(given.weights(between)[:, 0], [0, 0.3, 0.6, 1], atol=2e-6)
    np.testing.assert_allclose(given.weights(between)[:, 1], 0.25)
    boxcox = bind(linear(slope={"boxcox": 0.2}), uneven())
    assert np.all(by_weights(boxcox, {"slope": 1.0}).weights(between)[:, 1] == 0)


def test_a_subject_without_finite_likelihood_is_not_centred():
    likelihood = bind(linear(), uneven())
    random = np.zeros((4, 2))
    random[0] = np.nan  # no mode was found
    found = by_information(likelihood, {}, random)
    assert np.all(found.information[0] == 0)
    assert np.all(found.pull[0] == 0)
    assert np.all(np.isfinite(found.pull))
    assert np.any(found.information[1] > 0)


@pytest.mark.slow
def test_an_effect_whose_variance_vanishes_at_the_start_is_not_taken_for_a_known_one():
    """Its modes are zero with no variance, which says nothing about the data."""
    likelihood = bind(linear(level={"iiv": 5e-2}), uneven())
    maximum = fit(likelihood.model, likelihood.dataset, method="focei")
    shrunk = maximum.estimates | {"omega_level": 1e-6}
    covariance = maximum.random_covariance.copy()
    covariance[:, 0], covariance[:, :, 0] = 0.0, 0.0
    from dataclasses import replace

    random = maximum.random * [0.0, 1.0]
    told = replace(maximum, estimates=shrunk, random=random, random_covariance=covariance)
    begun = begin(likelihood, "nuts", "auto", told)
    omega = begun.point.population["omega_level"]
    assert omega == pytest.approx(0.2 * 5e-2)
    np.testing.assert_allclose(begun.centring.information, known(likelihood.dataset), atol=1e-4)
    assert max(begun.notes["centring"]["level"]) < 0.01
    # and it can move as far as the data let it
    assert np.all(begun.point.random_covariance[:, 0, 0] > 0.5 * omega**2)


@pytest.mark.long
def test_the_record_holds_the_weight_of_every_subject():
    data = conjugate.data()
    made = fit(conjugate.model(), data, draws=10, tune=10, chains=1, progress=False)
    n, precision = len(conjugate.TIMES), conjugate.OMEGA**-2
    share = n / conjugate.SIGMA**2 / (n / conjugate.SIGMA**2 + precision)
    assert made.record["centring"] == {"level": [round(share, 2)] * len(data.subjects)}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"level": 1.2}, r"centring of 'level': 1.2; allowed: 0 \(non-centred\) to 1"),
        ({"level": np.zeros(3)}, r"one number or 6"),
        ({"slope": 1.0}, r"'slope', which does not vary"),
    ],
)
def test_weights_without_meaning_are_refused(weights, message):
    likelihood = bind(conjugate.model(), conjugate.data())
    with pytest.raises(PkpdError, match=message):
        begin(likelihood, "nuts", weights, "model")
