"""The ``pm.Model`` against densities written by hand with scipy."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy import stats
from small_data import Straight, dataset_of

from pkpd.fitting.bayes.density import all_priors, build_model, centring_weights
from pkpd.fitting.bayes.program import compile_density, density_at
from pkpd.fitting.bayes.start import StartingPoint, flat_start, named_start, patient_scale
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import (
    RandomEffects,
    correlation_cholesky,
    held,
    start_values,
)
from pkpd.fitting.model.priors import Prior, fixed
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, parameter

NAMES = ("a", "b", "c", "d")


class Four(Straight):
    """Four parameters: ``a + b t + c t^2 + d t^3``."""

    def bind(self, dataset):
        return FourPredictor(self, dataset)


class FourPredictor:
    def __init__(self, structure, dataset):
        self.structure, self.dataset, self.parameters = structure, dataset, structure.parameters

    def __call__(self, parameters):
        import jax.numpy as jnp

        seen, out = self.dataset.observations, 0.0
        for k, name in enumerate(self.parameters):
            value = jnp.asarray(parameters[name])
            here = value[seen.subject] if value.ndim == 1 else value[seen.subject, seen.record]
            out = out + here * seen.time**k
        return out

    def problems(self, parameters):
        return {}


def data(n=3):
    rows = [(b, t, None, 2.0 + b + t) for b in range(n) for t in (0.5, 1.0, 1.5)]
    return dataset_of(rows, lines=("height",), occasion=[0, 0, 1] * n)


def made(blocks=(), iov=(), partial=None, **changes):
    settings = {name: {"iiv": 0.2 + 0.1 * i} for i, name in enumerate(NAMES)}
    settings["c"]["scale"] = "identity"
    settings["d"] |= {"scale": "logit", "bounds": (0.0, 2.0)}
    for name in iov:
        settings[name]["iov"] = 0.15
    for name, more in changes.items():
        settings[name] |= more
    values = dict(zip(NAMES, (1.5, 0.8, 0.5, 0.4), strict=True))
    parameters = [parameter(name, values[name], **settings[name]) for name in NAMES]
    model = PopulationModel(
        Four(("height",), NAMES),
        parameters,
        additive(0.7),
        correlated=blocks,
        lkj=1.7,
        partial=partial,
    )
    return bind(model, data())


def frozen(prior):
    kinds = {
        "LogNormal": lambda mu, sigma: stats.lognorm(sigma, scale=np.exp(mu)),
        "HalfNormal": lambda sigma: stats.halfnorm(scale=sigma),
        "Normal": lambda mu, sigma: stats.norm(mu, sigma),
        "Uniform": lambda lower, upper: stats.uniform(lower, upper - lower),
        "Gamma": lambda alpha, beta: stats.gamma(alpha, scale=1 / beta),
    }
    return kinds[prior.distribution](**dict(prior.arguments))


def by_hand(likelihood, values, random):
    """Log joint density of natural population parameters and random effects."""
    model = likelihood.model
    out = sum(frozen(prior).logpdf(values[name]) for name, prior in all_priors(model).items())
    for block in model.correlated:
        for i in range(1, len(block)):
            for j in range(i):
                if f"partial_{block[j]}_{block[i]}" in held(model):
                    continue
                shape = model.lkj + 0.5 * (len(block) - 2 - j)
                unit = 0.5 * (values[f"partial_{block[j]}_{block[i]}"] + 1)
                out += stats.beta(shape, shape).logpdf(unit)  # density of the unit variable
    covariance = RandomEffects(model, likelihood.random_effects.n_occasions).covariance(values, np)
    out += stats.multivariate_normal(cov=covariance).logpdf(random).sum()
    fixed_effects = np.array([values[name] for name in likelihood.fixed_names])
    f = np.asarray(likelihood.predictions(fixed_effects, random))
    seen = likelihood.dataset.observations
    return out + stats.norm(f, values["sigma_height"]).logpdf(seen.value).sum()


def jacobian_of_effects(likelihood, values, weights):
    """Log |d eta / d x| of all patients: the change of variables of the parameterisation."""
    model, out, at = likelihood.model, 0.0, 0
    for block in model.correlated:
        partial = [
            values[f"partial_{block[j]}_{block[i]}"] for i in range(1, len(block)) for j in range(i)
        ]
        sd = np.array([values[f"omega_{n}"] for n in block])
        lower = sd[:, None] * correlation_cholesky(partial, len(block), np)
        covariance = lower @ lower.T
        own = weights[at : at + len(block)] == 1.0
        # of the others given those centred: log det of their conditional covariance, halved
        out += 0.5 * np.linalg.slogdet(covariance)[1]
        out -= 0.5 * np.linalg.slogdet(covariance[np.ix_(own, own)])[1] if own.any() else 0.0
        at += len(block)
    for w, name in zip(weights[at:], model.varying[at:], strict=True):
        out += (1 - w) * np.log(values[f"omega_{name}"])
    n = likelihood.random_effects.n_occasions
    out += n * sum(np.log(values[f"omega_occasion_{name}"]) for name in model.occasional)
    return likelihood.n_subjects * out


FEATURES = {
    "free": {},
    "one block": {"blocks": [("b", "a")]},
    "two blocks": {"blocks": [("b", "a"), ("c", "d")]},
    "block of three": {"blocks": [("d", "b", "a")]},
    "occasions": {"iov": ("a", "c")},
    "block and occasions": {"blocks": [("a", "b")], "iov": ("a",)},
    "held": {"a": {"fixed": True}, "b": {"iiv": fixed(0.3)}},
    "held correlation": {
        "blocks": [("d", "b", "a")],
        "partial": {"partial_d_a": fixed(0.3)},
    },
    "box-cox": {"a": {"boxcox": 0.3}},
}
# what these hold is in others too
CONTAINED = ("free", "one block", "occasions")


def features(*slow):
    return [pytest.param(f, marks=pytest.mark.slow if f in slow else ()) for f in FEATURES]


CENTRING = {
    "non-centred": {},
    "centred": dict.fromkeys(NAMES, 1.0),
    "partly": {"a": 0.3, "b": 0.9, "c": 0.6, "d": 0.1},
}


def a_point(likelihood, seed=5):
    rng = np.random.default_rng(seed)
    values = start_values(likelihood.model)
    for name in set(values) - held(likelihood.model):
        values[name] *= np.exp(0.2 * rng.standard_normal())
        if name.startswith("partial"):
            values[name] = rng.uniform(-0.6, 0.6)
    size = (likelihood.n_subjects, likelihood.random_effects.size)
    return values, 0.3 * rng.standard_normal(size)


@pytest.mark.parametrize("feature", features(*CONTAINED))
def test_every_parameterisation_is_the_density_written_by_hand(feature):
    likelihood = made(**FEATURES[feature])
    points = [a_point(likelihood, seed) for seed in (5, 6)]
    for centring in CENTRING.values():
        model = build_model(likelihood, centring)
        weights = centring_weights(likelihood.model, centring)
        density = model.compile_logp(mode="FAST_COMPILE")
        for values, random in points:
            named = named_start(likelihood, StartingPoint(values, random), centring)
            flat, at, point = flat_start(model, named), 0, {}
            for free, value in zip(model.free_RVs, model.value_vars, strict=True):
                shape = tuple(free.shape.eval()) if free.ndim else ()
                size = int(np.prod(shape))
                point[value.name] = flat[at : at + size].reshape(shape)
                at += size
            got = float(density(point))
            # PyMC adds the Jacobian of its own transformations to the unconstrained scale
            got -= transformation_jacobian(model, named)
            expected = by_hand(likelihood, values, random)
            expected += jacobian_of_effects(likelihood, values, weights)
            assert got == pytest.approx(expected, rel=1e-6, abs=1e-6), feature


def transformation_jacobian(model, named):
    out = 0.0
    for free in model.free_RVs:
        transform = model.rvs_to_transforms.get(free)
        if transform is None:
            continue
        kind, x = type(transform).__name__, np.asarray(named[free.name], dtype=float)
        if kind == "LogTransform":
            out += np.log(x).sum()
        elif kind in ("LogOddsTransform",):
            out += np.log(x * (1 - x)).sum()
        elif kind == "Interval":
            lower, upper = 0.0, 2.0  # bounds of d
            out += np.log((x - lower) * (upper - x) / (upper - lower)).sum()
        else:
            raise AssertionError(kind)
    return out


@pytest.mark.parametrize(
    "feature",
    ["block and occasions", pytest.param("two blocks", marks=pytest.mark.slow), "box-cox"],
)
def test_the_gradient_is_that_of_finite_differences(feature):
    likelihood = made(**FEATURES[feature])
    values, random = a_point(likelihood)
    model = build_model(likelihood, CENTRING["partly"])
    named = named_start(likelihood, StartingPoint(values, random), CENTRING["partly"])
    flat = flat_start(model, named)
    shapes = [tuple(v.shape.eval()) if v.ndim else () for v in model.free_RVs]

    def point(x):
        parts, at = {}, 0
        for value, shape in zip(model.value_vars, shapes, strict=True):
            size = int(np.prod(shape))
            parts[value.name] = x[at : at + size].reshape(shape)
            at += size
        return parts

    density = model.compile_logp(mode="FAST_COMPILE")
    slope = model.compile_dlogp(mode="FAST_COMPILE")(point(flat))
    step = 1e-6 * np.eye(len(flat))
    numeric = [(density(point(flat + h)) - density(point(flat - h))) / 2e-6 for h in step]
    # rounding of the difference: 1e-16 x density / 1e-6
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=5e-7)


def test_default_priors():
    likelihood = made(d={"boxcox": None})
    priors = all_priors(likelihood.model)
    assert priors["a"] == Prior("LogNormal", mu=float(np.log(1.5)), sigma=1.0)
    assert priors["c"] == Prior("Normal", mu=0.5, sigma=1.0)
    assert priors["d"] == Prior("Uniform", lower=0.0, upper=2.0)
    assert priors["omega_b"] == Prior("HalfNormal", sigma=2 * (0.2 + 0.1))
    assert priors["sigma_height"] == Prior("HalfNormal", sigma=1.4)
    assert set(all_priors(made(**FEATURES["held"]).model)) == set(priors) - {"a", "omega_b"}


def test_effects_of_a_block_are_centred_or_not_and_box_cox_never_is():
    model = made(blocks=[("a", "b")]).model
    np.testing.assert_array_equal(
        centring_weights(model, {"a": 0.9, "b": 0.3, "c": 0.7}), [1, 0, 0.7, 0]
    )
    np.testing.assert_array_equal(centring_weights(model, {"a": 0.4, "b": 0.3}), [0, 0, 0, 0])
    model = made(a={"boxcox": 0.2}, b={"centring": 0.25}).model
    np.testing.assert_array_equal(
        centring_weights(model, dict.fromkeys(NAMES, 1.0)), [0, 0.25, 1, 1]
    )


def test_a_mixed_block_has_a_variable_for_each_kind():
    likelihood = made(blocks=[("d", "b", "a")])
    model = build_model(likelihood, {"a": 0.8, "b": 0.2, "d": 0.3})
    shapes = {v.name: tuple(v.shape.eval()) for v in model.free_RVs if v.name.startswith("x")}
    n = likelihood.n_subjects
    assert shapes == {"x_block_centred": (n, 1), "x_block": (n, 2), "x": (n, 1)}


def test_prior_of_correlations_matches_lkj_by_simulation():
    likelihood = made(blocks=[("a", "b", "c")])
    model = build_model(likelihood)
    names = ["partial_a_b", "partial_a_c", "partial_b_c"]
    drawn = pm.draw([model[name] for name in names], 4000, random_seed=1)
    # marginals of LKJ(eta) in 3 dimensions: beta(eta + 1/2) on (-1, 1), also of pair (b, c)
    correlation = np.stack(
        [
            (lower @ lower.T)[np.tril_indices(3, -1)]
            for lower in (correlation_cholesky(list(p), 3, np) for p in np.array(drawn).T)
        ]
    )
    for column in correlation.T:
        assert stats.kstest(0.5 * (column + 1), stats.beta(2.2, 2.2).cdf).pvalue > 1e-4


def test_names_coordinates_and_no_random_effects():
    model = build_model(made(iov=("a",)))
    assert model.named_vars_to_dims["eta"] == ("subject", "parameter")
    assert model.named_vars_to_dims["kappa"] == ("subject", "occasion", "occasion_parameter")
    bare = PopulationModel(
        Straight(), [parameter("level", 1.0), parameter("slope", 0.5)], additive(0.5)
    )
    likelihood = bind(bare, dataset_of([(1, 1.0, None, 2.0)], lines=("height",)))
    model = build_model(likelihood)
    assert [v.name for v in model.free_RVs] == ["level", "slope", "sigma_height"]
    assert np.isfinite(model.compile_logp(mode="FAST_COMPILE")(model.initial_point()))


def test_start_goes_back_to_the_random_effects_it_came_from():
    likelihood = made(**FEATURES["block and occasions"])
    values, random = a_point(likelihood)
    for centring in CENTRING.values():
        model = build_model(likelihood, centring)
        named = named_start(likelihood, StartingPoint(values, random), centring)
        free = {v: np.asarray(named[v.name]) for v in model.free_RVs}
        eta, kappa = (
            model[name].eval(free, on_unused_input="ignore", mode="FAST_COMPILE")
            for name in ("eta", "kappa")
        )
        n = len(likelihood.model.varying)
        np.testing.assert_allclose(eta, random[:, :n], rtol=1e-12)
        np.testing.assert_allclose(kappa.reshape(3, -1), random[:, n:], rtol=1e-12)


@pytest.mark.parametrize("feature", ["block and occasions", "two blocks"])
@pytest.mark.parametrize("centring", CENTRING)
def test_scaled_variables_of_a_patient_have_the_covariance_of_its_effects(feature, centring):
    likelihood, weights = made(**FEATURES[feature]), CENTRING[centring]
    values, random = a_point(likelihood)
    patients, size = random.shape
    lower = np.asarray(likelihood.random_effects.cholesky(values, np))
    share = np.linspace(0.2, 0.9, patients)[:, None, None]
    covariance = share * (lower @ lower.T)
    point = StartingPoint(values, random, None, None, covariance)
    model = build_model(likelihood, weights)
    scale = patient_scale(model, likelihood, point, weights)
    assert scale.factor.shape == (patients, size, size)

    # effects that the model makes of unit steps of the scaled variables
    flat = flat_start(model, named_start(likelihood, point, weights))
    effects = [v for v in model.deterministics if v.name in ("eta", "kappa")]
    effects = model.replace_rvs_by_values(effects)
    read = model.compile_fn(
        effects, inputs=model.value_vars, mode="FAST_COMPILE", on_unused_input="ignore"
    )
    shapes = [tuple(v.shape.eval()) if v.ndim else () for v in model.free_RVs]

    def effects_at(y):
        q, at, at_point = scale.unscaled(y), 0, {}
        for value, shape in zip(model.value_vars, shapes, strict=True):
            count = int(np.prod(shape))
            at_point[value.name] = q[at : at + count].reshape(shape)
            at += count
        return np.concatenate([np.reshape(e, (patients, -1)) for e in read(at_point)], axis=1)

    start = scale.scaled(flat)
    np.testing.assert_allclose(scale.unscaled(start), flat, atol=1e-10)
    here, columns = effects_at(start), []
    for k in range(size):
        moved = start.copy()
        moved[scale.places[:, k]] += 1.0
        columns.append(effects_at(moved) - here)
    step = np.stack(columns, axis=2)
    # a hundredth of the variance between patients is added so that none is stuck at zero
    expected = covariance + 0.01 * np.diag(np.diag(lower @ lower.T))
    np.testing.assert_allclose(step @ step.swapaxes(1, 2), expected, atol=1e-9)


def test_a_patient_without_a_covariance_has_that_of_the_population():
    likelihood = made(**FEATURES["two blocks"])
    values, random = a_point(likelihood)
    model, (patients, size) = build_model(likelihood), random.shape
    assert patient_scale(model, likelihood, StartingPoint(values, random), {}) is None
    covariance = np.tile(np.eye(size), (patients, 1, 1))
    covariance[0], covariance[1] = np.nan, -np.eye(size)
    point = StartingPoint(values, random, None, None, covariance)
    factor = patient_scale(model, likelihood, point, {}).factor
    assert np.all(np.isfinite(factor))
    np.testing.assert_allclose(factor[0], factor[1])
    assert not np.allclose(factor[0], factor[2])


@pytest.mark.parametrize("feature", features(*CONTAINED, "two blocks", "block of three"))
def test_the_compiled_program_takes_points_in_the_order_of_the_model(feature):
    likelihood = made(**FEATURES[feature])
    values, random = a_point(likelihood)
    model = build_model(likelihood, CENTRING["partly"])
    named = named_start(likelihood, StartingPoint(values, random), CENTRING["partly"])
    flat, at, point = flat_start(model, named), 0, {}
    for free, value in zip(model.free_RVs, model.value_vars, strict=True):
        shape = tuple(free.shape.eval()) if free.ndim else ()
        point[value.name] = flat[at : at + int(np.prod(shape))].reshape(shape)
        at += int(np.prod(shape))
    expected = float(model.compile_logp(mode="FAST_COMPILE")(point))
    assert density_at(compile_density(model), flat) == pytest.approx(expected, rel=1e-10)
