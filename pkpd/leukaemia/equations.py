"""Equations of the joint model, as mathematics: for reading, and for reference solutions.

All pools of normal cells are scaled to 1 in health and the unit of time is the day.
`pkpd.marrow.leukaemic` carries out the same equations for many patients; tests hold the two
together.

The terms and where they come from::

    G   = (1 + g N0)/(1 + g N) (1 + (gx - 1) on)      G-CSF in balance (Quartino 2014); g = kANC/ke
    h   = ((a + 1)/(a + P/P0))^gamma_platelet         thrombopoietin in balance
    B   = 1/(1 + b L)                                 reversible block of differentiation
    dS  = rho S (1 - S/K - c L) - (kill + injury) S + reserve max(1 - S/K - c L, 0)
    dC  = k S B G^gamma (1 - E) - (k G^beta + q kill) C               committed neutrophils
    dTi = k G^beta (T(i-1) - Ti),  i = 1..3,  T0 = C                  maturation (Friberg 2002)
    dN  = k_circ (G^beta T3 - N)
    dSm = as dS, with a rate of its own;  dM0, dM1, dM2 as the chain above, without G
    dP  = P0 loss(P0) M2 - loss(P) P,  loss(P) = ageing + fixed/(P + 5)    Hanson, Slichter 1985
    dL  = growth L (1 - L) - kill L                                   blasts (logistic; Jost 2020)
    dJ1 = injury dose - kJ J1,  dJi = kJ (J(i-1) - Ji),  injury = loss J5
    dX  = - k_X X,  and + increment on mornings with P + X below the trigger   transfused platelets

Kill by chemotherapy is a rate ``ln-kill of the course x share of the day``; by clofarabine
``max TP^n / (EC50^n + TP^n)`` of its intracellular triphosphate; lenalidomide slows the step into
the chains by ``E``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.errors import PkpdError, sentence
from pkpd.marrow.variants import Variant

Floats = NDArray[np.float64]

STATES = (
    "stem", "stem_platelet", "injury_1", "injury_2",
    "committed", "transit_1", "transit_2", "transit_3", "neutrophils",
    "megakaryocyte_0", "megakaryocyte_1", "megakaryocyte_2", "platelets",
    "blasts", "transfused", "clofarabine", "triphosphate", "pegfilgrastim",
    "lenalidomide_gut", "lenalidomide", "hazard",
    "injury_3", "injury_4", "injury_5",
)  # fmt: skip
"""States; counts relative to N0 and P0, transfused platelets in 10^9/L, drugs in umol/L."""

PARAMETERS = (
    "rho", "rho_platelet", "capacity", "capacity_platelet", "crowding", "block", "reserve",
    "k_neutrophil", "k_circulation", "neutrophils_normal", "gamma", "beta", "clearance_ratio",
    "k_platelet", "platelets_normal", "gamma_platelet", "tpo_saturation",
    "platelet_ageing", "platelet_fixed_loss", "self_renewal",
    "kill_stem", "kill_stem_platelet", "committed_neutrophil", "committed_platelet", "kill_blasts",
    "tp_per_dose", "k_tp_in", "k_tp", "clo_max_stem", "clo_ec50_stem",
    "clo_max_committed", "clo_ec50_committed", "clo_platelet_ratio", "clo_max_blasts", "clo_hill",
    "len_per_mg", "len_ka", "len_ke", "len_emax", "len_ec50_neutrophil", "len_ec50_platelet",
    "len_kill_stem", "len_kill_blasts",
    "injury_rate", "injury_loss", "growth", "blood_per_blast", "leukaemic_neutrophils",
    "neutrophil_share", "other_cells", "filgrastim", "peg_loss_own", "peg_loss_neutrophil",
    "increment", "transfused_loss", "hazard_base", "hazard_neutropenia", "hazard_blasts",
    "stem_start", "stem_platelet_start", "blasts_start",
)  # fmt: skip
"""Parameters of one patient; rates per day, counts 10^9/L, concentrations umol/L."""

CHANNELS = ("stem", "committed", "blasts", "injury", "stem_platelet", "committed_platelet")
"""What a day of chemotherapy does, as rates of intensity per day (1 is one course of 7+3)."""

HAZARD_COUNT = 0.1
"""Neutrophils (10^9/L) at which the hazard of deep neutropenia is half of its largest."""

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Calendar:
    """What is given on each of D days; column 0 is protocol day 1.

    Attributes
    ----------
    chemotherapy : float[D, 6]
        Intensity rates by `CHANNELS`.
    clofarabine, lenalidomide, pegfilgrastim : float[D]
        mg/m^2 into a vein (or the equal of it), mg by mouth, doses, at the start of the day.
    filgrastim : float[D]
        1 on days with filgrastim.
    """

    chemotherapy: Floats
    clofarabine: Floats
    lenalidomide: Floats
    filgrastim: Floats
    pegfilgrastim: Floats

    @classmethod
    def empty(cls, days: int) -> Calendar:
        """Nothing on any day."""
        return cls(np.zeros((days, len(CHANNELS))), *(np.zeros(days) for _ in range(4)))


def platelet_loss(p: Parameters, count: Any) -> Any:
    """Loss rate of own platelets per day at a count in 10^9/L."""
    return p["platelet_ageing"] + p["platelet_fixed_loss"] / (count + 5.0)


def growth_factor(p: Parameters, neutrophils: Any, on: Any, variant: Variant) -> tuple[Any, Any]:
    """Factors on the step into the chain and on its transit, at relative neutrophils."""
    given = 1.0 + (p["filgrastim"] - 1.0) * on
    if variant.growth_factor == "off":
        return given ** p["gamma"], 1.0 + 0.0 * given
    if variant.growth_factor == "count":
        return (given / np.maximum(neutrophils, 1e-12)) ** p["gamma"], 1.0 + 0.0 * given
    g = p["clearance_ratio"] * p["neutrophils_normal"]
    level = (1.0 + g) / (1.0 + g * neutrophils) * given
    return level ** p["gamma"], level ** p["beta"]


def steady_counts(
    p: Parameters, stem: Floats, stem_platelet: Floats, block: Floats, variant: Variant
) -> tuple[Floats, Floats]:
    """Relative neutrophils and platelets in balance with the early pools, without drug.

    Parameters
    ----------
    p
        Parameters, arrays ``[L]``.
    stem, stem_platelet, block
        Early pools, and the factor B.
    variant
        Rules of the growth factor.

    Returns
    -------
    tuple of ndarray
        ``[L]`` each. Both balances have one solution, since production falls and loss rises with
        the count; it is found by Newton's method on the logarithm.
    """
    normal = p["platelets_normal"]
    a, gamma = p["tpo_saturation"], p["gamma_platelet"]
    fixed = p["platelet_fixed_loss"]
    at_normal = platelet_loss(p, normal)
    clearance = p["clearance_ratio"] * p["neutrophils_normal"]
    level = np.log1p(clearance)
    made_n = np.log(stem * block)
    made_p = np.log(stem_platelet * block * at_normal) + gamma * np.log(a + 1.0)

    def neutrophil_gap(u: Floats) -> tuple[Floats, Floats]:
        # production is that of `growth_factor`, in logarithms
        if variant.growth_factor == "off":
            return made_n - u, np.full(u.shape, -1.0)
        if variant.growth_factor == "count":
            least = np.log(1e-12)
            return made_n - p["gamma"] * np.maximum(u, least) - u, -1.0 - p["gamma"]
        g = clearance * np.exp(u)
        made = made_n + p["gamma"] * (level - np.log1p(g))
        return made - u, -1.0 - p["gamma"] * (g / (1.0 + g))

    def platelet_gap(u: Floats) -> tuple[Floats, Floats]:
        x = np.exp(u)
        count = x * normal
        loss = platelet_loss(p, count)
        steep = -fixed * count / (count + 5.0) ** 2 / loss
        made = made_p - gamma * np.log(a + x)
        return made - np.log(loss) - u, -1.0 - steep - gamma * x / (a + x)

    return _newton(neutrophil_gap, np.log(stem)), _newton(platelet_gap, np.log(stem_platelet))


def _newton(gap: Callable[[Floats], tuple[Floats, Floats]], start: Floats) -> Floats:
    """Root in logarithms of a falling function of known slope, as a number.

    The slope lies between -2.5 and -0.05 here and changes slowly, so that a dozen steps suffice.
    """
    u = np.array(start)
    for _ in range(14):
        value, slope = gap(u)
        step = np.clip(value / slope, -2.0, 2.0)
        u = u - step
        if np.max(np.abs(step), initial=0.0) < 1e-12:
            break
    return np.exp(u)


def initial_state(p: Parameters, variant: Variant) -> Floats:
    """State ``[states, L]`` before any drug: chains in balance with the early pools.

    The early pools and the blasts start where the parameters say; they need not be in balance, as
    a leukaemia at diagnosis is not.
    """
    one = np.ones_like(np.asarray(p["stem_start"], dtype=np.float64))
    stem, stem_platelet = one * p["stem_start"], one * p["stem_platelet_start"]
    blasts = one * p["blasts_start"]
    block = 1.0 / (1.0 + p["block"] * blasts)
    neutrophils, platelets = steady_counts(p, stem, stem_platelet, block, variant)
    transit = neutrophils / growth_factor(p, neutrophils, 0.0, variant)[1]
    if variant.proliferation == "self_renewing":
        neutrophils = transit = stem
    y = np.zeros((len(STATES), *one.shape))
    y[0], y[1] = stem, stem_platelet
    y[4:8] = transit
    y[8] = neutrophils
    loss = platelet_loss(p, platelets * p["platelets_normal"])
    y[9:12] = loss * platelets / platelet_loss(p, p["platelets_normal"])
    y[12] = platelets
    y[13] = blasts
    return y


def derivative(
    y: Floats, p: Parameters, today: Mapping[str, Floats | float], variant: Variant
) -> Floats:
    """Time derivative per day of the state of one patient, or of patients ``[states, L]``.

    Parameters
    ----------
    y
        State in the order of `STATES`.
    p
        Parameters by name.
    today
        ``chemotherapy`` (intensity rates by `CHANNELS`), ``filgrastim`` (1 if given), and
        ``lenalidomide`` (mean concentration of the day, umol/L).
    variant
        Mechanisms that are on.
    """
    (stem, stem_platelet, injury_1, injury_2, committed, t1, t2, t3, neutrophils,
     m0, m1, m2, platelets, blasts, transfused, clo, tp, peg, gut, central, _,
     injury_3, injury_4, injury_5) = y  # fmt: skip
    chemo = today["chemotherapy"]
    assert isinstance(chemo, np.ndarray)
    on = np.maximum(today["filgrastim"], peg / (peg + 0.1))
    g_in, g_out = growth_factor(p, neutrophils, on, variant)
    count = platelets * p["platelets_normal"]
    a = p["tpo_saturation"]
    thrombopoietin = ((a + 1.0) / (a + platelets)) ** p["gamma_platelet"]
    block = 1.0 / (1.0 + p["block"] * blasts)

    level = central if variant.exposure == "oral" else today["lenalidomide"]
    effects, rest, excess = [], [], []
    for ec50 in (p["len_ec50_neutrophil"], p["len_ec50_platelet"]):
        if variant.effect == "emax":
            effect = p["len_emax"] * level / (ec50 + level)
        else:
            effect = level / ec50
        effects.append(effect)
        rest.append(np.maximum(1.0 - effect, 0.0))
        excess.append(
            0.0 if variant.effect_above_one == "capped" else np.maximum(effect - 1.0, 0.0)
        )
    kept = variant.effect_above_one == "kept"

    power = np.maximum(tp, 0.0) ** p["clo_hill"]
    dividing = power / (p["clo_ec50_stem"] ** p["clo_hill"] + power)
    clo_stem = p["clo_max_stem"] * dividing
    clo_committed = (
        p["clo_max_committed"] * power / (p["clo_ec50_committed"] ** p["clo_hill"] + power)
    )
    spared = np.minimum(effects[0], 1.0)
    other_loss = p["len_kill_stem"] * spared + p["injury_loss"] * injury_5 + clo_stem
    kill_stem = p["kill_stem"] * chemo[0] + other_loss
    kill_stem_platelet = p["kill_stem_platelet"] * chemo[4] + other_loss
    kill_committed = p["committed_neutrophil"] * p["kill_stem"] * chemo[1] + clo_committed
    kill_m0 = (
        p["committed_platelet"] * p["kill_stem"] * chemo[5]
        + p["clo_platelet_ratio"] * clo_committed
    )
    kill_blasts = (
        p["kill_blasts"] * chemo[2] + p["clo_max_blasts"] * dividing + p["len_kill_blasts"] * spared
    )

    room = 1.0 - p["crowding"] * blasts
    free = room - stem / p["capacity"]
    free_platelet = room - stem_platelet / p["capacity_platelet"]
    k, km, kc = p["k_neutrophil"], p["k_platelet"], p["k_circulation"]
    mix = p["self_renewal"]
    source = (1.0 - mix) * stem + mix * committed
    at_normal = platelet_loss(p, p["platelets_normal"])
    anc = neutrophils * p["neutrophils_normal"]
    return np.array(
        [
            p["rho"] * stem * free - kill_stem * stem + p["reserve"] * np.maximum(free, 0.0),
            p["rho_platelet"] * stem_platelet * free_platelet
            - kill_stem_platelet * stem_platelet
            + p["reserve"] * np.maximum(free_platelet, 0.0),
            chemo[3] - p["injury_rate"] * injury_1,
            p["injury_rate"] * (injury_1 - injury_2),
            k * source * block * g_in * rest[0]
            - (k * g_out + kill_committed + k * excess[0] * (g_in if kept else 1.0)) * committed,
            k * g_out * (committed - t1),
            k * g_out * (t1 - t2),
            k * g_out * (t2 - t3),
            kc * (g_out * t3 - neutrophils),
            km * stem_platelet * block * thrombopoietin * rest[1]
            - (km + kill_m0 + km * excess[1] * (thrombopoietin if kept else 1.0)) * m0,
            km * (m0 - m1),
            km * (m1 - m2),
            at_normal * m2 - platelet_loss(p, count) * platelets,
            p["growth"] * blasts * (1.0 - blasts) - kill_blasts * blasts,
            -p["transfused_loss"] * transfused,
            -p["k_tp_in"] * clo,
            p["k_tp_in"] * clo - p["k_tp"] * tp,
            -(p["peg_loss_own"] + p["peg_loss_neutrophil"] * neutrophils) * peg,
            -p["len_ka"] * gut,
            p["len_ka"] * gut - p["len_ke"] * central,
            p["hazard_base"]
            + p["hazard_neutropenia"] / (1.0 + (anc / HAZARD_COUNT) ** 2)
            + p["hazard_blasts"] * np.minimum(blasts / 0.3, 2.0),
            p["injury_rate"] * (injury_2 - injury_3),
            p["injury_rate"] * (injury_3 - injury_4),
            p["injury_rate"] * (injury_4 - injury_5),
        ]
    )


def observed_counts(y: Floats, p: Parameters) -> dict[str, Floats]:
    """Return the counts a laboratory reports, from states ``[states, ...]``; 10^9/L, percent."""
    y = np.asarray(y)
    leukaemic = p["blood_per_blast"] * y[13] ** 2  # a full marrow lets more of its blasts go
    own = y[8] * p["neutrophils_normal"]
    cells = 0.25 * (y[4] + y[5] + y[6] + y[7]) + p["other_cells"]
    platelets = y[12] * p["platelets_normal"]
    return {
        "neutrophils": own + p["leukaemic_neutrophils"] * leukaemic,
        "platelets": platelets,
        "platelets_with_transfused": platelets + y[14],
        "wbc": own / p["neutrophil_share"] + leukaemic,
        "marrow_blasts": 100.0 * y[13] / (y[13] + cells),
        "blood_blasts": leukaemic * (1.0 - p["leukaemic_neutrophils"]),
        "marrow_cells": y[13] + cells - p["other_cells"],
        "cumulative_hazard": y[20],
    }


def reference_course(
    p: Mapping[str, float],
    calendar: Calendar,
    variant: Variant,
    *,
    transfuse_below: float = 10.0,
    rtol: float = 1e-10,
    atol: float = 1e-14,
) -> dict[str, Floats]:
    """Solve for the counts of one patient on the morning of every day, to a tight tolerance.

    Parameters
    ----------
    p
        Parameters of one patient (`PARAMETERS`).
    calendar
        What is given.
    variant
        Mechanisms that are on.
    transfuse_below
        Trigger of platelet transfusions, 10^9/L.
    rtol, atol
        Tolerances of DOP853.

    Returns
    -------
    dict of ndarray
        As `observed_counts`, each ``[D]``.
    """
    from scipy.integrate import solve_ivp

    missing = [name for name in PARAMETERS if name not in p]
    if missing:
        msg = sentence(
            where="reference course", what=f"no value for {', '.join(missing)}", remedy="add it"
        )
        raise PkpdError(msg)
    y = initial_state({k: np.float64(v) for k, v in p.items()}, variant)
    mornings = []
    for day in range(calendar.clofarabine.size):
        mornings.append(y.copy())
        if y[12] * p["platelets_normal"] + y[14] < transfuse_below:
            y[14] += p["increment"]
        y[15] += p["tp_per_dose"] * calendar.clofarabine[day]
        y[17] += calendar.pegfilgrastim[day]
        y[18] += p["len_per_mg"] * p["len_ke"] * calendar.lenalidomide[day]
        today = {
            "chemotherapy": calendar.chemotherapy[day],
            "filgrastim": calendar.filgrastim[day],
            "lenalidomide": p["len_per_mg"] * calendar.lenalidomide[day],
        }
        y = solve_ivp(
            lambda _, x, today=today: derivative(x, p, today, variant),
            (0.0, 1.0),
            y,
            method="DOP853",
            rtol=rtol,
            atol=atol,
        ).y[:, -1]
    return observed_counts(np.array(mornings).T, p)
