"""Relations of a card: how individual parameters are made, written as data.

    individual = (sum of terms) x (covariate effects) x exp(SD x score)

Terms, covariate effects, variability and options are read here, each name checked against what
the card defines, and each number with its unit, interval, source and status.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from pkpd.cards.files import nearest_of
from pkpd.cards.tables import Table
from pkpd.units import INTERNAL_UNITS, Parameter, dimension_of, normal_unit, to_internal

STATUSES = ("read", "transcribed", "derived", "assumed")
SCALES = ("lognormal", "normal", "logit", "fixed")
Pair = tuple[str, str]

#: Covariates a relation may use; ``renal_function`` needs the card's [renal_function] table.
COVARIATES = (
    *("age", "male", "weight", "height", "bsa", "ffm", "bmi", "scr", "scr_umol_L", "crcl"),
    *("anc", "plt", "wbc", "bm_blasts_pct", "pb_blasts_pct", "renal_function"),
)

#: Unit of an individual parameter -> a unit in which it may be written, in which creatinine and its
#: clearance are kept, and the dimension that it has there.
_AS_OF_PATIENTS = {"L/h": ("mL/min", "clearance"), "mg/L": ("mg/dL", "concentration")}
#: Individual parameters whose name says that they are none of creatinine.
_NONE_OF_PATIENTS = {"CL": "L/h", "Q": "L/h", "Km": "mg/L"}
_OF_COVARIATES = {"crcl": "mL/min", "scr": "mg/dL"}


@dataclass(frozen=True)
class RelationTerm:
    """``number x parameter x (product of times) / (product of divided_by)``."""

    parameter: str = ""
    number: float = 1.0
    times: tuple[str, ...] = ()
    divided_by: tuple[str, ...] = ()
    option: str = ""
    unless: str = ""


@dataclass(frozen=True)
class CardEffect:
    """A factor of an individual parameter.

    ``power``: (covariate / reference) ^ exponent; ``linear``: 1 + slope (covariate - reference);
    ``factor``: the parameter, or its inverse.  Outside ``at_least <= when < below`` it is 1.
    ``exponent`` is a number or the name of a parameter.
    """

    kind: str
    covariate: str = ""
    reference: float = 1.0
    exponent: float | str = 1.0
    parameter: str = ""
    inverse: bool = False
    when: str = ""
    at_least: float = -math.inf
    below: float = math.inf
    option: str = ""
    unless: str = ""


@dataclass(frozen=True)
class Individual:
    """How one individual parameter is made; ``lowest`` bounds it from below."""

    name: str
    unit: str
    terms: tuple[RelationTerm, ...]
    effects: tuple[CardEffect, ...] = ()
    lowest: float | None = None


@dataclass(frozen=True)
class Variability:
    """Spread of an individual parameter between patients (iiv) or occasions (iov).

    ``sd`` is the SD of the log; ``score`` names the normal score (shared names move together).
    """

    parameter: str
    sd: Parameter
    score: str


@dataclass(frozen=True)
class Option:
    """A switch of a card; when on, the options in ``replaces`` are off and ``assumes`` holds."""

    name: str
    default: bool
    description: str
    replaces: tuple[str, ...] = ()
    assumes: str = ""


MOST_CV = 3.0
"""Coefficient of variation between patients: more is one in per cent."""


def refuse(
    table: Table, key: str | None, what: str, allowed: str | None = None, remedy: str | None = None
) -> NoReturn:
    """Raise the error of a key: the sentence `Table.error` makes."""
    raise table.error(key, what, allowed, remedy)


def check_distribution(row: Table, distribution: str, interval: tuple[float, float] | None) -> None:
    """Refuse limits that a distribution does not have, and one without limits."""
    if interval is None:
        if distribution != "fixed":
            refuse(row, "distribution", "needs an interval", remedy="add ci95 or range")
        return
    low, high = interval
    if distribution == "lognormal" and low <= 0:
        refuse(row, "distribution", "lognormal needs limits above 0")
    if distribution == "logit" and not (low > 0 and high < 1):
        refuse(row, "distribution", "logit needs limits between 0 and 1")


def read_parameter(row: Table, name: str) -> Parameter:
    """Read one parameter entry, in internal units.

    Parameters
    ----------
    row
        Table with ``value``, ``unit``, ``source``, ``status``, and optionally ``ci95``, ``range``
        (read as central 95 % unless ``interval_prob`` is given) or ``rse``, ``distribution``,
        ``prior_group``, ``note``.
    name
        Name of the parameter.
    """
    value = row.number("value")
    unit = row.text("unit")
    interval = row.numbers("ci95", None, length=2)
    span = row.numbers("range", None, length=2)
    rse = row.number("rse", None, above=0.0, maximum=3.0)
    if sum(x is not None for x in (interval, span, rse)) > 1:
        refuse(row, "ci95", "more than one of ci95, range and rse", remedy="keep one")
    if span is not None:
        row.text("range_means")
        interval = span
    if rse is not None:
        if value <= 0:
            refuse(row, "rse", "needs a value above 0", remedy="give ci95 instead")
        width = 1.959963984540054 * math.sqrt(math.log1p(rse**2))
        interval = (value * math.exp(-width), value * math.exp(width))
    if interval is not None and not interval[0] < value < interval[1]:
        refuse(row, "ci95", f"does not hold the value {value:g}", remedy="correct one of them")
    usual = "fixed" if interval is None else "lognormal" if interval[0] > 0 else "normal"
    distribution = row.one_of("distribution", SCALES, usual)
    check_distribution(row, distribution, interval)
    with row.at("unit"):
        dimension = dimension_of(normal_unit(unit))
        factor = to_internal(1.0, unit, dimension)
    return Parameter(
        name=name,
        value=value * factor,
        unit=INTERNAL_UNITS[dimension],
        interval=None if interval is None else (interval[0] * factor, interval[1] * factor),
        interval_prob=row.number("interval_prob", 0.95, above=0.0, maximum=0.9999),
        distribution=distribution,
        source=row.text("source"),
        status=row.one_of("status", STATUSES),
        note=row.text("note", ""),
        prior_group=row.text("prior_group", ""),
    )


class Names:
    """Names a relation of this card may use."""

    def __init__(self, parameters: set[str], options: set[str], renal: bool) -> None:
        self.parameters = parameters
        self.options = options
        self.individuals: set[str] = set()
        self.covariates = {c for c in COVARIATES if renal or c != "renal_function"}

    def check(self, row: Table, key: str, name: str, *, what: str = "factor") -> str:
        """Return the name if it can be used for what, else raise."""
        allowed = set(self.parameters)
        if what == "factor":
            allowed |= self.covariates | {f"individual.{i}" for i in self.individuals}
            if name.startswith("population."):
                return name
        elif what == "covariate":
            allowed = self.covariates
        elif what == "option":
            allowed = self.options
        if name and name not in allowed:
            refuse(
                row,
                key,
                f"'{name}' is not a {what} of this card{nearest_of(name, allowed)}",
                allowed=", ".join(sorted(allowed)),
            )
        return name


def read_individual(row: Table, name: str, names: Names) -> Individual:
    """Read [individual.NAME]: terms, covariate effects and lower bound."""
    terms = tuple(
        RelationTerm(
            parameter=names.check(t, "parameter", t.text("parameter", ""), what="parameter"),
            number=t.number("number", 1.0),
            times=tuple(names.check(t, "times", x) for x in t.texts("times", ())),
            divided_by=tuple(names.check(t, "divided_by", x) for x in t.texts("divided_by", ())),
            option=names.check(t, "option", t.text("option", ""), what="option"),
            unless=names.check(t, "unless", t.text("unless", ""), what="option"),
        )
        for t in row.tables("terms")
    )
    effects = tuple(_effect(e, names) for e in row.tables("covariates", ()))
    with row.at("unit"):
        unit = normal_unit(row.text("unit"))
        own = unit_of(name, unit)
        factor = to_internal(1.0, unit, dimension_of(own))
    lowest = row.number("lowest", None)
    lowest = None if lowest is None else lowest * factor
    return Individual(name, own, terms, effects, lowest)


def unit_of(name: str, unit: str) -> str:
    """Give the unit inside of an individual parameter: CL that is written in mL/min is in L/h."""
    own = _NONE_OF_PATIENTS.get(name, "")
    kept = unit == _AS_OF_PATIENTS.get(own, ("",))[0]
    return own if kept else INTERNAL_UNITS[dimension_of(unit)]


def as_used(
    table: Table, parameters: Iterable[Parameter], individuals: Iterable[Individual]
) -> tuple[Parameter, ...]:
    """Parameters as individual ones use them: in terms of one in L/h, mL/min become L/h.

    A creatinine clearance stays in mL/min.

    Raises
    ------
    CardError
        If an individual value in mL/min stands for one in L/h, or a parameter for both.
    """
    found = {p.name: p for p in parameters}
    every = tuple(individuals)
    units = {**_OF_COVARIATES, **{name: p.unit for name, p in found.items()}}
    units |= {f"individual.{one.name}": one.unit for one in every}
    kept: dict[str, str] = {}
    moved: dict[str, Individual] = {}
    for one in every:
        kept |= {e.parameter: one.name for e in one.effects}
        for term in one.terms:
            kept |= dict.fromkeys((*term.times, *term.divided_by), one.name)
            if _is_moved(table, one, term, units):
                moved[term.parameter] = one
            else:
                kept[term.parameter] = one.name
    for name, one in moved.items():
        unit, dimension = _AS_OF_PATIENTS[one.unit]
        if name in kept:
            what = f"is in {one.unit} in {one.name}, and stays in {unit} in {kept[name]}"
            refuse(table, f"parameters.{name}", what, remedy="give each a parameter of its own")
        p, factor = found[name], to_internal(1.0, unit, dimension)
        limits = p.interval and (p.interval[0] * factor, p.interval[1] * factor)
        found[name] = replace(p, value=p.value * factor, unit=one.unit, interval=limits)
    return tuple(found.values())


def _is_moved(table: Table, one: Individual, term: RelationTerm, units: Mapping[str, str]) -> bool:
    """Whether the parameter of a term, in mL/min, is one of the clearance that it makes."""
    if one.unit not in _AS_OF_PATIENTS:
        return False
    unit, dimension = _AS_OF_PATIENTS[one.unit]
    above = [units.get(name, "1") for name in (term.parameter, *term.times)]
    below = [units.get(name, "1") for name in term.divided_by]
    left = above.count(unit) - below.count(unit) > 0 and f"{one.unit}/({unit})" not in above
    has_factor = math.isclose(term.number, to_internal(1.0, unit, dimension))
    if not left or above[0] == unit:
        return left and not has_factor  # one that is written is the conversion
    other = next((n for n in term.times if n not in COVARIATES and units.get(n) == unit), "")
    if other and not has_factor and not {*above, *below} - {"1", unit}:
        what = f"'{other}' is in {unit}, and this parameter in {one.unit}"
        remedy = f'write unit = "{one.unit}" of it if it is a {dimension} of the drug, else give '
        refuse(table, f"individual.{one.name}", what, remedy=remedy + "a factor with its unit")
    return False


def _effect(row: Table, names: Names) -> CardEffect:
    kind = row.one_of("kind", ("power", "linear", "factor"))
    exponent: float | str = 1.0
    if kind == "power":
        written = row.data.get("exponent")
        if isinstance(written, str):
            exponent = names.check(row, "exponent", row.text("exponent"), what="parameter")
        else:
            exponent = row.number("exponent")
    needs_parameter = kind in ("linear", "factor")
    parameter = row.text("parameter") if needs_parameter else ""
    when = row.table("when", None)
    limits = ("", -math.inf, math.inf)
    if when is not None:
        limits = (
            names.check(when, "covariate", when.text("covariate"), what="covariate"),
            when.number("at_least", -math.inf),
            when.number("below", math.inf),
        )
    covariate = row.text("covariate") if kind != "factor" else ""
    return CardEffect(
        kind=kind,
        covariate=names.check(row, "covariate", covariate, what="covariate"),
        reference=row.number("reference") if kind != "factor" else 1.0,
        exponent=exponent,
        parameter=names.check(row, "parameter", parameter, what="parameter"),
        inverse=row.boolean("inverse", False),
        when=limits[0],
        at_least=limits[1],
        below=limits[2],
        option=names.check(row, "option", row.text("option", ""), what="option"),
        unless=names.check(row, "unless", row.text("unless", ""), what="option"),
    )


def read_variability(table: Table, key: str, names: Names) -> tuple[Variability, ...]:
    """Read [iiv.X] or [iov.X]: one of cv, variance and sd, turned into the SD of the log."""
    result = []
    for name, row in table.named_tables(key, {}).items():
        if name not in names.individuals:
            refuse(
                row,
                None,
                f"'{name}' is not an individual parameter of this card",
                allowed=", ".join(sorted(names.individuals)),
            )
        given = [m for m in ("cv", "variance", "sd") if m in row]
        if len(given) != 1:
            refuse(row, "cv", "give exactly one of cv, variance and sd")
        to_sd = {
            "cv": lambda x: math.sqrt(math.log1p(x**2)),
            "variance": math.sqrt,
            "sd": float,
        }[given[0]]
        if "ci95" in row and "range" in row:
            refuse(row, "ci95", "stands beside range", remedy="keep one")
        limits = row.numbers("ci95", None, length=2, above=0.0)
        limits = row.numbers("range", limits, length=2, above=0.0)
        written = row.number(given[0], above=0.0)
        if given[0] == "cv" and written > MOST_CV:
            remedy = f"write per cent as a fraction: {written:g} % is {written / 100:g}"
            refuse(row, "cv", f"is {written:g}", f"up to {MOST_CV:g}", remedy)
        value = to_sd(written)
        sd = Parameter(
            name=f"{key}.{name}",
            value=value,
            unit="1",
            interval=None if limits is None else (to_sd(limits[0]), to_sd(limits[1])),
            distribution="fixed" if limits is None else "lognormal",
            source=row.text("source"),
            status=row.one_of("status", STATUSES),
            note=row.text("note", ""),
            prior_group=row.text("prior_group", ""),
        )
        if sd.interval is not None and not sd.interval[0] < value < sd.interval[1]:
            refuse(row, "ci95", f"does not hold the {given[0]}")
        result.append(Variability(name, sd, row.text("score", "")))
    return tuple(result)


def read_pair(row: Table, known: Collection[str], what: str, seen: set[frozenset[str]]) -> Pair:
    """Read ``between``: two names, no pair of them twice."""
    first, second = row.texts("between", length=2)
    for name in (first, second):
        if name not in known:
            refuse(row, "between", f"'{name}' {what}", allowed=", ".join(known))
    if first == second or {first, second} in seen:
        twice = "is one name twice" if first == second else "is there twice"
        refuse(row, "between", f"'{first}' and '{second}' {twice}", remedy="keep each pair once")
    seen.add(frozenset((first, second)))
    return first, second


def read_correlations(
    table: Table, iiv: Iterable[Variability]
) -> tuple[tuple[str, str, float], ...]:
    """Read [[correlation]] rows: correlations of normal scores."""
    names = [spread.parameter for spread in iiv]
    result, seen, matrix = [], set(), np.eye(len(names))
    for row in table.tables("correlation", ()):
        pair = read_pair(row, names, "has no variability, [iiv.*], on this card", seen)
        result.append((*pair, row.number("value", minimum=-0.999, maximum=0.999)))
        i, j = map(names.index, pair)
        matrix[i, j] = matrix[j, i] = result[-1][2]
        row.text("source")
    if result and np.linalg.eigvalsh(matrix)[0] <= 0.0:
        what = "the correlations contradict each other (the matrix is not positive definite)"
        refuse(table, "correlation", what, remedy="make them smaller")
    return tuple(result)
