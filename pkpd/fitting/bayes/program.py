"""The posterior density of a ``pm.Model`` as a compiled program that nutpie samples.

JAX compiles it: the likelihood is a JAX function already, so that prior, likelihood and their
derivatives become one program, in a third of the time that Numba needs for the same graph and with
the same speed afterwards (``docs/fitting.md``).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor
from numpy.typing import NDArray
from pymc.model.transform.optimization import freeze_dims_and_data

pt: Any = pytensor.tensor
_FLAT = "unconstrained_parameter"  # what nutpie calls the dimension of stored points


@dataclass(frozen=True, eq=False)
class Program:
    """Density of a model, its gradient, and its variables, as functions of a flat point.

    Attributes
    ----------
    size
        Number ``n`` of unconstrained values.
    density
        From a point ``[n]`` and the data, in the order of ``data``, to log density and gradient.
    expand
        From the same to the variables.
    variables
        Shape of each variable by name, in the order of ``expand``.
    labels
        Names of the unconstrained values.
    coords, dims
        Coordinates of the model, and dimensions of its variables.
    data
        Values of the mutable data.
    """

    size: int
    density: Callable[..., Any]
    expand: Callable[..., Any]
    variables: Mapping[str, tuple[int, ...]]
    labels: tuple[str, ...]
    coords: Mapping[str, Any]
    dims: Mapping[str, tuple[str, ...]]
    data: Mapping[str, np.ndarray]

    def with_data(self, data: Mapping[str, np.ndarray]) -> Program:
        """Return the program with other data; nothing is compiled again.

        Raises
        ------
        ValueError
            If the program has no data of a name.
        """
        unknown = set(data) - set(self.data)
        if unknown:
            message = f"the program has no data {sorted(unknown)}"
            raise ValueError(message)
        return dataclasses.replace(self, data={**self.data, **data})

    def at(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density and its gradient ``[n]`` at an unconstrained point ``[n]``."""
        value, gradient = self.density(point, *self.data.values())
        return float(value), np.asarray(gradient, dtype=np.float64, order="C")

    def variables_at(self, point: np.ndarray) -> dict[str, np.ndarray]:
        """Variables at an unconstrained point, natural scale, by name."""
        values = self.expand(point, *self.data.values())
        return {
            name: np.asarray(value, dtype=np.float64, order="C").reshape(shape)
            for (name, shape), value in zip(self.variables.items(), values, strict=True)
        }

    def for_nutpie(
        self, first_point: Callable[[int], np.ndarray], scale: PatientScale | None = None
    ) -> Any:
        """Return the program as nutpie samples it.

        Parameters
        ----------
        first_point
            Where a chain starts, from its seed: an unconstrained point, of ``y`` if there is a
            scale.
        scale
            The sampler moves ``y`` of this scale; variables come out as before.
        """
        from nutpie.compiled_pyfunc import from_pyfunc

        def density(y: np.ndarray) -> tuple[float, np.ndarray]:
            if scale is None:
                return self.at(y)
            value, gradient = self.at(scale.unscaled(y))
            return value, scale.gradient(gradient)

        def expand(y: np.ndarray) -> dict[str, np.ndarray]:
            return self.variables_at(y if scale is None else scale.unscaled(y))

        return from_pyfunc(
            self.size,
            lambda: density,
            lambda *_: expand,
            [np.dtype(np.float64)] * len(self.variables),
            list(self.variables.values()),
            list(self.variables),
            coords={
                name: pd.Index(values)
                for name, values in (*self.coords.items(), (_FLAT, self.labels))
            },
            dims=dict(self.dims),
            make_initial_point_fn=first_point,
        )


def pymc_jax() -> Any:
    """Import what PyMC does with JAX, and leave the flags of XLA as they were.

    That import asks XLA for a hundred devices, and may drop flags of the user; where JAX has not
    begun, this process and its children would have as many threads, whatever their cores.
    """
    flags = os.environ.get("XLA_FLAGS")
    import pymc.sampling.jax as found

    os.environ.pop("XLA_FLAGS", None)
    if flags is not None:
        os.environ["XLA_FLAGS"] = flags
    return found


def compile_density(
    made: pm.Model, names: Sequence[str] | None = None, *, other_data: bool = False
) -> Program:
    """Compile the density and its gradient, and what turns unconstrained draws into variables.

    Parameters
    ----------
    made
        Model.
    names
        Variables to keep draws of; all if ``None``.
    other_data
        Whether mutable data of the model may be replaced in the program (`Program.with_data`).
    """
    # JAX wants every size to be known; data that are to change become arguments of the program
    frozen = freeze_dims_and_data(made, data=[] if other_data else None)
    # freezing sorts the variables anew; points are laid out in the order of the model
    order = {variable.name: i for i, variable in enumerate(made.free_RVs)}
    frozen.free_RVs.sort(key=lambda variable: order[variable.name])
    free = [frozen.rvs_to_values[variable] for variable in frozen.free_RVs]
    start = frozen.initial_point()
    shapes = [np.shape(start[value.name]) for value in free]
    sizes = [int(np.prod(shape)) for shape in shapes]
    kept = [
        variable
        for variable in (*frozen.free_RVs, *frozen.deterministics)
        if names is None or variable.name in names
    ]
    expanded = frozen.replace_rvs_by_values(kept)

    point = pt.tensor("point", shape=(sum(sizes),), dtype="float64")
    ends = np.cumsum(sizes)
    replaced: dict[Any, Any] = {
        value: point[end - size : end].reshape(shape)
        for value, end, size, shape in zip(free, ends, sizes, shapes, strict=True)
    }
    data: dict[str, np.ndarray] = {}
    inputs = [point]
    for variable in frozen.data_vars if other_data else ():
        data[variable.name] = np.asarray(variable.get_value())
        given = pt.tensor(variable.name, shape=data[variable.name].shape, dtype=variable.type.dtype)
        replaced[variable] = given
        inputs.append(given)
    outputs: Any = pytensor.clone_replace(cast("Any", [frozen.logp(), *expanded]), replaced)
    function: Any = pymc_jax().get_jaxified_graph(inputs, outputs)
    labels = [
        ".".join((value.name, *map(str, index)))
        for value, shape in zip(free, shapes, strict=True)
        for index in np.ndindex(*shape)
    ]
    made_of = jax.eval_shape(function, np.zeros(sum(sizes)), *data.values())[1:]
    return Program(
        sum(sizes),
        jax.jit(jax.value_and_grad(lambda *given: function(*given)[0])),
        jax.jit(lambda *given: function(*given)[1:]),
        {v.name: tuple(of.shape) for v, of in zip(kept, made_of, strict=True)},
        tuple(labels),
        {name: list(values) for name, values in frozen.coords.items() if values is not None},
        {k: tuple(map(str, v)) for k, v in frozen.named_vars_to_dims.items()},
        data,
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
