"""Priors of the parameters to learn, as maps from standard normal scores.

A prior is independent standard normal scores z and a map from them to parameters, so that the
sampler works on a space where all directions are alike before the data. The map of one parameter
is that of its card (median at the value, limits at the central 95 %, on the scale of the logarithm,
the number or the log odds). A spread that may be 0 is half normal. Values that belong together (one
for each disease) are pooled: ``member = factor centre exp(spread z)`` with centre and spread among
the parameters themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.model.parameters import quantile_at_score
from pkpd.units import Parameter


@dataclass(frozen=True)
class HalfNormal:
    """A parameter of 0 or more: the absolute value of a normal one.

    Attributes
    ----------
    name
        Name.
    upper
        Its 95 % quantile.
    source
        Why.
    """

    name: str
    upper: float
    source: str = ""


@dataclass(frozen=True)
class Pooled:
    """A parameter that is drawn from a family with a common centre.

    Attributes
    ----------
    name
        Name.
    centre
        Name of the parameter it is multiplied on; empty: `value`.
    spread
        Name of the parameter that is the SD of the log within the family.
    value
        Centre if it is no parameter.
    source
        Why.
    factor
        Its median relative to the centre.
    """

    name: str
    centre: str
    spread: str
    value: float = 1.0
    source: str = ""
    factor: float = 1.0


Entry = Parameter | HalfNormal | Pooled


class Prior:
    """Prior of d parameters.

    Parameters
    ----------
    entries
        Parameters to learn. The centre and spread of a pooled one come before it.
    fixed
        Values of parameters that are not learned, passed on to the simulator.
    """

    def __init__(self, entries: Iterable[Entry], fixed: Mapping[str, float] | None = None) -> None:
        self.entries = tuple(entries)
        self.fixed = dict(fixed or {})
        self.names = tuple(entry.name for entry in self.entries)
        seen: set[str] = set()
        for entry in self.entries:
            where = f"prior of {entry.name}"
            if entry.name in seen:
                raise PkpdError(where=where, what="it is given twice")
            if isinstance(entry, Parameter) and entry.interval is None:
                raise PkpdError(where=where, what="it has no interval")
            if isinstance(entry, Pooled):
                for name in filter(None, (entry.centre, entry.spread)):
                    if name not in seen:
                        raise PkpdError(where=where, what=f"{name} does not come before it")
            seen.add(entry.name)

    @property
    def size(self) -> int:
        """Number of parameters d."""
        return len(self.entries)

    def values(self, z: Floats) -> Floats:
        """Parameters ``[..., d]`` at standard normal scores ``[..., d]``."""
        z = np.asarray(z, dtype=np.float64)
        out = np.empty_like(z)
        place = {name: index for index, name in enumerate(self.names)}
        for index, entry in enumerate(self.entries):
            score = z[..., index]
            if isinstance(entry, Parameter):
                out[..., index] = quantile_at_score(entry, score)
            elif isinstance(entry, HalfNormal):
                sd = entry.upper / 1.959963984540054
                # symmetric form keeps precision for large scores
                out[..., index] = -sd * ndtri(0.5 * ndtr(-score))
            else:
                centre = out[..., place[entry.centre]] if entry.centre else entry.value
                spread = out[..., place[entry.spread]]
                out[..., index] = entry.factor * centre * np.exp(spread * score)
        return out

    def theta(self, z: Floats) -> dict[str, float]:
        """Parameters by name, the fixed ones too, at scores ``[d]``."""
        learned = dict(zip(self.names, map(float, self.values(z)), strict=True))
        return {**self.fixed, **learned}

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw scores ``[n, d]``."""
        return rng.standard_normal((n, self.size))
