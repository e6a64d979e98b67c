from __future__ import annotations

import arviz as az
import conjugate
import numpy as np
import pytest
from small_data import Straight, dataset_of

from pkpd.errors import PkpdError
from pkpd.fitting.checks.all_checks import check
from pkpd.fitting.fit import fit, load_fit
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.residual import additive, lognormal
from pkpd.fitting.model.specification import PopulationModel, parameter

SETTINGS = {"start": "model", "centring": "non-centred", "progress": False, "seed": 3}


def agrees(fitted, data, errors=4.5):
    """Means and standard deviations of the draws lie within Monte Carlo errors of the truth."""
    mean, covariance = conjugate.posterior(data)
    posterior = fitted.idata.posterior
    columns = [posterior["level"].values, posterior["slope"].values]
    columns += list(np.moveaxis(posterior["eta"].values[..., 0], -1, 0))
    for column, m, v in zip(columns, mean, np.diag(covariance), strict=True):
        size = float(az.ess(column))
        assert size > 100
        assert abs(column.mean() - m) < errors * np.sqrt(v / size)
        assert abs(column.std() / np.sqrt(v) - 1) < errors / np.sqrt(
            2 * min(size, float(az.ess(column, method="sd")))
        )


@pytest.fixture(scope="module")
def fitted():
    data = conjugate.data()
    return fit(conjugate.model(), data, draws=1000, tune=500, chains=2, **SETTINGS)


def test_nuts_finds_a_posterior_known_in_closed_form(fitted):
    agrees(fitted, fitted.dataset)
    correlation = np.corrcoef(fitted.draws.population["level"], fitted.draws.population["slope"])
    _, covariance = conjugate.posterior(fitted.dataset)
    expected = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert correlation[0, 1] == pytest.approx(expected, abs=0.1)


def test_a_fit_says_what_it_is(fitted):
    assert repr(fitted) == "Fit(nuts: 2 x 1000 draws, 6 subjects)"
    table = fitted.table(interval=0.9)
    assert list(table.index) == ["level", "slope"]
    low, high = np.quantile(fitted.draws.population["slope"], [0.05, 0.95])
    assert table.loc["slope", "q5"] == pytest.approx(low)
    assert table.loc["slope", "q95"] == pytest.approx(high)
    assert fitted.record["data"]["source"] == "conjugate data"
    assert fitted.record["settings"]["seed"] == 3
    assert fitted.idata.observed_data["value"].size == 24
    assert len(fitted.draws) == 2000
    text = fitted.summary()
    assert text.startswith("Fit(nuts: 2 x 1000 draws, 6 subjects)")
    assert f"{table.loc['slope', 'median']:.4g}" in text
    assert "R-hat" in text
    assert np.all(fitted.draws.population["omega_level"] == conjugate.OMEGA)


def test_an_approximation_is_not_judged_as_chains_are():
    found = fit(conjugate.model(), conjugate.data(), method="map", draws=200, seed=3)
    table = found.table()
    assert list(table.columns) == ["mean", "sd", "median", "q5", "q95"]
    text = found.summary()
    assert "no chains were sampled" in text
    assert "R-hat" not in text
    mean, covariance = conjugate.posterior(found.dataset)
    # the maximum is found to 1e-5 and 800 draws leave 4 % of a standard deviation
    assert abs(table.loc["level", "mean"] - mean[0]) < 0.15 * np.sqrt(covariance[0, 0])
    assert check(found, quick=True).sampler is None


def test_the_only_unnamed_line_takes_the_name_that_the_model_gives_it():
    rows = [(b, t, None, 2.0 + 0.1 * b) for b in range(3) for t in (0.0, 1.0)]
    likelihood = bind(conjugate.model(), dataset_of(rows, lines=("DV",)))
    assert likelihood.dataset.lines == ("height",)


def test_a_saved_fit_comes_back_whole(fitted, tmp_path):
    path = tmp_path / "fit.nc"
    fitted.save(path)
    again = load_fit(path, fitted.model, fitted.dataset)
    for name, value in fitted.draws.population.items():
        np.testing.assert_array_equal(again.draws.population[name], value)
    np.testing.assert_array_equal(again.draws.random, fitted.draws.random)
    assert again.record["method"] == "nuts"
    with pytest.raises(PkpdError, match="was made with other subjects"):
        load_fit(path, fitted.model, conjugate.data(n=7))
    free = fitted.model.replace(residual=additive(0.5))
    with pytest.raises(PkpdError, match="has no parameter 'sigma_height'"):
        load_fit(path, free, fitted.dataset)


def test_the_same_seed_gives_the_same_draws(fitted):
    again = fit(conjugate.model(), fitted.dataset, draws=1000, tune=500, chains=2, **SETTINGS)
    np.testing.assert_array_equal(again.draws.population["slope"], fitted.draws.population["slope"])


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["pymc", "numpyro"])
@pytest.mark.filterwarnings("ignore")
def test_other_samplers_find_it_too(sampler):
    data = conjugate.data()
    made = fit(conjugate.model(), data, draws=1000, tune=500, chains=2, sampler=sampler, **SETTINGS)
    agrees(made, data)


@pytest.mark.slow
def test_centred_sampling_finds_it_too():
    data = conjugate.data()
    for centring in ("centred", {"level": 0.5}):
        settings = SETTINGS | {"centring": centring}
        agrees(fit(conjugate.model(), data, draws=1000, tune=500, chains=2, **settings), data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "gibbs"}, r"method 'gibbs'.*nuts"),
        ({"start": "prior"}, r"start 'prior'.*auto, model"),
        ({"start": "model", "centring": "half"}, r"centring 'half'"),
        ({"start": "model", "centring": {"slope": 1.0}}, r"centring of 'slope', which does not"),
        ({"draws": 0}, r"draws = 0"),
        ({"sampler": "stan"}, r"sampler 'stan'.*nutpie, pymc, numpyro"),
        ({"start": "model", "sampler": "pymc", "checkpoint": "x"}, r"'pymc' keeps none"),
    ],
)
def test_settings_without_meaning_are_refused(changes, message):
    with pytest.raises(PkpdError, match=message):
        fit(conjugate.model(), conjugate.data(), progress=False, **changes)


def test_a_start_that_cannot_be_solved_names_the_subject():
    rows = [(b, 1.0, None, 2.0) for b in (1, 2, 3)]
    model = PopulationModel(
        Straight(),
        [parameter("level", -5.0, scale="identity", iiv=0.3), parameter("slope", 0.1)],
        lognormal(0.3),
    )
    with pytest.raises(PkpdError, match=r"subject 1 and 2 others.*likelihood is not finite"):
        fit(model, dataset_of(rows, lines=("height",)), progress=False)
