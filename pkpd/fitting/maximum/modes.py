"""Modes of random effects that a search found, and the choice between two searches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray

SAME = 0.1
"""Squared distance in posterior standard deviations below which two places are at one mode."""


@dataclass(frozen=True, eq=False)
class Modes:
    """Modes of all subjects.

    Attributes
    ----------
    u : float[B, R]
        Standardised random effects at the modes.
    value : float[B]
        ``q`` there.
    hessian : float[B, R, R]
        Hessian of ``q`` at the modes, or close to it if not ``fresh``.
    decrement : float[B]
        ``g' H^-1 g`` before the last step: squared distance still to go, in posterior standard
        deviations.
    converged : bool[B]
        Whether the decrement fell below the limit and the Hessian is positive definite.
    evaluations
        Calls of the predictor for all subjects.
    fresh
        Whether the Hessian was worked out at these parameters.
    """

    u: FloatArray
    value: FloatArray
    hessian: FloatArray
    decrement: FloatArray
    converged: NDArray[np.bool_]
    evaluations: int
    fresh: bool = True

    def reached(self, u: FloatArray) -> NDArray[np.bool_]:
        """Whether each subject of ``u [B, R]`` is at its mode here, ``[B]``."""
        apart = u - self.u
        return self.converged & (np.einsum("br,brs,bs->b", apart, self.hessian, apart) < SAME)


def better(one: Modes, other: Modes) -> Modes:
    """Take from two searches, subject by subject, what converged, or else the lower value."""
    lower = np.nan_to_num(other.value, nan=np.inf) < np.nan_to_num(one.value, nan=np.inf)
    return chosen(one, other, np.where(one.converged == other.converged, lower, other.converged))


def chosen(one: Modes, other: Modes, take: NDArray[np.bool_]) -> Modes:
    """Modes of ``one``, and of ``other`` for subjects of ``take [B]``."""

    def pick(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(take.reshape(-1, *[1] * (a.ndim - 1)), b, a)

    return Modes(
        pick(one.u, other.u),
        pick(one.value, other.value),
        pick(one.hessian, other.hessian),
        pick(one.decrement, other.decrement),
        pick(one.converged, other.converged),
        one.evaluations + other.evaluations,
        one.fresh and other.fresh,
    )
