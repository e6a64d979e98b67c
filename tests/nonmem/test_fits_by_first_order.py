"""A stream is fitted by first order, and its objective is the closed form."""

import numpy as np
import pytest

import pkpd
from pkpd import read_control_stream

STREAM = """$PROBLEM decay
$INPUT ID TIME DV
$DATA d.csv IGNORE=I
$PRED
B=THETA(1)*EXP(ETA(1))
F=B*EXP(-THETA(2)*TIME)
Y=F*(1+EPS(1))
$THETA (0,4) (0,.1)
$OMEGA .1
$SIGMA .02
$EST METHOD=0 MAXEVAL=999
"""
HOURS = np.arange(4.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("fo"), np.random.default_rng(1)
    start = 5.0 * np.exp(0.2 * rng.standard_normal(10))
    seen = start[:, None] * np.exp(-0.1 * HOURS) * (1.0 + 0.1 * rng.standard_normal((10, 4)))
    rows = [f"{i + 1},{t:g},{seen[i, k]:.6f}" for i in range(10) for k, t in enumerate(HOURS)]
    (folder / "d.csv").write_text("\n".join(["ID,TIME,DV", *rows]) + "\n")
    (folder / "m.mod").write_text(STREAM)
    return read_control_stream(folder / "m.mod"), np.round(seen, 6)


def test_a_fit_by_first_order_has_the_objective_of_its_closed_form(made):
    stream, seen = made
    fit = pkpd.fit(stream.model, stream.data, method="fo", progress=False)
    values = fit.estimates
    mean = values["THETA1"] * np.exp(-values["THETA2"] * HOURS)
    spread = (values["omega_ETA1"] * mean[:, None]) * (values["omega_ETA1"] * mean)
    covariance = spread + np.diag((values["SIGMA1"] * mean) ** 2)
    inverse, away = np.linalg.inv(covariance), seen - mean
    expected = 10 * np.linalg.slogdet(covariance)[1] + np.einsum("bi,ij,bj->", away, inverse, away)
    assert fit.converged
    assert fit.objective == pytest.approx(expected, abs=1e-6)
    assert np.all(np.isfinite(fit.random))
