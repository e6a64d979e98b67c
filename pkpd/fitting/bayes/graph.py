"""The likelihood and predictions as operations of a PyTensor graph.

`LogLikelihood` gives the value and its derivatives in one call, so that the gradient of a posterior
costs one evaluation. Its derivative in the graph is a multiplication by what the same call already
returned. PyTensor's own compilers and Numba call the compiled JAX function; under JAX (NumPyro, or
nutpie's JAX backend) the function becomes part of the traced program.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

import jax
import jax.numpy as jnp
import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph import Apply, Op
from pytensor.link.jax.dispatch import jax_funcify

from pkpd.errors import SolverWarning
from pkpd.fitting.model.population_likelihood import Observed, PopulationLikelihood
from pkpd.solve.cache import keep_compilations

# our graphs do their linear algebra in Numba and JAX
warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")


class _Called(Op):
    """An operation whose numbers come from a compiled JAX function; equal only to itself."""

    def __init__(self, traced: Callable[..., tuple[Any, ...]]) -> None:
        keep_compilations()
        self.traced = traced
        self.compiled = jax.jit(traced)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def evaluate(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        """Numbers in, numbers out."""
        return tuple(np.asarray(out) for out in self.compiled(*inputs))

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Any) -> None:
        """Write the outputs, as PyTensor asks."""
        for storage, value in zip(output_storage, self.evaluate(*inputs), strict=True):
            storage[0] = np.asarray(value, dtype=np.float64)


@jax_funcify.register(_Called)  # pyright: ignore[reportArgumentType]
def _as_jax(op: _Called, **_: Any) -> Callable[..., Any]:
    def call(*inputs: Any) -> Any:
        out = op.traced(*inputs)
        return out[0] if len(out) == 1 else out

    return call


class LogLikelihood(_Called):
    """Log-likelihood of a data set given fixed effects ``[F]`` and random effects ``[B, R]``.

    Outputs: total, derivative by the fixed effects, derivative by the random effects. Further
    inputs, the values ``[M]`` and censoring codes ``[M]`` of the measurements, replace those of the
    data set, so that one compiled program serves many data sets of one design; values below a
    limit then have no lower bound. Without codes nothing is censored.
    """

    def __init__(self, likelihood: PopulationLikelihood) -> None:
        size = len(likelihood.dataset.observations)
        nothing, unbounded = np.zeros(size, dtype=np.int64), np.full(size, -np.inf)

        def both(fixed: Any, random: Any, *measured: Any) -> tuple[Any, Any, Any]:
            observed = None
            if measured:
                observed = Observed(measured[0], (*measured[1:], nothing)[0], unbounded)
            value, (by_fixed, by_random) = jax.value_and_grad(likelihood.total, argnums=(0, 1))(
                fixed, random, observed
            )
            return value, by_fixed, by_random

        super().__init__(both)

    def make_node(self, fixed: Any, random: Any, *measured: Any) -> Apply:
        """Build the node."""
        inputs = [pt.as_tensor_variable(x) for x in (fixed, random, *measured)]
        return Apply(self, inputs, [pt.dscalar(), *(x.type() for x in inputs[:2])])

    def L_op(self, inputs: Any, outputs: Any, output_grads: Any) -> list[Any]:
        """Give the derivative of the total: what the node already computed."""
        known = [output_grads[0] * outputs[1], output_grads[0] * outputs[2]]
        return known + [DisconnectedType()() for _ in inputs[2:]]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Only the total can be differentiated, and not by measurements."""
        effects = [[True, False, False], [True, False, False]]
        return effects + [[False, False, False] for _ in node.inputs[2:]]


@jax_funcify.register(LogLikelihood)  # pyright: ignore[reportArgumentType]
def _likelihood_as_jax(op: LogLikelihood, **_: Any) -> Callable[..., Any]:
    """Differentiate as in the graph: by what the same call already returned."""

    def forward(*inputs: Any) -> tuple[Any, Any]:
        out = op.traced(*inputs)
        return out, (out[1:], len(inputs))

    def backward(kept: Any, bars: Any) -> tuple[Any, ...]:
        slopes, count = kept
        return (*(bars[0] * slope for slope in slopes), *(None for _ in range(count - 2)))

    call = jax.custom_vjp(lambda *inputs: op.traced(*inputs))
    call.defvjp(forward, backward)
    return call


class Predictions(_Called):
    """Predictions of all observations from individual parameters: ``[]``, ``[B]`` or ``[B, N]``.

    ``problems`` takes numbers and says for each subject that cannot be solved why. It is asked
    once, if the first predictions are not all finite: a sampler that cannot start gives no reason.
    """

    def __init__(
        self,
        predict: Callable[..., Any],
        n_observations: int,
        problems: Callable[..., Mapping[int, str]] | None = None,
    ) -> None:
        self.n_observations = n_observations
        self.problems = problems
        # PyMC asks for the gradient of each variable on its own: with one pullback for all of them
        # PyTensor merges what it is given, and JAX compiles it once
        self.pullback = _Pullback(predict)
        super().__init__(lambda *inputs: (predict(*inputs),))

    def evaluate(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        """Numbers in, numbers out, with a warning if the first ones are not finite."""
        out = super().evaluate(*inputs)
        problems, self.problems = self.problems, None
        if problems is not None and not np.all(np.isfinite(out[0])):
            for words in list(problems(*inputs).values())[:1]:
                warnings.warn(f"predictions are not finite: {words}", SolverWarning, stacklevel=2)
        return out

    def make_node(self, *parameters: Any) -> Apply:
        """Build the node."""
        inputs = [pt.as_tensor_variable(p).astype("float64") for p in parameters]
        return Apply(self, inputs, [pt.TensorType("float64", shape=(self.n_observations,))()])

    def L_op(self, inputs: Any, outputs: Any, output_grads: Any) -> list[Any]:
        """Pull the derivative back through the structural model."""
        (bar,) = output_grads
        if isinstance(bar.type, DisconnectedType):
            return [DisconnectedType()() for _ in inputs]
        pulled = self.pullback(*inputs, bar)
        return list(pulled) if isinstance(pulled, list | tuple) else [pulled]


class _Pullback(_Called):
    """Vector-Jacobian product of `Predictions`: parameters and cotangent in, cotangents out."""

    def __init__(self, predict: Callable[..., Any]) -> None:
        def pull(*inputs: Any) -> tuple[Any, ...]:
            *parameters, bar = inputs
            _, back = jax.vjp(predict, *(jnp.asarray(p) for p in parameters))
            return tuple(jnp.where(jnp.isfinite(x), x, 0.0) for x in back(jnp.asarray(bar)))

        super().__init__(pull)

    def make_node(self, *inputs: Any) -> Apply:
        """Build the node."""
        given = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, given, [x.type() for x in given[:-1]])


_kept: WeakValueDictionary[int, _Called] = WeakValueDictionary()


def _evaluate_kept(key: int, single: bool, inputs: Any) -> Any:
    """Evaluate the operation of this number."""
    # views of what JAX returned: float64 and contiguous already
    out = _kept[key].evaluate(*inputs)
    return out[0] if single else out


def _register_numba() -> None:
    """Let Numba call the compiled function, without the warning of the general fallback."""
    import numba
    from pytensor.link.numba.dispatch.basic import (
        get_numba_type,
        numba_njit,
        register_funcify_and_cache_key,
    )

    @register_funcify_and_cache_key(_Called)
    def _as_numba(op: _Called, node: Apply, **_: Any) -> tuple[Any, None]:
        kinds = [get_numba_type(out.type) for out in node.outputs]
        single = len(kinds) == 1
        returned = kinds[0] if single else numba.types.Tuple(kinds)

        # Numba pickles what its object mode refers to, and JAX's custom derivatives cannot be: it
        # gets a number instead
        key = id(op)
        _kept[key] = op

        @numba_njit
        def call(*inputs):  # type: ignore[no-untyped-def]
            with numba.objmode(out=returned):
                out = _evaluate_kept(key, single, inputs)
            return out  # noqa: RET504  (object mode hands values out by assignment only)

        return call, None


_register_numba()
