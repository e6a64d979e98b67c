"""The ``pm.Model`` against densities written by hand with scipy."""

from __future__ import annotations

import os
import sys
from functools import cache

import numpy as np
import pymc as pm
import pytest
from scipy import stats
from small_data import Straight, dataset_of

from pkpd.fitting.bayes.centring import Centring, by_weights
from pkpd.fitting.bayes.density import build_model
from pkpd.fitting.bayes.program import compile_density, pymc_jax
from pkpd.fitting.bayes.start import StartingPoint, flat_start, named_start, patient_scale
from pkpd.fitting.model.default_priors import all_priors
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


def jacobian_of_effects(likelihood, values, centring):
    """Log |d eta / d x| of all subjects: of the root of their covariance given the data."""
    precision = np.linalg.inv(likelihood.random_effects.covariance(values, np))
    out = -0.5 * np.linalg.slogdet(precision + centring.information)[1].sum()
    return out - np.log(centring.unit).sum()


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
    "all at once": {
        "blocks": [("d", "b", "a")],
        "iov": ("a", "c"),
        "partial": {"partial_d_a": fixed(0.3)},
        "a": {"boxcox": 0.3},
        "b": {"iiv": fixed(0.3)},
        "c": {"fixed": True},
    },
}


WEIGHTS = {
    "non-centred": {},
    "centred": dict.fromkeys(NAMES, 1.0),
    "partly": {"a": 0.3, "b": 0.9, "c": 0.6, "d": 0.1},
}
CENTRING = (*WEIGHTS, "informed")


def marks(feature, kind):
    """Of the features that hold the others one is quick, in the coordinates that hold the others.

    Where they fail, the long ones tell which feature it is.
    """
    if (feature, kind) == ("two blocks", "informed"):
        return ()
    if feature == "all at once" and kind in ("informed", "partly"):
        return pytest.mark.slow
    return pytest.mark.long


def centred(likelihood, kind):
    """Coordinates of a kind; those that are informed differ between subjects."""
    if kind in WEIGHTS:
        return by_weights(likelihood, WEIGHTS[kind])
    rng, n = np.random.default_rng(11), likelihood.n_subjects
    size, made = likelihood.random_effects.size, by_weights(likelihood, {})
    root = rng.standard_normal((n, size, 2)) * np.arange(n)[:, None, None]
    information = 5.0 * root @ root.swapaxes(1, 2)
    return Centring(information, rng.standard_normal((n, size)), made.typical, made.unit)


@cache
def compiled(feature, kind):
    """Likelihood, coordinates, model and program of a feature; several tests ask the same."""
    likelihood = made(**FEATURES[feature])
    centring = centred(likelihood, kind)
    model = build_model(likelihood, centring)
    return likelihood, centring, model, compile_density(model)


def a_point(likelihood, seed=5):
    rng = np.random.default_rng(seed)
    values = start_values(likelihood.model)
    for name in set(values) - held(likelihood.model):
        values[name] *= np.exp(0.2 * rng.standard_normal())
        if name.startswith("partial"):
            values[name] = rng.uniform(-0.6, 0.6)
    size = (likelihood.n_subjects, likelihood.random_effects.size)
    return values, 0.3 * rng.standard_normal(size)


@pytest.mark.parametrize(
    ("feature", "kind"),
    [pytest.param(f, k, marks=marks(f, k)) for f in FEATURES for k in CENTRING],
)
def test_every_parameterisation_is_the_density_written_by_hand(feature, kind):
    likelihood, centring, model, program = compiled(feature, kind)
    for values, random in (a_point(likelihood, seed) for seed in (5, 6)):
        named = named_start(likelihood, StartingPoint(values, random), centring)
        got = program.at(flat_start(model, named))[0]
        # PyMC adds the Jacobian of its own transformations to the unconstrained scale
        got -= transformation_jacobian(model, named)
        expected = by_hand(likelihood, values, random)
        expected += jacobian_of_effects(likelihood, values, centring)
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-6)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "feature",
    [
        "all at once",
        *(
            pytest.param(f, marks=pytest.mark.long)
            for f in ("block and occasions", "two blocks", "box-cox")
        ),
    ],
)
def test_the_gradient_is_that_of_finite_differences(feature):
    likelihood, centring, model, program = compiled(feature, "informed")
    values, random = a_point(likelihood)
    named = named_start(likelihood, StartingPoint(values, random), centring)
    flat = flat_start(model, named)
    step = 1e-6 * np.eye(len(flat))
    numeric = [(program.at(flat + h)[0] - program.at(flat - h)[0]) / 2e-6 for h in step]
    # rounding of the difference: 1e-16 x density / 1e-6
    np.testing.assert_allclose(program.at(flat)[1], numeric, rtol=1e-6, atol=5e-7)


def test_default_priors():
    likelihood = made(d={"boxcox": None})
    priors = all_priors(likelihood.model)
    assert priors["a"] == Prior("LogNormal", mu=float(np.log(1.5)), sigma=1.0)
    assert priors["c"] == Prior("Normal", mu=0.5, sigma=1.0)
    assert priors["d"] == Prior("Uniform", lower=0.0, upper=2.0)
    assert priors["omega_b"] == Prior("HalfNormal", sigma=2 * (0.2 + 0.1))
    assert priors["sigma_height"] == Prior("HalfNormal", sigma=1.4)
    assert set(all_priors(made(**FEATURES["held"]).model)) == set(priors) - {"a", "omega_b"}


@pytest.mark.slow
def test_draws_of_the_prior_have_the_covariance_between_patients():
    likelihood = made(blocks=[("d", "b", "a")], iov=("c",))
    centring = centred(likelihood, "informed")
    model = build_model(likelihood, centring)
    values, _ = a_point(likelihood)
    held = {name: value for name, value in values.items() if "partial" not in name}
    held |= {f"{name}_unit": 0.5 * (v + 1) for name, v in values.items() if "partial" in name}
    at = pm.do(model, held, prune_vars=False)
    eta = pm.draw(at["eta"], 2000, random_seed=2, mode="FAST_COMPILE")
    covariance = likelihood.random_effects.covariance(values, np)[:4, :4]
    for b in range(likelihood.n_subjects):
        found = np.cov(eta[:, b].T)
        sd = np.sqrt(np.diag(covariance))
        # a variance of 2000 draws is known to 3 %, a correlation to 0.022
        np.testing.assert_allclose(
            found / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.13
        )


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


@pytest.mark.parametrize("feature", ["block and occasions", "two blocks"])
@pytest.mark.parametrize(
    "kind",
    # weights of nought and one are among those between
    [
        pytest.param(k, marks=pytest.mark.long if k in ("non-centred", "centred") else ())
        for k in CENTRING
    ],
)
def test_scaled_variables_of_a_patient_have_the_covariance_of_its_effects(feature, kind):
    likelihood = made(**FEATURES[feature])
    weights = centred(likelihood, kind)
    values, random = a_point(likelihood)
    patients, size = random.shape
    lower = np.asarray(likelihood.random_effects.cholesky(values, np))
    share = np.linspace(0.2, 0.9, patients)[:, None, None]
    covariance = share * (lower @ lower.T)
    point = StartingPoint(values, random, None, covariance)
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
    plain = by_weights(likelihood, {})
    assert patient_scale(model, likelihood, StartingPoint(values, random), plain) is None
    covariance = np.tile(np.eye(size), (patients, 1, 1))
    covariance[0], covariance[1] = np.nan, -np.eye(size)
    point = StartingPoint(values, random, None, covariance)
    factor = patient_scale(model, likelihood, point, plain).factor
    assert np.all(np.isfinite(factor))
    np.testing.assert_allclose(factor[0], factor[1])
    assert not np.allclose(factor[0], factor[2])


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.long if k in WEIGHTS else ()) for k in CENTRING]
)
def test_start_goes_back_to_the_values_it_came_from(kind):
    likelihood, centring, model, program = compiled("all at once", kind)
    values, random = a_point(likelihood)
    named = named_start(likelihood, StartingPoint(values, random), centring)
    found = program.variables_at(flat_start(model, named))
    assert set(found) == {v.name for v in (*model.free_RVs, *model.deterministics)}
    for name in set(values) & set(found):
        assert found[name] == pytest.approx(values[name], rel=1e-12)
    n = len(likelihood.model.varying)
    np.testing.assert_allclose(found["eta"], random[:, :n], rtol=1e-9)
    np.testing.assert_allclose(found["kappa"].reshape(3, -1), random[:, n:], rtol=1e-9)


def test_the_compiled_program_takes_points_in_the_order_of_the_model():
    likelihood, centring, model, program = compiled("all at once", "informed")
    values, random = a_point(likelihood)
    named = named_start(likelihood, StartingPoint(values, random), centring)
    flat, at, point = flat_start(model, named), 0, {}
    for free, value in zip(model.free_RVs, model.value_vars, strict=True):
        shape = tuple(free.shape.eval()) if free.ndim else ()
        point[value.name] = flat[at : at + int(np.prod(shape))].reshape(shape)
        at += int(np.prod(shape))
    expected = float(model.compile_logp(mode="FAST_COMPILE")(point))
    assert program.at(flat)[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "flags", [None, "--xla_cpu_max_isa=AVX2 --xla_cpu_multi_thread_eigen=false"]
)
def test_loading_what_pymc_does_with_jax_leaves_the_flags_of_xla(monkeypatch, flags):
    monkeypatch.delitem(sys.modules, "pymc.sampling.jax", raising=False)
    monkeypatch.setenv("XLA_FLAGS", flags or "")
    if flags is None:
        monkeypatch.delenv("XLA_FLAGS")
    assert pymc_jax().get_jaxified_graph
    assert os.environ.get("XLA_FLAGS") == flags
