from __future__ import annotations

import math

import pytest
from small_data import Straight

from pkpd.errors import PkpdError
from pkpd.fitting.model.covariate_effects import category, exponential, power
from pkpd.fitting.model.population_parameters import fixed_effects, held, holding, start_values
from pkpd.fitting.model.priors import Estimate, Prior, fixed
from pkpd.fitting.model.residual import additive, combined, ornstein_uhlenbeck
from pkpd.fitting.model.specification import PopulationModel, from_column, parameter
from pkpd.predict.pk import compartments

RESIDUAL = {"concentration": additive(0.5)}


def two(**kw):
    return [parameter("CL", 2.7, iiv=0.3, **kw), parameter("V", 32.0, iiv=0.2)]


def block(**kw):
    return PopulationModel(compartments(1), two(), RESIDUAL, correlated=[("CL", "V")], **kw)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parameter("CL", 0.0), r"parameter 'CL': value 0.*more than 0 on the log scale"),
        (lambda: parameter("F", 1.0, scale="logit"), r"value 1.*between 0 and 1"),
        (lambda: parameter("F", 1.0, scale="probit"), r"scale 'probit'.*log, logit, identity"),
        (lambda: parameter("CL", 1.0, iiv=0.0), r"iiv = 0.*leave iiv out"),
        (lambda: parameter("CL", 1.0, iov=-1.0), r"iov = -1"),
        (lambda: parameter("CL", 1.0, boxcox=0.5), "boxcox without iiv"),
        (lambda: parameter("CL", 1.0, iiv=0.3, centring=1.5), "centring 1.5"),
        (lambda: parameter("CL", 1.0, iiv=0.3, centring="auto"), "centring: 'auto' is a str"),
        (lambda: parameter("CL", 1.0, iiv=float("inf")), "iiv = inf"),
        (lambda: parameter("CL", float("inf")), "value inf"),
        (lambda: parameter("F", 0.5, scale="logit", bounds=(0,)), r"bounds: \(0,\) is a tuple"),
        (
            lambda: parameter("F", 0.5, scale="logit", bounds=(0, math.inf)),
            r"bounds: \(0, inf\) is a tuple; allowed: two finite numbers, the lower first",
        ),
        (lambda: parameter("CL", 1.0, effects=["WT"]), r"effects: \['WT'\] is a list; allowed"),
        (lambda: parameter("CL", 1.0, effects="WT"), r"effects: \['WT'\] is a list; allowed"),
        (
            lambda: PopulationModel(compartments(1), two(), {"concentration": 0.5}),
            r"residual: \{'concentration': 0.5\} is a dict; allowed: a residual error",
        ),
        (lambda: block().with_values({"CL": -1.0}), "'CL': -1.0 is given; allowed: a number from"),
        *(
            (lambda v=v: block().with_values(v), f"is given; allowed: a number from {words}")
            for v, words in (
                ({"CL": 0.0}, "0 to inf, neither"),
                ({"CL": math.inf}, "0 to inf, neither"),
                ({"omega_V": math.inf}, "0 to inf"),
            )
        ),
        (lambda: block().with_values({"CL": "2"}), "'CL': '2' is given"),
        (lambda: block().with_values({"omega_V": -0.2}), "'omega_V': -0.2 is given"),
        (
            lambda: block().with_values({"sigma_concentration": -1}),
            "'sigma_concentration': -1 is given; allowed: a number from 0 to inf",
        ),
        (lambda: PopulationModel(compartments(1), two()[:1], RESIDUAL), "'V' is missing"),
        (lambda: block(lkj=0), "PopulationModel, lkj: 0.*a number above 0"),
        (lambda: additive(0.5, nu=-2.0), "additive residual error: nu = -2; allowed: more than 0"),
        (
            lambda: PopulationModel(
                compartments(1),
                two(effects=[power("WT", 70.0, 0.75), exponential("WT", 70.0)]),
                RESIDUAL,
            ),
            "parameter 'CL': two effects of covariate 'WT' have the coefficient CL_WT",
        ),
        (
            lambda: PopulationModel(compartments(1), [*two(), *two()[:1]], RESIDUAL),
            "'CL' is given twice",
        ),
        (
            lambda: PopulationModel(compartments(1), [*two(), parameter("ka", 1.0)], RESIDUAL),
            "'ka' is not a parameter of the structural model.*CL, V",
        ),
        (
            lambda: PopulationModel(compartments(1), two(), {"effect": additive(1.0)}),
            "residual error of 'effect': the structural model has no such line",
        ),
        (
            lambda: PopulationModel(Straight(("a", "b")), two(), additive(1.0)),
            "residual error: one is given for 2 lines",
        ),
        (
            lambda: PopulationModel(compartments(1), two(), RESIDUAL, correlated=[("CL",)]),
            "'CL' stands alone",
        ),
        (
            lambda: PopulationModel(
                compartments(1),
                [parameter("CL", 1.0), two()[1]],
                RESIDUAL,
                correlated=[("CL", "V")],
            ),
            "'CL' has no variability between patients",
        ),
        (
            lambda: PopulationModel(
                compartments(1), two(), RESIDUAL, correlated=[("CL", "V"), ("V", "CL")]
            ),
            "'V' is in two blocks",
        ),
        (
            lambda: PopulationModel(compartments(1), two(), RESIDUAL, correlated=[("CL", "CL")]),
            "'CL' is in two blocks",
        ),
        (lambda: PopulationModel(compartments(1), two(), RESIDUAL)["ka"], "no parameter 'ka'"),
        (
            lambda: PopulationModel(compartments(1), two(), RESIDUAL).with_values({"CLx": 1.0}),
            r"population parameter 'CLx': is not one of the model's \(did you mean 'CL'\?\)",
        ),
        (
            lambda: block().with_values({"partial_V_CL": 0.5}),
            r"'partial_V_CL': is not one of the model's \(did you mean 'partial_CL_V'\?\)",
        ),
        (
            lambda: block().with_values({"partial_CL_V": 1.0}),
            "partial 'partial_CL_V': value 1; allowed: between -1 and 1",
        ),
        (
            lambda: block(partial={"CL_V": 0.5}),
            r"partial 'CL_V': is not a partial correlation of the model \(did you mean 'partial_",
        ),
        (
            lambda: PopulationModel(compartments(1), two(), RESIDUAL, partial={"partial_CL_V": 0}),
            "allowed: none: no parameters are correlated",
        ),
        (
            lambda: block(partial={"partial_CL_V": Estimate(0.1, Prior("Normal", mu=0, sigma=1))}),
            "has a prior of its own; allowed: the LKJ prior of its block",
        ),
    ],
)
def test_what_makes_no_model_is_refused_in_a_sentence(make, message):
    with pytest.raises(PkpdError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_order_follows_the_structure_and_blocks_come_first_among_effects():
    parameters = [
        parameter("V", 32.0, iiv=0.2),
        parameter("CL", 2.7, iiv=0.3, iov=0.1),
        parameter("ka", 1.5, iiv=0.6),
    ]
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        parameters,
        additive(0.5),
        correlated=[("CL", "V")],
    )
    assert [p.name for p in model.parameters] == ["ka", "CL", "V"]
    assert model.varying == ("CL", "V", "ka")
    assert model.occasional == ("CL",)


def test_new_values_go_everywhere_and_back():
    model = PopulationModel(
        compartments(1),
        two(
            iov=0.1,
            boxcox=0.4,
            effects=[power("WT", 70, 0.75), category("SEX", [1, 2])],
        ),
        {"concentration": combined(0.5, 0.1, nu=fixed(4.0))},
        correlated=[("CL", "V")],
        lkj=3.0,
    )
    start = start_values(model)
    other = {name: 0.5 * value + 0.01 for name, value in start.items()}
    other["partial_CL_V"] = -0.4
    renewed = model.with_values(other)
    assert start_values(renewed) == pytest.approx(other)
    assert renewed.lkj == 3.0
    assert renewed.correlated == model.correlated
    assert fixed_effects(renewed)["nu_concentration"].fixed


def test_a_deviation_may_be_0_and_hours_and_degrees_of_freedom_may_not():
    drift = [ornstein_uhlenbeck(0.3, 20.0)]
    error = {"concentration": additive(0.5, nu=4.0, processes=drift)}
    made = PopulationModel(compartments(1), two(), error)
    assert start_values(made.with_values({"sigma_concentration": 0.0}))["sigma_concentration"] == 0
    for name in ("nu_concentration", "tau_concentration"):
        with pytest.raises(PkpdError, match=f"'{name}': 0.0 is given; allowed: .* neither of them"):
            made.with_values({name: 0.0})


def test_changed_and_replace_keep_the_rest():
    model = PopulationModel(compartments(1), two(), additive(0.5), lkj=5.0)
    changed = model.changed("CL", iiv=None)
    assert changed.varying == ("V",)
    assert changed.lkj == 5.0
    assert (
        model.replace(residual={"concentration": additive(1.0)}).residual["concentration"]
        != (model.residual["concentration"])
    )


def test_partial_correlations_start_where_they_are_told():
    assert start_values(block())["partial_CL_V"] == 0.0
    model = block(partial={"partial_CL_V": fixed(0.3)})
    assert start_values(model)["partial_CL_V"] == 0.3
    assert "partial_CL_V" in held(model)
    assert held(model.with_values({"partial_CL_V": 0.4})) == held(model)
    assert start_values(model.changed("CL", effects=()))["partial_CL_V"] == 0.3
    assert "partial_CL_V" not in start_values(model.replace(correlated=[]))
    everything = holding(block())
    assert held(everything) == set(start_values(everything))


def test_priors_and_fixed_are_kept_with_the_value():
    prior = Prior("LogNormal", mu=1.0, sigma=0.2)
    assert parameter("CL", 2.7, prior=prior).typical == Estimate(2.7, prior)
    assert parameter("CL", fixed(2.7)).typical.fixed
    assert parameter("CL", Estimate(2.7, prior), fixed=True).typical == Estimate(2.7, prior, True)
    assert from_column("CL", "CLI").column == "CLI"


def test_a_misspelt_parameter_is_told_before_the_one_it_leaves_missing():
    wrong = [parameter("Cl", 1.0), parameter("V", 10.0)]
    with pytest.raises(PkpdError, match=r"'Cl' \(did you mean 'CL'\?\) is not a parameter"):
        PopulationModel(compartments(1), wrong, RESIDUAL)


def test_a_model_says_what_it_is_in_a_line():
    model = PopulationModel(compartments(1), two(), RESIDUAL)
    assert repr(model) == (
        "PopulationModel(LinearStructure of CL, V; iiv of CL, V; residual error of concentration)"
    )
