"""The judge of a fit: what it names is there, what it leaves unsaid is not."""

from __future__ import annotations

from types import SimpleNamespace

import marginal_cases as cases
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pkpd
from benchmarks import honest
from pkpd.checks import look_before_fit
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.fitting.judge.ended import _absurd, _exchanged, _modes, _together, _without_spread
from pkpd.fitting.judge.far import far_values, undosed
from pkpd.fitting.judge.findings import Finding, in_order, told
from pkpd.fitting.judge.influence import Linear, chances, of_study, shifts
from pkpd.fitting.maximum.estimate import maximum_likelihood
from pkpd.fitting.model.likelihood import bind
from pkpd.models import PopulationModel, Prior, compartments, covariate, parameter, residual


def groups(n=14, k=5, seed=4):
    rng = np.random.default_rng(seed)
    return 10 + 1.5 * rng.standard_normal((n, 1)) + 0.8 * rng.standard_normal((n, k))


def level(**more):
    one = parameter("a", 8.0, iiv=1.0, scale="identity", **more)
    return PopulationModel(cases.LEVEL, [one], residual.additive(1.0))


def fitted(y, **options):
    return maximum_likelihood(level(), cases.data(np.arange(y.shape[1]), y), **options)


@pytest.fixture(scope="module")
def ordinary():
    return fitted(groups())


@pytest.fixture(scope="module")
def strange():
    y = groups(n=30)
    y[3] += 20.0  # it widens the spread that it is judged by, from 1.5 to 4
    return fitted(y)


# Findings -------------------------------------------------------------------------------------


def test_the_gravest_come_first_and_a_summary_has_three():
    words = ("note", "doubtful", "wrong", "doubtful", "note")
    made = in_order(Finding(f"kind {i}", w, f"Sentence {i}.") for i, w in enumerate(words))
    assert [one.what[-2] for one in made] == ["2", "1", "3", "0", "4"]
    assert told(made) == [
        *("- Sentence 2.", "- Sentence 1.", "- Sentence 3.", "- and 2 more in `judged`"),
    ]


def test_an_ordinary_fit_is_silent(ordinary):
    assert ordinary.findings == ()
    assert ordinary.judged.empty
    assert ordinary.summary().splitlines()[-1].startswith("shrinkage")


@pytest.mark.slow
def test_a_fit_keeps_its_judgement_in_its_file(strange, tmp_path):
    strange.save(tmp_path / "fit.nc")
    data = strange.likelihood.dataset
    again = pkpd.load_fit(tmp_path / "fit.nc", level(), data)
    assert again.findings == strange.findings
    pd.testing.assert_frame_equal(again.influence, strange.influence)
    np.testing.assert_allclose(again.covariance_by("sandwich"), strange.covariance_by("sandwich"))


@pytest.mark.slow
def test_what_rests_on_its_prior_is_named():
    y = groups(n=6)
    strict = level(prior=Prior("Normal", mu=8.0, sigma=0.05))
    fit = maximum_likelihood(strict, cases.data(np.arange(5), y), priors=True)
    (found,) = [one for one in fit.findings if one.kind == "rests on prior"]
    assert found.parameters == ("a",)


# Covariances ----------------------------------------------------------------------------------


def test_the_sandwich_of_a_mean_has_its_closed_form(ordinary):
    # of a balanced design: the mean of groups, whatever their distribution, has this variance
    means = groups().mean(axis=1)
    by_hand = means.std() / np.sqrt(len(means))
    assert ordinary.robust_errors["a"] == pytest.approx(by_hand, rel=1e-3)
    assert ordinary.table().loc["a", "robust_error"] == ordinary.robust_errors["a"]
    names = list(ordinary.names)
    observed = ordinary.covariance_by("observed")
    np.testing.assert_allclose(observed, ordinary.covariance)
    scores = ordinary.covariance_by("scores")[names.index("a"), names.index("a")]
    # the inverse of the scores' products errs the other way: C S^-1 C with C from the Hessian
    assert scores == pytest.approx(observed[0, 0] ** 2 / by_hand**2, rel=0.2)
    with pytest.raises(PkpdError, match="observed, sandwich, scores"):
        ordinary.covariance_by("bread")


def test_without_standard_errors_there_is_nothing_to_judge_by():
    fit = fitted(groups(), covariance=None)
    assert fit.influence.isna().all().all()
    assert np.isnan(fit.table()["robust_error"]).all()
    with pytest.raises(PkpdError, match="without standard errors"):
        fit.covariance_by("scores")


# Influence ------------------------------------------------------------------------------------


@pytest.mark.long
def test_shifts_are_those_of_fits_without_the_subject(ordinary):
    y, spread = groups(), np.sqrt(np.diag(ordinary.observed_x))
    real = []
    for b in range(0, len(y), 2):
        without = fitted(np.delete(y, b, axis=0), covariance=None)
        real.append((without.x - ordinary.x) / spread)
    step = ordinary.shifts[::2]
    assert np.corrcoef(np.ravel(real), step.ravel())[0, 1] > 0.97
    slope = np.sum(step * real) / np.sum(np.square(real))
    assert 0.75 < slope < 1.0  # curvature that leaves with the subject is not made up for


def test_who_carries_a_fit_is_named(strange):
    (found,) = [one for one in strange.findings if one.kind == "carried by a subject"]
    assert found.subjects == ("4",)
    assert "omega_a" in found.parameters
    assert found.what.startswith("Subject 4 (rows 15 to 19) carries the fit: without it ")
    chance = strange.influence["chance"]
    assert chance["4"] < 1e-3
    assert chance.drop("4").min() > 0.02
    assert strange.shifts[3, strange.names.index("omega_a")] < -1.0


def test_chances_are_those_of_a_quadratic_form():
    # one measurement each of known variance 1, whose mean and logarithm of variance are estimated
    one = Linear(np.eye(1), np.array([[1.0, 0.0]]), np.array([[[0.0]], [[1.0]]]))
    n = 50
    observed = np.diag([1.0, 2.0]) / n
    draws = np.random.default_rng(1).standard_normal(4000)
    scores = -2.0 * np.stack([draws, 0.5 * (draws**2 - 1)], axis=1)
    moved = shifts(observed, scores)
    each = chances(moved, observed, [one] * len(draws))
    np.testing.assert_allclose(each[:, 0], stats.norm.sf(np.abs(draws)), rtol=1e-6)
    long = draws**2 > 4
    exact = stats.chi2.sf(draws[long] ** 2, 1)
    np.testing.assert_allclose(each[long, 1], exact, rtol=0.05)  # a gamma distribution exactly
    assert np.all(of_study(each) >= each.min(axis=1))


# Before a fit ---------------------------------------------------------------------------------


def test_fewer_observations_than_parameters_are_refused_without_priors():
    data = cases.data(np.arange(2), groups(n=1, k=2))
    with pytest.raises(PkpdError, match=r"fewer observations \(2\) than parameters to estimate"):
        pkpd.fit(level(), data, method="focei", progress=False)


def looked(one):
    data = pkpd.read_nonmem(one.table, covariates=list(one.covariates))
    return pkpd.checks.look_before_fit(data, one.model)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (honest.copies, "copies"),
        (honest.collinear, "collinear covariates"),
        (honest.two_bodies, "two bodies"),
        (honest.one_occasion, "one occasion"),
        (honest.before_dose, "no chance"),
        (honest.constant_covariate, "constant covariate"),
    ],
)
def test_a_look_before_the_fit_names_the_defect(make, kind):
    found = looked(make(np.random.default_rng(7)))
    assert kind in [one.kind for one in found.findings]
    assert kind in found.judged["kind"].tolist()


@pytest.mark.parametrize(
    ("column", "factor", "kind"),
    [("DV", 1e3, "units"), ("AMT", 1e3, "units"), ("TIME", 60.0, "time unit")],
)
def test_units_that_are_off_are_named_and_the_same_study_is_not(column, factor, kind):
    one = honest.copies(np.random.default_rng(3))
    one.table = one.table[one.table["ID"] <= one.table["ID"].max() // 4]
    assert looked(one).summary() == "Nothing speaks against a fit."
    one.table[column] *= factor
    assert [f.kind for f in looked(one).findings] == [kind]


@pytest.mark.slow
def test_ordinary_studies_raise_no_word():
    for index in range(4):
        assert looked(honest.ordinary(index)).findings == ()


@pytest.mark.slow
def test_a_fit_warns_of_what_is_doubtful():
    data = cases.data(np.arange(5), np.concatenate([groups(), groups()[:1]]))
    with pytest.warns(PkpdWarning, match=r"two IDs \(1 and 15\)"):
        pkpd.fit(level(), data, method="focei", progress=False, covariance=None)


# Drawn problems -------------------------------------------------------------------------------


FIRST = (0, 3, 11)


def few(index):
    found = honest.judged(index)
    assert not found["failed"], found["said"]
    assert found["verdict"] != "wrong", found


@pytest.mark.parametrize("index", FIRST)
def test_drawn_problems_end_right_or_with_a_word(index):
    few(index)


@pytest.mark.long  # the first ones are above
@pytest.mark.parametrize("index", [i for i in range(25) if i not in FIRST])
def test_more_drawn_problems_end_right_or_with_a_word(index):
    few(index)


def test_words_on_modes_name_subjects_and_those_on_an_exchange_the_volume_of_the_model():
    subjects = SimpleNamespace(dataset=SimpleNamespace(subjects=np.arange(1, 21)))
    many = SimpleNamespace(likelihood=subjects, fallen=dict.fromkeys(range(19), 0.009) | {19: 1e-5})
    (one,) = _modes(many)
    assert one.subjects == tuple(map(str, range(1, 20)))
    two = SimpleNamespace(estimates={"ka": 1.0, "CL": 1.0, "V1": 9.0}, exchange=(0.5, None))
    (one,) = _exchanged(two)
    assert one.parameters == ("ka", "CL", "V1")


def test_a_single_parameter_along_which_the_objective_is_flat_is_told_alone():
    found = SimpleNamespace(
        positive=True, flat=np.array([[0.0, 1.0]]), not_told=np.array([False, True])
    )
    (one,) = _together(SimpleNamespace(gone={}, names=("CL", "V"), found=found))
    assert one.what == (
        "V is not told: the objective is flat along it, as far as its curvature can be known, and "
        "it has no standard error."
    )
    assert (one.kind, one.remedy) == ("not told", "Hold it, or give it a prior.")


def test_random_effects_are_those_of_the_occasions_that_a_subject_has():
    """One subject comes on five days, each other on one, with four values of four effects."""
    days = [(0, day) for day in range(5)] + [(i, 0) for i in range(1, 8)]
    rows = [
        {
            "ID": i,
            "OCC": day + 1,
            "TIME": 24.0 * day + t,
            "EVID": int(t == 0),
            "AMT": 100 * (t == 0),
        }
        | {"DV": 3.0 * 0.7**t + 0.1 * i if t else np.nan}
        for i, day in days
        for t in range(5)
    ]
    parts = [parameter("CL", 12.0, iiv=0.3, iov=0.2), parameter("V", 33.0, iiv=0.2, iov=0.1)]
    made = PopulationModel(compartments(1), parts, residual.additive(0.5))
    found = look_before_fit(pkpd.read_nonmem(pd.DataFrame(rows)), made).findings
    assert "few observations" not in [one.kind for one in found]


def test_logarithms_of_errors_in_time_are_no_predictions():
    """Cells per microlitre as the model predicts them, under an error that drifts."""
    rng, rows = np.random.default_rng(2), []
    for i in range(8):
        rows.append({"ID": i, "TIME": 0.0, "EVID": 1, "AMT": 1e5, "DV": np.nan})
        rows += [
            {"ID": i, "TIME": t, "EVID": 0, "AMT": 0.0, "DV": 5000 * np.exp(-t / 200 + e)}
            for t, e in zip(np.arange(4.0, 200.0, 20.0), 0.1 * rng.standard_normal(10), strict=True)
        ]
    drift = residual.lognormal(0.1, processes=[residual.ornstein_uhlenbeck(0.05, 50.0)])
    made = PopulationModel(compartments(1), [parameter("CL", 0.1), parameter("V", 20.0)], drift)
    data = pkpd.read_nonmem(pd.DataFrame(rows))
    assert look_before_fit(data, made).summary() == "Nothing speaks against a fit."
    ended = SimpleNamespace(likelihood=bind(made, data), absurd=np.array([0]))
    ended.log_densities, ended.predictions = np.arange(160.0), np.full(160, np.log(5000.0))
    assert "where it predicts 5000: the objective means nothing" in _absurd(ended)[0].what


def test_a_value_where_all_others_are_0_is_told_without_a_ratio():
    y = np.tile([0.0, 2.0, 1.5, 1.0], (9, 1))
    y[4, 0] = 70.0
    (one,) = far_values(cases.data(np.arange(4), y))
    assert "is above 0, where that of no other subject is at about that time" in one.what


def test_a_spread_is_told_from_zero_by_a_test_before_its_interval_ends_above():
    ended = SimpleNamespace(rises={"omega_ka": 2.6, "omega_CL": 3.0, "omega_V": 3.9})
    cannot, hardly = _without_spread(ended)
    assert cannot.what.startswith("omega_ka cannot be told from zero: without it the objective")
    assert hardly.what.startswith("omega_CL can hardly be told from zero: without it")
    assert "is 3.0 higher at most, where a test at 5 % asks for 2.71 and" in hardly.what


def test_a_subject_whose_dose_is_missing_is_named():
    table = pd.DataFrame(
        {"ID": np.repeat([1, 2, 3], 3), "TIME": [0.0, 1.0, 4.0] * 3, "EVID": [1, 0, 0] * 3}
        | {"AMT": [100.0, 0, 0] * 3, "DV": [np.nan, 3.0, 2.0] * 2 + [np.nan, 0.0, 0.0]}
    )
    parts = [parameter("CL", 3.0, iiv=0.3), parameter("V", 30.0)]
    model = PopulationModel(compartments(1), parts, residual.additive(1.0))
    # of the third, as of one on placebo, 0 was observed
    some = table[(table["ID"] == 1) | (table["EVID"] == 0)]
    data = pkpd.read_nonmem(some)
    predicted = np.array([3.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    (one,) = undosed(bind(model, data), predicted)
    assert one.what == "Subject 2 has 2 observations and no dose, so that 0 is predicted there."
    assert not undosed(bind(model, data), predicted + 0.1)  # it has a baseline
    five = [some.assign(ID=some["ID"] + 10 * i) for i in range(5)]
    (one,) = undosed(bind(model, pkpd.read_nonmem(pd.concat(five))), np.tile(predicted, 5))
    assert one.what.startswith("5 subjects (2, 12, 22 and 2 more) have 10 observations and no dose")
    assert one.subjects == ("2", "12", "22", "32", "42")
    undosed_all = pkpd.read_nonmem(table[table["EVID"] == 0])
    assert not undosed(bind(model, undosed_all), np.zeros(6))


def test_categories_that_are_one_group_go_together():
    race = np.repeat([1, 2, 3] * 8, 2)
    table = pd.DataFrame(
        {"ID": np.repeat(np.arange(24), 2), "TIME": [0.0, 2.0] * 24, "EVID": [1, 0] * 24}
        | {"AMT": [100.0, 0.0] * 24, "DV": [np.nan, 3.0] * 24}
        | {"RACE": race, "ASIAN": (race == 2).astype(int)}
    )
    data = pkpd.read_nonmem(table, covariates=["RACE", "ASIAN"])
    effects = [covariate.category("RACE", 2, 0.1), covariate.category("ASIAN", 1, 0.1)]
    parts = [parameter("CL", 3.0, effects=effects), parameter("V", 30.0)]
    found = look_before_fit(data, PopulationModel(compartments(1), parts, residual.additive(1.0)))
    (one,) = [f for f in found.findings if f.kind == "collinear covariates"]
    assert one.parameters == ("CL_RACE_2", "CL_ASIAN_1")
