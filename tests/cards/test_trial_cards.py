"""Trial cards: the five trials, a user's own schedule, and files with mistakes in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pkpd.cards import (
    card_folder,
    card_names,
    clock_day_1,
    load_population,
    load_rule,
    load_trial,
    rules_for,
)
from pkpd.comparison.check import check_as_compared
from pkpd.comparison.simulated import simulated_text
from pkpd.errors import CardError
from pkpd.schedule import Criterion, administrations, plan

# A clinician's schedule: two drugs, a 6-week cycle, weekly infusions, a gate at neutrophils 1.0.
GOOD = """
title = "Weekly clofarabine with lenalidomide"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 126

[dose.clofarabine]
amount = "5 mg/m^2"
days = "1, 8, 15"
route = "iv"
duration = "1 h"

[dose.lenalidomide]
amount = "10 mg"
days = "1-21"
route = "oral"
strengths_mg = [2.5, 5, 10]

[course.treatment]
doses = ["clofarabine", "lenalidomide"]
cycle_days = 42
cycles = 2
between = { neutrophils = 1.0, max_wait_days = 21, if_not_met = "stop" }
"""

COHORTS = (
    GOOD
    + """
[[cohort]]
id = "low"

[[cohort]]
id = "high"
arm = "dose"
level = 2
n = 3
change.lenalidomide = { amount = "25 mg" }
change.treatment = { cycles = 3 }
[[cohort.published]]
endpoint = "dlt"
numerator = 1
denominator = 3
source = "paper"
status = "read"
"""
)

MODIFIED = GOOD.replace("[course", """[modification.counts]
drug = "lenalidomide"
hold_below = { neutrophils = 1.0 }
levels = ["5 mg", "2.5 mg"]

[course""").replace("cycles = 2", 'cycles = 2\nmodifications = ["counts"]')  # fmt: skip


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return load_trial(path)

    return read_text


def test_a_schedule_of_the_users_own(read):
    trial = read(GOOD)
    assert trial.id == "mine"
    (cohort,) = trial.cohorts
    assert cohort.id == "all"
    assert cohort.regimen.courses[0].between.criteria == (Criterion("neutrophils", 1.0),)
    tables = plan(cohort.regimen, trial.horizon_days)
    assert tables.gate_threshold[0, 1, 0] == 1.0
    assert tables.gate_wait[0, 1] == 21
    assert tables.gate_stop[0, 1]
    days = [a.day for a in administrations(cohort.regimen, 126) if a.drug == "clofarabine"]
    assert days == [1, 8, 15, 43, 50, 57]
    assert trial.visit_days[:5] == (1, 4, 8, 11, 15)
    assert any("twice a week" in text for text in trial.assumptions)


def test_cohorts_change_single_values(read):
    trial = read(COHORTS)
    assert [arm.name for arm in trial.arms] == ["all", "dose"]
    low, high = trial.cohort("low"), trial.cohort("high")
    assert low.regimen.courses[0].doses[1].amount == 10.0
    assert high.regimen.courses[0].doses[1].amount == 25.0
    assert high.regimen.courses[0].doses[1].days == low.regimen.courses[0].doses[1].days
    assert (low.regimen.courses[0].cycles, high.regimen.courses[0].cycles) == (2, 3)
    assert (high.level, high.n, high.published[0].numerator) == (2, 3, 1)


def test_modifications_and_twice_daily_doses(read):
    trial = read(MODIFIED.replace("strengths_mg", "hour = [0, 12]\nstrengths_mg"))
    course = trial.cohorts[0].regimen.courses[0]
    assert course.modifications[0].levels_mg == (5.0, 2.5)
    assert course.modifications[0].reduce_on_resume
    assert [rule.hour for rule in course.doses] == [0.0, 0.0, 12.0]


def test_cards_beside_the_users_file(tmp_path):
    (tmp_path / "late.toml").write_text(
        'kind = "rule"\nrecovered = { platelets = 50 }\nby_day = 56\n'
    )
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace('"leukemia_d42_generic"', '"late.toml"'))
    trial = load_trial(path)
    (rule,) = rules_for(trial, trial.cohorts[0])
    assert (rule.by_day, rule.criteria) == (56, (Criterion("platelets", 50.0),))


def test_days_count_from_the_clock_of_the_rule_unless_the_file_names_another(tmp_path):
    (tmp_path / "late.toml").write_text(
        'kind = "rule"\nrecovered = { platelets = 50 }\nby_day = 56\nclock = "second"\n'
    )
    path = tmp_path / "mine.toml"
    text = GOOD.replace('"leukemia_d42_generic"', '"late.toml"') + (
        '\n[course.second]\ndoses = ["clofarabine"]\ncycle_days = 28\ncycles = 1\n'
    )
    path.write_text(text.replace("horizon_days = 126", "horizon_days = 170"))
    assert load_trial(path).cohorts[0].clocks == ("second",)
    path.write_text(f'clocks = ["first_dose"]\n{path.read_text()}')
    assert load_trial(path).cohorts[0].clocks == ("first_dose",)
    path.write_text(f'{path.read_text()}\n[[cohort]]\nid = "own"\nclocks = ["second"]\n')
    assert load_trial(path).cohorts[0].clocks == ("second",)
    path.write_text(text.split("[course.second]")[0])
    with pytest.raises(CardError, match="clocks: 'second' is no course of cohort 'all'"):
        load_trial(path)


def test_a_growth_factor_from_a_day_after_the_last_is_refused(read):
    row = '\n[growth_factor]\ndrug = "filgrastim"\nbelow = 0.5\nfrom_day = 3000\n'
    with pytest.raises(CardError, match="growth_factor > from_day: 3000 is out of range"):
        read(GOOD + row)


def test_a_growth_factor_without_a_usual_dose_needs_an_amount(read, tmp_path):
    text = (Path(str(card_folder("drugs"))) / "filgrastim.toml").read_text()
    own = re.sub(r"\[usual_dose\]\n(.+\n)+", "", text).replace('"filgrastim"', '"mine_gf"', 1)
    (tmp_path / "mine_gf.toml").write_text(own)
    with pytest.raises(CardError, match="growth_factor > amount: the key is missing"):
        read(GOOD + '\n[growth_factor]\ndrug = "mine_gf.toml"\nbelow = 0.5\n')


BAD = [
    # (name, text, what the sentence must contain)
    ("misspelt top key", GOOD.replace("horizon_days", "horizon"),
     ["horizon_days: the key is missing", "is it written as 'horizon' here?"]),
    ("unknown key", GOOD.replace("cycles = 2", "cycles = 2\nrepeats = 3"),
     ["[course.treatment] > repeats: unknown key", "allowed: between, cycle_days, cycles"]),
    ("key of other words", GOOD.replace("cycle_days", "cycle_length"),
     ["[course.treatment] > cycle_length: unknown key (did you mean 'cycle_days'?)"]),
    ("misspelt key", GOOD.replace("duration", "durations"),
     ["[dose.clofarabine] > durations: unknown key (did you mean 'duration'?)"]),
    ("TOML syntax", GOOD.replace('route = "iv"', "route = iv"), ["line 10", "'route = iv'"]),
    ("unknown drug", GOOD.replace("clofarabine", "clofarabin"),
     ["[dose.clofarabin] > drug: there is no card for drug 'clofarabin' (did you mean "
      "'clofarabine'?)", "allowed: abexinostat, alemtuzumab, alvocidib"]),
    ("misspelt unit", GOOD.replace("5 mg/m^2", "5 mg/m^3"),
     ["[dose.clofarabine] > amount", 'unknown unit "mg/m^3" (did you mean \'mg/m^2\'?)']),
    ("unit of another dimension", GOOD.replace("5 mg/m^2", "5 mg/L"),
     ["[dose.clofarabine] > amount", '"mg/L" is a concentration unit']),
    ("amount without unit", GOOD.replace('"10 mg"', "10"),
     ["[dose.lenalidomide] > amount", "it has no unit"]),
    ("negative dose", GOOD.replace('"10 mg"', '"-10 mg"'),
     ["[dose.lenalidomide] > amount", "the amount is -10"]),
    ("NaN dose", GOOD.replace('"10 mg"', '"nan mg"'), ["amount", "the amount is nan"]),
    ("missing dose amount", GOOD.replace('amount = "10 mg"', ""),
     ["[dose.lenalidomide] > amount: the key is missing; allowed: an amount such as"]),
    ("day 0", GOOD.replace('"1-21"', '"0-21"'),
     ["[dose.lenalidomide] > days", "day 0 does not exist"]),
    ("day beyond the cycle", GOOD.replace("cycle_days = 42", "cycle_days = 14"),
     ["[course.treatment]", "clofarabine on day 15 is after the end of the 14-day cycle"]),
    ("two cycle lengths", GOOD.replace('"1-21"', '"1-21/28"'),
     ["[course.treatment] > cycle_days", "42 days here and 28 days in dose 'lenalidomide'"]),
    ("no cycle length", GOOD.replace("cycle_days = 42", ""),
     ["[course.treatment] > cycle_days: the key is missing", '"1-21/28"']),
    ("no cycles", GOOD.replace("cycles = 2", "cycles = 0"),
     ["[course.treatment] > cycles: 0 is out of range", "at least 1"]),
    ("infusion over midnight", GOOD.replace("1 h", "25 h"),
     ["[dose.clofarabine]", "runs into the next day", "up to 24 h"]),
    ("duration without unit", GOOD.replace('"1 h"', "1"),
     ["[dose.clofarabine] > duration", "it has no unit"]),
    ("duration in mg", GOOD.replace('"1 h"', '"1 mg"'), ["duration", "unit of dose, not of time"]),
    ("infusion time of a capsule", GOOD.replace('"oral"', '"oral"\nduration = "1 h"'),
     ["[dose.lenalidomide]", "route oral has no infusion time"]),
    ("unknown route", GOOD.replace('"oral"', '"po"'),
     ["[dose.lenalidomide] > route", 'allowed: iv, oral, sc']),
    ("capsule strengths", GOOD.replace("[2.5, 5, 10]", "[2.5, -5]"),
     ["[dose.lenalidomide] > strengths_mg, item 2: -5 is out of range"]),
    ("neutrophils in cells/uL", GOOD.replace("neutrophils = 1.0", "neutrophils = 1000"),
     ["[course.treatment] > between > neutrophils", "1000 cells/uL", "write 1."]),
    ("gate without counts", GOOD.replace("neutrophils = 1.0, ", ""),
     ["[course.treatment] > between: gate: no count is asked for"]),
    ("gate by an unknown name", re.sub(r"between = .*", 'between = "counts"', GOOD),
     ["[course.treatment] > between: 'counts' is not defined in this file"]),
    ("undefined dose", GOOD.replace('["clofarabine"', '["clofarabin"'),
     ["[course.treatment] > doses: 'clofarabin' is not defined", "did you mean 'clofarabine'"]),
    ("overlapping courses", GOOD + '[course.later]\ndoses = ["clofarabine"]\ncycle_days = 28\n'
     "start_day = 80\n",
     ["courses", "course later: it starts on day 80, but course treatment lasts to day 84"]),
    ("drug twice on one day", GOOD.replace("[course", '[dose.more]\ndrug = "clofarabine"\n'
     'amount = "1 mg"\ndays = "8"\nroute = "iv"\n[course')
     .replace('doses = ["', 'doses = ["more", "'),
     ["[course.treatment]", "clofarabine is given twice on day 8 at hour 0"]),
    ("no rule", GOOD.replace('rule = "leukemia_d42_generic"', ""),
     ["rule: cohort 'all' has no count rule", 'such as rule = "leukemia_d42_generic"']),
    ("unknown rule", GOOD.replace("leukemia_d42", "leukaemia_d42"),
     ["rule", "no card named 'leukaemia_d42_generic' (did you mean 'leukemia_d42_generic'?)"]),
    ("rule without counts", GOOD.replace("leukemia_d42_generic", "karp_2007"),
     ["rule: 'karp_2007' has no count threshold", "allowed: clara_dnx_2018"]),
    ("grades for a rule", GOOD.replace("leukemia_d42_generic", "ctcae_v5"),
     ["the card holds grades of toxicity, not a rule"]),
    ("horizon before the rule's day", GOOD.replace("horizon_days = 126", "horizon_days = 40"),
     ["horizon_days: 40 days end before the morning after day 42 of rule",
      "allowed: 43 or more"]),
    ("no hour of a dose", GOOD.replace("strengths_mg", "hour = []\nstrengths_mg"),
     ["[dose.lenalidomide] > hour: the list is empty"]),
    ("visits in cycles", GOOD.replace("horizon_days", 'visit_days = "1,4/28"\nhorizon_days'),
     ["visit_days: a cycle of 28 days; allowed: protocol days"]),
    ("unknown clock", GOOD.replace("horizon_days", 'clocks = ["treatmant"]\nhorizon_days'),
     ["clocks: 'treatmant' is no course of cohort 'all' (did you mean 'treatment'?)"]),
    ("unknown population", GOOD.replace('"rr_aml"', '"rr_alm"'),
     ["population", "no card named 'rr_alm' (did you mean 'rr_aml'?)"]),
    ("visit after the horizon",
     GOOD.replace("[dose.clo", 'visit_days = "1-130 every 7"\n[dose.clo', 1),
     ["visit_days: day 127 is after the horizon of 126 days"]),
    ("change of an unknown dose", COHORTS.replace("change.lenalidomide", "change.lenalidomid"),
     ["[[cohort]] 2 > change.lenalidomid: there is no dose or course 'lenalidomid'",
      "did you mean 'lenalidomide'"]),
    ("unknown key beside a change", COHORTS.replace("change.lenalidomide", "change.lenalidomid")
     .replace("n = 3", 'doses = ["lenalidomide"]'),
     ["[[cohort]] 2 > doses: unknown key (did you mean 'courses'?)"]),
    ("unknown course", COHORTS.replace('id = "low"', 'id = "low"\ncourses = ["treatmnt"]'),
     ["[[cohort]] 1 > courses: 'treatmnt' is not defined", "did you mean 'treatment'"]),
    ("bad value in a change", COHORTS.replace('"25 mg"', '"25 mgs"'),
     ["[[cohort]] 2 > change.lenalidomide > amount", 'unknown unit "mgs"']),
    ("two cohorts of one name", COHORTS.replace('"high"', '"low"'),
     ["[[cohort]] 2 > id: two cohorts are named 'low'"]),
    ("published numbers that contradict",
     COHORTS.replace("numerator = 1", "value = 0.5\nnumerator = 1"),
     ["[[cohort]] 2 > [[published]] 1", "the value 0.5 is not 1/3 = 0.333"]),
    ("more events than patients", COHORTS.replace("numerator = 1", "numerator = 4"),
     ["[[cohort]] 2 > [[published]] 1", "4 of 3 patients"]),
    ("modification of another drug",
     MODIFIED.replace('drug = "lenalidomide"', 'drug = "cytarabine"'),
     ["[course.treatment]", "a modification for cytarabine, which it does not give"]),
    ("contradictory modifications", MODIFIED.replace('["counts"]', '["counts", "counts"]'),
     ["[course.treatment]", "two modifications for lenalidomide contradict each other"]),
    ("ladder that does not decrease", MODIFIED.replace('"2.5 mg"]', '"7.5 mg"]'),
     ["[modification.counts]", "level 7.5 follows 5"]),
    ("ladder in another unit", MODIFIED.replace('"5 mg", ', '"5 mg/m^2", '),
     ["[modification.counts] > levels: 5 mg/m^2 is not in the unit of the dose; allowed: mg"]),
    ("resumed below the hold",
     MODIFIED.replace("levels =", "resume_at = { neutrophils = 0.5 }\nlevels ="),
     ["[modification.counts]", "resumes at neutrophils 0.5 although it holds below 1"]),
    ("status that is no status", GOOD.replace('"iv"', '"iv"\nstatus = "known"'),
     ["[dose.clofarabine] > status", "allowed: read, transcribed, derived, assumed"]),
    ("status for some keys only", GOOD.replace('"iv"', '"iv"\nstatus = { amount = "read" }'),
     ["[dose.clofarabine] > status > days: the key is missing"]),
    ("one name for a dose and a course", GOOD.replace("[course.treatment]", "[course.clofarabine]"),
     ["course.clofarabine: a dose and a course are both named 'clofarabine'"]),
    ("no doses at all", GOOD[: GOOD.index("[dose")], ["dose: the key is missing"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), [case[1:] for case in BAD], ids=[c[0] for c in BAD])
def test_bad_files_are_refused_in_one_sentence(read, tmp_path, text, parts):
    assert text not in (GOOD, COHORTS, MODIFIED)
    with pytest.raises(CardError) as error:
        read(text)
    message = str(error.value)
    assert message.startswith(str(tmp_path / "mine.toml"))
    for part in parts:
        assert part in message
    assert "\n" not in message
    assert len(message) < 900


@pytest.mark.parametrize("name", card_names("trials"))
def test_every_shipped_value_has_a_source(name):
    trial = load_trial(name)
    assert trial.id == name
    assert trial.references
    for cohort in trial.cohorts:
        for course in cohort.regimen.courses:
            for rule in course.doses:
                assert rule.source, (cohort.id, rule.drug)
                assert "as written in" not in rule.source, (cohort.id, rule.drug)
            for change in course.modifications:
                assert change.source
        for rule in rules_for(trial, cohort):
            last = clock_day_1(cohort.regimen, rule.clock) + rule.by_day - 1
            assert last <= trial.horizon_days


@pytest.mark.parametrize("name", card_names("trials"))
def test_what_is_assumed_is_said(name):
    trial = load_trial(name)
    for cohort in trial.cohorts:
        for course in cohort.regimen.courses:
            for rule in course.doses:
                if rule.status == "assumed":
                    assert any("assumed" in text for text in trial.assumptions)
    if not trial.rule_is_protocols:
        assert trial.rule_note
        assert load_rule(trial.rule).status == "assumed"


SCHEMA = Path(__file__).parents[2] / "models" / "SCHEMA.md"


def test_the_example_in_the_format_description_is_a_valid_file(read):
    section = SCHEMA.read_text(encoding="utf-8").split("## Trial files")[1].split("\n## ")[0]
    (example,) = re.findall(r"```toml\n(.*?)```", section, flags=re.DOTALL)
    trial = read(example)
    assert len(trial.cohorts) == 2


def test_a_rule_counts_from_the_first_dose_that_is_no_placebo(read):
    """As its clock does: with day 45 as the last nobody could be judged."""
    early = '[dose.placebo]\namount = "1 mg"\ndays = "1-3"\nroute = "oral"\n[course.treatment]'
    text = GOOD.replace("[course.treatment]", early).replace("doses = [", 'doses = ["placebo", ')
    later = text.replace('"1, 8, 15"', '"8, 15"').replace('"1-21"', '"8-21"')
    for content, day in ((text, 1), (later, 8)):
        (cohort,) = read(content).cohorts
        assert clock_day_1(cohort.regimen, "first_dose") == day
    with pytest.raises(CardError, match=r"45 days end before .* that of day 50 in cohort 'all'"):
        read(later.replace("horizon_days = 126", "horizon_days = 45"))


@pytest.mark.parametrize(
    ("key", "above", "words"),
    [
        ("strengths_mg = []", "[dose.lenalidomide]", "strengths_mg: the list is empty"),
        ("clocks = []", "[dose.clofarabine]", "clocks: the list is empty"),
        ('clocks = ["treatment", "treatment"]', "[dose.clofarabine]", "clocks: two are the same"),
    ],
)
def test_lists_that_say_nothing_are_refused(read, key, above, words):
    with pytest.raises(CardError, match=words):
        read(GOOD.replace(above, f"{key}\n{above}"))


def test_a_dose_or_a_modification_that_no_course_names_is_told(read, tmp_path):
    alone = GOOD.replace('doses = ["clofarabine", "lenalidomide"]', 'doses = ["clofarabine"]')
    trial = read(alone)
    assert trial.unnamed == ("dose lenalidomide is in no course and does nothing",)
    (said,) = check_as_compared(tmp_path / "mine.toml")
    assert "dose lenalidomide is in no course and does nothing; use it" in said
    population = load_population("rr_aml")
    assert simulated_text(trial, population, "leukaemia").endswith(trial.unnamed[0])
    idle = read(MODIFIED.replace('\nmodifications = ["counts"]', ""))
    assert idle.unnamed == ("modification counts is in no course and does nothing",)
    assert read(MODIFIED).unnamed == ()
    gate = "\n[gate.late]\nneutrophils = 1.0\n"
    assert read(GOOD + gate).unnamed == ("gate late is in no course and does nothing",)
    course = '\n[course.more]\ndoses = ["clofarabine"]\ncycle_days = 28\ngate = "late"\n'
    cohort = '\n[[cohort]]\nid = "a"\ncourses = ["treatment"]\n'
    found = read(GOOD + gate + course + cohort).unnamed
    assert found == ("course more is in no cohort and does nothing",)
    longer = GOOD.replace("horizon_days = 126", "horizon_days = 170")
    assert read(longer + gate + course).unnamed == ()
    once = read(GOOD.replace("cycles = 2", "cycles = 1"))
    assert once.unnamed == ("between of course treatment has no later cycle and does nothing",)
    # a cohort's own change of a course names it, too
    both = 'id = "both"\nchange.treatment = { doses = ["clofarabine", "lenalidomide"] }\n'
    trial = read(f'{alone}\n[[cohort]]\nid = "one"\n\n[[cohort]]\n{both}')
    assert [len(c.regimen.drugs) for c in trial.cohorts] == [1, 2]
    assert trial.unnamed == ()
