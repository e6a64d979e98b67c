"""A new trial under posterior draws: its deviation, and the name of the posterior."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest, norm

from pkpd.cards import load_trial
from pkpd.errors import PkpdError
from pkpd.evidence.criticism.trial_predictions import NewStudy, new_study
from pkpd.evidence.likelihood.parameters import marrow_effects, marrow_prior
from pkpd.evidence.likelihood.simulator import observe
from pkpd.evidence.posterior import shipped
from pkpd.evidence.posterior.shipped import label_of, posterior_digits
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.evidence.table.endpoints import Observable
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.trial_arms import arms_of_trial

RATIOS = {"study_ratio.rho": 0.5, "study_ratio.kill": 1.0, "study_ratio.kill_blasts": 0.4}


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
        log_evidence=np.zeros(2),
        problems=tuple(problems),
        record={"written": "2026-01-31T00:00:00+00:00", "evidence": "abc", "rows": 1},
    )


def test_a_shift_of_patients_agrees_with_weights_on_them():
    """Two ways to the patients of a deviating study: moved scores, and importance weights."""
    effects, theta = marrow_effects((3, 3, 3)), {**default_theta(), **RATIOS}
    arm = arms_of_trial(load_trial("nct01681537_len_mec"))["14d-10"]
    n, deviation = 4096, np.array([-0.4, 0.6, -0.2])
    names = [effect.score for effect in effects.effects]
    moved = dict(zip(names, deviation, strict=True))
    still = dict.fromkeys(names, 0.0)

    def study(values, deviations):
        made = NewStudy("both ways", (values,), (deviations,), n, 1, steps_per_day=4, threads=1)
        return made.arm(arm)

    directly = study(theta, moved).outcomes(0)
    spread_arm = study(effects.for_simulation(theta), still)
    spread = spread_arm.outcomes(0)
    normal = {name: spread_arm.candidates.normal[name] for name in names}
    weights, size = effects.weights_at(theta, np.ones(n), normal, deviation)
    for what in (Observable("response", code="CR"), Observable("death", day=60.0),
                 Observable("grade", "platelets", (10.0,))):  # fmt: skip
        share = observe(directly, what).mean()
        weighted = float(weights[0] @ observe(spread, what))
        # four standard errors of the weighted share
        assert share == pytest.approx(weighted, abs=4.0 * np.sqrt(0.25 / size[0])), what
    plain = observe(study(theta, still).outcomes(0), Observable("response", code="CR")).mean()
    assert abs(plain - observe(directly, Observable("response", code="CR")).mean()) > 0.02


def test_one_deviation_of_the_trial_for_each_draw():
    draws = posterior_of_priors().draws(400)
    study = new_study("a", draws, patients=8)
    again, other = new_study("a", draws, patients=8), new_study("b", draws, patients=8)
    assert study.deviations == again.deviations
    assert study.deviations != other.deviations
    z = [
        d["rho"] / theta["study_ratio.rho"]
        for d, theta in zip(study.deviations, draws, strict=True)
    ]
    assert kstest(z, norm.cdf).pvalue > 0.01  # a fixed seed: no chance in it


def test_draws_must_be_draws():
    with pytest.raises(PkpdError, match="no posterior draw"):
        new_study("a", [], patients=8)
    with pytest.raises(PkpdError, match=r"study_ratio\.rho, the spread between studies"):
        new_study("a", [default_theta()], patients=8)


def test_the_name_of_a_posterior_is_that_of_its_draws(tmp_path, monkeypatch):
    posterior = posterior_of_priors()
    posterior.save(tmp_path / "posterior.nc")
    monkeypatch.setattr(shipped, "evidence_folder", lambda: tmp_path)
    found = shipped.shipped_posterior()
    assert posterior_digits(found) == posterior_digits(posterior)
    assert (
        label_of(found).text == f"posterior {posterior_digits(posterior)} of 2026-01-31, converged"
    )
    assert (label_of(found).rows, label_of(found).studies, label_of(found).draws) == (1, 1, 8)
    moved = posterior_of_priors(problems=("too few draws",))
    assert label_of(moved).text.endswith("NOT CONVERGED")
    assert posterior_digits(moved) == posterior_digits(posterior)
    values = posterior.values.copy()
    values[0, 0, 0] *= 1.0 + 1e-12
    object.__setattr__(moved, "values", values)
    assert posterior_digits(moved) != posterior_digits(posterior)
    (tmp_path / "posterior.nc").unlink()
    assert shipped.shipped_posterior() is None


def test_a_wheel_has_the_posterior_where_it_is_looked_for():
    """Cards and the posterior lie in one folder, which the wheel takes whole."""
    folder = Path(str(shipped.evidence_folder()))
    assert (folder / "populations.toml").is_file()
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    wheel = tomllib.loads(text)["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["models"] == "pkpd/_cards"
