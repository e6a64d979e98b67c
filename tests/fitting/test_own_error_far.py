"""Second differences of a density that the structure knows, near and far from a mode."""

import warnings

import numpy as np

from pkpd.fitting.maximum.own_error import OwnErrorDensity


class Known(OwnErrorDensity):
    """A density in closed form: a bowl times a factor."""

    def __init__(self, factor):
        object.__setattr__(self, "factor", factor)

    @property
    def shape(self):
        return 1, 2

    def value(self, x, u, central):
        a, b = u[:, 0], u[:, 1]
        return self.factor * (1.0 + 0.5 * a**2 + b**2 + 0.3 * a * b)

    def value_at(self, x, points, central):
        return np.stack([self.value(x, u, central) for u in points])


def test_second_differences_are_those_of_the_density():
    u = np.array([[0.2, -0.1]])
    value, gradient, hessian = Known(2.0).exact(np.zeros(1), u, np.zeros(1))
    assert np.allclose(value, 2.0 * (1.0 + 0.02 + 0.01 - 0.006))
    assert np.allclose(gradient, [[2.0 * 0.17, 2.0 * -0.14]], atol=1e-8)
    assert np.allclose(hessian, [[[2.0, 0.6], [0.6, 4.0]]], atol=1e-6)


def test_differences_that_overflow_are_not_finite_and_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, _, hessian = Known(1e305).exact(np.zeros(1), np.full((1, 2), 30.0), np.zeros(1))
    assert np.isfinite(value).all()
    assert not np.isfinite(hessian).all()
