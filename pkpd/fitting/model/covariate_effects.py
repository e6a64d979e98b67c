"""Covariate effects on individual parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pkpd.errors import DataError, PkpdError
from pkpd.fitting.model.priors import Estimate, Prior, estimate, fixed

Kind = Literal["power", "exponential", "linear", "category"]


@dataclass(frozen=True)
class CovariateEffect:
    """What a covariate adds to a parameter on its transformed scale.

    With coefficient ``b`` and a parameter on the log scale, the factor of the parameter is

    ``power``
        ``(x / centre)^b``
    ``exponential``
        ``exp(b (x - centre))``
    ``linear``
        ``1 + b (x - centre)``
    ``category``
        ``exp(b)`` where ``x`` equals ``centre``, 1 elsewhere

    Attributes
    ----------
    covariate
        Name of the covariate.
    kind
        Form.
    centre
        Reference value of the covariate, or the category.
    coefficient
        Start and prior of ``b``, or its fixed value.
    """

    covariate: str
    kind: Kind
    centre: float
    coefficient: Estimate

    def __post_init__(self) -> None:
        """Refuse a centre that no value can be divided by."""
        if self.kind == "power" and not self.centre > 0:
            raise PkpdError(
                where=f"covariate effect of {self.covariate!r}",
                what=f"a power with centre = {self.centre:g}",
                allowed="more than 0",
            )

    def name(self, parameter: str) -> str:
        """Name of the coefficient: ``CL_WT``, ``CL_SEX_1``."""
        ending = f"_{self.centre:g}" if self.kind == "category" else ""
        return f"{parameter}_{self.covariate}{ending}"

    def design(self, values: np.ndarray) -> np.ndarray:
        """Return what the coefficient multiplies (inside ``log1p`` for ``linear``)."""
        if self.kind == "power":
            return np.log(values / self.centre)
        if self.kind == "category":
            return (values == self.centre).astype(float)
        return values - self.centre

    def check(self, values: np.ndarray, source: str) -> None:
        """Refuse covariate values the form has no meaning for.

        Raises
        ------
        DataError
            For a power of a value that is not positive, or a category no subject has.
        """
        if self.kind == "power" and np.any(values <= 0):
            raise DataError(
                where=f"{source}, covariate {self.covariate}",
                what=f"value {values[values <= 0][0]:g} cannot be raised to a power",
                allowed="more than 0",
                remedy="use an exponential or linear effect",
            )
        if self.kind == "category" and not np.any(values == self.centre):
            raise DataError(
                where=f"{source}, covariate {self.covariate}",
                what=f"no record has category {self.centre:g}",
                allowed=", ".join(f"{v:g}" for v in np.unique(values)[:10]),
            )


def power(
    covariate: str, centre: float, exponent: float | Estimate = 0.0, prior: Prior | None = None
) -> CovariateEffect:
    """Power of a covariate, ``(x / centre)^b``.

    Examples
    --------
    >>> power("WT", 70, 0.75).name("CL")
    'CL_WT'
    """
    return CovariateEffect(covariate, "power", float(centre), _coefficient(exponent, prior))


def allometric(
    covariate: str = "WT", centre: float = 70.0, exponent: float = 0.75
) -> CovariateEffect:
    """Power of body size with a fixed exponent: 0.75 for clearances, 1 for volumes.

    Examples
    --------
    >>> allometric().name("CL"), allometric().coefficient.value
    ('CL_WT', 0.75)
    """
    return CovariateEffect(covariate, "power", float(centre), fixed(exponent))


def exponential(
    covariate: str, centre: float, coefficient: float | Estimate = 0.0, prior: Prior | None = None
) -> CovariateEffect:
    """Exponential effect, ``exp(b (x - centre))``.

    Examples
    --------
    >>> exponential("AGE", 60, -0.01).name("CL")
    'CL_AGE'
    """
    return CovariateEffect(
        covariate, "exponential", float(centre), _coefficient(coefficient, prior)
    )


def linear(
    covariate: str, centre: float, coefficient: float | Estimate = 0.0, prior: Prior | None = None
) -> CovariateEffect:
    """Linear effect, ``1 + b (x - centre)``.

    Examples
    --------
    >>> linear("CRCL", 100, 0.005).name("CL")
    'CL_CRCL'
    """
    return CovariateEffect(covariate, "linear", float(centre), _coefficient(coefficient, prior))


def category(
    covariate: str, levels: float | Sequence[float], prior: Prior | None = None
) -> tuple[CovariateEffect, ...]:
    """One factor for each of these categories; those not named are the reference.

    Examples
    --------
    >>> [effect.name("CL") for effect in category("RACE", [1, 2])]
    ['CL_RACE_1', 'CL_RACE_2']
    """
    named: Any = [levels] if np.isscalar(levels) else levels
    return tuple(
        CovariateEffect(covariate, "category", float(level), Estimate(0.0, prior))
        for level in named
    )


def _coefficient(value: float | Estimate, prior: Prior | None) -> Estimate:
    made = estimate(value)
    return made if prior is None else Estimate(made.value, prior, made.fixed)
