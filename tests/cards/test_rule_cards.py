"""Rule, grade and response cards against the published wording and numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pkpd.cards import load_grades, load_response_criteria, load_rule, load_rules
from pkpd.cards.rule_cards import rules_with_counts
from pkpd.errors import CardError
from pkpd.schedule import LINES

# name -> thresholds (neutrophils, platelets) and day, typed from the wording in `quote`
WORDED = {
    "ida_esc_2015": (0.5, 20.0, 42),
    "pomalidomide_solid": (1.5, 75.0, 35),
    "leukemia_d42_generic": (0.5, 20.0, 42),
    "leukemia_d56_generic": (0.5, 25.0, 56),
}


def test_every_rule_of_the_literature_has_a_card():
    assert set(load_rules()) == {
        "aza_len_stop", "clara_dnx_2018", "ezn2208", "faderl_cia_2005", "ida_esc_2015",
        "karp_2007", "kevetrin", "len_mec_2018", "leukemia_d42_generic", "leukemia_d56_generic",
        "neutropenia_7_days", "oral_clo_nhl", "paed_rolling6", "plerixafor_73",
        "pomalidomide_solid",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(load_rules()))
def test_every_rule_says_where_it_is_from(name):
    rule = load_rule(name)
    assert rule.name == name
    assert all((rule.quote, rule.disease, rule.source))
    assert "as written in" not in rule.source
    assert rule.can_be_simulated == bool(rule.criteria)


@pytest.mark.parametrize(("name", "expected"), WORDED.items())
def test_thresholds_and_days(name, expected):
    rule = load_rule(name)
    counts = {criterion.line: criterion.at_least for criterion in rule.criteria}
    assert (counts["neutrophils"], counts["platelets"], rule.by_day) == expected


def test_rules_against_the_reference_table(reference):
    """Thresholds and days of the compiled table, where it prints plain numbers."""
    text = (reference / "trial_level.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|(.+)\|$", text, flags=re.MULTILINE)
    checked = 0
    for name, row in rows:
        cells = [cell.strip() for cell in row.split("|")]
        rule = load_rule(name)
        counts = {criterion.line: criterion.at_least for criterion in rule.criteria}
        for cell, line in ((cells[2], "neutrophils"), (cells[3], "platelets")):
            if re.fullmatch(r"[\d.]+", cell) and line in counts:
                assert counts[line] == float(cell), (name, line)
                checked += 1
        if re.fullmatch(r"\d+", cells[4]):
            assert rule.by_day == int(cells[4]), name
            checked += 1
    assert len(rows) == 14
    assert checked >= 14


def test_assumed_parts_of_a_rule_are_named():
    rule = load_rule("len_mec_2018")
    assert rule.by_day == 45
    assert rule.status == "assumed"
    assert rule.note.startswith("Assumed: recovered, join,")


def test_durations_are_per_line():
    rule = load_rule("ezn2208")
    assert rule.kind == "low_count_duration"
    assert dict(zip([c.line for c in rule.criteria], rule.duration_days, strict=True)) == {
        "neutrophils": 6.0,  # "for more than 5 days", counted once a day
        "platelets": 0.0,
    }
    assert load_rule("kevetrin").duration_days == (8.0, 0.0)
    assert load_rule("pomalidomide_solid").nadir_below == (0.5, 25.0)
    assert load_rule("paed_rolling6").transfusion_days == 2


def test_ctcae_limits():
    grades = load_grades("ctcae_v5")
    assert grades.scale("neutrophils").below[1:] == (1.5, 1.0, 0.5)
    assert grades.scale("platelets").below[1:] == (75.0, 50.0, 25.0)
    assert not grades.scale("platelets").relative


def test_iwcll_grades_platelets_by_their_fall():
    scale = load_grades("iwcll_2008").scale("platelets")
    assert scale.relative
    assert scale.below == (0.89, 0.75, 0.5, 0.25)  # falls of 11, 25, 50, 75 percent
    assert scale.always_grade_4_below == 20.0
    assert [load_grades("iwcll_2008").scale(line).evaluable_from for line in LINES] == [1.0, 0.0]


def test_eln_2022_order_and_counts():
    criteria = load_response_criteria("eln_2022")
    assert [response.code for response in criteria.responses] == ["CR", "CRh", "CRi", "MLFS", "PR"]
    counts = {
        r.code: {c.line: c.at_least for c in r.criteria} for r in criteria.responses if r.criteria
    }
    assert counts["CR"] == {"neutrophils": 1.0, "platelets": 100.0}
    assert counts["CRh"] == {"neutrophils": 0.5, "platelets": 50.0}
    assert criteria.response("CRi").join == "any"
    assert "CRh" not in [r.code for r in load_response_criteria("eln_2017").responses]


def test_an_unknown_rule_lists_rules_alone():
    with pytest.raises(CardError, match="there is no card named 'len_mec'") as told:
        load_rule("len_mec")
    assert "did you mean 'len_mec_2018'" in str(told.value)
    assert "eln_2022" not in str(told.value)
    assert "ctcae_v5" not in str(told.value)
    with pytest.raises(CardError, match="grades of toxicity, not a rule; allowed: ") as told:
        load_rule("ctcae_v5")
    assert ", ".join(rules_with_counts()) in str(told.value)
    assert "karp_2007" not in str(told.value)
    with pytest.raises(CardError, match="allowed: ctcae_v5, iwcll_2008; or"):
        load_grades("ctcae_v4")


def test_iwg_improvement_of_counts():
    criteria = load_response_criteria("iwg_2006_mds")
    improvements = {i.code: i for i in criteria.improvements}
    low, high = improvements["HI-P"].steps
    assert (low.rise_fraction, low.end_above) == (1.0, 20.0)
    assert (high.baseline_above, high.rise) == (20.0, 30.0)
    assert improvements["HI-N"].baseline_below == 1.0
    assert criteria.response("CR").haemoglobin_at_least == 11.0
    assert load_response_criteria("iwg_2003_aml").response("CR").marrow_blasts_below == 5.0


GOOD = """
kind = "rule"
recovered = { neutrophils = 0.5, platelets = 20 }
by_day = 42
source = "protocol"
status = "read"
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.5", "500", "recovered > neutrophils: neutrophils threshold: 500 x 10^9/L cannot be "),
        ("platelets = 20", "platelets = 20000", "write 20"),
        ("0.5", "-0.5", "a positive number of 10^9/L"),
        ("0.5", "nan", "nan is out of range"),
        ("neutrophils", "anc", "recovered > anc: unknown key"),
        ("{ neutrophils = 0.5, platelets = 20 }", "{}", "no count is given"),
        ("by_day = 42", "by_day = 0", "by_day: 0 is out of range"),
        ("by_day = 42", "", "by_day: the key is missing; allowed: a whole number at least 1"),
        (
            "by_day",
            "byday",
            "'byday' here?); allowed: a whole number at least 1; rename it to by_day",
        ),
        ('status = "read"', 'status = "sure"', "allowed: read, transcribed, derived, assumed"),
        ('"rule"', '"grades"', "the card holds grades of toxicity, not a rule"),
        ("by_day = 42", 'by_day = 42\nevent = "never"', 'event: "never" is not allowed'),
        ("by_day = 42", 'by_day = 42\nevent = "low_count_duration"', "low: the key is missing"),
        ("by_day = 42", "by_day = 42\nlow = 1", "low: unknown key"),
        (
            'status = "read"',
            'status = { recovered = "read" }',
            "status > by_day: the key is missing",
        ),
    ],
)
def test_bad_rule_files(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(CardError) as error:
        load_rule(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


def test_a_rule_of_the_users_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    rule = load_rule(Path(path))
    assert (rule.name, rule.by_day, rule.status, rule.kind) == ("mine", 42, "read", "not_recovered")


def test_bad_grades(tmp_path):
    path = tmp_path / "mine.toml"
    scale = '[[scale]]\nline = "neutrophils"\nsource = "a"\nstatus = "read"\nbelow = {}\n'
    for below, message in (
        ("[2.0, 1.5, 1.0]", "3 items where 4 are expected"),
        ("[2.0, 1.0, 1.5, 0.5]", "four limits that decrease"),
    ):
        path.write_text('kind = "grades"\ntitle = "mine"\n' + scale.format(below))
        with pytest.raises(CardError, match=message):
            load_grades(path)
