"""Body size and renal function from weight, height, age, sex and creatinine."""

from __future__ import annotations

from typing import Any

import numpy as np

#: mg/dL of creatinine -> umol/L (molar mass 113.12 g/mol).
CREATININE_UMOL_PER_MG_DL = 88.4


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
