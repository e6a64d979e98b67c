"""Patients: body size, renal function, and virtual populations drawn from distributions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pkpd.arguments import MAPPING, NUMBER, check_arguments, from_to
from pkpd.arrays import Floats
from pkpd.body import (
    POSSIBLE,
    check_possible,
    complete_covariates,
    creatinine_clearance_cockcroft_gault,
)
from pkpd.distributions import Distribution, named_normals, stream
from pkpd.errors import DataError
from pkpd.kept_values import Kept
from pkpd.sobol import sobol
from pkpd.units import Parameter

MOVABLE = ("age", "weight", "crcl")
"""Covariates whose medians can be moved (`with_medians`)."""

_BLOCK = 256
_FOR_A_MEDIAN, _ROUNDS = 2048, 3
_LOWEST_ACCEPTANCE = 0.01


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
    medians
        ``(covariate, median)`` that the patients, once drawn, are moved to (`with_medians`).
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
    medians: tuple[tuple[str, float], ...] = ()

    def __repr__(self) -> str:
        """Tell name, disease and what is sampled in a line."""
        sampled = ", ".join(one.name for one in self.covariates)
        return f"Population({self.name!r}, disease {self.disease or 'none'}: {sampled})"


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

    def __repr__(self) -> str:
        """Tell population, number and covariates in a line."""
        return f"PatientSample({self.n} of {self.population!r}: {', '.join(self.covariates)})"

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
        return named_normals(self.seed, f"eta:{name}", self.n)

    def occasion_score(self, name: str, occasion: int) -> Floats:
        """Give each patient's standard normal score of one occasion (from 0), float[n]."""
        if self.typical:
            return np.zeros(self.n)
        return named_normals(self.seed, f"iov:{name}:{occasion}", self.n)

    def taken(self, index: NDArray[np.int64]) -> PatientSample:
        """Patients with the covariates of some of these, in that order; repeats are allowed.

        Their individual deviations are new ones.
        """
        chosen = {name: values[index] for name, values in self.covariates.items()}
        return replace(self, covariates=MappingProxyType(chosen))


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

    Examples
    --------
    >>> sample = patients({"age": [40, 70], "male": 1, "weight": 75, "height": 178, "scr": 1.0})
    >>> sample.covariates["crcl"].round(1)  # Cockcroft and Gault 1976
    array([104.2,  72.9])
    """
    full = complete_covariates(covariates, bsa_formula=bsa_formula)
    return PatientSample("given patients", seed, MappingProxyType(full), 1.0, typical)


@lru_cache(maxsize=256)
def with_median_age(population: Population, age: float) -> Population:
    """Move the ages of a population so that the median of its eligible patients is another one.

    Distribution and limits of age move together; nobody is younger than 1 or older than 95 years.
    Limits on other covariates (creatinine clearance) turn away more old patients than young ones,
    which is made up for.

    Parameters
    ----------
    population
        The population.
    age
        Median in years, of men and women alike.
    """
    if "age" in dict(population.medians):  # those who were moved once are moved to another median
        return with_medians(population, {**dict(population.medians), "age": age})
    wanted = age
    for _ in range(_ROUNDS):
        made = _moved(population, wanted)
        if not made.limits:
            break
        wanted += age - float(np.median(sample_population(made, _FOR_A_MEDIAN, 1)["age"]))
    return _moved(population, wanted)


def _moved(population: Population, age: float) -> Population:
    """Give a population another median age, before limits of eligibility."""
    old = median_age(population)

    def moved(d: Distribution) -> Distribution:
        shift, ratio = age - old, age / old
        if d.kind == "constant":
            return replace(d, median=age)
        if d.kind == "lognormal":
            low, high = (None if x is None else x * ratio for x in (d.lower, d.upper))
            return replace(d, median=d.median * ratio, lower=low, upper=high)
        low, high = (1.0 if d.lower is None else d.lower), (95.0 if d.upper is None else d.upper)
        low, high = max(low + shift, 1.0), min(high + shift, 95.0)
        if d.kind in ("normal", "truncnormal"):
            return replace(d, mean=d.mean + shift, lower=low, upper=high)
        return replace(d, median=d.median + shift, lower=low, upper=high)

    def one(covariate: Covariate) -> Covariate:
        if covariate.name != "age":
            return covariate
        return replace(covariate, men=moved(covariate.men), women=moved(covariate.women))

    scaled = any(c.name == "age" and c.men.kind == "lognormal" for c in population.covariates)

    def edge(years: float) -> float:
        if not 0 < years < np.inf:  # no limit
            return years
        return years * age / old if scaled else min(max(years + age - old, 1.0), 95.0)

    limits = tuple(
        (name, edge(low), edge(high)) if name == "age" else (name, low, high)
        for name, low, high in population.limits
    )
    return replace(population, covariates=tuple(map(one, population.covariates)), limits=limits)


def with_medians(population: Population, medians: Mapping[str, float]) -> Population:
    """Move patients to other medians: the same patients, so that two populations are paired.

    Ages are shifted, weights multiplied; then creatinine is multiplied so that its clearance has
    its median. A clearance that is not given follows age and weight (Cockcroft and Gault 1976).

    Parameters
    ----------
    population
        The population.
    medians
        ``age`` (years), ``weight`` (kg), ``crcl`` (mL/min), or some of them: those of eligible
        patients. Nobody becomes younger than 1 or older than 95 years.
    """
    check_arguments("with_medians", medians=(medians, MAPPING))
    for name, value in medians.items():
        if name not in MOVABLE:
            _refuse("medians", f"{name!r} cannot be moved", ", ".join(MOVABLE))
        check_arguments("medians", **{name: (value, NUMBER)})
        check_possible({name: np.array([float(value)])}, "medians")
    return replace(population, medians=tuple((n, float(medians[n])) for n in sorted(medians)))


def _to_medians(
    population: Population, covariates: Mapping[str, Floats], bsa_formula: str
) -> dict[str, Floats]:
    """Patients as drawn, moved to the medians of their population."""
    older, heavier, creatinine = _moves(population)
    derived = ("bsa", "bmi", "ffm", "crcl", "scr_umol_L")
    moved = {name: v for name, v in covariates.items() if name not in derived}
    moved["age"] = np.clip(moved["age"] + older, 1.0, 95.0)
    for name, ratio in (("weight", heavier), ("scr", creatinine)):
        moved[name] = np.clip(moved[name] * ratio, *POSSIBLE[name][:2])
    return complete_covariates(moved, bsa_formula=bsa_formula)


@lru_cache(maxsize=256)
def _moves(population: Population) -> tuple[float, float, float]:
    """Years to add, and factors on weight and creatinine, that give the medians."""
    wanted = dict(population.medians)
    sample = sample_population(replace(population, medians=()), _FOR_A_MEDIAN, 1)
    older = wanted["age"] - np.median(sample["age"]) if "age" in wanted else 0.0
    heavier = wanted["weight"] / np.median(sample["weight"]) if "weight" in wanted else 1.0
    if "crcl" not in wanted:
        return float(older), float(heavier), 1.0
    age = np.clip(sample["age"] + older, 1.0, 95.0)
    weight = np.clip(sample["weight"] * heavier, *POSSIBLE["weight"][:2])
    clearance = creatinine_clearance_cockcroft_gault(age, weight, sample["scr"], sample["male"])
    return float(older), float(heavier), float(np.median(clearance) / wanted["crcl"])


def median_age(population: Population) -> float:
    """Median age of a population in years, of men and women alike."""
    if "age" in dict(population.medians):
        return dict(population.medians)["age"]
    age = next(c for c in population.covariates if c.name == "age")
    return float((age.men.from_score(0.0) + age.women.from_score(0.0)) / 2.0)


def patients_key(population: Population | PatientSample) -> str:
    """Sixteen hexadecimal digits of who the patients of a population are.

    Two populations with the same disease, distributions, correlations and limits have the same
    key, whatever their names, their texts and the medians they are moved to; with the same seed
    the same patients are drawn. Given patients have a key by their covariates.
    """
    if isinstance(population, PatientSample):
        given = [(name, v.tobytes()) for name, v in sorted(population.covariates.items())]
        return hashlib.sha256(repr(given).encode()).hexdigest()[:16]
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

    Examples
    --------
    >>> from pkpd.cards import load_population
    >>> two = sample_population(load_population("rr_aml"), 2, seed=1)
    >>> five = sample_population(load_population("rr_aml"), 5, seed=1)
    >>> bool((two.covariates["age"] == five.covariates["age"][:2]).all())
    True
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        _refuse("patients", f"{n!r} patients", "a whole number, 1 or more")
    check_arguments("sample_population", seed=(seed, from_to(0)))
    found = _SAMPLES.of(
        (population, int(n), seed, bsa_formula), lambda: _drawn(population, n, seed, bsa_formula)
    )
    # whoever changes an array changes it for himself alone
    own = {name: values.copy() for name, values in found.covariates.items()}
    return replace(found, covariates=MappingProxyType(own))


_SAMPLES: Kept[PatientSample] = Kept(200_000, lambda sample: sample.n)


def _drawn(population: Population, n: int, seed: int, bsa_formula: str) -> PatientSample:
    """Draw the patients of `sample_population`; moved ones are drawn once for all medians."""
    if population.medians:
        unmoved = replace(population, medians=())
        found = sample_population(unmoved, n, seed, bsa_formula=bsa_formula)
        moved = _to_medians(population, found.covariates, bsa_formula)
        return replace(found, covariates=MappingProxyType(moved))
    from scipy.special import ndtri

    key = f"population:{patients_key(population)}"
    blocks: list[dict[str, Floats]] = []
    accepted = drawn = 0
    size = max(_BLOCK, 1 << (n - 1).bit_length())
    while accepted < n:
        points = sobol(len(population.covariates), size, stream(seed, key), drawn)
        u = np.clip(points, 1e-10, 1 - 1e-10)
        block, keep = covariates_at(population, ndtri(u), bsa_formula=bsa_formula)
        blocks.append({name: v[keep] for name, v in block.items()})
        accepted += int(keep.sum())
        drawn += size
        if accepted < _LOWEST_ACCEPTANCE * drawn and drawn >= 1024:
            what = f"only {accepted} of {drawn} drawn patients meet the eligibility limits"
            where, remedy = f"population '{population.name}'", "widen limits or mend distributions"
            _refuse(where, what, "at least 1 %", remedy)
    merged = {name: np.concatenate([b[name] for b in blocks])[:n] for name in blocks[0]}
    return PatientSample(population.name, seed, MappingProxyType(merged), accepted / drawn)


def covariates_at(
    population: Population, scores: Floats, *, bsa_formula: str = "mosteller"
) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    """Covariates of patients at independent standard normal scores.

    Parameters
    ----------
    population
        What is drawn from.
    scores
        ``[n, C]``: a column for each covariate of the population, in its order.
    bsa_formula
        As of `complete_covariates`.

    Returns
    -------
    tuple
        Covariates and what follows from them, moved to the medians of the population, and who was
        possible and eligible before.
    """
    block, keep = _candidates(population, scores @ _copula_factor(population).T, bsa_formula)
    for name, low, high in population.limits:
        keep &= (block[name] >= low) & (block[name] <= high)
    if population.medians:  # who is eligible is moved
        block = _to_medians(population, block, bsa_formula)
    return block, keep


def _candidates(
    population: Population, scores: Floats, bsa_formula: str
) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    """Covariates of drawn patients, and who of them is possible: tails may reach too far."""
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
    possible = np.ones(len(scores), dtype=bool)
    for name, (low, high, _) in POSSIBLE.items():
        if name in values:
            possible &= (values[name] >= low) & (values[name] <= high)
            values[name] = np.clip(values[name], low, high)
    if "wbc" in values and "anc" in values:
        values["wbc"] = np.maximum(values["wbc"], values["anc"])
    return complete_covariates(values, bsa_formula=bsa_formula), possible


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
    raise DataError(where=where, what=what, allowed=allowed, remedy=remedy)
