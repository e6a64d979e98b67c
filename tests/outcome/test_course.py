"""Courses of doses, drugs, marrow and platelets against solutions written out independently.

The reference is SciPy's DOP853 at a relative tolerance of 1e-12 on the full equations in their
textbook form: cells as counts (not logarithms), drugs as amounts, restarted at every dose and at
every end of an infusion. Only the individual parameters come from the package.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from pkpd.cards.population_cards import load_population
from pkpd.dosing import Criterion, Gate, daily, follow, individual_dose_mg, on_off, plan
from pkpd.dosing.rules import DoseModification, DoseRule
from pkpd.model.individuals import individual_parameters, occasion_scores
from pkpd.model.joint import load_model
from pkpd.model.parameters import draw_parameters, typical
from pkpd.outcome.course import _entering, dose_in_mg
from pkpd.outcome.simulate import prepare
from pkpd.outcome.transfusion import TransfusionPolicy
from pkpd.subjects import sample_population

LENALIDOMIDE = daily("lenalidomide", "10 mg", days="1-14", route="oral")
CLOFARABINE = daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")


def sequence():
    """Clofarabine and lenalidomide from day 1, two cycles of 28 days."""
    return CLOFARABINE.together(LENALIDOMIDE).repeat(2, 28)


def with_kill():
    """A kill before clofarabine on the same days, and lenalidomide twice a day later."""
    kill = daily("cyclophosphamide", "300 mg/m^2", days="1-3", route="iv", duration="1 h")
    morning = daily("lenalidomide", "5 mg", days="1-10", route="oral", hour=8.0)
    twice = morning.together(daily("lenalidomide", "5 mg", days="1-10", route="oral", hour=20.0))
    late = daily("clofarabine", "8 mg/m^2", days="2-4", route="iv", duration="2 h", hour=9.0)
    return kill.together(late).then(twice, start_day=15)


# -- the reference ---------------------------------------------------------------------------


def schedule_of(regimen, sample, patient, days):
    """Doses of a patient, (hour, drug, mg, duration), on the planned calendar."""
    doses = []
    for course, start in zip(regimen.courses, regimen.start_days, strict=True):
        for cycle in range(course.cycles):
            for rule in course.doses:
                mg = float(
                    individual_dose_mg(
                        rule, rule.amount, sample["bsa"][patient], sample["weight"][patient]
                    )
                )
                for day in rule.days:
                    at = 24.0 * (start - 1 + cycle * course.cycle_days + day - 1) + rule.hour
                    if at < 24.0 * days:
                        doses.append((at, rule.drug, mg, rule.duration_h))
    return sorted(doses)


class Reference:
    """The whole system of one patient in textbook form."""

    def __init__(self, model, values, sample, patient, doses, occasion=None):
        self.p = {name: float(value[0, patient]) for name, value in values.items()}
        self.model = model
        self.doses = doses
        self.bsa = float(sample["bsa"][patient])
        self.occasion = occasion  # day index -> (factor of CL, factor of V2)
        self.rule = model.feedback_when_kill_exceeds
        self.saturation = {
            card.subject: dict(card.settings).get("saturation", 0.0) for card in model.marrow
        }
        self.drugs = [drug.name for drug in model.drugs]

    def start(self):
        y = np.zeros(12 + 5 + 3 + 2)  # clofarabine, lenalidomide, two lines, alemtuzumab
        p = self.p
        base, ktr = p["neutrophils.baseline"], 4.0 / p["neutrophils.MTT"]
        y[12:16] = base * p["neutrophils.k_circ"] / ktr
        y[16] = base
        base, ktr = p["platelets.baseline"], 2.0 / p["platelets.MTT"]
        y[17:19] = base * (ktr + p["platelets.ks"]) / ktr
        y[19] = base
        return y

    def growth(self, effect, count, line):
        a, p = self.saturation[line], self.p
        x = count / p[f"{line}.set_point"]
        feedback = ((1.0 + a) / (x + a)) ** p[f"{line}.gamma"]
        if self.rule == "capped":
            effect = min(effect, 1.0)
        if self.rule == "off" and effect > 1.0:
            feedback = 1.0
        return (1.0 - effect) * feedback

    def rates(self, t, y, infusion, kill, cl_factor, v2_factor):
        p, d = self.p, np.zeros_like(y)
        effect = {"neutrophils": 0.0, "platelets": 0.0}
        if "clofarabine" in self.drugs:
            cl, v1 = p["clofarabine.CL"] * cl_factor, p["clofarabine.V1"]
            q, v2 = p["clofarabine.Q"], p["clofarabine.V2"] * v2_factor
            plasma = y[0] / v1 * self.model.drug("clofarabine").per_umol
            d[0] = infusion["clofarabine"] - (cl + q) / v1 * y[0] + q / v2 * y[1]
            d[1] = q / v1 * y[0] - q / v2 * y[1]
            d[2] = p["clofarabine.effect.k_in"] * plasma - p["clofarabine.effect.k_out"] * y[2]
            for n in effect:
                top = p[f"clofarabine.effect.Emax_{n}"]
                effect[n] += top * y[2] / (p[f"clofarabine.effect.EC50_{n}"] + y[2])
        if "lenalidomide" in self.drugs:
            k = p["lenalidomide.KTR"]
            d[3] = -k * y[3]
            d[4:11] = k * (y[3:10] - y[4:11])
            d[11] = k * y[10] - p["lenalidomide.CL"] / p["lenalidomide.V1"] * y[11]
            plasma = y[11] / p["lenalidomide.V1"] * self.model.drug("lenalidomide").per_umol
            for n in effect:
                effect[n] += p[f"lenalidomide.effect.slope_{n}"] * plasma
        if "alemtuzumab" in self.drugs:
            v1, v2, q = (p[f"alemtuzumab.{x}"] for x in ("V1", "V2", "Q"))
            c = y[20] / v1
            lost = p["alemtuzumab.Vmax"] * c / (p["alemtuzumab.Km"] + c)
            d[20] = infusion["alemtuzumab"] - lost - q * c + q / v2 * y[21]
            d[21] = q * c - q / v2 * y[21]
            plasma = c * self.model.drug("alemtuzumab").per_umol
            for n in effect:
                effect[n] += p[f"alemtuzumab.effect.slope_{n}"] * plasma
        ktr = 4.0 / p["neutrophils.MTT"]
        prol, circ = y[12], y[16]
        growth = self.growth(effect["neutrophils"], circ, "neutrophils")
        d[12] = ktr * prol * (growth - 1.0) - kill["neutrophils"] * prol
        d[13:16] = ktr * (y[12:15] - y[13:16])
        d[16] = ktr * y[15] - p["neutrophils.k_circ"] * circ
        ktr = 2.0 / p["platelets.MTT"]
        growth = self.growth(effect["platelets"], y[19], "platelets")
        d[17] = ktr * y[17] * (growth - 1.0) - kill["platelets"] * y[17]
        d[18] = ktr * (y[17] - y[18])
        d[19] = ktr * y[18] - (ktr + p["platelets.ks"]) * y[19]
        return d

    def solve(self, times):
        """Neutrophils and platelets at increasing times in hours, the first 0."""
        starts = [(at, drug, mg, length) for at, drug, mg, length in self.doses]
        events = {t for at, *_, length in starts for t in (at, at + length)}
        edges = [e for e in sorted(events) if np.abs(times - e).min() > 1e-9 and e < times[-1]]
        edges = sorted([*edges, *times])
        y, found, factors = self.start(), {}, (1.0, 1.0)
        found[0.0] = y
        kinds = {drug.name: drug for drug in self.model.drugs}
        for left, right in zip(edges[:-1], edges[1:], strict=True):
            day = int(np.floor(left / 24.0 + 1e-9))
            if self.occasion is not None and day in self.occasion:
                factors = self.occasion[day]
            infusion = dict.fromkeys(self.drugs, 0.0)
            kill = {"neutrophils": 0.0, "platelets": 0.0}
            for at, drug, mg, length in starts:
                if kinds[drug].driver == "dose":
                    if int(at // 24) == day:
                        reference = kinds[drug].kill_reference_mg_m2 * self.bsa
                        for n in kill:
                            kill[n] += mg / reference * self.p[f"{drug}.effect.ln_kill_{n}"] / 24.0
                elif length > 0.0:
                    if at <= left + 1e-9 and right <= at + length + 1e-9:
                        infusion[drug] += mg / length
                elif abs(at - left) < 1e-9:
                    y[3] += mg  # the only drug of these tests that is swallowed
            solution = solve_ivp(
                self.rates,
                (left, right),
                y,
                method="DOP853",
                rtol=1e-12,
                atol=1e-15,
                args=(infusion, kill, *factors),
            )
            assert solution.success
            y = solution.y[:, -1].copy()
            found[right] = y
        return np.array([found[t][[16, 19]] for t in times])


def occasions_of(model, sample, regimen, days, values):
    """Day index -> factors of CL and V2 of each patient, from the k-th dosing day on."""
    scores = occasion_scores(model, sample, 20)
    dosed = sorted({int(at // 24) for at, drug, *_ in schedule_of(regimen, sample, 0, days)
                    if drug == "clofarabine"})  # fmt: skip
    sd = {name: values[f"clofarabine.iov.{name}"][0] for name in ("CL", "V2")}
    return {
        day: [np.exp(sd[name] * scores[f"clofarabine.{name}"][k]) for name in ("CL", "V2")]
        for k, day in enumerate(dosed)
    }


def largest_error(regimen, model, days, max_step_h, n=3):
    """Largest relative error of any count of n patients at any node."""
    population = load_population("hr_mds_aml_unfit")
    sample = sample_population(population, n, 3)
    simulator = prepare(model, regimen, sample, days, population=population, max_step_h=max_step_h)
    values = typical(model, population)
    got = simulator.run(values, np.arange(1))
    individual = individual_parameters(model, values, sample)
    varying = any(drug.pk.iov for drug in model.drugs)
    occasions = occasions_of(model, sample, regimen, days, values) if varying else None
    worst = 0.0
    for i in range(n):
        at = None
        if occasions is not None:
            at = {day: (cl[i], v2[i]) for day, (cl, v2) in occasions.items()}
        doses = schedule_of(regimen, sample, i, days)
        reference = Reference(model, individual, sample, i, doses, at)
        expected = reference.solve(simulator.time_h)
        for k, line in enumerate(("neutrophils", "platelets")):
            worst = max(worst, np.abs(got.log_count[line][i] - np.log(expected[:, k])).max())
    return worst
