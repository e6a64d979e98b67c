"""Likelihood ratios, bootstrap and profiles against closed forms of balanced data."""

import json
from dataclasses import replace

import marginal_cases as cases
import numpy as np
import pandas as pd
import pytest
from scenarios import a_worker
from scipy import optimize, stats

import pkpd
from pkpd.checks import (
    bootstrap,
    compare_fits,
    covariate_search,
    profile_likelihood,
    resample,
    runs,
)
from pkpd.errors import PkpdError
from pkpd.fitting.bayes.posterior import _normal
from pkpd.fitting.bayes.sample import SamplerSettings
from pkpd.fitting.checks.all_checks import _uncertainty
from pkpd.fitting.draws import single_draw
from pkpd.fitting.maximum.description import at_edge, description, extra_parameters
from pkpd.fitting.maximum.estimate import maximum_likelihood
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.priors import fixed
from pkpd.fitting.model.residual import additive, combined, proportional
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.fitting.uncertainty import profile, refit
from pkpd.fitting.uncertainty.bootstrap import _Samples
from pkpd.fitting.uncertainty.likelihood_ratio import ratio_p
from pkpd.models import covariate
from pkpd.predict.ode import ode_model
from pkpd.predict.pk import compartments

LIMIT = stats.chi2.ppf(0.95, 1)


def level_model(iiv=1.0, sigma=1.0):
    return PopulationModel(
        cases.LEVEL, [parameter("a", 8.0, iiv=iiv, scale="identity")], additive(sigma)
    )


def values(n=12, k=4, between=1.5, seed=3):
    rng = np.random.default_rng(seed)
    return 10 + between * rng.standard_normal((n, 1)) + 0.8 * rng.standard_normal((n, k))


Y = values()
SEX = np.repeat([0] * 4 + [1] * 7 + [2], 4)


@pytest.fixture(scope="module")
def data():
    table = pd.DataFrame(
        {
            "ID": np.repeat(np.arange(1, 13), 4),
            "TIME": np.tile(np.arange(4), 12),
            "DV": Y.ravel(),
            "EVID": 0,
            "SEX": SEX,
            "DAY": np.tile(np.arange(4), 12),
        }
    )
    return pkpd.read_nonmem(table, covariates=["SEX", "DAY"])


@pytest.fixture(scope="module")
def with_groups(data):
    return maximum_likelihood(level_model(), data)


@pytest.fixture(scope="module")
def without_groups(data):
    return maximum_likelihood(level_model(iiv=None), data)


def variances(y, weights):
    """Closed-form estimates of balanced groups that count ``weights [n]`` times."""
    (_, k), n = y.shape, weights.sum()
    means = y.mean(axis=1)
    mean = weights @ means / n
    within = weights @ ((y - means[:, None]) ** 2).sum(axis=1) / (n * (k - 1))
    between = weights @ (means - mean) ** 2 / n - within / k
    return mean, np.sqrt(between), np.sqrt(within)


# -- figures of a fit -----------------------------------------------------------------------


def test_criteria_are_those_of_the_closed_form(without_groups):
    n = Y.size
    minus = n * (np.log(2 * np.pi * Y.var()) + 1)
    assert without_groups.objective + without_groups.constant == pytest.approx(minus, abs=1e-4)
    assert without_groups.aic == pytest.approx(minus + 4, abs=1e-4)
    assert without_groups.bic == pytest.approx(minus + 2 * np.log(48), abs=1e-4)
    assert without_groups.bic_subjects == pytest.approx(minus + 2 * np.log(12), abs=1e-4)
    assert without_groups.condition_number == pytest.approx(1.0, abs=1e-2)  # independent
    told = without_groups.summary()
    assert f"BIC {without_groups.bic:.2f} by observations" in told
    wide, narrow = without_groups.table(0.95).loc["a"], without_groups.table(0.5).loc["a"]
    ratio = (wide.upper - wide.lower) / (narrow.upper - narrow.lower)
    assert ratio == pytest.approx(stats.norm.ppf(0.975) / stats.norm.ppf(0.75))


def test_a_standard_deviation_that_is_hardly_known_is_not_below_zero(with_groups):
    at = with_groups.names.index("omega_a")
    covariance = with_groups.covariance_x.copy()
    covariance[at, at] = 25.0
    wide = replace(with_groups, covariance_x=covariance)
    row = wide.table().loc["omega_a"]
    assert row.lower == 0.0
    assert row.upper > row.estimate
    alone = single_draw(wide.likelihood, wide.estimates, wide.random)
    low, high = _uncertainty(wide, alone)["intervals"]["omega_a"]
    assert (low, high > row.estimate) == (0.0, True)
    assert wide.table().lower["sigma_DV"] == with_groups.table().lower["sigma_DV"]
    settings = SamplerSettings(draws=200, chains=1)
    drawn = _normal(wide.likelihood, wide, settings).posterior["omega_a"].values
    assert drawn.min() > 0.0


# -- likelihood ratios ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("further", "edges", "quantile"),
    # Fitzmaurice, Laird and Ware (2004), Applied Longitudinal Analysis, table C.1, and chi-squares
    [(1, 1, 2.71), (2, 1, 5.14), (3, 1, 7.05), (1, 0, 3.84), (2, 0, 5.99)],
)
def test_p_values_are_those_of_mixtures_in_tables(further, edges, quantile):
    assert ratio_p(quantile, further, edges) == pytest.approx(0.05, rel=5e-3)
    assert ratio_p(-0.1, further, edges) == 1.0


def test_a_coefficient_held_at_zero_is_at_its_edge(data):
    def described(error):
        model = PopulationModel(
            compartments(1), [parameter("CL", 1.0), parameter("V", 10.0)], error
        )
        return description(FreeParameters(bind(model, data)))

    many = described(combined(0.1, 0.1))
    for held, edges in ((0.0, ["sigma_concentration_additive"]), (0.05, [])):
        few = described(combined(fixed(held), 0.1))
        extra = extra_parameters(few, many)
        assert list(extra) == ["sigma_concentration_additive"]
        assert at_edge(few, extra) == edges


def test_models_of_the_same_names_lie_in_no_other_structure_or_sum(data):
    def described(transits, error, **more):
        structure = compartments(1, absorption="transit", transits=transits)
        start = {"ktr": 1.0, "CL": 1.0, "V": 10.0}
        parameters = [parameter(name, value, **more) for name, value in start.items()]
        return description(
            FreeParameters(bind(PopulationModel(structure, parameters, error), data))
        )

    few = described(3, combined(0.1, 0.1))
    assert extra_parameters(few, described(3, combined(0.1, 0.1), iiv=0.3)) is not None
    assert extra_parameters(few, described(4, combined(0.1, 0.1), iiv=0.3)) is None
    assert extra_parameters(few, described(3, combined(0.1, 0.1, linear=True), iiv=0.3)) is None
    single = described(3, proportional(0.1))
    for linear in (False, True):
        larger = described(3, combined(0.1, 0.1, linear=linear))
        assert list(extra_parameters(single, larger)) == ["sigma_concentration_additive"]


def test_equations_of_another_name_are_the_same_structure(data):
    def described(name, **more):
        structure = ode_model(
            lambda t, y, p: {"central": -p["k"] * y["central"]},
            states=["central"],
            parameters=["k"],
            outputs={"concentration": lambda y, p: y["central"]},
            name=name,
            max_step_h=0.5,
        )
        model = PopulationModel(structure, [parameter("k", 0.1, **more)], additive(0.1))
        return description(FreeParameters(bind(model, data)))

    few, many = described("one"), described("two", iiv=0.3)
    assert list(extra_parameters(few, many)) == ["omega_k"]


def test_degrees_of_freedom_are_at_infinity_without_them(with_groups, data):
    student = level_model().replace(residual=additive(1.0, nu=9.0))
    larger = maximum_likelihood(student, data, covariance=None, iterations=1)
    told = compare_fits(with_groups, larger).messages[0]
    assert (
        told == "fit 2: p is of the 50:50 mixture of chi-squares, as fit 1 puts nu_DV at infinity."
    )


def test_a_variance_at_zero_has_the_mixture(with_groups, without_groups):
    found = compare_fits(without_groups, with_groups, names=["one level", "groups"])
    row = found.table.loc["groups"]
    _, between, within = variances(Y, np.ones(12))
    total = within**2 + 4 * between**2
    # -2 log L of balanced groups less that of one level
    fall = 48 * np.log(Y.var()) - 12 * np.log(total) - 36 * np.log(within**2)
    assert row.parent == "one level"
    assert row.degrees == 1
    assert row.difference == pytest.approx(-fall, abs=1e-3)
    assert row.p == pytest.approx(0.5 * stats.chi2.sf(fall, 1), rel=1e-2)
    assert found.table.loc["one level", "parent"] == ""
    assert "50:50 mixture" in found.summary()
    assert "omega_a" in found.messages[0]


@pytest.mark.slow
def test_models_lie_in_each_other_by_names_forms_and_held_values(data, with_groups):
    held = maximum_likelihood(level_model(sigma=fixed(0.8)), data)
    found = compare_fits(with_groups, held)
    assert found.table.loc["fit 1", "parent"] == "fit 2"
    assert not found.messages  # a value inside its range is no edge
    other = maximum_likelihood(level_model(sigma=fixed(0.9)), data)
    found = compare_fits(held, other)
    assert np.isnan(found.table["p"]).all()
    assert "judge by AIC and BIC" in found.messages[-1]

    def described(error, **more):
        model = PopulationModel(
            compartments(1), [parameter("CL", 1.0, **more), parameter("V", 10.0)], error
        )
        return description(FreeParameters(bind(model, data)))

    few, many = described(proportional(0.1)), described(combined(0.1, 0.1))
    extra = extra_parameters(few, many)
    assert extra == {"sigma_concentration_additive": "residual"}
    assert at_edge(few, extra) == ["sigma_concentration_additive"]
    assert extra_parameters(many, few) is None
    bounded = described(combined(0.1, 0.1), scale="logit", bounds=(0.0, 5.0))
    assert extra_parameters(few, bounded) is None


def test_models_of_other_values_of_a_covariate_do_not_lie_in_each_other(data, tmp_path):
    capped = replace(
        data, covariates=data.covariates | {"DAY": np.minimum(data.covariates["DAY"], 1.0)}
    )

    def of_day(dataset, **more):
        effect = covariate.linear("DAY", 0.0, 0.01)
        a = parameter("a", 8.0, effects=effect, scale="identity", **more)
        return maximum_likelihood(PopulationModel(cases.LEVEL, [a], additive(1.0)), dataset)

    small, large = of_day(data), of_day(capped, iiv=1.0)
    found = compare_fits(small, large)
    assert np.isnan(found.table["p"]).all()
    assert "fit 1 and fit 2 read other values of DAY: neither lies in the other" in repr(found)
    small.save(tmp_path / "small.nc")
    large.save(tmp_path / "large.nc")
    assert runs(tmp_path)["parent"].tolist() == ["", ""]
    # one that does not read the covariate lies in both
    plain = maximum_likelihood(level_model(iiv=None), data)
    table = compare_fits(plain, of_day(capped)).table
    assert table["parent"].tolist() == ["", "fit 1"]


def test_comparisons_that_mean_nothing_are_refused(data, with_groups, without_groups):
    other = maximum_likelihood(level_model(iiv=None), cases.data(np.arange(4), Y + 1.0))
    with pytest.raises(PkpdError, match="fit 1 and fit 2 were made of different data"):
        compare_fits(without_groups, other)
    first = maximum_likelihood(level_model(), data, method="fo")
    with pytest.raises(PkpdError, match=r"different approximations \(focei and fo\)"):
        compare_fits(with_groups, first)
    with pytest.raises(PkpdError, match="two fits or more"):
        compare_fits(with_groups)
    with pytest.raises(PkpdError, match="compare_models"):
        compare_fits(with_groups, "another")  # pyright: ignore
    with pytest.raises(PkpdError, match=r"compare_fits\(\*fits.values\(\), names=list\(fits\)\)"):
        compare_fits({"without": without_groups, "with": with_groups})  # pyright: ignore


def test_runs_of_a_folder(tmp_path, with_groups, without_groups):
    with pytest.raises(PkpdError, match="holds no maximum-likelihood fit"):
        runs(tmp_path)
    without_groups.save(tmp_path / "run1.nc", label="one level")
    with_groups.save(tmp_path / "run2.nc")
    table = runs(tmp_path)
    wanted = compare_fits(without_groups, with_groups).table
    for name in ("objective", "aic", "bic", "bic_subjects", "difference", "p"):
        np.testing.assert_allclose(table[name], wanted[name], rtol=1e-12)
    assert table["parent"].tolist() == ["", "run1.nc"]
    assert table["label"].tolist() == ["one level", ""]
    assert table.loc["run2.nc", "a rse"] == pytest.approx(with_groups.table().loc["a"].rse_percent)
    again = pkpd.load_fit(
        tmp_path / "run1.nc", level_model(iiv=None), with_groups.likelihood.dataset
    )
    assert again.estimates == without_groups.estimates
    (tmp_path / "run3.nc").write_bytes(b"no file of netCDF")
    with pytest.raises(PkpdError, match=r"run3\.nc"):
        runs(tmp_path)


def test_the_mode_of_a_posterior_has_no_p_value_in_a_folder(tmp_path, with_groups, without_groups):
    without_groups.save(tmp_path / "run1.nc")
    with_groups.save(tmp_path / "run2.nc")
    replace(with_groups, penalty=1.0).save(tmp_path / "run3.nc")
    table = runs(tmp_path)
    assert table["parent"].tolist() == ["", "run1.nc", ""]
    assert table["penalised"].tolist() == [False, False, True]
    assert np.isfinite(table["p"]).tolist() == [False, True, False]


# -- bootstrap ------------------------------------------------------------------------------


def test_samples_are_weights_and_have_their_closed_form(with_groups):
    found = bootstrap(with_groups, 12, seed=4)
    assert not found.failed
    for index, row in found.samples.iterrows():
        drawn = np.random.default_rng([4, index]).choice(np.arange(12), 12)
        wanted = variances(Y, np.bincount(drawn, minlength=12).astype(float))
        # the search ends 1e-4 above the minimum at most: a hundredth of a standard error
        np.testing.assert_allclose(
            row[["a", "omega_a", "sigma_DV"]].astype(float), wanted, rtol=6e-3
        )
    table = found.table()
    np.testing.assert_allclose(
        table["bootstrap_error"], found.samples[["a", "sigma_DV", "omega_a"]].std()
    )
    assert table.loc["a", "standard_error"] == with_groups.standard_errors["a"]
    assert (found.table(0.8)["bootstrap_lower"] < table["median"]).all()  # 12 are few for 95 %
    assert "12 of 12 fits ended at a minimum" in found.summary()


def test_a_bootstrap_goes_on_in_its_folder(with_groups, tmp_path):
    first = bootstrap(with_groups, 2, folder=tmp_path)
    (tmp_path / "fit_00001.json").unlink()
    more = bootstrap(with_groups, 4, folder=tmp_path)
    assert sorted(p.name for p in tmp_path.glob("fit_*")) == [f"fit_{i:05d}.json" for i in range(4)]
    kept = json.loads((tmp_path / "fit_00000.json").read_text())["estimates"]
    assert more.samples.loc[0, "a"] == kept["a"]
    names = list(with_groups.names)
    pd.testing.assert_frame_equal(more.samples.loc[:1, names], first.samples[names])
    with pytest.raises(PkpdError, match=r"another bootstrap \(seed differ\)"):
        bootstrap(with_groups, 4, folder=tmp_path, seed=2)


def test_a_folder_of_samples_is_of_one_minimum(with_groups, tmp_path):
    """Searches begin where the fit ended: samples of another minimum of its model are others."""
    estimates = with_groups.estimates
    bootstrap(with_groups, 1, folder=tmp_path)
    again = replace(with_groups, estimates=estimates | {"a": estimates["a"] * (1 + 1e-9)})
    assert len(bootstrap(again, 1, folder=tmp_path).samples) == 1
    other = replace(with_groups, estimates=estimates | {"a": estimates["a"] * 1.01})
    with pytest.raises(PkpdError, match=r"another bootstrap \(estimates differ\)"):
        bootstrap(other, 1, folder=tmp_path)


@pytest.mark.slow
def test_a_folder_is_of_one_model_and_of_all_its_data(with_groups, data, tmp_path):
    bootstrap(with_groups, 1, folder=tmp_path)
    other = replace(data, covariates={**data.covariates, "SEX": data.covariates["SEX"] + 1})
    begun = {"covariance": None, "iterations": 1}
    with pytest.raises(PkpdError, match=r"another bootstrap \(by_subject differ\)"):
        bootstrap(maximum_likelihood(level_model(), other, **begun), 1, folder=tmp_path)
    student = level_model().replace(residual=additive(1.0, nu=fixed(9.0)))
    with pytest.raises(PkpdError, match=r"another bootstrap \(density, estimates, model differ\)"):
        bootstrap(maximum_likelihood(student, data, **begun), 1, folder=tmp_path)
    # the description has only the names of functions
    doubled = level_model().replace(structure=cases.Curve(lambda t, a: 2.0 * a + 0.0 * t, ("a",)))
    with pytest.raises(PkpdError, match=r"another bootstrap \(density, estimates differ\)"):
        bootstrap(maximum_likelihood(doubled, data, **begun), 1, folder=tmp_path)


def test_failed_fits_are_counted_and_kept(with_groups, monkeypatch):
    monkeypatch.setattr(refit, "_GRADIENTS", 2)
    found = bootstrap(with_groups, 3)
    assert len(found.failed) == 3
    assert found.samples["failed"].all()
    assert np.isfinite(found.samples["a"]).all()
    assert found.table()["median"].isna().all()
    assert "3 of 3 fits failed (sample 0: the search ended with" in found.summary()


def test_strata_keep_their_sizes(with_groups):
    found = bootstrap(with_groups, 3, by="SEX")
    assert "1 stratum has one subject (SEX 2)" in found.messages[0]
    run = _Samples(refit.Refit.of(with_groups), SEX[::4], 1)
    weights = run.weights(0)
    assert [weights[SEX[::4] == one].sum() for one in range(3)] == [4, 7, 1]
    with pytest.raises(PkpdError, match=r"'SEXE' is no covariate of the data.*SEX"):
        bootstrap(with_groups, 3, by="SEXE")
    with pytest.raises(PkpdError, match="DAY changes within subjects; allowed: SEX"):
        bootstrap(with_groups, 3, by="DAY")


@pytest.mark.parametrize(
    "use",
    [
        profile_likelihood,
        bootstrap,
        resample,
        covariate_search,
        lambda fit: compare_fits(fit, fit),
    ],
)
def test_the_mode_of_a_posterior_is_refused_where_its_priors_would_be_left_out(with_groups, use):
    with pytest.raises(PkpdError, match="mode of a posterior, and its priors would be left out"):
        use(replace(with_groups, penalty=1.0))


def test_fewer_subjects_than_parameters_are_refused():
    fit = maximum_likelihood(
        level_model(), cases.data(np.arange(4), Y[:2]), covariance=None, iterations=1
    )
    with pytest.raises(PkpdError, match="2 subjects are fewer than the 3 parameters"):
        bootstrap(fit, 10)


@pytest.mark.slow
def test_a_deviation_at_zero_may_leave_it():
    y = values(between=0.0, seed=2)
    y -= y.mean(axis=1, keepdims=True) - 10.0 - np.linspace(-0.3, 0.3, 12)[:, None]
    fit = maximum_likelihood(level_model(iiv=0.5), cases.data(np.arange(4), y))
    assert fit.estimates["omega_a"] < 0.02
    found = bootstrap(fit, 8)
    wanted = []
    for index in range(8):
        drawn = np.random.default_rng([1, index]).choice(np.arange(12), 12)
        with np.errstate(invalid="ignore"):
            wanted.append(variances(y, np.bincount(drawn, minlength=12).astype(float))[1])
    np.testing.assert_allclose(found.samples["omega_a"], np.nan_to_num(wanted), atol=0.03)


@pytest.mark.long
def test_a_sample_is_the_fit_of_data_in_which_subjects_are_repeated():
    study = cases.decay_data(n=12, seed=3)
    seen = study.observations
    y = seen.value.reshape(12, 5)
    model, times = cases.decay_model(additive(0.5)), seen.time[:5]
    found = bootstrap(maximum_likelihood(model, study), 2)
    for index in range(2):
        drawn = np.random.default_rng([1, index]).choice(np.arange(12), 12)
        wanted = maximum_likelihood(model, cases.data(times, y[drawn]))
        # the search of a sample ends 1e-4 above the minimum at most: 1 % of a standard error
        assert found.samples.loc[index, "objective"] == pytest.approx(wanted.objective, abs=1e-3)
        for name in wanted.names:
            error = 0.02 * wanted.standard_errors[name]
            assert found.samples.loc[index, name] == pytest.approx(
                wanted.estimates[name], abs=error
            )


def test_a_sample_does_not_depend_on_those_before_it(with_groups):
    """To the last bit: workers of a cluster, and runs that go on, do them in other orders."""
    search = refit.Refit.of(with_groups).search
    weights = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), 2).astype(float)
    first, second, again = (search(weights[i]).point for i in (0, 1, 0))
    assert again.value == first.value
    np.testing.assert_array_equal(again.x, first.x)
    np.testing.assert_array_equal(search(weights[1]).point.x, second.x)


@pytest.mark.long
def test_processes_of_a_cluster_give_the_same(with_groups):
    one = bootstrap(with_groups, 4)
    two = bootstrap(with_groups, 4, cluster="local", jobs=2)
    names = [*with_groups.names, "objective"]
    pd.testing.assert_frame_equal(one.samples[names], two.samples[names], check_exact=True)
    one, two = (
        profile_likelihood(with_groups, cluster=cluster, jobs=2).points
        for cluster in (None, "local")
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)


# -- profiles -------------------------------------------------------------------------------


def test_limits_by_profile_have_their_closed_form(without_groups):
    found = profile_likelihood(without_groups)
    n, s = Y.size, Y.std()
    wide = s * np.sqrt(np.expm1(LIMIT / n))
    # limits are found where the rise is 0.01 from that wanted: 0.3 % of a standard error
    close = {"abs": 5e-3 * s / np.sqrt(n)}
    assert found.table.loc["a", "profile_lower"] == pytest.approx(Y.mean() - wide, **close)
    assert found.table.loc["a", "profile_upper"] == pytest.approx(Y.mean() + wide, **close)

    def rise(sigma):
        return n * (2 * np.log(sigma / s) + (s / sigma) ** 2 - 1) - LIMIT

    for side, bracket in (("lower", (0.3 * s, s)), ("upper", (s, 3 * s))):
        wanted = optimize.brentq(rise, *bracket)
        assert found.table.loc["sigma_DV", f"profile_{side}"] == pytest.approx(wanted, **close)
    assert not found.messages
    assert set(found.points["parameter"]) == {"a", "sigma_DV"}
    with pytest.raises(PkpdError, match="'b' was not estimated"):
        profile_likelihood(without_groups, ["b"])


def test_limits_by_profile_over_a_cluster_are_the_same(with_groups, monkeypatch):
    asked = ["a", "omega_a"]
    alone = profile_likelihood(with_groups, asked)
    monkeypatch.setattr(profile, "workers", a_worker)
    spread = profile_likelihood(with_groups, asked, cluster="tcp://host:8786")
    pd.testing.assert_frame_equal(alone.table, spread.table, check_exact=True)
    pd.testing.assert_frame_equal(alone.points, spread.points, check_exact=True)
    assert alone.messages == spread.messages


def test_a_search_without_a_minimum_says_what_ran_to_zero(without_groups, monkeypatch):
    search = refit.Refit.search

    def unended(self, *given, **named):
        return replace(search(self, *given, **named), converged=False)

    monkeypatch.setattr(refit.Refit, "search", unended)
    monkeypatch.setattr(refit.Refit, "vanished", lambda *_: ("sigma_DV",))
    found = profile_likelihood(without_groups, ["a"])
    assert "has no minimum: sigma_DV ran to zero" in found.messages[0]


@pytest.mark.slow
def test_a_limit_at_a_bound_is_told_with_its_rise():
    y = values(between=0.35, seed=11)
    data = cases.data(np.arange(4), y)
    fit = maximum_likelihood(level_model(iiv=0.5), data)
    without = maximum_likelihood(level_model(iiv=None), data)
    rise = without.objective - fit.objective
    assert 0.01 < rise < LIMIT
    found = profile_likelihood(fit, ["omega_a"])
    assert found.table.loc["omega_a", "profile_lower"] == 0.0
    (told,) = found.messages
    assert told.startswith("The lower limit of omega_a runs to its bound of 0")
    assert f"risen by {rise:.2f} of 3.84" in told
    assert found.table.loc["omega_a", "profile_upper"] > fit.estimates["omega_a"]
