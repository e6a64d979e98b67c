"""Pharmacokinetics with saturable elimination, for one patient and in JAX.

There is no closed form, so a cell is solved by steps of an embedded Runge-Kutta pair (Cash and
Karp, orders 5 and 4), each patient at a pace of its own: an attempted step is a function of numbers
(`SaturableIV.attempt`), and whoever has many patients repeats it until all have arrived. What a
patient gets does not depend on the patients beside it.

Beside the amounts the steps carry two integrals, of the level and of that integral, which give the
mean and the first moment of the level over a cell as `pkpd.kinetics.linear` has them.

References
----------
Cash JR, Karp AH, ACM Trans Math Softw 1990;16:201-222, doi:10.1145/79505.79507.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

import pkpd.float64  # noqa: F401  (before anything is traced)

Numbers = Mapping[str, Any]

RELATIVE, ABSOLUTE_MG = 1e-8, 1e-10
"""Tolerated error of the amounts in a step: relative, and in mg."""

_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (3 / 10, -9 / 10, 6 / 5),
    (-11 / 54, 5 / 2, -70 / 27, 35 / 27),
    (1631 / 55296, 175 / 512, 575 / 13824, 44275 / 110592, 253 / 4096),
)
_FIFTH = (37 / 378, 0.0, 250 / 621, 125 / 594, 0.0, 512 / 1771)
_FOURTH = (2825 / 27648, 0.0, 18575 / 48384, 13525 / 55296, 277 / 14336, 1 / 4)
_ERROR = tuple(a - b for a, b in zip(_FIFTH, _FOURTH, strict=True))
_SAFETY, _LEAST, _MOST = 0.9, 0.2, 5.0
_NO_ERROR, _TOO_LARGE = 1e-12, 1e12
_BELOW_ZERO_MG = 10 * ABSOLUTE_MG  # further below than the errors of steps go


@dataclass(frozen=True)
class SaturableIV:
    """Two compartments with Michaelis-Menten elimination; doses enter the central one.

    ::

        dA1/dt = flow - Vmax C / (Km + C) - Q C + Q/V2 A2      C = A1 / V1
        dA2/dt = Q C - Q/V2 A2                                 level = per_umol C

    Parameters of a patient: ``Vmax`` (mg/h), ``Km`` (mg/L), ``V1``, ``V2`` (L), ``Q`` (L/h),
    ``per_umol`` (umol per mg). The level is in umol/L.
    """

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return ("Vmax", "Km", "V1", "Q", "V2", "per_umol")

    @property
    def n_states(self) -> int:
        """Number of amounts."""
        return 2

    def level(self, amounts: list[Any], p: Numbers) -> Any:
        """Plasma concentration in umol/L."""
        return amounts[0] / p["V1"] * p["per_umol"]

    def rates(self, amounts: list[Any], p: Numbers, flow: Any) -> list[Any]:
        """Time derivatives of the amounts, mg/h, under an infusion of ``flow`` mg/h."""
        c = amounts[0] / p["V1"]
        exchange = p["Q"] * (c - amounts[1] / p["V2"])
        # a trial step beyond nothing eliminates nothing: below -Km the quotient is positive again
        there = jnp.maximum(c, 0.0)
        return [flow - p["Vmax"] * there / (p["Km"] + there) - exchange, exchange]

    def attempt(
        self, y: list[Any], p: Numbers, flow: Any, left: Any, pace: Any
    ) -> tuple[list[Any], Any, Any]:
        """Attempt one step.

        Parameters
        ----------
        y
            Amounts (mg), the integral of the level, and the integral of that.
        p
            Parameters.
        flow
            Infusion, mg/h.
        left, pace
            Hours to the end of the stretch, and the longest step to try.

        Returns
        -------
        y, left, pace
            After the step; ``y`` and ``left`` as they were if the error was too large. With
            nothing left nothing changes.
        """

        def slopes(at: list[Any]) -> list[Any]:
            return [*self.rates(at[:2], p, flow), self.level(at[:2], p), at[2]]

        h = jnp.minimum(pace, left)
        k = [slopes(y)]
        for row in _STAGES:
            k.append(slopes([x + h * _sum(row, [s[i] for s in k]) for i, x in enumerate(y)]))
        new = [x + h * _sum(_FIFTH, [s[i] for s in k]) for i, x in enumerate(y)]
        worst: Any = _NO_ERROR
        for i in range(self.n_states):
            size = jnp.maximum(jnp.abs(y[i]), jnp.abs(new[i]))
            error = jnp.abs(h * _sum(_ERROR, [s[i] for s in k]))
            worst = jnp.maximum(worst, error / (ABSOLUTE_MG + RELATIVE * size))
            # no amount falls below zero: such a step has leapt over the place where Km matters
            worst = jnp.where(new[i] < -_BELOW_ZERO_MG, _TOO_LARGE, worst)
        good = worst <= 1.0
        factor = _SAFETY * jnp.exp(-0.2 * jnp.log(worst))
        next_pace = h * jnp.minimum(jnp.maximum(factor, _LEAST), _MOST)
        # a step that the end cut short says nothing against a longer one
        next_pace = jnp.where(good & (left <= pace), jnp.maximum(next_pace, pace), next_pace)
        y = [jnp.where(good, after, before) for after, before in zip(new, y, strict=True)]
        return y, jnp.where(good, left - h, left), next_pace


def moments(integral: Any, twice: Any, h: Any) -> tuple[Any, Any]:
    """Mean and first moment times the length of a cell, from the integrals of `SaturableIV`."""
    mean = integral / h
    return mean, 6.0 * mean - 12.0 * twice / (h * h)


def _sum(weights: tuple[float, ...], values: list[Any]) -> Any:
    terms = [w * v for w, v in zip(weights, values, strict=True) if w != 0.0]
    return sum(terms[1:], terms[0])
