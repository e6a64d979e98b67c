"""Priors: the name of a PyMC distribution with its arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pkpd.arguments import NUMBER, a, check_arguments
from pkpd.errors import PkpdError


@dataclass(frozen=True, init=False)
class Prior:
    """A prior on the natural scale of the quantity it is given for.

    Parameters
    ----------
    distribution
        Name of a univariate PyMC distribution: ``"LogNormal"``, ``"HalfNormal"``,
        ``"HalfCauchy"``, ``"Normal"``, ``"Uniform"``, ``"Gamma"``, ...
    **arguments
        Its arguments, as PyMC names them.

    Examples
    --------
    >>> Prior("LogNormal", mu=2.3, sigma=0.25)
    Prior(LogNormal, mu=2.3, sigma=0.25)
    """

    distribution: str
    arguments: tuple[tuple[str, float], ...]

    def __init__(self, distribution: str, **arguments: float) -> None:
        if not (isinstance(distribution, str) and distribution.isidentifier()):
            raise PkpdError(
                where="prior",
                what=f"{distribution!r} is not the name of a distribution",
                allowed="the name of a PyMC distribution such as LogNormal",
            )
        numbers = {name: (value, NUMBER) for name, value in arguments.items()}
        check_arguments(f"prior {distribution}", **numbers)
        object.__setattr__(self, "distribution", distribution)
        object.__setattr__(self, "arguments", tuple(arguments.items()))

    def __repr__(self) -> str:
        """Write it as it is made."""
        given = "".join(f", {name}={value:g}" for name, value in self.arguments)
        return f"Prior({self.distribution}{given})"

    def variable(self, name: str, **options: Any) -> Any:
        """Add the variable to the ``pm.Model`` in context.

        Raises
        ------
        PkpdError
            If PyMC has no such distribution or it does not take the arguments.
        """
        import pymc as pm

        kind = getattr(pm, self.distribution, None)
        if not (isinstance(kind, type) and issubclass(kind, pm.Distribution)):
            raise PkpdError(
                where=f"prior of {name}",
                what=f"PyMC has no distribution {self.distribution!r}",
                allowed="LogNormal, Normal, HalfNormal, HalfCauchy, Uniform, Gamma, ...",
            )
        try:
            # a bare 2.0 would become a float32 constant in PyTensor
            given = {key: np.float64(value) for key, value in self.arguments}
            return kind(name, **given, **options)
        except (TypeError, ValueError) as error:
            raise PkpdError(
                where=f"prior of {name}",
                what=f"{self!r} is not accepted by PyMC ({error})",
                remedy="give the arguments of that distribution",
            ) from error


@dataclass(frozen=True)
class Estimate:
    """A number that is estimated, or held fixed.

    Attributes
    ----------
    value
        Where the estimate starts, or the fixed value.
    prior
        Prior on the same scale; ``None`` for the default of the place it stands in.
    fixed
        Whether it is held at ``value``.
    """

    value: float
    prior: Prior | None = None
    fixed: bool = False

    def starting_at(
        self, name: str, value: Any, ends: tuple[float, float], lowest: bool = False
    ) -> Estimate:
        """Return it with another value, which lies between its ends, or is the lowest of them."""
        low, high = ends
        if not (NUMBER.holds(value) and (low < value < high or (lowest and value == low))):
            allowed = f"a number from {low:g} to {high:g}{'' if lowest else ', neither of them'}"
            where = f"population parameter {name!r}"
            raise PkpdError(where=where, what=f"{value!r} is given", allowed=allowed)
        return replace(self, value=float(value))


def estimate(value: float | Estimate) -> Estimate:
    """Return an `Estimate` as it is, and a bare number as one that is estimated from there."""
    if isinstance(value, Estimate):
        return value
    check_arguments("estimate", value=(value, NUMBER | a(Estimate)))
    return Estimate(float(value))


def fixed(value: float) -> Estimate:
    """Hold a number at its value.

    Examples
    --------
    >>> fixed(0.75).fixed
    True
    """
    check_arguments("fixed()", value=(value, NUMBER))
    return Estimate(float(value), fixed=True)
