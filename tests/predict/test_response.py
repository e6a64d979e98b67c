"""Ready response models and nonlinear pharmacokinetics, against closed forms and DOP853."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp
from scipy.special import lambertw

from pkpd.data.nonmem import read_nonmem
from pkpd.errors import PkpdError
from pkpd.predict.pk import compartments
from pkpd.predict.response import (
    direct_effect,
    effect_compartment,
    michaelis_menten,
    target_mediated,
    turnover,
)

FOLDER = Path(os.environ.get("PKPD_REFERENCE", Path(__file__).parents[3] / "shared" / "oracles"))
TIMES = np.array([0.25, 1.0, 3.0, 8.0, 24.0, 72.0])
DOSE = 100.0
PK = {"ka": 0.9, "CL": 1.5, "V": 15.0}
ORAL = compartments(1, absorption="first_order")


def dataset(*lines):
    names = dict(enumerate(lines, start=1))
    rows = [{"ID": 1, "TIME": 0.0, "DV": np.nan, "AMT": DOSE, "EVID": 1, "DVID": 0}]
    rows += [
        {"ID": 1, "TIME": t, "DV": 1.0, "AMT": 0.0, "EVID": 0, "DVID": k}
        for t in TIMES
        for k in names
    ]
    return read_nonmem(pd.DataFrame(rows), lines=names)


def predicted(model, values, *lines):
    """Predictions [T, lines]."""
    predictor = model.bind(dataset(*lines))
    found = np.asarray(predictor(values)).reshape(TIMES.size, len(lines))
    assert predictor.problems(values) == {}
    return found


def concentration(t):
    k = PK["CL"] / PK["V"]
    return DOSE / PK["V"] * PK["ka"] / (PK["ka"] - k) * (np.exp(-k * t) - np.exp(-PK["ka"] * t))


def integrated(function, y0):
    solved = solve_ivp(
        function, (0, TIMES[-1]), y0, method="DOP853", rtol=1e-12, atol=1e-12, t_eval=TIMES
    )
    return solved.y.T


@pytest.mark.parametrize(
    ("effect", "baseline", "values", "expected"),
    [
        ("linear", "additive", {"slope": 2.0, "E0": 5.0}, lambda c: 5 + 2 * c),
        ("emax", "none", {"Emax": 9.0, "EC50": 1.4}, lambda c: 9 * c / (1.4 + c)),
        (
            "sigmoid",
            "proportional",
            {"Emax": 0.8, "EC50": 1.4, "hill": 2.3, "E0": 5.0},
            lambda c: 5 * (1 + 0.8 * c**2.3 / (1.4**2.3 + c**2.3)),
        ),
    ],
)
def test_direct_effect(effect, baseline, values, expected):
    model = direct_effect(ORAL, effect, baseline=baseline)
    found = predicted(model, PK | values, "concentration", "effect")
    c = concentration(TIMES)
    # closed forms all the way
    np.testing.assert_allclose(found[:, 0], c, rtol=1e-9)
    np.testing.assert_allclose(found[:, 1], expected(c), rtol=1e-9)


def test_effect_compartment():
    values = {"ke0": 0.2, "Emax": 9.0, "EC50": 1.4, "E0": 1.0}
    found = predicted(effect_compartment(ORAL, response="pain"), PK | values, "pain")[:, 0]
    ka, k, ke0 = PK["ka"], PK["CL"] / PK["V"], 0.2
    site = (
        np.exp(-ka * TIMES) / ((k - ka) * (ke0 - ka))
        + np.exp(-k * TIMES) / ((ka - k) * (ke0 - k))
        + np.exp(-ke0 * TIMES) / ((ka - ke0) * (k - ke0))
    ) * (DOSE / PK["V"] * ka * ke0)
    np.testing.assert_allclose(found, 1 + 9 * site / (1.4 + site), rtol=1e-6)


KINDS = {
    "inhibits_input": lambda e, r: (1 - e) - r,
    "inhibits_loss": lambda e, r: 1 - (1 - e) * r,
    "stimulates_input": lambda e, r: (1 + e) - r,
    "stimulates_loss": lambda e, r: 1 - (1 + e) * r,
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow if i else ()) for i, kind in enumerate(KINDS)],
)
def test_turnover_against_dop853(kind):
    letter = "I" if kind.startswith("inhibits") else "E"
    values = {"R0": 80.0, "kout": 0.07, f"{letter}max": 0.9, f"{letter}C50": 0.6, "hill": 1.7}
    model = turnover(ORAL, kind, effect="sigmoid", response="pca")
    found = predicted(model, PK | values, "concentration", "pca")

    def slope(t, y):
        c = max(concentration(t), 0.0)
        effect = 0.9 * c**1.7 / (0.6**1.7 + c**1.7)
        return [0.07 * 80.0 * KINDS[kind](effect, y[0] / 80.0)]

    np.testing.assert_allclose(found[:, 0], concentration(TIMES), rtol=1e-9)
    # default steps; the sigmoid rises within an hour of the dose
    np.testing.assert_allclose(found[:, 1], integrated(slope, [80.0])[:, 0], rtol=2e-6)


@pytest.mark.slow
def test_turnover_with_lag_and_known_largest_effect_rests_at_baseline():
    pk = compartments(1, absorption="transit", transits=3, dosing=("ALAG1",))
    model = turnover(pk, largest=1.0, response="pca")
    assert model.parameters == ("ktr", "CL", "V", "R0", "kout", "IC50", "ALAG1")
    values = {"ktr": 1.2, "CL": 1.5, "V": 15.0, "R0": 90.0, "kout": 0.05, "IC50": 0.8, "ALAG1": 3.5}
    found = predicted(model, values, "pca")[:, 0]
    np.testing.assert_allclose(found[TIMES < 3.5], 90.0, rtol=1e-12)
    assert found[TIMES == 24.0][0] < 60.0


def test_michaelis_menten_bolus_is_lamberts_function():
    values = {"V": 15.0, "Vmax": 12.0, "Km": 1.3}
    found = predicted(michaelis_menten(), values, "concentration")[:, 0]
    start = DOSE / 15.0
    with np.errstate(under="ignore"):
        exact = 1.3 * lambertw(start / 1.3 * np.exp((start - 12.0 / 15.0 * TIMES) / 1.3)).real
    # relative to a hundredth of the first value: after 72 h nothing is left
    assert np.max(np.abs(found - exact) / (exact + 1e-2 * start)) < 1e-6


def test_two_compartments_with_both_eliminations():
    values = {"ka": 0.9, "V1": 15.0, "V2": 30.0, "Q": 2.0, "Vmax": 6.0, "Km": 0.7, "CL": 0.4}
    model = michaelis_menten(2, absorption="first_order", linear=True)
    found = predicted(model, values, "concentration")[:, 0]

    def slope(t, y):
        c = y[1] / 15.0
        exchange = 2.0 * (c - y[2] / 30.0)
        return [-0.9 * y[0], 0.9 * y[0] - 6 * c / (0.7 + c) - 0.4 * c - exchange, exchange]

    exact = integrated(slope, [DOSE, 0.0, 0.0])[:, 1] / 15.0
    np.testing.assert_allclose(found, exact, rtol=2e-6, atol=1e-7)


@pytest.mark.slow
def test_target_mediated_disposition_with_fast_binding_is_the_full_model():
    """The full binding model with kon so large that binding is at quasi steady state."""
    values = {"V1": 3.0, "V2": 3.0, "Q": 0.03, "CL": 0.01, "R0": 5.0, "Kss": 0.2}
    values |= {"kdeg": 0.02, "kint": 0.01}
    lines = ("concentration", "total_concentration", "total_target")
    found = predicted(target_mediated(2), values, *lines)
    kon = 2000.0
    koff = 0.2 * kon - 0.01

    def slope(t, y):
        c, peripheral, free, bound = y
        net = kon * c * free - koff * bound
        exchange = 0.03 * (c - peripheral / 3.0)
        return [
            -(0.01 * c + exchange) / 3.0 - net,
            exchange,
            0.02 * (5.0 - free) - net,
            net - 0.01 * bound,
        ]

    full = solve_ivp(
        slope, (0, 72), [DOSE / 3, 0, 5, 0], method="Radau", rtol=1e-9, atol=1e-10, t_eval=TIMES
    ).y.T
    expected = np.stack([full[:, 0], full[:, 0] + full[:, 3], full[:, 2] + full[:, 3]], axis=1)
    # binding takes 1 / (kon C) < 1e-4 h, of processes that take 30 h
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: turnover(ORAL, "inhibits"), "kind: 'inhibits'; allowed: inhibits_input"),
        (lambda: direct_effect(ORAL, "power"), "effect: 'power'"),
        (lambda: turnover(ORAL, "inhibits_input", largest="1"), "turnover, largest: .1. is a str"),
        (
            lambda: turnover(ORAL, "inhibits_input", effect="linear", largest=1.0),
            "turnover, largest: 1.0 with a linear effect, which has no largest",
        ),
        (lambda: michaelis_menten(3), "n = 3"),
        (lambda: target_mediated(1, absorption="transit"), "absorption: 'transit'"),
    ],
)
def test_unknown_choices_are_refused(make, words):
    with pytest.raises(PkpdError, match=words):
        make()


@pytest.mark.reference
@pytest.mark.skipif(not FOLDER.is_dir(), reason="no reference folder (PKPD_REFERENCE)")
def test_simulated_data_with_known_individual_parameters():
    """Bolus_1CPTMM of nlmixr2data: 120 subjects, simulated with 20 % proportional error."""
    frame = pd.read_csv(FOLDER / "nlmixr2data" / "Bolus_1CPTMM.csv")
    frame = frame[frame["SD"] == 1]
    data = read_nonmem(frame[["ID", "TIME", "DV", "AMT", "EVID", "CMT", "MDV"]])
    first = frame.groupby("ID", sort=False).first().loc[data.subjects]
    values = {"V": first["V"], "Vmax": first["VM"], "Km": first["KM"]}
    model = michaelis_menten()
    found = np.asarray(model.bind(data)({k: v.to_numpy() for k, v in values.items()}))
    kept = found > 0.05 * found.max()
    error = np.log(data.observations.value[kept] / found[kept])
    assert kept.sum() > 500
    # the mean of 1611 errors of 0.2 has a standard error of 0.005
    assert abs(np.mean(error)) < 0.015
    assert np.std(error) == pytest.approx(0.2, abs=0.03)
