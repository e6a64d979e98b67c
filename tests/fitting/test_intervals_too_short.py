"""An interval that the likelihood does not end is told; few samples have no percentiles."""

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.checks import bootstrap, compare_models, profile_likelihood
from pkpd.errors import PkpdError
from pkpd.models import PopulationModel, compartments, parameter, residual

KA, CL, V = 1.2, 0.15, 8.0


def study(hours, subjects=12, seed=3):
    """Concentrations after 70 mg by mouth, from the closed form."""
    rng, rows = np.random.default_rng(seed), []
    for k in range(subjects):
        cl, v = CL * np.exp(0.2 * rng.standard_normal()), V * np.exp(0.15 * rng.standard_normal())
        rows.append((k + 1, 0.0, 70.0, np.nan))
        for t in hours:
            ke = cl / v
            c = 70.0 * KA / (v * (KA - ke)) * (np.exp(-ke * t) - np.exp(-KA * t))
            rows.append((k + 1, t, np.nan, c * (1.0 + 0.08 * rng.standard_normal())))
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV"])
    return pkpd.read_nonmem(table.where(table.notna(), "."))


def model():
    return PopulationModel(
        compartments(1, absorption="first_order"),
        [parameter("ka", 1.0), parameter("CL", 0.15, iiv=0.2), parameter("V", 8.0, iiv=0.15)],
        residual.proportional(0.1),
    )


@pytest.fixture(scope="module")
def late():
    return pkpd.fit(model(), study([5.0, 24.0, 48.0, 72.0]), method="focei", progress=False)


@pytest.fixture(scope="module")
def early():
    hours = [0.5, 1.0, 2.0, 5.0, 24.0, 48.0, 72.0]
    return pkpd.fit(model(), study(hours), method="focei", progress=False)


def test_absorption_without_early_samples_has_an_interval_that_is_too_short(late):
    (told,) = [one for one in late.findings if one.kind == "interval too short"]
    assert told.parameters == ("ka",)
    assert "upper end" in told.what
    # the profile, which searches the others anew, agrees
    table = profile_likelihood(late, ["ka"]).table
    upper = float(late.table().loc["ka", "upper"])
    assert not float(table.loc["ka", "profile_upper"]) <= upper


def test_the_ends_that_are_tried_are_those_of_the_curvature(late):
    """A parabola is 3.84 higher at the ends by its own curvature, not by other formulas."""
    (told,) = [one for one in late.findings if one.kind == "interval too short"]
    for kind in ("sandwich", "scores"):
        data = late.likelihood.dataset
        other = pkpd.fit(model(), data, method="focei", covariance=kind, progress=False)
        assert other.standard_errors["ka"] != pytest.approx(late.standard_errors["ka"], rel=0.05)
        assert [one.what for one in other.findings if one.kind == told.kind] == [told.what]


def test_early_samples_end_the_interval(early):
    assert not [one for one in early.findings if one.kind == "interval too short"]


def test_few_samples_of_a_bootstrap_have_no_percentiles(early):
    few = bootstrap(early, 3, seed=1)
    assert few.table()["bootstrap_lower"].isna().all()
    assert few.table(0.3)["bootstrap_lower"].notna().all()
    assert any("too few for limits of 95 %" in text for text in few.messages)


def test_levels_are_shares(early):
    with pytest.raises(PkpdError, match="a number between 0 and 1"):
        early.table(95)


def test_models_are_compared_by_fits_or_refused_in_a_sentence(early):
    with pytest.raises(PkpdError, match="compare_models, results"):
        compare_models(early)
    with pytest.raises(PkpdError, match="draws"):
        compare_models({"one": early, "two": early})
