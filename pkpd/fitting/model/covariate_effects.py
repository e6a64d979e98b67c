"""Covariate effects on individual parameters."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pkpd.arguments import NONE, a, check_arguments, nearest_of, several
from pkpd.errors import DataError, PkpdError, PkpdWarning
from pkpd.fitting.model.priors import Estimate, Prior, estimate, fixed

Kind = Literal["power", "exponential", "linear", "category"]


@dataclass(frozen=True)
class CovariateEffect:
    """What a covariate adds to a parameter on its transformed scale.

    With coefficient ``b`` the factor of a parameter on the log scale, and what is added to one on
    the identity or logit scale, is

    ``power``
        ``(x / centre)^b``; ``b log(x / centre)``
    ``exponential``
        ``exp(b (x - centre))``; ``b (x - centre)``
    ``linear``
        ``1 + b (x - centre)``; ``b (x - centre)``
    ``category``
        ``exp(b)`` where ``x`` equals ``centre``, 1 elsewhere; ``b``, 0

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
    word
        The category as the data write it (male); `centre` is then its number in the data, NaN
        until the model is bound to some.
    """

    covariate: str
    kind: Kind
    centre: float
    coefficient: Estimate
    word: str | None = None

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
        ending = "_" + re.sub(r"\W+", "_", self.level) if self.word else f"_{self.level}"
        return f"{parameter}_{self.covariate}{ending if self.kind == 'category' else ''}"

    @property
    def level(self) -> str:
        """The category, or the reference value, as text."""
        return f"{self.centre:g}" if self.word is None else self.word

    def numbered(
        self, words: Mapping[str, Sequence[str]], source: str, needed: bool = True
    ) -> CovariateEffect:
        """Give a category that is a word the number that data have for it.

        Parameters
        ----------
        words
            Covariate -> its words, in the order of their numbers (`pkpd.data.dataset.Dataset`).
        source
            Name of the data.
        needed
            Refuse data without the word; else warn of it, and no record has the category.

        Raises
        ------
        DataError
            If the covariate's values are numbers, or the word is needed and not there.
        """
        if self.word is None:
            return self
        known = words.get(self.covariate)
        if known is None:
            raise DataError(
                where=f"{source}, covariate {self.covariate}",
                what=f"category {self.word!r} is a word, and the values are numbers",
                remedy=f'name the number, covariate.category("{self.covariate}", 1)',
            )
        if self.word not in known:
            missing = DataError(
                where=f"{source}, covariate {self.covariate}",
                what=f"no record has category {self.word!r}{nearest_of(self.word, known)}",
                allowed=", ".join(known),
            )
            if needed:
                raise missing
            warnings.warn(str(missing), PkpdWarning, stacklevel=5)
            return replace(self, centre=-1.0)
        return replace(self, centre=float(known.index(self.word)))

    def design(self, values: np.ndarray) -> np.ndarray:
        """Return what the coefficient multiplies."""
        if self.kind == "power":
            return np.log(values / self.centre)
        if self.kind == "category":
            return (values == self.centre).astype(float)
        return values - self.centre

    def term(self, coefficient: Any, design: Any, scale: str, xp: Any = np) -> Any:
        """Return what is added to a parameter on its scale; ``xp`` computes logarithms.

        On the log scale the term of ``linear`` is the logarithm of its factor.
        """
        moved = coefficient * design
        return xp.log1p(moved) if self.kind == "linear" and scale == "log" else moved

    def check(self, values: np.ndarray, source: str) -> None:
        """Refuse covariate values the form has no meaning for.

        Raises
        ------
        DataError
            For a power of a value that is not positive.
        """
        if self.kind == "power" and np.any(values <= 0):
            raise DataError(
                where=f"{source}, covariate {self.covariate}",
                what=f"value {values[values <= 0][0]:g} cannot be raised to a power",
                allowed="more than 0",
                remedy="use an exponential or linear effect",
            )

    def check_factor(
        self, values: np.ndarray, coefficients: np.ndarray, parameter: str, source: str
    ) -> None:
        """Refuse values of which the factor of a linear effect is not more than 0.

        Raises
        ------
        DataError
            If there is one under one of the coefficients.
        """
        factor = 1.0 + coefficients[:, None] * self.design(values)
        draw, place = np.unravel_index(np.argmin(factor), factor.shape)
        if factor[draw, place] > 0.0:
            return
        raise DataError(
            where=f"{source}, covariate {self.covariate}",
            what=f"at {values[place]:g} the factor 1 + b (x - {self.centre:g}) of {parameter} is "
            f"{factor[draw, place]:.3g}, with b = {coefficients[draw]:.3g}",
            allowed="more than 0",
            remedy="leave such patients out, or use an exponential or power effect",
        )

    def check_estimated(self, values: np.ndarray, source: str) -> None:
        """Refuse values from which the coefficient cannot be estimated, where it is to be.

        Raises
        ------
        DataError
            For a category that no record has.
        """
        if self.coefficient.fixed or self.kind != "category":
            return
        if not np.any(values == self.centre):
            raise DataError(
                where=f"{source}, covariate {self.covariate}",
                what=f"no record has category {self.level}",
                allowed=", ".join(f"{v:g}" for v in np.unique(values)[:10]),
                remedy="leave the effect out, or hold its coefficient with fixed()",
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
    """Linear effect: the factor ``1 + b (x - centre)``.

    To a parameter on the identity or logit scale ``b (x - centre)`` is added.

    Examples
    --------
    >>> linear("CRCL", 100, 0.005).name("CL")
    'CL_CRCL'
    """
    return CovariateEffect(covariate, "linear", float(centre), _coefficient(coefficient, prior))


def category(
    covariate: str,
    levels: float | str | Sequence[float | str],
    coefficient: float | Estimate | Sequence[float | Estimate] = 0.0,
    prior: Prior | None = None,
) -> tuple[CovariateEffect, ...]:
    """One factor ``exp(b)`` for each of these categories; those not named are the reference.

    Parameters
    ----------
    covariate
        Its name.
    levels
        Category, or categories: numbers, or words where the data have words.
    coefficient
        ``b``: of all of them, or one for each.
    prior
        Of each.

    Examples
    --------
    >>> [effect.name("CL") for effect in category("RACE", [1, 2])]
    ['CL_RACE_1', 'CL_RACE_2']
    >>> category("SEX", "male")[0].name("CL")
    'CL_SEX_male'
    >>> category("MALE", 1, -0.2)[0].coefficient.value
    -0.2
    """
    if isinstance(levels, Mapping):  # its values would go lost
        raise PkpdError(
            where=f"covariate effect of {covariate!r}",
            what="the levels are a mapping",
            remedy=f"give levels and coefficients apart: {list(levels)}, {list(levels.values())}",
        )
    named: Any = [levels] if isinstance(levels, str) or np.isscalar(levels) else levels
    each: Any = coefficient
    if isinstance(coefficient, Estimate) or np.isscalar(coefficient):
        each = [coefficient] * len(named)
    if len(each) != len(named):
        raise PkpdError(
            where=f"covariate effect of {covariate!r}",
            what=f"{len(each)} coefficients for {len(named)} categories",
            allowed="one for all of them, or one for each",
        )
    return tuple(
        CovariateEffect(
            covariate,
            "category",
            math.nan if isinstance(level, str) else float(level),
            _coefficient(value, prior),
            level if isinstance(level, str) else None,
        )
        for level, value in zip(named, each, strict=True)
    )


def flattened(effects: Any, where: str) -> tuple[CovariateEffect, ...]:
    """Write one effect, or a list of effects and of what `category` gives, as a tuple."""
    given = effects if isinstance(effects, Iterable) and not isinstance(effects, str) else [effects]
    flat: list[Any] = [e for item in given for e in (item if isinstance(item, tuple) else (item,))]
    words = "what power(...), category(...) and the like give, one or a list"
    check_arguments(where, effects=(flat, several(a(CovariateEffect), words)))
    return tuple(flat)


def check_coefficients(effects: Mapping[str, Sequence[CovariateEffect]]) -> None:
    """Refuse effects on a parameter whose coefficients have one name, and would be one number."""
    for parameter, given in effects.items():
        names = [effect.name(parameter) for effect in given]
        for name, effect in zip(names, given, strict=True):
            if names.count(name) > 1:
                raise PkpdError(
                    where=f"parameter {parameter!r}",
                    what=f"two effects of covariate {effect.covariate!r} have the coefficient "
                    f"{name}",
                    allowed="one effect of a covariate, or one for each category",
                    remedy="give the other a copy of the covariate under another name",
                )


def _coefficient(value: float | Estimate, prior: Prior | None) -> Estimate:
    check_arguments("covariate effect", prior=(prior, a(Prior) | NONE))
    made = estimate(value)
    return made if prior is None else Estimate(made.value, prior, made.fixed)
