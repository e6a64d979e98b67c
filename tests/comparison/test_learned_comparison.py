"""Trials in a marrow with leukaemia under a posterior: which marrow, full rows, conservation."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pkpd.cards import card_folder, load_grades, load_rule, load_trial
from pkpd.comparison import marrow_choice
from pkpd.comparison.course_start import gated
from pkpd.comparison.curves import doses_by_day
from pkpd.comparison.lanes import BY_DAYS, CohortLook, grid_cell
from pkpd.comparison.leukaemia_lanes import LeukaemiaLook
from pkpd.comparison.leukaemia_limits import assumed_texts, trial_limits
from pkpd.comparison.marrow_choice import choose_marrow, default_marrow
from pkpd.comparison.results import Figure, PosteriorRow
from pkpd.comparison.run import compare
from pkpd.comparison.scenario import Variant, default_scenario, load_scenario
from pkpd.endpoints.clock import clock_days, clock_of
from pkpd.endpoints.definitions import THRESHOLDS, recovery_definition
from pkpd.endpoints.dlt import evaluate_rule, sensitivity
from pkpd.endpoints.recovery import RecoveryDefinition, recovery_after, recovery_days
from pkpd.endpoints.split import STATES
from pkpd.errors import CardError, PkpdError
from pkpd.evidence.criticism.schedule_or_dose import design_of
from pkpd.evidence.criticism.trial_predictions import new_study
from pkpd.evidence.posterior.shipped import label_of
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.leukaemia.trial_arms import arms_of_trial
from pkpd.schedule import Course, Criterion, DoseRule, Regimen, plan

# -- which marrow -----------------------------------------------------------------------------


def test_the_default_is_the_learned_marrow_only_if_a_converged_posterior_is_shipped(
    monkeypatch, posterior, unconverged
):
    assert default_marrow(None) == "friberg"
    assert default_marrow(unconverged) == "friberg"
    assert default_marrow(posterior) == "leukaemia"
    for shipped, marrow in ((None, "friberg"), (unconverged, "friberg"), (posterior, "leukaemia")):
        monkeypatch.setattr(marrow_choice, "shipped_posterior", lambda found=shipped: found)
        choice = choose_marrow(None, default_scenario())
        assert choice.marrow == marrow
        assert choice.posterior is (posterior if marrow == "leukaemia" else None)
        assert choice.told == (shipped is not None)


def test_what_is_asked_for_wins(monkeypatch, posterior, unconverged):
    monkeypatch.setattr(marrow_choice, "shipped_posterior", lambda: posterior)
    scenario = default_scenario()
    assert choose_marrow("friberg", scenario).marrow == "friberg"
    # one that did not converge may be looked at, if asked for
    assert choose_marrow("leukaemia", scenario, unconverged).posterior is unconverged
    assert choose_marrow(None, scenario, unconverged).posterior is unconverged
    assert choose_marrow(None, replace(scenario, marrow="friberg")).marrow == "friberg"
    assert choose_marrow("leukaemia", replace(scenario, marrow="friberg")).marrow == "leukaemia"
    with pytest.raises(PkpdError, match=r"marrow: 'fribreg'.*friberg, leukaemia"):
        choose_marrow("fribreg", scenario)
    with pytest.raises(PkpdError, match="does not use"):
        choose_marrow("friberg", scenario, posterior)


def test_without_a_posterior_one_sentence_says_what_to_run():
    with pytest.raises(PkpdError, match=r"no posterior is shipped.*learn\.py --full") as told:
        compare(marrow="leukaemia")
    assert str(told.value).count(". ") == 0


def test_what_only_the_other_marrow_has_is_refused_and_never_changes_the_marrow(
    monkeypatch, posterior
):
    monkeypatch.setattr(marrow_choice, "shipped_posterior", lambda: posterior)
    base = default_scenario()
    cases = {
        "combination = bliss is a rule of": {"options": {"combination": "bliss"}},
        "option feedback_when_kill_exceeds is one of": {
            "options": {"feedback_when_kill_exceeds": "off"}
        },
        "card of the line neutrophils is one of": {"cards": {"neutrophils": "friberg_solid"}},
        "card for etoposide.pk has no use here: etoposide acts by its intensity": {
            "cards": {"etoposide.pk": "toffoli2001_etoposide"}
        },
    }
    for words, asked_for in cases.items():
        scenario = replace(base, variants=(Variant(**asked_for),))
        for asked in (None, "leukaemia"):
            with pytest.raises(CardError, match=rf"{words}.*--marrow friberg"):
                choose_marrow(asked, scenario)
        assert choose_marrow("friberg", scenario).marrow == "friberg"


@pytest.mark.long
def test_kidneys_cards_and_options_act_and_do_not_change_the_marrow(monkeypatch, posterior):
    monkeypatch.setattr(marrow_choice, "shipped_posterior", lambda: posterior)
    base = default_scenario()
    (trial,) = (t for t in base.trials if t.id == "nct01629082_clofarabine_lenalidomide")
    arm = trial.arms[-1]
    trial = replace(trial, arms=(replace(arm, cohorts=arm.cohorts[-1:]),))
    impaired = str(card_folder("schedules") / "populations" / "hr_mds_aml_renal_30_50.toml")
    variants = (
        Variant(name="usual"),
        Variant(name="impaired", population=impaired),
        Variant(name="label", population=impaired, options={"clofarabine.renal_label": True}),
        Variant(name="liang", cards={"lenalidomide.pk": "liang2024_lenalidomide"}),
        Variant(name="bare", options={"transfusion": False}),
    )
    scenario = replace(base, trials=(trial,), variants=variants, patients=128, draws=4)
    assert choose_marrow(None, scenario).marrow == "leukaemia"
    result = compare(scenario, jobs=1)
    nadir, transfusions = {}, {}
    for found, variant in zip(result.trials, variants, strict=True):
        rows = [r for r in found.rows if r.cohort == trial.cohorts[0].id]
        low = next(r for r in rows if (r.endpoint, r.line) == ("nadir", "neutrophils"))
        given = next(r for r in rows if r.endpoint == "platelet_transfusions")
        nadir[variant.name], transfusions[variant.name] = low.estimate, given.estimate
    assert nadir["impaired"] < 0.95 * nadir["usual"]
    assert nadir["label"] < nadir["impaired"]
    assert nadir["liang"] < nadir["usual"]  # a clearance of 7 instead of 12 L/h
    assert transfusions["bare"] == 0.0 < transfusions["usual"]
    assert "mL/min (3" in result.record["simulated"][result.trials[1].trial.id]


@pytest.mark.long
def test_a_population_of_another_disease_is_simulated(monkeypatch, posterior):
    monkeypatch.setattr(marrow_choice, "shipped_posterior", lambda: posterior)
    base = default_scenario()
    trials = tuple(t for t in base.trials if t.population == "hr_mds_aml_unfit")
    variants = (Variant(), Variant(name="untreated", population="aml_untreated_unfit"))
    scenario = replace(base, trials=trials, variants=variants, patients=16, draws=2)
    result = compare(scenario, jobs=1)
    first, second = result.trials
    assert any("myelodysplastic syndrome, higher risk" in text for text in first.limits)
    assert any("acute myeloid leukaemia before treatment" in text for text in second.limits)
    assert {"populations/hr_mds_aml_unfit", "populations/aml_untreated_unfit"} <= set(
        result.record["cards"]
    )


def test_a_scenario_file_may_name_its_marrow(folder):
    text = 'kind = "scenario"\nquestion = "Which?"\ntrials = ["mine.toml"]\nmarrow = "{}"\n'
    (folder / "named.toml").write_text(text.format("leukaemia"))
    assert load_scenario(folder / "named.toml").marrow == "leukaemia"
    (folder / "named.toml").write_text(text.format("lukaemia"))
    with pytest.raises(CardError, match="did you mean 'leukaemia'"):
        load_scenario(folder / "named.toml")


# -- rows -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_cohort_has_every_row_and_shares_are_shares(learned_five):
    assert len(learned_five.trials) == 5
    for result in learned_five.trials:
        for cohort in result.trial.cohorts:
            rows = [r for r in result.rows if r.cohort == cohort.id]
            keys = [(r.endpoint, r.line, r.rule) for r in rows if r.rule != "published only"]
            assert len(set(keys)) == len(keys)
            count = {e: sum(k[0] == e for k in keys) for e, _, _ in keys}
            assert count["dlt"] == len(cohort.clocks)
            assert count["recovery_day"] == count["recovery_day_in_remission"] == 6
            # the nadir of the whole course and, where days count from a later course, since then
            windows = 1 if cohort.clocks[0] == "first_dose" else 2
            assert count["nadir"] == count["nadir_day"] == 2 * windows
            for endpoint in ("grade_3_4", "grade_4", "early_death", "count_at_start"):
                assert count[endpoint] == 2, (cohort.id, endpoint)
            for endpoint in ("complete_remission", "response", "platelet_transfusions"):
                assert count[endpoint] == 1
            shares = {}
            for row in (r for r in rows if r.endpoint == "split"):
                shares.setdefault(row.rule.split(":")[0], []).append(row.estimate)
            assert list(shares) == ["day 28", "day 42", "day 56"]
            for each in shares.values():
                assert len(each) == len(STATES)
                assert sum(each) == pytest.approx(1.0, abs=1e-12)
    shares_told = with_interval = 0
    for row in (r for t in learned_five.trials for r in t.rows):
        assert isinstance(row, PosteriorRow)
        if row.endpoint == "dlt":
            # the share that is judged, and the reasons for the rest
            assert 0.0 <= row.evaluable <= 1.0
            told = [float(part.split("%")[0]) for part in row.not_judged.split("; ") if part]
            assert sum(told) == pytest.approx(100.0 * (1.0 - row.evaluable), abs=0.3)
            assert np.isnan(row.estimate) == (row.evaluable < 0.01)
        if np.isnan(row.estimate) and row.rule != "published only":
            assert row.endpoint.startswith("dlt") or row.unit != "probability"
            continue
        assert row.marrow == "leukaemia"
        assert "NOT CONVERGED" in row.posterior
        if row.unit == "probability" and row.rule != "published only":
            assert 0.0 <= row.estimate <= 1.0
            if np.isnan(row.lower):
                # one draw makes the mean, or they differ by chance: no interval, at neither end
                assert np.isnan(row.upper)
            else:
                assert 0.0 <= row.lower <= row.estimate <= row.upper <= 1.0
                with_interval += 1
            shares_told += 0.0 < row.estimate < 1.0  # of nobody, or everybody, there is none
        elif row.rule != "published only" and not np.isnan(row.estimate):
            assert row.patients_lower <= row.estimate <= row.patients_upper
        assert row.assumed or row.rule == "published only"
    # of five patients, the draws of many shares differ by no more than chance
    assert with_interval > 0.5 * shares_told, (with_interval, shares_told)


@pytest.mark.slow
def test_published_figures_stand_beside_predictions(learned_five):
    table = learned_five.table()
    assert {"marrow", "posterior"} <= set(table.columns)
    beside = table[table.published.notna() & table.estimate.notna()]
    assert set(beside.endpoint) == {"dlt", "complete_remission", "response"}
    assert len(beside[beside.endpoint == "dlt"]) == 6
    # what is printed and not predicted is shown, not dropped
    assert "os_1_year" in set(table[table.rule == "published only"].endpoint)


@pytest.mark.slow
def test_curves_are_ordered_and_the_grid_holds_the_rule(learned_five):
    for result in learned_five.trials:
        curves = result.curves
        assert (curves["counts"].diff("quantile") >= 0.0).all()
        assert (curves["recovered"].diff("day") >= -1e-12).all()
        assert ((curves["dose_given"] >= 0.0) & (curves["dose_given"] <= 1.0)).all()
        grid = curves["dlt_sensitivity"].sel(bound="mean")
        known = grid.values[~np.isnan(grid.values)]
        assert ((known >= 0.0) & (known <= 1.0)).all()
        for axis in ("neutrophil_threshold", "platelet_threshold"):
            steps = grid.diff(axis).values
            # a count that dips after its first recovery may fail the lower threshold only:
            # no more than one of some twenty patients
            falls = steps < -1e-12
            assert falls.sum() <= 0.05 * falls.size, axis
            assert np.nanmin(steps) >= -0.06, axis
        day = curves.attrs["rule_by_day"]
        split = curves["split"]
        assert split["state"].values.tolist() == list(STATES)
        np.testing.assert_allclose(split.sum("state"), 1.0, atol=1e-12)
        assert (split.sel(state="died").diff("day") >= 0.0).all()
        own = grid.sel(neutrophil_threshold=0.5, platelet_threshold=20.0, by_day=day)
        risks = [next(r.estimate for r in result.rows if r.endpoint == "dlt" and r.cohort == c)
                 for c in own["cohort"].values]  # fmt: skip
        np.testing.assert_allclose(own, risks, atol=1e-6)  # the grid is kept in single precision
        assert "NOT CONVERGED" in curves.attrs["posterior"]


@pytest.mark.slow
def test_the_record_names_marrow_and_posterior(learned_five, unconverged):
    marrow = learned_five.record["marrow"]
    assert marrow["model"] == "leukaemia"
    assert marrow["sha256"] == label_of(unconverged).digits
    assert marrow["converged"] is False
    assert marrow["problems"] == ["R-hat of rho is 2.1"]
    assert marrow["written"].startswith("2026-01-31")
    assert {"leukaemia/drugs", "trials/nct01681537_len_mec"} <= set(learned_five.record["cards"])
    assert len(learned_five.learned) == len(unconverged.names)


def test_the_other_marrow_is_not_touched(mine):
    assert "marrow" not in mine.record
    assert not mine.learned
    for result in mine.trials:
        assert not result.questions
        assert "posterior" not in result.curves.attrs
        assert not any(isinstance(row, PosteriorRow) for row in result.rows)


# -- conservation -----------------------------------------------------------------------------


def tiny(drug="lenalidomide", amount=1e-12, days=(1, 2), horizon=60):
    course = Course("treatment", (DoseRule(drug, amount, "mg", days, route="oral"),), 28, 1)
    schedule = ArmSchedule(Regimen((course,)), horizon_days=horizon)
    return Arm("tiny", schedule, "mds_high_risk"), schedule


def test_a_dose_of_nothing_is_no_dose(posterior):
    study = new_study("tiny", posterior.draws(3), patients=32, threads=1, variant=posterior.variant)
    treated, schedule = tiny()
    bare = replace(treated, schedule=replace(schedule, regimen=None))

    def look(outcomes):
        return {
            "nadir": outcomes.nadir["platelets"],
            "start": outcomes.baseline["neutrophils"],
            "death": 1.0 - outcomes.alive_probability(60),
        }

    first, second = study.collect(treated, look), study.collect(bare, look)
    for name, values in first.items():
        assert values.shape == (3, 32)
        # a dose by mouth divides the cells of its day, which moves errors of steps a little
        np.testing.assert_allclose(values, second[name], rtol=2e-4)


def test_recovery_of_all_patients_agrees_with_the_outcomes():
    outcomes = population_outcomes(tiny(amount=25.0, days=tuple(range(1, 22)))[0],
                                   default_theta(), 64, threads=1)  # fmt: skip
    three = RecoveryDefinition(sustained_days=3.0)
    for line, thresholds in THRESHOLDS.items():
        found = recovery_days(
            recovery_after(outcomes.course, line, thresholds, definition=three).recovery
        )
        for threshold, days in zip(thresholds, found, strict=True):
            known = outcomes.recovery_day[line, threshold]
            np.testing.assert_array_equal(days + 1.0, np.where(np.isnan(known), 1.0, known))
    # from a later day on, the counts before it do not matter
    later = recovery_after(outcomes.course, "neutrophils", 0.5, definition=three, start=39.0)
    day = recovery_days(later.recovery)[0]
    counts = outcomes.course.neutrophils[:, 39:]
    dead = np.arange(40, 40 + counts.shape[1])[None, :] > outcomes.death_day[:, None]
    never = (outcomes.death_day >= 40.0) & ((counts >= 0.5) | dead).all(axis=1)
    assert never.any()
    np.testing.assert_array_equal(day[never], 0.0)
    lived = outcomes.death_day >= 40.0
    assert np.all(day[~never & lived] > 0.0)
    assert np.isinf(day[~lived]).all()


@pytest.mark.parametrize("join", ["any", "all"])
def test_the_grid_joins_lines_as_the_rule_does(join):
    trial = load_trial("nct01681537_len_mec")
    made = plan(trial.cohort("14d-10").regimen, trial.horizon_days)
    arm = arms_of_trial(trial)["14d-10"]
    course = population_outcomes(arm, default_theta(), 64, threads=1).course
    rule = replace(load_rule("len_mec_2018"), join=join)
    start, search, *_ = clock_days(course, clock_of(made, rule.clock))
    assert np.all(search == 13.0)  # the last dose of lenalidomide, day 14
    words = {"start": start, "search": search}
    grid = sensitivity(course, join=join, definition=recovery_definition(rule), **words)
    for a, p, d in ((0, 0, 1), (1, 3, 0), (0, 2, 3)):
        criteria = (
            Criterion("neutrophils", THRESHOLDS["neutrophils"][a]),
            Criterion("platelets", THRESHOLDS["platelets"][p]),
        )
        whole = replace(rule, criteria=criteria, by_day=int(BY_DAYS[d]))
        np.testing.assert_array_equal(
            grid.status[a, p, d], evaluate_rule(whole, course, **words).status
        )
    assert grid.event.any()


def test_planned_doses_are_those_of_the_schedule_while_patients_live():
    trial = load_trial("nct01681537_len_mec")
    made = plan(trial.cohort("14d-10").regimen, trial.horizon_days)
    outcomes = population_outcomes(arms_of_trial(trial)["14d-10"], default_theta(), 64, threads=1)
    given = doses_by_day(made, outcomes.course)
    alive = np.array([(outcomes.death_day >= day).sum() for day in range(1, 91)])
    wanted = np.zeros(90)
    wanted[:14] = alive[:14]
    np.testing.assert_array_equal(given["lenalidomide"], wanted)
    assert given["mitoxantrone"][3:8].min() > 0
    assert given["mitoxantrone"][[0, 1, 2, 8, 9]].max() == 0.0


def test_look_reads_the_same_patients_as_the_evidence():
    trial = load_trial("nct01629082_clofarabine_lenalidomide")
    cohort = trial.cohort("cohort 1")
    rule = load_rule(cohort.rule)
    rules = tuple(replace(rule, clock=clock) for clock in cohort.clocks)
    arm = arms_of_trial(trial)["cohort 1"]
    outcomes = population_outcomes(arm, default_theta(), 64, threads=1)
    made = plan(cohort.regimen, trial.horizon_days)
    look = CohortLook(made, rules, load_grades(trial.grades), trial.visit_days)
    found = LeukaemiaLook(look, arm)(outcomes.course)
    at_clock = found.values["count_at_clock", "platelets", "consolidation"]
    given = outcomes.death_day >= 29
    np.testing.assert_array_equal(
        at_clock, np.where(given, outcomes.course.platelets[:, 28], np.nan)
    )
    assert set(found.dlt) == set(cohort.clocks)
    died = found.values["early_death", "", "by day 30"]
    assert np.all((died >= 0.0) & (died <= 1.0))
    np.testing.assert_array_equal(look.verdict(outcomes.course), found.dlt[rules[0].clock])


def test_the_verdict_alone_is_that_of_all_endpoints():
    """The rule's thresholds are in the grid of the sensitivity, from which the verdict is taken."""
    trial = load_trial("nct01681537_len_mec")
    cohort, rule = trial.cohort("14d-10"), load_rule(trial.cohort("14d-10").rule)
    assert grid_cell(rule) is not None
    outcomes = population_outcomes(arms_of_trial(trial)["14d-10"], default_theta(), 200, threads=1)
    made = plan(cohort.regimen, trial.horizon_days)
    look = CohortLook(made, (rule,), load_grades(trial.grades), trial.visit_days)
    verdict = look.verdict(outcomes.course)
    np.testing.assert_array_equal(verdict, look(outcomes.course).dlt[rule.clock])
    assert {0.0, 1.0} <= set(verdict)


def test_each_day_of_the_grid_is_the_verdict_of_a_rule_of_that_day():
    """A day after the rule's looks from the last dose before itself, not before the rule's day."""
    trial = load_trial("nct01681537_len_mec")
    cohort, rule = trial.cohort("14d-10"), load_rule("leukemia_d42_generic")
    course = population_outcomes(arms_of_trial(trial)["14d-10"], default_theta(), 200, threads=1)
    (one,) = cohort.regimen.courses
    doses = tuple(replace(dose, days=(*dose.days, 44)) for dose in one.doses)
    made = plan(Regimen((replace(one, doses=doses, cycle_days=90),)), trial.horizon_days)
    looks = {
        day: CohortLook(
            made, (replace(rule, by_day=int(day)),), load_grades(trial.grades), trial.visit_days
        )
        for day in BY_DAYS
    }
    found = {day: look(course.course) for day, look in looks.items()}
    for d, day in enumerate(BY_DAYS):
        for other in found.values():
            np.testing.assert_array_equal(other.sensitivity[0, 0, d], found[day].dlt[rule.clock])


# -- what the model cannot do -----------------------------------------------------------------


def holding(posterior, *names):
    """The posterior of a run that held some parameters."""
    free = [i for i, name in enumerate(posterior.names) if name not in names]
    return replace(
        posterior,
        names=tuple(posterior.names[i] for i in free),
        values=posterior.values[..., free],
        z=posterior.z[..., free],
    )


def test_drugs_that_are_guessed_or_idle_are_named(posterior):
    def told(name, learned=posterior):
        return " | ".join(trial_limits(load_trial(name), learned))

    assert "alemtuzumab: a kill of 0.02" in told("nct00983528_alemtuzumab_clofarabine")
    assert "immune system" in told("nct00983528_alemtuzumab_clofarabine")
    ours = told("nct01116193_lenalidomide_dexamethasone")
    assert "dexamethasone: without an effect on the marrow" in ours
    older = holding(posterior, "intensity.cytarabine", "blasts.dexamethasone")
    dexamethasone = "kill of blasts (0.3 of a course of 7+3 on its card)"
    assert f"{dexamethasone} was learned from trials" in ours
    assert f"{dexamethasone} is assumed" in told("nct01116193_lenalidomide_dexamethasone", older)
    assert "not predicted by this model: median os days" in ours
    mec = told("nct01681537_len_mec")
    assert "cytarabine: a kill" not in mec
    assert "cytarabine: a kill of 0.5" in told("nct01681537_len_mec", older)
    assert "mitoxantrone:" not in mec  # learned
    assert "etoposide:" not in mec
    one_body = "caps and doses that are not by surface are those of 1.8 m^2 and 75 kg"
    assert one_body not in mec  # lenalidomide acts by its concentration
    assert f"alemtuzumab: {one_body}" in told("nct00983528_alemtuzumab_clofarabine")
    assert one_body not in ours  # dexamethasone kills nothing
    trial = load_trial("nct01681537_len_mec")
    texts = assumed_texts(trial, trial.drugs, older)
    assert any(text.startswith("intensity.cytarabine 0.5") for text in texts)
    learned = ("intensity.mitoxantrone", "intensity.etoposide")
    assert not any(text.startswith(learned) for text in texts)
    assert not any("mds" in text or "clofarabine" in text or "filgrastim" in text for text in texts)
    # the nearest disease counts: relapsed, not that before treatment
    assert sum(text.startswith("blasts_start.aml") for text in texts) == 1


# -- questions --------------------------------------------------------------------------------


def question(result, name):
    return next(q for t in result.trials for q in t.questions if q.name == name)


@pytest.mark.slow
def test_every_trial_has_its_questions(learned_five):
    names = [[q.name for q in t.questions] for t in learned_five.trials]
    assert names == [
        ["delayed_by_cohort", "schedule_or_dose", "what_it_rests_on"],
        ["start_of_lenalidomide", "what_it_rests_on"],
        ["twenty_or_ten", "what_it_rests_on"],
        ["cycles", "improvement", "what_it_rests_on"],
        ["cycles", "improvement", "what_it_rests_on"],
    ]
    for q in (q for t in learned_five.trials for q in t.questions):
        for row in q.rows:
            assert len(row) == len(q.columns)
            for cell in row:
                if isinstance(cell, Figure) and cell.unit == "probability":
                    assert np.isnan(cell.value) or 0.0 <= cell.value <= 1.0
                if isinstance(cell, Figure) and not np.isnan(cell.lower):
                    assert cell.lower <= cell.value <= cell.upper


@pytest.mark.slow
def test_design_of_a_trial_is_read_off_its_card(learned_five):
    """Days, doses and printed counts as in the paper: 2/6, 0/3, 0/3, 0/3, 0/3, 1/7."""
    trial = load_trial("nct01681537_len_mec")
    design = design_of(trial)
    assert design.cohorts == ((14, 10.0, 2, 6), (14, 5.0, 0, 3), (10, 5.0, 0, 3),
                              (10, 10.0, 0, 3), (10, 25.0, 0, 3), (10, 50.0, 1, 7))  # fmt: skip
    assert (design.days, design.doses) == ((14, 10), (5.0, 10.0, 25.0, 50.0))
    assert (design.common, design.dose_contrast) == ((5.0, 10.0), (10, 5.0, 50.0))
    assert (design.late(14), design.late(10)) == ((2, 9), (1, 16))
    table = question(learned_five, "delayed_by_cohort")
    assert len(table.rows) == 24
    assert [row[1] for row in table.rows[:6]] == [c.id for c in trial.cohorts]
    assert len(question(learned_five, "schedule_or_dose").answer) == 6


@pytest.mark.slow
def test_counts_before_lenalidomide_do_not_depend_on_what_follows(learned_five):
    rows = question(learned_five, "start_of_lenalidomide").rows
    by_gate = {}
    for row in rows:
        by_gate.setdefault(row[1], []).append(row[2:])
    assert [len(each) for each in by_gate.values()] == [4] * 4
    for each in by_gate.values():
        assert all(row == each[0] for row in each)
    gates = list(by_gate.values())
    started = [each[0][0].value for each in gates]
    assert started == sorted(started, reverse=True)  # a stricter gate lets fewer start
    # nobody starts below the gate
    assert [each[0][4].value for each in gates][2:] == [0.0, 0.0]
    assert [each[0][5].value for each in gates][2:] == [0.0, 0.0]
    assert gates[0][0][1].value == 29.0


def test_a_gate_is_put_before_the_course_it_names():
    arm = arms_of_trial(load_trial("nct01629082_clofarabine_lenalidomide"))["cohort 1"]
    assert gated(arm, "consolidation", None) is arm
    courses = gated(arm, "consolidation", (1.0, 50.0)).schedule.regimen.courses
    assert [c.name for c in courses if c.gate] == ["consolidation"]
    assert courses[1].gate.if_not_met == "stop"


@pytest.mark.slow
def test_grades_of_cycles_and_of_lines_are_consistent(learned_five):
    for result in learned_five.trials[3:]:
        rows = next(q for q in result.questions if q.name == "cycles").rows
        assert [row[1] for row in rows] == [str(k + 1) for k in range(len(rows))]
        alive = [row[2].value for row in rows]
        assert alive[0] == 1.0
        assert alive == sorted(alive, reverse=True)
        for row in rows:
            assert row[5].value >= max(row[3].value, row[4].value) - 1e-12


def test_other_trials_are_asked_only_what_they_rest_on(folder, posterior):
    result = compare(folder / "mine.toml", patients=16, draws=2, posterior=posterior, jobs=1)
    (trial,) = result.trials
    assert [q.name for q in trial.questions] == ["what_it_rests_on"]
    # equal schedules are equal patient by patient
    pair = next(p for p in trial.pairs if (p.first, p.second) == ("10 mg", "10 mg again"))
    assert (pair.difference, pair.p_first_safer) == (0.0, 0.5)


@pytest.mark.slow
def test_results_are_the_same_every_time_and_cohorts_are_told(folder, posterior):
    seen = SimpleNamespace(cohorts=[], trials=[], shares=[])

    def run():
        return compare(
            folder / "mine.toml",
            patients=16,
            draws=2,
            posterior=posterior,
            jobs=1,
            on_cohort=lambda trial, cohort, rows: seen.cohorts.append(cohort),
            on_trial=lambda result: seen.trials.append(result.trial.id),
            on_progress=lambda done, total, text: seen.shares.append(done / total),
        )

    first, again = run(), run()
    for a, b in zip(first.trials[0].rows, again.trials[0].rows, strict=True):
        np.testing.assert_equal(a.estimate, b.estimate)
    assert seen.cohorts[:3] == ["10 mg", "10 mg again", "25 mg"]
    assert len(seen.trials) == 2
    half = seen.shares[: len(seen.shares) // 2]
    assert half == sorted(half)
    assert half[-1] == pytest.approx(1.0)


# -- patients without leukaemia ---------------------------------------------------------------

SOLID = """
kind = "trial"
title = "Carboplatin"
population = "solid_tumour"
rule = "leukemia_d42_generic"
horizon_days = 56

[dose.carboplatin]
amount = "400 mg/m^2"
days = "1"
route = "iv"

[course.only]
doses = ["carboplatin"]
cycle_days = 28
"""


def test_nobody_responds_who_has_no_leukaemia(tmp_path, posterior):
    file = tmp_path / "solid.toml"
    file.write_text(SOLID)
    result = compare(file, patients=16, draws=2, posterior=posterior)
    endpoints = {row.endpoint for row in result.trials[0].rows}
    assert "grade_3_4" in endpoints
    assert not endpoints & {"complete_remission", "response", "remission_any_counts"}
