"""Wrong input of common kinds is one sentence, not a traceback."""

from __future__ import annotations

import os

import pytest

import pkpd
from pkpd.errors import PkpdError
from pkpd.machine import cores
from pkpd.model.individuals import individual_parameters
from pkpd.model.joint import load_model
from pkpd.model.parameters import typical

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
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores() == len(before)
