"""The calibration script in ``fits/evidence``: its plans, its tables, and going on after a stop."""

from __future__ import annotations

import csv
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, binom

from pkpd.cards import load_trial
from pkpd.errors import PkpdError
from pkpd.evidence.criticism import schedule_or_dose
from pkpd.evidence.likelihood.parameters import marrow_effects
from pkpd.evidence.likelihood.simulator import MarrowSimulator
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.evidence.sampling.smc import SMCSettings
from pkpd.evidence.table.table import load_evidence
from pkpd.leukaemia.parameters import leukaemia_cards

SCRIPTS = Path(__file__).resolve().parents[2] / "fits" / "evidence"
sys.path.insert(0, str(SCRIPTS))

import calibrate  # noqa: E402 # pyright: ignore[reportMissingImports]
import landmarks  # noqa: E402 # pyright: ignore[reportMissingImports]
import sampling  # noqa: E402 # pyright: ignore[reportMissingImports]
import synthetic_tables  # noqa: E402 # pyright: ignore[reportMissingImports]

STUDIES = ("CIFTCILER2020", "ZEIDAN2012", "RICHARDSON2009", "MDS002", "DEANGELO2018")
MORE = ("KANTARJIAN2003A", "GANDHI2006", "NABHAN2010")


def few(*studies):
    table = load_evidence()
    return replace(table, rows=tuple(row for row in table if row.study in studies))


TINY = replace(
    sampling.PLANS["reduced"],
    settings=SMCSettings(particles=8, chains=4, share=0.2, final_stages=0),
    refit=SMCSettings(particles=4, chains=2, share=0.2, final_stages=0),
    most_rounds=3,
    patients=(32, 32, 1.0),
    nodes=(3, 1, 1),
    draws=4,
    patients_predicted=64,
)


@pytest.fixture
def tiny(monkeypatch):
    """The script with few particles, few patients and a short table, in this process."""
    table = few(*STUDIES, *MORE)
    monkeypatch.setitem(sampling.PLANS, "reduced", TINY)
    monkeypatch.setattr(sampling, "load_evidence", lambda: table)
    monkeypatch.setattr(calibrate, "load_evidence", lambda: table)
    monkeypatch.setattr(calibrate, "processes", lambda workers: ThreadPoolExecutor(1))
    return table


def test_a_reduced_run_learns_few_parameters_and_holds_the_rest_at_their_medians():
    prior = sampling.prior_of(sampling.PLANS["reduced"])
    assert 10 <= prior.size <= 15
    centre = prior.theta(np.zeros(prior.size))
    for name, card in leukaemia_cards().parameters.items():
        # the median of a card's prior is its value
        assert centre[name] == pytest.approx(card.value, rel=1e-9), name
    # median of a half normal with 95 % quantile 0.6: 0.6 * 0.67449 / 1.95996
    assert centre["study_ratio.rho"] == pytest.approx(0.6 * 0.6744898 / 1.9599640, rel=1e-6)
    assert sampling.prior_of(sampling.PLANS["full"]).size > 30


DESIGN = schedule_or_dose.design_of(load_trial("nct01681537_len_mec"))


def test_probability_from_counts_alone_is_the_integral_of_two_betas():
    x = np.linspace(0.0, 1.0, 200_001)
    exact = np.trapezoid(beta.pdf(x, 2.5, 7.5) * beta.cdf(x, 1.5, 15.5), x)
    # 200,000 draws: standard error below 0.001
    assert schedule_or_dose.from_counts_alone(DESIGN) == pytest.approx(exact, abs=0.004)


def made_up(fourteen, ten, draws=400):
    risk = np.empty((len(DESIGN.pairs), 2, 4, draws))
    risk[:, 0], risk[:, 1] = fourteen, ten
    return schedule_or_dose.DelayedRisks(risk, DESIGN)


def test_schedule_against_dose_on_known_risks():
    schedule = schedule_or_dose.contrasts(made_up(0.3, 0.1))[0]
    assert schedule.schedule == pytest.approx((0.2, 0.2, 0.2))
    assert schedule.dose == pytest.approx((0.0, 0.0, 0.0))
    assert schedule.schedule_rather == 1.0
    assert schedule.verdict == "the schedule matters"
    exact = binom.sf(1, 9, 0.3) * binom.cdf(1, 16, 0.1)
    assert schedule.as_seen == pytest.approx(exact, abs=0.01)  # 80,000 trials
    alike = schedule_or_dose.contrasts(made_up(0.1, 0.1))[0]
    assert alike.verdict.startswith("neither moves")


def test_dose_and_doubt_are_told_apart():
    risks = made_up(0.1, 0.1)
    risks.risk[:, :, 3] = 0.4
    assert schedule_or_dose.contrasts(risks)[0].verdict == "the dose matters"
    doubt = made_up(0.1, 0.1)
    doubt.risk[:, 0, :, ::2] = 0.3
    assert schedule_or_dose.contrasts(doubt)[0].verdict == "the data cannot tell"


def test_cohorts_are_those_printed():
    table = load_evidence()
    rows = [r for r in table if r.id.startswith(DESIGN.evidence_row)]
    printed = [(r.schedule.drugs[0].days[-1], r.schedule.drugs[0].levels[0], r.numerator,
                r.denominator) for r in rows]  # fmt: skip
    assert printed == list(DESIGN.cohorts)


def test_delayed_risk_does_not_depend_on_which_patients_an_arm_drew():
    """All arms meet the same patients: more of a drug cannot look safer by chance."""
    theta = leukaemia_cards().theta
    theta |= {f"study_ratio.{k}": 0.3 for k in ("rho", "kill", "kill_blasts")}
    theta["discrepancy"] = 0.01
    effects = marrow_effects((3, 3, 3))
    got = schedule_or_dose.delayed_risks(load_evidence(), effects, [theta], DESIGN, patients=128)
    assert np.all((got.risk >= 0.0) & (got.risk <= 1.0))
    for days in range(2):
        assert np.all(np.diff(got.risk[0, days, :, 0]) > -0.02)
    # a stricter pair is never recovered from sooner
    assert np.all(got.risk[1] >= got.risk[0] - 1e-12)
    assert np.all(got.risk[3] >= got.risk[1] - 1e-12)


def test_a_marrow_less_sensitive_to_clofarabine_tolerates_more():
    row = load_evidence().row("GANDHI2006.mtd_mgm2")
    theta = leukaemia_cards().theta
    theta |= {f"study_ratio.{k}": 0.0 for k in ("rho", "kill", "kill_blasts")}
    theta["discrepancy"] = 0.0
    stem = "ec50_stem.clofarabine"
    hardy = {**theta, stem: 10 * theta[stem]}
    hardy["ec50_committed.clofarabine"] *= 10
    declared = [
        landmarks.tolerated_doses(
            row, marrow_effects((1, 1, 1)), [t], patients=64, repeats=40, ladder=(1, 3, 6, 15)
        )
        for t in (theta, hardy)
    ]
    assert declared[0].mean() < declared[1].mean()
    assert set(np.unique(declared)) <= {0.0, 1.0, 3.0, 6.0, 15.0}


def test_landmark_ends_are_inside():
    simulated = np.repeat([10.0, 20.0, 30.0], [10, 80, 10])
    found = landmarks._landmark("x", "row", 10.0, simulated, 0.9)
    assert (found.lower, found.median, found.upper) == (10.0, 20.0, 30.0)
    assert found.inside
    assert not replace(found, published=31.0).inside


def test_a_stopped_run_goes_on_and_a_changed_one_is_refused(tiny, tmp_path, monkeypatch):
    plan = replace(TINY, settings=replace(TINY.settings, share=0.1))
    first = sampling.Sampler(plan, tmp_path, "full", 0).sample()

    def no_more(self, theta):
        raise AssertionError("a finished run simulates nothing")

    other = replace(plan, patients=(64, 64, 1.0))
    with pytest.raises(PkpdError, match="checkpoint belongs to a run with other"):
        sampling.Sampler(other, tmp_path, "full", 0).sample()
    monkeypatch.setattr(MarrowSimulator, "__call__", no_more)
    again = sampling.Sampler(plan, tmp_path, "full", 0).sample()
    np.testing.assert_array_equal(first.z, again.z)


@pytest.mark.slow
def test_the_whole_script_writes_its_tables(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["calibrate.py", "--reduced", "--out", str(tmp_path)])
    calibrate.main()
    report = (tmp_path / "report_reduced.txt").read_text()
    assert report.strip() in capsys.readouterr().out
    for told in ("log evidence", "7+3, neutrophils 0.5, day: median", "plain Friberg",
                 "Coverage: none is given", "Log scores: none are given",
                 "Prior against posterior", "14 days are riskier",
                 "must not be the default"):  # fmt: skip
        assert told in report, told

    def written(name: str) -> bool:
        with (tmp_path / "reduced" / f"{name}.csv").open() as file:
            return len(list(csv.DictReader(file))) > 5

    for name in ("landmarks", "learned", "influence", "len_mec_cohorts"):
        assert written(name), name
    assert not list((tmp_path / "reduced").glob("scores.csv"))
    posterior = load_posterior(tmp_path / "posterior_reduced.nc")
    # three rounds more, since runs so short disagree; the later half of four times 8 states is kept
    assert posterior.values.shape[:2] == (2, 16)
    assert not posterior.converged
    with pytest.raises(PkpdError, match="did not converge"):
        load_posterior(tmp_path / "posterior_reduced.nc", default=True)
    # had they converged, both would be scored
    monkeypatch.setattr(EvidencePosterior, "converged", True)
    scored = calibrate.score_part(TINY, tmp_path)
    assert "k-hat above 0.7" in scored
    assert "dose regression" in scored
    assert "other studies" in calibrate.coverage_part(TINY, tmp_path)
    assert written("checks")
    assert written("scores")


def test_synthetic_tables_that_are_done_are_kept(tmp_path, monkeypatch, capsys):
    table = few(*STUDIES, *MORE)
    monkeypatch.setattr(synthetic_tables, "PLAN", TINY)
    monkeypatch.setattr(synthetic_tables, "SETTINGS", TINY.settings)
    monkeypatch.setattr(synthetic_tables, "load_evidence", lambda: table)
    monkeypatch.setattr(synthetic_tables, "processes", lambda workers: ThreadPoolExecutor(1))
    synthetic_tables.problem.cache_clear()
    kept = []
    for tables in (10, 12):
        arguments = ["x", "--tables", str(tables), "--out", str(tmp_path), "--workers", "1"]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit):
            synthetic_tables.main()
        kept.append(next(tmp_path.glob("*.jsonl")).read_text())
    synthetic_tables.problem.cache_clear()
    assert kept[1].startswith(kept[0])
    assert {json.loads(line)["index"] for line in kept[1].splitlines()} == set(range(12))
    shown = capsys.readouterr().out
    assert "log likelihood" in shown
    assert "niform: 12 tables, ranks of 16 quantities, smallest P value" in shown
    with (tmp_path / "synthetic_ranks.csv").open() as file:
        assert [int(row["table"]) for row in csv.DictReader(file)] == list(range(12))
    summary = json.loads((tmp_path / "synthetic_summary.json").read_text())
    assert summary["verdict"] in shown
    assert set(summary["table"]) >= {"rho", "log likelihood"}
    assert (tmp_path / "synthetic_ecdf.png").stat().st_size > 10_000
    monkeypatch.setattr(sys, "argv", ["x", "--tables", "3"])
    with pytest.raises(SystemExit):
        synthetic_tables.main()
    assert "--tables 3; allowed: at least 10" in capsys.readouterr().err
