"""The posterior density of a ``pm.Model`` as a compiled program that nutpie samples.

JAX compiles it: the likelihood is a JAX function already, so that prior, likelihood and their
derivatives become one program, in a third of the time that Numba needs for the same graph and with
the same speed afterwards (``docs/fitting.md``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from pymc.model.transform.optimization import freeze_dims_and_data


def compile_density(
    made: pm.Model, names: Sequence[str] | None = None, *, other_data: bool = False
) -> Any:
    """Compile the density and its gradient, and what turns unconstrained draws into variables.

    Parameters
    ----------
    made
        Model.
    names
        Variables to keep draws of; all if ``None``.
    other_data
        Whether mutable data of the model may be replaced in the program (``with_data``).

    Returns
    -------
    nutpie.compiled_pyfunc.PyFuncModel
        For `nutpie.sample`.
    """
    import nutpie

    # JAX wants every size to be known; data that are to change stay arguments of the program
    frozen = freeze_dims_and_data(made, data=[] if other_data else None)
    # freezing sorts the variables anew; points are laid out in the order of the model
    order = {variable.name: i for i, variable in enumerate(made.free_RVs)}
    frozen.free_RVs.sort(key=lambda variable: order[variable.name])
    return nutpie.compile_pymc_model(
        frozen, backend="jax", gradient_backend="pytensor", freeze_model=False, var_names=names
    )


@dataclass(frozen=True, eq=False)
class PatientScale:
    """Linear change of variables, after which they are nearly independent.

    A sampler whose mass matrix is diagonal sees ``y`` in the place of ``q``. For the population's
    variables ``q0 = c + F y0``, for those of a patient ``q = A y + J F y0``: what moves with the
    population is taken out, and what is left is scaled by its covariance. All factors are
    constant: densities differ by a constant, and draws of ``q`` are draws of the same posterior.

    Attributes
    ----------
    places : int[B, R]
        Places of each patient's variables in the unconstrained point.
    factor : float[B, R, R]
        ``A`` of each patient.
    population : int[P]
        Places of the population's variables.
    shift : float[B, R, P]
        ``J`` of each patient.
    centre : float[P]
        ``c``.
    population_factor : float[P, P]
        ``F``.
    """

    places: NDArray[np.intp]
    factor: NDArray[np.float64]
    population: NDArray[np.intp]
    shift: NDArray[np.float64]
    centre: NDArray[np.float64]
    population_factor: NDArray[np.float64]

    def unscaled(self, y: np.ndarray) -> np.ndarray:
        """Return ``q`` from ``y``."""
        out = np.array(y)
        change = self.population_factor @ out[self.population]
        out[self.population] = self.centre + change
        own = np.einsum("brs,bs->br", self.factor, out[self.places])
        out[self.places] = own + self.shift @ change
        return out

    def scaled(self, q: np.ndarray) -> np.ndarray:
        """Return ``y`` from ``q``."""
        out = np.array(q)
        change = out[self.population] - self.centre
        out[self.population] = np.linalg.solve(self.population_factor, change)
        own = out[self.places] - self.shift @ change
        out[self.places] = np.linalg.solve(self.factor, own[..., None])[..., 0]
        return out

    def gradient(self, by_q: np.ndarray) -> np.ndarray:
        """Return the derivative by ``y`` from that by ``q``."""
        out = np.array(by_q)
        own = out[self.places]
        by_change = out[self.population] + np.einsum("brp,br->p", self.shift, own)
        out[self.population] = self.population_factor.T @ by_change
        out[self.places] = np.einsum("bsr,bs->br", self.factor, own)
        return out


def rescaled(compiled: Any, scale: PatientScale) -> Any:
    """Let a program take ``y`` of a `PatientScale`; its variables come out as before."""

    def make_logp() -> Any:
        inner = compiled._make_logp_func()

        def logp(y: np.ndarray, **shared: Any) -> tuple[float, np.ndarray]:
            value, by_q = inner(scale.unscaled(y), **shared)
            return value, scale.gradient(by_q)

        return logp

    def make_expand(*seeds: Any) -> Any:
        inner = compiled._make_expand_func(*seeds)

        def expand(y: np.ndarray, **shared: Any) -> Any:
            return inner(scale.unscaled(y), **shared)

        return expand

    return dataclasses.replace(
        compiled, _make_logp_func=make_logp, _make_expand_func=make_expand, _raw_logp_fn=None
    )


def starting_at(compiled: Any, first_point: Callable[[Any], np.ndarray]) -> Any:
    """Let chains start where a function of their seed says, ``[n]`` unconstrained."""
    return dataclasses.replace(compiled, _make_initial_points=first_point)


def density_at(compiled: Any, flat: np.ndarray) -> float:
    """Log density at an unconstrained point ``[n]``."""
    value, _ = compiled._make_logp_func()(flat, **compiled._shared_data)
    return float(value)
