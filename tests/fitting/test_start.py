from __future__ import annotations

from dataclasses import replace

import conjugate
import numpy as np
import pytest

from pkpd.fitting.bayes import start
from pkpd.fitting.bayes.centring import by_weights
from pkpd.fitting.bayes.density import build_model
from pkpd.fitting.bayes.program import PatientScale, compile_density
from pkpd.fitting.bayes.start import (
    StartingPoint,
    flat_spread,
    flat_start,
    named_start,
    patient_scale,
)
from pkpd.fitting.maximum.estimate import maximum_likelihood
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.specification import parameter


@pytest.mark.long
def test_the_flat_point_is_in_the_order_and_on_the_scale_of_the_sampler():
    model = conjugate.model().replace(residual={"height": conjugate.additive(0.5)})
    likelihood = bind(model, conjugate.data(3))
    made = build_model(likelihood)
    random = np.array([[0.1], [0.2], [-0.3]])
    point = StartingPoint({"level": 2.0}, random, {"slope": 0.05, "level": 9.0})
    flat = flat_start(made, named_start(likelihood, point, by_weights(likelihood, {})))
    order = [v.name for v in made.free_RVs]
    assert order == ["level", "slope", "sigma_height", "x"]
    np.testing.assert_allclose(flat[:3], [2.0, 0.2, np.log(0.5)])
    np.testing.assert_allclose(flat[3:], random[:, 0] / conjugate.OMEGA)
    np.testing.assert_allclose(flat_spread(made, point), [0.3, 0.05, 0.1, 0.05, 0.05, 0.05])
    import nutpie

    # nutpie lays its variables out in the same order
    compiled = nutpie.compile_pymc_model(made, backend="numba")
    density = made.compile_logp(mode="FAST_COMPILE")
    parts = dict(zip((v.name for v in made.value_vars[:3]), flat[:3], strict=True))
    parts[made.value_vars[3].name] = flat[3:].reshape(3, 1)
    np.testing.assert_allclose(compiled.logp_func(flat)[0], density(parts), rtol=1e-10)


@pytest.mark.slow
def test_the_scale_has_the_covariance_of_a_posterior_that_is_known():
    likelihood = bind(conjugate.model(), conjugate.data())
    maximum = maximum_likelihood(likelihood.model, likelihood.dataset, priors=True)
    point = StartingPoint(maximum.estimates, maximum.random, None, maximum.random_covariance)
    made = build_model(likelihood)
    scale = patient_scale(made, likelihood, point, by_weights(likelihood, {}), maximum)
    n = 2 + likelihood.n_subjects
    origin = scale.unscaled(np.zeros(n))
    unit = np.stack([scale.unscaled(e) - origin for e in np.eye(n)], axis=1)
    to_effects = np.concatenate([np.ones(2), np.full(n - 2, conjugate.OMEGA)])
    root = to_effects[:, None] * unit
    mean, covariance = conjugate.posterior(likelihood.dataset)
    # a hundredth of the variance between patients is added so that none is stuck at zero
    covariance[2:, 2:] += 0.01 * conjugate.OMEGA**2 * np.eye(n - 2)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-4 * conjugate.OMEGA**2)
    np.testing.assert_allclose(origin[:2], mean[:2], atol=1e-4)


@pytest.mark.slow
def test_an_estimate_that_cannot_move_does_not_spoil_the_scale_of_the_others(monkeypatch):
    likelihood = bind(conjugate.model(), conjugate.data())
    maximum = maximum_likelihood(likelihood.model, likelihood.dataset, priors=True)
    point = StartingPoint(maximum.estimates, maximum.random, None, maximum.random_covariance)
    made = build_model(likelihood)
    free = patient_scale(made, likelihood, point, by_weights(likelihood, {}), maximum)
    moved = start._moved_modes

    def stuck(of):
        for i, name, up, down in moved(of):
            yield i, name, up, up if name == "slope" else down

    monkeypatch.setattr(start, "_moved_modes", stuck)
    held = patient_scale(made, likelihood, point, by_weights(likelihood, {}), maximum)
    assert np.any(free.shift[..., 0])
    np.testing.assert_array_equal(held.shift[..., 0], free.shift[..., 0])
    assert not np.any(held.shift[..., 1])
    np.testing.assert_allclose(held.population_factor[0, 0], free.population_factor[0, 0])
    assert np.all(np.diag(held.population_factor) > 0)


def test_the_gradient_by_the_scaled_point_is_that_of_differences():
    likelihood = bind(conjugate.model(), conjugate.data())
    made = build_model(likelihood)
    compiled = compile_density(made)
    rng, patients = np.random.default_rng(3), likelihood.n_subjects
    scale = PatientScale(
        2 + np.arange(patients)[:, None],
        rng.uniform(0.5, 2.0, (patients, 1, 1)),
        np.arange(2),
        rng.standard_normal((patients, 1, 2)),
        np.array([0.3, -0.2]),
        np.array([[1.5, 0.0], [0.4, 0.7]]),
    )
    y = rng.standard_normal(2 + patients)
    np.testing.assert_allclose(scale.scaled(scale.unscaled(y)), y, atol=1e-12)
    value, gradient = compiled.at(scale.unscaled(y))
    gradient = scale.gradient(gradient)
    for k in range(len(y)):
        h = 1e-5 * np.eye(len(y))[k]
        up, down = (compiled.at(scale.unscaled(y + sign * h))[0] for sign in (1, -1))
        np.testing.assert_allclose(gradient[k], (up - down) / 2e-5, rtol=1e-6, atol=1e-6)
    assert np.isfinite(value)


@pytest.mark.slow
def test_modes_are_not_followed_along_a_spread_that_is_hardly_known():
    model = conjugate.model().replace(
        parameters=[
            parameter("level", 1.0, scale="identity", iiv=0.8),
            parameter("slope", 0.2, scale="identity"),
        ]
    )
    likelihood = bind(model, conjugate.data())
    maximum = maximum_likelihood(likelihood.model, likelihood.dataset, priors=True)
    point = StartingPoint(maximum.estimates, maximum.random, None, maximum.random_covariance)
    made = build_model(likelihood)
    place = [v.name for v in made.free_RVs if not v.ndim].index("omega_level")
    i = maximum.names.index("omega_level")
    for error, follows in ((0.1, True), (0.9, False)):
        covariance = maximum.covariance_x.copy()
        covariance[i, i] = error**2
        told = replace(maximum, covariance_x=covariance)
        scale = patient_scale(made, likelihood, point, by_weights(likelihood, {}), told)
        assert np.any(scale.shift[..., place]) == follows
        assert np.any(scale.shift[..., 0])
