"""Bodies: what is possible; size and renal function from weight, height, age, sex, creatinine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from pkpd.arguments import MAPPING, check_arguments
from pkpd.arrays import Floats
from pkpd.errors import DataError

#: mg/dL of creatinine -> umol/L (molar mass 113.12 g/mol).
CREATININE_UMOL_PER_MG_DL = 88.4

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

#: Covariate -> its dimension, a key of `pkpd.units.INTERNAL_UNITS`, in whose unit it is kept.
COVARIATE_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "age": "age",
        "weight": "weight",
        "ffm": "weight",
        "height": "height",
        "bsa": "area",
        "bmi": "body mass index",
        "scr": "creatinine",
        "crcl": "creatinine clearance",
        **dict.fromkeys(("anc", "plt", "wbc"), "count"),
        **dict.fromkeys(("bm_blasts_pct", "pb_blasts_pct"), "percent"),
    }
)


def body_surface_area_mosteller(weight: Any, height: Any) -> Any:
    """Body surface area in m^2, ``sqrt(height weight / 3600)`` (Mosteller, NEJM 1987;317:1098).

    Parameters
    ----------
    weight, height
        In kg and cm.
    """
    return np.sqrt(np.asarray(height) * weight / 3600.0)


def body_surface_area_du_bois(weight: Any, height: Any) -> Any:
    """Body surface area in m^2, ``0.007184 W^0.425 H^0.725`` (Du Bois, 1916), kg and cm."""
    return 0.007184 * np.asarray(weight) ** 0.425 * np.asarray(height) ** 0.725


def body_mass_index(weight: Any, height: Any) -> Any:
    """Body mass index in kg/m^2, from kg and cm."""
    return np.asarray(weight) / (np.asarray(height) / 100.0) ** 2


def fat_free_mass_janmahasatian(weight: Any, height: Any, male: Any) -> Any:
    """Fat-free mass in kg (Janmahasatian et al., Clin Pharmacokinet 2005;44:1051).

    Men 9270 W / (6680 + 216 BMI), women 9270 W / (8780 + 244 BMI).

    Parameters
    ----------
    weight, height
        In kg and cm.
    male
        1 for men, 0 for women.
    """
    bmi = body_mass_index(weight, height)
    denominator = np.where(np.asarray(male) > 0.5, 6680.0 + 216.0 * bmi, 8780.0 + 244.0 * bmi)
    return 9270.0 * np.asarray(weight) / denominator


def creatinine_clearance_cockcroft_gault(age: Any, weight: Any, scr: Any, male: Any) -> Any:
    """Creatinine clearance in mL/min (Cockcroft and Gault, Nephron 1976;16:31).

    ``(140 - age) W / (72 Scr)``, times 0.85 for women.

    Parameters
    ----------
    age, weight
        In years and kg.
    scr
        Serum creatinine in mg/dL.
    male
        1 for men, 0 for women.
    """
    sex = np.where(np.asarray(male) > 0.5, 1.0, 0.85)
    return (140.0 - np.asarray(age)) * weight / (72.0 * np.asarray(scr)) * sex


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
    check_arguments("patients", covariates=(covariates, MAPPING))
    formulas = {
        "mosteller": body_surface_area_mosteller,
        "du_bois": body_surface_area_du_bois,
    }
    if bsa_formula not in formulas:
        _refuse("bsa_formula", f"'{bsa_formula}' is not known", ", ".join(formulas))
    arrays = {name: np.atleast_1d(_numbers(name, v)) for name, v in covariates.items()}
    for needed in ("age", "male", "weight", "height"):
        if needed not in arrays:
            _refuse("patients", f"'{needed}' is missing", remedy="give it")
    if "scr" not in arrays and "crcl" not in arrays:
        _refuse("patients", "neither 'scr' nor 'crcl' is given", remedy="give one of them")
    n = max(v.size for v in arrays.values())
    for name, values in arrays.items():
        if values.shape not in ((1,), (n,)):
            what = f"{values.size} values for {n} patients"
            _refuse(f"patients, {name}", what, "one number, or one for each patient", "correct it")
    arrays = {name: np.broadcast_to(v, (n,)).copy() for name, v in arrays.items()}
    age, male, weight, height = (arrays[k] for k in ("age", "male", "weight", "height"))
    check_possible(arrays)
    for name in ("bsa", "bmi", "ffm", "scr_umol_L"):
        bad = np.flatnonzero(~((arrays.get(name, 1.0) > 0.0) & np.isfinite(arrays.get(name, 1.0))))
        if bad.size:
            what = f"{name} = {arrays[name][bad[0]]:g} is impossible"
            _refuse(f"patient {bad[0] + 1}", what, "more than 0", "correct it, or leave it out")
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


def check_possible(covariates: Mapping[str, Floats], where: str | None = None) -> None:
    """Refuse values no patient can have.

    Parameters
    ----------
    covariates
        Values by name, float[n].
    where
        Place of the values; by default the patient, counted from 1.

    Raises
    ------
    DataError
        Naming place, covariate, value and limits.
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
            _refuse(where or f"patient {row + 1}", what, f"{low:g} to {high:g} {unit}", remedy)


def _numbers(name: str, values: Any) -> Floats:
    """Values of a covariate as numbers."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        what = f"{values!r:.60} is no number"
        _refuse(f"patients, {name}", what, "one number, or one for each patient", "correct it")


def _refuse(
    where: str, what: str, allowed: str | None = None, remedy: str | None = None
) -> NoReturn:
    raise DataError(where=where, what=what, allowed=allowed, remedy=remedy)
