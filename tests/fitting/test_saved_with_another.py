"""A saved fit goes back to the model and data it is of, and to no others."""

from __future__ import annotations

import json
from pathlib import Path

import arviz as az
import numpy as np
import pytest

import pkpd
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.files import read_netcdf, write_groups, write_netcdf
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.priors import Prior, fixed
from pkpd.fitting.sampled import Fit
from pkpd.models import (
    PopulationModel,
    compartments,
    covariate,
    derived,
    ode_model,
    parameter,
    residual,
)

ROOT = Path(__file__).parents[2]
ROWS = (ROOT / "fits" / "data" / "theophylline.csv").read_text()


BY_WEIGHT, ADDITIVE = covariate.power("WT", 70), residual.additive(0.7)


def oral(effect=BY_WEIGHT, error=ADDITIVE, **changes):
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [
            parameter("ka", 1.5, iiv=0.6),
            parameter("CL", 2.7, iiv=0.3, effects=effect),
            parameter("V", 32),
        ],
        error,
    )
    return model.replace(**changes)


def intravenous():
    return PopulationModel(
        compartments(1),
        [parameter("CL", 2.7, iiv=0.3, effects=BY_WEIGHT), parameter("V", 32)],
        ADDITIVE,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fits")


@pytest.fixture(scope="module")
def data():
    return pkpd.read_nonmem(ROOT / "fits" / "data" / "theophylline.csv", covariates=["WT"])


@pytest.fixture(scope="module")
def files(folder, data):
    """A fit by maximum likelihood and one that looks sampled."""
    likely = pkpd.fit(oral(), data, method="fo", covariance=None, iterations=0, progress=False)
    likely.save(folder / "likely.nc")
    rng = np.random.default_rng(1)
    draws = {name: rng.normal(size=(2, 4)) for name in start_values(oral())}
    idata = az.from_dict(
        draws | {"eta": rng.normal(size=(2, 4, 12, 2))},
        coords={"subject": [str(s) for s in data.subjects]},
        dims={"eta": ["subject", "effect"]},
    )
    Fit(bind(oral(), data), idata).save(folder / "draws.nc")
    write_groups(folder / "old_draws.nc", idata)
    return [folder / "likely.nc", folder / "draws.nc"]


MODELS = {
    "CL_WT centre: 70 in the file, 7 in the model": lambda: oral(covariate.power("WT", 7)),
    "CL_WT kind: power in the file, linear in": lambda: oral(covariate.linear("WT", 70)),
    "CL_WT coefficient: estimated in the file, held at 0.75": lambda: oral(
        covariate.allometric("WT")
    ),
    "parameter CL effects CL_WT, which the model lacks": lambda: oral(()),
    "absorption first_order in the file, 1-compartment, absorption none in": intravenous,
    "form: additive in the file, proportional": lambda: oral(error=residual.proportional(0.7)),
    "held at 0.7 in the model": lambda: oral(error=residual.additive(fixed(0.7))),
    "V typical: estimated in the file, held at 32": lambda: oral().changed(
        "V", typical=fixed(32.0)
    ),
    "ka iiv: estimated in the file, none in": lambda: oral().changed("ka", iiv=None),
    "correlated": lambda: oral(correlated=[("ka", "CL")]),
    "V scale: log in the file, identity": lambda: oral().changed("V", scale="identity"),
    "dosing|individual parameters": lambda: PopulationModel(
        compartments(1, absorption="first_order", dosing=["F1"]),
        [*oral().parameters, parameter("F1", fixed(0.5))],
        ADDITIVE,
    ),
}


@pytest.mark.parametrize("words", MODELS)
def test_another_model_is_refused_with_what_differs(words, files, data):
    for file in files:
        with pytest.raises(PkpdError, match=words) as error:
            pkpd.load_fit(file, MODELS[words](), data)
        assert "was made with another model or other data" in str(error.value)


def test_other_data_are_refused_with_column_and_subject(files, folder):
    header, *rows = ROWS.strip().split("\n")
    columns = header.split(",")
    for column, told in (("AMT", "AMT"), ("DV", "DV of observations"), ("WT", "WT")):
        at, new = columns.index(column), list(rows)
        for k, row in enumerate(rows):
            cells = row.split(",")
            if cells[0] in ("2", "3") and cells[at] not in (".", "", "0"):
                cells[at] = str(2 * float(cells[at]))
                new[k] = ",".join(cells)
        (folder / "changed.csv").write_text("\n".join([header, *new]))
        other = pkpd.read_nonmem(folder / "changed.csv", covariates=["WT"])
        for file in files:
            with pytest.raises(PkpdError, match=rf"\({told} of the data, first in subject 2\)"):
                pkpd.load_fit(file, oral(), other)


def test_the_same_model_from_other_values_is_the_same(files, data):
    start = oral().with_values({"CL": 3.0, "omega_CL": 0.5})
    again = pkpd.load_fit(files[0], start, data)
    assert again.table().equals(pkpd.load_fit(files[0], oral(), data).table())
    assert again.likelihood.model["CL"].iiv.value == 0.3
    assert len(pkpd.load_fit(files[1], start, data).draws) == 8
    known = Prior("LogNormal", mu=1.0, sigma=0.1)
    informed = oral().changed("V", typical=parameter("V", 32, prior=known).typical)
    pkpd.load_fit(files[0], informed, data)  # which maximum likelihood does not look at
    with pytest.raises(PkpdError, match="V typical: estimated in the file, estimated with Prior"):
        pkpd.load_fit(files[1], informed, data)


def test_a_fit_that_was_read_can_be_kept_and_read_again(files, data, folder):
    for file in files:
        pkpd.load_fit(file, oral(), data).save(folder / "again.nc")
        pkpd.load_fit(folder / "again.nc", oral(), data)


def test_files_of_earlier_versions_say_what_could_not_be_checked(files, folder, data):
    saved = read_netcdf(files[0])
    about = json.loads(saved.attrs["about"])
    del about["model"], about["by_subject"], about["start"], about["predicted"]
    write_netcdf(folder / "old.nc", saved.assign_attrs(about=json.dumps(about)))
    with pytest.warns(PkpdWarning, match=r"old\.nc: .* kept part of its model and data"):
        pkpd.load_fit(folder / "old.nc", oral(), data)
    with pytest.warns(PkpdWarning), pytest.raises(PkpdError, match="was begun from other values"):
        pkpd.load_fit(folder / "old.nc", oral().with_values({"omega_CL": 0.5}), data)
    with pytest.raises(PkpdError, match="CL_WT 3: 70 in the file, 7 in"):
        pkpd.load_fit(folder / "old.nc", oral(covariate.power("WT", 7)), data)
    with pytest.warns(PkpdWarning, match=r"old_draws\.nc: .* kept nothing of its model and data"):
        pkpd.load_fit(folder / "old_draws.nc", oral(), data)


def halved(share=0.5, power=1.0):
    """An oral model whose bioavailability is a function of another parameter, of start 1."""
    return PopulationModel(
        compartments(1, absorption="first_order", dosing=["F1"]),
        [
            *oral().parameters,
            parameter("q", 1.0),
            derived("F1", lambda q: share * q**power),
        ],
        ADDITIVE,
    )


def equations(flow=lambda p, y: p["k"] * y["gut"], seen=lambda y, p: y["blood"] / p["V"]):
    """Absorption and elimination as differential equations."""
    structure = ode_model(
        lambda t, y, p: {
            "gut": -flow(p, y),
            "blood": flow(p, y) - p["CL"] / p["V"] * y["blood"],
        },
        states=["gut", "blood"],
        parameters=["k", "CL", "V"],
        outputs={"concentration": seen},
        max_step_h=0.5,
    )
    return PopulationModel(
        structure, [parameter("k", 1.5), parameter("CL", 2.7), parameter("V", 32)], ADDITIVE
    )


def saved(model, data, path):
    rng = np.random.default_rng(2)
    draws = {name: np.full((1, 4), value) for name, value in start_values(model).items()}
    etas = {"eta": rng.normal(size=(1, 4, 12, 2))} if model.varying else {}
    idata = az.from_dict(
        draws | etas,
        coords={"subject": [str(s) for s in data.subjects]},
        dims={"eta": ["subject", "effect"]} if etas else {},
    )
    if not etas:
        idata.posterior = idata.posterior.assign_coords(subject=[str(s) for s in data.subjects])
    Fit(bind(model, data), idata).save(path)


def test_functions_that_compute_something_else_are_another_model(folder, data):
    path = folder / "halved.nc"
    saved(halved(), data, path)
    assert len(pkpd.load_fit(path, halved(), data).draws) == 4
    told = r"the prediction of concentration at the start, first in subject 1 at .* in the file"
    with pytest.raises(PkpdError, match=told):
        pkpd.load_fit(path, halved(0.25), data)
    # equal at the start, where q is 1
    with pytest.raises(PkpdError, match="the prediction of concentration away from the start"):
        pkpd.load_fit(path, halved(power=2.0), data)


def test_right_sides_and_outputs_are_compared(folder, data):
    path = folder / "equations.nc"
    saved(equations(), data, path)
    pkpd.load_fit(path, equations(), data)
    for other in (
        equations(flow=lambda p, y: p["k"] * y["gut"] / (1.0 + 0.01 * y["gut"])),
        equations(seen=lambda y, p: y["gut"] / p["V"]),
    ):
        with pytest.raises(PkpdError, match="the prediction of concentration at the start"):
            pkpd.load_fit(path, other, data)


def test_a_file_without_predictions_is_read_with_a_warning(files, folder, data):
    found = read_netcdf(files[0])
    about = json.loads(found.attrs["about"])
    del about["predicted"]
    write_netcdf(folder / "older.nc", found.assign_attrs(about=json.dumps(about)))
    with pytest.warns(PkpdWarning, match="kept nothing of what its model predicts"):
        pkpd.load_fit(folder / "older.nc", oral(), data)
