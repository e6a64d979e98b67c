"""Expected information against PopED's printed answers and closed forms, and the best times.

The figures of PopED (version 0.7.0) are those of its site: the vignettes "Introduction to PopED"
and "Examples", and the examples of ``evaluate.fim`` and ``ofv_fim``
(https://andrewhooker.github.io/PopED).
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import marginal_cases as cases
import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.errors import PkpdError
from pkpd.fitting.information.quantities import Linearised, refuse_what_has_no_moments
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.models import (
    EventOptions,
    Friberg,
    PopulationModel,
    compartments,
    covariate,
    fixed,
    marrow_model,
    parameter,
    residual,
)
from pkpd.sampling import expected_information, group

TIMES = [0.5, 1, 2, 6, 24, 36, 72, 120]
WARFARIN = group(32, TIMES, {"AMT": 70})
SPREAD = ("omega_CL^2", "omega_V^2", "omega_ka^2")


def warfarin(error, **blocks):
    return PopulationModel(
        compartments(1, absorption="first_order"),
        [
            parameter("CL", 0.15, iiv=0.07**0.5),
            parameter("V", 8.0, iiv=0.02**0.5),
            parameter("ka", 1.0, iiv=0.6**0.5),
        ],
        error,
        **blocks,
    )


PROPORTIONAL = warfarin(residual.proportional(0.1))
COMBINED = warfarin(residual.combined(0.5, 0.1))


def told(found, *names):
    return [found.rse[name] for name in names]


# -- PopED's printed answers ---------------------------------------------------------------------


@pytest.mark.long
def test_warfarin_with_a_proportional_error():
    """``det(FIM)`` and relative errors of ``evaluate.fim``, reduced and full."""
    names = ("CL", "V", "ka", *SPREAD, "sigma_concentration^2")
    reduced = expected_information(PROPORTIONAL, WARFARIN, scale="variance")
    assert np.exp(reduced.log_det()) == pytest.approx(5.996147e22, rel=1e-6)
    printed = [4.738266, 2.756206, 13.925829, 25.627205, 30.344316, 25.777327, 11.170784]
    assert told(reduced, *names) == pytest.approx(printed, abs=1e-6)
    full = expected_information(PROPORTIONAL, WARFARIN, scale="variance", matrix="full")
    # its derivatives are differences: PopED's own two kinds of them agree to 1e-5
    assert np.exp(full.log_det()) == pytest.approx(1.220371e24, rel=1e-5)
    printed = [3.560994, 2.560413, 4.811952, 26.270324, 30.901555, 26.503936, 12.409516]
    assert told(full, *names) == pytest.approx(printed, rel=1e-6)
    # with the standard deviation of the residual error in place of its variance
    assert expected_information(PROPORTIONAL, WARFARIN).rse["sigma_concentration"] == pytest.approx(
        5.585392, abs=1e-6
    )


def test_a_study_twice_has_errors_smaller_by_the_root_of_two():
    once = expected_information(PROPORTIONAL, WARFARIN, scale="variance")
    both = once + once
    printed = [3.350460, 1.948932, 9.847048, 18.121170, 21.456671, 18.227322, 7.898937]
    names = ("CL", "V", "ka", *SPREAD, "sigma_concentration^2")
    assert told(both, *names) == pytest.approx(printed, abs=1e-6)
    assert (both.subjects, both.samples) == (64, 512)


def test_warfarin_with_a_combined_error_and_criteria_for_some_parameters():
    """``ofv_fim``: ln D, Ds for fixed effects and for variances, the trace, the sum of RSE."""
    found = expected_information(COMBINED, WARFARIN, scale="variance")
    assert found.log_det() == pytest.approx(55.39645, abs=1e-5)
    assert found.log_det(["CL", "V", "ka"]) == pytest.approx(16.49204, abs=1e-5)
    assert found.log_det(SPREAD) == pytest.approx(21.23143, abs=1e-5)
    assert 1.0 / np.trace(found.covariance) == pytest.approx(9.127328, abs=1e-6)
    assert 100.0 / sum(found.rse.values()) == pytest.approx(0.5772714, abs=1e-7)
    sigma = ("sigma_concentration_proportional^2", "sigma_concentration_additive^2")
    printed = [5.096246, 3.031164, 14.260384, 29.761226, 36.681388, 26.748640, 32.011719, 25.637971]
    assert told(found, "CL", "V", "ka", *SPREAD, *sigma) == pytest.approx(printed, abs=1e-6)


ORAL = compartments(1, absorption="first_order", dosing=("F1",))
DAILY = [{"AMT": dose, "II": 24, "ADDL": 10} for dose in (20, 40)]


def daily_oral(error, *effects, iiv_cl=0.25, iov_cl=None):
    return PopulationModel(
        ORAL,
        [
            parameter("CL", 3.75, iiv=iiv_cl, iov=iov_cl, effects=effects),
            parameter("V", 72.8, iiv=0.3),
            parameter("ka", 0.25, iiv=0.3),
            parameter("F1", fixed(0.9)),
        ],
        error,
    )


REPEATED = daily_oral(residual.combined(fixed(5e-6**0.5), 0.2))
INTRO = ("V", "ka", "CL", "omega_V^2", "omega_ka^2", "omega_CL^2")


def two_groups(times):
    return [group(20, times, dose, name=f"{dose['AMT']} mg") for dose in DAILY]


@pytest.mark.long
def test_two_groups_with_doses_every_day():
    """The vignette "Introduction to PopED", and what a sparse design is worth beside it."""
    names = (*INTRO, "sigma_concentration_proportional^2")
    rich = expected_information(REPEATED, two_groups([1, 2, 8, 240, 245]), scale="variance")
    assert rich.log_det() == pytest.approx(39.309, abs=5e-4)
    printed = [8.215338, 10.090955, 4.400304, 39.844763, 60.655110, 27.562541, 13.865357]
    assert told(rich, *names) == pytest.approx(printed, abs=1e-5)
    sparse = expected_information(REPEATED, two_groups([1, 2, 245]), scale="variance")
    assert sparse.log_det() == pytest.approx(29.66484, abs=1e-5)
    printed = [44.120338, 51.256239, 5.748842, 207.941540, 280.689945, 53.350716, 22.795275]
    assert told(sparse, *names) == pytest.approx(printed, abs=1e-4)
    assert rich.efficiency(sparse) == pytest.approx(3.965919, abs=1e-5)


@pytest.mark.long
def test_children_are_joined_to_adults():
    """The vignette "Examples": a prior information tells what children alone cannot."""
    error = residual.combined(fixed(5e-6**0.5), fixed(0.2))
    model = daily_oral(error, covariate.linear("PED", 0.0, -0.2))
    adults = [
        group(20, [1, 8, 10, 240, 245], dose, covariates={"PED": 0}, name=f"{dose['AMT']} mg")
        for dose in DAILY
    ]
    children = group(6, [1, 2, 6, 240], DAILY[1], covariates={"PED": 1})
    before = expected_information(model, adults, scale="variance")
    assert before.flat == ("CL_PED",)
    assert before.log_det() == -np.inf
    alone = expected_information(model, children, scale="variance")
    assert set(alone.flat) == {"CL", "CL_PED"}
    assert "cannot tell CL, CL_PED" in alone.messages()[0]
    both = before + alone
    assert both.log_det() == pytest.approx(34.96368, abs=1e-5)
    printed = [6.381388, 8.222819, 4.354761, 31.808871, 52.858399, 25.601551]
    assert told(both, *INTRO) == pytest.approx(printed, abs=1e-5)
    # PopED's parameter is the factor 0.8 = 1 + coefficient, of which it prints 12.591940 %
    assert both.standard_errors["CL_PED"] == pytest.approx(0.8 * 0.12591940, abs=1e-7)


@pytest.mark.slow
def test_a_covariate_that_does_not_vary_has_no_coefficient():
    model = PopulationModel(
        compartments(1),
        [
            parameter("CL", 3.8, iiv=0.05**0.5, effects=covariate.power("WT", 70, 0.75)),
            parameter("V", 20.0, iiv=0.05**0.5, effects=covariate.power("WT", 70, 1.0)),
        ],
        residual.combined(fixed(0.0015**0.5), 0.015**0.5),
    )
    design = group(50, [1, 2, 4, 6, 8, 24], {"AMT": 1000}, covariates={"WT": 70})
    found = expected_information(model, design, scale="variance")
    assert found.flat == ("CL_WT", "V_WT")
    assert np.isnan(found.rse["CL_WT"])
    names = ("CL", "V", "omega_CL^2", "omega_V^2", "sigma_concentration_proportional^2")
    printed = [3.247502, 3.317107, 21.026264, 21.950179, 10.061292]
    assert told(found, *names) == pytest.approx(printed, abs=1e-6)
    assert "cannot tell CL_WT, V_WT" in found.summary()


@pytest.mark.long
def test_correlated_random_effects():
    """The vignette prints whole percents, and tenths are not printed there."""
    r = np.array([0.03, 0.1, 0.09]) / np.sqrt([0.07 * 0.02, 0.07 * 0.6, 0.02 * 0.6])
    partial = (r[2] - r[0] * r[1]) / np.sqrt((1 - r[0] ** 2) * (1 - r[1] ** 2))
    model = warfarin(
        residual.proportional(0.1),
        correlated=[("CL", "V", "ka")],
        partial={"partial_CL_V": r[0], "partial_CL_ka": r[1], "partial_V_ka": partial},
    )
    names = ("CL", "V", "ka", *SPREAD, "sigma_concentration^2")
    names = (*names, "cov_CL_V", "cov_CL_ka", "cov_V_ka")
    for matrix, printed in (
        ("reduced", [5, 3, 14, 26, 30, 26, 11, 31, 41, 31]),
        ("full", [4, 2, 5, 27, 31, 26, 12, 31, 42, 31]),
    ):
        found = expected_information(model, WARFARIN, scale="variance", matrix=matrix)
        assert np.round(told(found, *names)).tolist() == printed
        assert dict(zip(found.names, found.values, strict=True))["cov_V_ka"] == pytest.approx(0.09)


@pytest.mark.slow
def test_variability_between_occasions():
    """Clearance is another from the seventh dose on; errors in whole percents."""
    error = residual.combined(fixed(5e-6**0.5), fixed(0.2))
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [
            parameter("CL", 3.75, iiv=0.25, iov=0.3),
            parameter("V", 72.8, iiv=0.3),
            parameter("ka", 0.25, iiv=0.3),
        ],
        error,
    )
    groups = [
        group(20, [1, 2, 8, 240, 245], dose, occasions=[144], name=f"{dose['AMT']} mg")
        for dose in DAILY
    ]
    found = expected_information(model, groups, scale="variance")
    names = ("CL", "V", "ka", "omega_CL^2", "omega_V^2", "omega_ka^2", "omega_occasion_CL^2")
    assert np.round(told(found, *names)).tolist() == [6, 9, 11, 106, 43, 63, 79]


def test_an_occasion_begins_at_its_hour_where_records_hold_forward():
    """One dose and a sample in each of two occasions: the second is all from its hour on."""
    errors = []
    for carry in ("backward", "forward"):
        drug = compartments(1, options=EventOptions(carry=carry))
        values = [parameter("CL", 2.0, iov=0.3), parameter("V", 20.0)]
        model = PopulationModel(drug, values, residual.lognormal(fixed(0.1)))
        found = expected_information(model, group(9, [6, 30], {"AMT": 100}, occasions=[10]))
        errors.append([*found.standard_errors.values()])
    np.testing.assert_allclose(*errors, rtol=1e-9)


# -- closed forms ----------------------------------------------------------------------------------


def level(error, iiv=1.5):
    return PopulationModel(cases.LEVEL, [parameter("a", 8.0, iiv=iiv, scale="identity")], error)


def test_a_balanced_model_of_levels_at_any_points():
    """One level with n subjects of k values: linear, so that FO, FOCE and the truth are one."""
    n, k, between, within = 20, 4, 1.5**2, 0.8**2
    model = level(residual.additive(0.8))
    design = group(n, [1, 2, 3, 4], None)
    total = within + k * between
    variances = [[k**2, k], [k, 1 + (k - 1) * (total / within) ** 2]]
    expected = np.array(variances) * n / (2 * total**2)
    for how in ({}, {"matrix": "full"}, {"points": 4}):
        found = expected_information(model, design, scale="variance", **how)
        at = [found.names.index(name) for name in ("omega_a^2", "sigma_DV^2")]
        assert found.matrix[np.ix_(at, at)] == pytest.approx(expected)
        assert found.standard_errors["a"] == pytest.approx(np.sqrt(total / (n * k)))


def test_errors_that_drift_in_time():
    """Covariance and derivatives written out for an Ornstein-Uhlenbeck process."""
    hours = np.array([1.0, 3.0, 10.0])
    process = residual.ornstein_uhlenbeck(0.6, 5.0)
    model = level(residual.additive(0.8, processes=[process]))
    found = expected_information(model, group(7, hours, None))
    apart = np.abs(hours[:, None] - hours[None, :])
    drift = np.exp(-apart / 5.0)
    inverse = np.linalg.inv(1.5**2 + 0.8**2 * np.eye(3) + 0.6**2 * drift)
    slopes = {
        "omega_a": 2 * 1.5 * np.ones((3, 3)),
        "sigma_DV": 2 * 0.8 * np.eye(3),
        "sigma_process_DV": 2 * 0.6 * drift,
        "tau_DV": 0.6**2 * drift * apart / 25.0,
    }
    for (one, a), (other, b) in itertools.product(slopes.items(), repeat=2):
        i, j = found.names.index(one), found.names.index(other)
        expected = 3.5 * np.trace(inverse @ a @ inverse @ b)
        assert found.matrix[i, j] == pytest.approx(expected, rel=1e-9)


def test_errors_that_drift_begin_anew_after_a_reset():
    """Time that begins again at a reset tells the same as time that goes on for weeks."""
    rows = {
        "TIME": [0, 0.013, 0.029] * 2,
        "AMT": [100, 0, 0, 100, 0, 0],
        "EVID": [1, 0, 0, 4, 0, 0],
    }
    one = pd.DataFrame(rows | {"DV": [0, 3, 2, 0, 3, 2]})
    again = pd.concat([one.assign(ID=k) for k in range(5)])
    on = again.assign(TIME=again["TIME"] + 1000.0 * (again.index >= 3), EVID=1 * (again["AMT"] > 0))
    drifting = residual.lognormal(0.1, processes=[residual.ornstein_uhlenbeck(0.3, 5.0)])
    model = PopulationModel(
        compartments(1),
        [parameter("CL", fixed(1.0)), parameter("V", 10.0, iiv=fixed(0.2))],
        drifting,
    )
    found, long = (expected_information(model, pkpd.read_nonmem(table)) for table in (again, on))
    assert found.names == (
        "V",
        "sigma_concentration",
        "sigma_process_concentration",
        "tau_concentration",
    )
    assert found.matrix == pytest.approx(long.matrix, rel=1e-4)


def test_efficiency_for_a_parameter_of_two_models():
    """Ds of one parameter is its precision, whatever else is estimated."""
    held = SHORT.changed("V", iiv=fixed(0.22))
    one, other = (expected_information(m, group(9, [1, 4, 12], BOLUS)) for m in (held, SHORT))
    assert one.names != other.names
    ratio = (other.standard_errors["CL"] / one.standard_errors["CL"]) ** 2
    assert one.efficiency(other, ["CL"]) == pytest.approx(ratio)


@pytest.mark.slow
def test_differences_serve_where_a_structure_has_no_forward_mode(monkeypatch):
    exact = expected_information(COMBINED, WARFARIN, matrix="full")
    monkeypatch.setattr(Linearised, "_forward", False)
    found = expected_information(COMBINED, WARFARIN, matrix="full")
    assert found.matrix == pytest.approx(exact.matrix, rel=1e-5, abs=1e-5 * exact.matrix.max())


def test_an_error_of_the_predictors_own_is_no_missing_forward_mode():
    broken = PopulationModel(
        cases.Curve(lambda t, a: a + len(t) * None, ("a",)),
        [parameter("a", 5.0)],
        residual.additive(1.0),
    )
    linearised = Linearised(bind(broken, cases.data([1.0], [[1.0]])))
    with pytest.raises(TypeError, match="unsupported operand"):
        linearised._forward  # noqa: B018


def test_lognormal_errors_are_those_of_the_logarithm():
    """Linearised, a proportional error and one on the log scale are the same but for units."""
    logs = expected_information(warfarin(residual.lognormal(0.1)), WARFARIN)
    assert logs.rse == pytest.approx(expected_information(PROPORTIONAL, WARFARIN).rse, rel=1e-9)


@pytest.mark.long
def test_a_data_set_and_a_fit_are_designs_too():
    design = expected_information(COMBINED, WARFARIN)
    rows = [{"ID": i, "TIME": 0, "AMT": 70, "EVID": 1, "DV": None} for i in (1, 2)]
    rows += [{"ID": i, "TIME": t, "AMT": 0, "EVID": 0, "DV": 1} for i in (1, 2) for t in TIMES]
    data = pkpd.read_nonmem(pd.DataFrame(rows).sort_values(["ID", "TIME"], kind="stable"))
    found = expected_information(COMBINED, data)
    assert 16 * found.matrix == pytest.approx(design.matrix)
    simulated = pkpd.models.simulate_data(COMBINED, data)
    fit = pkpd.fit(
        COMBINED.with_estimates(lambda _, old: fixed(old.value)).replace(
            residual={"concentration": residual.combined(0.5, fixed(0.1))}
        ),
        simulated,
        method="fo",
    )
    own = expected_information(fit)
    assert own.names == ("sigma_concentration_additive",)
    assert own.values == [fit.estimates["sigma_concentration_additive"]]


def test_observations_beyond_a_limit_are_named_where_data_are_the_design():
    rows = [{"ID": i, "TIME": 0, "AMT": 70, "EVID": 1, "DV": None, "CENS": 0} for i in (1, 2)]
    rows += [
        {"ID": i, "TIME": t, "AMT": 0, "EVID": 0, "DV": 1, "CENS": int(i == 2 and t > 36)}
        for i in (1, 2)
        for t in TIMES
    ]
    data = pkpd.read_nonmem(pd.DataFrame(rows).sort_values(["ID", "TIME"], kind="stable"))
    found = expected_information(COMBINED, data)
    assert "2 of 16 observations beyond a limit as if measured" in found.how
    assert "beyond" not in expected_information(COMBINED, WARFARIN).how


# -- the best times --------------------------------------------------------------------------------


def criterion(times, model=COMBINED, **how):
    return expected_information(model, WARFARIN.at(times), scale="variance", **how).log_det()


def test_the_times_that_poped_found_for_warfarin():
    """Its design of a former vignette ("Design optimization with PopED", 0.3.2): OFV and errors."""
    times = [0.659, 5.771, 5.772, 5.772, 5.772, 101.7, 102, 102]
    found = expected_information(COMBINED, WARFARIN.at(times), scale="variance")
    assert found.log_det() == pytest.approx(56.7172, abs=5e-4)
    sigma = ("sigma_concentration_proportional^2", "sigma_concentration_additive^2")
    printed = [5.12, 2.74, 14.33, 30.15, 30.04, 27.33, 22.01, 19.48]
    assert told(found, "CL", "V", "ka", *SPREAD, *sigma) == pytest.approx(printed, abs=0.01)


SHORT = PopulationModel(
    compartments(1),
    [parameter("CL", 3.8, iiv=0.22), parameter("V", 20.0, iiv=0.22)],
    residual.combined(fixed(0.2), 0.12),
)
BOLUS = {"AMT": 1000}


@pytest.mark.long
def test_counts_of_a_marrow_tell_the_same_by_both_engines():
    """The compiled engine has no forward mode, so that differences stand beside derivatives."""
    found = {}
    for engine in ("compiled", "general"):
        model = PopulationModel(
            marrow_model(compartments(1), lines=Friberg(), engine=engine),
            [
                parameter("CL", fixed(35.0)),
                parameter("V", fixed(60.0)),
                parameter("slope", 20.0, iiv=0.36),
                parameter("circ0", 5.2, iiv=0.25),
                parameter("MTT", 84.0, iiv=0.14),
                parameter("gamma", fixed(0.145)),
            ],
            {"neutrophils": residual.lognormal(0.42)},
        )
        design = group(40, 24.0 * np.array([0, 5, 8, 11, 15, 21]), {"AMT": 180})
        found[engine] = expected_information(model, design)
    assert found["compiled"].rse == pytest.approx(found["general"].rse, rel=5e-3)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: group(0, [1], BOLUS), "group: 0 subjects; allowed: a number above 0"),
        (lambda: group(5, [1], []), "group: has no dose"),
        (lambda: group(5, [1], {"AMT": 0}), "group, dose: AMT of 0; allowed: more than 0"),
        (lambda: group(5, [1], {"DOSE": 3}), "group, dose: 'DOSE'; allowed: TIME, AMT"),
        (lambda: group(5, [], BOLUS), "group: has no sampling time"),
        (lambda: group(5, [-1], BOLUS), "group: a sampling time of -1 h"),
        (lambda: expected_information(SHORT, []), "sampling design: there is no group"),
        (lambda: expected_information(SHORT), "expected information: no design is given"),
        (
            lambda: expected_information(SHORT, group(2, [1, 2], BOLUS)),
            "expected information: 4 samples for 5 parameters",
        ),
        (
            lambda: expected_information(SHORT, group(5, [1, 2], BOLUS), matrix="half"),
            "expected information, matrix: 'half'; allowed: reduced, full",
        ),
        (
            lambda: expected_information(SHORT, group(9, [1, 2], BOLUS), points=-4),
            "expected_information, points: -4",
        ),
        (
            lambda: expected_information(SHORT, group(9, [1, 2], BOLUS)).efficiency(
                expected_information(PROPORTIONAL, WARFARIN)
            ),
            "efficiency: the other study has other parameters, or is none; allowed: CL",
        ),
        (
            lambda: expected_information(SHORT, group(5, {"counts": [1, 2]}, BOLUS)),
            "group: 'counts' is measured, and the model has no residual error of it",
        ),
        (
            lambda: expected_information(warfarin(residual.proportional(0.1, nu=5.0)), WARFARIN),
            "expected information: the error of concentration is Student's t",
        ),
        (
            lambda: expected_information(SHORT, group(9, [1, 2], BOLUS)).log_det(["Cl"]),
            r"interest: 'Cl' is not among the estimated parameters \(did you mean 'CL'\?\)",
        ),
    ],
)
def test_bad_input_gets_one_sentence(make, words):
    with pytest.raises(PkpdError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_structure_with_an_error_of_its_own_is_told_what_to_do():
    likelihood = object.__new__(OwnErrorLikelihood)
    object.__setattr__(likelihood, "model", SimpleNamespace(residual={}))
    with pytest.raises(PkpdError, match=r"an error of its own; .*; write its kinetics as a model"):
        refuse_what_has_no_moments(likelihood)
