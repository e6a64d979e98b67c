"""How measured counts scatter around what a virtual patient has: log densities of counts.

A fit brings the residual errors that it has estimated. Other sources have none; theirs are numbers
of the card ``models/leukaemia/counting.toml``, on the log scale with Student's t. A count below its
limit contributes the probability of lying there (M3), as everywhere in the package
(`pkpd.fitting.model.residual`). Leukocytes hold lymphocytes, which no marrow here makes: in aplasia
they are most of them, and say nothing of blasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.cards import card_folder
from pkpd.cards.files import nearest_of
from pkpd.data.dataset import NOT_CENSORED
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.fitted import FittedEnsemble
from pkpd.errors import PkpdError
from pkpd.fitting.model.residual import ResidualError, lognormal
from pkpd.leukaemia.parameters import read_leukaemia_card
from pkpd.solve.cache import keep_compilations

BLASTS: Mapping[str, tuple[str, ...]] = {
    "marrow_blasts": ("MARROW_BLASTS", "BM_BLASTS", "BM_BLASTS_PCT", "BMBLASTS"),
    "blood_blasts": ("BLOOD_BLASTS", "PB_BLASTS", "PBBLASTS"),
}
"""Usual names of columns of blasts: percent of nucleated marrow cells, and 10^9/L in blood."""

COUNTED = ("neutrophils", "platelets", "wbc", "marrow_blasts", "blood_blasts")
"""What a forecast can learn from, by the names of `pkpd.course.course.Course`."""

SAME_LINE: Mapping[str, str] = {"leukocytes": "wbc"}
"""Names of lines in data sets -> those of courses."""


@dataclass(frozen=True)
class CountError:
    """Residual error of one line, and values of its coefficients.

    Attributes
    ----------
    error
        Form.
    coefficients
        Numbers, or ``[M]`` by draw of the source.
    nu
        Degrees of freedom; not read for the normal distribution.
    besides
        How much a count may hold that the marrow does not make, in its unit: nothing is known of
        where between 0 and this it lies, and the part that fits best is taken.
    """

    error: ResidualError
    coefficients: tuple[Any, ...]
    nu: Any = np.inf
    besides: float = 0.0

    def counted(self, prediction: Any, values: Any, censored: int) -> Any:
        """Add what the marrow does not make, as much as brings counts nearest to the values."""
        if not self.besides or censored != NOT_CENSORED:
            return prediction
        return np.clip(values, prediction, prediction + self.besides)

    def log_density(
        self, prediction: Floats, draw: NDArray[np.int64], value: float, censored: int, lower: float
    ) -> Floats:
        """Log density of one measurement in L patients, or log probability of a censored one.

        Parameters
        ----------
        prediction : float[L]
            In the unit of the line.
        draw : int[L]
            Draw of each patient.
        value, censored, lower
            As in `pkpd.data.dataset.Observations`.
        """
        own = [np.asarray(c, dtype=float) for c in (*self.coefficients, self.nu)]
        *coefficients, nu = [c[draw] if c.ndim else c for c in own]
        made = _compiled(self.error.form, self.error.nu is not None, int(censored), float(lower))
        at = self.counted(prediction, value, censored)
        return np.asarray(made(at, tuple(coefficients), nu, value))

    def log_densities(
        self, prediction: Floats, draw: NDArray[np.int64], values: Floats, censored: int
    ) -> NDArray[np.float32]:
        """Log density of each of P measurements in each of L patients, ``float32[P, L]``.

        Parameters
        ----------
        prediction, draw
            As of `log_density`.
        values : float[P, 1]
            In the unit of the line, all of them censored or none.
        censored
            As in `pkpd.data.dataset.Observations`.
        """
        own = [np.asarray(c, dtype=np.float32) for c in (*self.coefficients, self.nu)]
        *coefficients, nu = [c[draw] if c.ndim else c for c in own]
        made = _compiled(self.error.form, self.error.nu is not None, int(censored), -np.inf)
        seen = values.astype(np.float32)
        at = self.counted(prediction.astype(np.float32), seen, censored)
        with np.errstate(over="ignore"):  # the largest of all numbers, on its way to single ones
            return np.array(made(at, tuple(coefficients), nu, seen))

    def central(self) -> CountError:
        """Take coefficients that differ by draw at their medians."""
        middle = tuple(float(np.median(c)) for c in self.coefficients)
        return CountError(self.error, middle, float(np.median(self.nu)), self.besides)

    def simulate(
        self, prediction: Floats, draw: NDArray[np.int64], rng: np.random.Generator
    ) -> Floats:
        """Draw one measurement of each patient, ``[L]``."""
        own = [np.asarray(c, dtype=float) for c in (*self.coefficients, self.nu)]
        *coefficients, nu = [c[draw] if c.ndim else c for c in own]
        if self.besides:
            prediction = prediction + rng.uniform(0.0, self.besides, prediction.shape)
        return self.error.simulate(prediction, tuple(coefficients), nu, rng)


@lru_cache(maxsize=64)
def _compiled(form: Any, student: bool, censored: int, lower: float) -> Any:
    """Density of measurements of one kind, compiled for all patients at once."""
    keep_compilations()
    error = ResidualError(form, (), lognormal(1.0, nu=1.0).nu if student else None)

    def density(prediction: Any, coefficients: Any, nu: Any, value: Any) -> Any:
        return error.log_density(
            prediction, coefficients, nu, value, np.array(censored), np.array(lower)
        )

    return jax.jit(density)


@dataclass(frozen=True)
class Measurement:
    """How counts of every line scatter.

    Attributes
    ----------
    errors
        By line.
    limits
        What a reported 0 is below, by line.
    words
        Where they come from, in a phrase.
    """

    errors: Mapping[str, CountError]
    limits: Mapping[str, float] = field(default_factory=dict)
    words: str = ""

    def with_errors(self, errors: Mapping[str, ResidualError]) -> Measurement:
        """Put other residual errors in the place of some lines'; others are refused."""
        for line in errors:
            if line not in self.errors:
                what = f"there is no line {line!r}{nearest_of(line, list(self.errors))}"
                raise PkpdError(where="errors", what=what, allowed=", ".join(self.errors))
        own = {line: count_error(error) for line, error in errors.items()}
        words = f"{self.words}; given for {', '.join(errors)}" if errors else self.words
        return Measurement({**self.errors, **own}, self.limits, words)

    def central(self) -> Measurement:
        """Take errors that differ by draw at their medians."""
        errors = {line: one.central() for line, one in self.errors.items()}
        return Measurement(errors, self.limits, self.words)


def count_error(error: ResidualError) -> CountError:
    """Take a residual error with the values that it is written with."""
    nu = np.inf if error.nu is None else error.nu.value
    return CountError(error, tuple(c.value for c in error.coefficients), nu)


def measurement_of(ensemble: Ensemble) -> Measurement:
    """How counts of a source's patients scatter: by its fit, or by the card."""
    known = _card()
    nu = known["count_degrees_of_freedom"]
    usual = {line: count_error(lognormal(known[f"count_sd_{line}"], nu=nu)) for line in COUNTED}
    usual["wbc"] = replace(usual["wbc"], besides=known["count_wbc_lymphocytes"])
    limits = {line: known[f"count_limit_{line}"] for line in COUNTED}
    if not isinstance(ensemble, FittedEnsemble):
        return Measurement(usual, limits, "card counting")
    values, fitted = ensemble.values.values, {}
    for name, error in ensemble.model.residual.items():
        line = SAME_LINE.get(name, name)
        if line not in COUNTED or error.form == "own":
            continue
        got = {n: values.get(n, one.value) for n, one in error.estimates(name).items()}
        coefficients, degrees, deviations, _ = error.read(name, got)
        if deviations:
            # one count says of another's residual what `pkpd.forecasting.series` reads, not this
            squares = [np.asarray(one) ** 2 for one in (coefficients[0], *deviations)]
            coefficients = [np.sqrt(sum(squares))]
        alone = replace(error, processes=(), scale=None)
        nu = np.inf if degrees is None else degrees
        fitted[line] = CountError(alone, tuple(coefficients), nu)
    return Measurement({**usual, **fitted}, limits, f"residual error of the {ensemble.words}")


@lru_cache(maxsize=1)
def _card() -> Mapping[str, float]:
    path = Path(str(card_folder("leukaemia"))) / "counting.toml"
    return {name: p.value for name, p in read_leukaemia_card(path).parameters.items()}
