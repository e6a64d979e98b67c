"""The posterior density of a ``pm.Model`` as a compiled program that nutpie samples.

JAX compiles it: the likelihood is a JAX function already, so that prior, likelihood and their
derivatives become one program, in a third of the time that Numba needs for the same graph and with
the same speed afterwards (``docs/fitting.md``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pymc as pm
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
    return nutpie.compile_pymc_model(
        frozen, backend="jax", gradient_backend="pytensor", freeze_model=False, var_names=names
    )


def starting_at(compiled: Any, first_point: Callable[[Any], np.ndarray]) -> Any:
    """Let chains start where a function of their seed says, ``[n]`` unconstrained."""
    return dataclasses.replace(compiled, _make_initial_points=first_point)


def density_at(compiled: Any, flat: np.ndarray) -> float:
    """Log density at an unconstrained point ``[n]``."""
    value, _ = compiled._make_logp_func()(flat, **compiled._shared_data)
    return float(value)
