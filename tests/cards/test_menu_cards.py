"""Menus: a grid is what its combinations written out would be, and bad ones are one sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import pkpd
from pkpd.cards import load_trial
from pkpd.comparison.scenario import check_file
from pkpd.errors import CardError, PkpdError
from pkpd.search import Limit, load_menu, menu_of

FILE = """
kind = "menu"
title = "A menu"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 120

[dose.clofarabine]
amount = "10 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"

[dose.lenalidomide]
amount = "10 mg"
days = "8-21"
route = "oral"

[gate.back]
neutrophils = 0.5

[modification.counts]
drug = "lenalidomide"
hold_below = { neutrophils = 0.5 }
resume_at = { neutrophils = 1.0 }

[course.treatment]
doses = ["clofarabine", "lenalidomide"]
cycle_days = 42
cycles = 2
between = "back"

[growth_factor]
drug = "filgrastim"
below = 0.5
"""
GRID = """
[grid.lenalidomide]
amount = ["5 mg", "10 mg"]
days = ["8-21", "8-28"]

[grid.treatment]
cycle_days = [35, 42]
between = ["none", "back"]
modifications = [[], ["counts"]]

[grid.growth_factor]
given = [false, true]
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    def write(*parts):
        path = tmp_path / "menu.toml"
        path.write_text("".join(parts))
        return path

    return write


def test_a_grid_has_every_combination_as_a_cohort_would_have_it(file):
    menu = load_menu(file(FILE, GRID))
    assert len(menu.members) == 2 * 2 * 2 * 2 * 2 * 2
    assert {name: len(set(words)) for name, words in menu.axes.items()} == dict.fromkeys(
        ("lenalidomide.amount", "lenalidomide.days", "treatment.cycle_days", "treatment.between",
         "treatment.modifications", "growth_factor.given"), 2)  # fmt: skip
    by_hand = (
        FILE.replace('kind = "menu"', "")
        + """
[[cohort]]
id = "one"
change.lenalidomide = { amount = "5 mg", days = "8-28" }
change.treatment = { cycle_days = 35, between = "none", modifications = ["counts"] }
"""
    )
    (wanted,) = load_trial(file(by_hand)).cohorts
    name = "5 mg, days 8-28, 35-day cycle, no gate between cycles, reductions counts"
    with_factor, without = (
        next(m for m in menu.members if m.id == f"{name}, {words}growth factor")
        for words in ("", "no ")
    )
    assert with_factor.regimen == wanted.regimen == without.regimen
    assert wanted.regimen.courses[0].between is None
    policies = {t.growth_factor.below: {c.id for c in t.cohorts} for t in menu.trials}
    assert with_factor.id in policies[0.5]
    assert without.id in policies[0.0]
    assert len(policies[0.5]) == len(policies[0.0]) == 32


def test_cohorts_and_a_grid_cross(file):
    rows = (
        '[[cohort]]\nid = "a"\n[[cohort]]\nid = "b"\nchange.clofarabine = { amount = "5 mg/m^2" }'
    )
    menu = load_menu(file(FILE, rows, '\n[grid.lenalidomide]\namount = ["5 mg", "10 mg"]'))
    assert [m.id for m in menu.members] == ["a, 5 mg", "b, 5 mg", "a, 10 mg", "b, 10 mg"]
    amounts = [[d.amount for d in m.regimen.courses[0].doses] for m in menu.members]
    assert amounts == [[10.0, 5.0], [5.0, 5.0], [10.0, 10.0], [5.0, 10.0]]


def test_combinations_that_are_the_same_schedule_are_left_out(file):
    grid = """
[grid.growth_factor]
given = [true, false]
below = [0.5, 1.0]
"""
    menu = load_menu(file(FILE, grid))
    assert [t.growth_factor.below for t in menu.trials] == [0.5, 1.0, 0.0]
    assert len(menu.members) == 3
    assert "1 combination" in menu.notes[0]
    said = [m.id for m in menu.members]
    assert said == [*(f"growth factor, growth factor below {n}" for n in (0.5, 1.0)),
                    "no growth factor"]  # fmt: skip
    assert menu.axes["growth_factor.below"][2] == ""


def test_a_schedule_file_and_regimens_are_menus(file):
    plain = FILE.replace('kind = "menu"', "") + '[[cohort]]\nid = "a"\n[[cohort]]\nid = "b"\n'
    assert [m.id for m in load_menu(file(plain)).members] == ["a", "b"]
    assert len(load_menu("nct01681537_len_mec").members) == 6
    days = {
        f"{n}": pkpd.daily("lenalidomide", "10 mg", days=f"1-{n}", route="oral") for n in (7, 14)
    }
    menu = menu_of(days, "rr_aml", "leukemia_d42_generic", 60, keep=2)
    assert [m.regimen for m in menu.members] == list(days.values())


def test_days_of_a_menu_of_regimens_count_from_the_clock_of_its_rule(tmp_path):
    rule = 'kind = "rule"\nrecovered = { platelets = 50 }\nby_day = 42\nclock = "lenalidomide"\n'
    (tmp_path / "late.toml").write_text(rule)
    days = {
        f"{n}": pkpd.daily("lenalidomide", "10 mg", days=f"1-{n}", route="oral") for n in (7, 14)
    }
    menu = menu_of(days, "rr_aml", str(tmp_path / "late.toml"), 60)
    assert {m.clocks for m in menu.members} == {("lenalidomide",)}


def test_shipped_menus_are_good_and_say_what_they_vary():
    for path in sorted((ROOT / "benchmarks/menus").glob("*.toml")):
        menu = load_menu(path)
        assert 30 <= len(menu.members) <= 50
        grid = tomllib.loads(path.read_text())["grid"]
        assert len(menu.axes) == sum(len(table) for table in grid.values())


WRONG = {
    "a million": (
        "[grid.lenalidomide]\namount = [{}]\nhour = [{}]\n".format(
            ", ".join(f'"{n} mg"' for n in range(1, 1001)),
            ", ".join(str(n / 50) for n in range(1000)),
        ),
        r"\[grid\]|grid: 1,000,000 schedules; allowed: 2 to 400; leave out values",
    ),
    "an unknown dose": (
        '[grid.lenalidomid]\namount = ["5 mg"]',
        r"no dose or course 'lenalidomid' \(did you mean 'lenalidomide'",
    ),
    "an amount without unit": (
        '[grid.lenalidomide]\namount = ["5 mg", "10"]',
        r"\[grid.lenalidomide\] > item 2 > amount: dose .10.: it has no unit",
    ),
    "an unknown key": ("[grid.treatment]\ncycle_dys = [28]", r"cycle_dys.*did you mean"),
    "no list": ("[grid.treatment]\ncycle_days = 28", r"28 are no values.*a list"),
    "a value twice": ("[grid.treatment]\ncycle_days = [42, 42]", r"'42-day cycle' is there twice"),
    "days after the cycle": (
        '[grid.lenalidomide]\ndays = ["8-21", "8-50"]',
        r"lenalidomide on day 50 is after the end of the 42-day cycle",
    ),
    "an unknown gate": (
        '[grid.treatment]\nbetween = ["none", "bck"]',
        r"'bck' is not defined in this file \(did you mean 'back'",
    ),
    "nothing to choose from": ("", r"1 schedule: there is nothing to choose from"),
    "an impossible limit": (
        "[grid.treatment]\ncycle_days = [35, 42]\n[[limit]]\nat_most = 1.2",
        r"\[\[limit\]\] 1.*1.2; allowed: above 0, below 1",
    ),
    "a limit on both sides": (
        "[grid.treatment]\ncycle_days = [35, 42]\n[[limit]]\nat_most = 0.2\nat_least = 0.1",
        r"it needs one of at_most and at_least",
    ),
    "a limit of nothing": (
        '[grid.treatment]\ncycle_days = [35, 42]\n[[limit]]\nof = "dtl"\nat_most = 0.2',
        r"did you mean 'dlt'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_menus_are_one_sentence(case, file):
    text, message = WRONG[case]
    path = file(FILE, text)
    with pytest.raises(PkpdError, match=message) as caught:
        load_menu(path)
    assert str(caught.value).startswith((str(path), "menu menu"))
    assert "\n" not in str(caught.value)
    assert check_file(path)


def test_a_drug_without_a_card_is_refused(file):
    with pytest.raises(CardError, match=r"\[dose.lenalidomidum\].*no card|lenalidomidum"):
        load_menu(file(FILE.replace("dose.lenalidomide]", "dose.lenalidomidum]"), GRID))


@pytest.mark.parametrize("value", ["5", '["a"]', "[[1, 2]]"])
def test_a_growth_factor_that_is_no_table_is_refused_at_its_place(value, file):
    text = FILE[: FILE.index("[growth_factor]")]
    path = file(text.replace('title = "A menu"', f'title = "A menu"\ngrowth_factor = {value}'))
    with pytest.raises(CardError, match=r"\[?growth_factor\]?: .* is not a table"):
        load_menu(path)
    assert check_file(path)


def test_objectives_and_probabilities_are_checked(file):
    top = FILE.replace('title = "A menu"', 'title = "A menu"\nobjectives = ["remision"]')
    with pytest.raises(PkpdError, match=r"'remision' is no measure .did you mean 'remission'"):
        load_menu(file(top, GRID))
    with pytest.raises(PkpdError, match=r"a probability of 1.5; allowed: between 0 and 1"):
        Limit("dlt", at_most=0.25, probability=1.5)
    with pytest.raises(PkpdError, match=r"no such measure.*did you mean 'death'"):
        Limit("deth", at_most=0.25)


def test_other_commands_name_the_right_one(file):
    with pytest.raises(PkpdError, match=r"takes no menu file.*use pkpd search"):
        pkpd.load_scenario(file(FILE, GRID))
    with pytest.raises(PkpdError, match=r"pkpd search takes no design file.*use pkpd design"):
        load_menu(ROOT / "benchmarks/designs/boin.toml")
