"""The scripts in ``fits/evidence``: plans, landmarks, schedules, and a run from end to end."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from judging.scorecard import Predicted
from judging.stacking import read_mixture
from scipy.stats import beta, binom

from pkpd.cards import load_trial
from pkpd.course.course import Course
from pkpd.errors import PkpdError
from pkpd.evidence import load_learning_table
from pkpd.evidence.criticism import schedule_or_dose
from pkpd.evidence.criticism.row_predictions import RowCheck
from pkpd.evidence.posterior.shipped import shipped_file, shipped_posterior
from pkpd.evidence.posterior.stored import load_posterior
from pkpd.evidence.sampling.chains import ChainSettings
from pkpd.evidence.sampling.emulator import Training
from pkpd.evidence.table.learning import refined
from pkpd.evidence.table.table import load_evidence
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.marrow.variants import FULL

SCRIPTS = Path(__file__).resolve().parents[2] / "fits" / "evidence"
sys.path.insert(0, str(SCRIPTS))

import landmarks  # noqa: E402 # pyright: ignore[reportMissingImports]
import learn  # noqa: E402 # pyright: ignore[reportMissingImports]
import left_out  # noqa: E402 # pyright: ignore[reportMissingImports]
import other_seeds  # noqa: E402 # pyright: ignore[reportMissingImports]
import pairs  # noqa: E402 # pyright: ignore[reportMissingImports]
import plans  # noqa: E402 # pyright: ignore[reportMissingImports]
import predict_rows  # noqa: E402 # pyright: ignore[reportMissingImports]
import synthetic_tables  # noqa: E402 # pyright: ignore[reportMissingImports]

SPREADS = {
    **{f"between.{channel}": 0.2 for channel in ("response", "death", "days", "low", "start")},
    "discrepancy": 0.002,
    "discrepancy.days": 0.02,
}


def test_a_reduced_run_learns_few_parameters_and_holds_the_rest_at_their_medians():
    prior, likelihood = plans.problem(plans.PLANS["reduced"])
    whole, every = plans.problem(plans.PLANS["full"])
    assert 15 <= prior.size <= 20
    assert whole.size > 80
    assert len(likelihood.studies) == plans.SMALL_STUDIES < len(every.studies)
    centre = prior.theta(np.zeros(prior.size))
    for name, card in leukaemia_cards(plans.SHIPPED).parameters.items():
        # the median of a card's prior is its value
        assert centre[name] == pytest.approx(card.value, rel=1e-9), name
    # median of a half normal with 95 % quantile 0.3: 0.3 * 0.67449 / 1.95996
    assert centre["between.days"] == pytest.approx(0.3 * 0.6744898 / 1.9599640, rel=1e-6)


def test_a_reduced_run_keeps_rows_of_ones_own(tmp_path):
    """Their study is none of those with the most rows, and was left out."""
    path = tmp_path / "own.csv"
    path.write_text(
        "study,population,schedule,n,endpoint,numerator,denominator,mark\n"
        "OURS,aml_rr,clofarabine:30 mg/m2:IV1h:1-5,20,cr_rate,5,20,READ\n"
    )
    _, likelihood = plans.problem(plans.PLANS["reduced"], rows=path)
    assert likelihood.studies[-1] == "OURS"
    assert len(likelihood.studies) == plans.SMALL_STUDIES + 1


def test_rows_of_ones_own_are_learned_from_once_and_refused_if_they_cannot_be(tmp_path):
    """CR, CR + CRi and ORR of one arm were three trials, and 21 of 20 were learned from."""
    path, arm = tmp_path / "own.csv", "OURS,aml_rr,clofarabine:30 mg/m2:IV1h:1-5,20"
    head = "study,population,schedule,n,endpoint,numerator,denominator,mark"
    rows = [f"{arm},{name},{k},20,READ" for name, k in (("cr_rate", 5), ("cr_cri_rate", 8))]
    path.write_text("\n".join((head, *rows, f"{arm},orr,9,20,READ")) + "\n")
    told = []
    _, likelihood = plans.problem(plans.PLANS["reduced"], rows=path, say=told.append)
    (term,) = (term for term in likelihood.terms if term.study == "OURS")
    assert [(row.endpoint.name, row.numerator) for row in term.rows] == [
        ("cr_rate", 5), ("cri_rate", 3)
    ]  # fmt: skip
    assert told[0].startswith("row 3, OURS.cr_cri_rate: its 8 are the 5 of row 2 and 3 more")
    assert told[1] == "row 4, OURS.orr: not used, it counts patients whom row 2 counts"
    rows[1] = f"{arm},day30_mortality,16,20,READ"
    path.write_text("\n".join((head, *rows)) + "\n")
    with pytest.raises(PkpdError, match=r"5 with a response .row 2. and 16 who died are more than"):
        plans.problem(plans.PLANS["reduced"], rows=path)


@pytest.mark.parametrize(
    ("variant", "name"), [("friberg", "reduced_friberg"), (plans.SHIPPED, "reduced")]
)
def test_tables_are_made_by_the_posterior_of_their_structure(tmp_path, monkeypatch, variant, name):
    read = []

    def load(path):
        read.append(path)
        raise PkpdError("that will do")

    monkeypatch.setattr(synthetic_tables, "load_posterior", load)
    with pytest.raises(PkpdError, match="that will do"):
        synthetic_tables.begin(False, tmp_path, variant)
    monkeypatch.setattr(sys, "argv", ["x", "--variant", variant, "--out", str(tmp_path)])
    with pytest.raises(PkpdError, match="that will do"):
        synthetic_tables.main()
    assert read == [tmp_path / f"posterior_{name}.nc"] * 2


DESIGN = schedule_or_dose.design_of(load_trial("nct01681537_len_mec"))


def test_probability_from_counts_alone_is_the_integral_of_two_betas():
    x = np.linspace(0.0, 1.0, 200_001)
    exact = np.trapezoid(beta.pdf(x, 2.5, 7.5) * beta.cdf(x, 1.5, 15.5), x)
    # 200,000 draws: standard error below 0.001
    assert schedule_or_dose.from_counts_alone(DESIGN) == pytest.approx(exact, abs=0.004)


def made_up(fourteen, ten, draws=400, judged=1.0):
    risk = np.empty((len(DESIGN.pairs), 2, 4, draws))
    risk[:, 0], risk[:, 1] = fourteen, ten
    return schedule_or_dose.DelayedRisks(risk, judged * risk, DESIGN)


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


def test_counts_of_a_trial_are_drawn_of_all_its_patients():
    """Half kept leukaemia: a risk of 0.2 of the others is 0.1 of the six who are printed."""
    half = made_up(0.2, 0.2, judged=0.5)
    first = schedule_or_dose.cohort_rows(half)[0]
    assert (first["printed"], first["probability"]) == ("2/6", pytest.approx(0.2))
    assert first["as_many"] == pytest.approx(binom.sf(1, 6, 0.1), abs=0.01)  # 20,000 cohorts
    exact = binom.sf(1, 9, 0.1) * binom.cdf(1, 16, 0.1)
    assert schedule_or_dose.contrasts(half)[0].as_seen == pytest.approx(exact, abs=0.005)


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
    theta = leukaemia_cards().theta | SPREADS
    got = schedule_or_dose.delayed_risks(
        load_evidence(), [theta], DESIGN, variant=FULL, patients=128
    )
    assert np.all((got.risk >= 0.0) & (got.risk <= 1.0))
    assert np.all(got.of_all <= got.risk)
    for days in range(2):
        assert np.all(np.diff(got.of_all[0, days, :, 0]) > -0.02)
    # a stricter pair is never recovered from sooner
    assert np.all(got.risk[1] >= got.risk[0] - 1e-12)
    assert np.all(got.risk[3] >= got.risk[1] - 1e-12)


def test_the_risk_is_of_those_alive_without_leukaemia(monkeypatch):
    """Of 104 patients 4 died, 50 have leukaemia, and of the other 50 ten are late: 20 %."""
    shape = (104, 60)
    counts = {"neutrophils": np.full(shape, 2.0), "platelets": np.full(shape, 150.0)}
    counts["neutrophils"][4:14, 10:] = 0.1
    counts["neutrophils"][54:70, 10:] = 0.1  # low because of leukaemia
    blasts, hazard = np.full(shape, 1.0), np.zeros(shape)
    blasts[54:] = 30.0
    hazard[:4, 20:] = 1.0
    course = Course(
        mornings=counts, platelets_with_transfused=None, transfused=np.zeros(shape, dtype=bool),
        first_day=np.ones((104, 1), dtype=np.int64), marrow_blasts=blasts,
        cumulative_hazard=hazard, death_score=np.full(104, 0.5),
    )  # fmt: skip

    def collect(arm, look):
        seen = look(SimpleNamespace(course=course))
        return {name: np.stack([values] * 2) for name, values in seen.items()}

    monkeypatch.setattr(
        schedule_or_dose, "new_study", lambda *_, **__: SimpleNamespace(collect=collect)
    )
    found = schedule_or_dose.delayed_risks(load_evidence(), [{}, {}], DESIGN, variant=FULL)
    np.testing.assert_allclose(found.risk, 0.2)
    np.testing.assert_allclose(found.of_all, 10 / 104)
    assert "(of those alive without leukaemia)" in schedule_or_dose.table_text(found)


def test_a_marrow_less_sensitive_to_clofarabine_tolerates_more():
    row = load_evidence().row("GANDHI2006.mtd_mgm2")
    theta = leukaemia_cards().theta | SPREADS | {"between.low": 0.0}
    stem = "ec50_stem.clofarabine"
    hardy = {**theta, stem: 10 * theta[stem]}
    hardy["ec50_committed.clofarabine"] *= 10
    declared = [
        landmarks.tolerated_doses(
            row, [t], variant=FULL, patients=64, repeats=40, ladder=(1, 3, 6, 15)
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


TINY = replace(
    plans.PLANS["reduced"],
    rounds=(50, 50),
    powers=(0.5,),
    patients=32,
    scout=ChainSettings(draws=40, tune=60, chains=2, cores=1, depth=5),
    chains=ChainSettings(draws=60, tune=60, chains=4, cores=1, depth=5),
    training=Training(width=16, steps=200, networks=1),
)


def lines(file):
    with file.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.long
def test_the_scripts_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(plans.PLANS, "reduced", TINY)
    monkeypatch.setattr(plans, "SMALL_STUDIES", 6)
    short = ChainSettings(draws=40, tune=40, chains=4, cores=1, depth=4)
    monkeypatch.setitem(left_out.SETTINGS, "reduced", short)
    for name, value in (("EXACT", 64), ("POINTS", 2), ("DRAWS", 4), ("PATIENTS", 64)):
        monkeypatch.setattr(learn, name, value)
    monkeypatch.setattr(left_out, "PATIENTS", 64)

    def run(script, *words):
        out = ["--out", str(tmp_path), "--workers", "1"]
        monkeypatch.setattr(sys, "argv", ["x", *out, *words])
        script.main()
        return capsys.readouterr().out

    told = run(learn, "--cluster", "local")
    report = (tmp_path / "report_reduced.txt").read_text()
    assert report.strip() in told
    assert "round 1: 50 of 50 simulated" in told
    assert "must not be the default of predictions" in report
    assert "No landmark and no answer is given: " in report
    posterior = load_posterior(tmp_path / "posterior_reduced.nc")
    assert not posterior.converged
    # a run that is done goes on from its simulations
    again = run(learn)
    assert "gradients a draw, 0 divergent" not in again.split("sampled,")[0]
    assert not [line for line in again.splitlines() if "of 50 simulated" in line]
    # had it converged, everything would be told
    folder = tmp_path / "reduced"
    folder.mkdir()
    assert "of 16 inside" in learn.landmark_table(learn.landmarks_of(posterior, folder))
    assert "Prior against posterior" in learn.parameter_part(posterior, folder)
    assert "14 days are riskier" in learn.schedule_parts(posterior, folder)[0]
    for name in ("landmarks", "learned", "influence", "len_mec_cohorts"):
        assert len(lines(folder / f"{name}.csv")) > 5, name
    monkeypatch.setitem(other_seeds.SETTINGS, "reduced", short)
    monkeypatch.setattr(other_seeds, "DRAWS", 4)
    monkeypatch.setattr(other_seeds, "PATIENTS", 64)
    told = run(other_seeds, "--seeds", "1")
    assert "seed 1: means move by" in told
    shifts = lines(tmp_path / "other_seeds_reduced" / "shifts.csv")
    assert any(abs(float(value)) > 0.0 for name, value in shifts[0].items() if name != "seed")
    answers = lines(tmp_path / "other_seeds_reduced" / "answers.csv")
    assert {line["posterior"] for line in answers} == {"as learned", "seed 1"}
    assert all(float(a["lower"]) <= float(a["upper"]) for a in answers)
    with pytest.raises(PkpdError, match="not complete"):
        run(left_out, "--seed", "2")
    told = run(left_out, "--folds", "2", "--draws", "4")
    assert told.count("3 studies, ") == 2
    assert "average of similar trials" in told
    scores = lines(tmp_path / "left_out_reduced" / "scores.csv")
    assert {line["predictor"] for line in scores} >= {"model", "dose regression"}
    assert (tmp_path / "left_out_reduced" / "scores.svg").stat().st_size > 1000
    run(left_out, "--folds", "2", "--draws", "4", "--cluster", "local")
    assert lines(tmp_path / "left_out_reduced" / "scores.csv") == scores


@pytest.mark.slow
def test_a_run_like_the_shipped_one_moves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(other_seeds, "DRAWS", 4)
    monkeypatch.setattr(other_seeds, "PATIENTS", 64)
    monkeypatch.setattr(other_seeds, "COMPARED", {"patients": 8, "draws": 4, "seed": 1})
    words = ["x", "--out", str(tmp_path), "--runs", str(shipped_file())]
    monkeypatch.setattr(sys, "argv", words)
    other_seeds.main()
    told = capsys.readouterr().out
    assert "posterior: means move by 0.00 posterior SD" in told
    assert "0 of 84 by more than 0.15" in told
    assert "18 risks of 5 trials move by 0.0% (mean)" in told
    answers = lines(tmp_path / "other_seeds_full" / "answers.csv")
    assert {line["posterior"] for line in answers} == {"as learned", "posterior"}


@pytest.mark.long
def test_synthetic_tables_that_are_done_are_kept(tmp_path, monkeypatch, capsys):
    from test_synthetic import InTurn, judged

    truth, parts = judged()
    monkeypatch.setattr(synthetic_tables, "ProcessPoolExecutor", InTurn)
    monkeypatch.setattr(synthetic_tables, "begin", lambda *_: None)
    monkeypatch.setattr(synthetic_tables, "_judged", parts)
    monkeypatch.setattr(
        synthetic_tables, "SETTINGS", ChainSettings(draws=70, tune=60, chains=1, cores=1)
    )
    monkeypatch.setattr(synthetic_tables, "load_posterior", lambda _: truth)
    monkeypatch.setattr(
        synthetic_tables, "problem", lambda *_: (parts["prior"], parts["likelihood"])
    )
    monkeypatch.setattr(synthetic_tables, "FEWEST", 2)
    kept = []
    for tables in (2, 3):
        arguments = ["x", "--tables", str(tables), "--out", str(tmp_path), "--workers", "1"]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit):
            synthetic_tables.main()
        kept.append(next(tmp_path.glob("*.jsonl")).read_text())
    assert kept[1].startswith(kept[0])
    assert {json.loads(line)["index"] for line in kept[1].splitlines()} == set(range(3))
    shown = capsys.readouterr().out
    assert "niform: 3 tables, ranks of " in shown
    assert "table 2 did not converge: 1 chains, 2 are needed" in shown
    folder = tmp_path / "synthetic_reduced"
    assert [int(row["table"]) for row in lines(folder / "ranks.csv")] == list(range(3))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["verdict"] in shown
    assert set(summary["table"]) >= {"regrowth", "log likelihood"}
    assert (folder / "ecdf.png").stat().st_size > 10_000
    monkeypatch.setattr(sys, "argv", ["x", "--tables", "1"])
    with pytest.raises(SystemExit):
        synthetic_tables.main()
    assert "--tables 1; allowed: at least 2" in capsys.readouterr().err


def test_tables_of_another_structure_are_drawn_from_its_own_posterior(tmp_path, monkeypatch):
    asked = []

    def load(file):
        asked.append(file.name)
        return SimpleNamespace(z=np.zeros((1, 1, 1)))

    monkeypatch.setattr(synthetic_tables, "_judged", {})
    monkeypatch.setattr(synthetic_tables, "load_posterior", load)
    monkeypatch.setattr(synthetic_tables, "emulator_of", lambda *_: None)
    monkeypatch.setattr(synthetic_tables, "MarrowMaker", lambda *_: None)
    problem = SimpleNamespace(size=1), SimpleNamespace(arms={})
    monkeypatch.setattr(synthetic_tables, "problem", lambda *_: problem)
    for variant in (plans.SHIPPED, "friberg"):
        synthetic_tables.begin(True, tmp_path, variant)
    assert asked == ["posterior_full.nc", "posterior_full_friberg.nc"]


def test_a_folder_that_cannot_be_made_is_refused_in_a_sentence(tmp_path, capsys):
    file = tmp_path / "taken"
    file.write_text("")
    with pytest.raises(SystemExit):
        plans.arguments("x").parse_args(["--out", str(file / "here")])
    assert "cannot be made (Not a directory); name another" in capsys.readouterr().err
    made = plans.arguments("x").parse_args(["--out", str(tmp_path / "new" / "here")]).out
    assert made.is_dir()


def test_rows_of_learned_studies_alone_are_written_and_ship_no_scores(tmp_path, monkeypatch):
    import predict_rows  # pyright: ignore[reportMissingImports]

    row = {"row": "a", "printed": 0.5, "lower": 0.1, "median": 0.5, "upper": 0.9, "inside": 1}
    row |= {"study_was_learned_from": 1, "mixture_median": ""}
    stands = {
        "read_mixture": None,
        "load_posterior": SimpleNamespace(studies=("s",), require_converged=lambda _: None),
        "predicted": ((), {}, SimpleNamespace(rows={})),
        "spread_of_studies": {},
        "without_leukaemia": ({}, []),
        "scored": (None, {}),
        "table": [row],
        "label_of": SimpleNamespace(text="a posterior"),
        "coverage_table": "",
    }
    for name, found in stands.items():
        monkeypatch.setattr(predict_rows, name, lambda *_, found=found: found)
    words = ["predict_rows.py", "rows.csv", "--posterior", "p.nc", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    predict_rows.main()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    monkeypatch.setattr(sys, "argv", [*words, "--ship", str(tmp_path / "default.nc")])
    with pytest.raises(SystemExit, match="is not written: a posterior ships with scores"):
        predict_rows.main()


def test_nothing_is_scored_from_what_has_not_converged(tmp_path, monkeypatch, capsys):
    """Scores were printed, and named nothing of the chains that they are of."""
    known, bad = shipped_posterior().thinned(20), tmp_path / "bad.nc"
    replace(known, problems=("R-hat of rho is 1.30",)).save(bad)
    path, told = tmp_path / "own.csv", "the sampler did not converge: R-hat of rho is 1.30"
    path.write_text(
        "study,population,schedule,n,endpoint,numerator,denominator,mark\n"
        "OURS,aml_rr,clofarabine:30 mg/m2:IV1h:1-5,20,cr_rate,5,20,READ\n"
    )
    for words in (["--posterior", str(bad)], ["--beside", f"other={bad}"]):
        monkeypatch.setattr(sys, "argv", ["x", str(path), "--draws", "2", *words])
        with pytest.raises(SystemExit, match=told):
            predict_rows.main()
    monkeypatch.setattr(pairs, "pairs_in", lambda *_: pytest.fail("pairs are predicted"))
    monkeypatch.setattr(sys, "argv", ["x", "--ship", str(bad)])
    with pytest.raises(SystemExit, match=told):
        pairs.main()
    assert not capsys.readouterr().out


def test_members_of_the_mixture_see_the_rows_that_its_weights_are_of(tmp_path, monkeypatch):
    """Weights were learned at lines of treatment and ages, and weighed rows without them."""
    path, seen = tmp_path / "own.csv", {}
    path.write_text(
        "study,population,schedule,n,endpoint,numerator,denominator,mark,age_median,line\n"
        "OURS,aml_rr,clofarabine:30 mg/m2:IV1h:1-5,20,cr_rate,5,20,READ,63,refractory\n"
    )
    table = load_evidence(path)
    (finer,), (row,) = refined(table), table

    def stands(name):
        def predict(rows, known):
            rows_of = [r for one in known for r in getattr(one, "rows", (one,))]
            seen[name] = list(rows), {r.id: r.population.name for r in rows_of}
            return {r.id: Predicted(np.full(9, 0.2), -2.0) for r in rows}

        return predict

    monkeypatch.setattr(predict_rows, "averages", stands("average"))
    monkeypatch.setattr(predict_rows, "regressions", stands("regression"))
    check = RowCheck(row, "beta-binomial", 0.25, 0.1, 0.2, 0.4, 0.5, True)
    said = {row.id: Predicted(np.full(9, 0.3), -2.0)}
    posterior, mixture = shipped_posterior(), read_mixture(predict_rows.WEIGHTS)
    card, both = predict_rows.scored([check], said, {row.id: finer}, posterior, mixture, {})
    assert card is not None
    assert list(both) == [row.id]
    assert finer.population.name == "aml_refractory" != row.population.name
    learned_from = {r.id: r.population.name for r in load_learning_table()}
    for rows, known in seen.values():
        assert rows == [finer]
        assert known.items() <= learned_from.items()
    assert "aml_refractory" in seen["average"][1].values()


def test_a_posterior_that_cannot_be_scored_is_not_shipped_in_silence(tmp_path, monkeypatch):
    path, ship = tmp_path / "own.csv", tmp_path / "posterior.nc"
    path.write_text(
        "study,population,schedule,other_schedule,n,endpoint,value,mark\n"
        "OURS,solid,clofarabine:2 mg/m2:IV1h:1-5,clofarabine:4 mg/m2:IV1h:1-5,6,mtd_mgm2,2,READ\n"
    )
    words = ["x", str(path), "--draws", "2", "--out", str(tmp_path), "--ship", str(ship)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="is not written: a posterior ships with scores"):
        predict_rows.main()
    assert not ship.exists()
