"""All problems of a file are found, and what follows from one of them is not told again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkpd.cards import card_folder, card_names, contents
from pkpd.comparison.scenario import check_file

EIGHT = """
title = "t"
population = "nope"
rule = "nope2"
horizon_days = -4
bogus = 3
[dose.lenalidomide]
amount = "10 furlong"
days = "0-21/28"
route = "nasal"
[course.treatment]
doses = ["lenalidomid"]
cycle_days = 28
cycles = 2
"""

GOOD = """
title = "t"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 120
[dose.lenalidomide]
amount = "10 mg"
days = "1-21/28"
route = "oral"
[course.treatment]
doses = ["lenalidomide"]
cycles = 2
"""


def problems(folder, text):
    (folder / "mine.toml").write_text(text)
    return check_file(folder / "mine.toml")


def test_eight_mistakes_are_eight_sentences(tmp_path):
    found = problems(tmp_path, EIGHT)
    words = ("furlong", "day 0", "nasal", "lenalidomid'", "-4 is out", "'nope'", "bogus", "'nope2'")
    assert len(found) == len(words)
    for word in words:
        assert sum(word in text for text in found) == 1, word
    assert all(text.startswith(str(tmp_path / "mine.toml")) for text in found)


def test_one_misspelt_dose_of_a_course_leaves_the_others_known(tmp_path):
    more = '[dose.clofarabine]\namount = "20 mg/m^2"\ndays = "1-5"\nroute = "iv"\n[course.'
    text = GOOD.replace("[course.", more)
    text = text.replace('["lenalidomide"]', '["clofarabin", "lenalidomide"]')
    text += '[[cohort]]\nid = "a"\nchange.lenalidomide = { amount = "5 mg" }\n'
    (one,) = problems(tmp_path, text)
    assert "'clofarabin'" in one


def test_a_good_file_has_no_problem(tmp_path):
    assert problems(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({'"10 mg"': '"10 furlong"'}, ["furlong"]),
        ({"cycles = 2": "cycels = 2"}, ["did you mean 'cycles'"]),
        ({'"1-21/28"': '"0-21/28"'}, ["day 0"]),  # the cycle length goes with it: not told
        ({'"1-21/28"': "2020-01-01"}, ["2020-01-01 is not days"]),
        ({'"1-21/28"': '[1, "x y"]'}, ["'x y' is not a whole day"]),
        ({"120": '"120"', "cycles = 2": "cycles = 1.5"}, ["not a number", "not a whole number"]),
        ({"[dose.lenalidomide]": "[dose.lenalidomid]"}, ["there is no card for drug", "doses"]),
        (
            {'"1-21/28"': '"1-21"\nstrengths_mg = []', "cycles": "cycle_days = 0\ncycles"},
            ["strengths_mg: the list is empty", "cycle_days: 0 is out of range"],
        ),
        (
            {
                "cycles = 2": "cycles = 2\nstart_day = 0\n[course.b]\ndoses = ['lenalidomide']\n"
                "start_day = 9999"
            },
            ["start_day: 0 is out of range", "start_day: 9999 is out of range"],
        ),
        ({'"rr_aml"': '"rr_amll"', '"oral"': '"iv"'}, ["did you mean 'rr_aml'", "no model for"]),
    ],
)
def test_mistakes_are_told_once_each(tmp_path, changes, words):
    text = GOOD
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    found = problems(tmp_path, text)
    assert len(found) == len(words), found
    for word in words:
        assert any(word in one for one in found), word


def test_a_drug_card_is_checked_with_the_files_it_names(tmp_path):
    text = (Path(str(card_folder("drugs"))) / "etoposide.toml").read_text()
    text = text.replace('"etoposide"', '"mine"')
    text = text.replace('"freyer2000_etoposide"', '"gone_pk.toml"')
    text = text.replace('"etoposide_kill"', '"gone_effect.toml"')
    found = problems(tmp_path, text)
    assert "pk: " in found[0]
    assert "there is no such file" in found[0]
    assert "gone_pk.toml" in found[0]


def test_nested_brackets_are_one_sentence(tmp_path):
    (found,) = problems(tmp_path, "a = " + "[" * 2000 + "]" * 2000)
    assert "too deep" in found


@pytest.mark.parametrize("text", ["{0} = 1", "[{0}]", "x = {{{0} = 1}}", "a = 1\n 'b' . {0}.c = 1"])
def test_a_key_of_many_dots_is_refused_before_it_is_read(monkeypatch, tmp_path, text):
    def reads(text):
        raise AssertionError("this takes the square of the dots")

    monkeypatch.setattr(contents.tomllib, "loads", reads)
    (found,) = problems(tmp_path, text.format("a" + ".a" * 20_000))
    assert "too deep" in found


def test_dots_of_a_text_are_no_levels(tmp_path):
    text = 'title = "' + "a sentence. " * 60 + '"\nnote = "' + "." * 300 + '"'
    assert contents.parsed_toml(text)["note"] == "." * 300


def test_all_shipped_files_are_good():
    for kind in ("drugs", "populations", "leukaemia", "evidence", "trials", "schedules"):
        for name in card_names(kind):
            assert check_file(str(card_folder(kind) / f"{name}.toml")) == [], name


def test_a_key_without_a_stand_in_and_missing_tables_hide_nothing(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'title = "mine"\npopulation = "mds_lower"\nrule = "leukemia_d42_gener"\n'
        'horizon_days = 60\nhorizn = 3\n[dose.len]\ndrug = "lenalidomid"\n'
        'amount = "25 mgg"\ndays = "0-21"\nroute = "orl"\nstrength = 3\n'
        '[course.c]\ndoses = ["len"]\ncycle_days = "28"\ncolour = 2\n'
    )
    told = check_file(file)
    assert len(told) == 10
    for key in ("strength", "colour", "horizn", "population", "rule", "drug", "cycle_days"):
        assert any(f"{key}: " in text for text in told), key
    file.write_text('phase = "1"\n')
    missing = [text.split(": ")[1] for text in check_file(file)]
    assert missing == ["title", "dose", "course", "horizon_days", "population", "rule"]
