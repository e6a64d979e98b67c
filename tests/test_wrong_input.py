"""Wrong input of common kinds is one sentence, not a traceback."""

from __future__ import annotations

import datetime as dt
import os

import pandas as pd
import pytest

import pkpd
from pkpd.errors import PkpdError, sentence
from pkpd.machine import cores
from pkpd.model.individuals import individual_parameters
from pkpd.model.joint import load_model
from pkpd.model.parameters import typical
from pkpd.models import PopulationModel, compartments, parameter, residual

PLAIN = """
kind = "pk"
name = "plain"
title = "Constants"
drug = "lenalidomide"
structure = "oral_first_order_1cmt"
[reference]
citation = "made up for this test"
[individual.CL]
unit = "L/h"
terms = [{ number = 12 }]
[individual.V1]
unit = "L"
terms = [{ number = 50 }]
[individual.ka]
unit = "1/h"
terms = [{ number = 2 }]
"""


def test_terms_that_are_numbers_alone_are_parameters(tmp_path):
    (tmp_path / "plain.toml").write_text(PLAIN)
    model = load_model(
        drugs=["lenalidomide"], replace={"lenalidomide.pk": str(tmp_path / "plain.toml")}
    )
    sample = pkpd.subjects.sample_population(pkpd.cards.load_population("rr_aml"), 5, 1)
    values = individual_parameters(model, typical(model), sample)
    for name, value in (("CL", 12.0), ("V1", 50.0), ("ka", 2.0)):
        assert values[f"lenalidomide.{name}"].shape == (1, 5)
        assert (values[f"lenalidomide.{name}"] == value).all()


@pytest.mark.parametrize("patients", ["10", 2.5, True, 0])
def test_patients_that_are_no_number_are_refused(patients):
    regimen = pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv")
    with pytest.raises(PkpdError, match=r"patients.*a whole number"):
        pkpd.compare("nct01681537_len_mec", patients=patients)
    with pytest.raises(PkpdError, match=r"patients.*a whole number"):
        pkpd.simulate(regimen, "rr_aml", patients=patients)


LENALIDOMIDE = {"drug": "lenalidomide", "amount": "10 mg", "days": "1-3", "route": "oral"}
ROWS = {"ID": [1, 1], "TIME": [0, 1], "AMT": [100, 0], "DV": [None, 5.0]}


def given():
    """Calls with one argument of a wrong kind, and what the sentence says."""
    day = dt.date(2020, 1, 1)
    regimen = pkpd.daily(**LENALIDOMIDE)
    for days in (day, None, 2.5, {}, [day], object()):
        yield "days", lambda days=days: pkpd.daily(**LENALIDOMIDE | {"days": days})
    for key, value in (
        ("drug", 5), ("hour", "8"), ("cap_mg", "5"), ("strengths_mg", 5), ("cycle_days", "x"),
    ):  # fmt: skip
        yield "", lambda k=key, v=value: pkpd.daily(**LENALIDOMIDE | {k: v})
    yield "later", lambda: regimen.then("x")
    yield "other", lambda: regimen.together(5)
    yield "days", lambda: regimen.shift("2")
    yield "at_least", lambda: pkpd.schedule.Criterion("neutrophils", "0.5")
    yield "criteria", lambda: pkpd.schedule.Gate(pkpd.schedule.Criterion("neutrophils", 0.5))
    few = {"patients": 2, "until_day": 3}
    for key, values in {
        "until_day": ("3", day, None, 0), "days": ("x", [day]), "rule": (5, []),
        "seed": ("x", -1, None), "threads": ("2", 0), "transfusion": (True,),
        "growth_factor": (None,), "model": ("default",),
    }.items():  # fmt: skip
        for value in values:
            yield key, lambda k=key, v=value: pkpd.simulate(regimen, "rr_aml", **few | {k: v})
    yield "regimen", lambda: pkpd.simulate(regimen.courses[0], "rr_aml", **few)
    for population in (5, None, ["rr_aml"], {"age": 5}):
        yield "population", lambda p=population: pkpd.simulate(regimen, p, **few)
    for key, values in {
        "scenario": (5, regimen), "trials": ("nct01673308_lenalidomide_mds", 5), "rule": (5,),
        "options": ("x",), "cards": ("x",), "jobs": ("2", 0), "on_cohort": (5,),
    }.items():  # fmt: skip
        for value in values:
            yield key, lambda k=key, v=value: pkpd.compare(**{k: v})
    table = pd.DataFrame(ROWS)
    for key, values in {
        "columns": ("x", {"DV": 5}), "covariates": ("WT", [5]), "lines": ("x", {1: 5}),
        "lloq": ("x", {"DV": "x"}), "units": ("x", {"TIME": day}), "time_unit": (5,),
        "compartments": ("x",), "codes": ("x",), "ignore": (5,),
    }.items():  # fmt: skip
        for value in values:
            yield key, lambda k=key, v=value: pkpd.read_nonmem(table, **{k: v})
    for key, value in (("lines", 5), ("covariates", 5), ("clock_h", "x"), ("lloq", "x")):
        counts = pd.DataFrame({"ID": [1], "DAY": [1], "ANC": [4.0]})
        yield "read_counts", lambda c=counts, k=key, v=value: pkpd.read_counts(c, **{k: v})
    yield "path", lambda: pkpd.read_control_stream(5)
    yield "name", lambda: pkpd.load_trial(None)
    yield "path", lambda: pkpd.load_fit(5, None, None)
    yield "folder", lambda: pkpd.checks.runs(5)
    yield "fit", lambda: pkpd.checks.bootstrap(5)
    yield "fit", lambda: pkpd.checks.profile_likelihood(None)
    yield "covariates", lambda: pkpd.subjects.patients(5)
    yield "age", lambda: pkpd.subjects.patients({"age": day})
    yield "", lambda: parameter("CL", "x")
    yield "", lambda: residual.additive(None)
    yield "structure", lambda: PopulationModel(5, [], residual.additive(1.0))
    yield "parameters", lambda: PopulationModel(compartments(1), [5], residual.additive(1.0))


@pytest.mark.parametrize(("name", "call"), list(given()))
def test_arguments_of_a_wrong_kind_are_a_sentence(name, call):
    with pytest.raises(PkpdError) as told:
        call()
    text = str(told.value)
    assert name in text
    assert text.endswith(".")
    assert "\n" not in text


def test_model_and_data_of_a_fit_are_checked():
    with pytest.raises(PkpdError, match=r"fit: model: a int is no model"):
        pkpd.fit(1, 2)


def test_a_folder_is_no_data_file(tmp_path):
    with pytest.raises(PkpdError, match="it is a folder"):
        pkpd.read_nonmem(tmp_path)


def test_an_infinite_code_is_a_text(tmp_path):
    (tmp_path / "d.csv").write_text(
        "ID,TIME,DV,AMT,EVID,CMT,DVID\n1,0,.,100,1,1,.\n1,1,5,.,0,1,inf\n"
    )
    data = pkpd.read_nonmem(tmp_path / "d.csv")
    assert len(data.observations) == 1


def test_cores_are_those_the_process_may_use():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not bind processes to cores")
    before, at_first = os.sched_getaffinity(0), cores()
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores() == at_first <= len(before)


def test_a_sentence_leaves_out_the_middle_of_what_is_too_long_to_read():
    with pytest.raises(PkpdError) as error:
        pkpd.daily("clofarabine", "1 mg", days="9" * 100_000, route="oral")
    assert len(str(error.value)) < 4_000
    assert "[...]" in str(error.value)
    for part in ("where", "what", "allowed", "remedy"):
        told = sentence(**{"where": "here", "what": "wrong", part: "x" * 100_000 + "end"})
        assert len(told) < 2_000, part
        assert "end" in told
