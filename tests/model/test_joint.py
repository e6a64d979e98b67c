"""Joint models: what is loaded, switched, replaced, refused and reported as assumed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pkpd.cards.drug_cards import load_drug_card
from pkpd.cards.files import card_names
from pkpd.cards.model_cards import STRUCTURES, load_model_card
from pkpd.cards.population_cards import load_population
from pkpd.errors import CardError
from pkpd.kinetics.linear import LinearPK
from pkpd.marrow.effects import effect_shape
from pkpd.marrow.lines import line_of_card
from pkpd.model import assumed_inputs, load_model
from pkpd.model.joint import describe
from pkpd.units import Parameter


def test_default_model_has_every_drug_and_two_lines():
    model = load_model()
    with_kinetics = {name for name in card_names("drugs") if load_drug_card(name).pk}
    assert {d.name for d in model.drugs} == with_kinetics
    assert len(with_kinetics) == 8
    assert model.lines == ("neutrophils", "platelets")
    assert model.feedback_when_kill_exceeds == "kept"
    assert model == load_model()
    assert hash(model) == hash(load_model())
    assert all(len(digest) == 64 for digest in model.hashes().values())
    assert "pk/nijstad2021_clofarabine" in model.hashes()


def test_drugs_keep_their_properties():
    model = load_model(drugs=["clofarabine", "lenalidomide", "mitoxantrone", "dexamethasone"])
    clofarabine, mitoxantrone = model.drug("clofarabine"), model.drug("mitoxantrone")
    assert clofarabine.per_umol == pytest.approx(1000 / 303.68)
    assert (clofarabine.driver, clofarabine.shape) == ("effect_site", "emax")
    assert model.drug("lenalidomide").transits == 7
    assert clofarabine.transits == 0
    assert (mitoxantrone.driver, mitoxantrone.shape) == ("dose", "kill")
    assert (mitoxantrone.kill_reference_mg_m2, mitoxantrone.kill_spread_h) == (8.0, 24.0)
    assert model.drug("dexamethasone").driver == "none"
    assert model.line("platelets").structure == "platelet_chain"
    with pytest.raises(CardError, match="did you mean 'clofarabine'"):
        model.drug("clofarabin")
    with pytest.raises(CardError, match="has no line 'blasts'"):
        model.line("blasts")


def test_linear_structures_and_shapes_are_those_of_the_engine():
    for name in card_names("pk"):
        card = load_model_card("pk", name)
        if card.structure == "iv_2cmt_michaelis_menten":
            continue
        route, *_, last = card.structure.split("_")
        transits = None if route == "iv" else int(dict(card.settings).get("transits", 0))
        wanted = LinearPK(transits, int(last[0])).parameters
        assert set(wanted) == set(STRUCTURES["pk"][card.structure])
    for name in card_names("marrow"):
        card = load_model_card("marrow", name)
        wanted = set(line_of_card(card).parameters)
        assert wanted == set(STRUCTURES["marrow"][card.structure]) | {"baseline", "set_point"}
    for drug in load_model().drugs:
        if drug.shape != "kill":
            effect_shape(drug.shape)


def test_options_change_the_parameters_in_use():
    usual = {p.name for p in load_model(drugs=["clofarabine"]).parameters}
    label = load_model(drugs=["clofarabine"], options={"clofarabine.renal_label": True})
    other = {p.name for p in label.parameters}
    assert "clofarabine.adult_factor" in usual - other
    assert "clofarabine.auc_ratio_30_60" in other - usual
    assert dict(label.options) == {
        "clofarabine.adult_clearance": False,
        "clofarabine.renal_label": True,
    }
    assert not any("adults clear clofarabine" in text for text in label.assumptions)
    assert any(
        "adults clear clofarabine" in a for a in load_model(drugs=["clofarabine"]).assumptions
    )
    for others in (False, True):
        off = load_model(options={"feedback_when_kill_exceeds": "off"}, other_options=others)
        assert off.feedback_when_kill_exceeds == "off"


def test_cards_can_be_replaced_by_name_or_file(tmp_path):
    model = load_model(
        drugs=["lenalidomide"],
        replace={"lenalidomide.pk": "liang2024_lenalidomide", "neutrophils": "friberg_solid"},
    )
    assert model.drug("lenalidomide").pk.structure == "oral_first_order_1cmt"
    assert model.line("neutrophils").name == "friberg_solid"
    own = tmp_path / "own.toml"
    own.write_text(
        """
kind = "pk"
name = "own"
title = "One number"
drug = "lenalidomide"
structure = "iv_1cmt"
reference = { citation = "none" }
[parameters]
CL = { value = 1.0, unit = "L/h", source = "x", status = "assumed" }
V1 = { value = 2000, unit = "mL", source = "x", status = "assumed" }
"""
    )
    model = load_model(drugs=["lenalidomide"], replace={"lenalidomide.pk": str(own)})
    values = {p.name: p.value for p in model.parameters}
    assert values["lenalidomide.V1"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"joint_name": "defaults"}, "did you mean 'default'"),
        ({"drugs": ["clofarabin"]}, "did you mean 'clofarabine'"),
        ({"options": {"renal": True}}, "'renal': is not an option of this model"),
        ({"options": {"renal_label": 1}}, "1 is not True or False"),
        (
            {"options": {"renal_label": True, "adult_clearance": True}},
            "exclude each other",
        ),
        (
            {"options": {"renal_label": True, "clofarabine.renal_label": False}},
            "'clofarabine.renal_label': is both True and False",
        ),
        ({"options": {"feedback_when_kill_exceeds": "on"}}, "allowed: kept, off, capped"),
        ({"replace": {"lenalidomide.pk": "liang"}}, "did you mean 'liang2024_lenalidomide'"),
        (
            {"replace": {"lenalidomid.pk": "liang2024_lenalidomide"}},
            "did you mean 'lenalidomide.pk'",
        ),
        ({"replace": {"lenalidomide.pk": "bonate2004_clofarabine"}}, "is of clofarabine"),
        ({"replace": {"lenalidomide.effect": "clofarabine_triphosphate"}}, "is of clofarabine"),
        ({"replace": {"platelets": "friberg_solid"}}, "is of neutrophils, not platelets"),
    ],
)
def test_what_does_not_exist_is_refused(arguments, words):
    with pytest.raises(CardError) as error:
        load_model(**arguments)
    assert words in str(error.value)
    assert str(error.value).endswith(".")


def test_assumed_inputs_are_listed_for_the_drugs_asked():
    model, population = load_model(), load_population("rr_aml")
    texts = assumed_inputs(model, population, ["clofarabine", "lenalidomide"])
    assert "clofarabine EC50 2 umol/L (1-6), assumed" in texts
    assert "neutrophils MTT 200 h (150-260), assumed" in texts
    assert "population relief 0.8 (0.5-0.95), assumed" in texts
    assert "weight of the patients (rr_aml), assumed" in texts
    assert not any("mitoxantrone" in t or "dexamethasone" in t for t in texts)
    assert not any("lenalidomide CL" in t for t in texts)  # transcribed, not assumed
    everything = assumed_inputs(model)
    assert "dexamethasone: no effect on counts, assumed" in everything
    assert any("mitoxantrone ln_kill 0.52" in t for t in everything)


def test_description_of_a_spread():
    sd = Parameter("clofarabine.iov.CL", 0.0968, "1", status="read")
    assert describe(sd) == "clofarabine CL: SD of log between occasions 0.0968, read"


def test_cards_and_patients_load_without_jax():
    code = (
        "import sys, pkpd.subjects, pkpd.cards.population_cards, pkpd.cards.model_cards;"
        "bad = {'jax', 'pymc', 'matplotlib', 'pandas', 'pint'} & set(sys.modules);"
        "sys.exit(', '.join(bad) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_drug_named_twice_is_one():
    assert [d.name for d in load_model(drugs=["lenalidomide", "Lenalidomide"]).drugs] == [
        "lenalidomide"
    ]


def test_options_of_any_kind_are_refused_in_a_sentence():
    with pytest.raises(CardError, match=r"\[1\] is not True or False"):
        load_model(drugs=["lenalidomide"], options={"renal_chen2007": [1]})
