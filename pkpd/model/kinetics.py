"""Kinetics of the drugs of a schedule in given patients: structures, parameters, occasions.

The one place that turns cards of drugs and covariates of patients into what a driver reads: a
linear compartmental model for each drug, and one row of numbers for each of its parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.kinetics.linear import LinearPK
from pkpd.kinetics.saturable import SaturableIV
from pkpd.model.individuals import occasion_factors, occasion_scores
from pkpd.model.joint import DrugModel, JointModel
from pkpd.schedule import Slot
from pkpd.subjects import PatientSample

Structure = LinearPK | SaturableIV

MOST_OCCASIONS = 40
"""Dosing days with an occasion deviation of their own; later ones repeat the last."""

OF_THE_SITE = ("k_in", "k_out")
"""Kinetic parameters that stand on the effect card."""

_LN2 = float(np.log(2.0))


def linear_kinetics(drug: DrugModel, effect_site: bool, by_mouth: bool = False) -> LinearPK:
    """Linear compartmental model of a drug.

    Parameters
    ----------
    drug
        Its cards.
    effect_site
        Whether the driver is the concentration at the effect site.
    by_mouth
        Whether a drug whose kinetics are those of a vein is swallowed: first-order absorption.

    Raises
    ------
    PkpdError
        If the elimination is saturable, or there is no absorption by mouth.
    """
    route, *_, last = drug.pk.structure.split("_")
    if last != f"{last[0]}cmt":
        raise PkpdError(
            where=f"drug {drug.name}",
            what=f"the kinetics '{drug.pk.structure}' are not linear",
            remedy="name another pk card",
        )
    if effect_site and not {i.name for i in drug.effect.individuals} >= set(OF_THE_SITE):
        raise PkpdError(
            where=f"drug {drug.name}",
            what=f"its effect card {drug.effect.name} has no {' and '.join(OF_THE_SITE)}",
            remedy='name an effect card with a triphosphate, or write driver = "plasma"',
        )
    absorption = None if route == "iv" else drug.transits
    if by_mouth and absorption is None:
        if drug.card.by_mouth is None:
            raise PkpdError(
                where=f"dose of {drug.name}",
                what="its card does not say what becomes of a dose by mouth",
                remedy="add a table [by_mouth] to the drug card",
            )
        absorption = 0
    return LinearPK(absorption, int(last[0]), effect_site=effect_site, unit="umol/L")


def swallowed(drug: DrugModel, slots: Iterable[Slot]) -> bool:
    """Whether the doses of a drug are by mouth.

    Raises
    ------
    PkpdError
        If there is no model for a route, or doses by different routes cannot be told apart.
    """
    routes = {slot.route for slot in slots if slot.drug == drug.name}
    for route in sorted(routes):
        if route not in drug.card.routes:
            raise PkpdError(
                where=f"dose of {drug.name}",
                what=f"there is no model for route {route!r}",
                allowed=", ".join(drug.card.routes),
            )
    if "iv" in routes and drug.pk.structure.startswith("oral_"):
        raise PkpdError(
            where=f"dose of {drug.name}",
            what=f"kinetics '{drug.pk.structure}' absorb every dose, and an infusion is absorbed "
            "at once",
            remedy="name a pk card of a vein for doses by route 'iv'",
        )
    if "oral" in routes and len(routes) > 1:
        raise PkpdError(
            where=f"drug {drug.name}",
            what=f"doses by {' and '.join(sorted(routes))} in one regimen",
            allowed="one route for all doses of a drug",
        )
    return "oral" in routes


@dataclass(frozen=True)
class Kinetics:
    """Kinetic parameters of N patients under M draws.

    Attributes
    ----------
    values
        Drug and parameter -> ``[M, N]``; ``F`` is the bioavailability.
    occasion
        Drug and parameter -> factors ``[M, O, N]`` by dosing day.
    """

    values: Mapping[tuple[str, str], Floats]
    occasion: Mapping[tuple[str, str], Floats]


def occasions_of(
    model: JointModel,
    structures: Mapping[str, Structure],
    sample: PatientSample,
    dosing_days: Mapping[str, int],
) -> dict[str, Floats]:
    """Draw normal scores of the kinetics that change from dosing day to dosing day.

    Parameters
    ----------
    model
        Has the drugs.
    structures
        Of each drug.
    sample
        The patients.
    dosing_days
        Most dosing days of each drug.

    Returns
    -------
    dict
        Namespaced parameter -> ``[O, N]``, a row for each dosing day up to `MOST_OCCASIONS`.
    """
    varying = [
        (name, spread.parameter)
        for name, pk in structures.items()
        for spread in model.drug(name).pk.iov
        if spread.parameter in pk.parameters and dosing_days.get(name, 0) > 0
    ]
    most = min(max((dosing_days[name] for name, _ in varying), default=0), MOST_OCCASIONS)
    if not most:
        return {}
    scores = occasion_scores(model, sample, most)
    names = [f"{name}.{parameter}" for name, parameter in varying]
    return {name: scores[name] for name in names if name in scores}


def kinetics_of(
    model: JointModel,
    structures: Mapping[str, Structure],
    found: Mapping[str, Any],
    typical: Mapping[str, Floats],
    occasions: Mapping[str, Floats],
) -> Kinetics:
    """Kinetic parameters of patients.

    Parameters
    ----------
    model
        Has the drugs.
    structures
        Of each drug, from `linear_kinetics`, or saturable.
    found
        Individual parameters, ``[M, N]`` (`pkpd.model.individuals.individual_parameters`).
    typical
        Namespaced parameter -> float[M] (`pkpd.model.parameters`).
    occasions
        From `occasions_of`.
    """
    values: dict[tuple[str, str], Floats] = {}
    shape = np.shape(next(iter(found.values()))) if found else (1, 1)
    for name, pk in structures.items():
        drug = model.drug(name)
        for parameter in pk.parameters:
            if parameter == "per_umol":
                value = np.full(shape, drug.per_umol)
            elif parameter == "ka" and f"{name}.ka" not in found:
                assert drug.card.by_mouth is not None
                value = np.full(shape, _LN2 / drug.card.by_mouth.absorption_half_life.value)
            else:
                site = "effect." if parameter in OF_THE_SITE else ""
                value = np.asarray(found[f"{name}.{site}{parameter}"])
            values[name, parameter] = value
        values[name, "F"] = np.full(shape, _bioavailability(drug, pk))
    factors = occasion_factors(typical, occasions, np) if occasions else {}
    occasion = {_drug_and_parameter(full): np.asarray(f) for full, f in factors.items()}
    return Kinetics(values, occasion)


def _bioavailability(drug: DrugModel, pk: Structure) -> float:
    """Share of a dose that arrives, where it is swallowed and the kinetics are those of a vein."""
    swallowed_ = isinstance(pk, LinearPK) and pk.absorption is not None
    if not (swallowed_ and drug.pk.structure.startswith("iv_")):
        return 1.0
    assert drug.card.by_mouth is not None
    return drug.card.by_mouth.bioavailability.value


def _drug_and_parameter(name: str) -> tuple[str, str]:
    drug, parameter = name.rsplit(".", 1)
    return drug, parameter
