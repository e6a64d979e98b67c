"""Exposures of simulated patients beside closed forms and a solver of differential equations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import pkpd
from pkpd.cards import card_names
from pkpd.cards.drug_cards import load_drug_card
from pkpd.cards.model_cards import load_model_card
from pkpd.comparison.exposures import measured
from pkpd.errors import PkpdError
from pkpd.exposure.levels import LevelDose, edges_of, levels
from pkpd.exposure.sources import DrugLanes, drugs_of
from pkpd.kinetics.linear import LinearPK
from pkpd.models import (
    Friberg,
    PopulationModel,
    compartments,
    covariate,
    fixed,
    marrow_model,
    parameter,
    residual,
)
from pkpd.subjects import patients

BODY = {"age": 60, "male": 1, "weight": [60.0, 90.0], "height": 175, "scr": 1.0}
TYPICAL = patients(BODY, seed=4)
LINEAR = [
    name
    for name in card_names("drugs")
    if (pk := load_drug_card(name).pk) and load_model_card("pk", pk).structure.endswith("cmt")
]


def lanes(pk, occasion=None, **values):
    own = {name: np.atleast_1d(np.asarray(v, dtype=float)) for name, v in values.items()}
    n = len(own["CL"])
    own.setdefault("F", np.ones(n))
    return DrugLanes("drug", pk, own, occasion or {}, np.ones(n), np.ones(n), np.full(n, 90.0))


def given(times, amount, duration=0.0, n=1):
    return [LevelDose(float(t), duration, np.full(n, amount), o) for o, t in enumerate(times)]


def test_a_bolus_in_one_compartment_has_its_closed_form():
    """C = (D / V) exp(-k t) for two lanes; doses every 12 h add up."""
    volume, clearance = np.array([10.0, 20.0]), np.array([2.0, 8.0])
    k, first = clearance / volume, 100.0 / volume
    drug = lanes(LinearPK(None, 1), CL=clearance, V1=volume)
    doses = given([0.0, 12.0, 24.0], 100.0, n=2)
    found = levels(drug, doses, edges_of(doses, np.array([5.5]), 36.0))
    whole = 1.0 + np.exp(-12 * k) + np.exp(-24 * k)
    for value, expected in (
        (found.between(0, 12), first / k * (1 - np.exp(-12 * k))),
        (found.between(0, 5.5), first / k * (1 - np.exp(-5.5 * k))),
        (found.area[-1] + found.rest, 3 * 100.0 / clearance),
        (found.highest(24, 36)[0], first * whole),
        (found.at(np.array([36.0]))[0], first * whole * np.exp(-12 * k)),
        (found.half_life, np.log(2) / k),
        (found.between(24, 36) / found.between(0, 12), whole),
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert found.highest(24, 36)[1].tolist() == [24.0, 24.0]
    # a cubic over an hour, not the exponential itself: 1e-4 h
    np.testing.assert_allclose(found.above(2.0, 0, 12), np.log(first / 2) / k, atol=2e-4)


def test_a_peak_by_mouth_has_its_closed_form():
    """Bateman's function: tmax = ln(ka / k) / (ka - k)."""
    ka, k, volume = 1.3, 0.2, 30.0
    drug = lanes(LinearPK(0, 1), CL=k * volume, V1=volume, ka=ka)
    doses = given([2.0], 500.0)
    found = levels(drug, doses, edges_of(doses, np.zeros(0), 48.0))
    peak, when = found.highest(0.0, 48.0)
    t = np.log(ka / k) / (ka - k)
    top = 500.0 / volume * ka / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t))
    assert when[0] == pytest.approx(2.0 + t, abs=5e-4)  # two seconds
    assert peak[0] == pytest.approx(top, rel=1e-5)


def test_infusions_and_three_compartments_agree_with_a_solver():
    values = {"CL": 5.0, "V1": 12.0, "Q": 8.0, "V2": 30.0, "Q3": 2.0, "V3": 90.0}
    pk = LinearPK(None, 3)
    doses = given([0.0, 24.0], 300.0, duration=2.5)
    found = levels(lanes(pk, **values), doses, edges_of(doses, np.zeros(0), 48.0))
    matrix = np.asarray(pk.rate_matrix({n: np.array(v) for n, v in values.items()}))

    def rates(t, x):
        into = 120.0 if t % 24.0 < 2.5 else 0.0
        return [*(matrix @ x[:3] + [into, 0, 0]), x[0] / 12.0]

    x, at = np.zeros(4), [0.0, 2.5, 24.0, 26.5, 48.0]
    for a, b in pairwise(at):
        inside = solve_ivp(
            lambda t, y, a=a: rates(a + 1e-9, y), (a, b), x, method="LSODA", rtol=1e-10, atol=1e-10
        )
        x = inside.y[:, -1]
        assert found.at(np.array([b]))[0, 0] == pytest.approx(x[0] / 12.0, rel=1e-7)
        assert found.between(0.0, b)[0] == pytest.approx(x[3], rel=1e-7)
    assert found.area[-1, 0] + found.rest[0] == pytest.approx(600.0 / 5.0, rel=1e-12)


def test_kinetics_change_from_dosing_day_to_dosing_day():
    """Clearance doubles on the second day, a hundred half-lives later."""
    drug = lanes(LinearPK(None, 1), {"CL": np.array([[1.0], [2.0]])}, CL=10.0, V1=10.0)
    doses = given([0.0, 120.0], 100.0)
    found = levels(drug, doses, edges_of(doses, np.zeros(0), 240.0))
    assert found.between(0.0, 120.0)[0] == pytest.approx(10.0, rel=1e-12)
    assert found.between(120.0, 240.0)[0] == pytest.approx(5.0, rel=1e-12)
    # the longest half-life is that of the first day
    assert found.half_life[0] == pytest.approx(np.log(2.0), rel=1e-9)


def test_kinetics_are_those_of_the_dosing_day_from_its_hour_0():
    """Clearance doubles on the second day, 12 h before its dose, as where counts are simulated."""
    drug = lanes(LinearPK(None, 1), {"CL": np.array([[1.0], [2.0]])}, CL=1.0, V1=10.0)
    doses = given([12.0, 36.0], 100.0)
    found = levels(drug, doses, edges_of(doses, np.zeros(0), 48.0))
    midnight = 10.0 * np.exp(-0.1 * 12.0)
    before = midnight * np.exp(-0.2 * 12.0)
    np.testing.assert_allclose(found.at(np.array([24.0, 36.0]))[:, 0], [midnight, before], 1e-12)
    areas = [(10.0 - midnight) / 0.1, (midnight - before) / 0.2]
    areas += [(10.0 + before) * (1.0 - np.exp(-0.2 * 12.0)) / 0.2]
    for (begin, end), area in zip(pairwise([12.0, 24.0, 36.0, 48.0]), areas, strict=True):
        assert found.between(begin, end)[0] == pytest.approx(area, rel=1e-12)
    of_cycle = measured(drug, doses, 0.0, 48.0, 1.0)
    assert of_cycle["auc"][0] == pytest.approx(sum(areas), rel=1e-12)
    assert of_cycle["ctrough"][0] == pytest.approx(before, rel=1e-12)


def test_parts_of_the_lanes_give_what_all_give(monkeypatch):
    drug = lanes(LinearPK(0, 1), CL=np.arange(1.0, 8.0), V1=np.full(7, 30.0), ka=np.full(7, 1.0))
    doses = given([0.0], 100.0, n=7)
    edges = edges_of(doses, np.zeros(0), 24.0)
    whole = levels(drug, doses, edges)
    monkeypatch.setattr("pkpd.exposure.levels.WIDTH", 3)
    parts = levels(drug, doses, edges)
    np.testing.assert_allclose(parts.area, whole.area, rtol=1e-12)
    np.testing.assert_allclose(parts.rest, whole.rest, rtol=1e-12)


@pytest.mark.parametrize("name", LINEAR)
def test_the_area_is_dose_by_clearance_for_every_linear_card(name):
    card = load_drug_card(name)
    route = "iv" if "iv" in card.routes else card.routes[0]
    duration = {"duration": "1 h"} if route == "iv" else {}
    regimen = pkpd.daily(name, "1 mg/m^2", days="1, 15", route=route, unusual_dose=True, **duration)
    source = pkpd.source(TYPICAL, marrow="friberg", draws=2)
    found = pkpd.exposures(regimen, source, times_h=[0.0, 48.0])
    (drug,) = drugs_of(source, regimen, 15)
    # clearance may change with the dosing day, which leaves little of the first dose to change
    near = 1e-6 if drug.occasion else 1e-11
    each = 1.0 / drug.occasion.get("CL", np.ones((2, 1)))
    expected = drug.surface * drug.parameters["F"] / drug.parameters["CL"] * each.sum(axis=0)
    np.testing.assert_allclose(found["auc_inf"].to_numpy().ravel(), expected, rtol=near)
    np.testing.assert_allclose(found["dose"][0, 0], 2 * TYPICAL["bsa"])


def test_the_printed_area_of_a_card_comes_out():
    """10 mg of lenalidomide: 833 ng h/mL, as its card says of a clearance of 12 L/h."""
    body = {**BODY, "weight": [70.0, 70.0], "ffm": [55.0, 55.0], "crcl": [90.0, 30.0]}
    sample = patients(body, seed=1, typical=True)
    regimen = pkpd.daily("lenalidomide", "10 mg", days="1", route="oral")
    found = pkpd.exposures(regimen, sample, marrow="friberg", unit="ng/mL", until_day=2)
    normal, reduced = found["auc_inf"].to_numpy().ravel()
    assert normal == pytest.approx(1e4 / 12.0, rel=1e-12)  # 833.3
    assert 1 - normal / reduced == pytest.approx(0.22, abs=0.005)  # the card: 22 % at 30 mL/min
    level = found["concentration"][0, 0, 0]
    assert float(level.max()) <= float(found["cmax"][0, 0, 0, 0])
    micromolar = pkpd.exposures(regimen, sample, marrow="friberg", unit="umol/L")
    ratio = float(micromolar["auc_inf"][0, 0, 0]) / normal
    assert ratio == pytest.approx(1 / 259.26, rel=1e-12)


def test_the_dataset_has_bands_intervals_and_hours_above():
    regimen = pkpd.daily("lenalidomide", "10 mg", days="1-4", route="oral")
    found = pkpd.exposures(
        regimen, TYPICAL, marrow="friberg", draws=3, intervals=[(0, 24), (72, 96)],
        above={"lenalidomide": 0.1}, quantiles=(0.0, 1.0),
    )  # fmt: skip
    sizes = {"drug": 1, "draw": 3, "patient": 2, "interval": 2, "time": 97, "quantile": 2}
    assert dict(found.sizes) == sizes
    level = found["concentration"]
    assert np.all(found["band"][0, 1] == level[0].max(("draw", "patient")))
    assert np.all(found["ctrough"] == level.sel(time=[24.0, 96.0]).to_numpy())
    ratio = found["auc"][..., 1] / found["auc"][..., 0]
    np.testing.assert_allclose(found["accumulation"], ratio)
    assert found["auc"].attrs["units"] == "mg/L h"
    assert np.all((found["tmax"][..., 1] > 72) & (found["tmax"][..., 1] < 76))
    # one patient by an integral of interpolated concentrations
    one = found.isel(drug=0, draw=0, patient=0)
    fine = pkpd.exposures(
        regimen, TYPICAL, marrow="friberg", draws=3, times_h=np.arange(0, 24.01, 0.02), until_day=1
    )["concentration"][0, 0, 0]
    area = np.trapezoid(fine, fine["time"])
    assert float(one["auc"][0]) == pytest.approx(float(area), rel=1e-4)
    assert float(np.mean(fine > 0.1)) * 24 == pytest.approx(float(one["above"][0]), abs=0.05)


def test_the_learned_posterior_is_a_source():
    regimen = pkpd.daily("lenalidomide", "25 mg", days="1-2", route="oral")
    source = pkpd.source("rr_aml", patients=5, draws=2)
    found = pkpd.exposures(regimen, source)
    (drug,) = drugs_of(source, regimen, 2)
    expected = 50.0 * drug.parameters["F"] / drug.parameters["CL"]
    np.testing.assert_allclose(found["auc_inf"].to_numpy().ravel(), expected, rtol=1e-11)


def test_a_model_that_was_fitted_is_a_source():
    structure = marrow_model(compartments(2), lines={"neutrophils": Friberg()}, effect="linear")
    values = {
        "CL": 30.0, "V1": 40.0, "V2": 60.0, "Q": 15.0, "slope": 0.3, "circ0": 4.5, "MTT": 100.0,
        "gamma": 0.17,
    }  # fmt: skip
    own = [parameter(n, v, iiv=0.3 if n == "CL" else None) for n, v in values.items()]
    fitted = PopulationModel(structure, own, {"neutrophils": residual.lognormal(0.2)})
    regimen = pkpd.daily("drug", "90 mg", days="1-2", route="iv", duration="1 h")
    source = pkpd.source(TYPICAL, posterior=fitted)
    found = pkpd.exposures(regimen, source)
    (drug,) = drugs_of(source, regimen, 2)
    assert np.ptp(drug.parameters["CL"]) > 0
    np.testing.assert_allclose(found["auc_inf"].to_numpy().ravel(), 180 / drug.parameters["CL"])
    with pytest.raises(PkpdError, match="no card gives its molar mass"):
        pkpd.exposures(regimen, source, unit="umol/L")


def test_a_model_of_concentrations_alone_is_a_source():
    ka, cl, v = 1.5, 2.8, 32.0
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [
            parameter("ka", ka, iiv=0.6),
            parameter("CL", cl, iiv=0.3, effects=[covariate.power("WT", 70.0, fixed(0.75))]),
            parameter("V", v, iiv=0.1),
        ],
        residual.combined(0.3, 0.1),
    )
    regimen = pkpd.daily("theophylline", "320 mg", days="1-3", route="oral")
    found = pkpd.exposures(regimen, patients(BODY, typical=True), posterior=model, times_h=[1, 50])
    own = cl * (np.array(BODY["weight"]) / 70.0) ** 0.75
    np.testing.assert_allclose(found["auc_inf"].to_numpy().ravel(), 3 * 320 / own, rtol=1e-9)
    since = np.array([[1.0, np.nan, np.nan], [50.0, 26.0, 2.0]])[:, :, None]
    k = own / v  # Bateman's function, dose by dose
    each = 320 * ka / (v * (ka - k)) * (np.exp(-k * since) - np.exp(-ka * since))
    expected = np.nansum(each, axis=1).T
    np.testing.assert_allclose(found["concentration"].to_numpy()[0, 0], expected, rtol=1e-9)
    told = "the fit does not name its drug; theophylline is taken for it"
    assert found.attrs["simulated"].endswith(told)
    spread = pkpd.exposures(regimen, TYPICAL, posterior=model)
    assert np.ptp(spread["auc_inf"].to_numpy() / (960 / own)) > 0.01
    both = regimen.together(pkpd.daily("other", "5 mg", days="1", route="oral"))
    with pytest.raises(PkpdError, match="theophylline, other, and the population model is of one"):
        pkpd.exposures(both, TYPICAL, posterior=model)
    by_vein = pkpd.daily("theophylline", "320 mg", days="1", route="iv")
    with pytest.raises(PkpdError, match="the fit has an absorption"):
        pkpd.exposures(by_vein, TYPICAL, posterior=model)
    with pytest.raises(PkpdError, match="marrow is given"):
        pkpd.exposures(regimen, TYPICAL, posterior=model, marrow="friberg")
    with pytest.raises(PkpdError, match=r"ask pkpd\.exposures"):
        pkpd.simulate(regimen, TYPICAL, posterior=model)


def test_gates_are_met_at_once():
    gate = pkpd.schedule.Gate((pkpd.schedule.Criterion("neutrophils", 0.5),), max_wait_days=28)
    first = pkpd.daily("lenalidomide", "10 mg", days="1", route="oral")
    regimen = first.then(first, start_day=8, gate=gate)
    found = pkpd.exposures(regimen, TYPICAL, marrow="friberg")
    assert found.sizes["interval"] == 8
    assert np.all(found["dose"] == 20.0)
    np.testing.assert_allclose(found["auc"][..., 7], found["auc"][..., 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"times_h": [50.0]}, "times_h: a time is outside of the days; allowed: 0 to 24 h"),
        ({"intervals": [(0, 30)]}, r"intervals: \(0, 30\); allowed: pairs such as"),
        ({"above": {"other": 1.0}}, "above: 'other' is no drug with kinetics here; allowed: lenal"),
        ({"quantiles": (5, 50)}, "quantiles: one is no share"),
        ({"unit": "mg"}, r"unit: 'mg' is given \(did you mean 'mg/L'\?\); allowed: mg/L, ng"),
        ({"times_h": []}, "times_h: none is given; allowed: 0 to 24 h"),
        ({"intervals": []}, "intervals: none is given; allowed: 0 to 24 h"),
        ({"above": {"lenalidomide": "1"}}, "above, lenalidomide: '1' is a str; allowed: a number"),
        ({"until_day": 0}, "until_day: 0 is given; allowed: a whole number from 1"),
    ],
)
def test_what_cannot_be_used_is_refused(change, words):
    regimen = pkpd.daily("lenalidomide", "10 mg", days="1", route="oral")
    with pytest.raises(PkpdError, match=words):
        pkpd.exposures(regimen, TYPICAL, marrow="friberg", **change)
