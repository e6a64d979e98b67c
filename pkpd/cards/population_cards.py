"""Cards of populations: who the patients are, and the state of their marrow."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from pkpd.body import POSSIBLE
from pkpd.cards.contents import read_once
from pkpd.cards.diseases import read_disease, state_of
from pkpd.cards.files import CardPath, card_folder, card_names, find_card, nearest_of
from pkpd.cards.relations import STATUSES, read_pair, read_parameter, refuse
from pkpd.cards.tables import Table, read_toml
from pkpd.distributions import DISTRIBUTIONS, Distribution
from pkpd.errors import CardError
from pkpd.subjects import Covariate, PatientSample, Population, sample_population
from pkpd.units import normal_unit

#: What a population may give the marrow without leukaemia: it changes marrow and effect cards.
MARROW_SETTINGS = ("mtt_factor", "sensitivity", "relief")

_NUMBERS = ("mean", "sd", "median", "sigma", "probability", "concentration", "lower", "upper")
_UNITS = {
    "age": "year",
    "male": "1",
    "weight": "kg",
    "height": "cm",
    "scr": "mg/dL",
    "crcl": "mL/min",
    **dict.fromkeys(("anc", "plt", "wbc"), "10^9/L"),
    **dict.fromkeys(("bm_blasts_pct", "pb_blasts_pct"), "%"),
}
_NEEDED = ("age", "male", "weight", "height", "scr")


def load_population(name: str) -> Population:
    """Read a population card by name, or a file of the user.

    Raises
    ------
    CardError
        If there is no such card, or it cannot be used; one sentence.

    Examples
    --------
    >>> load_population("rr_aml").disease
    'aml_relapsed'
    """
    return _read_once(find_card("populations", name))


def population_of_disease(disease: str) -> Population:
    """Shipped population of a disease: who its patients are where nobody says more.

    A state of a disease without a card of its own has the patients of the disease.

    Raises
    ------
    CardError
        If no shipped card is of the disease.
    """
    found = _by_disease(str(card_folder("populations")))
    whole = state_of(disease)
    if disease not in found and whole is not None:
        return replace(population_of_disease(whole), disease=disease)
    if disease not in found:
        raise CardError(
            where="populations",
            what=f"no card is of the disease {disease!r}{nearest_of(disease, found)}",
            allowed=", ".join(found),
        )
    return found[disease]


def beyond_ages(patients: Population | PatientSample, disease: str) -> str:
    """Say that patients are younger or older than those of a disease; empty where none is.

    Parameters
    ----------
    patients
        Patients, or a population, of which 512 are looked at.
    disease
        Their disease; the limits are those of the ages of its shipped population.
    """
    card = _by_disease(str(card_folder("populations"))).get(disease)
    if card is None or patients == card:
        return ""
    (age,) = (c for c in card.covariates if c.name == "age")
    low = min(d.lower if d.lower is not None else 0.0 for d in (age.men, age.women))
    high = max(d.upper if d.upper is not None else np.inf for d in (age.men, age.women))
    whole = isinstance(patients, Population)
    ages = (sample_population(patients, 512, 1) if whole else patients)["age"]
    outside = ages[(ages < low) | (ages > high)]
    if not outside.size:
        return ""
    share = f"{outside.size / ages.size:.0%} of the patients"
    n = share if whole else f"{outside.size} of {ages.size} patients"
    return (
        f"{n} (of {outside.min():.0f} to {outside.max():.0f} years) are outside the ages of "
        f"{disease}, {low:g} to {high:g} years (population {card.name}): their marrow is that of "
        "its patients"
    )


@lru_cache(maxsize=8)
def _by_disease(folder: str) -> dict[str, Population]:
    found: dict[str, Population] = {}
    for name in card_names("populations"):
        population = load_population(name)
        found.setdefault(population.disease, population)
    return found


def read_population_card(path: CardPath | str) -> Population:
    """Read a population card (keys: ``models/SCHEMA.md``)."""
    table = read_toml(path)
    table.one_of("kind", ("population",))
    name = table.text("name")
    if name != str(path).replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".toml"):
        refuse(table, "name", f"'{name}' differs from the file name")
    covariates = tuple(
        _covariate(row, key) for key, row in table.named_tables("covariates").items()
    )
    names = [c.name for c in covariates]
    for key in _NEEDED:
        if key not in names:
            refuse(table, f"covariates.{key}", "is missing", remedy="add its distribution")
    rows = table.named_tables("marrow", {})
    for key in rows:
        if key not in MARROW_SETTINGS:
            refuse(
                table,
                f"marrow.{key}",
                f"unknown key{nearest_of(key, MARROW_SETTINGS)}",
                allowed=", ".join(MARROW_SETTINGS),
            )
    for key in MARROW_SETTINGS if rows else ():
        if key not in rows:
            refuse(table, f"marrow.{key}", "is missing", remedy="add it")
    spreads = {key: row.number("sd_between_patients", None, above=0.0) for key, row in rows.items()}
    population = Population(
        name=name,
        title=table.text("title"),
        disease=read_disease(table),
        covariates=covariates,
        correlations=_correlations(table, names),
        limits=tuple(_limit(t, key, names) for key, t in table.named_tables("limits", {}).items()),
        parameters=tuple(read_parameter(row, f"population.{key}") for key, row in rows.items()),
        variability=tuple((f"population.{k}", sd) for k, sd in spreads.items() if sd is not None),
        assumptions=table.texts("assumptions", ()),
    )
    table.done()
    return population


def _covariate(row: Table, name: str) -> Covariate:
    if name not in POSSIBLE:
        refuse(
            row, None, f"unknown covariate{nearest_of(name, POSSIBLE)}", allowed=", ".join(POSSIBLE)
        )
    kind = row.one_of("distribution", tuple(DISTRIBUTIONS))
    men, women = row.table("men", None), row.table("women", None)
    if (men is None) != (women is None):
        refuse(row, "men", "men and women must both be given", remedy="add the other one")
    if men is None:
        both = _distribution(row, kind)
        pair = (both, both)
    else:
        pair = (_distribution(men, kind), _distribution(women, kind))
    with row.at("unit"):
        unit = normal_unit(row.text("unit"))
    if unit != _UNITS[name]:
        refuse(row, "unit", f"'{unit}' is not used for {name}", _UNITS[name], "convert the numbers")
    return Covariate(
        name=name,
        men=pair[0],
        women=pair[1],
        unit=unit,
        source=row.text("source"),
        status=row.one_of("status", STATUSES),
        note=row.text("note", ""),
    )


def _distribution(row: Table, kind: str) -> Distribution:
    given = {key: row.number(key, None) for key in _NUMBERS if key in row}
    ends = () if kind in ("bernoulli", "constant") else ("lower", "upper")
    of_kind = (*DISTRIBUTIONS[kind], *ends, *(("concentration",) if kind == "beta" else ()))
    for key in given:
        if key not in of_kind:
            refuse(row, key, f"distribution '{kind}' has none", ", ".join(of_kind), "remove it")
    for key in DISTRIBUTIONS[kind]:
        if key not in given:
            refuse(row, key, f"distribution '{kind}' needs '{key}'", remedy="add it")
    for key in ("sd", "sigma", "concentration"):
        if given.get(key, 1.0) <= 0:
            refuse(row, key, "must be above 0")
    for key in ("probability",):
        if not 0 <= given.get(key, 0.5) <= 1:
            refuse(row, key, "must be between 0 and 1")
    low, high, middle = given.get("lower"), given.get("upper"), given.get("median")
    if low is not None and high is not None and not low < high:
        refuse(row, "lower", "is not below 'upper'")
    if kind == "beta" and not (low is not None and high is not None and low < middle < high):
        refuse(row, "median", "a beta distribution needs lower < median < upper")
    if kind in ("lognormal", "zero_inflated") and not (middle or 0.0) > 0:
        refuse(row, "median", "must be above 0")
    return Distribution(kind, **given)


def _correlations(table: Table, names: list[str]) -> tuple[tuple[str, str, float], ...]:
    found, seen = [], set()
    for row in table.tables("correlation", ()):
        pair = read_pair(row, names, "is not sampled", seen)
        found.append((*pair, row.number("value", minimum=-0.99, maximum=0.99)))
        row.text("source")
        row.one_of("status", STATUSES)
    return tuple(found)


def _limit(row: Table, name: str, sampled: list[str]) -> tuple[str, float, float]:
    allowed = dict.fromkeys((*sampled, "crcl", "bsa", "bmi", "ffm"))
    if name not in allowed:
        what = "is not sampled" if name in POSSIBLE else "unknown covariate"
        refuse(row, None, what + nearest_of(name, allowed), allowed=", ".join(allowed))
    limits = (name, row.number("lower", 0.0), row.number("upper", float("inf")))
    row.text("source")
    row.one_of("status", STATUSES)
    return limits


_read_once = read_once(read_population_card)
