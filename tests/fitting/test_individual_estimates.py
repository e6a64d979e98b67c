"""Individual estimates against closed forms, a grid, and NONMEM's printed answers."""

import os
from pathlib import Path

import conjugate
import jax.numpy as jnp
import marginal_cases as cases
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pkpd
from pkpd.errors import PkpdError
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.models import compartments, residual

FOLDER = Path(os.environ.get("PKPD_REFERENCE", Path(__file__).parents[3] / "shared" / "oracles"))
TIMES = np.array([0.0, 1.0, 3.0])
Y = np.array([[10.0, 12.0, 13.0], [8.0, 9.0, 12.0], [11.0, 10.0, 14.0]])


def lines():
    model = cases.line_model(additive(0.5), correlated=[("a", "b")])
    return model.with_values({"partial_a_b": 0.6}), cases.data(TIMES, Y)


def lines_by_hand():
    """Posterior mean and covariance of (a, b) less their typical values, and objectives."""
    design = np.stack([np.ones(3), TIMES], axis=1)
    omega = np.array([[4.0, 0.36], [0.36, 0.09]])
    covariance = np.linalg.inv(design.T @ design / 0.25 + np.linalg.inv(omega))
    mean = (Y - 10 - TIMES) @ design @ covariance / 0.25
    total = design @ omega @ design.T + 0.25 * np.eye(3)
    density = stats.multivariate_normal(design @ [10, 1], total)
    return mean, covariance, -2 * density.logpdf(Y) - 3 * np.log(2 * np.pi)


@pytest.mark.parametrize("method", ["focei", "foce", "laplace"])
def test_a_linear_model_has_its_closed_form(method):
    found = pkpd.individual(*lines(), method=method)
    mean, covariance, objective = lines_by_hand()
    np.testing.assert_allclose(found.eta.sel(parameter=["a", "b"]), mean, atol=1e-8)
    for b in range(3):
        np.testing.assert_allclose(found.covariance[b], covariance, rtol=1e-6)
    se = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found.eta_se, np.broadcast_to(se, (3, 2)), rtol=1e-6)
    # differences of q lose eight of sixteen digits
    np.testing.assert_allclose(found.by_subject, objective, atol=1e-6)
    assert found.objective == pytest.approx(objective.sum(), abs=1e-6)
    assert found.constant == pytest.approx(9 * np.log(2 * np.pi))
    np.testing.assert_allclose(found.parameters["a"], 10 + mean[:, 0], atol=1e-8)
    np.testing.assert_allclose(found.parameters_se["b"], se[1], rtol=1e-6)
    assert found.converged.all()
    assert found.messages == ()


def test_the_table_has_a_row_for_each_subject():
    found = pkpd.individual(*lines())
    table = found.table()
    assert list(table.index) == [1, 2, 3]
    names = ["a", "se_a", "b", "se_b", "eta_a", "se_eta_a", "eta_b", "se_eta_b"]
    assert list(table.columns) == [*names, "objective", "converged"]
    np.testing.assert_array_equal(table.a, 10.0 + table.eta_a)
    assert table.objective.sum() == pytest.approx(found.objective)
    assert f"{found.objective:.3f} without constants" in found.summary()
    assert repr(found) == f"IndividualEstimates(3 subjects, {found.objective:.3f})"


def test_standard_errors_on_the_log_scale_follow_the_delta_method():
    found = pkpd.individual(cases.decay_model(additive(0.5)), cases.decay_data())
    np.testing.assert_allclose(
        found.parameters_se["k"], found.parameters["k"] * found.eta_se.sel(parameter="k")
    )
    assert found.parameters["k"].std() > 0.02


@pytest.mark.slow
def test_effects_of_occasions_have_their_closed_form():
    one = parameter("a", 8.0, iiv=1.0, iov=0.5, scale="identity")
    y = np.array([[9.0, 9.4, 7.0, 7.3], [8.1, 8.0, 8.6, 9.1]])
    data = cases.data(np.arange(4.0), y, OCC=[1, 1, 2, 2] * 2)
    found = pkpd.individual(PopulationModel(cases.LEVEL, [one], additive(0.4)), data)
    design = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1]])
    covariance = np.linalg.inv(design.T @ design / 0.16 + np.diag([1.0, 4.0, 4.0]))
    mean = (y - 8.0) @ design @ covariance / 0.16
    np.testing.assert_allclose(found.eta[:, 0], mean[:, 0], atol=1e-8)
    assert found.kappa.dims == ("subject", "occasion", "occasion_parameter")
    np.testing.assert_allclose(found.kappa[..., 0], mean[:, 1:], atol=1e-8)
    np.testing.assert_allclose(found.kappa_se[0, :, 0], np.sqrt(np.diag(covariance)[1:]), rtol=1e-6)
    # the parameter changes within a subject: by record, and not in the table
    value = found.parameters["a"]
    assert value.dims == ("subject", "record")
    np.testing.assert_allclose(value[0, 2], 8 + mean[0, 0] + mean[0, 2], atol=1e-8)
    both = np.array([1.0, 0.0, 1.0])
    np.testing.assert_allclose(
        found.parameters_se["a"][0, 2], np.sqrt(both @ covariance @ both), rtol=1e-6
    )
    assert float(found.parameters["time"][0, 2]) == 2.0
    assert "a" not in found.table().columns
    np.testing.assert_allclose(found.table()["kappa_a_2"], mean[:, 2], atol=1e-8)


@pytest.mark.slow
def test_a_subject_without_measurements_keeps_the_population():
    table = pd.DataFrame(
        {
            "ID": [1, 1, 1, 2],
            "TIME": [0.0, 1.0, 6.0, 0.0],
            "AMT": [100.0, 0, 0, 100.0],
            "EVID": [1, 0, 0, 1],
            "DV": [np.nan, 4.1, 2.0, np.nan],
        }
    )
    model = PopulationModel(
        compartments(1),
        [parameter("CL", 3.0, iiv=0.4), parameter("V", 20.0, iiv=0.2)],
        residual.proportional(0.2),
    )
    found = pkpd.individual(model, pkpd.read_nonmem(table))
    np.testing.assert_allclose(found.eta.sel(subject=2), [0.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(found.eta_se.sel(subject=2), [0.4, 0.2], rtol=1e-6)
    assert float(found.by_subject.sel(subject=2)) == pytest.approx(0.0, abs=1e-9)
    assert abs(float(found.eta.sel(subject=1, parameter="CL"))) > 0.01


def test_the_best_of_several_modes_is_found():
    rng = np.random.default_rng(18)
    times, omega, sigma = np.arange(0.0, 8.0, 0.5), 0.3, 0.3
    y = np.cos(np.exp(omega * rng.standard_normal((12, 1))) * times)
    y += sigma * rng.standard_normal(y.shape)
    wave = cases.Curve(lambda t, w: jnp.cos(w * t), ("w",))
    model = PopulationModel(wave, [parameter("w", 1.0, iiv=omega)], additive(sigma))
    grid = np.linspace(-4.0, 4.0, 16001)
    curves = np.cos(times[:, None] * np.exp(omega * grid))
    q = np.array([np.sum(((own[:, None] - curves) / sigma) ** 2, 0) / 2 + grid**2 / 2 for own in y])
    found = pkpd.individual(model, cases.data(times, y))
    np.testing.assert_allclose(found.eta[:, 0] / omega, grid[q.argmin(axis=1)], atol=1e-3)


@pytest.mark.long
def test_a_fit_by_maximum_likelihood_is_held_at_its_estimates():
    times, y = TIMES, Y
    data = cases.data(times, y)
    fit = pkpd.fit(cases.line_model(additive(0.7)), data, method="focei", covariance=None)
    found = pkpd.individual(fit)
    assert found.estimates == pytest.approx(fit.estimates)
    np.testing.assert_allclose(found.random, fit.random, atol=1e-6)
    np.testing.assert_allclose(found.random_covariance, fit.random_covariance, rtol=1e-5)
    assert found.objective == pytest.approx(fit.objective, abs=1e-6)
    # new patients under the same estimates
    other = pkpd.individual(fit, cases.data(times, Y[:1] + 1.0))
    assert other.eta.shape == (1, 2)
    assert not np.allclose(other.eta[0], found.eta[0])


@pytest.mark.slow
def test_a_posterior_is_held_at_its_means():
    fit = pkpd.fit(conjugate.model(), conjugate.data(), method="map", draws=300, seed=2)
    found = pkpd.individual(fit)
    level, slope = (fit.draws.population[name].mean() for name in ("level", "slope"))
    seen = fit.dataset.observations
    left = seen.value - level - slope * seen.time
    precision = 4 / conjugate.SIGMA**2 + 1 / conjugate.OMEGA**2
    mean = np.bincount(seen.subject, left) / conjugate.SIGMA**2 / precision
    np.testing.assert_allclose(found.eta[:, 0], mean, atol=1e-8)
    np.testing.assert_allclose(found.eta_se, precision**-0.5, rtol=1e-6)


def test_a_subject_that_cannot_be_solved_is_named_and_harms_no_other():
    lost = cases.Curve(lambda t, a: jnp.where(t > 50, jnp.nan, a), ("a",))
    model = PopulationModel(lost, [parameter("a", 5.0, iiv=0.3)], additive(0.5))
    data = cases.data(np.array([0.0, 1.0]), np.array([[4.0, 5.0], [6.0, 6.5], [5.0, 4.0]]))
    data.observations.time[data.observations.subject == 1] += 100.0
    found = pkpd.individual(model, data)
    assert found.converged.values.tolist() == [True, False, True]
    assert found.messages == ("No mode of the random effects was found for subjects 2.",)
    assert np.isnan(found.table().loc[2, "se_a"])
    assert np.isfinite(found.table().loc[[1, 3], "se_a"]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pkpd.individual(lines()[0]), "a population model comes without data; give them"),
        (lambda: pkpd.individual(*lines(), method="fo"), "method 'fo'; allowed: focei, foce, lap"),
        (lambda: pkpd.individual({"CL": 1.0}, lines()[1]), "dict is no model; allowed: a Popul"),
    ],
)
def test_what_cannot_be_estimated_is_refused_in_a_sentence(make, message):
    with pytest.raises(PkpdError, match=message):
        make()


@pytest.mark.reference
@pytest.mark.skipif(
    not (FOLDER / "mapbayr").is_dir(),
    reason="no reference folder (PKPD_REFERENCE or ../shared/oracles)",
)
def test_nonmem_prints_the_same_modes_and_objectives():
    """Run 001 of the R package mapbayr: NONMEM's POSTHOC of eight subjects, nine digits."""
    data = pkpd.read_nonmem(FOLDER / "mapbayr" / "data_to_fit001.csv")
    sd = np.sqrt(0.2)
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [parameter(name, v, iiv=sd) for name, v in (("CL", 4.0), ("V", 70.0), ("ka", 1.0))],
        residual.proportional(np.sqrt(0.05)),
    )
    phi = pd.read_csv(FOLDER / "mapbayr" / "run001.phi", sep=r"\s+", skiprows=1)
    found = pkpd.individual(model, data)
    etas = found.eta.sel(parameter=["CL", "V", "ka"])
    # NONMEM ends its search at a gradient, ours is finer
    np.testing.assert_allclose(etas, phi[[f"ETA({i})" for i in (1, 2, 3)]], atol=2e-6)
    np.testing.assert_allclose(found.by_subject, phi["OBJ"], atol=1e-6)
    assert found.objective == pytest.approx(phi["OBJ"].sum(), abs=1e-6)
