"""Units of pk, effect and marrow cards: what a structure computes with, and what relations make.

A value is converted to the internal unit of its dimension. A number in another dimension than a
structure needs would be taken as it is, and one per year, kg or mg/dL would be rescaled while the
covariate stays in year, kg or mg/dL: both are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pkpd.body import COVARIATE_KINDS
from pkpd.cards.relations import Individual, RelationTerm, refuse
from pkpd.cards.tables import Table
from pkpd.units import INTERNAL_UNITS, Parameter, factor_between

_NEEDED = {
    **dict.fromkeys(("CL", "Q"), "L/h"),
    **dict.fromkeys(("V1", "V2"), "L"),
    **dict.fromkeys(("ka", "KTR", "k_in", "k_out", "k_circ", "ks", "ke"), "1/h"),
    **dict.fromkeys(("gamma", "ftr", "beta"), "1"),
    **dict.fromkeys(("normal", "normal_upper", "circ0"), "10^9/L"),
    "Vmax": "mg/h",
    "Km": "mg/L",
    "MTT": "h",
    "k_anc": "1/h/(10^9/L)",
    "g0": "mg/L",
}
"""Individual parameter -> unit that the structures compute with."""
_NEEDED_BY_START = {"slope": "L/umol", "EC50_": "umol/L", "Emax_": "1", "ln_kill_": "1"}

_COVARIATES = {name: INTERNAL_UNITS[kind] for name, kind in COVARIATE_KINDS.items()}
_COVARIATES["scr_umol_L"] = INTERNAL_UNITS["molar concentration"]
"""Covariate -> unit it is kept in."""
_CLEARANCE = "mL/min"  # of creatinine: `pkpd.cards.relations.as_used` looks at it


def check_units(
    table: Table, parameters: Iterable[Parameter], individuals: Iterable[Individual]
) -> None:
    """Refuse units that a structure or a relation cannot mean.

    Parameters
    ----------
    table
        The card.
    parameters, individuals
        As they are used.

    Raises
    ------
    CardError
        Naming parameter, unit, and the unit that is needed.
    """
    units = {p.name: p.unit for p in parameters}
    for name, unit in units.items():
        if unit == "%":
            remedy = "write the number divided by 100, and the unit 1"
            refuse(table, f"parameters.{name}", "is in percent", remedy=remedy)
    every = tuple(individuals)
    known = {**_COVARIATES, **units, **{f"individual.{one.name}": one.unit for one in every}}
    for one in every:
        needed = needed_unit(one.name)
        if needed and one.unit != needed:
            place = "individual" if one.name in table.data.get("individual", {}) else "parameters"
            refuse(
                table,
                f"{place}.{one.name}.unit",
                f"is in {one.unit}, and the structure computes with {needed}",
                remedy=f"convert it (with the molar mass), or make it of others in [individual."
                f"{one.name}], such as a value per m^2 times bsa",
            )
        for term in one.terms:
            _check_term(table, one, term, known)
        for effect in one.effects:
            exponent = effect.exponent if isinstance(effect.exponent, str) else ""
            for name in filter(None, (effect.parameter, exponent)):
                if units.get(name, "1") != "1":
                    refuse(
                        table,
                        f"parameters.{name}.unit",
                        f"is in {units[name]} inside, and changes {one.name} as a number",
                        allowed='unit = "1"',
                        remedy=f"give it per {_COVARIATES.get(effect.covariate, 'unit')} of "
                        f"{effect.covariate or 'the covariate'}, with the unit 1",
                    )


def needed_unit(name: str) -> str:
    """Give the unit in which structures compute with an individual parameter; empty for any."""
    starts = (unit for start, unit in _NEEDED_BY_START.items() if name.startswith(start))
    return _NEEDED.get(name) or next(starts, "")


def _check_term(
    table: Table, one: Individual, term: RelationTerm, known: Mapping[str, str]
) -> None:
    """Refuse a product of another unit than that of what it makes."""
    times = [name for name in (term.parameter, *term.times) if name]
    names = [name for name in (*times, *term.divided_by) if not name.startswith("population.")]
    if any(known.get(name, _CLEARANCE) == _CLEARANCE for name in names):
        return
    up, down = ([known[name] for name in of if name in names] for of in (times, term.divided_by))
    factor = factor_between(up, down, one.unit)
    if factor is not None and (math.isclose(factor, 1.0) or math.isclose(factor, term.number)):
        return
    if not names:  # a number of its own
        return
    product = " x ".join(up or ["1"]) + "".join(f" / ({unit})" for unit in down)
    refuse(
        table,
        f"individual.{one.name}.terms",
        f"a term is in {product}, and {one.name} is in {one.unit}",
        remedy="correct the unit of a parameter, or its covariates",
    )
