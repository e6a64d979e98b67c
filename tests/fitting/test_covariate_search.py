"""The covariate search against closed forms of balanced data, and on newborns."""

from dataclasses import replace

import marginal_cases as cases
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pkpd
from pkpd.checks import covariate_effects, covariate_search
from pkpd.errors import PkpdError
from pkpd.fitting.covariates.program import SearchProgram
from pkpd.fitting.covariates.relations import candidate_relations
from pkpd.fitting.maximum.estimate import maximum_likelihood
from pkpd.fitting.model import covariate_effects as covariate
from pkpd.fitting.model.priors import fixed
from pkpd.fitting.model.residual import additive, proportional
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.fitting.uncertainty import refit
from pkpd.models import compartments

N, K = 36, 3
RNG = np.random.default_rng(5)
COLUMNS = {
    "Z": RNG.standard_normal(N),
    "NOISE": RNG.standard_normal(N),
    "GROUP": np.repeat([0.0, 1.0, 2.0], N // 3),
    "ONE": np.full(N, 7.0),
    "FEW": np.where(np.arange(N) < 2, 1.0, 0.0),
}
COLUMNS["TWICE"] = 2.0 * COLUMNS["Z"] + 1.0
LEVELS = 10.0 + 0.8 * COLUMNS["Z"] + RNG.standard_normal(N)
Y = LEVELS[:, None] + 0.5 * RNG.standard_normal((N, K))


def level_model(*effects):
    one = parameter("a", 9.0, iiv=1.0, scale="identity", effects=effects)
    return PopulationModel(cases.LEVEL, [one], additive(0.6))


@pytest.fixture(scope="module")
def data():
    table = pd.DataFrame(
        {"ID": np.repeat(np.arange(N), K), "TIME": np.tile(np.arange(K), N), "DV": Y.ravel()}
        | {name: np.repeat(values, K) for name, values in COLUMNS.items()}
        | {"DAY": np.tile(np.arange(K) - 1.0, N)}
    )
    return pkpd.read_nonmem(table.assign(EVID=0), covariates=[*COLUMNS, "DAY"])


@pytest.fixture(scope="module")
def base(data):
    return maximum_likelihood(level_model(), data)


@pytest.fixture(scope="module")
def found(base):
    return covariate_search(base, {"a": ["Z", "NOISE", "GROUP", "TWICE"]}, forward=0.01, fits=4)


def share(design):
    """Part of the variance of subjects' means that columns explain."""
    means = Y.mean(axis=1)
    whole = np.column_stack([np.ones(N), design])
    left = means - whole @ np.linalg.lstsq(whole, means, rcond=None)[0]
    return 1.0 - left @ left / np.sum((means - means.mean()) ** 2)


@pytest.mark.slow
def test_scores_and_ratios_have_their_closed_form(found):
    # balanced levels: the score test is n R^2, the ratio of likelihoods - n log(1 - R^2)
    first = found.steps[found.steps["step"] == 1].set_index("covariate")
    levels = COLUMNS["GROUP"][:, None] == np.array([1.0, 2.0])
    for name, design in (("Z", COLUMNS["Z"]), ("NOISE", COLUMNS["NOISE"]), ("GROUP", levels)):
        part, row = share(design), first.loc[name]
        assert row["score"] == pytest.approx(N * part, rel=2e-3, abs=1e-3)
        # searches end 1e-4 of the objective above their minimum at most
        assert row["difference"] == pytest.approx(N * np.log1p(-part), abs=2e-3)
        degrees = 2 if name == "GROUP" else 1
        assert row["degrees"] == degrees
        assert row["p"] == pytest.approx(stats.chi2.sf(-row["difference"], degrees))
        assert row["score_p"] == pytest.approx(stats.chi2.sf(row["score"], degrees))


@pytest.mark.slow
def test_a_search_keeps_what_was_simulated_and_says_why(found, base, data):
    assert found.relations == ("a ~ Z, exponential",) or found.relations == (
        "a ~ TWICE, exponential",
    )
    steps = found.steps
    assert steps.loc[steps["step"] == 1, "decision"].tolist().count("added") == 1
    second = steps[steps["step"] == 2].set_index("covariate")
    assert "leaves nothing of it" in second.loc["TWICE" if "TWICE" in second.index else "Z", "why"]
    last = steps[steps["direction"] == "backward"]
    assert last["decision"].tolist() == ["kept"]
    assert last["difference"].iloc[0] == pytest.approx(
        base.objective - found.fit.objective, abs=2e-3
    )
    by_hand = maximum_likelihood(
        level_model(covariate.exponential("Z", float(f"{np.median(COLUMNS['Z']):.4g}"))), data
    )
    assert found.fit.objective == pytest.approx(by_hand.objective, abs=1e-3)
    assert np.isfinite(list(found.fit.standard_errors.values())).all()
    told = found.summary()
    assert told.startswith(f"Covariates of {N} subjects: a ~ ")
    assert "values that no power can be taken of: exponential instead" in told


def test_relations_below_the_stricter_limit_are_removed(base):
    part = share(COLUMNS["Z"])
    p = stats.chi2.sf(-N * np.log1p(-part), 1)
    found = covariate_search(base, {"a": ["Z"]}, forward=0.05, backward=0.5 * p)
    assert found.relations == ()
    assert found.fit is base
    assert found.steps["decision"].tolist() == ["added", "removed"]
    assert f"not below {0.5 * p:g}" in found.steps["why"].iloc[-1]


@pytest.mark.slow
def test_what_the_model_has_stays_and_is_no_candidate(data):
    held = maximum_likelihood(level_model(covariate.exponential("Z", 0.0, fixed(0.7))), data)
    found = covariate_search(held)
    assert found.relations == ()
    assert not {"Z", "ONE", "FEW"} & set(found.steps["covariate"])
    assert {"NOISE", "GROUP", "TWICE", "DAY"} == set(found.steps["covariate"])
    told = " ".join(found.messages)
    assert "covariate ONE: has one value, 7, in all subjects" in told
    assert "covariate FEW: category 1 has 2 subjects" in told
    assert found.fit.estimates["a_Z"] == 0.7
    with pytest.raises(PkpdError, match="a ~ Z: is in the model already, and stays there"):
        covariate_search(held, {"a": ["Z"]})


@pytest.mark.long
def test_a_covariate_that_changes_is_searched_like_others(base, data):
    one = covariate.exponential("DAY", 0.0)
    found = covariate_search(base, {"a": [one]}, forward=0.99, backward=0.999, fits=1)
    row = found.steps.iloc[0]
    by_hand = maximum_likelihood(level_model(one), data, covariance=None)
    assert row["difference"] == pytest.approx(by_hand.objective - base.objective, abs=2e-3)
    assert row["score"] == pytest.approx(-row["difference"], rel=0.1, abs=0.02)


@pytest.mark.long
def test_forms_stand_beside_each_other_and_one_is_taken(data):
    rng = np.random.default_rng(2)
    weight = np.exp(0.4 * rng.standard_normal(N))
    values = np.exp(2.0 + 0.7 * np.log(weight) + 0.2 * rng.standard_normal(N))
    table = pd.DataFrame(
        {"ID": np.repeat(np.arange(N), K), "TIME": np.tile(np.arange(K), N), "EVID": 0}
        | {"DV": (values[:, None] + 0.3 * rng.standard_normal((N, K))).ravel()}
        | {"WT": np.repeat(weight, K)}
    )
    study = pkpd.read_nonmem(table, covariates=["WT"])
    model = PopulationModel(cases.LEVEL, [parameter("a", 8.0, iiv=0.4)], additive(0.3))
    start = maximum_likelihood(model, study, covariance=None)
    found = covariate_search(start, forms=["power", "exponential", "linear"])
    assert len(found.steps[found.steps["step"] == 1]) == 3
    assert len(found.relations) == 1  # and no second form of the same pair
    assert set(found.steps["direction"]) == {"forward", "backward"}
    objectives = {}
    for form in ("power", "exponential", "linear"):
        made = getattr(covariate, form)("WT", float(f"{np.median(weight):.4g}"))
        one = model.changed("a", effects=(made,))
        objectives[form] = maximum_likelihood(one, study, covariance=None).objective
    first = found.steps[found.steps["step"] == 1].set_index("form")["objective"]
    for form, objective in objectives.items():
        assert first[form] == pytest.approx(objective, abs=2e-3)
    assert found.relations[0] == f"a ~ WT, {min(objectives, key=objectives.__getitem__)}"


def test_failed_fits_are_counted_and_named(base, monkeypatch):
    monkeypatch.setattr(refit, "_GRADIENTS", 1)
    found = covariate_search(base, {"a": ["NOISE", "Z"]})
    assert len(found.failed) == 2
    assert found.relations == ()
    (told,) = [text for text in found.messages if "failed" in text]
    assert told.startswith("2 fits failed: a ~ NOISE, exponential in step 1 (the search ended with")


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ({"a": ["ONE"]}, "covariate ONE: has one value, 7, in all subjects"),
        ({"a": ["FEW"]}, "category 1 has 2 subjects; allowed: 3 or more in each"),
        ({"a": ["SEX"]}, "covariate 'SEX': is not in the data.*allowed: Z, NOISE"),
        ({"b": ["Z"]}, "parameter 'b': is not in the model.*allowed: a"),
        ({"a": ["Z", "Z"]}, "a ~ Z, exponential: is named twice"),
        ({"a": [covariate.power("Z", 1.0)]}, "cannot be raised to a power"),
        ({"a": [covariate.linear("Z", 1.0, fixed(0.1))]}, "a_Z: its coefficient is held at 0.1"),
        ({"a": [covariate.category("GROUP", [0, 1, 2])]}, "none is the reference"),
        ({"a": [covariate.category("GROUP", [5])]}, "no record has category 5"),
        ({"a": [3]}, "3 is no relation"),
        ({"a": [(covariate.power("Z", 1.0), covariate.linear("Z", 1.0))]}, "not different categ"),
        ({}, "no relation is named"),
    ],
)
def test_candidates_that_cannot_be_tried_are_refused(base, candidates, words):
    with pytest.raises(PkpdError, match=words):
        covariate_search(base, candidates)


def test_other_arguments_are_refused(base):
    with pytest.raises(PkpdError, match="a list of power, exponential, linear"):
        covariate_search(base, forms=["cubic"])  # pyright: ignore
    with pytest.raises(PkpdError, match="forms: is empty"):
        covariate_search(base, forms=[])
    short = maximum_likelihood(level_model(), base.likelihood.dataset, iterations=1)
    with pytest.raises(PkpdError, match="the fit did not converge"):
        covariate_search(short)


# -- effects --------------------------------------------------------------------------------


@pytest.mark.long
def test_effects_are_ratios_of_typical_parameters_with_limits():
    table = pd.DataFrame(
        {"ID": np.repeat(np.arange(8), 3), "TIME": np.tile([0.0, 1.0, 5.0], 8)}
        | {"AMT": np.tile([100.0, 0.0, 0.0], 8), "DV": np.tile([0.0, 8.0, 5.0], 8)}
        | {"WT": np.repeat(np.arange(50.0, 90.0, 5.0), 3), "SEX": np.repeat([0, 1] * 4, 3)}
    )
    data = pkpd.read_nonmem(table, covariates=["WT", "SEX"], units={"WT": "kg"})
    effects = [covariate.power("WT", 70.0, 0.5), *covariate.category("SEX", [1])]
    one = covariate.linear("WT", 70.0, 0.01)
    model = PopulationModel(
        compartments(1),
        [
            parameter("CL", 1.0, iiv=0.1, effects=effects),
            parameter("V", 10.0, iiv=0.1, effects=[one, *covariate.category("SEX", [1])]),
        ],
        proportional(0.2),
    )
    fit = maximum_likelihood(model, data, iterations=1)
    found = covariate_effects(fit, quantiles=(0.0, 1.0), level=0.9).set_index(
        ["parameter", "covariate", "value"]
    )
    b, error = fit.estimates["CL_WT"], fit.standard_errors["CL_WT"]
    row, wide = found.loc[("CL", "WT", 85.0)], stats.norm.ppf(0.95)
    assert row["ratio"] == pytest.approx((85 / 70) ** b)
    assert row["lower"] == pytest.approx((85 / 70) ** (b - wide * error), nan_ok=True)
    row, b = found.loc[("V", "WT", 50.0)], fit.estimates["V_WT"]
    assert row["ratio"] == pytest.approx(1 - 20 * b)
    assert found.loc[("CL", "SEX", 1.0), "ratio"] == pytest.approx(
        np.exp(fit.estimates["CL_SEX_1"])
    )
    with pytest.raises(PkpdError, match=r"quantiles: \[5\.0\] is given"):
        covariate_effects(fit, quantiles=(5.0,))
    plain = maximum_likelihood(level_model(), cases.data([0, 1], Y[:6, :2]), iterations=1)
    with pytest.raises(PkpdError, match="has no covariate effects"):
        covariate_effects(plain)


def test_a_linear_effect_without_a_factor_above_zero_ends_at_zero(data):
    effect = covariate.linear("Z", 0.0, 0.0)
    model = PopulationModel(cases.LEVEL, [parameter("a", 10.0, effects=[effect])], additive(1.0))
    fit = maximum_likelihood(model, data, covariance=None, iterations=1)
    fit = replace(fit, estimates=fit.estimates | {"a_Z": 0.1}, standard_errors={"a_Z": 2.0})
    found = covariate_effects(fit, quantiles=(0.0, 1.0), level=0.9).set_index("value")
    wide = 2.0 * stats.norm.ppf(0.95)
    low, high = COLUMNS["Z"].min(), COLUMNS["Z"].max()
    for value, end in ((low, 0.1 - wide), (high, 0.1 + wide)):
        assert found.loc[value, "ratio"] == pytest.approx(1.0 + 0.1 * value)
        assert found.loc[value, "lower"] == 0.0
        assert found.loc[value, "upper"] == pytest.approx(1.0 + end * value)


# -- slow: newborns, and the distribution of scores ------------------------------------------


def newborns():
    table = pd.read_csv("fits/data/phenobarbital.csv", na_values=".")
    table["LOW"] = (table["APGR"] < 5).astype(int)
    units = {"TIME": "h", "AMT": "mg", "DV": "mg/L", "WT": "kg"}
    data = pkpd.read_nonmem(table, units=units, covariates=["WT", "APGR", "LOW"])
    parameters = [parameter("CL", 0.0065, iiv=0.4), parameter("V", 1.4, iiv=0.4)]
    return PopulationModel(compartments(1), parameters, proportional(0.1)), data


# scm of PsN with NONMEM on phenobarbital, FOCE, weight linear and Apgar scores as categories: base,
# and objectives by step, parameter and covariate (its own tests: test/test_files/scmplus/
# forward_pheno.logf; test/unit/scmlogfile.t for the additive error)
PSN = {
    "proportional": (
        740.27803,
        {
            (1, "CL", "APGR"): 724.29604,
            (1, "CL", "WT"): 687.76393,
            (1, "V", "WT"): 618.00249,
            (2, "CL", "APGR"): 601.48398,
            (2, "CL", "WT"): 582.62460,
            (3, "CL", "APGR"): 571.64659,
        },
    ),
    "additive": (725.60200, {(1, "V", "WT"): 629.27205, (2, "CL", "WT"): 590.06016}),
}


@pytest.mark.parametrize(
    "error",
    [
        pytest.param("proportional", marks=pytest.mark.long),
        pytest.param("additive", marks=pytest.mark.long),
    ],
)
def test_a_search_gives_the_objectives_that_psn_printed(error):
    model, data = newborns()
    if error == "additive":
        model = model.replace(residual=additive(3.0))
    start, printed = PSN[error]
    base = maximum_likelihood(model, data, method="foce")
    assert base.objective == pytest.approx(start, abs=1e-3)
    scores = covariate.category("APGR", [1, 2, 3, 4, 5, 6, 8, 9, 10])
    found = covariate_search(
        base, {"CL": ["WT", scores], "V": ["WT"]}, forms=["linear"], fits=9, least=1
    )
    assert found.relations == ("V ~ WT, linear", "CL ~ WT, linear")
    steps = found.steps.set_index(["step", "parameter", "covariate"])
    assert len(steps) == 8
    for place, objective in printed.items():
        assert steps.loc[place, "objective"] == pytest.approx(objective, abs=1e-3)
    assert (steps["degrees"] == np.where(steps["form"] == "category", 9, 1)).all()
    # taken out again: PsN printed the additive error's volume without weight, too
    if error == "additive":
        assert steps.loc[(4, "V", "WT"), "objective"] == pytest.approx(672.98298, abs=1e-3)


@pytest.mark.long  # the search of PsN above finds it, too
def test_weight_is_found_on_clearance_and_volume_of_newborns():
    # Grasela and Donn 1985 (Dev Pharmacol Ther 8:374-83): both proportional to weight
    model, data = newborns()
    base = maximum_likelihood(model, data)
    found = covariate_search(base)
    assert {"CL ~ WT, power", "V ~ WT, power"} <= set(found.relations)
    for name in ("CL_WT", "V_WT"):
        row = found.fit.table().loc[name]
        assert row.lower < 1.0 < row.upper


def test_categories_are_counted_over_all_records(data):
    """Comedication that begins late: who has it at the first record is not who ever has it."""
    late, here = np.zeros((N, K)), np.arange(N)
    late[:, 1] = here == 5
    with pytest.raises(PkpdError, match="LATE: category 1 has 1 subject; allowed: 3 or more"):
        relations_of(data, late, "LATE")
    late[:, 1], late[0, 0] = here < 20, 1.0
    assert relations_of(data, late, "LATE") == ["a ~ LATE, category"]
    late[0, 0] = 0.0  # all in the category at their first records, and not later
    assert relations_of(data, late, covariate.category("LATE", 0)) == ["a ~ LATE, category"]


def relations_of(data, values, *given):
    study = replace(data, covariates={**data.covariates, "LATE": values})
    relations, _ = candidate_relations(level_model(), study, {"a": list(given)}, ["power"])
    return [one.name for one in relations]


@pytest.mark.long  # scores have their closed form above
def test_scores_of_unrelated_covariates_are_chi_square():
    model, data = newborns()
    weighted = PopulationModel(
        model.structure,
        [
            parameter(name, value, iiv=0.2, effects=covariate.power("WT", 1.0, fixed(1.0)))
            for name, value in (("CL", 0.005), ("V", 1.0))
        ],
        model.residual,
    )
    rng = np.random.default_rng(8)
    n = len(data.subjects)
    columns = {f"X{k}": rng.standard_normal((n, 1)) + 0 * data.events.time for k in range(60)}
    from dataclasses import replace

    study = replace(data, covariates={**data.covariates, **columns})
    fit = maximum_likelihood(weighted, study)
    names = list(columns)
    relations, _ = candidate_relations(weighted, study, {"CL": names, "V": names}, ["exponential"])
    program = SearchProgram(fit, relations)
    scores = [program.score(program.begin, i) for i in range(len(relations))]
    values = np.array([one.statistic for one in scores if one is not None])
    assert len(values) == 120
    for part in (values[:60], values[60:]):
        assert stats.kstest(part, stats.chi2(1).cdf).pvalue > 0.01
