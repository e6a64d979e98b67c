"""Simulated profiles of the model library, as SVG.

Kinetics: one usual dose in one adult, whose covariates are below. Counts: patients in remission
of leukaemia, whose marrow is their own, under one course in the marrow with leukaemia. Marrow
lines: the count while a drug stops all division for four days.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.integrate import solve_ivp

import pkpd
from pkpd.cards.drug_cards import BY_LEVEL, INTENSITY, NOTHING, DrugCard
from pkpd.cards.model_cards import ModelCard
from pkpd.marrow.lines import line_of_card
from pkpd.model.individuals import individual_parameters
from pkpd.model.joint import load_model
from pkpd.models import compartments, michaelis_menten, typical
from pkpd.schedule import Regimen
from pkpd.subjects import patients

mpl.use("Agg")

ADULT = {"age": 60, "male": 1, "weight": 75, "height": 175, "scr": 0.9, "anc": 4.0, "plt": 230}
"""Covariates of the patient of the kinetic profiles; white cells 6.5."""

POPULATION = "aml_in_remission"
PATIENTS = 200
UNTIL_DAY = 56
STOP_H = (0.0, 96.0)
"""Hours during which division stands still in the profile of a marrow line."""

_COLOURS = ("#1f5fa6", "#c05a17", "#2e7d4f", "#7b4fa3")
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "pkpd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def concentration(drug: DrugCard, pk: str, hours: np.ndarray) -> np.ndarray:
    """Concentrations (mg/L) after one usual dose in the adult of the profiles.

    Parameters
    ----------
    drug
        The drug's card.
    pk
        Name of the kinetics' card.
    hours
        Times after the start of the dose.
    """
    assert drug.usual_dose is not None
    model = load_model(drugs=[drug.name], replace={f"{drug.name}.pk": pk}, lines=False)
    person = patients({**ADULT, "wbc": 6.5}, typical=True)
    found = individual_parameters(model, typical(model), person)
    own = {k.removeprefix(f"{drug.name}."): float(np.ravel(v)[0]) for k, v in found.items()}
    size = {"mg": 1.0, "mg/m^2": person.covariates["bsa"][0], "mg/kg": ADULT["weight"]}
    amount = drug.usual_dose.value * float(size[drug.usual_dose.unit])
    structure, renamed = _structure(model.drug(drug.name).pk)
    route = model.drug(drug.name).pk.structure.split("_")[0]
    dose = {"ID": 1, "TIME": 0.0, "EVID": 1, "AMT": amount, "RATE": amount if route == "iv" else 0}
    rows = [dose, *({"ID": 1, "TIME": t, "EVID": 0, "DV": 1.0} for t in hours)]
    data = pkpd.read_nonmem(pd.DataFrame(rows).fillna({"AMT": 0.0, "RATE": 0.0}))
    bound = structure.bind(data)
    values = {name: own[renamed.get(name, name)] for name in bound.parameters}
    return np.asarray(bound(values))


def kinetic_profile(drug: DrugCard, cards: Sequence[str], file: Path) -> str:
    """Draw concentrations by each of a drug's kinetics; returns the words for the picture."""
    assert drug.usual_dose is not None
    hours = np.concatenate([np.linspace(0.05, 4, 60), np.linspace(4.1, 48, 120)])
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
        for colour, name in zip(_COLOURS, cards, strict=False):
            level = concentration(drug, name, hours)
            axis.semilogy(hours, np.maximum(level, level.max() * 1e-4), color=colour, label=name)
        axis.set(xlabel="hours after the start of the dose", ylabel="plasma, mg/L")
        if len(cards) > 1:
            axis.legend()
        _save(figure, file)
    return (
        f"Concentration in plasma after one usual dose ({drug.usual_dose.value:g} "
        f"{drug.usual_dose.unit}{', infused over an hour' if 'iv' in drug.routes[0] else ''}) "
        "in a man of 60 years, 75 kg and 175 cm with a creatinine of 0.9 mg/dL."
    )


def course_of(card: DrugCard) -> tuple[Regimen, str] | None:
    """Give the course of a drug's profile and its words; None where counts do not change."""
    action, usual = card.leukaemia, card.usual_dose
    if action is None or action.acts_by == NOTHING or usual is None:
        return None
    route = next(r for r in ("iv", "sc", "oral") if r in card.routes)
    days, amount, unit = 1, usual.value, usual.unit
    if action.acts_by == INTENSITY:
        reference = action.number("reference")
        assert reference is not None
        one = usual.value * {"mg": 1 / 1.8, "mg/m^2": 1.0, "mg/kg": 75 / 1.8}[usual.unit]
        days = min(max(1, math.ceil(reference.value / one - 0.01)), 21)
        amount, unit = reference.value / days, "mg/m^2"
    elif action.acts_by in BY_LEVEL:
        days = 5 if route == "iv" else 21
    elif action.acts_by == "growth_factor":
        days = 7
    given = f"{amount:.4g} {unit}"
    infused = {"duration": "1 h"} if route == "iv" else {}
    span = f"1-{days}" if days > 1 else "1"
    regimen = pkpd.daily(card.name, given, days=span, route=route, unusual_dose=True, **infused)
    return regimen, f"{given} {route} on day{'s' if days > 1 else ''} {span}"


def count_profile(card: DrugCard, file: Path) -> str | None:
    """Draw counts under a course of a drug; returns the words for the picture."""
    course = course_of(card)
    if course is None:
        return None
    regimen, words = course
    counts = pkpd.simulate(
        regimen, POPULATION, marrow="leukaemia", patients=PATIENTS, until_day=UNTIL_DAY,
        transfusion=None,
    )  # fmt: skip
    _draw_counts(counts, file)
    return (
        f"Neutrophils and platelets of {PATIENTS} adults in remission of acute myeloid leukaemia "
        f"(median, and 90 % of patients) under {words}, at the medians of the posterior."
    )


def leukaemia_profile(file: Path) -> str:
    """Draw counts and blasts under 7+3 in untreated leukaemia; returns the picture's words."""
    infused = {"route": "iv", "duration": "1 h"}
    both = pkpd.daily("cytarabine", "100 mg/m^2", days="1-7", **infused).together(
        pkpd.daily("daunorubicin", "60 mg/m^2", days="1-3", **infused)
    )
    counts = pkpd.simulate(
        both, "aml_untreated", marrow="leukaemia", patients=PATIENTS, until_day=UNTIL_DAY
    )
    _draw_counts(counts, file, blasts=True)
    return (
        f"Neutrophils, platelets and marrow blasts of {PATIENTS} adults with untreated acute "
        "myeloid leukaemia under 7+3 (median, and 90 % of patients), at the posterior's medians."
    )


def line_course(card: ModelCard, days: np.ndarray) -> np.ndarray:
    """Simulate counts of a marrow line (10^9/L) at days after division stands still."""
    line = line_of_card(card)
    p = line_parameters(card)
    start = np.asarray(line.initial(p), float)[:, 0]

    def slopes(t: float, y: np.ndarray) -> np.ndarray:
        effect = np.array([1.0 if STOP_H[0] <= t < STOP_H[1] else 0.0])
        return np.asarray(line.derivative(y[:, None], effect, 0.0, p), float)[:, 0]

    found = []
    for low, high in ((0.0, STOP_H[1]), (STOP_H[1], 24.0 * days[-1])):
        hours = 24.0 * days[(24.0 * days >= low) & (24.0 * days <= high)]
        asked = np.unique([*hours, high])
        done = solve_ivp(slopes, (low, high), start, t_eval=asked, method="LSODA", rtol=1e-7)
        found.append(pd.Series([_count(line, y, p) for y in done.y.T], index=asked))
        start = done.y[:, -1]
    both = pd.concat(found)
    return both[~both.index.duplicated()].reindex(24.0 * days).to_numpy()


def line_parameters(card: ModelCard) -> dict[str, np.ndarray]:
    """Typical parameters of a marrow card, at the normal count of a healthy adult."""
    rows = {p.name: p.value for p in card.parameters}
    values = dict(rows)
    for individual in card.individuals:
        total = 0.0
        for term in individual.terms:
            value = term.number * (rows[term.parameter] if term.parameter else 1.0)
            for name in term.times:
                value *= _value(name, values)
            for name in term.divided_by:
                value /= _value(name, values)
            total += value
        values[individual.name] = total
    normal = values["circ0"] if card.baseline == "circ0" else values["normal"]
    values |= {"baseline": normal, "set_point": normal}
    return {name: np.array([value]) for name, value in values.items()}


def line_profile(card: ModelCard, file: Path) -> str:
    """Draw a marrow line's profile; returns the words for the picture."""
    days = np.linspace(0.0, 60.0, 241)
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
        axis.axvspan(0, STOP_H[1] / 24.0, color="#d9d9d9", lw=0)
        axis.plot(days, line_course(card, days), color=_COLOURS[0])
        axis.set(xlabel="day", ylabel=f"{card.subject}, 10⁹/L", ylim=(0, None), xlim=(0, 60))
        _save(figure, file)
    return (
        f"{card.subject.capitalize()} of the typical patient while a drug stops all division for "
        "four days (grey, E = 1), and after it."
    )


def _value(name: str, values: Mapping[str, float]) -> float:
    """Find a number that a term names; what populations change is 1."""
    space, _, own = name.rpartition(".")
    return 1.0 if space == "population" else values[own]


def _structure(card: ModelCard) -> tuple[Any, dict[str, str]]:
    """Structure of a kinetics card for fits, and its names that are others on the card."""
    parts = card.structure.split("_")
    if "michaelis" in parts:
        return michaelis_menten(2), {}
    n = int(parts[-1][0])
    absorption = "none" if parts[0] == "iv" else "_".join(parts[1:-1])
    transits = int(dict(card.settings).get("transits", 0))
    if absorption == "transit":  # on cards the depot comes before the transits
        transits += 1
    names = {"ktr": "KTR"} | ({"V": "V1"} if n == 1 else {})
    return compartments(n, absorption=absorption, transits=transits), names


def _count(line: Any, y: np.ndarray, p: Mapping[str, np.ndarray]) -> float:
    return float(np.exp(np.ravel(line.log_count(y[:, None], p))[0]))


def _draw_counts(counts: Any, file: Path, blasts: bool = False) -> None:
    panels = [
        ("neutrophils, 10⁹/L", counts["count"].sel(line="neutrophils"), True),
        ("platelets, 10⁹/L", counts["count"].sel(line="platelets"), True),
    ]
    if blasts:
        panels.append(("marrow blasts, %", counts["marrow_blasts"], False))
    days = counts["time"].values  # of the mornings; day 1 of the protocol is 0 days after the dose
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(3.3 * len(panels), 3), layout="constrained"
        )
        for axis, colour, (label, values, logarithmic) in zip(axes, _COLOURS, panels, strict=False):
            low, middle, high = values.quantile([0.05, 0.5, 0.95], dim=("draw", "patient")).values
            axis.fill_between(days, low, high, color=colour, alpha=0.2, lw=0)
            axis.plot(days, middle, color=colour)
            axis.set(xlabel="days since the first dose", ylabel=label)
            if logarithmic:
                axis.set_yscale("log")
        _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
