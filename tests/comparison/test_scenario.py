"""Scenario files: what they may say, and one sentence for everything else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pkpd.cards.files import card_folder, card_names
from pkpd.cards.tables import read_toml
from pkpd.cli import app
from pkpd.comparison import marrow_choice
from pkpd.comparison import run as run_module
from pkpd.comparison.check import check_as_compared
from pkpd.comparison.scenario import (
    Variant,
    check_file,
    default_scenario,
    load_scenario,
    with_overrides,
)
from pkpd.errors import PkpdError
from pkpd.evidence.posterior.shipped import shipped_posterior

GOOD = """
kind = "scenario"
question = "Which is safer?"
trials = ["mine.toml"]
"""

BAD = [
    ("unknown key", GOOD + "patiens = 3", "patiens: unknown key (did you mean 'patients'?)"),
    ("no question", GOOD.replace("question", "# question"), "question: the key is missing"),
    ("no trials", GOOD.replace('trials = ["mine.toml"]', ""), "trials: the key is missing"),
    ("empty trials", GOOD.replace('"mine.toml"', ""), "trials: no trial is named"),
    (
        "unknown trial",
        GOOD.replace("mine.toml", "nct0168153"),
        "trials, item 1: cards of trials: there is no card named 'nct0168153' (did you mean "
        "'nct01681537_len_mec'?)",
    ),
    (
        "missing file",
        GOOD.replace("mine", "min"),
        "there is no such file (did you mean 'mine.toml'?)",
    ),
    (
        "trial twice",
        GOOD.replace('["mine.toml"]', '["mine.toml", "mine.toml"]'),
        "trials, item 2: 'mine.toml' is named twice",
    ),
    (
        "cohort that does not exist",
        GOOD + 'cohorts = ["10 mg", "25mg"]',
        "cohorts, item 2: no trial of the scenario has a cohort '25mg' (did you mean '25 mg'?)",
    ),
    (
        "pair with itself",
        GOOD + '[[pair]]\nfirst = "10 mg"\nsecond = "10 mg"',
        "[[pair]] 1 > second: '10 mg' is compared with itself; name another cohort",
    ),
    (
        "pair of a cohort that is not run",
        GOOD + 'cohorts = ["10 mg"]\n[[pair]]\nfirst = "10 mg"\nsecond = "25 mg"',
        '[[pair]] 1 > second: "25 mg" is not allowed',
    ),
    (
        "pair across trials",
        GOOD.replace('"mine.toml"', '"mine.toml", "nct01673308_lenalidomide_mds"')
        + '[[pair]]\nfirst = "10 mg"\nsecond = "all"',
        "[[pair]] 1 > second: 'all' and '10 mg' are cohorts of different trials",
    ),
    (
        "duplicate variant",
        GOOD + '[[variant]]\nname = "a"\n[[variant]]\nname = "a"',
        "[[variant]] 2 > name: two variants are named 'a'; rename one",
    ),
    ("variant without name", GOOD + "[[variant]]\n", "[[variant]] 1 > name: the key is missing"),
    (
        "unknown key in a variant",
        GOOD + '[[variant]]\nname = "a"\nrules = "x"',
        "[[variant]] 1 > rules: unknown key",
    ),
    (
        "unknown option",
        GOOD + "[options]\nrenal_chen = true",
        "options: option 'renal_chen': no trial that is run has this option (did you mean "
        "'lenalidomide.renal_chen2007'?)",
    ),
    (
        "option that is not a switch",
        GOOD + '[options]\nlenalidomide.renal_chen2007 = "on"',
        "options: option 'lenalidomide.renal_chen2007': 'on' is not True or False",
    ),
    (
        "option with a number",
        GOOD + "[options]\ntransfusion = 1",
        "options > transfusion: 1 is not text",
    ),
    (
        "unknown combination",
        GOOD + '[[variant]]\nname = "a"\noptions = { combination = "loewe" }',
        "[[variant]] 1 > options > combination: option combination: 'loewe'; allowed: additive",
    ),
    (
        "card of the wrong drug",
        GOOD + '[cards]\n"lenalidomide.pk" = "nijstad2021_clofarabine"',
        "cards: pk card 'nijstad2021_clofarabine': is of clofarabine, not lenalidomide",
    ),
    (
        "card of a drug that is not given",
        GOOD + '[cards]\n"clofarabine.pk" = "nijstad2021_clofarabine"',
        "cards: card 'clofarabine.pk': no trial that is run has this card",
    ),
    (
        "card that does not exist",
        GOOD + '[cards]\nlenalidomide.pk = "liang"',
        "cards: cards of pk: there is no card named 'liang' (did you mean 'liang2024_lenalidomide'",
    ),
    ("unknown rule", GOOD + 'rule = "d42"', "rule: cards of rules: there is no card named 'd42'"),
    (
        "rule after the horizon",
        GOOD.replace("mine.toml", "short.toml") + 'rule = "leukemia_d56_generic"',
        "rule: trial short, cohort 10 mg: horizon_days is 50, before day 57, whose morning "
        "rule leukemia_d56_generic needs (end of day 56 from first_dose); set horizon_days to at "
        "least 57",
    ),
    (
        "unknown population",
        GOOD + 'population = "mds"',
        "population: cards of populations: there is no card named 'mds'",
    ),
    ("no patients", GOOD + "patients = 0", "patients: 0 is out of range; allowed: a whole number"),
    ("half a draw", GOOD + "draws = 2.5", "draws: 2.5 is not a whole number"),
    ("not TOML", GOOD + "trials =", "not valid TOML"),
]


@pytest.fixture(scope="module")
def place(folder):
    text = (folder / "mine.toml").read_text()
    (folder / "short.toml").write_text(text.replace("horizon_days = 60", "horizon_days = 50"))
    return folder


@pytest.mark.parametrize(("text", "part"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_files_are_one_sentence_and_write_nothing(text, part, place, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "_run_trial", lambda *a: pytest.fail("it ran"))
    path = place / "bad.toml"
    path.write_text(text)
    out = tmp_path / "out"
    told = CliRunner().invoke(app, ["compare", str(path), "--out", str(out)])
    assert told.exit_code == 2, told.output
    assert told.stdout == ""
    assert told.stderr.count("\n") == 1
    assert told.stderr.startswith(f"pkpd: {path}: ")
    assert part in told.stderr
    assert not out.exists()
    # `pkpd check` tells the same
    assert [f"pkpd: {problem}\n" for problem in check_file(path)] == [told.stderr]


def test_a_good_file_is_read_with_its_common_assumptions(place):
    path = place / "good.toml"
    path.write_text(
        GOOD
        + """
title = "T"
rule = "len_mec_2018"
[options]
transfusion = false
lenalidomide.renal_chen2007 = true
[cards]
"lenalidomide.pk" = "hughes2019_lenalidomide"
[[variant]]
name = "a"
[[variant]]
name = "b"
rule = "leukemia_d42_generic"
options = { lenalidomide.renal_chen2007 = false }
"""
    )
    got = load_scenario(path)
    a, b = got.variants
    assert (a.name, b.name) == ("a", "b")
    assert a.options == {"transfusion": False, "lenalidomide.renal_chen2007": True}
    assert b.options == {"transfusion": False, "lenalidomide.renal_chen2007": False}
    assert a.cards == b.cards == {"lenalidomide.pk": "hughes2019_lenalidomide"}
    assert (a.rule, b.rule) == ("len_mec_2018", "leukemia_d42_generic")
    assert got.name == "good"
    assert check_file(path) == []


def test_a_variant_keeps_what_it_sets_itself(place):
    """Else all would be one under different names; what stands at the top is replaced."""
    path = place / "kept.toml"
    top = (
        GOOD
        + """
rule = "len_mec_2018"
[options]
transfusion = false
"""
    )
    variants = """
[[variant]]
name = "as usual"
[[variant]]
name = "kidneys"
options = { renal_chen2007 = true }
[[variant]]
name = "other"
rule = "leukemia_d42_generic"
cards = { neutrophils = "kloft2006_docetaxel" }
options = { transfusion = false }
"""
    path.write_text(top + variants)
    read = load_scenario(path)
    asked = {
        "rule": "neutropenia_7_days",
        "options": {"transfusion": True, "lenalidomide.renal_chen2007": False},
        "cards": {"neutrophils": "quartino2014_docetaxel"},
    }
    usual, kidneys, other = with_overrides(read, **asked).variants
    assert {k: getattr(usual, k) for k in asked} == asked
    assert kidneys.options == {"transfusion": True, "renal_chen2007": True}
    assert (kidneys.rule, kidneys.cards) == (asked["rule"], asked["cards"])
    assert (other.rule, other.cards) == (read.variants[2].rule, read.variants[2].cards)
    assert other.options == {"transfusion": False, "lenalidomide.renal_chen2007": False}
    one = replace(read, variants=read.variants[2:])
    for key in ("rule", "cards"):
        with pytest.raises(PkpdError, match=r"each variant \('other'\) sets .* itself, and keeps"):
            with_overrides(one, **{key: asked[key]})
    # those of Python have all that they are given
    mine = Variant(name="mine", rule="leukemia_d42_generic")
    both = replace(read, variants=(mine, Variant(rule="leukemia_d42_generic")))
    assert [v.rule for v in with_overrides(both, rule=asked["rule"]).variants] == [
        "leukemia_d42_generic",
        asked["rule"],
    ]


def _own_population(place, name, without):
    """Write a copy of a shipped population without some of its tables and keys."""
    text = (Path(str(card_folder("populations"))) / "rr_aml.toml").read_text()
    head, *tables = re.split(r"\n(?=\[)", text)
    kept = [table for table in tables if not any(word in table for word in without)]
    lines = [line for line in head.splitlines() if not line.startswith(without)]
    text = "\n".join([*lines, *kept]).replace('name = "rr_aml"', f'name = "{name}"')
    (place / f"{name}.toml").write_text(text)


@pytest.mark.parametrize(
    ("without", "more", "words"),
    [
        (('"anc"', "covariates.anc"), 'marrow = "friberg"', "'anc' is missing; add the covariate"),
        (("disease =",), "", "names no disease, which the marrow with leukaemia needs"),
        ((), '[cards]\nneutrophils = "kloft2006_docetaxel"', "is one of the marrow without leuk"),
    ],
)
def test_check_finds_what_a_comparison_would_refuse(
    place, tmp_path, monkeypatch, without, more, words
):
    monkeypatch.setattr(marrow_choice, "shipped_posterior", shipped_posterior)
    _own_population(tmp_path, "own", without)
    trial = (place / "mine.toml").read_text()
    trial = re.sub('population = ".*"', 'population = "own.toml"', trial)
    trial = re.sub("(?m)^disease = .*$", "", trial)
    (tmp_path / "mine.toml").write_text(trial)
    path = tmp_path / "s.toml"
    path.write_text(GOOD + more)
    assert check_file(path) == []
    (found,) = check_as_compared(path)
    assert words in found
    with pytest.raises(PkpdError, match=re.escape(words)):
        run_module.compare(path, patients=4, draws=2)
    shipped = Path(str(card_folder("trials"))) / "nct01681537_len_mec.toml"
    assert check_as_compared(shipped) == []
    assert check_as_compared(card_folder("drugs") / "lenalidomide.toml") == []


def test_a_trial_file_is_a_scenario_of_its_own(place):
    got = load_scenario(str(place / "mine.toml"))
    assert [t.id for t in got.trials] == ["mine"]
    assert len(got.variants) == 1
    assert check_file(place / "mine.toml") == []
    assert load_scenario("nct01681537_len_mec").trials[0].id == "nct01681537_len_mec"


def test_the_default_is_the_shipped_file():
    default, shipped = default_scenario(), load_scenario("five_trials")
    assert [t.id for t in default.trials] == [t.id for t in shipped.trials]
    assert len(default.trials) == 5
    assert default.variants == shipped.variants


@pytest.mark.parametrize("name", card_names("schedules"))
def test_every_shipped_scenario_is_good_and_states_its_question(name):
    path = Path(str(card_folder("schedules") / f"{name}.toml"))
    assert check_file(path) == []
    scenario = load_scenario(name)
    if read_toml(path).data.get("kind") == "scenario":
        assert scenario.question.endswith("?")
        assert len(scenario.different_answer) > 40
        assert scenario.title


def test_shipped_populations_of_scenarios_are_good():
    files = sorted(Path(str(card_folder("schedules"))).glob("populations/*.toml"))
    assert len(files) == 2
    for path in files:
        assert check_file(path) == []


def test_every_shipped_file_is_good() -> None:
    """Cards of every kind, leukaemia and evidence included, pass the check of the command line."""
    root = Path(__file__).parents[2]
    files = sorted((root / "models").rglob("*.toml"))
    assert len(files) > 40
    assert {str(path): found for path in files if (found := check_file(path))} == {}


@pytest.mark.parametrize(
    ("folder", "file", "old", "new", "said"),
    [
        ("leukaemia", "blasts.toml", "unit = ", "unitt = ", "unit"),
        ("evidence", "populations.toml", "age = 73", 'age = "old"', "age"),
    ],
)
def test_mistakes_in_leukaemia_and_evidence_files_are_told(
    tmp_path: Path, folder: str, file: str, old: str, new: str, said: str
) -> None:
    text = (Path(__file__).parents[2] / "models" / folder / file).read_text(encoding="utf-8")
    changed = tmp_path / file
    changed.write_text(text.replace(old, new, 1), encoding="utf-8")
    (problem,) = check_file(changed)
    assert said in problem
    assert file in problem


def test_trials_whose_files_would_have_one_name_are_refused():
    run_module.check_file_names(["a", "b c", "b-d"])
    for first, second, name in (("b c", "b-c", "b-c"), ("%", "?", "trial")):
        with pytest.raises(PkpdError, match=f"have one name, {name}; give one of them another id"):
            run_module.check_file_names([first, second])
