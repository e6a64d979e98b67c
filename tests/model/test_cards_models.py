"""Cards of drugs, pharmacokinetics, effects, marrow and joint models: all valid, faults named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pkpd.cards.checking import check_card
from pkpd.cards.drug_cards import load_drug_card
from pkpd.cards.files import card_folder, card_names
from pkpd.cards.model_cards import load_model_card
from pkpd.cards.population_cards import load_population
from pkpd.cards.relations import STATUSES
from pkpd.errors import CardError
from pkpd.model.individuals import individual_parameters, patient_arrays
from pkpd.model.joint import load_model
from pkpd.model.parameters import typical
from pkpd.subjects import sample_population
from pkpd.units import INTERNAL_UNITS

FOLDERS = ("drugs", "pk", "effects", "marrow", "populations", "joint")
FILES = [
    Path(str(card_folder(folder))) / f"{name}.toml"
    for folder in FOLDERS
    for name in card_names(folder)
]
MODEL_CARDS = [(f, n) for f in ("pk", "effects", "marrow") for n in card_names(f)]
NIJSTAD = Path(str(card_folder("pk"))) / "nijstad2021_clofarabine.toml"


def test_there_are_cards():
    assert len(FILES) >= 40


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_card_is_valid(file):
    assert check_card(file) == []


@pytest.mark.parametrize(("folder", "name"), MODEL_CARDS)
def test_every_number_has_source_status_and_internal_unit(folder, name):
    card = load_model_card(folder, name)
    assert card.citation
    for parameter in (*card.parameters, *(v.sd for v in (*card.iiv, *card.iov))):
        assert parameter.source, parameter.name
        assert parameter.status in STATUSES
        assert parameter.unit in INTERNAL_UNITS.values()
        if parameter.status != "assumed":
            assert not parameter.source.startswith("assumption of"), parameter.name


@pytest.mark.parametrize(("folder", "name"), MODEL_CARDS)
def test_published_cards_are_named_by_author_and_year(folder, name):
    card = load_model_card(folder, name)
    published = re.match(r"([a-z]+)(\d{4})_", name)
    if folder == "pk":
        assert published is not None
    if published is not None:
        assert published.group(2) in card.citation
        letters = re.sub(r"[^a-z]", "", card.citation.lower())
        assert published.group(1) in letters


def test_values_of_a_published_table():
    values = {p.name: p for p in load_model_card("pk", "nijstad2021_clofarabine").parameters}
    for name, value, interval in (
        ("CL_nonrenal", 24.0, (13.7, 34.4)),
        ("CL_renal", 29.8, (23.9, 36.1)),
        ("V1", 268.0, (234.8, 296.6)),
        ("V2", 186.0, (165.4, 210.7)),
        ("Q", 33.2, (27.5, 40.9)),
    ):
        assert (values[name].value, values[name].interval) == (value, interval)
    # units are turned into internal ones
    alemtuzumab = {p.name: p for p in load_model_card("pk", "mould2007_alemtuzumab").parameters}
    assert alemtuzumab["Vmax"].value == pytest.approx(1.02)
    assert alemtuzumab["Vmax"].unit == "mg/h"


def test_molar_masses_follow_from_the_formula():
    weights = {"C": 12.011, "H": 1.008, "N": 14.007, "O": 15.999, "F": 18.998, "P": 30.974}
    weights["Cl"] = 35.45
    formulas = {"clofarabine": "C10H11ClFN5O3"}
    for name in card_names("drugs"):
        mass = load_drug_card(name).molar_mass
        found = mass and re.search(r"formula (\w+)", mass.source)
        if found:
            formulas[name] = found.group(1)
    assert len(formulas) == 7
    for name, formula in formulas.items():
        parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
        mass = sum(weights[element] * int(count or 1) for element, count in parts)
        assert load_drug_card(name).molar_mass.value == pytest.approx(mass, abs=0.03)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('unit = "L/h"\nci95 = [13.7', 'unit = "L/hh"\nci95 = [13.7', "CL_nonrenal] > unit"),
        ("ci95 = [13.7, 34.4]", "ci95 = [30.7, 34.4]", "does not hold the value 24"),
        ("ci95 = [13.7, 34.4]", "ci95 = [13.7]", "ci95"),
        ("ci95 = [13.7, 34.4]", "ci95 = [13.7, 34.4]\nrse = 0.1", "more than one of"),
        ("value = 24.0", 'value = "24.0"', "is not a number"),
        ("value = 24.0", "valu = 24.0", "valu"),
        ('status = "read"', 'status = "guessed"', "read, transcribed, derived, assumed"),
        ('source = "abstract"', "", "source"),
        ('structure = "iv_2cmt"', 'structure = "iv_4cmt"', "iv_2cmt"),
        ("[parameters.V1]", "[parameters.VV1]", "V1"),
        ('parameter = "CL_nonrenal"', 'parameter = "CL_nonrenale"', "did you mean 'CL_nonrenal'"),
        ('covariate = "weight"', 'covariate = "wight"', "did you mean 'weight'"),
        ('option = "adult_clearance"', 'option = "adult"', "is not a option of this card"),
        ('replaces = ["adult_clearance"]', "replace = 1", "unknown key"),
        ("[iiv.CL]\ncv = 0.178", "[iiv.CLL]\ncv = 0.178", "not an individual parameter"),
        ("cv = 0.178", "cv = 0.178\nrange = [0.1, 0.4]", "stands beside range"),
        (
            "cv = 0.178",
            "cv = 30",
            "cv: is 30; allowed: up to 3; write per cent as a fraction: 30 % is 0.3",
        ),
        ("cv = 0.178", "cv = 0.178\nsd = 0.2", "exactly one of cv, variance and sd"),
        ('kind = "power", covariate', 'kind = "powder", covariate', "did you mean 'power'"),
        ('range_means = "prior limits, read as central 95 %"', "", "range_means"),
        ('name = "nijstad2021_clofarabine"', 'name = "other"', "differs from the file name"),
        ('drug = "clofarabine"', "", "drug"),
        ('{ parameter = "CL_nonrenal" },', "", "CL_nonrenal"),
        ("[options.adult_clearance]", "[options.adult_clearance", "not valid TOML"),
    ],
)
def test_a_fault_in_a_card_is_named_with_its_place(tmp_path, old, new, words):
    text = NIJSTAD.read_text()
    assert old in text
    file = tmp_path / NIJSTAD.name
    file.write_text(text.replace(old, new, 1))
    (problem,) = check_card(file)
    assert str(file) in problem
    assert words in problem
    assert problem.endswith((".", "?"))


@pytest.mark.parametrize(
    ("folder", "name", "old", "new", "words"),
    [
        ("drugs", "clofarabine", "nijstad2021_clofarabine", "nijstad2021", "did you mean"),
        ("drugs", "clofarabine", "molar_mass", "molarmass", "molarmass"),
        ("drugs", "clofarabine", '"mg/m^2"', '"mg/m3"', "mg/m^2"),
        ("joint", "default", "[drugs.etoposide]", "[drugs.etopside]", "did you mean 'etoposide'"),
        ("joint", "default", 'exceeds = "kept"', 'exceeds = "keep"', "kept, off, capped"),
        ("joint", "default", '"friberg_leukaemia"', '"friberg_leukemia"', "did you mean"),
        ("effects", "mitoxantrone_kill", "spread_h = 24.0", "", "spread_h"),
        ("effects", "clofarabine_triphosphate", "population.sensitivity", "popul.x", "popul.x"),
        ("marrow", "friberg_leukaemia", 'baseline = "anc"', 'baseline = "crcl"', "circ0"),
        ("marrow", "friberg_leukaemia", "[parameters.normal]", "[parameters.usual]", "normal"),
        (
            "marrow",
            "friberg_leukaemia",
            'kind = "marrow"',
            'kind = "marow"',
            "did you mean 'marrow'",
        ),
    ],
)
def test_a_fault_in_another_kind_of_card_is_named(tmp_path, folder, name, old, new, words):
    text = (Path(str(card_folder(folder))) / f"{name}.toml").read_text()
    assert old in text
    file = tmp_path / f"{name}.toml"
    file.write_text(text.replace(old, new, 1))
    (problem,) = check_card(file)
    assert str(file) in problem
    assert words in problem


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("CL", "CL", 0.5)], "'CL' and 'CL' is one name twice"),
        ([("CL", "V1", 0.5), ("V1", "CL", 0.1)], "'V1' and 'CL' is there twice"),
        ([("CL", "V2", 0.5)], "'V2' has no variability, [iiv.*], on this card"),
        ([("CL", "V1", 0.9), ("CL", "Q", 0.9), ("V1", "Q", -0.9)], "contradict each other"),
    ],
)
def test_correlations_that_cannot_be_are_refused(tmp_path, rows, words):
    text = NIJSTAD.read_text()
    for first, second, value in rows:
        text += f'\n[[correlation]]\nbetween = ["{first}", "{second}"]\nvalue = {value}\n'
        text += 'source = "test"\n'
    (tmp_path / NIJSTAD.name).write_text(text)
    (problem,) = check_card(tmp_path / NIJSTAD.name)
    assert words in problem


def test_clearances_in_ml_per_min_and_lowest_values_are_converted(tmp_path):
    """1 mL/min is 0.06 L/h: of a drug's clearance; a creatinine clearance is kept."""
    name = "guglieri2017_lenalidomide"
    shipped = load_model_card("pk", name)
    text = (Path(str(card_folder("pk"))) / f"{name}.toml").read_text()
    (value,) = re.findall(r"\[parameters.CL\]\nvalue = (\S+)", text)
    text = text.replace(
        f'[parameters.CL]\nvalue = {value}\nunit = "L/h"',
        f'[parameters.CL]\nvalue = {float(value) / 0.06}\nunit = "mL/min"\nrse = 0.1',
    )
    text = text.replace('[individual.CL]\nunit = "L/h"', '[individual.CL]\nunit = "mL/min"')
    text = text.replace("lowest = 1.0\n", "lowest = 16.6666666667\n")
    text = text.replace('[individual.V1]\nunit = "L"', '[individual.V1]\nunit = "mL"')
    text = text.replace("lowest = 10.0", "lowest = 10000")
    (tmp_path / f"{name}.toml").write_text(text)
    own = load_model_card("pk", str(tmp_path / f"{name}.toml"))
    clearance = next(p for p in own.parameters if p.name == "CL")
    assert clearance.value == pytest.approx(float(value))
    assert clearance.unit == "L/h"
    assert clearance.interval[0] < clearance.value < clearance.interval[1]
    for mine, theirs in zip(own.individuals, shipped.individuals, strict=True):
        assert mine.unit == theirs.unit
        assert (mine.lowest is None) == (theirs.lowest is None)
        assert mine.lowest is None or mine.lowest == pytest.approx(theirs.lowest)


RENAL = """
[parameters.CL_renal]
value = 100.0
unit = "mL/min"
source = "test"
status = "read"

[parameters.per_crcl]
value = 0.05
unit = "L/h/(mL/min)"
source = "test"
status = "read"

[individual.renal]
unit = "{unit}"
terms = [{{ parameter = "CL_renal" }}]

[individual.CL]
unit = "L/h"
terms = [{terms}, {{ parameter = "per_crcl", times = ["crcl"] }}]
"""


@pytest.mark.parametrize(
    ("unit", "term"),
    [
        ("L/h", '{ times = ["individual.renal"] }'),
        ("mL/h", '{ times = ["individual.renal"] }'),
        ("L/h", '{ parameter = "CL_renal", times = ["crcl"], divided_by = ["crcl"] }'),
        ("mL/min", '{ number = 0.06, times = ["individual.renal"] }'),
        ("mL/min", '{ number = 0.06, parameter = "CL_renal" }'),
    ],
)
def test_parts_of_a_clearance_in_ml_per_min_are_converted(tmp_path, unit, term):
    """100 mL/min are 6 L/h, and 0.05 L/h for each of 80 mL/min of creatinine are 4."""
    file = _toffoli_with(tmp_path, RENAL.format(unit=unit, terms=term))
    model = load_model(drugs=["etoposide"], replace={"etoposide.pk": file})
    patient = patient_arrays(model, sample_population(load_population("rr_aml"), 2, 1))
    patient |= {"crcl": np.full(2, 80.0), "eta:etoposide.CL": np.zeros(2)}
    found = individual_parameters(model, typical(model), patient, np)
    assert found["etoposide.CL"] == pytest.approx(6.0 + 4.0)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ('{ times = ["individual.renal"] }', "'individual.renal' is in mL/min"),
        (
            '{ parameter = "CL_renal" }, { number = 0.06, times = ["individual.renal"] }',
            "is in L/h in CL, and stays in mL/min in renal",
        ),
        (
            '{ parameter = "CL_renal" }, { number = 0.06, parameter = "CL_renal" }',
            "is in L/h in CL, and stays in mL/min in",
        ),
    ],
)
def test_a_clearance_in_two_units_is_refused(tmp_path, terms, words):
    file = _toffoli_with(tmp_path, RENAL.format(unit="mL/min", terms=terms))
    with pytest.raises(CardError, match=words):
        load_model_card("pk", file)


def _toffoli_with(folder, relations):
    """Kinetics of etoposide with another clearance."""
    name = "toffoli2001_etoposide"
    text = (Path(str(card_folder("pk"))) / f"{name}.toml").read_text()
    for key in ("CL_intercept", "crcl_slope"):
        text = re.sub(rf"\[parameters.{key}\]\n(.+\n)+\n", "", text)
    text = re.sub(r"\[individual.CL\]\n(.+\n)+\n", relations + "\n", text)
    (folder / f"{name}.toml").write_text(text)
    return str(folder / f"{name}.toml")


def test_a_part_of_a_stage_is_refused(tmp_path):
    name = "guglieri2017_lenalidomide"
    text = (Path(str(card_folder("pk"))) / f"{name}.toml").read_text()
    (tmp_path / f"{name}.toml").write_text(text.replace("transits = 3", "transits = 3.5"))
    (problem,) = check_card(tmp_path / f"{name}.toml")
    assert "settings > transits: 3.5 is not a whole number" in problem


def test_a_missing_file_is_one_sentence(tmp_path):
    (problem,) = check_card(tmp_path / "nothing.toml")
    assert "nothing.toml" in problem


def test_trial_and_rule_files_are_checked_too():
    for folder in ("trials", "rules"):
        for name in card_names(folder):
            assert check_card(Path(str(card_folder(folder))) / f"{name}.toml") == []


def test_a_dose_that_all_others_are_divided_by_is_above_0(tmp_path):
    file = tmp_path / "etoposide_kill.toml"
    text = (NIJSTAD.parents[1] / "effects" / file.name).read_text()
    file.write_text(text.replace("reference_dose_mg_m2 = 80.0", "reference_dose_mg_m2 = 0"))
    (problem,) = check_card(file)
    assert "reference_dose_mg_m2" in problem
    assert "above 0" in problem
