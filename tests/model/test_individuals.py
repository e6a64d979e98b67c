"""Individual parameters against published numbers and hand arithmetic."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkpd.cards.population_cards import load_population
from pkpd.errors import DataError
from pkpd.model import (
    draw_parameters,
    individual_parameters,
    load_model,
    occasion_factors,
    occasion_scores,
    patient_arrays,
    typical,
)
from pkpd.subjects import patients, sample_population

ADULT = {"age": 60.0, "male": 1.0, "weight": 70.0, "height": 175.0, "crcl": 100.0}
COUNTS = {"anc": 2.0, "plt": 100.0, "wbc": 10.0}


def individual(covariates, name, *, population=None, **load):
    """Parameter of one typical patient."""
    model = load_model(drugs=[name.split(".")[0]], **load)
    sample = patients({**ADULT, **COUNTS, **covariates}, typical=True)
    values = individual_parameters(model, typical(model, population), sample, xp=np)
    return values[name].item()


NO_ADULT = {"options": {"adult_clearance": False}}
BONATE = {"replace": {"clofarabine.pk": "bonate2004_clofarabine"}}


def test_lenalidomide_exposure_of_10_mg():
    # AUC printed in the literature comparison: 833, 714 and 1379 ng*h/mL, rounded to 1
    reference = {"ffm": 55.0, "crcl": 90.0}
    assert 10e3 / individual(reference, "lenalidomide.CL") == pytest.approx(833, abs=0.5)
    for card, auc in (("guglieri2017_lenalidomide", 714), ("liang2024_lenalidomide", 1379)):
        clearance = individual(reference, "lenalidomide.CL", replace={"lenalidomide.pk": card})
        assert 10e3 / clearance == pytest.approx(auc, abs=0.5)
    assert individual(reference, "lenalidomide.KTR") == 13.5
    assert individual({"ffm": 110.0}, "lenalidomide.V1") == pytest.approx(2 * 68.8)


def test_lenalidomide_in_renal_impairment():
    normal = individual({"ffm": 55.0, "crcl": 90.0}, "lenalidomide.CL")
    at_30 = individual({"ffm": 55.0, "crcl": 30.0}, "lenalidomide.CL")
    # printed: -22 % at 30 mL/min with the exponent 0.224, -39 % in the other model
    assert at_30 / normal == pytest.approx(0.78, abs=0.005)
    other = {"replace": {"lenalidomide.pk": "guglieri2017_lenalidomide"}}
    assert individual({"crcl": 30.0}, "lenalidomide.CL", **other) / 14 == pytest.approx(0.61)
    option = {"options": {"renal_chen2007": True}}
    for crcl, ratio in ((40.0, 2.4), (30.0, 2.4), (29.0, 3.4)):
        clearance = individual({"ffm": 55.0, "crcl": crcl}, "lenalidomide.CL", **option)
        assert normal / clearance == pytest.approx(ratio)
    same = individual({"ffm": 55.0, "crcl": 60.0}, "lenalidomide.CL", **option)
    assert same == pytest.approx(individual({"ffm": 55.0, "crcl": 60.0}, "lenalidomide.CL"))


def test_clofarabine_clearance_at_70_kg():
    # printed: 53.8 L/h with RF = 1 (100 mL/min), 49.9 L/h in the earlier model
    assert individual({}, "clofarabine.CL", **NO_ADULT) == pytest.approx(53.8, abs=0.05)
    earlier = individual({}, "clofarabine.CL", **NO_ADULT, **BONATE)
    assert earlier == pytest.approx(49.9, abs=0.05)
    # label 28.8 L/h/m^2 at 1.8 m^2; both models within 5 %
    for clearance in (53.8, earlier):
        assert clearance / (28.8 * 1.8) == pytest.approx(1.0, abs=0.05)
    assert individual({}, "clofarabine.CL") == pytest.approx(0.7 * 53.8, rel=1e-3)
    assert individual({"age": 17.0}, "clofarabine.CL") == pytest.approx(53.8, abs=0.05)


def test_clofarabine_volumes():
    volume = sum(individual({}, f"clofarabine.{v}") for v in ("V1", "V2"))
    assert volume == pytest.approx(454, abs=0.5)  # printed
    earlier = sum(individual({}, f"clofarabine.{v}", **BONATE) for v in ("V1", "V2"))
    assert earlier == pytest.approx(367, abs=0.5)  # printed, white cells 10
    high = individual({"wbc": 80.0}, "clofarabine.V1", **BONATE)
    low = individual({"wbc": 10.0}, "clofarabine.V1", **BONATE)
    assert high / low == pytest.approx(8**0.128)


def test_clofarabine_renal_function():
    reference = individual({}, "clofarabine.CL")
    for crcl, ratio in ((75.0, 1.16), (45.0, 1.44)):  # printed, two decimals
        value = individual({"crcl": crcl}, "clofarabine.CL")
        assert reference / value == pytest.approx(ratio, abs=0.005)
    # capped at 140 mL/min/1.73 m^2: RF = 1.4 at 1.73 m^2 and 70 kg
    capped = individual({"crcl": 300.0, "bsa": 1.73}, "clofarabine.CL", **NO_ADULT)
    assert capped == pytest.approx(24.0 + 29.8 * 1.4)


def test_clofarabine_label_ratios():
    option = {"options": {"renal_label": True}}
    normal = individual({"crcl": 95.0}, "clofarabine.CL", **option)
    assert normal == pytest.approx(53.8, abs=0.05)  # RF = 1 and no adult factor
    for crcl, ratio in ((89.0, 1.6), (60.0, 1.6), (59.0, 2.4), (20.0, 2.4)):
        value = individual({"crcl": crcl}, "clofarabine.CL", **option)
        assert normal / value == pytest.approx(ratio)


def test_co_medications_at_printed_patients():
    freyer = individual({"scr_umol_L": 82.0, "scr": 82 / 88.4}, "etoposide.CL")
    assert freyer == pytest.approx(2.66, abs=0.005)
    toffoli = {"replace": {"etoposide.pk": "toffoli2001_etoposide"}}
    assert individual({"crcl": 70.0}, "etoposide.CL", **toffoli) == pytest.approx(1.14, abs=0.005)
    assert individual({"bsa": 1.8}, "cytarabine.CL") == pytest.approx(134 * 1.8)
    assert individual({"weight": 27.5, "height": 130.0}, "mitoxantrone.V2") == pytest.approx(85.9)
    assert individual({"bsa": 1.58}, "cyclophosphamide.V1") == pytest.approx(46.5)
    assert individual({}, "dexamethasone.ka") == 0.936
    assert individual({"wbc": 10.0}, "alemtuzumab.Vmax") == pytest.approx(1.02)  # mg/h
    # a creatinine beyond the line's zero must not turn clearance negative
    assert individual({"scr_umol_L": 600.0, "scr": 6.8}, "etoposide.CL") == 0.5


def test_effect_of_clofarabine_per_dose():
    model = load_model(drugs=["clofarabine"])
    values = individual_parameters(
        model, typical(model), patients({**ADULT, **COUNTS}, typical=True), xp=np
    )
    # 5 mg/m^2 in an adult of 1.8 m^2 and 37.7 L/h (the adult factor on 53.8 L/h at 70 kg): plasma
    # AUC 0.786 umol*h/L makes 5 x 0.40 uM of triphosphate, as measured in adults
    assert values["clofarabine.CL"].item() == pytest.approx(37.7, rel=0.05)
    formed = values["clofarabine.effect.k_in"] * 5 * 1.8 / 37.7 * 1000 / 303.68
    assert formed.item() == pytest.approx(2.0, rel=0.01)
    assert np.log(2) / values["clofarabine.effect.k_out"].item() == pytest.approx(24.0)


def test_population_settings_reach_effects_and_marrow():
    mds, none = load_population("mds_post_hma"), None
    for name, factor in (
        ("lenalidomide.effect.slope_neutrophils", 2.0),
        ("clofarabine.effect.EC50_platelets", 0.5),
        ("clofarabine.effect.Emax_neutrophils", 1.0),
        ("mitoxantrone.effect.ln_kill_platelets", 1.0),
    ):
        ratio = individual({}, name, population=mds) / individual({}, name, population=none)
        assert ratio == pytest.approx(factor)
    model = load_model(drugs=["lenalidomide"])
    sample = patients({**ADULT, **COUNTS}, typical=True)
    values = individual_parameters(model, typical(model, mds), sample, xp=np)
    assert values["neutrophils.MTT"].item() == pytest.approx(220.0)
    # one stage at 7.09e-3 /h, slowed by 1.1
    assert values["platelets.MTT"].item() == pytest.approx(1.1 / 7.09e-3)
    # circulating neutrophils: half-life 7 h
    assert np.log(2) / values["neutrophils.k_circ"].item() == pytest.approx(7.0, rel=1e-3)


@pytest.mark.parametrize(
    ("anc", "relief", "expected"),
    [
        (1.0, 0.5, 4.5**0.5),
        (1.0, 0.0, 1.0),
        (1.0, 1.0, 4.5),
        (4.5, 0.7, 4.5),
        (6.0, 0.7, 6.0),
        (20.0, 0.7, 7.5),
        (0.0, 0.5, (0.01 * 4.5) ** 0.5),
    ],
)
def test_set_point(anc, relief, expected):
    model = load_model(drugs=["lenalidomide"])
    sample = patients({**ADULT, **COUNTS, "anc": anc}, typical=True)
    values = individual_parameters(
        model, typical(model) | {"population.relief": np.array([relief])}, sample, xp=np
    )
    assert values["neutrophils.set_point"].item() == pytest.approx(expected, rel=1e-12)
    assert values["neutrophils.baseline"].item() == max(anc, 0.01)


def test_published_case_brings_its_own_baseline():
    model = load_model(drugs=[], replace={"neutrophils": "kloft2006_docetaxel"})
    sample = patients({**ADULT, **COUNTS}, typical=True)
    values = individual_parameters(model, typical(model), sample, xp=np)
    assert values["neutrophils.baseline"].item() == values["neutrophils.set_point"].item()
    assert values["neutrophils.set_point"].item() == 5.21965
    assert values["neutrophils.k_circ"].item() == pytest.approx(4 / 84.1791)
    assert values["neutrophils.slope"].item() == 15.5711


SAMPLE = sample_population(load_population("rr_aml"), 4000, 2)


def test_spread_and_correlation_of_lenalidomide():
    model = load_model(drugs=["lenalidomide"])
    values = individual_parameters(model, typical(model), SAMPLE, xp=np)
    size = {"CL": (0.75, 0.224), "V1": (1.0, 0.0)}
    log = {
        name: np.log(values[f"lenalidomide.{name}"][0])
        - ffm * np.log(SAMPLE["ffm"] / 55)
        - crcl * np.log(SAMPLE["crcl"] / 90)
        for name, (ffm, crcl) in size.items()
    }
    covariance = np.cov(log["CL"], log["V1"])
    # published variances and covariance. Scores are stratified, so what is left is the chance
    # correlation of two scores, standard error 1/sqrt(4000): 0.1 %, 1.4 % and 1.0 %; 4 of them
    assert covariance[0, 0] == pytest.approx(0.2959, rel=0.005)
    assert covariance[1, 1] == pytest.approx(0.2841, rel=0.056)
    assert covariance[0, 1] == pytest.approx(0.2469, rel=0.04)


def test_patients_keep_their_deviations_when_a_drug_is_added():
    alone, both = (
        load_model(drugs=["lenalidomide"]),
        load_model(drugs=["mitoxantrone", "lenalidomide"]),
    )
    first = individual_parameters(alone, typical(alone), SAMPLE, xp=np)
    second = individual_parameters(both, typical(both), SAMPLE, xp=np)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_lines_of_a_patient_deviate_together():
    model = load_model(drugs=["clofarabine", "etoposide", "cytarabine"])
    values = individual_parameters(model, typical(model), SAMPLE, xp=np)
    ratio = (
        values["clofarabine.effect.EC50_neutrophils"] / values["clofarabine.effect.EC50_platelets"]
    )
    np.testing.assert_allclose(ratio, 1.0)
    ratio = (
        values["etoposide.effect.ln_kill_neutrophils"]
        / values["cytarabine.effect.ln_kill_platelets"]
    )
    np.testing.assert_allclose(ratio, 0.5)


def test_occasions():
    model = load_model(drugs=["clofarabine"])
    few = occasion_scores(model, SAMPLE, 2)
    many = occasion_scores(model, SAMPLE, 5)
    assert set(many) == {"clofarabine.CL", "clofarabine.V2"}
    np.testing.assert_array_equal(few["clofarabine.CL"], many["clofarabine.CL"][:2])
    factors = occasion_factors(typical(model), many, xp=np)
    assert factors["clofarabine.CL"].shape == (1, 5, 4000)
    # published coefficient of variation 9.7 %; stratified scores: better than 1 %
    spread = np.log(factors["clofarabine.CL"][0]).std(axis=1)
    np.testing.assert_allclose(spread, np.sqrt(np.log1p(0.097**2)), rtol=0.01)
    assert occasion_scores(model, SAMPLE, 0) == {}


def test_shapes_compilation_and_derivatives():
    model, population = load_model(), load_population("rr_aml")
    sample = sample_population(population, 16, 3)
    arrays = patient_arrays(model, sample)
    draws = draw_parameters(model, population, 5, 1)
    plain = individual_parameters(model, draws, sample, xp=np)
    compiled = jax.jit(lambda t, p: individual_parameters(model, t, p))(draws, arrays)
    for name, value in plain.items():
        assert value.shape == (5, 16)
        np.testing.assert_allclose(compiled[name], value, rtol=1e-12)

    def mean_clearance(exponent):
        changed = typical(model, population) | {"lenalidomide.crcl_exponent": exponent}
        return individual_parameters(model, changed, arrays)["lenalidomide.CL"].mean()

    # analytic: d CL / d exponent = CL log(CrCL / 90)
    at = np.array([0.224])
    base = individual_parameters(model, typical(model, population), sample, xp=np)
    expected = (base["lenalidomide.CL"] * np.log(sample["crcl"] / 90)).mean()
    assert jax.grad(mean_clearance)(at).item() == pytest.approx(expected, rel=1e-10)


@given(
    st.fixed_dictionaries(
        {
            "age": st.floats(16, 95),
            "male": st.sampled_from([0.0, 1.0]),
            "weight": st.floats(35, 180),
            "height": st.floats(140, 205),
            "scr": st.floats(0.3, 8),
            "anc": st.floats(0, 200),
            "plt": st.floats(0, 1500),
            "wbc": st.floats(0, 400),
        }
    ),
    st.sampled_from(["default", "solid"]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_every_possible_adult_has_positive_parameters(covariates, joint, other):
    replace = {
        "clofarabine.pk": "bonate2004_clofarabine",
        "lenalidomide.pk": "guglieri2017_lenalidomide",
        "etoposide.pk": "toffoli2001_etoposide",
        "clofarabine.effect": "clofarabine_triphosphate_linear",
    }
    model = _model(joint, other, tuple(replace.items()))
    values = individual_parameters(model, typical(model), patients(covariates, seed=1), xp=np)
    for name, value in values.items():
        assert np.all(np.isfinite(value) & (value > 0)), name


_MODELS = {}


def _model(joint, other, replace):
    key = (joint, other)
    if key not in _MODELS:
        _MODELS[key] = load_model(joint, replace=dict(replace) if other else None)
    return _MODELS[key]


def test_missing_inputs_are_named():
    model = load_model(drugs=["lenalidomide"])
    sample = patients({**ADULT, **COUNTS}, typical=True)
    with pytest.raises(DataError, match=r"'lenalidomide\.\S+' has no value"):
        individual_parameters(model, {}, sample, xp=np)
    bare = patients(ADULT, typical=True)
    with pytest.raises(DataError, match="'anc' is missing"):
        individual_parameters(model, typical(model), bare, xp=np)
