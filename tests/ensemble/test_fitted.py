"""Patients of a fit: new patients of the distributions that were fitted, in the marrow fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.cards import load_trial
from pkpd.comparison.scenario import default_scenario
from pkpd.data import read_nonmem
from pkpd.ensemble.fitted_drugs import prepare_fitted
from pkpd.ensemble.fitted_patients import NewPatients
from pkpd.errors import PkpdError
from pkpd.explorer.simulation import explore
from pkpd.explorer.state import read_state
from pkpd.explorer.words import page_content
from pkpd.fitting.draws import Draws
from pkpd.fitting.leukaemia_model import typical_patient
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.parameter_draws import parameter_draws
from pkpd.forecasting.command import source_of_cohort
from pkpd.leukaemia.drug_effects import prepare_regimen
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.schedule import ArmSchedule
from pkpd.marrow.actions import CHANNELS
from pkpd.models import (
    Friberg,
    PlateletChain,
    PopulationModel,
    compartments,
    covariate,
    fixed,
    leukaemia_model,
    marrow_model,
    parameter,
    residual,
)
from pkpd.report.comparison.tables import write_results
from pkpd.schedule import Criterion, DoseModification
from pkpd.search import search_schedules
from pkpd.subjects import patients
from tests.fitting.marginal_cases import LEVEL
from tests.fitting.marginal_cases import data as levels

MORNINGS = np.arange(29)
PEOPLE = patients(
    {"age": [40.0, 60, 70], "male": 1, "weight": [60.0, 75, 95], "height": 175, "scr": 1.0}, seed=4
)
LINES = {"neutrophils": Friberg(), "platelets": PlateletChain()}
ERRORS = {"neutrophils": residual.lognormal(0.2), "platelets": residual.lognormal(0.2)}


def two_lines(**changes) -> PopulationModel:
    structure = marrow_model(
        compartments(2), lines=changes.pop("lines", LINES), effect=changes.pop("effect", "linear")
    )
    own = [
        parameter("CL", 30.0, iiv=0.3, effects=covariate.allometric("WT", 70.0, 0.75)),
        parameter("V1", 40.0),
        parameter("V2", 60.0),
        parameter("Q", 15.0),
    ]
    if len(structure.names) == 1:
        own += [parameter(n, v) for n, v in
                (("slope", 0.3), ("circ0", 4.5), ("MTT", 100.0), ("gamma", 0.17))]  # fmt: skip
        return PopulationModel(structure, own, {"neutrophils": ERRORS["neutrophils"]})
    own += [
        parameter("slope_neutrophils", 3.0, iiv=0.4),
        parameter("slope_platelets", 4.0),
        parameter("circ0_neutrophils", 4.5, iiv=0.2),
        parameter("MTT_neutrophils", 100.0),
        parameter("gamma_neutrophils", 0.17),
        parameter("circ0_platelets", 220.0),
        parameter("MTT_platelets", 110.0),
        parameter("gamma_platelets", 0.25),
        parameter("ks_platelets", 0.03),
    ]
    return PopulationModel(structure, own, ERRORS, correlated=[("CL", "slope_neutrophils")])


def design(doses, lines, days=MORNINGS, subjects=1, occasions=False, **columns):
    """Doses ``(day, mg, hours)`` of every subject, and all lines on mornings."""
    rows = []
    for subject in range(subjects):
        own = [(24.0 * day, mg, mg / hours, 1, None, 1, day) for day, mg, hours in doses]
        own += [
            (24.0 * day, 0.0, 0.0, 0, 1.0, i + 1, max(day - 1, 0))
            for day in days
            for i in range(len(lines))
        ]
        # a count of a morning comes before the dose, on the occasion of the day before
        rows += [(subject + 1, *row) for row in sorted(own, key=lambda r: (r[0], r[3]))]
    frame = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "RATE", "EVID", "DV", "DVID", "OCC"])
    frame["OCC"] += 1
    if not occasions:
        frame = frame.drop(columns="OCC")
    for name, value in columns.items():
        frame[name] = value
    return read_nonmem(
        frame, covariates=list(columns), lines={i + 1: line for i, line in enumerate(lines)}
    )


def draws_of_model(model, data, n=1, **changes):
    """Draws of a fit of a model, made up: its starting values, or what is given."""
    likelihood = bind(model, data)
    values = start_values(model)
    population = {name: np.full(n, value) for name, value in values.items()}
    population |= {name: np.asarray(value) for name, value in changes.items()}
    random = np.zeros((n, likelihood.n_subjects, likelihood.random_effects.size))
    return Draws(likelihood, population, random)


def regimen(amount="126 mg", days="1-3"):
    return pkpd.daily("any drug", amount, days=days, route="iv", duration="1 h")


def test_parameters_of_new_patients_follow_covariates_and_correlated_random_effects():
    model = two_lines()
    given = {"omega_CL": [0.3, 0.6], "partial_CL_slope_neutrophils": [0.5, -0.2]}
    fitted = draws_of_model(model, design([(0, 100, 1)], [*LINES], WT=70.0), 2, **given)
    new = NewPatients(model, PEOPLE, 1)
    found = new.parameters(fitted.population)
    a, b = (PEOPLE.normal_score(f"fit:{name}") for name in ("CL", "slope_neutrophils"))
    for d, (omega, rho) in enumerate(((0.3, 0.5), (0.6, -0.2))):
        weight = (PEOPLE["weight"] / 70.0) ** 0.75
        np.testing.assert_allclose(found["CL"][d], 30.0 * weight * np.exp(omega * a), rtol=1e-12)
        slope = 3.0 * np.exp(0.4 * (rho * a + np.sqrt(1 - rho**2) * b))
        np.testing.assert_allclose(found["slope_neutrophils"][d], slope, rtol=1e-12)
    np.testing.assert_allclose(found["V2"], np.full((2, 3), 60.0), rtol=1e-12)


@pytest.mark.parametrize("effect", ["linear", {"neutrophils": "emax", "platelets": "linear"}])
def test_counts_are_those_of_the_model_that_was_fitted(effect):
    """Each new patient as a subject of a data set, solved by the engine of fits."""
    model = two_lines() if effect == "linear" else None
    if model is None:
        base = two_lines()
        structure = marrow_model(compartments(2), lines=LINES, effect=effect)
        kept = [p for p in base.parameters if p.name != "slope_neutrophils"]
        own = [parameter("Emax_neutrophils", 0.9), parameter("EC50_neutrophils", 0.1, iiv=0.3)]
        model = PopulationModel(structure, [*kept, *own], ERRORS)
    doses = [(day, 126.0, 1.0) for day in (0, 1, 2)]
    data = design(doses, [*LINES], subjects=3, WT=70.0)
    fitted = draws_of_model(model, data)
    counts = pkpd.simulate(
        regimen(), PEOPLE, posterior=fitted, until_day=29, transfusion=None
    )["count"]  # fmt: skip
    individual = NewPatients(model, PEOPLE, 1).parameters(fitted.population)
    own = {name: value[0] for name, value in individual.items()}
    predicted = np.asarray(fitted.likelihood.predictor(own))
    seen = data.observations
    for i, line in enumerate(LINES):
        expected = predicted[seen.line == i].reshape(3, -1)
        found = counts.sel(draw=0, line=line).values
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        assert found.min() < 0.8 * found[:, 0].min()


def leukaemia_fit():
    """Make up a fit of clofarabine in the marrow with leukaemia; three subjects."""
    structure = leukaemia_model(
        {"clofarabine": compartments(2)},
        disease="aml",
        free=["rho", "blasts_start", "clofarabine_ec50_stem"],
        molar_mass={"clofarabine": 303.68},
    )
    values = {"CL": 30.0, "V1": 110.0, "V2": 55.0, "Q": 12.0, "k_in": 0.35, "k_out": 0.03,
              "rho": 0.35, "blasts_start": 0.4, "clofarabine_ec50_stem": 4.0}  # fmt: skip
    spread = ("CL", "rho", "blasts_start")
    own = [parameter(n, v, iiv=0.3 if n in spread else None) for n, v in values.items()]
    lines = ("neutrophils", "platelets", "marrow_blasts")
    errors = dict.fromkeys(lines, residual.lognormal(0.3))
    model = PopulationModel(structure, own, errors)
    doses = [(day, 60.0, 2.0) for day in range(5)]
    return draws_of_model(model, design(doses, lines, subjects=3))


def test_doses_that_a_fit_takes_as_intensities_are_those_of_the_learned_marrow():
    """Doses of a cycle two weeks apart are courses of their own, which saturate alone."""
    made = leukaemia_model({"cytarabine": None}, disease="aml")
    given = pkpd.daily("cytarabine", "500 mg/m^2", days="1-3, 29-31/42", route="iv")
    ready = prepare_fitted(made, given, 42, transfusion=None, curve=False, arm=None, occasional=())
    learned = prepare_regimen(ArmSchedule(given, 42)).at(default_theta()).rates
    found = ready.rules.amount[0, :, 0]
    np.testing.assert_allclose(found, learned[0, :, 0, CHANNELS.index("early")])
    assert found[:3].sum() == pytest.approx(found[28:31].sum())
    low = (Criterion("platelets", 50.0),)
    change = DoseModification("cytarabine", low, levels_mg=(250.0,), reduce_on_resume=True)
    half = pkpd.daily("cytarabine", "250 mg/m^2", days="1-3, 29-31/42", route="iv")
    some, other = (
        prepare_fitted(made, one, 42, transfusion=None, curve=False, arm=None, occasional=()).rules
        for one in (given.with_modifications(change), half)
    )
    np.testing.assert_allclose(some.share[0, :3, 0, 1] * found[:3], other.amount[0, :3, 0])


@pytest.mark.slow
def test_the_marrow_with_leukaemia_that_was_fitted_answers():
    fitted = leukaemia_fit()
    model, data = fitted.likelihood.model, fitted.likelihood.dataset
    lines = ("neutrophils", "platelets", "marrow_blasts")
    daily = pkpd.daily("clofarabine", "60 mg", days="1-5", route="iv", duration="2 h")
    found = pkpd.simulate(daily, PEOPLE, posterior=fitted, until_day=29, transfusion=None)
    individual = NewPatients(model, PEOPLE, 1).parameters(fitted.population)
    predicted = np.asarray(fitted.likelihood.predictor({k: v[0] for k, v in individual.items()}))
    seen = data.observations
    counted = found["count"].sel(draw=0)
    for i, line in enumerate(lines):
        values = found["marrow_blasts"].sel(draw=0) if i == 2 else counted.sel(line=line)
        expected = predicted[seen.line == i].reshape(3, -1)
        np.testing.assert_allclose(values.values, expected, rtol=5e-3)
    assert found.attrs["marrow"] == "leukaemia"
    assert np.all(found["death_day"] > 0)


def test_early_death_in_a_fit_has_age_and_frailty():
    """Share dead by day 31, by the frailty's integral; twice the hazard at 19.8 years more."""
    daily = 0.004
    values = {"hazard_base": daily, "hazard_neutropenia": 0.0, "hazard_blasts": 0.0}
    made = leukaemia_model(
        {"cytarabine": None},
        disease="aml",
        observed=("neutrophils", "platelets"),
        free=["rho"],
        values=values,
    )
    errors = dict.fromkeys(made.lines, residual.lognormal(0.3))
    model = PopulationModel(made, [parameter("rho", 0.3)], errors)
    n, theta = 2000, default_theta()
    typical = typical_patient("aml")["age"]
    regimen = pkpd.daily("cytarabine", "500 mg/m^2", days="1", route="iv")
    z, w = np.polynomial.hermite_e.hermegauss(60)
    for older in (0.0, 10.0 * np.log(2.0) / theta["hazard_age"]):
        sample = patients(
            {"age": np.full(n, typical + older), "male": 1, "weight": 75, "height": 175, "scr": 1.0}
        )
        found = pkpd.simulate(regimen, sample, posterior=model, until_day=31, transfusion=None)
        dead = float((found["death_day"] <= 31.0).mean())
        hazard = 30.0 * daily * np.exp(theta["hazard.sd"] * z + 0.1 * theta["hazard_age"] * older)
        expected = float(((1.0 - np.exp(-hazard)) * w).sum() / w.sum())
        assert abs(dead - expected) < 3.0 * np.sqrt(expected * (1.0 - expected) / n)


UNITS = [
    ("SCR", "umol/L", 88.4, "scr", 88.4),
    ("SCR", None, 1.0, "scr", 1.0),
    ("HT", "m", 1.72, "height", 0.01),
    ("AGE", "months", 700.0, "age", 12.0),
    ("CRCL", "L/h", 5.4, "crcl", 0.06),
    ("WT", "g", 70e3, "weight", 1e3),
]


@pytest.mark.parametrize(("name", "unit", "usual", "own", "factor"), UNITS)
def test_covariates_of_new_patients_are_in_the_units_of_the_data(name, unit, usual, own, factor):
    model = two_lines()
    model = model.changed("CL", effects=(covariate.power(name, usual, fixed(1.0)),))
    data = design([(0, 100, 1)], [*LINES], **{name: usual})
    data = replace(data, units={} if unit is None else {name: unit})
    fitted = draws_of_model(model, data)
    source = pkpd.source(PEOPLE, posterior=fitted)
    assert source.scale == {name: pytest.approx(factor, rel=1e-9)}
    found = NewPatients(source.model, PEOPLE, 1, source.scale).parameters(fitted.population)
    a = PEOPLE.normal_score("fit:CL")
    expected = 30.0 * np.exp(0.3 * a) * np.asarray(PEOPLE[own]) * factor / usual
    np.testing.assert_allclose(found["CL"][0], expected, rtol=1e-9)


def test_patients_far_from_the_data_of_a_fit_have_another_unit():
    model = two_lines()
    model = model.changed("CL", effects=(covariate.power("SCR", 88.4, fixed(1.0)),))
    data = design([(0, 100, 1)], [*LINES], SCR=90.0)
    told = r"median of 'SCR' is .*, and the fit's data have 90 to 90; .*units=\{\"SCR\": ...\}"
    with pytest.raises(PkpdError, match=told):
        pkpd.source(PEOPLE, posterior=draws_of_model(model, data))
    wrong = replace(data, units={"SCR": "kg"})
    with pytest.raises(PkpdError, match="covariate 'SCR' of the fit's data: unit 'kg'"):
        pkpd.source(PEOPLE, posterior=draws_of_model(model, wrong))


def test_a_dosing_day_is_an_occasion():
    model = two_lines()
    kinetic = replace(model["CL"], iov=model["CL"].iiv)
    model = model.changed("CL", iov=kinetic.iov)
    doses = [(day, 126.0, 1.0) for day in (0, 1, 2)]
    data = design(doses, [*LINES], subjects=3, days=range(3), occasions=True, WT=70.0)
    fitted = draws_of_model(model, data)
    counts = pkpd.simulate(
        regimen(), PEOPLE, posterior=fitted, until_day=3, transfusion=None
    )["count"].sel(draw=0)  # fmt: skip
    individual = NewPatients(model, PEOPLE, 3).parameters(fitted.population)
    by_occasion = individual["CL"][0]
    assert np.ptp(np.log(by_occasion), axis=1).min() > 0.1
    events = data.events
    by_record = np.take_along_axis(by_occasion, data.occasion, axis=1)
    own = {n: (by_record if n == "CL" else v[0]) for n, v in individual.items()}
    predicted = np.asarray(fitted.likelihood.predictor(own))
    assert events.valid.all()
    for i, line in enumerate(LINES):
        expected = predicted[data.observations.line == i].reshape(3, -1)
        np.testing.assert_allclose(counts.sel(line=line).values, expected, rtol=1e-3)


@pytest.mark.long
def test_draws_of_a_maximum_have_its_covariance_and_one_is_the_estimate():
    rng = np.random.default_rng(2)
    base = design([(0, 100.0, 1.0)], ["concentration"], days=[0.05, 0.2, 0.5], subjects=20)
    model = PopulationModel(
        compartments(1),
        [parameter("CL", 3.0, iiv=0.3), parameter("V", 30.0)],
        residual.proportional(0.2),
    )
    seen = base.observations
    value = 100 / 30.0 * np.exp(-0.1 * seen.time) * np.exp(0.2 * rng.standard_normal(len(seen)))
    data = replace(base, observations=replace(seen, value=value))
    found = pkpd.fit(model, data, method="focei", progress=False)
    drawn = parameter_draws(found, 4000, 1)
    logs = np.log([drawn.values["CL"], drawn.values["V"]])
    error = np.array([found.standard_errors[n] / found.estimates[n] for n in ("CL", "V")])
    np.testing.assert_allclose(logs.std(axis=1), error, rtol=0.06)
    one = parameter_draws(found, 1, 1)
    assert {name: v[0] for name, v in one.values.items()} == found.estimates
    assert "focei" in repr(found)
    assert len(repr(found)) < 300
    # what the data do not tell is named, and not drawn from wildly
    wide, place = found.covariance_x.copy(), found.names.index("V")
    wide[place], wide[:, place] = 0.0, 0.0
    wide[place, place] = 4.0
    held = parameter_draws(replace(found, covariance_x=wide), 50, 1)
    np.testing.assert_allclose(held.values["V"], found.estimates["V"])
    assert held.values["CL"].std() > 0.0
    assert any("hardly tell" in note and "V" in note for note in held.notes)


def test_a_standard_error_in_units_is_no_reason_to_hold_a_parameter():
    """A baseline of 120 with an error of 6 stayed in every draw; of a logarithm, 6 is too wide."""
    model = PopulationModel(
        LEVEL,
        [parameter("a", 120.0, iiv=fixed(10.0), scale="identity")],
        residual.additive(fixed(1.0)),
    )
    seen = np.array([[110.0, 111.0], [121.0, 119.0], [133.0, 132.0]])
    fit = pkpd.fit(model, levels(np.arange(2.0), seen), method="fo", progress=False)
    assert fit.standard_errors["a"] == pytest.approx(np.sqrt(100.5 / 3.0), rel=1e-3)
    drawn = parameter_draws(fit, 4000, 1)
    assert drawn.values["a"].std() == pytest.approx(fit.standard_errors["a"], rel=0.05)
    assert drawn.notes == ()


def test_draws_of_a_posterior_are_spread_over_it_and_repeated_where_there_are_too_few():
    data = design([(0, 100, 1)], [*LINES], WT=70.0)
    fitted = draws_of_model(two_lines(), data, 10, V1=np.arange(1.0, 11.0))
    few = parameter_draws(fitted, 5, 1)
    assert len(set(few.values["V1"])) == 5
    assert {few.values["V1"].min(), few.values["V1"].max()} == {1.0, 10.0}
    many = parameter_draws(fitted, 25, 1)
    assert many.values["V1"].size == 25
    assert many.notes == ("The fit has 10 draws, which are repeated to make 25.",)
    assert parameter_draws(fitted, 1, 1).values["V1"] == [5.5]


def test_notes_on_the_draws_of_a_fit_reach_the_result():
    data = design([(0, 100, 1)], [*LINES], WT=70.0)
    fitted = draws_of_model(two_lines(), data, 2, V1=np.array([4.0, 5.0]))
    of = {"posterior": fitted, "patients": 2}
    notes = ["The fit has 2 draws, which are repeated to make 3."]
    for made, more in ((pkpd.simulate, {"until_day": 5}), (pkpd.exposures, {})):
        assert made(regimen(), PEOPLE, draws=3, **of, **more).attrs["notes"] == notes
        assert "notes" not in made(regimen(), PEOPLE, draws=2, **of, **more).attrs


def test_a_fit_of_neutrophils_alone_is_simulated():
    lines = {"neutrophils": Friberg()}
    data = design([(0, 100, 1)], [*lines], WT=70.0)
    fitted = draws_of_model(two_lines(lines=lines), data)
    found = pkpd.simulate(regimen(), PEOPLE, posterior=fitted, until_day=29)
    assert list(found["line"].values) == ["neutrophils"]
    assert not found["transfused"].any()
    assert list(found["criterion"].values) == ["neutrophils >= 0.5", "neutrophils >= 1"]
    with pytest.raises(PkpdError, match=r"rule len_mec_2018: it needs platelets, which the source"):
        pkpd.simulate(regimen(), PEOPLE, posterior=fitted, rule="len_mec_2018", until_day=60)
    waiting = pkpd.schedule.Gate((pkpd.schedule.Criterion("platelets", 50.0),))
    (course,) = regimen().courses
    gated = replace(regimen(), courses=(replace(course, gate=waiting),))
    with pytest.raises(PkpdError, match="waits for platelets, which the fit does not have"):
        pkpd.simulate(gated, PEOPLE, posterior=fitted)


def test_amounts_in_umol_are_those_of_the_card_in_mg():
    """Leukocytes alone, no drug named: the schedule's drug has a card with its molar mass."""
    structure = marrow_model(compartments(2), lines={"leukocytes": Friberg()})
    values = {"CL": 30.0, "V1": 40.0, "V2": 60.0, "Q": 15.0, "slope": 2.0, "circ0": 7.0,
              "MTT": 120.0, "gamma": 0.2}  # fmt: skip
    own = [parameter(n, values[n]) for n in structure.parameters]
    model = PopulationModel(structure, own, {"leukocytes": residual.proportional(0.3)})
    in_umol = design([(0, 303.68, 1.0)], ["leukocytes"])
    fitted = draws_of_model(model, replace(in_umol, units={"AMT": "umol"}))
    given = pkpd.daily("clofarabine", "303.68 mg", days="1", route="iv", duration="1 h")
    found = pkpd.simulate(given, PEOPLE, posterior=fitted, until_day=29)
    predicted = np.asarray(
        fitted.likelihood.predictor({n: np.array([v]) for n, v in values.items()})
    )
    assert list(found["line"].values) == ["leukocytes"]
    # 303.68 mg of the drug are 1,000 umol; the data had 303.68 umol
    assert found["nadir"].values.min() < predicted.min()
    in_mg = PopulationModel(structure, [parameter(n, v * (0.30368 if n == "slope" else 1.0))
                                        for n, v in values.items()], model.residual)  # fmt: skip
    less = draws_of_model(in_mg, replace(in_umol, units={"AMT": "umol"}))
    again = pkpd.simulate(given, PEOPLE, posterior=less, until_day=29)["count"].values[0, 0, 0]
    np.testing.assert_allclose(again, predicted, rtol=1e-3)
    with pytest.raises(PkpdError, match="amounts of the data are umol, and no card gives"):
        pkpd.simulate(regimen(), PEOPLE, posterior=fitted)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("route", r"gives any drug by route 'oral'; allowed: iv"),
        ("two", r"gives (other|any drug), which the fit does not have; allowed: one drug"),
        ("marrow", r"marrow is given, and the fit has its own"),
        ("disease", r"disease is given, and the fit has its own"),
        ("covariate", r"have no covariate 'ALBUMIN', which the fit reads"),
        ("draws", r"20 draws are asked of estimates without standard errors"),
        ("object", r"dict is no fit; allowed: the result of pkpd.fit"),
        ("pk", r"has no blood counts; allowed: a fit of pkpd.models.marrow_model"),
        ("units", r"typical circ0_neutrophils of 4500 for neutrophils; allowed: counts in 10\^9/L"),
    ],
)
def test_what_a_fit_cannot_answer_is_refused(what, words):
    model, given, draws, marrow, disease = two_lines(), regimen(), 1, None, None
    data = design([(0, 100, 1)], [*LINES], WT=70.0, ALBUMIN=40.0)
    if what == "route":
        given = pkpd.daily("any drug", "10 mg", days="1", route="oral")
    if what == "two":
        given = given.together(pkpd.daily("other", "10 mg", days="2", route="iv"))
    if what == "marrow":
        marrow = "friberg"
    if what == "disease":
        disease = "myeloma"
    if what == "covariate":
        model = model.changed("CL", effects=(covariate.power("ALBUMIN", 40.0),))
    if what == "draws":
        draws = 20
    if what == "units":
        model = model.changed("circ0_neutrophils", typical=fixed(4500.0))
    fitted = draws_of_model(model, data)
    if what == "object":
        fitted = {"CL": 3.0}
    if what == "pk":
        alone = PopulationModel(compartments(1), [parameter("CL", 3.0), parameter("V", 30.0)],
                                residual.proportional(0.2))  # fmt: skip
        fitted = draws_of_model(alone, design([(0, 100, 1)], ["concentration"], days=[0.1]))
    asked = {"draws": draws, "marrow": marrow, "disease": disease, "until_day": 29}
    with pytest.raises(PkpdError, match=words):
        pkpd.simulate(given, PEOPLE, posterior=fitted, **asked)


def test_a_fit_goes_into_a_comparison():
    base = default_scenario()
    trial = next(t for t in base.trials if set(t.drugs) == {"lenalidomide"})
    structure = marrow_model(
        {"lenalidomide": compartments(1, absorption="first_order")}, lines=LINES
    )
    known = {"ka": 2.0, "CL": 12.0, "V": 60.0, "circ0_neutrophils": 3.0, "MTT_neutrophils": 100.0,
             "gamma_neutrophils": 0.17, "circ0_platelets": 150.0, "MTT_platelets": 110.0,
             "gamma_platelets": 0.25, "ks_platelets": 0.03, "slope_neutrophils": 0.5,
             "slope_platelets": 0.3}  # fmt: skip
    own = [parameter(n, known[n], iiv=0.3) for n in structure.parameters]
    model = PopulationModel(structure, own, ERRORS)
    fitted = draws_of_model(
        model, design([(0, 10, 1)], [*LINES]), 20, slope_neutrophils=np.linspace(0.2, 0.8, 20)
    )
    scenario = replace(base, trials=(trial,), patients=20, draws=20)
    result = pkpd.compare(scenario, posterior=fitted)
    assert result.record["marrow"]["fit"].startswith("fit of data frame")
    rows = [
        row
        for row in result.trials[0].rows
        if row.endpoint == "nadir" and row.line == "neutrophils"
    ]
    assert rows
    assert all(row.lower < row.estimate < row.upper for row in rows)
    assert {row.marrow for row in result.trials[0].rows} == {"friberg"}
    again = pkpd.compare(scenario, posterior=fitted)
    assert repr(again.trials[0].rows) == repr(result.trials[0].rows)
    with pytest.raises(PkpdError, match="the fit is one of the marrow friberg"):
        pkpd.compare(scenario, posterior=fitted, marrow="leukaemia")
    with pytest.raises(PkpdError, match="the option combination is set; a fit has the model"):
        pkpd.compare(scenario, posterior=fitted, options={"combination": "bliss"})
    with pytest.raises(PkpdError, match=r"gives clofarabine, which the fit does not have"):
        pkpd.compare(
            replace(base, trials=tuple(t for t in base.trials if "clofarabine" in t.drugs)),
            posterior=fitted,
        )


@pytest.mark.slow
def test_a_fit_of_the_marrow_with_leukaemia_has_its_endpoints_in_a_comparison(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'title = "Clofarabine alone"\npopulation = "rr_aml"\nhorizon_days = 60\n'
        'rule = "leukemia_d42_generic"\n[dose.clofarabine]\namount = "30 mg/m^2"\n'
        'days = "1-5"\nroute = "iv"\nduration = "1 h"\n[course.one]\n'
        'doses = ["clofarabine"]\ncycle_days = 28\n'
    )
    result = pkpd.compare(path, posterior=leukaemia_fit(), patients=30, draws=1)
    rows = result.table().set_index("endpoint")
    assert {"complete_remission", "early_death", "dlt", "split"} <= set(rows.index)
    assert result.record["marrow"]["model"] == "leukaemia"
    assert "marrow with leukaemia of the fit of data frame" in str(result.record["simulated"])


MINE = """
title = "Two doses"
population = "rr_aml"
rule = "leukemia_d42_generic"
rule_is_protocols = false
horizon_days = 60
[dose.{drug}]
amount = "10 mg"
days = "1-21"
route = "oral"
[course.treatment]
doses = ["{drug}"]
cycle_days = 28
[[cohort]]
id = "10 mg"
[[cohort]]
id = "20 mg"
change.{drug} = {{ amount = "20 mg" }}
"""


def oral_fit(drug):
    """Fit of a drug by mouth, of that name, or of none."""
    pk = compartments(1, absorption="first_order")
    structure = marrow_model({drug: pk} if drug else pk, lines=LINES)
    known = {"ka": 2.0, "CL": 12.0, "V": 60.0, "circ0_neutrophils": 3.0, "MTT_neutrophils": 100.0,
             "gamma_neutrophils": 0.17, "circ0_platelets": 150.0, "MTT_platelets": 110.0,
             "gamma_platelets": 0.25, "ks_platelets": 0.03, "slope_neutrophils": 0.5,
             "slope_platelets": 0.3}  # fmt: skip
    own = [parameter(n, known[n], iiv=0.3) for n in structure.parameters]
    return draws_of_model(
        PopulationModel(structure, own, ERRORS), design([(0, 10, 1)], [*LINES]), 4,
        slope_neutrophils=[0.2, 0.4, 0.6, 0.8],
    )  # fmt: skip


def neutrophils_alone(values):
    """Draws of a fit of neutrophils alone, without a platelet count."""
    pk = compartments(1, absorption="first_order")
    structure = marrow_model({"mydrug": pk}, lines={"neutrophils": Friberg()})
    known = {"ka": 2.0, "CL": 12.0, "V": 60.0, "circ0": 3.0, "MTT": 100.0, "gamma": 0.17,
             "slope": 0.5}  # fmt: skip
    own = [parameter(n, known[n], iiv=0.3) for n in structure.parameters]
    errors = {"neutrophils": ERRORS["neutrophils"]}
    return draws_of_model(
        PopulationModel(structure, own, errors), design([(0, 10, 1)], ["neutrophils"]),
        len(values), slope=values,
    )  # fmt: skip


def test_a_fit_of_neutrophils_alone_goes_into_comparison_search_and_explorer(tmp_path):
    """Nothing is said of platelets, and a rule that needs them is refused."""
    text = MINE.format(drug="mydrug").replace("20 mg", "200 mg")
    path = tmp_path / "mine.toml"
    path.write_text(text)
    fitted = neutrophils_alone(np.linspace(0.2, 0.8, 20))
    with pytest.raises(PkpdError, match=r"it needs platelets, .* or name a rule without"):
        pkpd.compare(path, posterior=fitted, patients=10, draws=20)
    text = text.replace("leukemia_d42_generic", "neutropenia_7_days")
    path.write_text(text)
    result = pkpd.compare(path, posterior=fitted, patients=10, draws=20)
    (trial,) = result.trials
    rows = result.table().set_index(["cohort", "endpoint", "line"])
    assert set(trial.curves["line"].values) == {"neutrophils"}
    assert "dlt_sensitivity" not in trial.curves
    assert {row.line for row in trial.rows} == {"neutrophils", ""}
    assert "platelet_transfusions" not in rows.index.get_level_values("endpoint")
    assert any("the fit has no platelets" in text for text in trial.assumptions)
    assert "without platelets, which the fit does not have" in str(result.record["simulated"])
    # the rule counts the same days as the rows below it
    risk = {c: rows.loc[(c, "dlt", ""), "estimate"] for c in ("10 mg", "200 mg")}
    assert risk["10 mg"] == 0.0 < risk["200 mg"] < 1.0
    paths = {path.name for path in write_results(result, tmp_path / "out")}
    assert {"report.html", "results.csv"} <= paths
    page = (tmp_path / "out" / "report.html").read_text()
    assert "How deep do neutrophils fall" in page
    assert "Marrow without leukaemia, fit of" in page
    assert "Marrow with leukaemia" not in page
    answers = search_schedules(
        path, posterior=fitted, patients=10, draws=20, limits=(), repeat=False
    ).answers["fit"]
    assert answers.figures["200 mg"]["dlt"].mean == pytest.approx(risk["200 mg"])
    asked = {"toml": text, "patients": 10, "draws": 20, "ensemble": "mine"}
    found = explore(read_state(asked, tmp_path, {"mine": fitted}))
    shown = page_content(found)
    assert [*shown["schedules"][0]["counts"]] == ["neutrophils"]
    assert {r.cohort: r.estimate for r in found.result.rows if r.endpoint == "dlt"} == risk


def compared(folder, drug, fitted):
    path = folder / f"{drug}.toml"
    path.write_text(MINE.format(drug=drug))
    return pkpd.compare(path, posterior=fitted, patients=20, draws=4)


@pytest.mark.parametrize("named", [True, False])
def test_a_drug_that_the_fit_knows_needs_no_card(tmp_path, named):
    """The fit answers for it as for the same drug under the name of a card."""
    known = compared(tmp_path, "lenalidomide", oral_fit("lenalidomide")).trials[0]
    result = compared(tmp_path, "mydrug", oral_fit("mydrug" if named else None))
    found = result.trials[0]
    for one, other in ((found.rows, known.rows), (found.pairs, known.pairs)):
        assert one
        assert [repr(replace(row, trial="")) for row in one] == [
            repr(replace(row, trial="")) for row in other
        ]
    nadirs = {r.cohort: r.estimate for r in found.rows if r.endpoint == "nadir"}
    assert nadirs["20 mg"] < nadirs["10 mg"]
    told = next(iter(result.record["simulated"].values()))
    assert "without leukaemia of the fit of data frame" in told
    assert "mydrug as it was fitted, without a card" in told
    assert ("the fit does not name its drug; mydrug is taken for it" in told) != named


def test_a_drug_that_neither_card_nor_fit_knows_is_refused(tmp_path):
    with pytest.raises(PkpdError, match=r"no card for drug 'other'.*allowed: .*mydrug"):
        compared(tmp_path, "other", oral_fit("mydrug"))
    with pytest.raises(PkpdError, match="no card for drug 'mydrug'"):
        compared(tmp_path, "mydrug", None)  # what one comparison knew, the next does not


def test_search_and_explorer_take_a_drug_of_the_fit(tmp_path):
    fitted = oral_fit("mydrug")
    expected = {
        row.cohort: row.estimate
        for row in compared(tmp_path, "mydrug", fitted).trials[0].rows
        if row.endpoint == "dlt"
    }
    answers = search_schedules(
        tmp_path / "mydrug.toml", posterior=fitted, patients=20, draws=4, limits=(), repeat=False
    ).answers
    found = {name: one["dlt"].mean for name, one in answers["fit"].figures.items()}
    assert found == pytest.approx(expected)
    page = {"toml": MINE.format(drug="mydrug"), "patients": 20, "draws": 4, "ensemble": "mine"}
    rows = explore(read_state(page, tmp_path, {"mine": fitted})).result.rows
    assert {r.cohort: r.estimate for r in rows if r.endpoint == "dlt"} == pytest.approx(expected)


def test_virtual_patients_of_a_schedule_file_have_bodies_of_their_own():
    """One sampled body was every virtual patient's: 104, 89 or 66 kg by the seed."""
    trial = load_trial("nct01681537_len_mec")
    made = source_of_cohort(trial, trial.cohorts[0], None, two_lines(), 1, 1)
    weights = made.sample.covariates["weight"]
    assert len(set(weights)) > 500
    assert 60.0 < np.median(weights) < 95.0


def test_growth_factor_by_need_is_refused_where_a_fit_forecasts():
    trial = load_trial("nct01681537_len_mec")
    needed = replace(trial, growth_factor=replace(trial.growth_factor, below=0.5))
    with pytest.raises(PkpdError, match=r"table \[growth_factor\]: growth factor is given by need"):
        source_of_cohort(needed, trial.cohorts[0], None, two_lines(), 1, 1)
