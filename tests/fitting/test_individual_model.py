from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_data import Straight, dataset_of

from pkpd.errors import DataError
from pkpd.fitting.model.covariate_effects import category, exponential, linear, power
from pkpd.fitting.model.individuals import IndividualModel, from_scale, to_scale
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.priors import fixed
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, from_column, parameter

# subject 1 has three records and two occasions, subject 2 two records and one
ROWS = [(1, 0.0, None, 1.0), (1, 1.0, None, 1.0), (1, 2.0, None, 1.0)]
ROWS += [(2, 0.0, None, 1.0), (2, 5.0, None, 1.0)]
WT, AGE, SEX = [70, 70, 70, 35, 35], [30, 40, 50, 60, 60], [1, 1, 1, 2, 2]
OCCASION = [0, 1, 1, 0, 0]


def data(**changes):
    covariates = {"WT": WT, "AGE": AGE, "SEX": SEX}
    return dataset_of(ROWS, lines=("height",), covariates=covariates, **changes)


def individual(level, fixed_effects, random, **changes):
    model = PopulationModel(Straight(), [level, parameter("slope", 1.0)], additive(1.0))
    made = IndividualModel(model, data(**changes))
    values = {"level": level.typical.value, "slope": 1.0, "sigma_height": 1.0} | fixed_effects
    return np.asarray(made(values, jnp.asarray(random, dtype=float))["level"])


ETA = np.array([[0.3], [-0.4]])
NONE = np.zeros((2, 0))


@pytest.mark.parametrize(
    ("effect", "coefficient", "factor"),
    [
        (power("WT", 70), 0.75, [1.0, 0.5**0.75]),
        (exponential("WT", 70), 0.01, [1.0, np.exp(-0.35)]),
        (linear("WT", 70), 0.01, [1.0, 0.65]),
        (category("SEX", 2)[0], -0.7, [1.0, np.exp(-0.7)]),
    ],
)
def test_each_form_of_covariate_effect(effect, coefficient, factor):
    level = parameter("level", 2.0, iiv=0.3, effects=effect)
    got = individual(level, {effect.name("level"): coefficient}, ETA)
    np.testing.assert_allclose(got, 2.0 * np.array(factor) * np.exp(ETA[:, 0]), rtol=1e-14)


@pytest.mark.parametrize(
    ("effect", "term"),
    [
        (power("WT", 70), [0.0, 0.4 * np.log(0.5)]),
        (exponential("WT", 70), [0.0, -0.4 * 35]),
        (linear("WT", 70), [0.0, -0.4 * 35]),
        (category("SEX", 2)[0], [0.0, 0.4]),
    ],
)
def test_on_other_scales_a_term_is_added(effect, term):
    """A linear effect of a parameter on its natural scale is a straight line, not a logarithm."""
    coefficient = {effect.name("level"): 0.4}
    natural = parameter("level", 2.0, scale="identity", effects=effect)
    np.testing.assert_allclose(individual(natural, coefficient, NONE), 2.0 + np.array(term))
    share = parameter("level", 0.5, scale="logit", effects=effect)
    got = individual(share, coefficient, NONE)
    np.testing.assert_allclose(np.log(got / (1.0 - got)), term, atol=1e-9)


def test_patients_may_all_be_in_the_reference_category():
    """What cannot be estimated from them can be predicted for them."""
    level = parameter("level", 2.0, effects=category("SEX", 3, -0.4))
    np.testing.assert_allclose(individual(level, {"level_SEX_3": -0.4}, NONE), [2.0, 2.0])
    model = PopulationModel(Straight(), [level, parameter("slope", fixed(1.0))], additive(1.0))
    with pytest.raises(DataError, match="no record has category 3"):
        bind(model, data())
    assert bind(model, data(), estimated=False).n_subjects == 2


def test_a_factor_that_leaves_no_parameter_is_refused():
    level = parameter("level", 2.0, effects=linear("AGE", 40, -0.02))
    model = PopulationModel(Straight(), [level, parameter("slope", 1.0)], additive(1.0))
    made = IndividualModel(model, data())
    made.check_factors({"level_AGE": np.array([-0.02, -0.049])})
    told = r"covariate AGE: at 60 the factor 1 \+ b \(x - 40\) of level is -0.2, with b = -0.06;"
    with pytest.raises(DataError, match=told):
        made.check_factors({"level_AGE": np.array([-0.02, -0.06, 0.01])})
    natural = model.replace(parameters=[replace(level, scale="identity"), model["slope"]])
    IndividualModel(natural, data()).check_factors({"level_AGE": np.array([-0.06])})


def test_effects_multiply_and_a_changing_covariate_gives_values_by_record():
    level = parameter("level", 2.0, effects=[power("WT", 70, 0.75), exponential("AGE", 40, 0.02)])
    got = individual(level, {"level_WT": 0.75, "level_AGE": 0.02}, NONE)
    assert got.shape == (2, 3)
    age = np.array([[30, 40, 50], [60, 60, 60]])
    size = np.array([[1.0], [0.5**0.75]])
    np.testing.assert_allclose(got, 2.0 * size * np.exp(0.02 * (age - 40)), rtol=1e-14)


@pytest.mark.parametrize("records", [3, 2])
def test_the_order_of_effects_is_of_no_account(records):
    """One of each subject after one of each record, as many records as subjects among them."""
    rows = [row for row in ROWS if row[1] < 2.0 or records == 3]
    keep = [k for k, row in enumerate(ROWS) if row in rows]
    columns = {"WT": WT, "AGE": AGE, "SEX": SEX}
    some = {name: [values[k] for k in keep] for name, values in columns.items()}
    both = power("WT", 70, 0.75), exponential("AGE", 40, 0.02)
    values = {"slope": 1.0, "sigma_height": 1.0, "level": 2.0, "level_WT": 0.75, "level_AGE": 0.02}
    found = []
    for effects in (both, both[::-1]):
        level = parameter("level", 2.0, effects=list(effects))
        model = PopulationModel(Straight(), [level, parameter("slope", 1.0)], additive(1.0))
        made = IndividualModel(model, dataset_of(rows, lines=("height",), covariates=some))
        found.append(np.asarray(made(values, jnp.asarray(NONE))["level"]))
    assert found[0].shape == (2, records)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-15)
    np.testing.assert_allclose(found[0][1, :2], 2.0 * 0.5**0.75 * np.exp(0.4), rtol=1e-14)


def test_occasions_add_their_own_effect_at_their_records():
    level = parameter("level", 2.0, iiv=0.3, iov=0.1)
    random = np.array([[0.3, 0.01, 0.02], [-0.4, 0.03, 0.04]])
    got = individual(level, {}, random, occasion=OCCASION)
    kappa = np.array([[0.01, 0.02, 0.02], [0.03, 0.03, 0.03]])
    np.testing.assert_allclose(got, 2.0 * np.exp(random[:, :1] + kappa), rtol=1e-14)


def test_scales_and_their_bounds():
    logit = parameter("level", 0.3, iiv=0.3, scale="logit", bounds=(-1.0, 2.0))
    x = np.log(1.3 / 1.7) + ETA[:, 0]
    np.testing.assert_allclose(individual(logit, {}, ETA), -1 + 3 / (1 + np.exp(-x)), rtol=1e-14)
    identity = parameter("level", -5.0, iiv=0.3, scale="identity")
    np.testing.assert_allclose(individual(identity, {}, ETA), -5 + ETA[:, 0], rtol=1e-14)
    for one in (logit, identity, parameter("level", 0.3)):
        value = one.typical.value
        assert float(from_scale(one, to_scale(one, value))) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("shape", [-1.5, -1e-3, -1e-9, 0.0, 1e-12, 1e-6, 0.5])
def test_box_cox_passes_through_zero_without_a_step(shape):
    level = parameter("level", 2.0, iiv=0.3, boxcox=0.1)

    def values(shape):
        model = PopulationModel(Straight(), [level, parameter("slope", 1.0)], additive(1.0))
        fixed_effects = {"level": 2.0, "slope": 1.0, "sigma_height": 1.0, "boxcox_level": shape}
        return IndividualModel(model, data())(fixed_effects, jnp.asarray(ETA))["level"]

    eta = ETA[:, 0]
    # Taylor in lambda to third order below 1e-2, the definition above
    if abs(shape) < 1e-2:
        term = eta + shape * eta**2 / 2 + shape**2 * eta**3 / 6 + shape**3 * eta**4 / 24
        slope = eta**2 / 2 + shape * eta**3 / 3 + shape**2 * eta**4 / 8
    else:
        term = (np.exp(eta * shape) - 1) / shape
        slope = (eta * np.exp(eta * shape) * shape - (np.exp(eta * shape) - 1)) / shape**2
    np.testing.assert_allclose(values(shape), 2.0 * np.exp(term), rtol=1e-10)
    got = jax.jacobian(values)(jnp.asarray(shape))
    np.testing.assert_allclose(got, 2.0 * np.exp(term) * slope, rtol=1e-7)


def test_a_column_gives_known_values():
    model = PopulationModel(
        Straight(), [from_column("level", "AGE"), from_column("slope", "WT")], additive(1.0)
    )
    got = IndividualModel(model, data())({"sigma_height": 1.0}, jnp.zeros((2, 0)))
    np.testing.assert_array_equal(got["level"], [[30, 40, 50], [60, 60, 60]])
    np.testing.assert_array_equal(got["slope"], [70, 35])


def test_occasions_are_counted_over_all_subjects():
    level = parameter("level", 2.0, iov=0.1)
    model = PopulationModel(Straight(), [level, parameter("slope", 1.0)], additive(1.0))
    assert IndividualModel(model, data(occasion=OCCASION)).random_effects.size == 2
    without = PopulationModel(
        Straight(), [parameter("level", 2.0), parameter("slope", 1.0)], additive(1.0)
    )
    assert IndividualModel(without, data(occasion=OCCASION)).n_occasions == 0


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (parameter("level", 1.0, effects=power("CRCL", 100)), "'CRCL'.*AGE|WT, AGE, SEX"),
        (parameter("level", 1.0, iov=0.1), "give a column OCC"),
        (from_column("level", "CLI"), "'CLI' of parameter 'level': is not in the data set"),
    ],
)
def test_what_the_data_lack_is_said(level, message):
    model = PopulationModel(Straight(), [level, parameter("slope", fixed(1.0))], additive(1.0))
    with pytest.raises(DataError, match=message):
        IndividualModel(model, data())
