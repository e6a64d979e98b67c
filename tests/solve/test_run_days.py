"""The driver through days: what enters, what is given into a marrow, what goes on under gates.

A marrow of this file sums up the exposures that actions report, so that areas under levels can be
compared with closed forms; the marrow with G-CSF is compared with DOP853 on its published
equations in counts, written out here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from pkpd.errors import PkpdError
from pkpd.kinetics.linear import LinearPK
from pkpd.kinetics.saturable import SaturableIV
from pkpd.marrow.actions import LineKill
from pkpd.marrow.friberg import PlateletChain
from pkpd.marrow.gcsf import GIVEN, GIVEN_INTO, GcsfMarrow, rise_by_dose
from pkpd.marrow.line_marrow import LineMarrow
from pkpd.schedule import Course, Criterion, Gate, Regimen, plan
from pkpd.schedule.rules import DoseRule
from pkpd.solve.compiled.decisions import plan_rules
from pkpd.solve.compiled.run_days import Anatomy, Bodies, CourseDrug, run_days
from pkpd.solve.grid.cells import day_cells

# -- a marrow that sums up exposures ---------------------------------------------------------------


@dataclass(frozen=True)
class Areas:
    """Areas under two inputs, shown as counts; each has a mean and a first moment."""

    name = "areas"
    states = ("first", "second", "rise")
    parameters = ("unit",)
    may_be_zero = frozenset()
    inputs = ("one", "one_rise", "two")
    first_moments = (("one", "one_rise"),)
    observed = ("neutrophils", "platelets")

    def start(self, p):
        zero = 0.0 * p["unit"]
        return {"first": zero, "second": zero, "rise": zero}

    def rest(self):
        return dict.fromkeys(self.inputs, 0.0)

    def derivative(self, y, p, u):
        return {"first": u["one"], "second": u["two"], "rise": u["one_rise"]}

    def step(self, y, p, u, h):
        rates = self.derivative(y, p, u)
        return {name: y[name] + h * rates[name] for name in self.states}

    def observe(self, y, p):
        return {"neutrophils": y["first"] * p["unit"], "platelets": y["second"] * p["unit"]}


@dataclass(frozen=True)
class Exposure:
    """A level as an input."""

    to: str
    driver: str = "level"
    parameters: tuple[str, ...] = ()

    def shares(self, driver, p):
        return {self.to: driver}


ONE, TWO = LinearPK(None, 2), LinearPK(3, 1, unit="umol/L")
SATURABLE = SaturableIV()
BODY = {"CL": 3.0, "V1": 10.0, "Q": 2.0, "V2": 20.0, "KTR": 2.0, "per_umol": 3.5}
MOULD = {"Vmax": 1.02, "Km": 0.338, "V1": 11.3, "Q": 1.05, "V2": 41.5, "per_umol": 3.5}
SIZES = np.linspace(0.5, 2.0, 20)


def anatomy_of(drugs, dosing, marrow=None, **options):
    hours = {0.0, *(s.hour for s in dosing.slots), *(s.hour + s.duration_h for s in dosing.slots)}
    acting = [name for drug in drugs if drug.action for name in drug.action.parameters]
    marrow = marrow or Areas()
    return Anatomy(
        marrow=marrow,
        drugs=tuple(drugs),
        slots=dosing.slots,
        further=(),
        parameters=(*marrow.parameters, *acting),
        edges=tuple(day_cells(sorted(hours), options.pop("max_step_h", 6.0)).tolist()),
        **options,
    )


def bodies_of(anatomy, values, kinetics, lanes=20):
    """Patients with the same parameters, but those given as arrays."""
    rows = anatomy.kinetic_rows
    one = np.ones(lanes)
    return Bodies(
        theta=np.array([values[name] * one for name in anatomy.parameters]),
        surface=SIZES[:lanes] * 1.8,
        weight=SIZES[:lanes] * 70.0,
        increment=20.0 * one,
        kinetics=np.array([kinetics[drug].get(name, 1.0) * one for drug, name in rows]),
        who=np.arange(lanes),
    )


def only(*rules, days=1):
    return Regimen((Course("only", rules, cycle_days=days),))


def areas_are_doses_over_clearance(hour, length, other):
    length = min(length, 24.0 - hour)
    length = 0.0 if length < 0.01 else length
    infusion = DoseRule("a", 5.0, "mg/m^2", (1,), hour=hour, duration_h=length, route="iv")
    capsule = DoseRule("b", 0.4, "mg/kg", (1,), hour=other, route="oral", cap_mg=30.0)
    dosing = plan(only(infusion, capsule), 40)
    drugs = (
        CourseDrug("a", ONE, Exposure("one", "moments")),
        CourseDrug("b", TWO, Exposure("two", "moments")),
    )
    anatomy = anatomy_of(drugs, dosing)
    kinetics = {"a": BODY, "b": {**BODY, "F": 0.7}}
    record, _ = run_days(
        anatomy, bodies_of(anatomy, {"unit": 24.0}, kinetics), plan_rules(dosing), 40
    )
    expected = 5.0 * 1.8 * SIZES / 3.0
    np.testing.assert_allclose(record.morning[0, :, -1], expected, rtol=1e-9)
    expected = 0.7 * np.minimum(0.4 * 70.0 * SIZES, 30.0) / 3.0 * 3.5
    np.testing.assert_allclose(record.morning[1, :, -1], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("hour", "length", "other"), [(0.0, 0.0, 0.0), (7.3, 11.1, 22.9), (23.0, 1.0, 9.5)]
)
def test_all_of_a_dose_enters(hour, length, other):
    """Area under a level = bioavailable dose over clearance."""
    areas_are_doses_over_clearance(hour, length, other)


@pytest.mark.slow  # each grid of a day is a program of its own
@given(st.floats(0.0, 23.0), st.floats(0.0, 24.0), st.floats(0.0, 23.0))
@settings(max_examples=30, deadline=None)
def test_all_of_a_dose_enters_at_any_hour_and_of_any_length(hour, length, other):
    areas_are_doses_over_clearance(hour, length, other)


@pytest.mark.parametrize("driver", ["moments", "level"])
def test_all_that_is_eliminated_has_passed_saturable_kinetics(driver):
    """Mass balance over 300 days: what Vmax C / (Km + C) removes is what was infused."""
    dosing = plan(only(DoseRule("a", 30.0, "mg", (1, 3, 5), duration_h=2.0), days=5), 60)
    drugs = (CourseDrug("a", SATURABLE, Exposure("one", driver)),)
    anatomy = anatomy_of(drugs, dosing, max_step_h=3.0)
    bodies = bodies_of(anatomy, {"unit": 24.0}, {"a": MOULD})
    record, _ = run_days(anatomy, bodies, plan_rules(dosing), 60)
    found = record.morning[0, 0, -1] / 3.5

    def rates(t, y, flow):
        c = y[0] / 11.3
        exchange = 1.05 * (c - y[1] / 41.5)
        return [flow - 1.02 * c / (0.338 + c) - exchange, exchange, c]

    y = np.zeros(3)
    for left, right in pairwise([0.0, 2.0, 48.0, 50.0, 96.0, 98.0, 59 * 24.0]):
        flow = 15.0 if right - left == 2.0 else 0.0
        y = solve_ivp(rates, (left, right), y, method="DOP853", rtol=1e-11, atol=1e-12,
                      args=(flow,)).y[:, -1]  # fmt: skip
    # nodes take an area by quadrature in cells of up to 3 h
    assert found == pytest.approx(y[2], rel=1e-7 if driver == "moments" else 1e-6)
    assert not record.unsolved.any()


def test_saturable_kinetics_go_on_behind_a_gate():
    """A cycle that waits: the area is that of the same doses on the days they were given."""
    doses = DoseRule("a", 30.0, "mg", (1, 2), duration_h=2.0)
    gate = Gate((Criterion("neutrophils", 5.0),), max_wait_days=30)
    waiting = Regimen((Course("only", (doses,), cycle_days=3, cycles=2, between=gate),))
    drugs = (CourseDrug("a", SATURABLE, Exposure("one", "moments")),)
    values = {"unit": 2.3 / 3.5}
    dosing = plan(waiting, 50)
    anatomy = anatomy_of(drugs, dosing)
    own = {"a": {**MOULD, "V2": np.linspace(20.0, 40.0, 20)}}
    record, given = run_days(
        anatomy, bodies_of(anatomy, values, own), plan_rules(dosing), 50, amounts=True
    )
    assert (given.doses_given == 4).all()
    days = np.array([np.flatnonzero(row[:, 0]) for row in record.amount])
    later = days[:, 2]
    assert later.max() > 4  # the counts of this marrow, areas, pass 5 only later
    assert len(set(later.tolist())) > 2
    for lane in (0, 7, 19):
        area = record.morning[0, lane]
        assert area[later[lane]] >= 5.0 > area[later[lane] - 1]
        planned = only(replace(doses, days=tuple(int(d) + 1 for d in days[lane])), days=50)
        calendar = plan(planned, 50)
        again, _ = run_days(
            anatomy_of(drugs, calendar), bodies_of(anatomy, values, own), plan_rules(calendar), 50
        )
        np.testing.assert_allclose(again.morning[0, lane], area, rtol=1e-12)


def test_doses_and_lengths_that_cannot_be_are_refused():
    over_midnight = plan(only(DoseRule("a", 5.0, "mg", (1,), hour=1.0, duration_h=2.0)), 3)
    drug = CourseDrug("a", ONE, Exposure("one"))
    anatomy = replace(anatomy_of((drug,), over_midnight), edges=(0.0, 2.0, 24.0))
    with pytest.raises(PkpdError, match="runs from 1 h for 2 h"):
        run_days(
            anatomy, bodies_of(anatomy, {"unit": 1.0}, {"a": BODY}), plan_rules(over_midnight), 3
        )
    into = replace(anatomy, drugs=(CourseDrug("a", into="first"),), edges=(0.0, 1.0, 3.0, 24.0))
    with pytest.raises(PkpdError, match="dose of a: an infusion over 2 h"):
        run_days(into, bodies_of(into, {"unit": 1.0}, {"a": BODY}), plan_rules(over_midnight), 3)


# -- G-CSF given into the marrow -------------------------------------------------------------------

QUARTINO = {
    "baseline": 3.53, "set_point": 3.53, "MTT": 133.0, "gamma": 0.444, "beta": 0.234,
    "k_circ": np.log(2) / 7.0, "ke": 0.592, "k_anc": 5.64, "g0": 24.3e-6,
}  # fmt: skip
CHAIN = {"baseline": 200.0, "set_point": 200.0, "MTT": 282.0, "gamma": 0.6, "ks": 0.009}
MARROW = LineMarrow((("neutrophils", GcsfMarrow()), ("platelets", PlateletChain(saturation=0.1))))
LN_KILL = 0.004  # per mg/m²
KILL = DoseRule("kill", 300.0, "mg/m^2", (1, 2))
FILGRASTIM = DoseRule("filgrastim", 0.3, "mg", tuple(range(5, 12)), hour=9.0, route="sc")
# much less than usual, which these assumed kinetics answer with plausible counts
PEGFILGRASTIM = DoseRule("pegfilgrastim", 0.01, "mg", (5,), hour=14.0, route="sc")


def with_gcsf(*rules, step=1.0, days=21, **options):
    """Course of the marrow with G-CSF after two days of a kill."""
    dosing = plan(only(KILL, *rules, days=days), days)
    drugs = tuple(
        CourseDrug(name, into=f"neutrophils.{GIVEN_INTO[name]}")
        if name in GIVEN_INTO
        else CourseDrug(name, action=LineKill("k.", ("neutrophils", "platelets")))
        for name in dosing.drugs
    )
    slot = options.pop("growth_slot", -1)
    anatomy = anatomy_of(drugs, dosing, MARROW, max_step_h=step, growth_slot=slot)
    values = {f"neutrophils.{k}": v for k, v in QUARTINO.items()}
    values |= {f"platelets.{k}": v for k, v in CHAIN.items()}
    values |= {"transfused_loss": 0.8, "k.ln_kill_neutrophils": LN_KILL}
    values |= {"k.ln_kill_platelets": 0.5 * LN_KILL, "neutrophils.MTT": 133.0 * SIZES**0.2}
    rise = {"F": rise_by_dose(1000.0)}
    kinetics = {name: rise if name in GIVEN_INTO else {} for name in dosing.drugs}
    bodies = bodies_of(anatomy, values, kinetics)
    return run_days(anatomy, bodies, plan_rules(dosing), days, amounts=True, **options)


def published(mtt, doses, days=21):
    """Neutrophils of Quartino 2014 in counts, with given G-CSF; doses by hour."""
    q, ktr = QUARTINO, 5.0 / mtt
    k_in = (q["ke"] + q["k_anc"] * q["set_point"]) * q["g0"]
    steady = q["set_point"] * q["k_circ"] / ktr

    def rates(t, y, kill):
        circ, depot, peg_depot, peg = y[5:]
        own = k_in + GIVEN["ka_filgrastim"] * depot
        level = (own / (q["ke"] + q["k_anc"] * circ) + peg) / q["g0"]
        speed = level ** q["beta"]
        d = np.empty(9)
        d[0] = ktr * y[0] * (level ** q["gamma"] - speed) - kill * y[0]
        d[1:5] = ktr * speed * (y[:4] - y[1:5])
        d[5] = ktr * speed * y[4] - q["k_circ"] * circ
        d[6] = -GIVEN["ka_filgrastim"] * depot
        d[7] = -GIVEN["ka_pegfilgrastim"] * peg_depot
        loss = GIVEN["ke_pegfilgrastim"] + GIVEN["k_anc_pegfilgrastim"] * circ
        d[8] = GIVEN["ka_pegfilgrastim"] * peg_depot - loss * peg
        return d

    y = np.concatenate([np.full(5, steady), [q["set_point"]], np.zeros(3)])
    stops = sorted({*(24.0 * d for d in range(days)), *(t for t, *_ in doses)})
    counts = []
    for left, right in pairwise([*stops, 24.0 * days]):
        if left % 24.0 == 0.0:
            counts.append(y[5])
        for at, depot, mg in doses:
            y[depot] += rise_by_dose(1000.0 * mg) if at == left else 0.0
        kill = LN_KILL * 300.0 / 24.0 if left < 48.0 else 0.0
        y = solve_ivp(rates, (left, right), y, method="DOP853", rtol=1e-10, atol=1e-14,
                      args=(kill,)).y[:, -1]  # fmt: skip
    return np.array(counts)


@pytest.mark.slow
@pytest.mark.parametrize("drug", ["filgrastim", "pegfilgrastim"])
def test_given_g_csf_follows_the_published_equations(drug):
    rule, row = {"filgrastim": (FILGRASTIM, 6), "pegfilgrastim": (PEGFILGRASTIM, 7)}[drug]
    doses = [(24.0 * (day - 1) + rule.hour, row, rule.amount) for day in rule.days]
    coarse, fine = with_gcsf(rule, step=6.0)[0], with_gcsf(rule, step=1.0)[0]
    without = with_gcsf(step=6.0)[0]
    for lane in (0, 10, 19):
        expected = published(133.0 * SIZES[lane] ** 0.2, doses)
        # G-CSF rises within the hour of a dose and drives the marrow: measured 8e-4 and 7e-7
        np.testing.assert_allclose(coarse.morning[0, lane], expected, rtol=2e-3)
        np.testing.assert_allclose(fine.morning[0, lane], expected, rtol=3e-6)
        plain = published(133.0 * SIZES[lane] ** 0.2, [])
        np.testing.assert_allclose(without.morning[0, lane], plain, rtol=1e-4)
        assert (expected < 1.0).sum() < (plain < 1.0).sum()


def test_growth_factor_by_need_is_given_on_mornings_with_low_counts():
    late = replace(FILGRASTIM, days=(20,))
    record, _ = with_gcsf(late, growth_slot=1, growth_below=1.0, growth_from=11, growth_amount=0.3)
    counts, given_mg = record.morning[0], record.amount[:, :, 1]
    day = np.arange(21)
    need = (counts < 1.0) & (day + 1 >= 11)
    expected = np.where(need | (day == 19), 0.3, 0.0)
    np.testing.assert_array_equal(given_mg, expected)
    assert (counts < 1.0)[:, :10].any()
    assert need.any(axis=1).sum() > 10
    lane = 12
    days = tuple(int(d) + 1 for d in np.flatnonzero(given_mg[lane]))
    planned, _ = with_gcsf(replace(FILGRASTIM, days=days))
    np.testing.assert_allclose(planned.morning[0, lane], counts[lane], rtol=1e-13)
    none, _ = with_gcsf(late, growth_slot=1)
    assert (none.morning[0] < 1.0).sum() > (counts < 1.0).sum()
