"""A fit as a NONMEM listing: its numbers are the fit's, and the package's readers read them."""

from __future__ import annotations

import math
import re
from copy import copy
from dataclasses import replace

import arviz as az
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.errors import PkpdError
from pkpd.fitting.model.population_parameters import RandomEffects, start_values
from pkpd.fitting.sampled import Fit
from pkpd.models import PopulationModel, compartments, parameter, residual
from pkpd.nonmem import read_estimates, read_iterations, read_listing, read_table
from pkpd.nonmem.values import at_estimates
from pkpd.report import listing, write_listing
from pkpd.report.fit.reported import Terms
from tests.fitting import marginal_cases as cases
from tests.nonmem.streams import INPUT, written

SUBJECTS, TIMES = 14, (1.0, 4.0, 12.0, 24.0)


def data():
    rng = np.random.default_rng(5)
    rows = []
    for b in range(SUBJECTS):
        cl, v = 3.0 * np.exp(0.35 * rng.standard_normal()), 30.0 * np.exp(0.25 * rng.normal())
        rows.append((b + 101, 0.0, 100.0, None))
        rows += [
            (b + 101, t, None, 100 / v * np.exp(-cl / v * t) * (1 + 0.1 * rng.standard_normal()))
            for t in TIMES
        ]
    return pkpd.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV"]))


def model(**more):
    return PopulationModel(
        compartments(1),
        [parameter("CL", 3.0, iiv=0.3), parameter("V", 30.0, iiv=0.3)],
        residual.proportional(0.1),
        **more,
    )


@pytest.fixture(scope="module")
def fitted():
    return pkpd.fit(model(correlated=[("CL", "V")]), data(), method="focei", progress=False)


@pytest.fixture(scope="module")
def written_files(fitted, tmp_path_factory):
    return write_listing(fitted, tmp_path_factory.mktemp("run") / "run1.lst")


@pytest.fixture(scope="module")
def sampled(fitted):
    """A posterior of draws that are known."""
    rng = np.random.default_rng(8)
    shape = (2, 150)
    centre = {name: fitted.estimates[name] for name in fitted.names}
    posterior = {
        name: value + 0.02 * abs(value) * rng.standard_normal(shape)
        for name, value in centre.items()
    }
    posterior["eta"] = fitted.random + 0.05 * rng.standard_normal((*shape, SUBJECTS, 2))
    record = {"method": "nuts", "wall_s": 12.5}
    return Fit(fitted.likelihood, az.from_dict(posterior), None, None, record)


def covariance_of(values):
    """OMEGA of two effects from standard deviations and their correlation."""
    cl, v, r = (values[name] for name in ("omega_CL", "omega_V", "partial_CL_V"))
    return np.array([[cl**2, r * cl * v], [r * cl * v, v**2]])


@pytest.mark.long
def test_numbers_are_those_of_the_fit(fitted, written_files):
    found = read_listing(written_files)
    order = ["CL", "V", "sigma_concentration"]
    names = [n for n in fitted.estimates if not n.startswith(("omega", "partial"))]
    assert len(names) == len(order)
    assert found.last == pytest.approx(fitted.objective, abs=1e-6)
    np.testing.assert_allclose(found.final.theta, [fitted.estimates[n] for n in names], rtol=5e-5)
    np.testing.assert_allclose(found.final.omega, covariance_of(fitted.estimates), rtol=5e-5)
    assert found.final.sigma.tolist() == [[1.0]]
    np.testing.assert_allclose(
        found.errors.theta, [fitted.standard_errors[n] for n in names], rtol=5e-5
    )
    assert found.counts == {"records": 70, "observations": 56, "individuals": SUBJECTS}
    assert found.method == "First Order Conditional Estimation with Interaction"
    assert found.successful is fitted.converged
    assert found.seconds == pytest.approx(fitted.seconds, abs=0.01)


def test_errors_of_omega_follow_from_those_of_deviations(fitted, written_files):
    found = read_listing(written_files)
    values = fitted.estimates
    # d(sd^2) = 2 sd d(sd); d(r s t) by each of the three
    cl, v, r = values["omega_CL"], values["omega_V"], values["partial_CL_V"]
    slopes = {"omega_CL": r * v, "omega_V": r * cl, "partial_CL_V": cl * v}
    at = [fitted.names.index(name) for name in slopes]
    gradient = np.array(list(slopes.values()))
    both = math.sqrt(gradient @ fitted.covariance[np.ix_(at, at)] @ gradient)
    expected = [
        [2 * cl * fitted.standard_errors["omega_CL"], both],
        [both, 2 * v * fitted.standard_errors["omega_V"]],
    ]
    np.testing.assert_allclose(found.errors.omega, expected, rtol=6e-5)
    assert found.errors.sigma.tolist() == [[0.0]]


def test_means_and_shrinkage_of_etas(fitted, written_files):
    found = read_listing(written_files)
    modes = fitted.random
    np.testing.assert_allclose(found.eta_bar, modes.mean(axis=0), rtol=6e-5, atol=1e-12)
    # NONMEM divides by N, and takes a normal distribution (listing 244 of DDMoRe)
    error = np.sqrt(((modes - modes.mean(axis=0)) ** 2).sum(axis=0)) / len(modes)
    np.testing.assert_allclose(found.eta_bar_error, error, rtol=6e-5)
    z = np.abs(modes.mean(axis=0)) / error
    np.testing.assert_allclose(
        found.eta_bar_p, [math.erfc(x / math.sqrt(2.0)) for x in z], rtol=6e-5
    )
    shrinkage = [100 * fitted.eta_shrinkage[name] for name in ("CL", "V")]
    np.testing.assert_allclose(found.eta_shrinkage, shrinkage, rtol=6e-5)
    (line,) = fitted.epsilon_shrinkage.values()
    assert found.epsilon_shrinkage == (pytest.approx(100 * line, rel=6e-5),)


def test_the_correlation_matrix_and_its_condition(fitted, written_files):
    found = read_listing(written_files)
    assert len(found.eigenvalues) == len(fitted.names)
    assert sum(found.eigenvalues) == pytest.approx(len(fitted.names), rel=1e-4)
    text = written_files.read_text()
    (told,) = re.findall(r"CONDITION NUMBER OF THE CORRELATION MATRIX: (\S+)", text)
    assert float(told) == pytest.approx(found.condition_number, rel=2e-3)
    (search,) = re.findall(r"CONDITION NUMBER ON THE SCALES OF THE SEARCH: (\S+)", text)
    assert float(search) == pytest.approx(fitted.condition_number, rel=1e-5)


def test_relative_errors_are_those_of_the_table(fitted, written_files):
    rows = re.findall(r"^ (THETA\d) +(\S+) +(\S+) +(\S+) +(\S+)$", written_files.read_text(),
                      re.MULTILINE)  # fmt: skip
    table = fitted.table()
    assert [name for *_, name in rows] == list(table.index[: len(rows)])
    for _, value, error, percent, name in rows:
        assert float(value) == pytest.approx(table.estimate[name], rel=5e-5)
        assert float(error) == pytest.approx(table.standard_error[name], rel=5e-5)
        assert float(percent) == pytest.approx(table.rse_percent[name], abs=0.005)


def test_files_of_iterations_and_of_etas(fitted, written_files):
    estimates, objective = read_estimates(written_files.with_suffix(".ext"))
    assert objective == pytest.approx(fitted.objective, rel=1e-11)
    np.testing.assert_allclose(estimates.omega, covariance_of(fitted.estimates), rtol=1e-11)
    rows = read_iterations(written_files.with_suffix(".ext")).set_index("ITERATION")
    assert rows.loc[-1000000001, "THETA1"] == pytest.approx(fitted.standard_errors["CL"], rel=1e-11)
    assert rows.loc[-1000000001, "SIGMA(1,1)"] == 1e10
    assert rows.loc[-1000000004, "OMEGA(1,1)"] == pytest.approx(fitted.estimates["omega_CL"])
    assert rows.loc[-1000000005, "OMEGA(1,1)"] == pytest.approx(fitted.standard_errors["omega_CL"])
    assert rows.loc[-1000000004, "OMEGA(2,1)"] == pytest.approx(fitted.estimates["partial_CL_V"])
    assert rows.loc[-1000000006, ["THETA1", "SIGMA(1,1)"]].tolist() == [0.0, 1.0]
    condition = rows.loc[-1000000003, ["THETA1", "THETA2", "THETA3"]].to_numpy()
    assert condition[0] == pytest.approx(condition[2] / condition[1])
    phi = read_table(written_files.with_suffix(".phi"))
    assert phi["ID"].tolist() == list(range(101, 101 + SUBJECTS))
    np.testing.assert_allclose(phi[["ETA(1)", "ETA(2)"]], fitted.random, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(phi["ETC(2,1)"], fitted.random_covariance[:, 1, 0], rtol=1e-11)
    assert phi["OBJ"].sum() == pytest.approx(fitted.objective, rel=1e-11)


def test_one_estimate_without_an_error_leaves_the_others_theirs(fitted, tmp_path):
    covariance = fitted.covariance.copy()
    lost = fitted.names.index("V")
    covariance[lost], covariance[:, lost] = np.nan, np.nan
    path = write_listing(replace(fitted, covariance=covariance), tmp_path / "run1.lst")
    rows = read_iterations(path.with_suffix(".ext")).set_index("ITERATION")
    errors = [fitted.standard_errors["CL"], 1e10, fitted.standard_errors["sigma_concentration"]]
    names = ["THETA1", "THETA2", "THETA3"]
    np.testing.assert_allclose(rows.loc[-1000000001, names].astype(float), errors, rtol=1e-6)
    assert rows.loc[-1000000006, [*names, "SIGMA(1,1)"]].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert len(read_listing(path).eigenvalues) == len(fitted.names) - 1
    told = re.findall(r"^ (THETA2|SIGMA\(1,1\)) +\S+ +(\S+)", path.read_text(), re.MULTILINE)
    assert dict(told) == {"THETA2": ".........", "SIGMA(1,1)": "FIXED"}


def test_long_numbers_of_subjects_stay_apart(fitted, tmp_path):
    dataset = fitted.likelihood.dataset
    labels = np.arange(SUBJECTS) + 1_000_001
    likelihood = copy(fitted.likelihood)
    events = replace(dataset.events, subject=labels)
    object.__setattr__(likelihood, "dataset", replace(dataset, events=events))
    path = write_listing(replace(fitted, likelihood=likelihood), tmp_path / "run1.lst")
    assert read_table(path.with_suffix(".phi"))["ID"].tolist() == labels.tolist()


def test_the_model_stands_at_the_head_as_a_stream(written_files):
    problem = read_listing(written_files).problem
    assert "THETA(1)" in problem.one("PK").text
    comments = [line.comment for r in problem.all("THETA") for line in r.lines]
    assert comments == ["CL", "V", "sigma_concentration"]
    assert written_files.read_text().startswith("Written by pkpd")


def test_a_posterior(sampled, tmp_path):
    found = read_listing(write_listing(sampled, tmp_path / "post.lst"))
    draws = sampled.draws.population
    theta = [n for n in draws if not n.startswith(("omega", "partial"))]
    np.testing.assert_allclose(found.final.theta, [draws[n].mean() for n in theta], rtol=5e-5)
    np.testing.assert_allclose(found.errors.theta, [draws[n].std(ddof=1) for n in theta], rtol=5e-5)
    each = np.array(
        [covariance_of({n: v[d] for n, v in draws.items()}) for d in range(len(sampled.draws))]
    )
    np.testing.assert_allclose(found.final.omega, each.mean(axis=0), rtol=6e-5)
    np.testing.assert_allclose(found.errors.omega, each.std(axis=0, ddof=1), rtol=6e-5)
    n = len(sampled.dataset.observations)
    total = -2 * sampled.draws.log_likelihood().sum(axis=1) - n * math.log(2 * math.pi)
    assert found.last == pytest.approx(total.mean(), abs=1e-5)
    assert found.seconds == 12.5
    assert found.termination[0] == "STATISTICAL PORTION WAS COMPLETED"
    means = sampled.draws.random.mean(axis=0)
    np.testing.assert_allclose(found.eta_bar, means.mean(axis=0), rtol=6e-5)
    rows = read_iterations(tmp_path / "post.ext")
    assert len(rows) == len(sampled.draws) + 8
    np.testing.assert_allclose(rows["THETA1"][: len(sampled.draws)], draws["CL"], rtol=1e-11)
    phi = read_table(tmp_path / "post.phi")
    np.testing.assert_allclose(phi[["ETA(1)", "ETA(2)"]], means, rtol=1e-11)


SAME = """$PRED
CL = THETA(1)*EXP(ETA(1) + ETA(3))
IF (LEVEL.GE.3) CL = THETA(1)*EXP(ETA(1) + ETA(5))
Y = CL + THETA(2) + EPS(1) + ETA(2)*EPS(2) + ETA(4) + ETA(6)
$THETA (0,2) 0.5 FIX
$OMEGA BLOCK(2) 0.09 0.01 0.04
$OMEGA BLOCK(2) 0.25 0.05 0.16
$OMEGA BLOCK(2) SAME
$SIGMA BLOCK(2) 0.1 0.02 0.3
$EST METHOD=1 INTER
"""


def test_an_imported_stream_has_its_own_omega_and_sigma(tmp_path):
    stream = written(tmp_path, INPUT + SAME)
    terms = Terms(stream.model, RandomEffects(stream.model, 0))
    values = start_values(stream.model)
    found = terms.at(values)
    omega = np.zeros((6, 6))
    omega[:2, :2] = [[0.09, 0.01], [0.01, 0.04]]
    omega[2:4, 2:4] = omega[4:, 4:] = [[0.25, 0.05], [0.05, 0.16]]
    np.testing.assert_allclose(found.omega, omega, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.sigma, [[0.1, 0.02], [0.02, 0.3]], rtol=1e-9)
    assert found.theta.tolist() == [2.0, 0.5]
    # and the way back
    moved = {**values, "THETA1": 3.0, "SD_ETA3": 0.7, "omega_ETA2": 0.1, "SIGMA1": 0.5}
    again = at_estimates(stream.structure.program, terms.at(moved))
    for name, value in moved.items():
        assert again[name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.slow
def test_the_listing_of_an_imported_stream_holds_it_and_is_compared(tmp_path):
    code = "$PRED\nY = THETA(1) + ETA(1) + EPS(1)\n$THETA 4 ; LEVEL\n$OMEGA 0.5\n$SIGMA 0.2\n"
    stream = written(tmp_path, f"{INPUT}{code}$EST METHOD=1 INTER\n")
    for method, compared in (("focei", True), ("fo", False)):
        fit = pkpd.fit(stream.model, stream.data, method=method, covariance=None, progress=False)
        path = write_listing(fit, tmp_path / "run1.lst")
        assert code in path.read_text()
        told = stream.verify()
        assert told.verified is compared
        assert ("the estimates of run1.lst" in str(told)) is compared
        assert ("is by First Order, the stream asks for FOCE" in str(told)) is not compared
    again = pkpd.read_control_stream(path)
    fit = pkpd.fit(again.model, again.data, method="fo", covariance=None, progress=False)
    assert listing(fit).count("Written by pkpd") == 1


def test_what_is_no_fit_is_refused(tmp_path, fitted):
    with pytest.raises(PkpdError, match=r"listing, fit: .* allowed: what pkpd.fit gave"):
        listing("run1.lst")
    with pytest.raises(PkpdError, match="cannot be written"):
        write_listing(fitted, tmp_path / "none" / "run1.lst")


@pytest.mark.slow
def test_of_logarithms_the_objective_is_that_of_the_stream(fitted):
    """The stream in the listing has logarithms, whose objective lacks the change of scale."""
    values = data()
    seen = values.observations
    made = model().replace(residual=residual.lognormal(0.1))
    text = listing(pkpd.fit(made, values, method="focei", progress=False))
    told = float(re.search(r"VALUE OF LOGARITHMS: +(\S+)", text).group(1))

    line = cases.Curve(lambda t, CL, V: jnp.log(100.0 / V) - CL / V * t, ("CL", "V"))
    logs = cases.data(np.array(TIMES), np.log(seen.value).reshape(SUBJECTS, -1))
    other = made.replace(structure=line, residual=residual.additive(0.1))
    assert told == pytest.approx(pkpd.fit(other, logs, method="focei").objective, abs=1e-3)
    assert f"{len(seen)} VALUES ARE LOGARITHMS" in text
    assert "LOGARITHMS" not in listing(fitted)
