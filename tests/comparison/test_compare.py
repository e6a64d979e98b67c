"""Running a scenario: pairs, variants, replacements, threads, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.comparison import run
from pkpd.comparison.friberg_trial import friberg_trial
from pkpd.comparison.results import PairRow
from pkpd.comparison.run import compare
from pkpd.comparison.scenario import load_scenario, with_overrides
from pkpd.ensemble import cards as of_cards
from pkpd.ensemble.ensemble import _in_turn
from pkpd.errors import PkpdError

SIZE = {"patients": 20, "draws": 4}


def risk(result, cohort, trial=0):
    rows = result.trials[trial].rows
    return next(r.estimate for r in rows if (r.cohort, r.endpoint) == (cohort, "dlt"))


def figures(result, trial=0):
    return {
        (r.cohort, r.endpoint, r.line, r.rule): (r.estimate, r.lower, r.upper, r.mc_error)
        for r in result.trials[trial].rows
    }


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=str(key))


def test_equal_schedules_are_equal_patient_by_patient(mine):
    pair = next(p for p in mine.trials[0].pairs if (p.first, p.second) == ("10 mg", "10 mg again"))
    assert (pair.difference, pair.p_first_safer) == (0.0, 0.5)
    assert np.isnan([pair.lower, pair.upper]).all()  # draws are alike: no interval
    rows = mine.trials[0].rows
    for first, again in zip(
        (r for r in rows if r.cohort == "10 mg"),
        (r for r in rows if r.cohort == "10 mg again"),
        strict=True,
    ):
        np.testing.assert_array_equal(
            [first.estimate, first.lower, first.upper], [again.estimate, again.lower, again.upper]
        )


def test_paired_differences_are_differences_of_risks(mine):
    assert len(mine.trials[0].pairs) == 3
    for pair in mine.trials[0].pairs:
        assert isinstance(pair, PairRow)
        expected = risk(mine, pair.first) - risk(mine, pair.second)
        assert pair.difference == pytest.approx(expected, abs=1e-12)


def test_a_published_count_gets_its_exact_interval(mine):
    row = next(r for r in mine.trials[0].rows if r.endpoint == "dlt" and r.cohort == "25 mg")
    assert (row.published_numerator, row.published_denominator) == (1, 7)
    assert row.published == pytest.approx(1 / 7)
    # 1 of 7: published tables of the exact binomial limits
    assert (row.published_lower, row.published_upper) == pytest.approx((0.0036, 0.5787), abs=1e-4)


def test_threads_and_chunks_change_nothing(mine, folder, monkeypatch):
    monkeypatch.setattr(of_cards, "LANES_AT_ONCE", 40)
    chunked = compare(folder / "mine.toml", **SIZE, jobs=2)
    a, b = figures(mine), figures(chunked)
    assert a.keys() == b.keys()
    for key in a:
        # rounding of other vector lengths, seen through a threshold in days or counts
        np.testing.assert_allclose(a[key], b[key], rtol=1e-9, atol=1e-9, err_msg=str(key))
    repeat = compare(folder / "mine.toml", **SIZE, jobs=1)
    same(figures(chunked), figures(repeat))
    other = compare(folder / "mine.toml", **SIZE, seed=2)
    assert figures(other) != figures(mine)


def test_pairs_and_variants_of_a_scenario(folder):
    text = """
kind = "scenario"
question = "Does it work?"
trials = ["mine.toml"]
cohorts = ["10 mg", "25 mg"]
patients = 20
draws = 4

[[pair]]
first = "25 mg"
second = "10 mg"

[[variant]]
name = "hughes"

[[variant]]
name = "liang"
cards = { lenalidomide.pk = "liang2024_lenalidomide" }

[[variant]]
name = "later rule"
rule = "len_mec_2018"
"""
    (folder / "variants.toml").write_text(text)
    told = []
    result = compare(
        folder / "variants.toml",
        on_cohort=lambda trial, cohort, rows: told.append((trial.id, cohort, len(rows))),
        on_progress=lambda done, total, text: told.append((done, total)),
    )
    ids = [t.trial.id for t in result.trials]
    assert ids == ["mine-hughes", "mine-liang", "mine-later rule"]
    for one in result.trials:
        assert [c.id for c in one.trial.cohorts] == ["10 mg", "25 mg"]
        assert [(p.first, p.second) for p in one.pairs] == [("25 mg", "10 mg")]
        assert one.trial is result.trial(one.trial.id).trial
    nadir = [
        next(r.estimate for r in t.rows if (r.cohort, r.endpoint) == ("25 mg", "nadir"))
        for t in result.trials
    ]
    assert nadir[1] < nadir[0], "the higher exposure of Liang 2024 goes deeper"
    assert nadir[2] == nadir[0], "a rule does not change the counts"
    assert {r.rule for r in result.trials[2].rows if r.endpoint == "dlt"} == {"len_mec_2018"}
    assert risk(result, "25 mg", 2) <= risk(result, "25 mg", 0), "day 45 against day 42"
    assert result.record["settings"]["rules"] == {
        "hughes": "each trial's own",
        "liang": "each trial's own",
        "later rule": "len_mec_2018",
    }
    assert "pk/liang2024_lenalidomide" in result.record["cards"]
    progress = [t for t in told if len(t) == 2]
    assert all(0.0 <= done <= total for done, total in progress)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert progress[-1][0] == progress[-1][1]
    assert [t[:2] for t in told if len(t) == 3] == [(i, c) for i in ids for c in ("10 mg", "25 mg")]


def test_replacements_at_the_call_do_what_they_should(mine, folder):
    usual = figures(mine)
    key = ("25 mg", "nadir", "neutrophils", "")

    def changed(**words):
        return figures(compare(folder / "mine.toml", **SIZE, **words))

    assert changed(cards={"lenalidomide.pk": "liang2024_lenalidomide"})[key] < usual[key]
    assert changed(options={"lenalidomide.renal_chen2007": True}).keys() == usual.keys()
    assert changed(options={"renal_chen2007": True})[key] <= usual[key], "the short name will do"
    none = changed(options={"transfusion": False})
    assert none[("25 mg", "platelet_transfusions", "platelets", "")][0] == 0.0
    np.testing.assert_equal(none[key], usual[key])  # few draws have no interval: NaN


BEFORE = """
[course.before]
doses = ["lenalidomide"]
cycle_days = 14

[course.treatment]
gate = { neutrophils = 20, max_wait_days = 5, if_not_met = "stop" }
"""


def test_a_gate_that_keeps_all_patients_out_gives_empty_figures_not_an_end(folder):
    text = (folder / "mine.toml").read_text()
    text = text.split("[[cohort]]")[0]
    text = text.replace("horizon_days = 60", "horizon_days = 70\nclocks = {}")
    text = text.replace("{}", '["treatment", "first_dose"]')
    text = text.replace("[course.treatment]", BEFORE)
    (folder / "closed.toml").write_text(text)
    result = compare(folder / "closed.toml", patients=4, draws=3)
    dlt = [r for r in result.trials[0].rows if r.endpoint == "dlt"]
    assert np.isnan(dlt[0].estimate)
    assert not np.isnan(dlt[1].estimate)
    assert np.isnan(result.trials[0].curves["dlt"]).all()
    assert (result.trials[0].curves["dose_given"].sel(day=slice(15, None)) == 0.0).all()


@pytest.mark.slow
def test_combination_and_feedback_change_counts_where_two_drugs_meet(folder):
    text = (folder / "mine.toml").read_text().split("[[cohort]]")[0]
    text = text.replace("[course.treatment]\ndoses = [", """
[dose.clofarabine]
amount = "5 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"

[course.treatment]
doses = ["clofarabine", """)  # fmt: skip
    (folder / "both.toml").write_text(text)

    def nadir(**options):
        result = compare(folder / "both.toml", patients=6, draws=2, options=options)
        return figures(result)["all", "nadir", "neutrophils", ""][0]

    usual = nadir()
    assert nadir(combination="bliss") > usual, "independent effects are less than their sum"
    assert nadir(feedback_when_kill_exceeds="capped") > usual


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ({"trials": ["nct0"]}, "there is no trial 'nct0'"),
        ({"trials": ["my.toml"]}, 'a file is compared by pkpd.compare("my.toml")'),
        ({"patients": 0}, "patients: 0; allowed: 1 to"),
        ({"draws": 10**9}, "draws: 1000000000; allowed: 1 to"),
        ({"seed": -1}, "seed: -1"),
        ({"rule": "len_mec"}, "there is no card named 'len_mec'"),
        ({"rule": "leukemia_d56_generic", "trials": None}, None),
        ({"rule": "karp_2007"}, "no count threshold and cannot be simulated"),
        ({"options": {"transfusion": "no"}}, "option transfusion: 'no'; allowed: true, false"),
        ({"options": {"combination": "product"}}, "allowed: additive, bliss"),
        ({"options": {"adult_clearance": False}}, "no trial that is run has this option"),
        ({"options": {"renal_chen2007": "yes"}}, "'yes' is not True or False"),
        ({"options": {"feedback_when_kill_exceeds": "of"}}, "'of' is not a rule"),
        ({"cards": {"clofarabine.pk": "bonate2004_clofarabine"}}, "no trial that is run has"),
        ({"cards": {"lenalidomide.pk": "bonate2004_clofarabine"}}, "is of clofarabine"),
        ({"cards": {"lenalidomide.pk": "liang"}}, "there is no card named 'liang'"),
        ({"cards": {"neutrophils": "perezruixo2016_platelets"}}, "is of platelets"),
    ],
)
def test_bad_replacements_are_refused_before_anything_runs(words, part, folder, monkeypatch):
    monkeypatch.setattr(run, "_run_trial", lambda *a: pytest.fail("it ran"))
    if part is None:
        text = (folder / "mine.toml").read_text().replace("horizon_days = 60", "horizon_days = 50")
        (folder / "short.toml").write_text(text)
        with pytest.raises(PkpdError, match="horizon_days is 50, before day 57"):
            compare(folder / "short.toml", rule=words["rule"])
        return
    with pytest.raises(PkpdError) as told:
        compare(folder / "mine.toml", **words)
    assert part in str(told.value)
    assert "\n" not in str(told.value)


def test_options_and_cards_reach_only_the_trials_they_concern():
    chosen = load_scenario("five_trials")
    for option in ("clofarabine.adult_clearance", "adult_clearance"):
        changed = with_overrides(chosen, options={option: False})
        ready = [
            friberg_trial(replace(changed, patients=2, draws=1), v, t)
            for v in changed.variants
            for t in changed.trials
        ]
        found = {
            r.trial.id: dict(r.ensemble.model.options).get("clofarabine.adult_clearance")
            for r in ready
        }
        assert found == {
            "nct01681537_len_mec": None,
            "nct01629082_clofarabine_lenalidomide": False,
            "nct00983528_alemtuzumab_clofarabine": False,
            "nct01116193_lenalidomide_dexamethasone": None,
            "nct01673308_lenalidomide_mds": None,
        }


def test_an_interrupted_run_does_not_finish_its_queue():
    from concurrent.futures import ThreadPoolExecutor

    done = []
    with ThreadPoolExecutor(1) as pool:
        results = _in_turn(pool, lambda x: done.append(x) or x, range(100), ahead=3)
        assert [next(results), next(results)] == [0, 1]
        results.close()
    assert len(done) <= 5
    with ThreadPoolExecutor(2) as pool:
        assert list(_in_turn(pool, lambda x: -x, range(20), ahead=3)) == [-x for x in range(20)]
