"""The marrow with leukaemia as a model to fit: simulated studies are recovered."""

from __future__ import annotations

import io

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.cards import load_population
from pkpd.cards.drug_cards import load_drug_card
from pkpd.errors import PkpdError
from pkpd.fitting.leukaemia_model import leukaemia_model, typical_patient
from pkpd.models import PopulationModel, compartments, fixed, parameter, residual, simulate_data
from pkpd.subjects import sample_population

TRUTH = {"rho": 0.25, "stem_start": 0.2, "blasts_start": 0.5, "kill_blasts": 14.0}
KINETICS = {"CL": 30.0, "V1": 80.0, "V2": 150.0, "Q": 20.0, "k_in": 2.5, "k_out": 0.0289}


def design(patients, days=(0, 7, 14, 18, 21, 24, 28, 32, 36, 42)):
    """Clofarabine for five days and an intensity of 0.45 over three; counts and blasts."""
    rows = []
    for i in range(1, patients + 1):
        rows += [(i, 24.0 * d, 36.0, 36.0, 1, 1, 0) for d in range(5)]
        rows += [(i, 24.0 * d, 0.15, 0.0, 3, 1, 0) for d in range(3)]
        for d in days:
            lines = (2, 3, 4) if d % 14 == 0 else (2, 3)
            rows += [(i, 24.0 * d + 0.5, 0.0, 0.0, 0, 0, line) for line in lines]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "RATE", "CMT", "EVID", "DVID"])
    table["DV"], table["MDV"] = 1.0, table["EVID"]
    table = table.sort_values(["ID", "TIME", "EVID"], ascending=[True, True, False])
    text = io.StringIO(table.to_csv(index=False))
    return pkpd.read_nonmem(
        pd.read_csv(text), lines={2: "neutrophils", 3: "platelets", 4: "marrow_blasts"}
    )


def structure(**more):
    return leukaemia_model(
        {"clofarabine": compartments(2), "mec": None},
        molar_mass={"clofarabine": 303.7},
        free=tuple(TRUTH),
        **({"disease": "aml"} | more),
    )


def model():
    held = [parameter(f"{name}_clofarabine", fixed(value)) for name, value in KINETICS.items()]
    spread = {"rho": 0.4, "stem_start": 0.5}
    free = [parameter(name, value, iiv=spread.get(name)) for name, value in TRUTH.items()]
    errors = {"neutrophils": 0.3, "platelets": 0.2, "marrow_blasts": 0.3}
    return PopulationModel(
        structure(), [*held, *free], {k: residual.lognormal(v) for k, v in errors.items()}
    )


def test_its_parameters_are_those_of_the_drugs_and_what_is_free():
    made = structure()
    assert made.parameters == (*(f"{name}_clofarabine" for name in KINETICS), *TRUTH)
    assert made.lines == (
        "concentration_clofarabine", "neutrophils", "platelets", "marrow_blasts"
    )  # fmt: skip
    assert dict(made.held)["mec_intensity"] == 1.0
    assert (
        dict(made.held)["clofarabine_hill"]
        == typical_patient("aml", ["clofarabine"])["clofarabine_hill"]
    )
    assert "rho" not in dict(made.held)


def test_compartments_are_numbered_in_the_order_of_the_drugs():
    made = leukaemia_model({"mec": None, "clofarabine": compartments(2)}, disease="aml")
    first = {drug.name: drug.first_compartment for drug in made.drugs}
    assert first == {"mec": 1, "clofarabine": 2}
    assert made.drugs[0].name == "clofarabine"  # those with kinetics stand first


def test_of_a_drug_that_acts_by_its_concentration_alone_the_parameters_there_are_are_free():
    made = leukaemia_model({"clofarabine": compartments(2)}, disease="aml")
    assert made.parameters[-4:] == ("rho", "stem_start", "stem_platelet_start", "blasts_start")
    with pytest.raises(PkpdError, match="'kill_blasts' is not a parameter of the marrow"):
        leukaemia_model({"clofarabine": compartments(2)}, disease="aml", free=["kill_blasts"])


def test_another_name_of_a_growth_factor_is_no_chemotherapy():
    made = leukaemia_model({"G-CSF": None}, disease="aml", free=["rho"])
    assert "G-CSF_intensity" not in dict(made.held)


@pytest.mark.slow
@pytest.mark.parametrize("disease", ["aml", "mds_high_risk"])
def test_predictions_have_the_gradient_of_differences(disease):
    data = design(2)
    predictor = structure(disease=disease).bind(data)
    values = {f"{name}_clofarabine": v for name, v in KINETICS.items()} | TRUTH
    values = {name: jnp.full(2, v) for name, v in values.items()}

    def total(name, value):
        return jnp.log(predictor({**values, name: value})).sum()

    for name in ("rho", "stem_start", "blasts_start", "kill_blasts", "CL_clofarabine"):
        here = values[name]
        slope = np.asarray(jax.grad(lambda v, name=name: total(name, v))(here))
        for i in range(2):
            step = jnp.zeros(2).at[i].set(1e-4 * here[i])
            ends = [float(total(name, here + k * step)) for k in (1, -1, 2, -2)]
            found = (8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12e-4 * float(here[i]))
            assert slope[i] == pytest.approx(found, rel=1e-6)


@pytest.mark.slow
def test_doses_of_a_drug_without_kinetics_act_over_a_day():
    """A dose without a rate is the same as one over 24 hours, and twice the dose kills more."""
    data = design(1)
    blasts = np.array(data.lines)[data.observations.line] == "marrow_blasts"
    values = {f"{name}_clofarabine": v for name, v in KINETICS.items()} | TRUTH

    def seen(intensity):
        made = structure(values={"mec_intensity": intensity})
        return np.asarray(made.bind(data)({k: np.full(1, v) for k, v in values.items()}))

    once, twice = seen(1.0), seen(2.0)
    later = np.flatnonzero(blasts)[1:]
    assert (twice[later] < once[later]).all()
    first = np.flatnonzero(blasts)[0]
    assert twice[first] == pytest.approx(once[first], rel=0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"disease": "amll"}, "disease 'amll' is unknown.*did you mean"),
        ({"free": ["rhoo"]}, "'rhoo' is not a parameter"),
        ({"pk": {"mitoxantrone": compartments(2)}}, "give its doses as intensity"),
        ({"molar_mass": {"clofarabin": 303.7}}, "'clofarabin' is no drug .*did you mean"),
        ({"driver": {"clofarabine": "plasm"}}, "driver 'plasm' is unknown; allowed: plasma"),
        ({"driver": "plasma"}, "leukaemia_model, driver: .plasma. is a str; allowed: a mapping"),
        (
            {"molar_mass": {"clofarabine": -303.7}, "free": ["rho"]},
            "leukaemia_model, molar_mass: -303.7; allowed: g/mol, more than 0",
        ),
        (
            {
                "pk": {"clofarabine": compartments(2), "mec": None},
                "first_compartment": {"clofarabine": 1, "mec": 2},
            },
            "compartment 2 is of clofarabine and of mec",
        ),
    ],
)
def test_what_it_cannot_take_is_one_sentence(change, words):
    settings = {"pk": {"clofarabine": compartments(2)}, "disease": "aml"} | change
    with pytest.raises(PkpdError, match=words):
        leukaemia_model(settings.pop("pk"), **settings)


@pytest.mark.long  # its gradient is above; test_max_likelihood
def test_a_simulated_study_is_recovered_by_maximum_likelihood():
    data = simulate_data(model(), design(20), seed=3)
    fit = pkpd.fit(model(), data, method="focei")
    table = fit.table()
    for name, value in TRUTH.items():
        row = table.loc[name]
        assert abs(np.log(row["estimate"] / value)) < 3.0 * row["standard_error"] / row["estimate"]
        assert row["standard_error"] / row["estimate"] < 0.6


def test_a_card_s_action_is_driven_by_umol():
    """Without a molar mass its EC50 in umol/L met concentrations in mg/L."""
    for drug in ("clofarabine", "lenalidomide"):
        mass = load_drug_card(drug).molar_mass.value
        by_card, given, umol = (
            leukaemia_model({drug: compartments(1)}, disease="aml", **more).drugs[0].per_unit
            for more in ({}, {"molar_mass": {drug: mass}}, {"molar_mass": {drug: 1000.0}})
        )
        assert by_card == given == pytest.approx(1000.0 / mass)
        assert umol == 1.0


def counted(*days, amount=0.0, cmt=1):
    """One subject counted on some mornings; a dose after the first counts if wanted."""
    rows = [(1, 24.0 * d, 0.0, 0, 0, 1, line, 1.0) for d in days for line in (2, 3)]
    rows[2:2] = [(1, 0.0, amount, 1, 1, cmt, 0, 0.0)] if amount else []
    names = ["ID", "TIME", "AMT", "EVID", "MDV", "CMT", "DVID", "DV"]
    return pkpd.read_nonmem(
        pd.DataFrame(rows, columns=names), lines={2: "neutrophils", 3: "platelets"}
    )


def predicted(made, data, **values):
    """Neutrophils and platelets ``[days, 2]``; kinetics are 1, the rest as of the card."""
    known = typical_patient("mds_high_risk") | values
    found = made.bind(data)({n: jnp.full(1, known.get(n, 1.0)) for n in made.parameters})
    return np.asarray(found).reshape(-1, 2)


@pytest.mark.parametrize("disease", ["mds_high_risk", "mds_lower_risk", "lymphoma", "solid"])
@pytest.mark.parametrize("start", [0.2, 0.6, 1.3])
@pytest.mark.slow
def test_a_marrow_without_drugs_stays_where_a_subject_starts(disease, start):
    """Capacity and crowding were the typical patient's: whoever started elsewhere went aplastic."""
    made = leukaemia_model(
        {"mec": None},
        disease=disease,
        observed=("neutrophils", "platelets"),
        free=("stem_start", "stem_platelet_start", "blasts_start"),
        values={"growth": 0.0},
    )
    blasts = 2.0 * typical_patient(disease)["blasts_start"]
    found = predicted(
        made,
        counted(0, 28, 112),
        stem_start=start,
        stem_platelet_start=0.7 * start,
        blasts_start=blasts,
    )
    np.testing.assert_allclose(found, found[:1].repeat(3, axis=0), rtol=2e-3)


def test_what_the_disease_takes_of_the_room_is_given_back_without_it():
    """Blasts that die leave the capacity of relief, stem_start^(1 - relief), which may be free."""
    made = leukaemia_model(
        {"mec": None},
        disease="mds_high_risk",
        observed=("neutrophils", "platelets"),
        free=("stem_start", "relief", "rho"),
        values=dict.fromkeys(("growth", "gamma", "beta", "block", "leukaemic_neutrophils"), 0.0)
        | {"kill_blasts": 30.0, "kill_stem": 1e-9, "kill_stem_platelet": 1e-9},
    )
    assert {"capacity", "crowding"}.isdisjoint(dict(made.held))
    for relief in (0.2, 0.8):
        found = predicted(made, counted(0, 400, amount=1.0), stem_start=0.3, relief=relief, rho=0.3)
        # without feedback, counts are in proportion to the early pool
        assert found[1, 0] / found[0, 0] == pytest.approx(0.3**-relief, rel=1e-3)


@pytest.mark.parametrize(
    "own", [{"values": {"capacity": 0.8}}, {"free": ["rho", "crowding"]}, {"disease": "aml"}]
)
def test_a_capacity_of_one_s_own_is_not_tied(own):
    made = leukaemia_model({"mec": None}, **({"disease": "mds_high_risk"} | own))
    assert "relief" not in dict(made.held)
    assert "capacity" in dict(made.held)


def test_a_typical_patient_has_the_median_age_of_the_disease():
    """It had the age of one patient drawn at random."""
    for disease, name in (("aml_relapsed", "rr_aml"), ("mds_after_hma", "mds_post_hma")):
        ages = sample_population(load_population(name), 4000, 3)["age"]
        assert typical_patient(disease)["age"] == pytest.approx(float(np.median(ages)), abs=1.5)


def test_more_than_a_whole_growth_factor_is_no_more_than_on():
    made = leukaemia_model(
        {"mec": None, "G-CSF": None},
        disease="lymphoma",
        observed=("neutrophils", "platelets"),
        free=["rho"],
    )
    once, often = (
        predicted(made, counted(0, 1, 3, amount=amount, cmt=2), rho=0.3) for amount in (1.0, 300.0)
    )
    none = predicted(made, counted(0, 1, 3), rho=0.3)
    assert once[1, 0] > 1.05 * none[1, 0]
    np.testing.assert_array_equal(once, often)
