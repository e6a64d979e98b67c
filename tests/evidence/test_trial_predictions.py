"""A new trial under posterior draws: its deviation, and the name of the posterior."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest, norm

from pkpd.errors import PkpdError
from pkpd.evidence.criticism.trial_predictions import new_study
from pkpd.evidence.likelihood.parameters import marrow_prior
from pkpd.evidence.posterior import shipped
from pkpd.evidence.posterior.shipped import label_of
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.leukaemia.parameters import default_theta
from pkpd.marrow.variants import FULL


def posterior_of_priors(problems=()):
    prior = marrow_prior()
    z = prior.draw(8, np.random.default_rng(3)).reshape(2, 4, -1)
    return EvidencePosterior(
        names=prior.names,
        values=prior.values(z),
        z=z,
        by_study=np.zeros((2, 4, 1)),
        by_term=np.zeros((2, 4, 1)),
        studies=("A2000",),
        terms=("A2000.cr_rate",),
        fixed=prior.fixed,
        problems=tuple(problems),
        record={"written": "2026-01-31T00:00:00+00:00", "evidence": "abc", "rows": 1},
    )


def test_one_deviation_of_the_trial_for_each_draw():
    draws = posterior_of_priors().draws(400)
    study = new_study("a", draws, patients=8, variant=FULL)
    again, other = (new_study(name, draws, patients=8, variant=FULL) for name in "ab")
    assert study.deviations == again.deviations
    assert study.deviations != other.deviations
    z = [
        d["rho"] * 0.28 / theta["between.days"]
        for d, theta in zip(study.deviations, draws, strict=True)
    ]
    assert kstest(z, norm.cdf).pvalue > 0.01  # a fixed seed: no chance in it


def test_draws_must_be_draws():
    with pytest.raises(PkpdError, match="no posterior draw"):
        new_study("a", [], patients=8, variant=FULL)
    with pytest.raises(PkpdError, match=r"between\.response, the spread between studies"):
        new_study("a", [default_theta()], patients=8, variant=FULL)


def test_posterior_of_an_unknown_structure_is_refused():
    posterior = posterior_of_priors()
    assert posterior.variant == FULL  # what does not say was learned with the first structure
    posterior.record["variant"] = "of one's own"
    with pytest.raises(PkpdError, match=r"structure .*of one's own.*ten_stages"):
        _ = posterior.variant


def test_the_name_of_a_posterior_is_that_of_its_draws(tmp_path, monkeypatch):
    posterior = posterior_of_priors()
    posterior.save(tmp_path / "posterior.nc")
    monkeypatch.setattr(shipped, "evidence_folder", lambda: tmp_path)
    found = shipped.shipped_posterior()
    assert found.digits == posterior.digits
    digits = posterior.digits[:12]
    assert label_of(found).text == f"posterior {digits} of 2026-01-31, full, converged"
    assert (label_of(found).rows, label_of(found).studies, label_of(found).draws) == (1, 1, 8)
    moved = posterior_of_priors(problems=("too few draws",))
    assert label_of(moved).text.endswith("NOT CONVERGED")
    moved.record["reweighted"] = [
        {"added": ["MINE"], "removed": []},
        {"added": [], "removed": ["A", "B", "C", "D"]},
    ]
    assert label_of(moved).text.endswith(", weighted with MINE, without A, B, C and 1 more")
    assert moved.digits == posterior.digits
    values = posterior.values.copy()
    values[0, 0, 0] *= 1.0 + 1e-12
    assert replace(moved, values=values).digits != posterior.digits
    (tmp_path / "posterior.nc").unlink()
    assert shipped.shipped_posterior() is None


def test_a_wheel_has_the_posterior_where_it_is_looked_for():
    """Cards and the posterior lie in one folder, which the wheel takes whole."""
    folder = Path(str(shipped.evidence_folder()))
    assert (folder / "populations.toml").is_file()
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    wheel = tomllib.loads(text)["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["models"] == "pkpd/_cards"
