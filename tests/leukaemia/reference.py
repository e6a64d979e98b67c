"""Reference solutions: the written-out equations of kinetics and marrow together, by LSODA."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from pkpd.leukaemia.patients import values_of
from pkpd.marrow.actions import combined
from pkpd.schedule import individual_dose_mg

# logarithms of counts err by 1e-5, as solutions at 1e-10 by DOP853 say; they are compared at 2.5e-3
RTOL, ATOL = 1e-8, 1e-13


def amounts(pk, q, x, rate):
    """Change per hour of a drug's amounts (mg; umol/L at the effect site), and what drives it."""
    first = 0 if pk.absorption is None else pk.absorption + 1
    k = q.get("KTR", q.get("ka"))
    plasma = x[first] / q["V1"]
    inflow = rate if first == 0 else 0.0
    out = [((rate if i == 0 else k * x[i - 1]) - k * x[i]) for i in range(first)]
    if first:
        inflow = k * x[first - 1]
    central = inflow - q["CL"] * plasma
    if pk.compartments == 2:
        flow = q["Q"] * (plasma - x[first + 1] / q["V2"])
        out += [central - flow, flow]
    else:
        out.append(central)
    level = plasma * q["per_umol"]
    if pk.effect_site:
        out.append(q["k_in"] * level - q["k_out"] * x[-1])
        level = x[-1]
    return jnp.stack([jnp.asarray(v, jnp.float64) for v in out]), level


def reference_course(prepared, theta, parameters, variant, i, injury):
    """Observed quantities of patient ``i`` each morning, under a regimen on a fixed calendar.

    Parameters
    ----------
    prepared
        The arm (`pkpd.leukaemia.simulate.PreparedArm`).
    parameters
        Of the patients and the actions of their drugs, ``[N]`` each.
    """
    regimen, sample = prepared.regimen, prepared.sample
    made, rules = regimen.made, regimen.at(theta)
    anatomy = prepared.anatomy(variant, injury)
    marrow = anatomy.marrow
    p = {name: jnp.asarray(float(parameters[name][i])) for name in anatomy.parameters}
    levels = list(regimen.levels)
    actions = [*(level.acts(variant) for level in levels), *anatomy.further]
    names = marrow.states
    of = {}
    for level in levels:
        exposure = _exposure(prepared, theta, level, i)
        of[level.card.name] = {
            key[1]: float(v[0, i])
            * (exposure if key[1] == ("k_in" if level.pk.effect_site else "F") else 1)
            for key, v in prepared.kinetics.values.items()
            if key[0] == level.card.name
        }
    sizes = [level.pk.n_states for level in levels]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)

    @jax.jit
    def slopes(state, rates, chemo, on, graft, kinetic):
        y = dict(zip(names, state[: len(names)], strict=True))
        change, drivers = [], []
        for k, level in enumerate(levels):
            own = state[len(names) + starts[k] : len(names) + starts[k + 1]]
            slope, seen = amounts(level.pk, kinetic[k], own, rates[k])
            change.append(slope * 24.0)
            drivers.append([seen] * 4)
        further = [list(chemo), on, graft][: len(anatomy.further)]
        u = combined(marrow, actions, [*drivers, *further], p)
        found = marrow.derivative(y, p, u)
        own = jnp.stack([jnp.asarray(found[name], jnp.float64) for name in names])
        return jnp.concatenate([own, *change])

    state = np.concatenate(
        [[float(v) for v in marrow.start(p).values()], np.zeros(int(starts[-1]))]
    )
    body = {"bsa": float(sample["bsa"][i]), "weight": float(sample["weight"][i])}
    mornings, given = [], {level.card.name: 0 for level in levels}
    for day in range(prepared.arm.schedule.horizon_days):
        y = dict(zip(names, state[: len(names)], strict=True))
        seen = {k: float(v) for k, v in marrow.observe(y, p).items()}
        mornings.append(seen)
        if seen["platelets_with_transfused"] < prepared.arm.schedule.transfuse_below:
            state[names.index("transfused")] += float(parameters["increment"][i])
        here = _today(made, rules, day)
        chemo, on, peg, graft = np.zeros(6), 0.0, 0.0, 0.0
        events = []
        if here is not None:
            course, cycle_day = here
            chemo = rules.rates[course, cycle_day, :, :6].sum(axis=0)
            on = min(rules.rates[course, cycle_day, :, 6].sum(), 1.0)
            graft = rules.rates[course, cycle_day, :, 7:].sum()
            for s, slot in enumerate(regimen.slots):
                amount = rules.amount[course, cycle_day, s]
                if slot.drug_index in regimen.long_acting:
                    peg += amount
                elif amount > 0.0:
                    mg = float(individual_dose_mg(slot, amount, body["bsa"], body["weight"]))
                    events.append((slot, mg))
        if peg:
            state[names.index("pegfilgrastim")] += peg
        kinetic = []
        for level in levels:
            name = level.card.name
            given[name] += any(slot.drug_index == level.index for slot, _ in events)
            q = dict(of[name])
            for (drug, key), factor in prepared.kinetics.occasion.items():
                if drug == name:
                    dose = min(max(given[name] - 1, 0), factor.shape[1] - 1)
                    q[key] *= float(factor[0, dose, i])
            kinetic.append({k: jnp.asarray(v) for k, v in q.items()})
        slots = [slot for slot, _ in events]
        hours = {0.0, 24.0, *(s.hour for s in slots), *(s.hour + s.duration_h for s in slots)}
        for left, right in pairwise(sorted(hours)):
            rates = np.zeros(len(levels))
            for slot, mg in events:
                k = next(j for j, level in enumerate(levels) if level.index == slot.drug_index)
                mg = mg * float(kinetic[k]["F"])
                if slot.duration_h == 0.0:
                    if slot.hour == left:
                        state[len(names) + starts[k]] += mg
                elif slot.hour <= left < slot.hour + slot.duration_h - 1e-9:
                    rates[k] += mg / slot.duration_h
            u = (chemo, on, graft)
            state = solve_ivp(
                lambda t, x, r=rates, u=u, q=kinetic: np.asarray(slopes(x, r, *u, q)),
                (left / 24.0, right / 24.0), state, method="LSODA", rtol=RTOL, atol=ATOL,
            ).y[:, -1]  # fmt: skip
    return {k: np.array([m[k] for m in mornings]) for k in mornings[0]}


def _exposure(prepared, theta, level, i):
    of = values_of(theta, (prepared.arm.disease,))
    found = level.exposure(of, prepared.sample.normal_score)
    return 1.0 if found is None else float(found[i])


def _today(made, rules, day):
    """Course and day of its cycle, of a regimen without gates."""
    if made is None:
        return None
    for c, start in enumerate(made.planned_start):
        for cycle in range(int(made.cycles[c])):
            begin = int(start + cycle * made.cycle_days[c])
            if begin <= day < begin + int(made.cycle_days[c]):
                return c, day - begin
    return None
