"""The search of a minimum: where it ends, and what it costs to see that."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from pkpd.fitting.maximum.search import minimise


def test_a_floor_of_the_objective_costs_few_evaluations():
    # promised a fall of 0.0004, but whatever the step the value is a thousandth higher
    tried = []

    def evaluate(x, before):
        tried.append(x.copy())
        return SimpleNamespace(x=x, value=1e-3)

    begin = SimpleNamespace(x=np.zeros(1), value=0.0)
    far = np.array([[-np.inf, np.inf]])
    end = minimise(
        evaluate,
        lambda point: np.array([0.02]),
        begin,
        np.eye(1),
        bounds=far,
        longest=np.ones(1),
        tolerance=1e-5,
    )
    assert not end.converged
    assert end.point is begin
    assert 1 < len(tried) < 12  # 25 halvings before
