"""Whole courses against DOP853 at 1e-12, and against published and tabulated statements."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from marrow_course import Course, Drug, Interpolant, reference_count, scheme, scheme_count

from pkpd.kinetics.linear import Disposition, TransitAbsorption
from pkpd.marrow.effects import EmaxEffect, LinearEffect
from pkpd.marrow.friberg import Friberg, PlateletChain

FRIBERG = {"baseline": 4.5, "set_point": 4.5, "MTT": 200.0, "gamma": 0.17}


def clofarabine(lane_p, ec50, days=5):
    return Drug(
        Disposition(2, effect_site=True),
        {
            **lane_p,
            "k_in": 3.5087719298245614,
            "k_out": 0.028881132523331052,
            "per_umol": 1000 / 303.68,
        },
        EmaxEffect(),
        {"Emax": 1.25, "EC50": ec50},
        tuple(24.0 * i for i in range(days)),
        (9.0,) * days,
        (1.0,) * days,
    )


def lenalidomide(days):
    return Drug(
        TransitAbsorption(7, unit="umol/L"),
        {"KTR": 13.5, "CL": 12.0, "V1": 68.8, "per_umol": 1000 / 259.26},
        LinearEffect(),
        {"slope": 0.5},
        tuple(24.0 * d for d in days),
        (50.0,) * len(days),
        (0.0,) * len(days),
    )


def patients(n):
    """Clofarabine kinetics and EC50 of ``n`` patients, log-normal around the typical values."""
    rng = np.random.default_rng(20260601)

    def spread(value, sd):
        return jnp.asarray(value * np.exp(sd * rng.standard_normal(n)))

    kinetics = {
        "CL": spread(37.7, 0.18),
        "V1": spread(268.0, 0.13),
        "Q": spread(33.2, 0.65),
        "V2": 186.0,
    }
    return kinetics, spread(2.0, 0.5)


# Expected from the measurements that led to this scheme: 1.7e-5 at 4 h and 5e-5 at 6 h with dose
# times on no grid; with edges at the infusions the figures are smaller.
@pytest.mark.parametrize(("step", "tolerance"), [(4.0, 1.7e-5), (6.0, 6e-5)])
def test_clofarabine_five_days(step, tolerance):
    kinetics, ec50 = patients(3)
    course = Course((clofarabine(kinetics, ec50),), Friberg(), FRIBERG, 60 * 24.0)
    edges, log_count, slope = scheme(course, step)
    days = np.arange(0, 60 * 24 + 1, 24.0)
    for lane in range(3):
        reference = reference_count(course, lane)(days)
        got = Interpolant(edges, log_count[:, lane], slope[:, lane])(days)
        np.testing.assert_allclose(got, reference, rtol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "tolerance"), [(4.0, 1.7e-5), (6.0, 6e-5)])
def test_clofarabine_then_lenalidomide(step, tolerance, overlap_reference):
    course, days, reference = overlap_reference
    np.testing.assert_allclose(scheme_count(course, step)(days), reference, rtol=tolerance)


@pytest.fixture(scope="module")
def overlap_reference():
    kinetics, ec50 = patients(1)
    drugs = (clofarabine(kinetics, ec50), lenalidomide(range(10, 24)))
    course = Course(drugs, Friberg(), FRIBERG, 40 * 24.0)
    days = np.arange(0, 40 * 24 + 1, 8.0)
    return course, days, reference_count(course)(days)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        PlateletChain(),
        PlateletChain(transits=3, ageing=3),
        Friberg(transits=1, circulation="own", feedback_rule="off"),
        Friberg(feedback_rule="capped"),
    ],
    ids=repr,
)
def test_other_lines(line):
    """Strong effect (E up to 1.2), a kill, and a start below the set point."""
    p = {"baseline": 120.0, "set_point": 237.0, "MTT": 4 / 7.09e-3, "gamma": 0.621}
    p |= {"ks": 8.86e-3} if isinstance(line, PlateletChain) else {"k_circ": 2.38 / 24}
    if isinstance(line, Friberg):
        p |= {"MTT": 130.0, "gamma": 0.2}
    kinetics, _ = patients(1)
    course = Course((clofarabine(kinetics, 0.1),), line, p, 20 * 24.0, kill=0.001)
    hours = np.arange(0, 20 * 24 + 1, 8.0)
    # the rules "off" and "capped" have a corner in E, which a straight line of effect smooths
    tolerance = 1e-5 if line.feedback_rule == "kept" else 2e-3
    np.testing.assert_allclose(
        scheme_count(course, 4.0)(hours), reference_count(course)(hours), rtol=tolerance
    )


DOCETAXEL = Course(
    # kinetics: Onoue 2016 (Eur J Clin Pharmacol 72:703), as used by Norris 2017 (DTAT);
    # 100 mg/m^2 at 1.8 m^2 over 1 h; marrow and slope: Kloft 2006 (DDMODEL00000224)
    (
        Drug(
            Disposition(2, unit="umol/L"),
            {"CL": 32.6, "V1": 5.77, "Q": 5.34, "V2": 11.0, "per_umol": 1000 / 808},
            LinearEffect(),
            {"slope": 15.5711},
            (0.0,),
            (180.0,),
            (1.0,),
        ),
    ),
    Friberg(),
    {"baseline": 5.21965, "set_point": 5.21965, "MTT": 84.1791, "gamma": 0.144543},
    30 * 24.0,
)
PACLITAXEL = Course(
    # kinetics: medians of the data set of DDMODEL00000186; 175 mg/m^2 at 1.8 m^2 over 3 h, in
    # umol (molar mass 853.9); leukocytes and slope: Friberg 2002
    (
        Drug(
            Disposition(2),
            {"CL": 285.0, "V1": 290.0, "Q": 204.0, "V2": 995.0},
            LinearEffect(),
            {"slope": 28.9},
            (0.0,),
            (315e3 / 853.9,),
            (3.0,),
        ),
    ),
    Friberg(),
    {"baseline": 7.21, "set_point": 7.21, "MTT": 124.0, "gamma": 0.239},
    40 * 24.0,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("course", "step", "tolerance", "day"),
    [
        # docetaxel peaks at E = 60 and removes 99 % of the proliferating cells within two hours,
        # by an effect that falls tenfold in the hour after the infusion
        (DOCETAXEL, 4.0, 5e-4, (6, 10)),
        (DOCETAXEL, 0.25, 2e-5, (6, 10)),
        (PACLITAXEL, 4.0, 1e-4, (8, 12)),
    ],
    ids=["docetaxel, Kloft 2006", "docetaxel, short steps", "paclitaxel, Friberg 2002"],
)
def test_published_models(course, step, tolerance, day):
    """The scheme against DOP853; the nadir lies in the second week, as it does in patients."""
    hours = np.arange(0, course.horizon + 1, 6.0)
    reference = reference_count(course)
    np.testing.assert_allclose(scheme_count(course, step)(hours), reference(hours), rtol=tolerance)
    nadir_day = hours[np.argmin(reference(hours))] / 24
    assert day[0] <= nadir_day <= day[1]


# Typical patients on five daily doses of clofarabine: triphosphate +0.40 umol/L per mg/m^2 and
# dose, half-life 24 h, EC50 2 umol/L, gamma 0.17, time 0 = first dose, feedback kept above E = 1.
# (dose, nadir, last day below 0.5, last day below 1.0); tabulated to two decimals and half days.
NONE = None
TABLE = {
    "4.5, 120 h, ktr, Emax 1.25": [
        (2, 1.02, NONE, NONE),
        (3, 0.65, NONE, NONE),
        (5, 0.34, 16, 18),
        (15, 0.08, 18.5, 19.5),
        (40, 0.03, 20, 21),
    ],
    "1.5, 200 h, 2.38/d, Emax 1.0": [
        (2, 0.71, NONE, 24.5),
        (5, 0.41, 20.5, 28),
        (10, 0.25, 24, 29.5),
        (40, 0.11, 27.5, 31.5),  # tabulated as 27; recomputed 27.36
    ],
    "1.5, 200 h, 2.38/d, Emax 1.25": [
        (2, 0.59, NONE, 26),
        (5, 0.30, 23, 29),
        (10, 0.17, 25.5, 30.5),
        (40, 0.06, 28.5, 32.5),
    ],
    "1.5, 200 h, 2.38/d, Emax 1.5": [
        (2, 0.49, 17.5, 27),  # tabulated as 0.50 and 17; recomputed 0.4945 and 17.27
        (5, 0.22, 24.5, 30),
        (10, 0.11, 26.5, 31),
        (40, 0.03, 29.5, 33),
    ],
}


def triphosphate_course(name):
    circ0, mtt, out, emax = (part.strip() for part in name.split(","))
    rows = TABLE[name]
    own = out != "ktr"
    p = {
        "baseline": float(circ0),
        "set_point": float(circ0),
        "MTT": float(mtt.removesuffix(" h")),
        "gamma": 0.17,
    }
    if own:
        p["k_circ"] = 2.38 / 24
    # one compartment of 1 L: its concentration is the triphosphate; a lane per dose
    drug = Drug(
        Disposition(1),
        {"CL": np.log(2) / 24, "V1": 1.0},
        EmaxEffect(),
        {
            "Emax": float(emax.removeprefix("Emax ")),
            "EC50": jnp.array([2.0 / (0.4 * row[0]) for row in rows]),
        },
        tuple(24.0 * i for i in range(5)),
        (1.0,) * 5,
        (0.0,) * 5,
    )
    return Course((drug,), Friberg(circulation="own" if own else "ktr"), p, 40 * 24.0)


def landmarks(count):
    """Nadir and the last days below 0.5 and 1.0, to 0.01 day."""
    t = np.linspace(0, 40 * 24.0, 40 * 100 + 1)
    y = count(t)
    last = [t[y < limit][-1] / 24 if (y < limit).any() else None for limit in (0.5, 1.0)]
    return y.min(), *last


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_table_of_typical_patients(name):
    course = triphosphate_course(name)
    edges, log_count, slope = scheme(course, 6.0)
    for lane, (_, nadir, below_half, below_one) in enumerate(TABLE[name]):
        for count in (
            reference_count(course, lane, rtol=1e-9),
            Interpolant(edges, log_count[:, lane], slope[:, lane]),
        ):
            got = landmarks(count)
            assert round(float(got[0]), 2) == nadir
            for day, expected in zip(got[1:], (below_half, below_one), strict=True):
                if expected is None:
                    # the first marrow is below 1.0 at 3 mg/m^2, which the table does not list
                    assert day is None or (course.p["baseline"] == 4.5 and day < 16.5)
                else:
                    assert abs(day - expected) <= 0.25 + 0.01
