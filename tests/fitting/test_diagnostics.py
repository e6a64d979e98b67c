"""Diagnostics of the sampler, on samples made to have each fault."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest

from pkpd.errors import PkpdError
from pkpd.fitting.checks.diagnostics import sampler_diagnostics


def sample(chains=4, draws=500, *, shift=0.0, slow=0.0, **stats):
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((chains, draws))
    for i in range(1, draws):
        noise[:, i] = slow * noise[:, i - 1] + np.sqrt(1 - slow**2) * noise[:, i]
    CL = noise + shift * np.arange(chains)[:, None]
    eta = rng.standard_normal((chains, draws, 3, 1))
    stats = {"diverging": np.zeros((chains, draws), bool)} | stats
    stats.setdefault("energy", rng.standard_normal((chains, draws)))
    return az.from_dict(
        posterior={"CL": CL, "eta": eta},
        sample_stats=stats,
        coords={"subject": [1, 2, 3], "parameter": ["CL"]},
        dims={"eta": ["subject", "parameter"]},
    )


def test_a_good_sample():
    found = sampler_diagnostics(sample())
    assert found.good
    assert not found.problems
    assert list(found.table.index) == ["CL"]
    assert found.table.loc["CL", "r_hat"] < 1.01
    assert found.table.loc["CL", "mcse"] == pytest.approx(1 / np.sqrt(2000), rel=0.2)
    assert "4 chains of 500 draws." in found.remarks


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"shift": 1.0}, "chains disagree: R-hat"),
        ({"slow": 0.98}, "fewer than 400: take about"),
        ({"chains": 1}, "one chain"),
        ({"diverging": np.tile([True] + [False] * 499, (4, 1))}, "4 of 2000 trajectories diverged"),
        ({"maxdepth_reached": np.tile([True, False], (4, 250))}, "1000 trajectories reached"),
        ({"reached_max_treedepth": np.tile([True, False], (4, 250))}, "1000 trajectories"),
        ({"energy": np.cumsum(np.ones((4, 500)), axis=1)}, "BFMI 0.00"),
    ],
)
def test_each_fault_is_told_with_what_to_do(fault, words):
    found = sampler_diagnostics(sample(**fault))
    # a tree that is deep costs time and spoils no estimate
    assert found.good == ("trajectories reached" in words or words == "1000 trajectories")
    told = [text for text in found.problems if words in text]
    assert told
    # after the finding comes the remedy
    assert any(mark in told[0] for mark in (":", ";"))


def test_a_handful_of_draws_is_told_not_to_be_worth_any():
    found = sampler_diagnostics(sample(chains=2, draws=3))
    assert any("is worth 0 independent draws" in text for text in found.problems)
    assert not found.good


def test_without_a_posterior():
    with pytest.raises(PkpdError, match="fit by sampling"):
        sampler_diagnostics(None)


@pytest.mark.long
def test_random_effects_are_judged_as_the_largest_of_many_and_named():
    rng = np.random.default_rng(3)
    idata = sample()
    many = rng.standard_normal((4, 500, 300, 1))
    for i in range(1, 500):
        many[:, i] = 0.6 * many[:, i - 1] + 0.8 * many[:, i]
    idata.posterior = idata.posterior.drop_vars("eta").drop_dims("subject")
    idata.posterior["eta"] = (("chain", "draw", "subject", "parameter"), many)
    found = sampler_diagnostics(idata)
    # some of three hundred good ones are above the limit of a parameter
    assert float(az.rhat(idata.posterior["eta"])["eta"].max()) > 1.01
    assert not any("disagree" in text for text in found.problems)
    many[0, :, 7, 0] += 2.0
    idata.posterior["eta"] = (("chain", "draw", "subject", "parameter"), many)
    told = " ".join(sampler_diagnostics(idata).problems)
    assert "the random effect eta[7, CL]" in told


def test_divergent_trajectories_are_traced_to_parameter_and_subject():
    rng = np.random.default_rng(3)
    omega = np.exp(rng.standard_normal((4, 500)) - 1.0)
    eta = rng.standard_normal((4, 500, 12, 2))
    # a funnel: they diverge where omega_ka is small, and the effect of subject 7 far out
    diverging = (omega < np.quantile(omega, 0.1)) & (eta[:, :, 6, 1] > 0.5)
    posterior = {"CL": rng.standard_normal((4, 500)), "omega_ka": omega, "eta": eta}
    coords = {"subject": list(range(1, 13)), "parameter": ["CL", "ka"]}
    made = az.from_dict(
        posterior=posterior,
        sample_stats={"diverging": diverging},
        coords=coords,
        dims={"eta": ["subject", "parameter"]},
    )
    found = sampler_diagnostics(made, ["CL", "omega_ka"])
    (one,) = [f for f in found.findings if f.kind == "divergent"]
    assert one.parameters == ("omega_ka", "ka")
    assert one.subjects == ("7",)
    assert ", where omega_ka is small (median 0.0" in str(one)
    assert "and the random effect of ka in subject 7 is large (median" in str(one)
    assert "change the centring of the random effect of ka, or tighten its prior" in str(one)
    # by chance no place is named
    scattered = rng.random((4, 500)) < 0.03
    made.sample_stats["diverging"] = (("chain", "draw"), scattered)
    (one,) = [
        f for f in sampler_diagnostics(made, ["CL", "omega_ka"]).findings if f.kind == "divergent"
    ]
    assert "diverged: parts of the posterior" in str(one)
    assert not one.subjects
