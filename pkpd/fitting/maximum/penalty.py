"""Log prior density of population parameters, as a penalty of maximum likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pkpd.arrays import FloatArray
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.default_priors import all_priors


@dataclass(frozen=True, eq=False)
class PriorPenalty:
    """``-2 log`` prior density on the natural scale, as a function of ``x``.

    A minimum of the objective plus this is the mode of the marginal posterior on the natural scale
    of every parameter; nothing is added for the change of scale to ``x``. A joint prior is in the
    objective already.

    Attributes
    ----------
    free
        The estimated parameters.
    """

    free: FreeParameters

    @cached_property
    def _compiled(self) -> tuple[tuple[str, ...], Callable[..., tuple]]:
        import pymc as pm
        import pytensor
        import pytensor.tensor as pt

        model = self.free.likelihood.model
        priors = {n: p for n, p in all_priors(model).items() if n in self.free.names}
        names = list(priors)
        joint = () if model.joint is None else model.joint.names
        # a scalar each, and no sum in the graph: one addition of all could have more operands than
        # NumPy takes (32)
        values: list[Any] = [pt.dscalar(name) for name in names]
        terms: list[Any] = []
        with pm.Model():
            for name, value in zip(names, values, strict=True):
                terms.append(pm.logp(priors[name].variable(name), value))
        for block in model.correlated:
            for i in range(1, len(block)):
                for j in range(i):
                    name = f"partial_{block[j]}_{block[i]}"
                    if name not in self.free.names or name in joint:
                        continue
                    names.append(name)
                    # Lewandowski 2009: partial correlations of the LKJ distribution are beta
                    shape = model.lkj + 0.5 * (len(block) - 2 - j)
                    values.append(pt.dscalar(names[-1]))
                    unit = 0.5 * (values[-1] + 1.0)
                    terms.append(pm.logp(pm.Beta.dist(shape, shape), unit))
        if not terms:  # all in a joint prior
            return (), lambda: ((), ())
        slopes: list[Any] = [
            pytensor.grad(term, value) for term, value in zip(terms, values, strict=True)
        ]
        outputs: list[Any] = [pt.stack(terms), pt.stack(slopes)]
        both: Any = pytensor.function(values, outputs, mode="FAST_COMPILE")
        return tuple(names), both

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Penalty and its gradient ``[P]``; infinite outside the support of a prior."""
        names, both = self._compiled
        values, slopes = self.free.values(x), self.free.slopes(x)
        each, by_value = both(*(float(values[name]) for name in names))
        out = np.zeros(len(x))
        for name, slope in zip(names, by_value, strict=True):
            out[self.free.names.index(name)] = -2.0 * float(slope)
        value = -2.0 * float(np.sum(each))
        return (value if np.isfinite(value) else np.inf), out * slopes
