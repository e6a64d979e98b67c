from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from small_data import Straight, dataset_of

from pkpd.fitting.bayes.graph import LogLikelihood
from pkpd.fitting.bayes.guest import predictions
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.solve.population.status import PENALTY

MODES = ["FAST_COMPILE", "NUMBA", "JAX"]
SOME = [  # predictions are compared in every mode below
    pytest.param(mode, marks=pytest.mark.slow if mode == "NUMBA" else pytest.mark.long)
    for mode in MODES
]


def likelihood_of(iiv=0.3):
    model = PopulationModel(
        Straight(), [parameter("level", 1.0, iiv=iiv), parameter("slope", 0.5)], additive(0.5)
    )
    rows = [(b, t, None, 1.0 + b + t) for b in range(3) for t in (0.5, 2.0)]
    return bind(model, dataset_of(rows, lines=("height",)))


def inputs_of(likelihood):
    fixed = np.asarray(likelihood.fixed(start_values(likelihood.model)))
    return fixed, 0.1 * np.arange(3.0).reshape(3, 1) - 0.05


@pytest.mark.parametrize("mode", SOME)
def test_value_and_gradient_are_the_same_in_every_mode(mode):
    likelihood = likelihood_of()
    fixed, random = pt.dvector(), pt.dmatrix()
    total = LogLikelihood(likelihood)(fixed, random)[0]
    slopes = pytensor.grad(2.0 * total, [fixed, random])
    function = pytensor.function([fixed, random], [total, *slopes], mode=mode)
    numbers = inputs_of(likelihood)
    value, by_fixed, by_random = likelihood.value_and_gradient(*numbers)
    got = function(*numbers)
    assert float(got[0]) == pytest.approx(float(value), rel=1e-14)
    np.testing.assert_allclose(got[1], 2 * np.asarray(by_fixed), rtol=1e-13)
    np.testing.assert_allclose(got[2], 2 * np.asarray(by_random), rtol=1e-13)
    failing = numbers[1].copy()
    failing[1] = 800.0
    assert float(function(numbers[0], failing)[0]) < 0.99 * PENALTY
    assert np.all(np.isfinite(function(numbers[0], failing)[1]))


def test_one_evaluation_gives_value_and_gradient():
    likelihood = likelihood_of()
    fixed, random = pt.dvector(), pt.dmatrix()
    op = LogLikelihood(likelihood)
    calls, compiled = [], op.compiled
    op.compiled = lambda *x: calls.append(1) or compiled(*x)
    total = op(fixed, random)[0]
    function = pytensor.function([fixed, random], [total, *pytensor.grad(total, [fixed, random])])
    function(*inputs_of(likelihood))
    assert len(calls) == 1


@pytest.mark.parametrize("mode", SOME)
def test_measurements_may_be_inputs(mode):
    likelihood = likelihood_of()
    numbers = inputs_of(likelihood)
    fixed, random, value, censored = pt.dvector(), pt.dmatrix(), pt.dvector(), pt.lvector()
    total = LogLikelihood(likelihood)(fixed, random, value, censored)[0]
    slope = pytensor.grad(total, fixed)
    function = pytensor.function([fixed, random, value, censored], [total, slope], mode=mode)
    rows = [(b, t, None, 0.5 + b * t, 0, int(b == 1)) for b in range(3) for t in (0.5, 2.0)]
    other = bind(likelihood.model, dataset_of(rows, lines=("height",)))
    seen = other.dataset.observations
    got = function(*numbers, seen.value, seen.censored)
    want = other.value_and_gradient(*numbers)
    assert float(got[0]) == pytest.approx(float(want[0]), rel=1e-13)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_predictions_and_their_pullback_are_the_same_in_every_mode(mode):
    data = likelihood_of().dataset
    level, slope = pt.dvector(), pt.dscalar()
    predicted = predictions(Straight(), data)({"level": level, "slope": slope})
    weights = np.arange(1.0, 7.0)
    slopes = pytensor.grad(pt.sum(predicted**2 * weights), [level, slope])
    function = pytensor.function([level, slope], [predicted, *slopes], mode=mode)
    a, b = np.array([1.0, 2.0, 3.0]), 0.5
    seen = data.observations
    f = a[seen.subject] + b * seen.time
    got = function(a, b)
    np.testing.assert_allclose(got[0], f, rtol=1e-14)
    bar = 2 * weights * f
    np.testing.assert_allclose(got[1], np.bincount(seen.subject, bar), rtol=1e-13)
    assert float(got[2]) == pytest.approx(np.sum(bar * seen.time), rel=1e-13)


def test_two_data_sets_stay_two_operations():
    one, other = LogLikelihood(likelihood_of()), LogLikelihood(likelihood_of())
    assert one != other
    assert one == one
    assert hash(one) != hash(other)
