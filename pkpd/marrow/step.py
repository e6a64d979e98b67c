"""One cell of a marrow line: classical Runge-Kutta with the drug effect given by its moments.

A drug effect sampled at the stage times would force small steps: an oral peak lasts an hour, a
step should last six. The effect therefore enters as its exact mean ``m0`` and first Legendre
moment ``b`` over the cell (`pkpd.kinetics.linear`), and the stages see the straight line with these
two moments: ``m0 - b h/2`` at the start, ``m0`` in the middle, ``m0 + b h/2`` at the end. Mass of
effect and its timing are then right, however short the peak.

The kill rate is constant over the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

import pkpd.float64  # noqa: F401  (before anything is traced)

Parameters = Mapping[str, Any]
Derivative = Callable[[Any, Any, Any, Parameters], Any]


def rk4_cell(
    derivative: Derivative, y: Any, effect: tuple[Any, Any], kill: Any, h: Any, p: Parameters
) -> Any:
    """State of a marrow line at the end of a cell.

    Parameters
    ----------
    derivative
        ``derivative(y, effect, kill, p)`` per hour, as of `pkpd.marrow.friberg.MarrowLine`, or
        ``rates`` of the same.
    y
        State at the start: ``[states, L]``, or a list of states.
    effect
        Mean and first Legendre moment (per hour) of the effect over the cell, ``[L]`` each.
    kill
        Rate of direct loss of proliferating cells, 1/h, constant over the cell.
    h
        Length of the cell in hours, a number or ``[L]``.
    p
        Parameters of the line.

    Returns
    -------
    Array or list
        As ``y``. Fourth order for a smooth effect.
    """
    mean, slope = effect
    half = 0.5 * h
    effects = mean - slope * half, mean, mean + slope * half
    return rk4_stages(derivative, y, effects, kill, h, p)


def rk4_stages(
    derivative: Derivative, y: Any, effects: tuple[Any, Any, Any], kill: Any, h: Any, p: Parameters
) -> Any:
    """As `rk4_cell`, with the effect at the start, in the middle and at the end of its line."""
    first, mean, last = effects
    half = 0.5 * h

    def after(time: Any, rate: Any) -> Any:
        return jax.tree.map(lambda x, k: x + time * k, y, rate)

    k1 = derivative(y, first, kill, p)
    k2 = derivative(after(half, k1), mean, kill, p)
    k3 = derivative(after(half, k2), mean, kill, p)
    k4 = derivative(after(h, k3), last, kill, p)
    sums = jax.tree.map(lambda a, b, c, d: a + 2.0 * b + 2.0 * c + d, k1, k2, k3, k4)
    return after(h / 6.0, sums)
