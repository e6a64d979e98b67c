"""Curvature at a minimum, and what is said where the objective is no parabola."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pkpd.fitting.judge.standard_errors import uncertainty


@dataclass(frozen=True)
class Point:
    """Twenty subjects with the same parabola, and for one a second branch far from its minimum."""

    x: np.ndarray
    jump: float
    curvature: np.ndarray

    @property
    def value(self):
        far = abs(self.x[0]) > self.jump
        return float(0.5 * self.curvature @ self.x**2 + 4.0 * far)

    @property
    def gradient(self):
        far = np.array([1.0, 0.0]) * np.sign(self.x[0]) * (abs(self.x[0]) > self.jump)
        return self.curvature * self.x - 300.0 * far


def found(jump, curvature=(80.0, 20.0)):
    curvature = np.array(curvature)
    return uncertainty(
        lambda x, near: Point(x, jump, curvature),
        lambda point: point.gradient,
        lambda point: np.full(20, point.value / 20),
        Point(np.zeros(2), jump, curvature),
        np.diag(curvature),
        np.ones(2, dtype=bool),
        np.full(2, 1.0),
    )


STEP = 0.1 * np.sqrt(2.0 / 80.0)
"""Of the difference by the first parameter."""


@pytest.mark.parametrize("jump", [np.inf, 1.5 * STEP, 0.75 * STEP, 0.375 * STEP])
def test_a_jump_of_the_objective_does_not_take_the_curvature_away(jump):
    """The difference is taken shorter until it lies on this side of the jump."""
    told = found(jump)
    assert told.used.all()
    np.testing.assert_allclose(np.diag(told.hessian), [80.0, 20.0], rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(told.covariance)), [0.1581, 0.3162], rtol=1e-3)


def test_a_parameter_without_a_minimum_is_told_from_one_that_nothing_informs():
    assert found(np.inf, (-5.0, 20.0)).bent.tolist() == [True, False]
    assert found(np.inf, (1e-4, 20.0)).bent.tolist() == [False, False]
    assert found(np.inf, (1e-4, 20.0)).used.tolist() == [False, True]
