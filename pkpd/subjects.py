"""Patients: body size, renal function, and virtual populations drawn from distributions.

Random numbers come from ``stream(seed, name)``: one independent stream for every name, so adding a
drug or a covariate does not move the numbers of another one, and every regimen of a comparison
meets the same patients.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pkpd.body import (
    CREATININE_UMOL_PER_MG_DL,
    body_mass_index,
    body_surface_area_du_bois,
    body_surface_area_mosteller,
    creatinine_clearance_cockcroft_gault,
    fat_free_mass_janmahasatian,
)
from pkpd.errors import DataError, sentence
from pkpd.units import Parameter

Floats = NDArray[np.float64]

#: What a body can be: covariate -> (lowest, highest, unit).  Outside is refused as a slip of input.
POSSIBLE: Mapping[str, tuple[float, float, str]] = MappingProxyType(
    {
        "age": (0.0, 120.0, "years"),
        "male": (0.0, 1.0, "(0 female, 1 male)"),
        "weight": (2.0, 350.0, "kg"),
        "height": (40.0, 230.0, "cm"),
        "scr": (0.1, 15.0, "mg/dL"),
        "crcl": (1.0, 400.0, "mL/min"),
        "anc": (0.0, 1000.0, "10^9/L"),
        "plt": (0.0, 5000.0, "10^9/L"),
        "wbc": (0.0, 2000.0, "10^9/L"),
        "bm_blasts_pct": (0.0, 100.0, "%"),
        "pb_blasts_pct": (0.0, 100.0, "%"),
    }
)

#: Distribution name -> the numbers it needs (`Distribution` says what they mean).
DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "truncnormal": ("mean", "sd"),
        "normal": ("mean", "sd"),
        "lognormal": ("median", "sigma"),
        "bernoulli": ("probability",),
        "beta": ("median",),
        "zero_inflated": ("probability", "median", "sigma"),
        "constant": ("median",),
    }
)

_BLOCK = 256
_LOWEST_ACCEPTANCE = 0.01


def stream(seed: int, name: str) -> np.random.Generator:
    """Make the random generator of one named quantity.

    Parameters
    ----------
    seed, name
        Seed of the whole run, and what is drawn, for example ``"eta:lenalidomide.CL"``.
    """
    words = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype=np.uint32)
    return np.random.default_rng(np.random.SeedSequence([int(seed), *(int(w) for w in words)]))


def stratified_normals(generator: np.random.Generator, n: int) -> Floats:
    """Draw n standard normals, one in each n-th of the probability, in random order.

    Averages over them have a smaller error than over plain random numbers.
    """
    from scipy.special import ndtri

    u = (generator.permutation(n) + generator.random(n)) / n
    return ndtri(np.clip(u, 1e-12, 1 - 1e-12))


# -- distributions -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Distribution:
    """Distribution of one covariate, as a map from a standard normal score.

    ``truncnormal`` and ``normal`` use ``mean`` and ``sd``, ``lognormal`` uses ``median`` and
    ``sigma`` (SD of the log), each cut at ``lower`` and ``upper`` if given (not clipped).
    ``bernoulli`` uses ``probability``.  ``beta`` is a beta distribution on
    ``lower``..``upper`` with the given ``median`` and ``concentration`` (the sum of its two shape
    numbers).  ``zero_inflated`` is 0 with ``probability``, else the lognormal.  ``constant`` is
    ``median``.
    """

    kind: str
    mean: float = math.nan
    sd: float = math.nan
    median: float = math.nan
    sigma: float = math.nan
    probability: float = math.nan
    concentration: float = 4.0
    lower: float | None = None
    upper: float | None = None

    def from_score(self, z: Any) -> Floats:
        """Value at standard normal score z; rising in z."""
        from scipy.special import betaincinv, ndtr

        z = np.asarray(z, dtype=np.float64)
        if self.kind == "constant":
            return np.full_like(z, self.median)
        u = ndtr(z)
        if self.kind == "bernoulli":
            return (u > 1.0 - self.probability).astype(np.float64)
        if self.kind == "beta":
            low, high = float(self.lower or 0.0), float(self.upper or 1.0)
            a, b = _beta_shapes((self.median - low) / (high - low), self.concentration)
            return low + (high - low) * betaincinv(a, b, u)
        if self.kind == "zero_inflated":
            positive = np.clip((u - self.probability) / (1.0 - self.probability), 1e-12, 1 - 1e-12)
            return np.where(u < self.probability, 0.0, self._continuous(positive))
        return self._continuous(u)

    def _continuous(self, u: Floats) -> Floats:
        from scipy.special import ndtr, ndtri

        log = self.kind in ("lognormal", "zero_inflated")
        centre, spread = (math.log(self.median), self.sigma) if log else (self.mean, self.sd)
        ends = [0.0, 1.0]
        for side, limit in enumerate((self.lower, self.upper)):
            if limit is not None and not (log and limit <= 0):
                ends[side] = float(ndtr(((math.log(limit) if log else limit) - centre) / spread))
        score = ndtri(np.clip(ends[0] + (ends[1] - ends[0]) * u, 1e-15, 1 - 1e-15))
        value = centre + spread * score
        return np.exp(value) if log else value


def _beta_shapes(median: float, concentration: float) -> tuple[float, float]:
    from scipy.optimize import brentq
    from scipy.special import betaincinv

    def gap(share: float) -> float:
        a = share * concentration
        return float(betaincinv(a, concentration - a, 0.5)) - median

    share = float(brentq(gap, 1e-3, 1 - 1e-3, xtol=1e-12))  # type: ignore[arg-type]
    return share * concentration, (1 - share) * concentration


@dataclass(frozen=True)
class Covariate:
    """One sampled covariate: its distribution for men and for women, unit and provenance."""

    name: str
    men: Distribution
    women: Distribution
    unit: str = "1"
    source: str = ""
    status: str = "assumed"
    note: str = ""


@dataclass(frozen=True)
class Population:
    """A disease population: covariate distributions and the state of its marrow.

    Attributes
    ----------
    name, title, disease
        Card name, one line, and the disease's name in the marrow with leukaemia; "" for none.
    covariates
        What is sampled, in the order of the card.
    correlations
        ``(covariate, covariate, r)`` of the normal scores (Gaussian copula).
    limits
        ``(covariate, lowest, highest)`` of eligibility: patients outside are drawn again.
    parameters
        Marrow settings, named ``population.*``.
    variability
        ``(parameter, log SD)`` between the patients, of a marrow setting.
    assumptions
        Short sentences for reports.
    """

    name: str
    title: str
    disease: str
    covariates: tuple[Covariate, ...]
    correlations: tuple[tuple[str, str, float], ...] = ()
    limits: tuple[tuple[str, float, float], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    variability: tuple[tuple[str, float], ...] = ()
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class PatientSample:
    """n patients: covariates by name, and the normal scores of their individual deviations.

    Attributes
    ----------
    population
        Name of the population.
    seed
        Seed the patients were drawn with.
    covariates
        Name -> float[n]: sampled ones and ``bsa``, ``ffm``, ``bmi``, ``crcl``, ``scr_umol_L``.
    acceptance
        Share of drawn patients that met the eligibility limits.
    typical
        True: all normal scores are 0 (typical patients with these covariates).
    """

    population: str
    seed: int
    covariates: Mapping[str, Floats]
    acceptance: float = 1.0
    typical: bool = False

    @property
    def n(self) -> int:
        """Number of patients."""
        return len(self.covariates["weight"])

    def __getitem__(self, name: str) -> Floats:
        """Covariate by name, float[n]."""
        if name not in self.covariates:
            where, what = f"patients of '{self.population}'", f"have no covariate '{name}'"
            _refuse(where, what, ", ".join(self.covariates), "add it to the card or the patients")
        return self.covariates[name]

    def normal_score(self, name: str) -> Floats:
        """Give each patient's standard normal score of the individual effect ``name``, float[n].

        Independent of every other name and of the covariates; the same at each call.
        """
        if self.typical:
            return np.zeros(self.n)
        return stratified_normals(stream(self.seed, f"eta:{name}"), self.n)

    def occasion_score(self, name: str, occasion: int) -> Floats:
        """Give each patient's standard normal score of one occasion (from 0), float[n]."""
        if self.typical:
            return np.zeros(self.n)
        return stratified_normals(stream(self.seed, f"iov:{name}:{occasion}"), self.n)


def complete_covariates(
    covariates: Mapping[str, Any], *, bsa_formula: str = "mosteller"
) -> dict[str, Floats]:
    """Check covariates and add what follows from them.

    Parameters
    ----------
    covariates
        At least ``age`` (years), ``male`` (1 or 0), ``weight`` (kg), ``height`` (cm), and ``scr``
        (mg/dL) or ``crcl`` (mL/min); numbers or arrays of one length.
    bsa_formula
        ``"mosteller"`` or ``"du_bois"``.

    Returns
    -------
    dict
        The covariates and ``bsa`` (m^2), ``bmi`` (kg/m^2), ``ffm`` (kg), ``crcl`` (mL/min) and
        ``scr_umol_L``, float[n]; values given for one of these are kept.

    Raises
    ------
    DataError
        For a missing or impossible value, or a formula that is not known.
    """
    formulas = {
        "mosteller": body_surface_area_mosteller,
        "du_bois": body_surface_area_du_bois,
    }
    if bsa_formula not in formulas:
        _refuse("bsa_formula", f"'{bsa_formula}' is not known", ", ".join(formulas))
    arrays = {
        name: np.atleast_1d(np.asarray(v, dtype=np.float64)) for name, v in covariates.items()
    }
    for needed in ("age", "male", "weight", "height"):
        if needed not in arrays:
            _refuse("patients", f"'{needed}' is missing", remedy="give it")
    if "scr" not in arrays and "crcl" not in arrays:
        _refuse("patients", "neither 'scr' nor 'crcl' is given", remedy="give one of them")
    n = max(len(v) for v in arrays.values())
    arrays = {name: np.broadcast_to(v, (n,)).copy() for name, v in arrays.items()}
    age, male, weight, height = (arrays[k] for k in ("age", "male", "weight", "height"))
    check_possible(arrays)
    if "scr" in arrays:
        crcl = creatinine_clearance_cockcroft_gault(age, weight, arrays["scr"], male)
        arrays.setdefault("crcl", crcl)
    else:
        per_unit = creatinine_clearance_cockcroft_gault(age, weight, 1.0, male)
        arrays["scr"] = per_unit / arrays["crcl"]
    arrays.setdefault("scr_umol_L", arrays["scr"] * CREATININE_UMOL_PER_MG_DL)
    arrays.setdefault("bmi", body_mass_index(weight, height))
    arrays.setdefault("bsa", formulas[bsa_formula](weight, height))
    arrays.setdefault("ffm", fat_free_mass_janmahasatian(weight, height, male))
    return arrays


def check_possible(covariates: Mapping[str, Floats]) -> None:
    """Refuse values no patient can have.

    Raises
    ------
    DataError
        Naming patient (counted from 1), covariate, value and limits.
    """
    for name, (low, high, unit) in POSSIBLE.items():
        values = covariates.get(name)
        if values is None:
            continue
        bad = ~((values >= low) & (values <= high))
        if bad.any():
            row = int(np.argmax(bad))
            what = f"{name} = {values[row]:g} is impossible"
            remedy = "check the value and its unit"
            _refuse(f"patient {row + 1}", what, f"{low:g} to {high:g} {unit}", remedy)


def patients(
    covariates: Mapping[str, Any],
    *,
    seed: int = 0,
    typical: bool = False,
    bsa_formula: str = "mosteller",
) -> PatientSample:
    """Make a sample from given patients instead of a population.

    Parameters
    ----------
    covariates
        As for `complete_covariates`; add ``anc``, ``plt``, ``wbc`` (10^9/L) for a marrow model.
    seed, typical
        Seed of the individual deviations; ``typical=True`` for none.
    bsa_formula
        ``"mosteller"`` or ``"du_bois"``.
    """
    full = complete_covariates(covariates, bsa_formula=bsa_formula)
    return PatientSample("given patients", seed, MappingProxyType(full), 1.0, typical)


def patients_key(population: Population) -> str:
    """Sixteen hexadecimal digits of who the patients of a population are.

    Two populations with the same disease, distributions, correlations and limits have the same
    key, whatever their names and texts; with the same seed they have the same patients.
    """
    content = (
        population.disease,
        tuple((c.name, c.men, c.women) for c in population.covariates),
        tuple(sorted(population.correlations)),
        tuple(sorted(population.limits)),
    )
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def sample_population(
    population: Population, n: int, seed: int, *, bsa_formula: str = "mosteller"
) -> PatientSample:
    """Draw n eligible patients.

    Scrambled Sobol points are mapped through the copula and the distributions; patients outside
    the eligibility limits are left out and the next points taken.  The first k of n patients have
    the covariates that k patients alone would have.  White cells are at least the neutrophils.
    Patients depend on the seed and on what the population is, not on its name.

    Parameters
    ----------
    population
        What to draw from.
    n, seed
        Number of patients, at least 1, and seed of the run.
    bsa_formula
        ``"mosteller"`` or ``"du_bois"``.

    Raises
    ------
    DataError
        If n < 1, the correlations contradict each other, or fewer than 1 % are eligible.
    """
    from scipy.special import ndtri
    from scipy.stats import qmc

    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        _refuse("patients", f"{n!r} patients", "a whole number, 1 or more")
    factor = _copula_factor(population)
    sobol = qmc.Sobol(
        len(factor), scramble=True, rng=stream(seed, f"population:{patients_key(population)}")
    )
    blocks: list[dict[str, Floats]] = []
    accepted = drawn = 0
    size = max(_BLOCK, 1 << (n - 1).bit_length())
    while accepted < n:
        u = np.clip(sobol.random(size), 1e-10, 1 - 1e-10)
        block = _candidates(population, ndtri(u) @ factor.T, bsa_formula)
        keep = np.ones(size, dtype=bool)
        for name, low, high in population.limits:
            keep &= (block[name] >= low) & (block[name] <= high)
        blocks.append({name: v[keep] for name, v in block.items()})
        accepted += int(keep.sum())
        drawn += size
        if accepted < _LOWEST_ACCEPTANCE * drawn and drawn >= 1024:
            what = f"only {accepted} of {drawn} drawn patients meet the eligibility limits"
            where, remedy = f"population '{population.name}'", "widen limits or mend distributions"
            _refuse(where, what, "at least 1 %", remedy)
    merged = {name: np.concatenate([b[name] for b in blocks])[:n] for name in blocks[0]}
    return PatientSample(population.name, seed, MappingProxyType(merged), accepted / drawn)


def _candidates(population: Population, scores: Floats, bsa_formula: str) -> dict[str, Floats]:
    names = [c.name for c in population.covariates]
    male = np.ones(len(scores))
    if "male" in names:
        column = names.index("male")
        male = population.covariates[column].men.from_score(scores[:, column])
    values: dict[str, Floats] = {"male": male}
    for column, covariate in enumerate(population.covariates):
        if covariate.name == "male":
            continue
        value = covariate.men.from_score(scores[:, column])
        if covariate.women != covariate.men:
            value = np.where(male > 0.5, value, covariate.women.from_score(scores[:, column]))
        values[covariate.name] = value
    if "wbc" in values and "anc" in values:
        values["wbc"] = np.maximum(values["wbc"], values["anc"])
    return complete_covariates(values, bsa_formula=bsa_formula)


def _copula_factor(population: Population) -> Floats:
    names = [c.name for c in population.covariates]
    matrix: Floats = np.eye(len(names))
    for first, second, r in population.correlations:
        i, j = names.index(first), names.index(second)
        matrix[i, j] = matrix[j, i] = r
    try:
        return np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)
    except np.linalg.LinAlgError:
        _refuse(
            f"population '{population.name}'",
            "the correlations contradict each other (the matrix is not positive definite)",
            remedy="make them smaller",
        )


def _refuse(
    where: str, what: str, allowed: str | None = None, remedy: str | None = None
) -> NoReturn:
    raise DataError(sentence(where=where, what=what, allowed=allowed, remedy=remedy))
