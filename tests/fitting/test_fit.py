from __future__ import annotations

import dataclasses
import html
import re

import arviz as az
import conjugate
import numpy as np
import pytest
from small_data import Straight, dataset_of

from pkpd.errors import PkpdError, PkpdWarning
from pkpd.fitting.checks.all_checks import check
from pkpd.fitting.fit import fit
from pkpd.fitting.maximum.progress import ProgressLines
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import holding
from pkpd.fitting.model.residual import additive, lognormal
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.fitting.saved import load_fit

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
    return fit(conjugate.model(), data, draws=400, tune=300, chains=2, **SETTINGS)


@pytest.mark.slow
def test_nuts_finds_a_posterior_known_in_closed_form(fitted):
    agrees(fitted, fitted.dataset)
    correlation = np.corrcoef(fitted.draws.population["level"], fitted.draws.population["slope"])
    _, covariance = conjugate.posterior(fitted.dataset)
    expected = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert correlation[0, 1] == pytest.approx(expected, abs=0.1)


def test_a_fit_says_what_it_is(fitted):
    assert repr(fitted) == "Fit(nuts: 2 x 400 draws, 6 subjects)"
    assert fitted._repr_html_() == f"<pre>{html.escape(fitted.summary())}</pre>"
    table = fitted.table(interval=0.9)
    assert list(table.index) == ["level", "slope"]
    low, high = np.quantile(fitted.draws.population["slope"], [0.05, 0.95])
    assert table.loc["slope", "q5"] == pytest.approx(low)
    assert table.loc["slope", "q95"] == pytest.approx(high)
    assert fitted.record["data"]["source"] == "conjugate data"
    assert fitted.record["settings"]["seed"] == 3
    assert fitted.idata.observed_data["value"].size == 24
    assert len(fitted.draws) == 800
    text = fitted.summary()
    assert text.startswith("Fit(nuts: 2 x 400 draws, 6 subjects)")
    assert f"{table.loc['slope', 'median']:.4g}" in text
    assert "R-hat" in text
    assert np.all(fitted.draws.population["omega_level"] == conjugate.OMEGA)


def everything_held():
    return holding(conjugate.model())


@pytest.fixture(scope="module")
def held_fit():
    return fit(
        everything_held(), conjugate.data(), draws=400, tune=200, chains=2, progress=False, seed=3
    )


@pytest.mark.long
def test_random_effects_are_sampled_where_all_population_parameters_are_held(held_fit):
    seen = held_fit.dataset.observations
    precision = 4 / conjugate.SIGMA**2 + 1 / conjugate.OMEGA**2
    left = seen.value - 1.0 - 0.2 * seen.time
    mean = np.bincount(seen.subject, left) / conjugate.SIGMA**2 / precision
    eta = held_fit.idata.posterior["eta"].values[..., 0]
    for b in range(6):
        size = float(az.ess(eta[..., b]))
        assert size > 400
        assert abs(eta[..., b].mean() - mean[b]) < 4.5 / np.sqrt(size * precision)
        assert eta[..., b].std() * np.sqrt(precision) == pytest.approx(1.0, abs=0.12)
    assert held_fit.record["start"] == "individual modes"
    # four measurements explain most of the variance
    explained = 1 - 1 / (precision * conjugate.OMEGA**2)
    assert held_fit.record["centring"]["level"] == pytest.approx([explained] * 6, abs=0.006)


def test_such_a_fit_can_be_read_checked_and_kept(held_fit, tmp_path):
    text = held_fit.summary()
    assert "All population parameters are held." in text
    assert "R-hat" in text
    assert held_fit.table().empty
    assert check(held_fit, quick=True).sampler.table.empty
    held_fit.save(tmp_path / "held.nc")
    again = load_fit(tmp_path / "held.nc", held_fit.model, held_fit.dataset)
    np.testing.assert_array_equal(again.draws.random, held_fit.draws.random)


@pytest.mark.parametrize("method", ["focei", "laplace", "map"])
def test_population_methods_point_to_individual_estimates_where_all_is_held(method):
    with pytest.raises(PkpdError, match=r"is held; use pkpd.individual\(model, data\)") as error:
        fit(everything_held(), conjugate.data(), method=method)
    assert str(error.value).count(". ") == 0


def test_a_model_with_nothing_to_sample_is_refused():
    model = everything_held().changed("level", iiv=None)
    with pytest.raises(PkpdError, match="method 'nuts': every population parameter"):
        fit(model, conjugate.data(), progress=False)


@pytest.mark.slow
def test_settings_of_maximum_likelihood_are_passed_on():
    data, model = conjugate.data(), conjugate.model()
    whole = fit(model, data, method="focei")
    assert np.isfinite(whole.standard_errors["slope"])
    short = fit(model, data, method="focei", iterations=1, covariance=None)
    assert short.iterations == 1
    assert np.isnan(short.standard_errors["slope"])
    robust = fit(model, data, method="focei", covariance="sandwich")
    assert robust.standard_errors["slope"] != whole.standard_errors["slope"]
    assert robust.objective == whole.objective
    several = fit(model, data, method="focei", starts=3, covariance=None, seed=1)
    assert several.iterations > whole.iterations
    assert several.objective == pytest.approx(whole.objective, abs=1e-3)


@pytest.mark.slow
def test_a_slow_search_writes_lines(monkeypatch, capsys):
    # a loaded machine may take long over what is quick elsewhere
    monkeypatch.setattr("pkpd.fitting.fit.ProgressLines", lambda: ProgressLines(3600.0))
    quick = fit(conjugate.model(), conjugate.data(), method="focei")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("pkpd.fitting.fit.ProgressLines", lambda: ProgressLines(0.0))
    fit(conjugate.model(), conjugate.data(), method="focei")
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    pattern = r"maximum likelihood: (towards a start, step|iteration) \d+, -2 log L [-\d.]+, \d+ s"
    assert "step 0" in lines[0]
    searched = [line for line in lines if re.fullmatch(pattern, line)]
    assert f"-2 log L {quick.objective:.3f}" in searched[-1]
    rest = lines[len(searched) :]
    told_errors = [line.rpartition(",")[0] for line in rest]
    assert told_errors == [
        f"maximum likelihood: standard errors, parameter {k} of 2" for k in (1, 2)
    ]
    fit(conjugate.model(), conjugate.data(), method="focei", progress=False)
    assert capsys.readouterr().err == ""


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
    with pytest.raises(PkpdError, match=r"sigma_height: held at 0\.5 in the file, estimated in"):
        load_fit(path, free, fitted.dataset)


def test_a_method_that_is_nearly_right_is_named():
    with pytest.raises(PkpdError, match=r"method: 'foce-i' is given \(did you mean 'focei'\?\)"):
        fit(conjugate.model(), conjugate.data(), method="foce-i")


def test_a_saved_maximum_likelihood_fit_comes_back_whole(tmp_path):
    found = fit(conjugate.model(), conjugate.data(), method="focei", progress=False)
    found.save(tmp_path / "likely.nc")
    again = load_fit(tmp_path / "likely.nc", conjugate.model(), conjugate.data())
    assert type(again) is type(found)
    for name, value in vars(found).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value)
        elif name in [f.name for f in dataclasses.fields(found)] and name != "likelihood":
            assert getattr(again, name) == value, name
    assert again.summary() == found.summary()
    with pytest.raises(PkpdError, match="was made with other subjects"):
        load_fit(tmp_path / "likely.nc", conjugate.model(), conjugate.data(n=7))


def test_a_fit_that_cannot_be_written_or_read_is_a_sentence(fitted, tmp_path):
    with pytest.raises(PkpdError, match=r"no\.nc: cannot be written"):
        fitted.save(tmp_path / "absent" / "no.nc")
    with pytest.raises(PkpdError, match="there is no such file"):
        load_fit(tmp_path / "fit.nc", fitted.model, fitted.dataset)
    (tmp_path / "text.nc").write_text("nothing")
    with pytest.raises(PkpdError, match=r"text\.nc: is no saved fit"):
        load_fit(tmp_path / "text.nc", fitted.model, fitted.dataset)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_draws(fitted):
    short = {**SETTINGS, "draws": 20, "tune": 40, "chains": 2}
    one, again = (fit(conjugate.model(), fitted.dataset, **short) for _ in range(2))
    other = fit(conjugate.model(), fitted.dataset, **(short | {"seed": 4}))
    slope = one.draws.population["slope"]
    np.testing.assert_array_equal(again.draws.population["slope"], slope)
    assert np.any(other.draws.population["slope"] != slope)


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["pymc", "numpyro"])
@pytest.mark.filterwarnings("ignore")
def test_other_samplers_find_it_too(sampler):
    data = conjugate.data()
    made = fit(conjugate.model(), data, draws=1000, tune=500, chains=2, sampler=sampler, **SETTINGS)
    agrees(made, data)


@pytest.mark.long  # test_centring: weights of nought and one are exact
def test_centred_sampling_finds_it_too():
    data = conjugate.data()
    for centring in ("centred", {"level": 0.5}):
        settings = SETTINGS | {"centring": centring}
        agrees(fit(conjugate.model(), data, draws=1000, tune=500, chains=2, **settings), data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "gibbs"}, r"method: 'gibbs'.*nuts"),
        ({"start": "prior"}, r"start 'prior'.*auto, model"),
        ({"start": "model", "centring": "half"}, r"centring 'half'"),
        ({"start": "model", "centring": {"slope": 1.0}}, r"centring of 'slope', which does not"),
        ({"start": "model", "centring": {"level": "x"}}, r"centring of 'level': x; allowed: 0"),
        ({"draws": 0}, r"draws: 0 is given"),
        ({"sampler": "stan"}, r"sampler 'stan'.*nutpie, pymc, numpyro"),
        ({"start": "model", "sampler": "pymc", "checkpoint": "x"}, r"'pymc' keeps none"),
        ({"method": "map", "checkpoint": "x"}, "fit, checkpoint: method 'map' has no chains"),
        ({"method": "advi", "checkpoint": "x"}, "fit, checkpoint: method 'advi' has no chains"),
        ({"method": "focei", "checkpoint": "x"}, "fit, checkpoint: method 'focei' has no"),
        ({"method": "focei", "cluster": "local"}, "fit, cluster: method 'focei' has no chains"),
        (
            {"method": "focei", "draws": 500},
            "fit, draws: method .focei. gives no draws; allow",
        ),
        ({"method": "fo", "centring": "centred"}, "fit, centring: method .fo. gives no draws"),
        ({"method": "laplace", "sampler": "pymc"}, "fit, sampler: method .laplace. has no"),
        ({"method": "map", "tune": 500}, "fit, tune: method .map. has no chains; allowed: nuts"),
        ({"method": "advi", "target_accept": 0.9}, "fit, target_accept: method .advi. has no"),
        ({"starts": 3}, "fit, starts: method .nuts. is no maximum likelihood; allowed: fo, foce"),
    ],
)
def test_settings_without_meaning_are_refused(changes, message):
    with pytest.raises(PkpdError, match=message):
        fit(conjugate.model(), conjugate.data(), progress=False, **changes)


def test_a_start_without_priors_is_no_mode_and_other_subjects_are_no_start():
    data = conjugate.data()
    start = fit(conjugate.model(), data, method="focei", covariance=None, progress=False)
    with pytest.raises(PkpdError, match="fit, start: method 'map' searches the mode with"):
        fit(conjugate.model(), data, method="map", start=start, progress=False)
    with pytest.raises(PkpdError, match="fit, start: method 'laplace' starts at the values of"):
        fit(conjugate.model(), data, method="laplace", start=start, progress=False)
    with pytest.raises(PkpdError, match="fit, start: a fit with 6 x 1 random effects"):
        fit(conjugate.model(), conjugate.data(4), start=start, progress=False)


def test_a_start_that_cannot_be_solved_names_the_subject():
    rows = [(b, 1.0, None, 2.0) for b in (1, 2, 3)]
    model = PopulationModel(
        Straight(),
        [parameter("level", -5.0, scale="identity", iiv=0.3), parameter("slope", 0.1)],
        lognormal(0.3),
    )
    cannot = r"subject 1 and 2 others.*likelihood is not finite"
    # what the look found is told before
    with pytest.warns(PkpdWarning), pytest.raises(PkpdError, match=cannot):
        fit(model, dataset_of(rows, lines=("height",)), progress=False)
