"""Patients of design files: days that contradict, misspelt keys, patients who cannot be judged."""

import pytest

from pkpd.cards.every_problem import every_problem
from pkpd.designs import load_design
from pkpd.designs.command import design_lines
from pkpd.errors import PkpdError

HEAD = """
kind = "design"
doses = ["5 mg", "10 mg"]
[design]
name = "TITE-BOIN"
target = 0.25
[window]
days = 42
"""


@pytest.fixture
def with_patients(tmp_path):
    def made(*rows, head=HEAD):
        path = tmp_path / "d.toml"
        path.write_text(head + "".join(f'[[patient]]\ndose = "5 mg"\n{row}\n' for row in rows))
        return path

    return made


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            "dlt = true\ndlt_day = 90",
            "dlt_day: day 90 is after the window of 42 days; allowed: 0 to 42; .* no DLT: write",
        ),
        (
            "dlt = true\ndlt_day = 20\nfollowed_days = 10",
            "followed_days: the patient was followed for 10 days and had the DLT on day 20",
        ),
        ("wieght = 0.5", "wieght: unknown key .did you mean 'weight'"),
        ("dlt = true\nevaluable = false", "evaluable: the patient has a DLT and is judged by it"),
    ],
)
def test_a_patient_that_cannot_be_is_refused(with_patients, row, words):
    with pytest.raises(PkpdError, match=words):
        load_design(with_patients(row))


@pytest.mark.parametrize("design", ["BOIN", "CRM"])
def test_a_late_dlt_is_refused_by_every_design(with_patients, design):
    more = "skeleton = [0.1, 0.3]\n" if design == "CRM" else ""
    head = HEAD.replace('"TITE-BOIN"\n', f'"{design}"\n{more}')
    with pytest.raises(PkpdError, match="after the window of 42 days"):
        load_design(with_patients("dlt = true\ndlt_day = 90", head=head))
    assert load_design(with_patients("dlt = true\ndlt_day = 42", head=head)).data().dlts == (1, 0)


def test_all_problems_are_told_at_once(with_patients):
    path = with_patients("wieght = 0.5", "dlt = true\ndlt_day = 90", "followed_day = 3")
    found = every_problem(path, load_design)
    assert [text.split(": ")[1].split(" > ")[-1] for text in found] == [
        "wieght",
        "dlt_day",
        "followed_day",
    ]


def test_patients_who_cannot_be_judged_are_left_out_and_told(with_patients):
    rows = ("followed_days = 42", "followed_days = 42", "followed_days = 20")
    plain = load_design(with_patients(*rows))
    path = with_patients(*rows, "evaluable = false", 'evaluable = false\nnote = "died"')
    file = load_design(path)
    assert file.data() == plain.data()
    assert file.not_judged == (1, 1)
    lines = list(design_lines(path))
    assert "Left out: 2 patients who cannot be judged (5 mg 2)." in lines
    only = load_design(with_patients("evaluable = false"))
    assert only.data().treated == (0, 0)


def test_an_unjudged_dlt_day_is_not_asked_for_by_adaptive_weights(with_patients):
    head = HEAD + 'weight = "adaptive"\n'
    rows = ("evaluable = false", "dlt = true\ndlt_day = 5")
    assert load_design(with_patients(*rows, head=head)).data().treated == (1, 0)
