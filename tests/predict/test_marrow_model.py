"""Joint models of drugs and marrow on event tables, against scipy and published data sets."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marrow_cases import ONE_DRUG, ONE_ROWS, dataset, friberg, infusion, reference

from pkpd.data.dataset import Dataset, Observations
from pkpd.data.events import EventTable
from pkpd.errors import DataError, PkpdError
from pkpd.marrow.friberg import Friberg, PlateletChain
from pkpd.marrow.gcsf import GcsfMarrow
from pkpd.predict.marrow import marrow_model
from pkpd.predict.pk import compartments
from pkpd.predict.structure import Predictor, Structure
from pkpd.solve.events.timeline import EventOptions

FOLDER = Path(os.environ.get("PKPD_REFERENCE", Path(__file__).parents[3] / "shared" / "oracles"))
ENGINES = ("compiled", pytest.param("general", marks=pytest.mark.slow))
# what both engines promise at their default step; DOP853 ran at 1e-11
TOLERANCE = 1e-5

needs_reference = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no reference folder (PKPD_REFERENCE or ../shared/oracles)"
)

TORSTEN = {
    "CL": 10.0,
    "Q": 15.0,
    "V1": 35.0,
    "V2": 105.0,
    "ka": 2.0,
    "MTT": 125.0,
    "circ0": 5.0,
    "gamma": 0.17,
    "slope": 3e-4,
}


def torsten(subjects=None) -> Dataset:
    """Friberg-Karlsson example of Torsten: 15 subjects, 795 concentrations, 75 counts."""
    read = json.loads((FOLDER / "torsten" / "FribergKarlsson.short_data.json").read_text())
    size = np.array(read["end"]) - np.array(read["start"]) + 1
    names = ("evid", "amt", "rate", "ii", "addl", "ss", "cmt")
    events = EventTable.from_columns(
        np.repeat(np.arange(len(size)), size), read["time"], **{n: read[n] for n in names}
    )
    row = np.array(read["iObsPK"] + read["iObsPD"]) - 1
    line = np.repeat([0, 1], [read["nObsPK"], read["nObsPD"]])
    value = np.array(read["cObs"] + read["neutObs"])
    place = np.zeros((read["nt"], 2), dtype=int)
    b, n = np.nonzero(events.valid)
    place[events.row[b, n]] = np.stack([b, n], axis=1)
    kept = np.isin(place[row, 0], range(len(size)) if subjects is None else subjects)
    row, line, value = row[kept], line[kept], value[kept]
    subject, record = place[row].T
    seen = Observations(
        subject,
        record,
        events.time[subject, record],
        line,
        value,
        np.zeros(len(row), dtype=int),
        np.full(len(row), -np.inf),
        row,
    )
    return Dataset(events, seen, ("concentration", "neutrophils"))


def spread(typical: dict, n: int, seed: int = 0) -> dict:
    random = np.random.default_rng(seed)
    return {name: v * np.exp(0.2 * random.standard_normal(n)) for name, v in typical.items()}


def one(values: dict, b: int) -> dict:
    return {
        name: float(np.broadcast_to(v, 99 if np.ndim(v) == 0 else np.shape(v))[b])
        for name, v in values.items()
    }


def two_compartments(p, transits=3):
    """Right-hand side: depot, central, peripheral amounts, then Friberg."""

    def rhs(t, y, rates):
        out = np.empty_like(y)
        out[0] = -p["ka"] * y[0]
        flow = p["Q"] * (y[1] / p["V1"] - y[2] / p["V2"])
        out[1] = p["ka"] * y[0] - p["CL"] * y[1] / p["V1"] - flow + rates.get(1, 0.0)
        out[2] = flow
        out[3:] = friberg(y[3:], p["slope"] * y[1] / p["V1"], p, transits)
        return out

    return rhs


def torsten_reference(data: Dataset, values: dict, b: int) -> np.ndarray:
    """Concentration and count at every observation of a subject."""
    p = one(values, b)
    seen = data.observations
    mine = seen.subject == b
    jumps = [j for k in range(15) for j in infusion(80000.0, 0.0, 12.0 * k, 0)]
    y0 = [0.0, 0.0, 0.0] + [p["circ0"]] * 5
    found = reference(two_compartments(p), y0, jumps, seen.time[mine])
    return np.where(seen.line[mine] == 0, found[:, 1] / p["V1"], found[:, -1])


@needs_reference
@pytest.mark.parametrize("engine", ENGINES)
def test_torsten_population_matches_a_tight_solution(engine):
    data = torsten()
    values = spread(TORSTEN, 15)
    model = marrow_model(compartments(2, absorption="first_order"), engine=engine)
    found = np.asarray(model.bind(data)(values))
    for b in (0, 7, 14):
        mine = data.observations.subject == b
        expected = torsten_reference(data, values, b)
        at_dose = data.observations.time[mine] % 12 == 0
        counts = data.observations.line[mine] == 1
        # a concentration at the time of a dose is before or after it by the order of the records
        used = counts | ~at_dose
        assert used.sum() > 40
        np.testing.assert_allclose(found[mine][used], expected[used], rtol=TOLERANCE)


@needs_reference
def test_gradient_of_torsten_population_matches_differences():
    data = torsten(range(3))
    data = Dataset(data.events.subset(range(3)), data.observations, data.lines)
    predictor = marrow_model(compartments(2, absorption="first_order")).bind(data)
    values = spread(TORSTEN, 3)
    measured = np.log(data.observations.value)

    def loss(logs):
        predicted = predictor({name: jnp.exp(v) for name, v in logs.items()})
        return jnp.sum((measured - jnp.log(predicted)) ** 2)

    logs = {name: jnp.log(v) for name, v in values.items()}
    gradient = jax.jit(jax.grad(loss))(logs)
    value = jax.jit(loss)
    for name, found in gradient.items():
        for b in range(3):
            up, down = (
                value({**logs, name: logs[name].at[b].add(sign * 1e-5)}) for sign in (1, -1)
            )
            # central differences of a loss of order 100 hold about seven digits of slopes near 1
            assert found[b] == pytest.approx(float(up - down) / 2e-5, rel=1e-5, abs=2e-6)


@needs_reference
def test_paclitaxel_leukocytes_bind_with_kinetics_from_columns():
    """Friberg 2002 paclitaxel example of nlmixr2data, EVID 10101 (RxODE) told as NONMEM would."""
    with (FOLDER / "nlmixr2data" / "wbcSim.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in r.items()} for r in csv.DictReader(file)]
    for i, r in enumerate(rows):
        stop = next((x["TIME"] for x in rows[i:] if x["RATE"] == -r["RATE"]), 0.0)
        r["LENGTH"] = stop - r["TIME"] if r["RATE"] > 0 else 0.0
    table = [r for r in rows if r["RATE"] >= 0]
    events = EventTable.from_columns(
        [int(r["ID"]) for r in table],
        [r["TIME"] for r in table],
        evid=[int(r["EVID"] > 0) for r in table],
        amt=[r["RATE"] * r["LENGTH"] for r in table],
        rate=[r["RATE"] for r in table],
        cmt=[r["CMT"] for r in table],
    )
    subject, record = np.nonzero(events.valid & (events.evid == 0))
    n = len(subject)
    assert n == 176
    row = events.row[subject, record]
    seen = Observations(
        subject,
        record,
        events.time[subject, record],
        np.zeros(n, dtype=int),
        np.array([table[i]["DV"] for i in row]),
        np.zeros(n, dtype=int),
        np.full(n, -np.inf),
        row,
    )
    covariates = {k: events.from_rows([r[k] for r in table]) for k in ("V1I", "V2I", "CLI")}
    data = Dataset(events, seen, ("leukocytes",), covariates)
    # published estimates: baseline 7.21, MTT 124 h, slope 28.9 L/umol, gamma 0.239
    typical = {"circ0": 7.21, "MTT": 124.0, "slope": 28.9, "gamma": 0.239, "Q": 204.0}
    values = {
        **typical,
        "CL": covariates["CLI"],
        "V1": covariates["V1I"],
        "V2": covariates["V2I"],
    }
    predictor = marrow_model(compartments(2), lines={"leukocytes": Friberg()}).bind(data)
    found = np.asarray(predictor(values))
    assert not predictor.problems(values)
    for b in (0, 32):
        own = one({k: v[:, 0] if np.ndim(v) == 2 else v for k, v in values.items()}, b)
        own["ka"] = 1.0
        jumps = [
            jump
            for n in np.flatnonzero(events.is_dose[b])
            for jump in infusion(
                events.amt[b, n], events.amt[b, n] / events.rate[b, n], events.time[b, n], 1
            )
        ]
        mine = seen.subject == b
        y0 = [0.0, 0.0, 0.0] + [own["circ0"]] * 5
        expected = reference(two_compartments(own), y0, jumps, seen.time[mine])[:, -1]
        # effects of ten and more within hours of an infusion: a little over the usual 1e-5
        np.testing.assert_allclose(found[mine], expected, rtol=2 * TOLERANCE)
    # the simulated data have a proportional error of 29 % besides variability between patients
    assert np.std(np.log(found / seen.value)) < 0.7


NEUTROPHILS, PLATELETS, OWN, ORAL = 102, 103, 100, 101


def two_drug_rows(subjects=2):
    """Infusions of one drug, oral doses of another, two concentrations and two lines."""
    rows = []
    for b in range(subjects):
        start = 10.0 * b  # clocks need not start at zero
        mine = [(b, start + 24.0 * d, 1, 1, 12.0, 8.0) for d in range(3)]
        mine.append((b, start + 96.0, 1, 3, 25.0, 0.0, 24.0, 6))
        for t in (30.0, 100.0, 171.0, 260.0, 400.0):
            mine += [(b, start + t, 0, line) for line in (OWN, ORAL, NEUTROPHILS, PLATELETS)]
        rows += sorted(mine, key=lambda r: r[1])
    return rows


TWO_DRUGS = {
    "CL_infused": 20.0,
    "V1_infused": 100.0,
    "V2_infused": 80.0,
    "Q_infused": 15.0,
    "k_in_infused": 0.6,
    "k_out_infused": 0.05,
    "ka_oral": 1.1,
    "CL_oral": 12.0,
    "V_oral": 60.0,
    "Emax_infused_neutrophils": 1.2,
    "EC50_infused_neutrophils": 1.0,
    "hill_infused_neutrophils": 1.6,
    "slope_oral_neutrophils": 0.5,
    "slope_infused_platelets": 0.3,
    "slope_oral_platelets": 0.8,
    "circ0_neutrophils": 5.0,
    "MTT_neutrophils": 120.0,
    "gamma_neutrophils": 0.18,
    "k_circ_neutrophils": 0.06,
    "circ0_platelets": 230.0,
    "MTT_platelets": 140.0,
    "gamma_platelets": 0.2,
    "ks_platelets": 0.01,
}
MOLAR_MASS = 400.0


def two_drug_model(**options):
    return marrow_model(
        {"infused": compartments(2), "oral": compartments(1, absorption="first_order")},
        effect={"infused": {"neutrophils": "emax_hill", "platelets": "linear"}, "oral": "linear"},
        lines={
            "neutrophils": Friberg(transits=2, circulation="own"),
            "platelets": PlateletChain(),
        },
        driver={"infused": "triphosphate", "oral": "plasma"},
        molar_mass={"infused": MOLAR_MASS, "oral": None},
        **options,
    )


def two_drug_rhs(p):
    per_umol = 1000.0 / MOLAR_MASS

    def rhs(t, y, rates):
        out = np.empty_like(y)
        c, oral = y[0] / p["V1_infused"], y[4] / p["V_oral"]
        flow = p["Q_infused"] * (c - y[1] / p["V2_infused"])
        out[0] = rates.get(0, 0.0) - p["CL_infused"] * c - flow
        out[1] = flow
        out[2] = p["k_in_infused"] * c * per_umol - p["k_out_infused"] * y[2]
        out[3] = -p["ka_oral"] * y[3]
        out[4] = p["ka_oral"] * y[3] - p["CL_oral"] * oral
        power = (max(y[2], 0.0) / p["EC50_infused_neutrophils"]) ** p["hill_infused_neutrophils"]
        effect = p["Emax_infused_neutrophils"] * power / (1.0 + power)
        effect += p["slope_oral_neutrophils"] * oral
        own = {name[: -len("_neutrophils")]: v for name, v in p.items() if "neutrophils" in name}
        # scaled so that circulating cells are in steady state at circ0
        out[5:9] = friberg(y[5:9], effect, own, 2, own["k_circ"])
        ktr = 3.0 / own["MTT"]
        out[7] = ktr * (y[6] - y[7])
        out[8] = own["k_circ"] * (y[7] - y[8])
        effect = p["slope_infused_platelets"] * y[2] + p["slope_oral_platelets"] * oral
        ktr = 2.0 / p["MTT_platelets"]
        feedback = (p["circ0_platelets"] / y[11]) ** p["gamma_platelets"]
        out[9] = ktr * y[9] * ((1.0 - effect) * feedback - 1.0)
        out[10] = ktr * (y[9] - y[10])
        out[11] = ktr * y[10] - (ktr + p["ks_platelets"]) * y[11]
        return out

    return rhs


def two_drug_reference(p, times):
    ktr = 2.0 / p["MTT_platelets"]
    platelets = p["circ0_platelets"]
    pool = platelets * (ktr + p["ks_platelets"]) / ktr
    y0 = [0.0] * 5 + [p["circ0_neutrophils"]] * 4 + [pool, pool, platelets]
    jumps = [j for d in range(3) for j in infusion(12.0, 1.5, 24.0 * d, 0)]
    jumps += [j for d in range(7) for j in infusion(25.0, 0.0, 96.0 + 24.0 * d, 3)]
    found = reference(two_drug_rhs(p), y0, jumps, times)
    return np.stack(
        [found[:, 0] / p["V1_infused"], found[:, 4] / p["V_oral"], found[:, 8], found[:, 11]]
    )


LINES = ("concentration_infused", "concentration_oral", "neutrophils", "platelets")


@pytest.mark.parametrize("engine", ["compiled", pytest.param("general", marks=pytest.mark.long)])
def test_two_drugs_and_two_lines_match_a_tight_solution(engine):
    data = dataset(two_drug_rows(), LINES)
    values = spread(TWO_DRUGS, 2, seed=3)
    model = two_drug_model(engine=engine)
    assert set(model.parameters) == set(TWO_DRUGS)
    assert model.lines == LINES
    predictor = model.bind(data)
    assert isinstance(model, Structure)
    assert isinstance(predictor, Predictor)
    assert predictor.engine == engine
    found = np.asarray(predictor(values))
    assert not predictor.problems(values)
    seen = data.observations
    for b in range(2):
        mine = seen.subject == b
        times = seen.time[mine] - data.events.time[b, 0]
        expected = two_drug_reference(one(values, b), times)[seen.line[mine], range(mine.sum())]
        np.testing.assert_allclose(found[mine], expected, rtol=TOLERANCE, atol=1e-9)


@pytest.mark.parametrize("ss", [1, 2])
@pytest.mark.slow
def test_a_steady_state_dose_of_one_drug_empties_the_others_unless_it_adds(ss):
    """SS = 1 resets the whole system in NONMEM; SS = 2 adds to what is there."""
    rows = [(1, 0.0, 1, 1, 100.0), (1, 4.0, 0, 100), (1, 5.0, 1, 2, 40.0, 0, 24, 0, ss)]
    rows += [(1, 9.0, 0, 100), (1, 9.0, 0, 101), (1, 60.0, 0, 102)]
    p = {"CL_a": 5.0, "V_a": 50.0, "CL_b": 8.0, "V_b": 40.0}
    p |= {"slope_a": 2.0, "slope_b": 0.0, "circ0": 5.0, "MTT": 100.0, "gamma": 0.2}
    model = marrow_model({"a": compartments(1), "b": compartments(1)})
    predictor = model.bind(dataset(rows, ["concentration_a", "concentration_b", "neutrophils"]))
    before, after, own, count = np.asarray(predictor(p))
    assert before == pytest.approx(2.0 * np.exp(-0.4))
    assert after == pytest.approx(0.0 if ss == 1 else 2.0 * np.exp(-0.9))
    assert own == pytest.approx(np.exp(-0.8) / (1.0 - np.exp(-4.8)))
    # the marrow, which the general engine solves with the drugs, is at its steady state without a
    assert (count == pytest.approx(5.0, rel=1e-6)) == (ss == 1)


def test_effect_compartment_follows_the_concentration():
    rows = [(1, 0.0, 1, 1, 100.0), (1, 50.0, 0, 100), (1, 200.0, 0, 100)]
    data = dataset(rows, ["neutrophils"])
    p = {"CL": 5.0, "V": 50.0, "ke0": 0.05, "slope": 0.6, "circ0": 5.0, "MTT": 100.0, "gamma": 0.2}
    model = marrow_model(compartments(1), driver="effect_compartment")
    assert model.parameters == tuple(p)
    found = np.asarray(model.bind(data)(p))

    def rhs(t, y, rates):
        site = [-p["CL"] / p["V"] * y[0], p["ke0"] * (y[0] / p["V"] - y[1])]
        return np.concatenate([site, friberg(y[2:], p["slope"] * y[1], p)])

    y0 = [0.0, 0.0] + [5.0] * 5
    expected = reference(rhs, y0, infusion(100.0, 0.0, 0.0, 0), [50.0, 200.0])[:, -1]
    assert expected[0] < 4.95
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


def test_a_free_baseline_moves_to_the_set_point():
    rows = [(1, 0.0, 2, 0), (1, 0.0, 0, 100), (1, 2500.0, 0, 100)]
    model = marrow_model(compartments(1), baseline="free")
    p = {"CL": 5.0, "V": 50.0, "slope": 0.6, "MTT": 100.0, "gamma": 0.3}
    found = model.bind(dataset(rows, ["neutrophils"]))({**p, "baseline": 1.0, "circ0": 4.0})
    assert float(found[0]) == pytest.approx(1.0, rel=1e-12)
    assert float(found[1]) == pytest.approx(4.0, rel=1e-3)


def test_the_clock_of_a_subject_may_start_anywhere():
    predictor = marrow_model(compartments(1)).bind(dataset(ONE_ROWS, ["neutrophils"]))
    found = np.asarray(predictor(ONE_DRUG))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_bioavailability_scales_boluses():
    half = {**ONE_DRUG, "F1": 0.5}
    model = marrow_model(compartments(1, dosing=["F1"]))
    rows = [(*row[:4], 200.0) if row[2] else row for row in ONE_ROWS]
    plain = marrow_model(compartments(1)).bind(dataset(ONE_ROWS, ["neutrophils"]))(ONE_DRUG)
    np.testing.assert_allclose(model.bind(dataset(rows, ["neutrophils"]))(half), plain, rtol=1e-12)


def test_a_subject_that_cannot_be_solved_leaves_the_others_alone():
    predictor = marrow_model(compartments(1)).bind(dataset(ONE_ROWS, ["neutrophils"]))
    good = np.asarray(predictor(ONE_DRUG))
    bad = {**ONE_DRUG, "MTT": np.array([100.0, -3.0])}
    found = np.asarray(predictor(bad))
    assert found[0] == good[0]
    assert np.isnan(found[1:]).all()
    told = predictor.problems(bad)
    assert list(told) == [1]
    assert "subject 2" in told[1]
    assert "MTT" in told[1]
    gradient = jax.grad(
        lambda scale: jnp.nansum(predictor({**bad, "CL": scale * jnp.array([5.0, 5.0])}))
    )(1.0)
    assert np.isfinite(gradient)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: marrow_model(compartments(1), driver="liver"), "driver"),
        (lambda: marrow_model(compartments(1), engine="fast"), "engine"),
        (lambda: marrow_model(compartments(1), combination="loewe"), "combination"),
        (lambda: marrow_model({}), "no drug"),
        (
            lambda: marrow_model(compartments(1), effect={"platelets": "linear"}),
            "nothing for the effect",
        ),
        (
            lambda: marrow_model(
                {"a": compartments(1), "b": compartments(1)}, driver={"a": "plasma"}
            ),
            "nothing for drug 'b'",
        ),
        (
            lambda: marrow_model(compartments(1), molar_mass=-300.0),
            "molar_mass: -300.0; allowed: g/mol, more than 0",
        ),
        (
            lambda: marrow_model({"drug_a": compartments(1)}, molar_mass={"drugs_a": 300.0}),
            "'drugs_a' is no drug of the model .did you mean 'drug_a'",
        ),
        (
            lambda: marrow_model(
                {"a": compartments(2), "b": compartments(1)}, first_compartment={"a": 1, "b": 2}
            ),
            "compartment 2 is of a and of b",
        ),
        (
            lambda: marrow_model(compartments(1), molar_mass="303"),
            "marrow_model, molar_mass: .303.; allowed: g/mol",
        ),
        (
            lambda: marrow_model(compartments(1), first_compartment=1.5),
            "first_compartment: 1.5 for drug; allowed: whole numbers of 1",
        ),
        (
            lambda: marrow_model({"a": None}),
            "pk, a: None; allowed: a LinearStructure, such as compartments",
        ),
        (
            lambda: marrow_model(compartments(1), lines={"x": "friberg"}),
            "lines, x: 'friberg'; allowed: equations of a line, such as Friberg",
        ),
        (
            lambda: marrow_model(compartments(1), first_compartment={"drug": 0}),
            "0 for drug; allowed: whole numbers of 1 and above",
        ),
        (
            lambda: marrow_model(
                {"a": compartments(1), "b": compartments(1, options=EventOptions("forward"))}
            ),
            "options: a and b read events of one table in different ways; give",
        ),
    ],
)
def test_a_model_that_means_nothing_is_refused(make, message):
    with pytest.raises(PkpdError, match=message):
        make()


def test_an_effect_by_drug_is_that_of_the_only_drug_too():
    made = marrow_model({"a": compartments(1)}, effect={"a": {"neutrophils": "emax"}})
    assert made.effects == marrow_model(compartments(1), effect="emax").effects
    assert marrow_model({"a": compartments(1)}, effect={"a": "emax"}).effects == made.effects


def test_doses_and_engines_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="compartment 4"):
        marrow_model(compartments(1)).bind(
            dataset([(1, 0.0, 1, 4, 9.0), (1, 5.0, 0, 100)], ["neutrophils"])
        )
    steady = [(1, 0.0, 1, 1, 9.0, 0, 24.0, 0, 1), (1, 5.0, 0, 100)]
    with pytest.raises(PkpdError, match="steady-state"):
        marrow_model(compartments(1), engine="compiled").bind(dataset(steady, ["neutrophils"]))


def test_a_line_that_is_stiff_is_refused():
    """Its G-CSF turns over 20 times an hour; explicit steps of hours end in counts of nothing."""
    with pytest.raises(PkpdError, match=r"is stiff .20 an hour.*take g_csf=.algebraic."):
        marrow_model(compartments(1), lines=GcsfMarrow(g_csf="state"))
    assert marrow_model(compartments(1), lines=GcsfMarrow()).names == ("neutrophils",)
